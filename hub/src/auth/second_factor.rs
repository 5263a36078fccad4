//! The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for the day it is lost.

use qrcode::{QrCode, render::svg};
use totp_rs::{Builder, Secret, Totp};

use super::{AuthError, password::one_time};
use crate::{
    Hub, audit::By, clock::now_ms, entities::user::Model as User, secrets::sha256_hex, store::Write,
};

const ISSUER: &str = "Orglift";
pub const RECOVERY_CODES: usize = 10;

/// A secret that is shown until the first code of it has come.
#[derive(Debug)]
pub struct Offer {
    /// The secret as apps take it that cannot look.
    pub text: String,
    /// The picture, as SVG.
    pub qr_code: String,
}

/// A new secret, in base32.
pub fn new_totp_secret() -> String {
    // As many as RFC 4226 recommends.
    Secret::from(rand::random::<[u8; 20]>()).to_base32()
}

impl Offer {
    pub fn new(user: &str, secret: &str) -> Result<Self, AuthError> {
        let url = totp(user, secret)?.to_url().map_err(|_| AuthError::WrongCode)?;
        let code = QrCode::new(url.as_bytes()).map_err(|_| AuthError::WrongCode)?;
        let qr_code = code
            .render::<svg::Color<'_>>()
            .min_dimensions(192, 192)
            .dark_color(svg::Color("#000"))
            .light_color(svg::Color("#fff"))
            .build();
        // An XML declaration has no place within a page.
        let qr_code = qr_code
            .split_once("?>")
            .map_or(qr_code.clone(), |(_, svg)| svg.to_owned());
        Ok(Self {
            text: secret.to_owned(),
            qr_code,
        })
    }
}

/// With what every app assumes: SHA-1, six digits, 30 seconds; a clock may be wrong by a period.
fn totp(user: &str, secret: &str) -> Result<Totp, AuthError> {
    let secret = Secret::try_from_base32(secret).map_err(|_| AuthError::WrongCode)?;
    Builder::new()
        .with_secret(secret)
        .with_issuer(Some(ISSUER))
        .with_account_name(user)
        .build()
        .map_err(|_| AuthError::WrongCode)
}

/// The period of which `code` is, if it is one of now and was not used.
fn period_of(user: &str, secret: &str, code: &str, last: i64, now_ms: i64) -> Result<Option<i64>, AuthError> {
    let found = totp(user, secret)?.check(code, now_ms.unsigned_abs() / 1000);
    Ok(found.map(u64::cast_signed).filter(|period| *period > last))
}

impl Hub {
    /// Where the secret of a user is sealed.
    fn place(user: &str) -> String {
        format!("second factor of {user}")
    }

    /// Takes the secret into use, of which `code` is. Returns the recovery codes, which are shown this once.
    pub async fn second_factor_set(
        &self,
        tx: &mut Write,
        by: By<'_>,
        user: &mut User,
        secret: &str,
        code: &str,
    ) -> Result<Vec<String>, AuthError> {
        if user.subject.is_some() {
            return Err(AuthError::NotLocal(user.name.clone()));
        }
        let period = period_of(&user.name, secret, &digits(code), 0, now_ms())?;
        user.totp_step = period.ok_or(AuthError::WrongCode)?;
        user.totp = Some(self.pki.seal.seal(&Self::place(&user.name), secret.as_bytes()));
        tx.user_put(user.clone()).await?;
        let codes = recovery_codes(tx, &user.name).await?;
        tx.audit_done(by, "set up a second factor", &user.name, "")
            .await?;
        Ok(codes)
    }

    /// Whether `code` is of the user's app, or a recovery code; neither is good twice.
    pub async fn second_factor_is(
        &self,
        tx: &mut Write,
        user: &mut User,
        code: &str,
    ) -> Result<bool, AuthError> {
        let Some(sealed) = &user.totp else {
            return Ok(false);
        };
        let secret = self.pki.seal.open(&Self::place(&user.name), sealed)?;
        let secret = String::from_utf8_lossy(&secret);
        let app = digits(code);
        if let Some(period) = period_of(&user.name, &secret, &app, user.totp_step, now_ms())? {
            user.totp_step = period;
            return Ok(true);
        }
        let is_one = tx.recovery_code_use(&user.name, &digest(code)).await?;
        if is_one {
            tracing::warn!(user = user.name, "a recovery code was used");
        }
        Ok(is_one)
    }
}

/// Takes a second factor away, with its recovery codes.
pub async fn remove(tx: &mut Write, by: By<'_>, user: &mut User) -> Result<(), AuthError> {
    user.totp = None;
    user.totp_step = 0;
    tx.user_put(user.clone()).await?;
    tx.recovery_codes_replace(&user.name, Vec::new()).await?;
    Ok(tx
        .audit_done(by, "remove a second factor", &user.name, "")
        .await?)
}

/// New recovery codes in place of all old ones.
pub async fn renew_recovery_codes(tx: &mut Write, by: By<'_>, user: &User) -> Result<Vec<String>, AuthError> {
    let codes = recovery_codes(tx, &user.name).await?;
    tx.audit_done(by, "make recovery codes", &user.name, "").await?;
    Ok(codes)
}

async fn recovery_codes(tx: &mut Write, user: &str) -> Result<Vec<String>, AuthError> {
    let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| one_time()).collect();
    let digests = codes.iter().map(|code| digest(code)).collect();
    tx.recovery_codes_replace(user, digests).await?;
    Ok(codes)
}

/// However somebody copies it.
fn digest(code: &str) -> String {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    sha256_hex(plain.to_ascii_lowercase().as_bytes())
}

/// Apps show `123 456`.
fn digits(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6238, appendix B, of which an app shows the last six digits.
    #[test]
    fn codes_are_those_of_the_rfc_and_good_once() {
        let secret = Secret::from(*b"12345678901234567890").to_base32();
        let at = |seconds: i64, code, used| period_of("ann", &secret, code, used, seconds * 1000).unwrap();
        assert_eq!(at(59, "287082", 0), Some(1));
        assert_eq!(at(1_111_111_109, "081804", 0), Some(37_037_036));
        assert_eq!(at(1_111_111_109, "081804", 37_037_036), None, "it was used");
        assert_eq!(
            at(59 + 30, "287082", 0),
            Some(1),
            "a clock may be late by a period"
        );
        assert_eq!(at(59 + 60, "287082", 0), None);
        assert_eq!(at(59, "", 0), None);
    }

    #[test]
    fn a_secret_is_offered_as_a_picture_and_as_text() {
        let secret = new_totp_secret();
        let offer = Offer::new("ann@example.com", &secret).unwrap();
        assert!(offer.qr_code.starts_with("<svg"), "{}", &offer.qr_code[..60]);
        assert_eq!((offer.text.len(), offer.text == new_totp_secret()), (32, false));
    }

    #[test]
    fn a_recovery_code_may_be_typed_in_capitals_and_without_hyphens() {
        assert_eq!(digest("abcd-efgh"), digest(" ABCD EFGH "));
        assert_ne!(digest("abcd-efgh"), digest("abcd-efgi"));
    }
}
