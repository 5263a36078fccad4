//! Secrets that people or machines carry, and the digests by which the store knows them.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::digest::Digest;

/// 32 random bytes in base64url: 43 characters.
pub fn new_secret() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// SHA-256 in lower-case hexadecimal. Secrets have 256 random bits: a digest cannot be turned back, and
/// looking one up by its digest tells nothing by the time it takes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let bytes = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    Digest(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_43_characters_and_is_new() {
        let secret = new_secret();
        assert_eq!(secret.len(), 43);
        assert_ne!(secret, new_secret());
    }

    #[test]
    fn digests_are_sha256() {
        assert!(sha256_hex(b"abc").starts_with("ba7816bf8f01cfea"));
    }
}
