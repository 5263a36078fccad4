//! A machine's key and certificate, and the folder that keeps them.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{IdentityError, Peer};

const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const AUTHORITY_FILE: &str = "ca.pem";

/// A key made on this machine that no authority has signed yet.
pub struct NewKey(KeyPair);

impl NewKey {
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// The certificate signing request to send with a token.
    pub fn csr_pem(&self) -> Result<String, IdentityError> {
        Ok(CertificateParams::default().serialize_request(&self.0)?.pem()?)
    }

    pub fn certified(self, certificate_pem: String, ca_pem: String) -> Credentials {
        Credentials {
            key: self.0.serialize_pem(),
            certificate: certificate_pem,
            authority: ca_pem,
        }
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(hidden)")
    }
}

/// All of it in PEM.
#[derive(Clone)]
pub struct Credentials {
    key: String,
    certificate: String,
    authority: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads what [`Credentials::save`] wrote; `None` if this machine was never enrolled.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let read = |name| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| IdentityError::File {
                verb: "read",
                path,
                source,
            })
        };
        // Written last, so the other files are there if this one is.
        if !folder.join(CERTIFICATE_FILE).exists() {
            return Ok(None);
        }
        Ok(Some(Self {
            key: read(KEY_FILE)?,
            certificate: read(CERTIFICATE_FILE)?,
            authority: read(AUTHORITY_FILE)?,
        }))
    }

    /// Keeps the credentials in `folder`, readable by this user only.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        let wrap = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { verb, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(wrap("create", folder))?;
        let files = [
            (KEY_FILE, &self.key),
            (AUTHORITY_FILE, &self.authority),
            (CERTIFICATE_FILE, &self.certificate),
        ];
        for (name, text) in files {
            let (path, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)
                .map_err(wrap("create", &draft))?;
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(wrap("write", &draft))?;
            fs::rename(&draft, &path).map_err(wrap("write", &path))?;
        }
        fs::File::open(folder)
            .and_then(|dir| dir.sync_all())
            .map_err(wrap("write", folder))
    }

    /// What the certificate says of us.
    pub fn own(&self) -> Result<Peer, IdentityError> {
        Peer::from_certificate(&self.leaf()?)
    }

    pub fn ca_pem(&self) -> &str {
        &self.authority
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key
    }

    pub(crate) fn leaf(&self) -> Result<CertificateDer<'static>, IdentityError> {
        certificate(&self.certificate)
    }

    pub(crate) fn authority(&self) -> Result<CertificateDer<'static>, IdentityError> {
        certificate(&self.authority)
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|_| IdentityError::Parse("its key is damaged"))
    }
}

pub(crate) fn certificate(pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::Parse("it is not PEM"))
}

/// SHA-256 of the certificate in `pem`, which tokens carry to say whom to trust.
pub fn fingerprint(pem: &str) -> Result<[u8; 32], IdentityError> {
    Ok(sha256(&certificate(pem)?))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
