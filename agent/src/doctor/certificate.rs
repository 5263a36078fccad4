//! Whose certificate was shown: the runner's, or that of a device that looks into TLS.

use std::{net::IpAddr, net::SocketAddr};

use domain::digest::hex;
use identity::{
    Role,
    examine::{self, Shown},
};
use rustls::{CertificateError, pki_types::CertificateDer};

use super::{
    reach::source_name,
    report::{Check, Verdict},
};

/// `trusted`: SHA-256 of the authority that the token or this server's own certificate names.
pub fn check(
    chain: &[CertificateDer<'_>],
    trusted: Option<[u8; 32]>,
    (from, to): (Option<IpAddr>, SocketAddr),
) -> Check {
    let told = |verdict, detail: String, remedy: Option<String>| Check {
        from,
        to: Some(to),
        remedy,
        ..Check::new("certificate", verdict, detail)
    };
    let Some(shown) = Shown::of(chain) else {
        return told(
            Verdict::NeedsAHand,
            "what was shown is no certificate".into(),
            Some(check_address(to)),
        );
    };
    let Shown { subject, issuer, .. } = &shown;
    let Some(trusted) = trusted else {
        let detail = format!(
            "shown by {subject}, issued by {issuer}, authority {}",
            hex(&shown.authority_sha256)
        );
        return match shown.role {
            Some(Role::Runner(_)) => told(
                Verdict::NotTested,
                format!("{detail}; without a token, nobody vouches for it"),
                Some("Give --token-file to have it compared with the console's authority.".into()),
            ),
            _ => told(Verdict::NeedsAHand, detail, Some(no_inspection(from, to))),
        };
    };
    let Err(error) = examine::judge(chain, trusted, Role::RUNNER_NAME) else {
        return told(Verdict::Ok, format!("the runner's own: {subject}"), None);
    };
    let (detail, remedy) = match &error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. },
        ) => (
            format!("the certificate of {subject} is not valid at this time: {error}"),
            "Set this server's clock, by NTP if there is one; if it is right, enrol the runner anew."
                .to_owned(),
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            format!("another machine of this console answers: {subject}"),
            check_address(to),
        ),
        _ => (
            format!(
                "not issued by the console's authority, but by {issuer} for {subject}: something looks into TLS, or \
                 the runner belongs to another console"
            ),
            no_inspection(from, to),
        ),
    };
    told(Verdict::NeedsAHand, detail, Some(remedy))
}

/// What to tell where no handshake comes about.
pub fn foreign(error: &str, (from, to): (Option<IpAddr>, SocketAddr)) -> Check {
    Check {
        from,
        to: Some(to),
        remedy: Some(no_inspection(from, to)),
        ..Check::new(
            "certificate",
            Verdict::NeedsAHand,
            format!("no TLS 1.3 with a runner: {error}"),
        )
    }
}

fn check_address(to: SocketAddr) -> String {
    format!("{to} is not the runner's: take address and port from the console.")
}

fn no_inspection(from: Option<IpAddr>, to: SocketAddr) -> String {
    format!(
        "Exempt TCP from {} to {}, port {} from TLS inspection and from proxies, at every device on the way; and see \
         whether address, port and token are of the same console.",
        source_name(from),
        to.ip(),
        to.port()
    )
}

#[cfg(test)]
mod tests {
    use domain::ids::RunnerId;
    use identity::{Authority, Credentials, NewKey, credentials::fingerprint};
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn chain(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
        [credentials.certificate_pem(), credentials.ca_pem()]
            .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .into()
    }

    #[test]
    fn interception_is_told_by_the_name_of_who_does_it() {
        identity::install_crypto_provider();
        let machine = |authority: &Authority, role| {
            let key = NewKey::generate().unwrap();
            let signed = authority.sign(&key.csr_pem().unwrap(), &role).unwrap();
            chain(&key.certified(signed.certificate_pem, authority.certificate_pem().to_owned()))
        };
        let ours = Authority::generate("our console").unwrap();
        let proxy = Authority::generate("Inspecting Proxy").unwrap();
        let runner = || Role::Runner(RunnerId::from_entropy(8));
        let trusted = fingerprint(ours.certificate_pem()).unwrap();
        let to: SocketAddr = "192.0.2.7:443".parse().unwrap();
        let from = Some("198.51.100.4".parse().unwrap());
        let check = |chain: &[_], trusted| super::check(chain, trusted, (from, to));

        assert_eq!(
            check(&machine(&ours, runner()), Some(trusted)).verdict,
            Verdict::Ok
        );
        let seen = check(&machine(&proxy, runner()), Some(trusted));
        assert_eq!(seen.verdict, Verdict::NeedsAHand);
        assert!(seen.detail.contains("by CN=Inspecting Proxy"), "{}", seen.detail);
        let remedy = seen.remedy.unwrap();
        assert!(
            remedy.contains("from 198.51.100.4 to 192.0.2.7, port 443"),
            "{remedy}"
        );
        // The hub's address in place of the runner's.
        let seen = check(&machine(&ours, Role::Hub), Some(trusted));
        assert!(
            seen.detail.contains("another machine of this console"),
            "{}",
            seen.detail
        );
        // Nothing to compare it with: a runner may be the right one, anybody else is not.
        assert_eq!(check(&machine(&ours, runner()), None).verdict, Verdict::NotTested);
        assert_eq!(
            check(&machine(&ours, Role::Hub), None).verdict,
            Verdict::NeedsAHand
        );
        assert_eq!(check(&[], Some(trusted)).verdict, Verdict::NeedsAHand);
    }
}
