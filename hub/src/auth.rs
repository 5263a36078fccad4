//! Who is asking: users, their browsers' sessions, and API keys.
//!
//! A session is an opaque cookie of 256 random bits; the store keeps its digest. It ends when it was idle
//! for [`IDLE`], or after [`ABSOLUTE`] in any case.

use std::{net::IpAddr, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use domain::scope::Scope;
use tokio::sync::Semaphore;

use crate::{
    Hub,
    audit::{By, COMMAND_LINE},
    clock::now_ms,
    entities::{api_key, session, user},
    secrets::{new_secret, sha256_hex},
    store::{Store, StoreError, Write},
};

mod actor;

pub use actor::{Actor, Grant, address_of};

pub const IDLE: Duration = Duration::from_hours(8);
pub const ABSOLUTE: Duration = Duration::from_hours(24);

/// A session's idle time is written back when this much of it has passed, not with every page.
const EXTEND_AFTER: Duration = Duration::from_mins(5);

/// A hash takes 19 MiB of memory: a flood of sign-ins must not take all of it.
static HASHING: Semaphore = Semaphore::const_new(2);

pub const PASSWORD_MIN: usize = 10;
/// Beyond this, hashing would be work that a stranger orders.
const PASSWORD_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the name or the password is wrong")]
    Wrong,
    #[error("a password needs {PASSWORD_MIN} to {PASSWORD_MAX} characters")]
    PasswordLength,
    #[error("there is no user {0}")]
    NoUser(String),
    #[error("nothing was granted to {0} for {1}")]
    NoGrant(String, Scope),
    #[error("a user's name needs 1 to 64 letters, digits, '.', '_', '-' or '@'")]
    UserName,
    #[error("cannot hash the password")]
    Hash(#[from] argon2::password_hash::phc::Error),
    #[error("cannot hash the password")]
    Hasher(#[from] argon2::password_hash::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// Checks a password and opens a session. Returns the cookie's value.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<String, AuthError> {
        if password.len() > PASSWORD_MAX {
            return Err(AuthError::Wrong);
        }
        let user = self.store.user(name).await?;
        let known = user.as_ref().map(|user| user.password.clone());
        if !verify(password.to_owned(), known).await {
            return Err(AuthError::Wrong);
        }
        let user = user.ok_or(AuthError::Wrong)?;
        let (secret, now) = (new_secret(), now_ms());
        let mut tx = self.store.begin().await?;
        tx.session_insert(session::Model {
            sha256: sha256_hex(secret.as_bytes()),
            user: user.name.clone(),
            created_at: now,
            idle_until: now + millis(IDLE),
            ends_at: now + millis(ABSOLUTE),
        })
        .await?;
        let by = By {
            name: &user.name,
            address,
        };
        tx.audit_done(by, "sign in", &user.name, "").await?;
        tx.commit().await?;
        Ok(secret)
    }

    pub async fn sign_out(&self, cookie: &str) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        tx.session_delete(&sha256_hex(cookie.as_bytes())).await?;
        tx.commit().await
    }

    /// Whose session the cookie is, if it is one that has not ended.
    pub async fn session_seen(&self, cookie: &str) -> Result<Option<Actor>, StoreError> {
        let Some(session) = self.session(cookie).await? else {
            return Ok(None);
        };
        actor(&self.store, &session.user).await
    }

    /// The same of somebody who is there: the session is prolonged.
    pub async fn session_actor(&self, cookie: &str) -> Result<Option<Actor>, StoreError> {
        let Some(session) = self.session(cookie).await? else {
            return Ok(None);
        };
        let now = now_ms();
        if now + millis(IDLE) - session.idle_until > millis(EXTEND_AFTER) {
            let mut tx = self.store.begin().await?;
            tx.session_extend(&session.sha256, now + millis(IDLE)).await?;
            tx.commit().await?;
        }
        actor(&self.store, &session.user).await
    }

    async fn session(&self, cookie: &str) -> Result<Option<session::Model>, StoreError> {
        let now = now_ms();
        let found = self.store.session(&sha256_hex(cookie.as_bytes())).await?;
        Ok(found.filter(|session| now < session.idle_until && now < session.ends_at))
    }

    /// Whose API key this is.
    pub async fn key_actor(&self, key: &str) -> Result<Option<Actor>, StoreError> {
        match self.store.api_key(&sha256_hex(key.as_bytes())).await? {
            Some(key) => actor(&self.store, &key.user).await,
            None => Ok(None),
        }
    }
}

/// What a user may do at this moment. `None` if there is no such user any more.
async fn actor(store: &Store, name: &str) -> Result<Option<Actor>, StoreError> {
    if store.user(name).await?.is_none() {
        return Ok(None);
    }
    let grants = store.grants_of(name).await?;
    Ok(Some(Actor::new(name, grants.into_iter().map(Grant::from))))
}

