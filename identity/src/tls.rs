//! TLS settings. TLS 1.3 only; the hub's authority is the only root.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Credentials, IdentityError, credentials::sha256};

/// A client that shows its certificate and trusts the authority of its own.
pub fn client(credentials: &Credentials) -> Result<ClientConfig, IdentityError> {
    Ok(ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots(credentials.authority()?)?)
        .with_client_auth_cert(vec![credentials.leaf()?], credentials.key()?)?)
}

/// A client that has no certificate yet and knows its authority by a token's fingerprint only.
pub fn enrolling_client(ca_sha256: [u8; 32]) -> Result<ClientConfig, IdentityError> {
    let provider = CryptoProvider::get_default()
        .expect("install_crypto_provider was called")
        .clone();
    Ok(ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority { ca_sha256, provider }))
        .with_no_client_auth())
}

/// A server whose clients must show a certificate.
pub fn server_for_machines(credentials: &Credentials) -> Result<ServerConfig, IdentityError> {
    let verifier = client_verifier(credentials, false)?;
    server(credentials, verifier)
}

/// A server whose clients may show a certificate: those who enrol have none.
pub fn server_for_enrolment(credentials: &Credentials) -> Result<ServerConfig, IdentityError> {
    let verifier = client_verifier(credentials, true)?;
    server(credentials, verifier)
}

fn server(
    credentials: &Credentials,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, IdentityError> {
    // The authority is sent along for clients that know it by its fingerprint only.
    let chain = vec![credentials.leaf()?, credentials.authority()?];
    Ok(ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, credentials.key()?)?)
}

fn client_verifier(
    credentials: &Credentials,
    anonymous: bool,
) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
    let builder = WebPkiClientVerifier::builder(Arc::new(roots(credentials.authority()?)?));
    Ok(if anonymous {
        builder.allow_unauthenticated()
    } else {
        builder
    }
    .build()?)
}

fn roots(authority: CertificateDer<'static>) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    Ok(roots)
}

/// Accepts a chain whose root has the expected fingerprint, and then checks it as usual.
#[derive(Debug)]
pub(crate) struct PinnedAuthority {
    pub(crate) ca_sha256: [u8; 32],
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let authority = intermediates
            .iter()
            .find(|certificate| sha256(certificate) == self.ca_sha256)
            .ok_or_else(unknown)?;
        let roots = roots(authority.clone().into_owned()).map_err(|_| unknown())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
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
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::{Authority, NewKey, Peer, Role, credentials::fingerprint, install_crypto_provider};

    fn machine(authority: &Authority, role: &Role) -> Credentials {
        let key = NewKey::generate().unwrap();
        let signed = authority.sign(&key.csr_pem().unwrap(), role).unwrap();
        key.certified(signed.certificate_pem, authority.certificate_pem().to_owned())
    }

    /// Connects and returns how the server sees the client, or the first error of either side.
    async fn meet(client: ClientConfig, server: ServerConfig) -> Result<Option<Peer>, std::io::Error> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from(Role::RUNNER_NAME).unwrap();
        let connect = TlsConnector::from(Arc::new(client)).connect(name, near);
        let accept = TlsAcceptor::from(Arc::new(server)).accept(far);
        let (_near, far) = tokio::try_join!(connect, accept)?;
        let certificates = far.get_ref().1.peer_certificates();
        Ok(certificates.map(|chain| Peer::from_certificate(&chain[0]).unwrap()))
    }

    #[tokio::test]
    async fn a_runner_and_an_agent_of_one_authority_know_each_other() {
        install_crypto_provider();
        let authority = Authority::generate("test").unwrap();
        let agent = Role::Agent(domain::ids::SourceServerId::from_entropy(7));
        let runner = Role::Runner(domain::ids::RunnerId::from_entropy(8));
        let (agent_credentials, runner_credentials) =
            (machine(&authority, &agent), machine(&authority, &runner));
        let seen = meet(
            super::client(&agent_credentials).unwrap(),
            server_for_machines(&runner_credentials).unwrap(),
        )
        .await
        .unwrap()
        .unwrap();
        assert_eq!(seen.role, agent);
        assert_eq!(seen, agent_credentials.own().unwrap());
    }

    #[tokio::test]
    async fn strangers_are_refused() {
        install_crypto_provider();
        let (ours, theirs) = (
            Authority::generate("ours").unwrap(),
            Authority::generate("theirs").unwrap(),
        );
        let runner = machine(&ours, &Role::Runner(domain::ids::RunnerId::from_entropy(8)));
        let stranger = machine(
            &theirs,
            &Role::Agent(domain::ids::SourceServerId::from_entropy(7)),
        );
        let server = || server_for_machines(&runner).unwrap();
        assert!(meet(super::client(&stranger).unwrap(), server()).await.is_err());

        // An agent cannot pose as a runner: its certificate lacks the name.
        let agent = machine(&ours, &Role::Agent(domain::ids::SourceServerId::from_entropy(7)));
        let posing = server_for_machines(&agent).unwrap();
        assert!(meet(super::client(&agent).unwrap(), posing).await.is_err());
    }

    #[tokio::test]
    async fn a_token_tells_whom_to_trust() {
        install_crypto_provider();
        let authority = Authority::generate("test").unwrap();
        let runner = machine(&authority, &Role::Runner(domain::ids::RunnerId::from_entropy(8)));
        let server = || server_for_enrolment(&runner).unwrap();
        let right = fingerprint(authority.certificate_pem()).unwrap();
        assert_eq!(
            meet(enrolling_client(right).unwrap(), server()).await.unwrap(),
            None
        );
        assert!(meet(enrolling_client([0; 32]).unwrap(), server()).await.is_err());
    }

    #[test]
    fn credentials_read_back_from_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Credentials::load(folder.path()).unwrap().is_none());
        let authority = Authority::generate("test").unwrap();
        let saved = machine(&authority, &Role::Hub);
        saved.save(folder.path()).unwrap();
        let loaded = Credentials::load(folder.path()).unwrap().unwrap();
        assert_eq!(loaded.own().unwrap(), saved.own().unwrap());
    }
}
