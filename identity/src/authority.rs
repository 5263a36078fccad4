//! The certificate authority of one hub.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{IdentityError, Role, credentials::sha256};

/// A migration takes months; a machine that is away for longer enrols anew.
pub const MACHINE_VALIDITY: Duration = Duration::from_hours(2 * 365 * 24);
const AUTHORITY_VALIDITY: Duration = Duration::from_hours(10 * 365 * 24);
/// Clocks of sources are often a little behind.
const BACKDATED: Duration = Duration::from_hours(1);

pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

/// A certificate as signed.
#[derive(Debug, Clone)]
pub struct Signed {
    pub certificate_pem: String,
    /// In lower-case hexadecimal.
    pub serial: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority, called `name` in certificates.
    pub fn generate(name: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_VALIDITY);
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, key })
    }

    pub fn from_pem(certificate_pem: String, key_pem: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem(key_pem)?;
        Issuer::from_ca_cert_pem(&certificate_pem, &key)?;
        Ok(Self { certificate_pem, key })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's secret. It belongs in one file that only the hub can read.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Signs the key of a certificate signing request for `role`. Of the request, nothing but the key is
    /// believed.
    pub fn sign(&self, csr_pem: &str, role: &Role) -> Result<Signed, IdentityError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        let mut params = CertificateParams::new(vec![role.dns_name().into()])?;
        params
            .subject_alt_names
            .push(SanType::URI(role.uri().try_into()?));
        params.distinguished_name = distinguished_name(&role.uri());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        set_validity(&mut params, MACHINE_VALIDITY);
        let serial = new_serial();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key)?;
        let certificate_pem = params.signed_by(&request.public_key, &issuer)?.pem();
        Ok(Signed {
            certificate_pem,
            serial: domain::digest::hex(&serial),
        })
    }
}

/// SHA-256 of the public key that a signing request is about. It names the requester for good: signing
/// requests for one key differ each time, since a signature is randomized.
pub fn requested_key(csr_pem: &str) -> Result<[u8; 32], IdentityError> {
    let unreadable = || IdentityError::Parse("the signing request is damaged");
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).map_err(|_| unreadable())?;
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|_| unreadable())?;
    Ok(sha256(request.certification_request_info.subject_pki.raw))
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams, validity: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + validity).into();
}

/// Sixteen random bytes that read as a positive number without padding (RFC 5280, section 4.1.2.2).
fn new_serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewKey;

    #[test]
    fn requests_for_one_key_name_one_requester() {
        let (one, other) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let (first, second) = (one.csr_pem().unwrap(), one.csr_pem().unwrap());
        assert_eq!(requested_key(&first).unwrap(), requested_key(&second).unwrap());
        assert_ne!(
            requested_key(&first).unwrap(),
            requested_key(&other.csr_pem().unwrap()).unwrap()
        );
        assert!(requested_key("nonsense").is_err());
    }
}
