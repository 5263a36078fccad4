//! Who there is, and what was given to whom. Whoever calls these has made sure that it may be done; each writes down that
//! it was, in the same transaction.

use domain::scope::Scope;

use super::{AuthError, Grant, password};
use crate::{
    audit::By,
    clock::now_ms,
    entities::{
        Doc,
        user::{Model as User, UserRole},
    },
    store::Write,
};

/// Somebody who is to sign in with a password.
#[derive(Debug)]
pub struct NewUser {
    pub name: String,
    pub grants: Vec<Grant>,
    pub password: String,
    /// To be changed at the first sign-in.
    pub one_time: bool,
    pub break_glass: bool,
}

impl NewUser {
    /// Checks it, and hashes the password. That takes its time: it is done before a transaction begins.
    pub async fn prepare(self) -> Result<Prepared, AuthError> {
        check_name(&self.name)?;
        Ok(Prepared {
            user: User {
                password: password::hash(self.password).await?,
                one_time: self.one_time,
                break_glass: self.break_glass,
                ..blank(&self.name)
            },
            grants: self.grants,
        })
    }
}

#[derive(Debug)]
pub struct Prepared {
    user: User,
    grants: Vec<Grant>,
}

/// A user without any means to sign in.
pub(super) fn blank(name: &str) -> User {
    User {
        name: name.to_owned(),
        password: String::new(),
        created_at: now_ms(),
        subject: None,
        one_time: false,
        break_glass: false,
        totp: None,
        totp_step: 0,
        failures: 0,
        locked_until: None,
        disabled_at: None,
        signed_in_at: None,
        language: String::new(),
        preferences: Doc::default(),
    }
}

pub(super) fn check_name(name: &str) -> Result<(), AuthError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(AuthError::UserName);
    }
    Ok(())
}

/// Adds a user.
pub async fn add(tx: &mut Write, by: By<'_>, new: Prepared) -> Result<(), AuthError> {
    if tx.user(&new.user.name).await?.is_some() {
        return Err(AuthError::UserExists(new.user.name));
    }
    put(tx, by, new).await
}

/// Adds a user, or gives one another password and other grants; sessions end.
pub async fn put(tx: &mut Write, by: By<'_>, new: Prepared) -> Result<(), AuthError> {
    let Prepared { user, grants } = new;
    let given: Vec<_> = grants.iter().map(Grant::to_string).collect();
    let kept = tx.user(&user.name).await?;
    let user = match kept {
        None => user,
        Some(kept) if kept.subject.is_some() => return Err(AuthError::NotLocal(kept.name)),
        Some(kept) => User {
            password: user.password,
            one_time: user.one_time,
            break_glass: user.break_glass,
            failures: 0,
            locked_until: None,
            ..kept
        },
    };
    let name = user.name.clone();
    tx.user_put(user).await?;
    tx.sessions_end(&name, None).await?;
    tx.grants_replace(&name, grants).await?;
    Ok(tx.audit_done(by, "add user", &name, &given.join(", ")).await?)
}

/// Gives a user another password, hashed before. Every session ends but `but`.
pub async fn set_password(
    tx: &mut Write,
    by: By<'_>,
    user: &mut User,
    hashed: String,
    one_time: bool,
    but: Option<&str>,
) -> Result<(), AuthError> {
    if user.subject.is_some() {
        return Err(AuthError::NotLocal(user.name.clone()));
    }
    user.password = hashed;
    user.one_time = one_time;
    user.failures = 0;
    user.locked_until = None;
    tx.user_put(user.clone()).await?;
    tx.sessions_end(&user.name, but).await?;
    let detail = if one_time { "a one-time password" } else { "" };
    Ok(tx.audit_done(by, "set a password", &user.name, detail).await?)
}

/// Gives a user a role somewhere, in place of the one that was given for the same scope.
pub async fn grant(tx: &mut Write, by: By<'_>, name: &str, grant: Grant) -> Result<(), AuthError> {
    let given = grant.to_string();
    existing(tx, name).await?;
    tx.grant_put(name, grant).await?;
    Ok(tx.audit_done(by, "grant", name, &given).await?)
}

/// Takes back what was granted for a scope.
pub async fn revoke(tx: &mut Write, by: By<'_>, name: &str, scope: &Scope) -> Result<(), AuthError> {
    existing(tx, name).await?;
    if !tx.grant_delete(name, scope).await? {
        return Err(AuthError::NoGrant(name.to_owned(), scope.clone()));
    }
    Ok(tx.audit_done(by, "revoke", name, &scope.to_string()).await?)
}

/// Keeps somebody out, with all sessions and keys, or lets them in again.
pub async fn set_disabled(tx: &mut Write, by: By<'_>, name: &str, disabled: bool) -> Result<(), AuthError> {
    let user = existing(tx, name).await?;
    tx.user_put(User {
        disabled_at: disabled.then(now_ms),
        ..user
    })
    .await?;
    if disabled {
        tx.sessions_end(name, None).await?;
    }
    let action = if disabled { "disable user" } else { "enable user" };
    Ok(tx.audit_done(by, action, name, "").await?)
}

/// Lets somebody try again who was locked out.
pub async fn unlock(tx: &mut Write, by: By<'_>, name: &str) -> Result<(), AuthError> {
    let user = existing(tx, name).await?;
    tx.user_put(User {
        failures: 0,
        locked_until: None,
        ..user
    })
    .await?;
    Ok(tx.audit_done(by, "unlock user", name, "").await?)
}

/// Removes a user, with sessions and keys.
pub async fn remove(tx: &mut Write, by: By<'_>, name: &str) -> Result<(), AuthError> {
    existing(tx, name).await?;
    tx.user_delete(name).await?;
    Ok(tx.audit_done(by, "remove user", name, "").await?)
}

pub async fn existing(tx: &Write, name: &str) -> Result<User, AuthError> {
    tx.user(name)
        .await?
        .ok_or_else(|| AuthError::NoUser(name.to_owned()))
}

/// Before something is taken from `name`: somebody has to be left who can give it back.
pub async fn is_last_administrator(tx: &Write, name: &str) -> Result<bool, AuthError> {
    let administrators: Vec<_> = tx
        .grant_list()
        .await?
        .into_iter()
        .filter(|grant| grant.scope.0 == Scope::Everything && grant.role.0 == UserRole::Administrator)
        .map(|grant| grant.user)
        .collect();
    let users = tx.user_list().await?;
    // The glass is not to be broken because of this.
    let counts = |user: &User| user.disabled_at.is_none() && !user.break_glass;
    let others = users
        .iter()
        .any(|user| user.name != name && counts(user) && administrators.contains(&user.name));
    Ok(administrators.iter().any(|one| one == name) && !others)
}
