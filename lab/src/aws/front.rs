//! The one address: tells calls apart, lets faults strike them, logs them, and passes them on.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{StatusCode, request::Parts},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    caller::Caller,
    calls::{Call, Calls},
    control,
    ebs::{self, Ebs},
    faults::{Effect, Faults},
    moto::Moto,
    refusal::Refusal,
};

/// All but objects of S3 is read as a whole: for the action that a form names, and because a client that is refused
/// while it still sends would see the end of the connection and not the answer. A block of EBS direct has 512 KiB,
/// user data 16 KiB and a template of CloudFormation 50 KiB.
const READ_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Front {
    pub(super) ebs: Ebs,
    pub(super) moto: Moto,
    pub(super) faults: Faults,
    pub(super) calls: Calls,
}

/// Answers until it is dropped, with all connections.
pub(super) async fn accept(listener: TcpListener, front: Arc<Front>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let front = Arc::clone(&front);
                connections.spawn(async move {
                    let service = service_fn(|request: hyper::Request<Incoming>| front.answer(request.map(Body::new)));
                    // An error is a client that went away, or the fault that it asked for.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Makes hyper end the connection without an answer.
fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Front {
    async fn answer(&self, request: Request) -> io::Result<Response> {
        if request.uri().path().starts_with("/_lab/") {
            return Ok(control::answer(self, request).await);
        }
        let (mut head, body) = request.into_parts();
        let caller = match Caller::of(&mut head) {
            Ok(caller) => caller,
            Err(refusal) => return Ok(refusal.response("sts")),
        };
        let (action, body) = match action(&caller.service, &head, body).await {
            Ok(found) => found,
            Err(refusal) => return Ok(refusal.response(&caller.service)),
        };
        let call = Call {
            account: caller.account,
            region: caller.region,
            service: caller.service,
            action,
        };
        let mut underway = self.calls.begin(call.clone());
        let answer = self.with_faults(&call, Request::from_parts(head, body)).await;
        if let Ok(response) = &answer {
            underway.answered(response.status().as_u16());
        }
        answer
    }

    async fn with_faults(&self, call: &Call, request: Request) -> io::Result<Response> {
        let Some(fault) = self.faults.strike(call) else {
            return Ok(self.serve(call, request, Duration::ZERO).await);
        };
        let refuse = |refusal: Refusal| Ok(refusal.response(&call.service));
        match &fault.effect {
            Effect::HoldBefore => {
                self.faults.lifted(&fault).await;
                Ok(self.serve(call, request, Duration::ZERO).await)
            }
            Effect::HoldAfter => {
                let answer = self.serve(call, request, Duration::ZERO).await;
                self.faults.lifted(&fault).await;
                Ok(answer)
            }
            Effect::Forget => {
                self.serve(call, request, Duration::ZERO).await;
                Err(reset())
            }
            Effect::Reset => Err(reset()),
            Effect::Slow { millis } => {
                tokio::time::sleep(Duration::from_millis(*millis)).await;
                Ok(self.serve(call, request, Duration::ZERO).await)
            }
            Effect::Unseen { millis } => Ok(self.serve(call, request, Duration::from_millis(*millis)).await),
            Effect::Fail => refuse(Refusal::internal()),
            Effect::Throttle => refuse(Refusal::throttled(&call.service)),
            Effect::Deny => refuse(Refusal::denied(&call.service, &call.action)),
            Effect::Reject { code, message } => refuse(Refusal::new(StatusCode::BAD_REQUEST, code, message)),
        }
    }

    /// `unseen` is how long a snapshot stays unknown that this call starts or completes.
    async fn serve(&self, call: &Call, request: Request, unseen: Duration) -> Response {
        let answer = if call.service == "ebs" {
            self.ebs.answer(&self.moto, call, request, unseen).await
        } else {
            self.moto.answer(&call.account, request).await
        };
        answer.unwrap_or_else(|refusal| refusal.response(&call.service))
    }
}

/// The name of what is asked. The older services have it in a form, the newer in a header; where it is in method and
/// path, as with S3, the method stands for it.
async fn action(service: &str, head: &Parts, body: Body) -> Result<(String, Body), Refusal> {
    let of_method = || head.method.to_string();
    if service == "s3" {
        return Ok((of_method(), body));
    }
    let body = read(body).await?;
    let target = head
        .headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    let action = if service == "ebs" {
        ebs::action(&head.method, head.uri.path()).ok_or_else(|| {
            let message = "The requested operation is not recognized by the service.";
            Refusal::new(StatusCode::NOT_FOUND, "UnknownOperationException", message)
        })?
    } else if let Some(target) = target {
        target.rsplit('.').next().unwrap_or(target)
    } else {
        let form = std::str::from_utf8(&body).ok().and_then(action_in);
        form.or_else(|| action_in(head.uri.query()?)).unwrap_or_default()
    };
    let action = if action.is_empty() {
        of_method()
    } else {
        action.to_owned()
    };
    Ok((action, Body::from(body)))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    to_bytes(body, READ_MAX).await.map_err(|_| {
        let message = "The request is too long.";
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    })
}

/// Names of actions are letters and digits, which no encoding changes.
fn action_in(form: &str) -> Option<&str> {
    form.split('&').find_map(|pair| pair.strip_prefix("Action="))
}
