//! Who a machine is.
//!
//! Every machine makes its own key and keeps it. The hub's certificate authority signs the key and
//! writes the machine's role into the certificate; there is no other trust between machines, and no
//! system trust store is consulted. All connections are TLS 1.3.
//!
//! - [`Authority`]: the hub's CA.
//! - [`Credentials`]: a machine's key and certificate, and the folder that keeps them.
//! - [`tls`]: rustls settings made of them.
//! - [`examine`]: looking at whom one meets, for a diagnosis.
//! - [`signature`]: documents that a machine signs.
//! - [`Role`], [`Peer`]: what a certificate says of whoever shows it.

pub mod authority;
pub mod credentials;
pub mod examine;
pub mod role;
pub mod signature;
pub mod tls;

pub use authority::Authority;
pub use credentials::{Credentials, NewKey};
pub use role::{Peer, Role};

/// Must be called once, first thing in `main` and in tests, before any TLS setting is made.
pub fn install_crypto_provider() {
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot make or read a key or certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot read a certificate: {0}")]
    Parse(&'static str),
    #[error("cannot trust the signature: {0}")]
    Signature(&'static str),
    #[error("the certificate does not name an Orglift role")]
    NoRole,
    #[error("cannot use these certificates for TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot check certificates against this authority")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("cannot {verb} {path}")]
    File {
        verb: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
}
