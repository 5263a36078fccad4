//! Secrets that people or machines carry, and the digests by which the store knows them.

use aws_lc_rs::digest::{SHA256, digest};
use domain::digest::Digest;

/// 32 random bytes in base64url: 43 characters.
pub fn new_secret() -> String {
    base64url(&rand::random::<[u8; 32]>())
}

/// SHA-256 in lower-case hexadecimal. Secrets have 256 random bits: a digest cannot be turned back, and
/// looking one up by its digest tells nothing by the time it takes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let bytes = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    Digest(bytes).to_string()
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .enumerate()
            .fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=group.len() {
            let six = (bits >> (18 - 6 * at)) & 0x3f;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_rfc_4648_without_padding() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(new_secret().len(), 43);
    }

    #[test]
    fn digests_are_sha256() {
        assert!(sha256_hex(b"abc").starts_with("ba7816bf8f01cfea"));
    }
}
