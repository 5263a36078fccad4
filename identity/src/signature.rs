//! Documents that a machine signs: who wrote them, and that nobody changed them since.
//!
//! The signature is ECDSA over P-256 with SHA-256, in DER, by the key of the machine's certificate. Everybody can
//! check it with `openssl dgst -sha256 -verify`. TLS 1.3 signs with the same key, but never anything that begins
//! as a document does (RFC 8446, section 4.4.3).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use domain::ids::RunnerId;
use rcgen::{KeyPair, SigningKey};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Credentials, IdentityError, Peer, Role, credentials::certificate};

impl Credentials {
    pub fn sign(&self, document: &[u8]) -> Result<Vec<u8>, IdentityError> {
        Ok(KeyPair::from_pem(self.key_pem())?.sign(document)?)
    }
}

/// Who signed the document, by a certificate of this authority. Whether that is still valid does not matter: a
/// document is true for longer than its signer's certificate.
pub fn signer(
    document: &[u8],
    signature: &[u8],
    certificate_pem: &str,
    ca_pem: &str,
) -> Result<Peer, IdentityError> {
    let (leaf, authority) = (certificate(certificate_pem)?, certificate(ca_pem)?);
    let parsed = |der| {
        X509Certificate::from_der(der)
            .map(|(_, certificate)| certificate)
            .map_err(|_| IdentityError::Parse("it is not X.509"))
    };
    let (signer, issuer) = (parsed(&leaf)?, parsed(&authority)?);
    signer
        .verify_signature(Some(issuer.public_key()))
        .map_err(|_| IdentityError::Signature("another authority issued the certificate"))?;
    let key = &signer.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(document, signature)
        .map_err(|_| IdentityError::Signature("the document is not what was signed"))?;
    Peer::from_certificate(&leaf)
}

/// The runner that signed the document; an error if it was another machine.
pub fn signing_runner(
    document: &[u8],
    signature: &[u8],
    certificate_pem: &str,
    ca_pem: &str,
) -> Result<RunnerId, IdentityError> {
    match signer(document, signature, certificate_pem, ca_pem)?.role {
        Role::Runner(runner) => Ok(runner),
        _ => Err(IdentityError::Signature("its signer is not a runner")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, NewKey};

    fn machine(authority: &Authority, role: &Role) -> (Credentials, String) {
        let key = NewKey::generate().unwrap();
        let signed = authority.sign(&key.csr_pem().unwrap(), role).unwrap();
        let certificate = signed.certificate_pem.clone();
        (
            key.certified(signed.certificate_pem, authority.certificate_pem().to_owned()),
            certificate,
        )
    }

    fn runner(authority: &Authority) -> (Credentials, String) {
        machine(authority, &Role::Runner(RunnerId::from_entropy(1)))
    }

    #[test]
    fn only_a_runner_signs_as_a_runner() {
        let authority = Authority::generate("one").unwrap();
        let ca = authority.certificate_pem();
        let signed_by = |role: &Role| {
            let (credentials, certificate) = machine(&authority, role);
            let signature = credentials.sign(b"{}").unwrap();
            signing_runner(b"{}", &signature, &certificate, ca)
        };
        let runner = RunnerId::from_entropy(1);
        assert_eq!(signed_by(&Role::Runner(runner.clone())).unwrap(), runner);
        let agent = Role::Agent("s-00000000000000001".parse().unwrap());
        assert!(signed_by(&agent).is_err());
    }

    #[test]
    fn a_document_names_its_signer_and_no_byte_may_change() {
        let authority = Authority::generate("one").unwrap();
        let (credentials, certificate) = runner(&authority);
        let document = b"{\"changes\":[]}".to_vec();
        let signature = credentials.sign(&document).unwrap();
        let ca = authority.certificate_pem();
        let peer = signer(&document, &signature, &certificate, ca).unwrap();
        assert!(matches!(peer.role, Role::Runner(_)));

        for at in 0..document.len() {
            let mut altered = document.clone();
            altered[at] ^= 1;
            assert!(
                signer(&altered, &signature, &certificate, ca).is_err(),
                "byte {at}"
            );
        }
        let (_, another) = runner(&authority);
        assert!(signer(&document, &signature, &another, ca).is_err());
        let stranger = Authority::generate("two").unwrap();
        assert!(signer(&document, &signature, &certificate, stranger.certificate_pem()).is_err());
    }
}
