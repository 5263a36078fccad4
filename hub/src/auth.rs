//! Who is asking: people, their browsers' sessions, and API keys.
//!
//! - [`people`]: who there is, and what was given to whom.
//! - [`password`], [`second_factor`], [`oidc`]: by what somebody proves to be one of them.
//! - [`sessions`]: signing in, and what remembers it; [`keys`]: the same for programs.
//! - [`Actor`]: who was recognised.

use domain::scope::Scope;

use crate::{
    seal::Unreadable,
    store::{Store, StoreError},
};

mod actor;
pub mod keys;
pub mod oidc;
pub mod password;
pub mod people;
pub mod second_factor;
pub mod sessions;

pub use actor::{Actor, Grant, address_of};

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the name or the password is wrong")]
    Wrong,
    #[error("the code is wrong, or was used before")]
    WrongCode,
    #[error("the sign-in took too long")]
    TooLate,
    #[error("say in ten characters or more why nobody else can do it")]
    Reason,
    #[error("a password needs {} to {} characters", password::SHORTEST, password::LONGEST)]
    PasswordLength,
    #[error("the new password is the old one")]
    SamePassword,
    #[error("{0} signs in at the identity provider and has no password and no second factor here")]
    NotLocal(String),
    #[error("there is no user {0}")]
    NoUser(String),
    #[error("there is a user {0} already")]
    UserExists(String),
    #[error("nothing was granted to {0} for {1}")]
    NoGrant(String, Scope),
    #[error("what {0} may do comes from the identity provider: change it there, or in hub.toml")]
    GrantsFromProvider(String),
    #[error(
        "{0} is the last who may administer everything and sign in: make somebody else an administrator first"
    )]
    LastAdministrator(String),
    #[error("a user's name needs 1 to 64 letters, digits, '.', '_', '-' or '@'")]
    UserName,
    #[error(
        "a key needs a name of 1 to 64 characters, and ends within {} days",
        keys::DAYS_MAX
    )]
    Key,
    #[error("there is no such API key")]
    NoKey,
    #[error("cannot hash the password")]
    Hash(#[from] argon2::password_hash::phc::Error),
    #[error("cannot hash the password")]
    Hasher(#[from] argon2::password_hash::Error),
    #[error("{0}: remove the second factor of this user and set it up again")]
    Sealed(#[from] Unreadable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the user of that name may do at this moment. `None` if there is none, or one who may not come in.
pub async fn actor_named(store: &Store, name: &str) -> Result<Option<Actor>, StoreError> {
    match store.user(name).await? {
        Some(user) => actor(store, &user).await,
        None => Ok(None),
    }
}

/// What a user may do at this moment. `None` if there is no such user any more, or one who may not come in.
async fn actor(store: &Store, user: &crate::entities::user::Model) -> Result<Option<Actor>, StoreError> {
    if user.disabled_at.is_some() {
        return Ok(None);
    }
    let grants = store.grants_of(&user.name).await?;
    Ok(Some(Actor::new(&user.name, grants.into_iter().map(Grant::from))))
}

#[cfg(test)]
mod tests;
