//! Secrets that the hub must read again, sealed: who has the database alone cannot read them, nor put one in the place of
//! another. The key comes from that of the hub's authority, which never lies in the database.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

#[derive(Debug)]
pub struct Seal(RandomizedNonceKey);

#[derive(Debug, thiserror::Error)]
#[error("a secret in the database cannot be read with the key of this hub's authority")]
pub struct Unreadable;

impl Seal {
    pub fn from_key(key: &[u8]) -> Self {
        const PURPOSE: &[&[u8]] = &[b"orglift sealed columns"];
        let mut derived = [0; 32];
        Salt::new(HKDF_SHA256, &[])
            .extract(key)
            .expand(PURPOSE, &AES_256_GCM)
            .and_then(|okm| okm.fill(&mut derived))
            .expect("32 bytes are within what HKDF gives");
        Self(RandomizedNonceKey::new(&AES_256_GCM, &derived).expect("the key has 32 bytes"))
    }

    /// `place` says what it is and of whom, and has to be the same when it is opened.
    pub fn seal(&self, place: &str, secret: &[u8]) -> String {
        let mut sealed = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(place), &mut sealed)
            .expect("a short text can be sealed");
        sealed.extend_from_slice(nonce.as_ref());
        BASE64_STANDARD.encode(sealed)
    }

    pub fn open(&self, place: &str, sealed: &str) -> Result<Vec<u8>, Unreadable> {
        let mut sealed = BASE64_STANDARD.decode(sealed).map_err(|_| Unreadable)?;
        let (_, nonce) = sealed.split_last_chunk().ok_or(Unreadable)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        sealed.truncate(sealed.len() - aws_lc_rs::aead::NONCE_LEN);
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(place), &mut sealed)
            .map_err(|_| Unreadable)?;
        Ok(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_by_its_key_in_its_place_only() {
        let seal = Seal::from_key(b"key");
        let sealed = seal.seal("totp of ann", b"12345678");
        assert_eq!(seal.open("totp of ann", &sealed).unwrap(), b"12345678");
        assert_ne!(
            sealed,
            seal.seal("totp of ann", b"12345678"),
            "each has a nonce of its own"
        );
        assert!(seal.open("totp of bob", &sealed).is_err());
        assert!(Seal::from_key(b"other").open("totp of ann", &sealed).is_err());
        for broken in ["", "AAAA", "%", &sealed[4..]] {
            assert!(seal.open("totp of ann", broken).is_err(), "{broken}");
        }
    }
}
