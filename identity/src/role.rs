//! What a certificate says of whoever shows it.
//!
//! The identity is a URI in the subject alternative names, `orglift://agent/s-…`. Beside it stands one
//! DNS name per kind of machine, so that a client can ask TLS for "a runner" at any address.

use domain::ids::{RunnerId, SourceServerId};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::IdentityError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Hub,
    Runner(RunnerId),
    Agent(SourceServerId),
}

/// The other end of a connection, as its certificate describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub role: Role,
    /// In lower-case hexadecimal, as lists of revoked certificates have it.
    pub serial: String,
}

impl Role {
    /// The name that a client asks TLS for.
    pub const HUB_NAME: &'static str = "hub.orglift.internal";
    pub const RUNNER_NAME: &'static str = "runner.orglift.internal";
    const AGENT_NAME: &'static str = "agent.orglift.internal";

    pub fn dns_name(&self) -> &'static str {
        match self {
            Self::Hub => Self::HUB_NAME,
            Self::Runner(_) => Self::RUNNER_NAME,
            Self::Agent(_) => Self::AGENT_NAME,
        }
    }

    pub fn uri(&self) -> String {
        match self {
            Self::Hub => "orglift://hub".into(),
            Self::Runner(id) => format!("orglift://runner/{id}"),
            Self::Agent(id) => format!("orglift://agent/{id}"),
        }
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("orglift://")?;
        match rest.split_once('/') {
            None if rest == "hub" => Some(Self::Hub),
            Some(("runner", id)) => Some(Self::Runner(id.parse().ok()?)),
            Some(("agent", id)) => Some(Self::Agent(id.parse().ok()?)),
            _ => None,
        }
    }
}

impl Peer {
    /// Reads the leaf of a chain that TLS has verified.
    pub fn from_certificate(leaf: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|_| IdentityError::Parse("it is not X.509"))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityError::Parse("its subject alternative names are damaged"))?
            .ok_or(IdentityError::NoRole)?;
        let role = names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::URI(uri) => Role::from_uri(uri),
                _ => None,
            })
            .ok_or(IdentityError::NoRole)?;
        let serial = domain::digest::hex(certificate.raw_serial());
        Ok(Self { role, serial })
    }
}
