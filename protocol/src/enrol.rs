//! Enrolment: a machine makes a key, shows a one-time token, and gets a certificate for the key.
//!
//! Agents ask their runner (`POST /v1/enrol`, HTTPS 443), which passes the request on to the hub;
//! runners ask the hub (`POST /v1/runners`). A token travels with the fingerprint of the hub's
//! certificate authority, so that the machine knows whom to trust before it has a certificate:
//!
//! ```text
//! olt1.<43 characters of secret, base64url>.<64 hexadecimal digits: SHA-256 of the CA certificate, DER>
//! ```

use std::collections::BTreeMap;

use domain::{
    ids::{AccountId, RunnerId, SourceServerId},
    source_server::SourceProperties,
};
use serde::{Deserialize, Serialize};

/// An agent's request. The runner passes it on as it is; its own certificate tells the hub who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEnrolment {
    /// The secret part of the token only.
    pub token_secret: String,
    pub csr_pem: String,
    pub properties: SourceProperties,
    pub user_provided_id: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// `false` for `--no-replication`: the server is known, and stays stopped until started.
    pub replicate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledAgent {
    pub server: SourceServerId,
    pub certificate_pem: String,
    pub ca_pem: String,
    /// Source servers of the account that are not yet cut over or disconnected, this one included.
    pub active_servers: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerEnrolment {
    pub token_secret: String,
    pub csr_pem: String,
    pub runner_version: String,
    /// Where agents reach this runner: an address, and the ports for data and enrolment.
    pub address: String,
    pub data_port: u16,
    pub enrol_port: u16,
}

/// `POST /v1/runners/identity`: the same without a token, by a call to AWS that the runner's credentials signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityEnrolment {
    /// The host of STS that the call was signed for, and its headers.
    pub host: String,
    pub headers: BTreeMap<String, String>,
    #[serde(flatten)]
    pub applicant: Applicant,
}

/// What a runner says of itself, whatever it proves itself by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applicant {
    pub csr_pem: String,
    pub runner_version: String,
    pub address: String,
    pub data_port: u16,
    pub enrol_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledRunner {
    pub runner: RunnerId,
    pub account: AccountId,
    pub region: String,
    pub certificate_pem: String,
    pub ca_pem: String,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// A word for programs, `token_expired`.
    pub code: String,
    /// A sentence for people that says what to do.
    pub message: String,
}

/// A one-time token as people copy it. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub secret: String,
    pub ca_sha256: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment token: it should read olt1.…; copy it whole from the console")]
pub struct InvalidToken;

const TOKEN_PREFIX: &str = "olt1";
const SECRET_LEN: usize = 43; // 32 bytes in base64url

impl std::str::FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.trim().split('.');
        let (Some(TOKEN_PREFIX), Some(secret), Some(ca), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidToken);
        };
        let base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if secret.len() != SECRET_LEN || !secret.bytes().all(base64url) {
            return Err(InvalidToken);
        }
        let ca: domain::digest::Digest = ca.parse().map_err(|_| InvalidToken)?;
        Ok(Self {
            secret: secret.to_owned(),
            ca_sha256: ca.0,
        })
    }
}

impl Token {
    /// The whole token, for the person who will paste it.
    pub fn reveal(&self) -> String {
        format!(
            "{TOKEN_PREFIX}.{}.{}",
            self.secret,
            domain::digest::Digest(self.ca_sha256)
        )
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_hides_its_secret() {
        let token = Token {
            secret: "s".repeat(43),
            ca_sha256: [0xca; 32],
        };
        let text = token.reveal();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains("sss"));
        for bad in [
            "",
            "olt1",
            &text[..text.len() - 1],
            &text.replace("olt1", "olt2"),
            &format!("{text}.x"),
        ] {
            assert_eq!(bad.parse::<Token>(), Err(InvalidToken), "{bad}");
        }
    }
}
