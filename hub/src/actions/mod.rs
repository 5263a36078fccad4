//! What people order, for the pages and the API alike.
//!
//! Each action takes the [`Actor`] who orders it, checks the role in the account that it concerns, records the
//! intent, adds to the audit log, and returns; reconcilers and sagas do the work. A refusal is a sentence, and is in
//! the log too.

use domain::{
    ids::{AccountId, JobId, SourceServerId},
    scope::Scope,
};

use crate::{
    Hub,
    auth::Actor,
    entities::{account, source_server, user::UserRole},
    store::{StoreError, Write},
    tokens::TokenError,
};

pub mod accounts;
pub mod applications;
pub mod audit;
pub mod inventory;
pub mod job_control;
pub mod jobs;
pub mod launch_check;
pub mod lifecycle;
pub mod machines;
pub mod naming;
pub mod notices;
pub mod people;
pub mod profile;
pub mod removal_check;
pub mod replication;
pub mod templates;
pub mod waves;

#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    #[error("{actor} is {}, and to {action} one must be {} or more", held(*.role, place), article(*.needed))]
    Forbidden {
        actor: String,
        role: Option<UserRole>,
        /// `in account 210000000001`, `everywhere`.
        place: String,
        action: &'static str,
        needed: UserRole,
    },
    /// No server could take part.
    #[error("{}", sentences(.0))]
    Refused(Vec<Refused>),
    #[error("{0}")]
    Invalid(String),
    /// Something else is in the way, as things are now.
    #[error("{0}")]
    Conflict(String),
    #[error("{what} does not exist")]
    NotFound { what: String },
    #[error("the hub's database failed; nothing was done")]
    Store(#[source] StoreError),
    #[error("the hub's own certificate cannot be read")]
    Identity(#[from] identity::IdentityError),
}

/// A server that could not take part, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub server: SourceServerId,
    pub reason: String,
}

/// A job that was made, and who could not take part in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    pub job: JobId,
    pub skipped: Vec<Refused>,
}

impl From<StoreError> for ActionError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what } => Self::NotFound { what },
            StoreError::Illegal(illegal) => Self::Invalid(illegal.to_string()),
            database @ StoreError::Database(_) => Self::Store(database),
        }
    }
}

impl From<TokenError> for ActionError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Ttl => Self::Invalid(error.to_string()),
            TokenError::Identity(source) => Self::Identity(source),
            TokenError::Store(source) => source.into(),
        }
    }
}

impl ActionError {
    fn refused(server: &SourceServerId, reason: impl Into<String>) -> Self {
        let (server, reason) = (server.clone(), reason.into());
        Self::Refused(vec![Refused { server, reason }])
    }
}

