//! Passwords, of which the store has Argon2id hashes.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use rand::RngExt as _;
use tokio::sync::Semaphore;

use super::AuthError;

pub const SHORTEST: usize = 10;
/// Beyond this, hashing would be work that a stranger orders.
pub const LONGEST: usize = 1024;

/// A hash takes 19 MiB of memory: a flood of sign-ins must not take all of it.
static HASHING: Semaphore = Semaphore::const_new(2);

pub async fn hash(password: String) -> Result<String, AuthError> {
    if !(SHORTEST..=LONGEST).contains(&password.len()) {
        return Err(AuthError::PasswordLength);
    }
    let hashed = aside(move || Argon2::default().hash_password(password.as_bytes())).await?;
    Ok(hashed.to_string())
}

/// Whether `password` is the one that was hashed. It takes the same time when there is no such user, or no password.
pub async fn verify(password: String, hashed: Option<String>) -> bool {
    // Argon2id with the default parameters, of a password that nobody has.
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    if password.len() > LONGEST {
        return false;
    }
    let hashed = hashed.filter(|hashed| !hashed.is_empty());
    let is_user = hashed.is_some();
    let hashed = hashed.unwrap_or_else(|| NOBODY.to_owned());
    let matches = aside(move || match PasswordHash::new(&hashed) {
        Ok(hash) => Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok(),
        Err(_) => false,
    })
    .await;
    matches && is_user
}

/// One that somebody is told, and changes at the first sign-in: 80 bits, without letters that look alike.
pub fn one_time() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    let group = |_| -> String {
        (0..4)
            .map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]))
            .collect()
    };
    (0..4).map(group).collect::<Vec<_>>().join("-")
}

/// Hashing is work for a thread of its own, a few at a time.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _turn = HASHING.acquire().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(work)
        .await
        .expect("hashing does not panic, and nobody cancels it")
}
