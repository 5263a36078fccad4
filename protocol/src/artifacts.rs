//! What a runner hands the hub of a conversion, before it reports that the conversion is over:
//! `PUT /v1/conversions/{job}/{server}/{artifact}`. The same artifact may come again.

use domain::{
    changes::ChangeList,
    ids::{JobId, SourceServerId},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Artifact {
    /// A [`SignedChangeList`] in JSON.
    ChangeList,
    /// What a rehearsal's machine wrote to its serial port.
    Console,
    /// What its screen showed in the end, as PNG.
    Screenshot,
}

impl Artifact {
    pub const ALL: [Self; 3] = [Self::ChangeList, Self::Console, Self::Screenshot];

    pub fn name(self) -> &'static str {
        match self {
            Self::ChangeList => "change-list",
            Self::Console => "console",
            Self::Screenshot => "screenshot",
        }
    }

    /// In bytes; the hub takes no more.
    pub fn len_max(self) -> usize {
        match self {
            Self::ChangeList => 64 << 20,
            Self::Console => 8 << 20,
            Self::Screenshot => 16 << 20,
        }
    }

    pub fn path(self, job: &JobId, server: &SourceServerId) -> String {
        format!("/v1/conversions/{job}/{server}/{}", self.name())
    }
}

/// A change list as a runner vouches for it.
///
/// What is signed are the bytes of the JSON, so that an auditor needs no program of ours to check them:
///
/// ```text
/// openssl x509 -in certificate.pem -pubkey -noout > key.pem
/// openssl dgst -sha256 -verify key.pem -signature changes.json.sig changes.json
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedChangeList {
    /// A [`ChangeList`] in JSON, byte by byte as it was signed.
    pub json: String,
    pub signature: Vec<u8>,
    pub certificate_pem: String,
}

impl SignedChangeList {
    /// What was signed, if the signature is good: see `identity::signature`.
    pub fn list(&self) -> Result<ChangeList, serde_json::Error> {
        serde_json::from_str(&self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_asked_for_by_its_name() {
        let (job, server) = (JobId::from_entropy(1), SourceServerId::from_entropy(2));
        for artifact in Artifact::ALL {
            assert_eq!(serde_json::to_value(artifact).unwrap(), artifact.name());
            let path = artifact.path(&job, &server);
            assert_eq!(
                path,
                format!("/v1/conversions/{job}/{server}/{}", artifact.name())
            );
        }
    }
}
