//! Notices by mail, handed to the relay that `[smtp]` of `hub.toml` names.

use std::{io, path::PathBuf};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::AddressError,
    message::{
        Mailbox,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        self,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use super::PATIENCE;
use crate::configuration::{Smtp, SmtpSecurity};

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    #[error("{0}")]
    Address(#[from] AddressError),
    #[error("{0}")]
    Message(#[from] lettre::error::Error),
    #[error("{}", in_words(.0))]
    Relay(#[from] smtp::Error),
}

/// Said of what no person wrote, so that no program answers it (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Hands it over, and waits for the relay's word that it has it. `id` is of this notice: who gets it twice can tell.
pub async fn send(settings: &Smtp, to: &str, id: &str, subject: &str, text: String) -> Result<(), MailError> {
    let from: Mailbox = settings.from.parse()?;
    let id = format!("<{id}@{}>", from.email.domain());
    let message = Message::builder()
        .from(from)
        .to(to.parse()?)
        .message_id(Some(id))
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN)
        .subject(subject)
        .body(text)?;
    relay(settings).await?.send(message).await?;
    Ok(())
}

/// Files are read each time: a password may change while the hub runs.
async fn relay(settings: &Smtp) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
    let tls = match settings.security {
        SmtpSecurity::None => Tls::None,
        SmtpSecurity::Starttls => Tls::Required(tls_parameters(settings).await?),
        SmtpSecurity::Tls => Tls::Wrapper(tls_parameters(settings).await?),
    };
    let mut relay = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
        .port(settings.port())
        .tls(tls)
        .timeout(Some(PATIENCE));
    if let (Some(user), Some(file)) = (&settings.user, &settings.password_file) {
        let password = String::from_utf8_lossy(&read(file).await?).trim().to_owned();
        relay = relay.credentials(Credentials::new(user.clone(), password));
    }
    Ok(relay.build())
}

async fn tls_parameters(settings: &Smtp) -> Result<TlsParameters, MailError> {
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if let Some(file) = &settings.ca_file {
        parameters = parameters.add_root_certificate(Certificate::from_pem(&read(file).await?)?);
    }
    Ok(parameters.build_rustls()?)
}

async fn read(file: &PathBuf) -> Result<Vec<u8>, MailError> {
    let read = tokio::fs::read(file).await;
    read.map_err(|error| MailError::File(file.clone(), error))
}

/// With what it comes from, once: some of its causes are in its own words already.
fn in_words(error: &smtp::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words = format!("{words}: {inner_words}");
        }
        source = inner.source();
    }
    words
}
