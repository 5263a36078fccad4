//! Looks at whom one meets without trusting anybody: for a diagnosis, over which nothing is sent that matters.
//!
//! A handshake that refuses a stranger cannot say who the stranger is. Here it is finished with anyone, and the
//! certificates are judged afterwards.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{IdentityError, Peer, Role, credentials::sha256, tls::PinnedAuthority};

/// The longest name of a certificate that is told, in characters.
const NAME_CHARS_MAX: usize = 200;

/// A client that finishes a handshake with anyone who holds the key of the certificate shown.
pub fn client() -> Result<ClientConfig, IdentityError> {
    let provider = provider();
    Ok(ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth())
}

/// What a chain says of whoever showed it. The names are a stranger's: cut, and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub subject: String,
    pub issuer: String,
    /// What the leaf claims to be. Nobody may have vouched for it.
    pub role: Option<Role>,
    /// SHA-256 of the last certificate of the chain, as tokens carry it of the authority.
    pub authority_sha256: [u8; 32],
}

impl Shown {
    /// `None` if the chain is empty or no X.509.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, last) = (chain.first()?, chain.last()?);
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        Some(Self {
            subject: told(&parsed.subject().to_string()),
            issuer: told(&parsed.issuer().to_string()),
            role: Peer::from_certificate(leaf).ok().map(|peer| peer.role),
            authority_sha256: sha256(last),
        })
    }
}

/// Whether a handshake that trusts the authority with this fingerprint would have accepted the chain for `name`.
pub fn judge(chain: &[CertificateDer<'_>], ca_sha256: [u8; 32], name: &str) -> Result<(), rustls::Error> {
    let (leaf, others) = chain
        .split_first()
        .ok_or(rustls::Error::NoCertificatesPresented)?;
    let name =
        ServerName::try_from(name).map_err(|_| rustls::Error::General("this is no name of a host".into()))?;
    let authority = PinnedAuthority {
        ca_sha256,
        provider: provider(),
    };
    authority
        .verify_server_cert(leaf, others, &name, &[], UnixTime::now())
        .map(|_| ())
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .expect("install_crypto_provider was called")
        .clone()
}

fn told(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS_MAX)
        .collect()
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(
            rustls::PeerIncompatible::Tls12NotOfferedOrEnabled,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{RunnerId, SourceServerId};
    use rustls::CertificateError;

    use super::*;
    use crate::{Authority, Credentials, NewKey, credentials::fingerprint, install_crypto_provider};

    fn machine(authority: &Authority, role: &Role) -> Credentials {
        let key = NewKey::generate().unwrap();
        let signed = authority.sign(&key.csr_pem().unwrap(), role).unwrap();
        key.certified(signed.certificate_pem, authority.certificate_pem().to_owned())
    }

    fn chain(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
        vec![credentials.leaf().unwrap(), credentials.authority().unwrap()]
    }

    #[test]
    fn a_chain_is_judged_as_a_handshake_would() {
        install_crypto_provider();
        let (ours, theirs) = (
            Authority::generate("our console").unwrap(),
            Authority::generate("a proxy").unwrap(),
        );
        let trusted = fingerprint(ours.certificate_pem()).unwrap();
        let judge = |chain: &[CertificateDer<'_>]| super::judge(chain, trusted, Role::RUNNER_NAME);
        let role = Role::Runner(RunnerId::from_entropy(8));
        let runner = chain(&machine(&ours, &role));
        judge(&runner).unwrap();
        let shown = Shown::of(&runner).unwrap();
        assert_eq!(shown.role.as_ref(), Some(&role));
        assert_eq!(shown.authority_sha256, trusted);

        let proxy = chain(&machine(&theirs, &role));
        assert!(Shown::of(&proxy).unwrap().issuer.contains("a proxy"));
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(judge(&proxy), Err(unknown));
        // Our authority, sent along by somebody whom it has not signed, changes nothing.
        let lying = [proxy[0].clone(), runner[1].clone()];
        assert!(judge(&lying).is_err());
        let agent = chain(&machine(&ours, &Role::Agent(SourceServerId::from_entropy(7))));
        assert!(matches!(
            judge(&agent),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForNameContext { .. }
            ))
        ));
        assert!(judge(&[]).is_err());
        assert_eq!(Shown::of(&[CertificateDer::from(vec![1, 2, 3])]), None);
    }

    #[test]
    fn names_of_a_stranger_are_cut_and_cleaned() {
        install_crypto_provider();
        let name = format!("\u{1b}[2J{}", "x".repeat(NAME_CHARS_MAX));
        let authority = Authority::generate(&name).unwrap();
        let runner = machine(&authority, &Role::Runner(RunnerId::from_entropy(8)));
        let issuer = Shown::of(&chain(&runner)).unwrap().issuer;
        assert!(
            !issuer.contains('\u{1b}') && issuer.chars().count() == NAME_CHARS_MAX,
            "{issuer}"
        );
    }
}