/// Adds a user, or gives one a new password and other grants.
pub async fn user_put(
    store: &Store,
    name: &str,
    grants: Vec<Grant>,
    password: String,
) -> Result<(), AuthError> {
    if !(PASSWORD_MIN..=PASSWORD_MAX).contains(&password.len()) {
        return Err(AuthError::PasswordLength);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(AuthError::UserName);
    }
    let hashed = aside(move || {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.map(|hash| hash.to_string())
    })
    .await?;
    let mut tx = store.begin().await?;
    tx.user_put(user::Model {
        name: name.to_owned(),
        password: hashed,
        created_at: now_ms(),
    })
    .await?;
    let given: Vec<_> = grants.iter().map(Grant::to_string).collect();
    tx.grants_replace(name, grants).await?;
    tx.audit_done(COMMAND_LINE, "add user", name, &given.join(", "))
        .await?;
    Ok(tx.commit().await?)
}

/// Gives a user a role somewhere, in place of the one that was given for the same scope.
pub async fn grant(store: &Store, name: &str, grant: Grant) -> Result<(), AuthError> {
    let mut tx = begin_for(store, name).await?;
    let given = grant.to_string();
    tx.grant_put(name, grant).await?;
    tx.audit_done(COMMAND_LINE, "grant", name, &given).await?;
    Ok(tx.commit().await?)
}

/// Takes back what was granted for a scope.
pub async fn revoke(store: &Store, name: &str, scope: &Scope) -> Result<(), AuthError> {
    let mut tx = begin_for(store, name).await?;
    if !tx.grant_delete(name, scope).await? {
        return Err(AuthError::NoGrant(name.to_owned(), scope.clone()));
    }
    tx.audit_done(COMMAND_LINE, "revoke", name, &scope.to_string())
        .await?;
    Ok(tx.commit().await?)
}

/// Removes a user, with sessions and keys.
pub async fn user_remove(store: &Store, name: &str) -> Result<(), AuthError> {
    let mut tx = begin_for(store, name).await?;
    tx.user_delete(name).await?;
    tx.audit_done(COMMAND_LINE, "remove user", name, "").await?;
    Ok(tx.commit().await?)
}

async fn begin_for(store: &Store, name: &str) -> Result<Write, AuthError> {
    let tx = store.begin().await?;
    match tx.user(name).await? {
        Some(_) => Ok(tx),
        None => Err(AuthError::NoUser(name.to_owned())),
    }
}

/// Makes an API key and returns it; it cannot be shown again.
pub async fn key_add(store: &Store, user: &str) -> Result<String, AuthError> {
    if store.user(user).await?.is_none() {
        return Err(AuthError::NoUser(user.to_owned()));
    }
    let key = format!("olk1.{}", new_secret());
    let mut tx = store.begin().await?;
    tx.api_key_insert(api_key::Model {
        sha256: sha256_hex(key.as_bytes()),
        user: user.to_owned(),
        created_at: now_ms(),
    })
    .await?;
    tx.audit_done(COMMAND_LINE, "add key", user, "").await?;
    tx.commit().await?;
    Ok(key)
}

/// Whether `password` is the one that was hashed. It takes the same time when there is no such user.
async fn verify(password: String, hashed: Option<String>) -> bool {
    // Argon2id with the default parameters, of a password that nobody has.
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
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

/// Hashing is work for a thread of its own, a few at a time.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _turn = HASHING.acquire().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(work)
        .await
        .expect("hashing does not panic, and nobody cancels it")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entities::user::UserRole, fixtures::hub};

    #[tokio::test]
    async fn a_session_opens_with_the_right_password_and_ends_when_signed_out() {
        let hub = hub().await;
        user_put(
            &hub.store,
            "ada",
            vec![Grant::everywhere(UserRole::Operator)],
            "correct horse".into(),
        )
        .await
        .unwrap();
        assert!(matches!(
            hub.sign_in("ada", "wrong horse!", None).await,
            Err(AuthError::Wrong)
        ));
        assert!(matches!(
            hub.sign_in("bob", "correct horse", None).await,
            Err(AuthError::Wrong)
        ));

        let cookie = hub.sign_in("ada", "correct horse", None).await.unwrap();
        let actor = hub.session_actor(&cookie).await.unwrap().unwrap();
        assert_eq!(
            (actor.name.as_str(), actor.role_everywhere()),
            ("ada", Some(UserRole::Operator))
        );
        hub.sign_out(&cookie).await.unwrap();
        assert_eq!(hub.session_actor(&cookie).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_session_ends_by_itself() {
        let hub = hub().await;
        user_put(
            &hub.store,
            "ada",
            vec![Grant::everywhere(UserRole::Viewer)],
            "correct horse".into(),
        )
        .await
        .unwrap();
        let cookie = hub.sign_in("ada", "correct horse", None).await.unwrap();
        let mut tx = hub.store.begin().await.unwrap();
        tx.session_extend(&sha256_hex(cookie.as_bytes()), now_ms() - 1)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(hub.session_actor(&cookie).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_key_is_its_users() {
        let hub = hub().await;
        assert!(matches!(
            key_add(&hub.store, "ada").await,
            Err(AuthError::NoUser(_))
        ));
        user_put(
            &hub.store,
            "ada",
            vec![Grant::everywhere(UserRole::Approver)],
            "correct horse".into(),
        )
        .await
        .unwrap();
        let key = key_add(&hub.store, "ada").await.unwrap();
        assert_eq!(
            hub.key_actor(&key).await.unwrap().unwrap().role_everywhere(),
            Some(UserRole::Approver)
        );
        assert_eq!(hub.key_actor("olk1.nonsense").await.unwrap(), None);
    }
}
