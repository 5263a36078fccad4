//! A change list signed with the runner's key, and the files that an auditor is given.

use std::path::Path;

use domain::changes::ChangeList;
use identity::{Credentials, IdentityError};
use protocol::artifacts::SignedChangeList;

use crate::files::{self, FileError};

pub fn sign(list: &ChangeList, credentials: &Credentials) -> Result<SignedChangeList, IdentityError> {
    let json = serde_json::to_string_pretty(list).expect("a change list has no maps");
    Ok(SignedChangeList {
        signature: credentials.sign(json.as_bytes())?,
        certificate_pem: credentials.certificate_pem().to_owned(),
        json,
    })
}

/// Writes JSON, its signature, the certificate, and the same as text.
pub fn save(signed: &SignedChangeList, list: &ChangeList, folder: &Path) -> Result<(), FileError> {
    files::replace(&folder.join("changes.json"), signed.json.as_bytes())?;
    files::replace(&folder.join("changes.json.sig"), &signed.signature)?;
    files::replace(&folder.join("certificate.pem"), signed.certificate_pem.as_bytes())?;
    files::replace(&folder.join("changes.txt"), list.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use domain::{
        changes::{Change, State, What},
        checkpoint::CheckpointNumber,
        ids::RunnerId,
    };
    use identity::{Authority, NewKey, Role, signature};

    use super::*;

    fn signer(signed: &SignedChangeList, authority: &Authority) -> Result<RunnerId, IdentityError> {
        let SignedChangeList {
            json,
            signature,
            certificate_pem,
        } = signed;
        signature::signing_runner(
            json.as_bytes(),
            signature,
            certificate_pem,
            authority.certificate_pem(),
        )
    }

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
        let signed = sign(&list(), &credentials(&authority, &Role::Runner(runner.clone()))).unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        let read: SignedChangeList = serde_json::from_str(&text).unwrap();
        assert_eq!(signer(&read, &authority).unwrap(), runner);
        assert_eq!(read.list().unwrap(), list());

        let altered: SignedChangeList =
            serde_json::from_str(&text.replace("/etc/fstab", "/etc/fstat")).unwrap();
        assert!(signer(&altered, &authority).is_err());
    }

    #[test]
    fn an_auditor_checks_it_with_openssl() {
        let authority = Authority::generate("hub").unwrap();
        let role = Role::Runner(RunnerId::from_entropy(1));
        let signed = sign(&list(), &credentials(&authority, &role)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save(&signed, &list(), folder.path()).unwrap();
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
