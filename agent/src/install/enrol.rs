//! Shows the token to the runner, which passes it on to the hub, and gets a certificate.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use identity::{IdentityError, Role};
use protocol::enrol::{AgentEnrolment, EnrolledAgent, Problem, Token};

use super::Wishes;
use crate::names::{self, NameError};

#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// In the hub's own words.
    #[error("enrolment was refused: {0}")]
    Refused(Problem),
    #[error(
        "{host} port {port} does not belong to the console that issued this token: its certificate has another \
         authority; check the runner's address, copy the token anew, and make sure that nothing in between \
         inspects TLS"
    )]
    OtherAuthority { host: String, port: u16 },
    #[error("cannot enrol at {host}, TCP port {port}")]
    Http {
        host: String,
        port: u16,
        #[source]
        source: reqwest::Error,
    },
    #[error("{host} port {port} answered {status}, which no runner does; check address and port")]
    NotARunner {
        host: String,
        port: u16,
        status: reqwest::StatusCode,
    },
}

/// The hub may have to wait for its database, and the runner for the hub.
const TIME_LIMIT: Duration = Duration::from_mins(1);

pub async fn enrol(
    wishes: &Wishes,
    token: &Token,
    enrolment: &AgentEnrolment,
) -> Result<EnrolledAgent, EnrolError> {
    let (host, port) = (&wishes.runner_host, wishes.enrol_port);
    let failed = |source: reqwest::Error| {
        if is_other_authority(&source) {
            EnrolError::OtherAuthority {
                host: host.clone(),
                port,
            }
        } else {
            EnrolError::Http {
                host: host.clone(),
                port,
                source,
            }
        }
    };
    let addresses: Vec<SocketAddr> = names::addresses(host, port).await?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(identity::tls::enrolling_client(token.ca_sha256)?)
        .resolve_to_addrs(Role::RUNNER_NAME, &addresses)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIME_LIMIT)
        .build()
        .map_err(failed)?;
    let answer = client
        .post(format!("https://{}:{port}/v1/enrol", Role::RUNNER_NAME))
        .json(enrolment)
        .send()
        .await
        .map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        return answer.json().await.map_err(failed);
    }
    match answer.json::<Problem>().await {
        Ok(problem) => Err(EnrolError::Refused(problem)),
        Err(_) => Err(EnrolError::NotARunner {
            host: host.clone(),
            port,
            status,
        }),
    }
}

/// Whether TLS refused the server's certificate, anywhere down the chain of causes.
fn is_other_authority(error: &(dyn Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    // An io::Error made of another error does not name it as its source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| is_other_authority(inner)) || error.source().is_some_and(is_other_authority)
}
