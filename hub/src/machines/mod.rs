//! The machine API: what runners, and through them agents, ask of the hub. TLS 1.3 by the hub's own
//! authority; a client certificate where one has been issued.
//!
//! | request | who | |
//! |---|---|---|
//! | `POST /v1/runners` | anybody with a token | [`enrol`] |
//! | `POST /v1/runners/identity` | anybody with a role | [`identity`] |
//! | `POST /v1/enrol` | a runner, for an agent with a token | [`enrol`] |
//! | `POST /v1/observed` | a runner | [`observed`] |
//! | `POST /v1/released` | a runner | [`released`] |
//! | `POST /v1/copies` | a runner | [`copies`] |
//! | `GET /v1/kept` | a runner | [`kept`] |
//! | `GET /v1/desired?after=N` | a runner | [`desired`], a long poll |
//! | `PUT /v1/conversions/{job}/{server}/{artifact}` | the server's runner | [`artifacts`] |

use std::sync::Arc;

use ::identity::Role;
use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, FromRequestParts, Query, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use domain::ids::RunnerId;
use protocol::{
    enrol::{AgentEnrolment, EnrolledAgent, EnrolledRunner, IdentityEnrolment, Problem, RunnerEnrolment},
    exchange::{CopyAnswer, CopyAsked, Deleted, Desired, Kept, Observed, Released},
};
use serde::Deserialize;

use crate::{Hub, store::StoreError};

pub mod artifacts;
pub mod copies;
pub mod desired;
pub mod enrol;
pub mod identity;
pub mod kept;
pub mod listener;
pub mod observed;
pub mod released;
#[cfg(test)]
mod tests;

pub use listener::{ArrivedAt, Shown};

/// The largest report: a thousand servers of four disks and six checkpoints each.
const OBSERVED_MAX: usize = 32 << 20;
const ENROLMENT_MAX: usize = 256 << 10;

pub fn router(hub: Arc<Hub>) -> Router {
    let enrolment = Router::new()
        .route("/v1/runners", post(enrol_runner))
        .route("/v1/runners/identity", post(enrol_by_identity))
        .route("/v1/enrol", post(enrol_agent))
        .layer(DefaultBodyLimit::max(ENROLMENT_MAX));
    Router::new()
        .route("/v1/observed", post(observed))
        .layer(DefaultBodyLimit::max(OBSERVED_MAX))
        .route("/v1/released", post(released))
        .route("/v1/copies", post(copied))
        .route("/v1/kept", get(kept))
        .route("/v1/desired", get(desired))
        // Each artifact has a limit of its own.
        .route("/v1/conversions/{job}/{server}/{artifact}", put(artifacts::put))
        .merge(enrolment)
        .with_state(hub)
}

/// An answer that is not a success.
#[derive(Debug)]
pub struct Refusal(StatusCode, Problem);

impl Refusal {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let problem = Problem {
            code: code.to_owned(),
            message: message.into(),
        };
        Self(status, problem)
    }

    pub fn problem(&self) -> &Problem {
        &self.1
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a request of a machine failed"
        );
        let message = "the hub could not use its database; it is safe to ask again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

/// The runner that asks: its certificate is ours, says so, and was not revoked.
#[derive(Debug)]
pub struct Runner(pub RunnerId);

impl FromRequestParts<Arc<Hub>> for Runner {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let unauthorized = |code, message: &str| Refusal::new(StatusCode::UNAUTHORIZED, code, message);
        let Some(Shown(Some(peer))) = parts.extensions.get::<Shown>().cloned() else {
            let message = "a runner's certificate is needed; enrol with a token first";
            return Err(unauthorized("certificate_missing", message));
        };
        let Role::Runner(runner) = peer.role else {
            let message = "only runners may ask this; the certificate is another machine's";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "not_a_runner", message));
        };
        match hub.store.certificate(&peer.serial).await? {
            Some(certificate) if certificate.revoked_at.is_none() => Ok(Self(runner)),
            Some(_) => {
                let message = "the runner's certificate was revoked; enrol it anew with a new token";
                Err(unauthorized("certificate_revoked", message))
            }
            None => {
                let message =
                    "this hub does not know the runner's certificate; enrol it anew with a new token";
                Err(unauthorized("certificate_unknown", message))
            }
        }
    }
}

type At = Option<Extension<ArrivedAt>>;

async fn enrol_runner(
    State(hub): State<Arc<Hub>>,
    at: At,
    Json(request): Json<RunnerEnrolment>,
) -> Result<Json<EnrolledRunner>, Refusal> {
    enrol::runner(&hub, at.map(|Extension(at)| at), request)
        .await
        .map(Json)
}

async fn enrol_by_identity(
    State(hub): State<Arc<Hub>>,
    at: At,
    Json(request): Json<IdentityEnrolment>,
) -> Result<Json<EnrolledRunner>, Refusal> {
    identity::runner(&hub, at.map(|Extension(at)| at), request)
        .await
        .map(Json)
}

async fn enrol_agent(
    Runner(runner): Runner,
    State(hub): State<Arc<Hub>>,
    Json(request): Json<AgentEnrolment>,
) -> Result<Json<EnrolledAgent>, Refusal> {
    enrol::agent(&hub, &runner, request).await.map(Json)
}

async fn observed(
    Runner(runner): Runner,
    State(hub): State<Arc<Hub>>,
    at: At,
    Json(report): Json<Observed>,
) -> Result<StatusCode, Refusal> {
    observed::take(&hub, &runner, at.map(|Extension(at)| at), report).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn released(
    Runner(runner): Runner,
    State(hub): State<Arc<Hub>>,
    Json(released): Json<Released>,
) -> Result<Json<Deleted>, Refusal> {
    Ok(Json(released::delete(&hub, &runner, released).await?))
}

async fn copied(
    Runner(runner): Runner,
    State(hub): State<Arc<Hub>>,
    Json(wanted): Json<CopyAsked>,
) -> Result<Json<CopyAnswer>, Refusal> {
    copies::follow(&hub, &runner, wanted).await.map(Json)
}

async fn kept(Runner(runner): Runner, State(hub): State<Arc<Hub>>) -> Result<Json<Kept>, Refusal> {
    Ok(Json(kept::of(&hub, &runner).await?))
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn desired(
    Runner(runner): Runner,
    State(hub): State<Arc<Hub>>,
    Query(After { after }): Query<After>,
) -> Result<Json<Desired>, Refusal> {
    Ok(Json(desired::wait(&hub, &runner, after).await?))
}
