//! A change list as a runner vouches for it.
//!
//! What is signed are the bytes of the JSON, so that an auditor needs no program of ours to check them:
//!
//! ```text
//! openssl x509 -in certificate.pem -pubkey -noout > key.pem
//! openssl dgst -sha256 -verify key.pem -signature changes.json.sig changes.json
//! ```

use std::path::Path;

use domain::ids::RunnerId;
use identity::{Credentials, IdentityError, Role, signature};
use serde::{Deserialize, Serialize};

use super::ChangeList;
use crate::files::{self, FileError};

#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error("cannot trust the change list")]
    Identity(#[from] IdentityError),
    #[error("the change list is signed, but not by a runner")]
    NotARunner,
    #[error("cannot read the change list")]
    Form(#[from] serde_json::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedChangeList {
    /// A [`ChangeList`] in JSON, byte by byte as it was signed.
    json: String,
    signature: Vec<u8>,
    certificate_pem: String,
}

impl SignedChangeList {
    pub fn new(list: &ChangeList, credentials: &Credentials) -> Result<Self, SignedError> {
        let json = serde_json::to_string_pretty(list)?;
        Ok(Self {
            signature: credentials.sign(json.as_bytes())?,
            certificate_pem: credentials.certificate_pem().to_owned(),
            json,
        })
    }

    /// The list and who made it; an error if anything of it was altered.
    pub fn verify(&self, ca_pem: &str) -> Result<(ChangeList, RunnerId), SignedError> {
        let (json, certificate) = (self.json.as_bytes(), &self.certificate_pem);
        let Role::Runner(runner) = signature::signer(json, &self.signature, certificate, ca_pem)?.role else {
            return Err(SignedError::NotARunner);
        };
        Ok((serde_json::from_slice(json)?, runner))
    }

    /// Writes what an auditor is given: JSON, its signature, the certificate, and the same as text.
    pub fn save(&self, list: &ChangeList, folder: &Path) -> Result<(), FileError> {
        files::replace(&folder.join("changes.json"), self.json.as_bytes())?;
        files::replace(&folder.join("changes.json.sig"), &self.signature)?;
        files::replace(&folder.join("certificate.pem"), self.certificate_pem.as_bytes())?;
        files::replace(&folder.join("changes.txt"), list.text().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use domain::checkpoint::CheckpointNumber;
    use identity::{Authority, NewKey};

    use super::*;
    use crate::convert::changes::{Change, State, What};

    fn credentials(authority: &Authority, role: &Role) -> Credentials {
        let key = NewKey::generate().unwrap();
        let signed = authority.sign(&key.csr_pem().unwrap(), role).unwrap();
        key.certified(signed.certificate_pem, authority.certificate_pem().to_owned())
    }

    fn list() -> ChangeList {
        let mut list = ChangeList::new("s-00000000000000001".parse().unwrap(), CheckpointNumber(7));
        list.changes.push(Change {
            path: "/etc/fstab".into(),
            step: "fstab".into(),
            why: "names change".into(),
            what: What::Changed {
                before: State::of(b"old"),
                after: State::of(b"new"),
            },
            diff: None,
        });
        list
    }

    #[test]
    fn a_list_that_was_altered_is_refused() {
        let authority = Authority::generate("hub").unwrap();
        let runner = RunnerId::from_entropy(1);
        let signed =
            SignedChangeList::new(&list(), &credentials(&authority, &Role::Runner(runner.clone()))).unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        let read: SignedChangeList = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read.verify(authority.certificate_pem()).unwrap(),
            (list(), runner)
        );

        let altered: SignedChangeList =
            serde_json::from_str(&text.replace("/etc/fstab", "/etc/fstat")).unwrap();
        assert!(matches!(
            altered.verify(authority.certificate_pem()),
            Err(SignedError::Identity(_))
        ));
    }

    #[test]
    fn only_runners_sign() {
        let authority = Authority::generate("hub").unwrap();
        let agent = Role::Agent("s-00000000000000001".parse().unwrap());
        let signed = SignedChangeList::new(&list(), &credentials(&authority, &agent)).unwrap();
        assert!(matches!(
            signed.verify(authority.certificate_pem()),
            Err(SignedError::NotARunner)
        ));
    }

    #[test]
    fn an_auditor_checks_it_with_openssl() {
        let authority = Authority::generate("hub").unwrap();
        let role = Role::Runner(RunnerId::from_entropy(1));
        let signed = SignedChangeList::new(&list(), &credentials(&authority, &role)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        signed.save(&list(), folder.path()).unwrap();
        let script = "openssl x509 -in certificate.pem -pubkey -noout > key.pem && \
                      openssl dgst -sha256 -verify key.pem -signature changes.json.sig changes.json";
        let checks = || {
            let shell = Command::new("sh")
                .args(["-c", script])
                .current_dir(&folder)
                .output();
            shell.unwrap().status
        };
        if checks().code() == Some(127) {
            assert!(std::env::var_os("CI").is_none(), "openssl is missing");
            eprintln!("cannot run here: a signature checked with openssl, which is missing");
            return;
        }
        assert!(checks().success());
        let json = folder.path().join("changes.json");
        let altered = std::fs::read_to_string(&json)
            .unwrap()
            .replace("/etc/fstab", "/etc/fstat");
        std::fs::write(&json, altered).unwrap();
        assert!(!checks().success());
    }
}
