//! Keys by which programs use the API as a user.

use super::{Actor, AuthError, actor};
use crate::{
    Hub,
    audit::By,
    clock::now_ms,
    entities::api_key::Model as Key,
    secrets::{new_secret, sha256_hex},
    store::{StoreError, Write},
};

pub const DAYS_MAX: u32 = 3650;

const DAY_MS: i64 = 86_400_000;
/// The time of use is written down to the minute, not with every request.
const USED_AGAIN_AFTER_MS: i64 = 60_000;

impl Hub {
    /// Whose API key this is.
    pub async fn key_actor(&self, secret: &str) -> Result<Option<Actor>, StoreError> {
        let Some(key) = self.store.api_key(&sha256_hex(secret.as_bytes())).await? else {
            return Ok(None);
        };
        let now = now_ms();
        if key.expires_at.is_some_and(|end| end <= now) {
            return Ok(None);
        }
        let Some(user) = self.store.user(&key.user).await? else {
            return Ok(None);
        };
        if key.used_at.is_none_or(|used| now - used > USED_AGAIN_AFTER_MS) {
            let mut tx = self.store.begin().await?;
            tx.api_key_used(&key.sha256, now).await?;
            tx.commit().await?;
        }
        actor(&self.store, &user).await
    }
}

/// Makes an API key and returns it; it cannot be shown again.
pub async fn add(
    tx: &mut Write,
    by: By<'_>,
    user: &str,
    name: &str,
    days: Option<u32>,
) -> Result<String, AuthError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 64 || days.is_some_and(|days| days == 0 || days > DAYS_MAX) {
        return Err(AuthError::Key);
    }
    if tx.user(user).await?.is_none() {
        return Err(AuthError::NoUser(user.to_owned()));
    }
    let secret = format!("olk1.{}", new_secret());
    let now = now_ms();
    let key = Key {
        sha256: sha256_hex(secret.as_bytes()),
        user: user.to_owned(),
        created_at: now,
        name: name.to_owned(),
        expires_at: days.map(|days| now + i64::from(days) * DAY_MS),
        used_at: None,
    };
    let detail = format!("{name}: {}", id(&key));
    tx.api_key_insert(key).await?;
    tx.audit_done(by, "make an API key", user, &detail).await?;
    Ok(secret)
}

/// Takes a key away: it counts no more from the next request on.
pub async fn remove(tx: &mut Write, by: By<'_>, user: &str, id_of_key: &str) -> Result<(), AuthError> {
    let keys = tx.api_keys_of(user).await?;
    let key = keys
        .iter()
        .find(|key| id(key) == id_of_key)
        .ok_or(AuthError::NoKey)?;
    tx.api_key_delete(&key.sha256).await?;
    let detail = format!("{}: {}", key.name, id(key));
    Ok(tx.audit_done(by, "remove an API key", user, &detail).await?)
}

/// Enough of its digest to tell it from others.
pub fn id(key: &Key) -> &str {
    &key.sha256[..12]
}