fn article(role: UserRole) -> String {
    let name = role.name();
    let article = if name.starts_with(['a', 'o']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// `a viewer in account 210000000001`
fn held(role: Option<UserRole>, place: &str) -> String {
    let role = role.map_or_else(|| "nobody".to_owned(), article);
    format!("{role} {place}")
}

fn sentences(refused: &[Refused]) -> String {
    let each: Vec<_> = refused
        .iter()
        .map(|refused| format!("{}: {}", refused.server, refused.reason))
        .collect();
    each.join("; ")
}

/// Something that somebody wants to do: who, what, to what.
struct Order<'a> {
    actor: &'a Actor,
    action: &'static str,
    subject: String,
}

impl<'a> Order<'a> {
    fn new(actor: &'a Actor, action: &'static str, subject: &dyn std::fmt::Display) -> Self {
        Self {
            actor,
            action,
            subject: subject.to_string(),
        }
    }

    /// Begins the transaction of an order that concerns all accounts.
    async fn begin_everywhere(&self, hub: &Hub, needed: UserRole) -> Result<Write, ActionError> {
        let tx = hub.store.begin_as(self.actor).await?;
        let held = self.actor.role_everywhere();
        self.require(hub, tx, held, "everywhere", needed).await
    }

    /// Begins the transaction of an order that goes no further than what its giver sees.
    async fn begin_somewhere(&self, hub: &Hub, needed: UserRole) -> Result<Write, ActionError> {
        let tx = hub.store.begin_as(self.actor).await?;
        let held = self.actor.role_somewhere();
        self.require(hub, tx, held, "at most", needed).await
    }

    /// Begins the transaction of an order for an account.
    async fn begin_in(
        &self,
        hub: &Hub,
        account: &AccountId,
        needed: UserRole,
    ) -> Result<(Write, account::Model), ActionError> {
        let tx = hub.store.begin_as(self.actor).await?;
        let account = match tx.account(account).await {
            Ok(account) => account,
            Err(error) => return self.not_found(hub, tx, error).await,
        };
        let held = self.actor.role_in(&account);
        let place = format!("in account {}", account.id);
        Ok((self.require(hub, tx, held, &place, needed).await?, account))
    }

    /// Begins the transaction of an order for all of a scope.
    async fn begin_over(&self, hub: &Hub, scope: &Scope, needed: UserRole) -> Result<Write, ActionError> {
        if let Scope::Account(account) = scope {
            return Ok(self.begin_in(hub, account, needed).await?.0);
        }
        let tx = hub.store.begin_as(self.actor).await?;
        if let Scope::Organization(id) | Scope::Unit(id, _) = scope
            && let Err(error) = tx.organization(id).await
        {
            return self.not_found(hub, tx, error).await;
        }
        let held = self.actor.role_over(scope);
        self.require(hub, tx, held, &format!("for {scope}"), needed).await
    }

    /// Begins the transaction of an order for a source server.
    async fn begin_for(
        &self,
        hub: &Hub,
        server: &SourceServerId,
        needed: UserRole,
    ) -> Result<(Write, source_server::Model), ActionError> {
        let tx = hub.store.begin_as(self.actor).await?;
        let server = match tx.server(server).await {
            Ok(server) => server,
            Err(error) => return self.not_found(hub, tx, error).await,
        };
        let held = self.actor.role_in(&tx.account(&server.account).await?);
        let place = format!("in account {}", server.account);
        Ok((self.require(hub, tx, held, &place, needed).await?, server))
    }

    /// Gives the transaction to who may, and writes down the refusal of who may not.
    async fn require(
        &self,
        hub: &Hub,
        tx: Write,
        held: Option<UserRole>,
        place: &str,
        needed: UserRole,
    ) -> Result<Write, ActionError> {
        if held >= Some(needed) {
            return Ok(tx);
        }
        drop(tx);
        self.refuse(hub, self.forbidden(held, place, needed)).await
    }

    fn forbidden(&self, held: Option<UserRole>, place: &str, needed: UserRole) -> ActionError {
        ActionError::Forbidden {
            actor: self.actor.name.clone(),
            role: held,
            place: place.to_owned(),
            action: self.action,
            needed,
        }
    }

    /// What is not there, or not for this one to see: the log keeps that it was asked for.
    async fn not_found<T>(&self, hub: &Hub, tx: Write, error: StoreError) -> Result<T, ActionError> {
        drop(tx);
        match error {
            error @ StoreError::NotFound { .. } => self.refuse(hub, error.into()).await,
            error => Err(error.into()),
        }
    }

    /// Writes down that it was done, in the transaction that did it.
    async fn done(&self, tx: Write) -> Result<(), ActionError> {
        self.done_so(tx, "").await
    }

    /// The same where the action alone does not say what was done.
    async fn done_so(&self, mut tx: Write, detail: &str) -> Result<(), ActionError> {
        tx.audit_done(self.actor, self.action, &self.subject, detail)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Writes down that it was refused, and why. The order's own transaction must be over.
    async fn refuse<T>(&self, hub: &Hub, refusal: ActionError) -> Result<T, ActionError> {
        let mut tx = hub.store.begin().await?;
        tx.audit_refused(self.actor, self.action, &self.subject, &refusal.to_string())
            .await?;
        tx.commit().await?;
        Err(refusal)
    }
}
