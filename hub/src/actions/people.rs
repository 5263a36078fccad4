//! Who may do what: orders of those who administer everything.

use domain::scope::Scope;

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::{
        Actor, AuthError, Grant, keys, password,
        people::{self, NewUser, is_last_administrator},
        second_factor,
    },
    entities::user::{Model as User, UserRole},
    store::Write,
};

/// What may be done to a user without saying more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Unlock,
    RemoveSecondFactor,
    EndSessions,
    Disable,
    Enable,
    Remove,
}

impl Measure {
    pub const ALL: [Self; 6] = [
        Self::Unlock,
        Self::RemoveSecondFactor,
        Self::EndSessions,
        Self::Disable,
        Self::Enable,
        Self::Remove,
    ];

    /// Its name in addresses.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Unlock => "unlock",
            Self::RemoveSecondFactor => "remove-second-factor",
            Self::EndSessions => "end-sessions",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Remove => "remove",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unlock => "unlock a user",
            Self::RemoveSecondFactor => "remove a second factor",
            Self::EndSessions => "end a user's sessions",
            Self::Disable => "disable a user",
            Self::Enable => "enable a user",
            Self::Remove => "remove a user",
        }
    }
}

/// Adds a user. Returns the one-time password, which is shown this once.
pub async fn add(hub: &Hub, actor: &Actor, name: &str, grants: Vec<Grant>) -> Result<String, ActionError> {
    let order = Order::new(actor, "add a user", &name);
    let secret = password::one_time();
    let new = NewUser {
        name: name.to_owned(),
        grants,
        password: secret.clone(),
        one_time: true,
        break_glass: false,
    };
    let new = match new.prepare().await {
        Ok(new) => new,
        Err(error) => return order.refuse(hub, error.into()).await,
    };
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let done = people::add(&mut tx, actor.into(), new).await;
    order.commit(hub, tx, done).await?;
    Ok(secret)
}

/// Gives a user another one-time password, and returns it.
pub async fn reset_password(hub: &Hub, actor: &Actor, name: &str) -> Result<String, ActionError> {
    let order = Order::new(actor, "set a password", &name);
    let secret = password::one_time();
    let hashed = password::hash(secret.clone()).await?;
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let done = async {
        let mut user = people::existing(&tx, name).await?;
        people::set_password(&mut tx, actor.into(), &mut user, hashed, true, None).await
    }
    .await;
    order.commit(hub, tx, done).await?;
    Ok(secret)
}

pub async fn grant(hub: &Hub, actor: &Actor, name: &str, grant: Grant) -> Result<(), ActionError> {
    let order = Order::new(actor, "grant", &name);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let done = async {
        grants_are_ours(hub, &tx, name).await?;
        if grant.scope == Scope::Everything && grant.role < UserRole::Administrator {
            somebody_is_left(&tx, name).await?;
        }
        people::grant(&mut tx, actor.into(), name, grant).await
    }
    .await;
    order.commit(hub, tx, done).await
}

pub async fn revoke(hub: &Hub, actor: &Actor, name: &str, scope: &Scope) -> Result<(), ActionError> {
    let order = Order::new(actor, "revoke", &name);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let done = async {
        grants_are_ours(hub, &tx, name).await?;
        if *scope == Scope::Everything {
            somebody_is_left(&tx, name).await?;
        }
        people::revoke(&mut tx, actor.into(), name, scope).await
    }
    .await;
    order.commit(hub, tx, done).await
}

pub async fn carry_out(hub: &Hub, actor: &Actor, name: &str, measure: Measure) -> Result<(), ActionError> {
    let order = Order::new(actor, measure.name(), &name);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let done = measured(&mut tx, actor, name, measure).await;
    order.commit(hub, tx, done).await
}

async fn measured(tx: &mut Write, actor: &Actor, name: &str, measure: Measure) -> Result<(), AuthError> {
    let by = actor.into();
    match measure {
        Measure::Unlock => people::unlock(tx, by, name).await,
        Measure::RemoveSecondFactor => {
            let mut user = people::existing(tx, name).await?;
            second_factor::remove(tx, by, &mut user).await
        }
        Measure::EndSessions => {
            people::existing(tx, name).await?;
            tx.sessions_end(name, None).await?;
            Ok(tx.audit_done(by, measure.name(), name, "").await?)
        }
        Measure::Disable | Measure::Enable => {
            let disable = measure == Measure::Disable;
            if disable {
                somebody_is_left(tx, name).await?;
            }
            people::set_disabled(tx, by, name, disable).await
        }
        Measure::Remove => {
            somebody_is_left(tx, name).await?;
            people::remove(tx, by, name).await
        }
    }
}

/// Takes away a key of anybody.
pub async fn remove_key(hub: &Hub, actor: &Actor, name: &str, key: &str) -> Result<(), ActionError> {
    let order = Order::new(actor, "remove an API key", &name);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let done = keys::remove(&mut tx, actor.into(), name, key).await;
    order.commit(hub, tx, done).await
}

async fn somebody_is_left(tx: &Write, name: &str) -> Result<(), AuthError> {
    if is_last_administrator(tx, name).await? {
        return Err(AuthError::LastAdministrator(name.to_owned()));
    }
    Ok(())
}

async fn grants_are_ours(hub: &Hub, tx: &Write, name: &str) -> Result<(), AuthError> {
    if grants_are_theirs(hub, &people::existing(tx, name).await?) {
        return Err(AuthError::GrantsFromProvider(name.to_owned()));
    }
    Ok(())
}

/// Whether the identity provider says at each sign-in what this user may do.
pub fn grants_are_theirs(hub: &Hub, user: &User) -> bool {
    let rules = hub
        .settings
        .oidc
        .as_ref()
        .is_some_and(|oidc| !oidc.grants.is_empty());
    user.subject.is_some() && rules
}

impl Order<'_> {
    /// Makes durable what was done, which the log has already, or writes down why it was not.
    async fn commit(&self, hub: &Hub, tx: Write, done: Result<(), AuthError>) -> Result<(), ActionError> {
        match done {
            Ok(()) => Ok(tx.commit().await?),
            Err(error) => {
                drop(tx);
                self.refuse(hub, error.into()).await
            }
        }
    }
}

impl From<AuthError> for ActionError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(error) => error.into(),
            AuthError::NoUser(name) => Self::NotFound {
                what: format!("the user {name}"),
            },
            other => Self::Invalid(other.to_string()),
        }
    }
}
