//! The hub's certificate authority, made when the hub first starts, and kept in `<dir>/ca`.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use identity::{Authority, Credentials, IdentityError, NewKey, Role};

use crate::seal::Seal;

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";

#[derive(Debug)]
pub struct Pki {
    pub authority: Authority,
    /// The hub's own certificate. Made anew at each start, so that it never runs out.
    pub credentials: Credentials,
    /// For what the database keeps and nobody reads there.
    pub seal: Seal,
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {verb} {path}")]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Pki {
    /// Loads the authority from `folder`, or makes one there.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        let authority = match load(folder)? {
            Some(authority) => authority,
            None => generate(folder)?,
        };
        let key = NewKey::generate()?;
        let signed = authority.sign(&key.csr_pem()?, &Role::Hub)?;
        let credentials = key.certified(signed.certificate_pem, authority.certificate_pem().to_owned());
        Ok(Self {
            seal: Seal::from_key(authority.key_pem().as_bytes()),
            authority,
            credentials,
        })
    }

    /// SHA-256 of the authority's certificate, which every token carries.
    pub fn ca_sha256(&self) -> Result<[u8; 32], IdentityError> {
        identity::credentials::fingerprint(self.authority.certificate_pem())
    }
}

fn load(folder: &Path) -> Result<Option<Authority>, PkiError> {
    let read = |name| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|source| PkiError::File {
            verb: "read",
            path,
            source,
        })
    };
    // Written last: the key is there if it is.
    if !folder.join(CERTIFICATE_FILE).exists() {
        return Ok(None);
    }
    Ok(Some(Authority::from_pem(
        read(CERTIFICATE_FILE)?,
        &read(KEY_FILE)?,
    )?))
}

fn generate(folder: &Path) -> Result<Authority, PkiError> {
    let authority = Authority::generate("Orglift hub")?;
    let file = |verb, path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::File { verb, path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(file("create", folder))?;
    let parts = [
        (KEY_FILE, authority.key_pem()),
        (CERTIFICATE_FILE, authority.certificate_pem().to_owned()),
    ];
    for (name, text) in parts {
        let (path, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut draft| {
                draft.write_all(text.as_bytes())?;
                draft.sync_all()
            })
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(file("write", &path))?;
    }
    fs::File::open(folder)
        .and_then(|dir| dir.sync_all())
        .map_err(file("write", folder))?;
    Ok(authority)
}
