//! The store: everything the hub must not forget.
//!
//! - [`Database`]: where it is, and what it is made of: SQLite or PostgreSQL.
//! - [`Reader`]: typed reads, on the store itself or within a transaction.
//! - [`Write`]: a transaction. What it changed is published when it commits, and only then.
//!
//! Methods are named noun first: `server_list`, `server_transition`.

use std::{ops::Deref, path::Path};

use domain::{IllegalTransition, ids::RunnerId};
use migrations::Migrator;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, ExprTrait, QueryFilter, Statement,
    sea_query::Expr,
};
use sea_orm_migration::MigratorTrait;

use self::{clean::Clean, sight::Sight};
use crate::{
    auth::Actor,
    changes::{Change, Changes},
    entities::{audit as audit_entry, runner, source_server},
};

pub mod accounts;
pub mod audit;
pub mod checkpoints;
pub(crate) mod clean;
pub mod conversions;
mod database;
mod dialect;
pub mod enrolment;
mod hubs;
pub mod imports;
pub mod inventories;
pub mod jobs;
pub mod ledger;
pub mod notices;
pub mod pages;
pub mod people;
pub mod readiness;
pub mod sagas;
pub mod search;
pub mod servers;
pub mod sight;
pub mod templates;
pub mod trends;
pub mod waves;

pub use database::{AddressError, Database, Server, Unopened, holds_password};
pub use hubs::{Lead, listen};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the hub's database failed")]
    Database(#[from] DbErr),
    #[error("{what} does not exist")]
    NotFound { what: String },
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

/// Typed reads over a connection or a transaction, of what is in sight.
#[derive(Debug)]
pub struct Reader<C>(pub(crate) C, Sight);

/// What pages and the API read.
pub type Seen = Reader<DatabaseConnection>;

#[derive(Debug)]
pub struct Store {
    writer: DatabaseConnection,
    readers: Reader<DatabaseConnection>,
    changes: Changes,
}

/// A transaction. Dropping it undoes everything.
#[derive(Debug)]
pub struct Write {
    tx: Reader<Clean>,
    changes: Changes,
    pending: Vec<Change>,
    audited: Vec<audit_entry::Model>,
}

impl Store {
    /// Opens the database, makes it if it is a file that is not there, and brings its schema up to date.
    pub async fn open(database: &Database, changes: Changes) -> Result<Self, Unopened> {
        let (writer, readers) = database.connect().await?;
        // Of hubs that start at once, one changes the schema, and all of it or nothing.
        let tx = database::begin(&writer).await?;
        Migrator::up(&tx.0, None).await?;
        tx.0.commit().await?;
        Ok(Self {
            writer,
            readers: Reader(readers, Sight::Everything),
            changes,
        })
    }

    /// The reads of somebody who may not see everything.
    pub fn seen_by(&self, actor: &Actor) -> Seen {
        Reader(self.readers.0.clone(), actor.sight())
    }

    pub async fn begin(&self) -> Result<Write, StoreError> {
        self.begin_in(Sight::Everything).await
    }

    /// A transaction of somebody who may not see everything.
    pub async fn begin_as(&self, actor: &Actor) -> Result<Write, StoreError> {
        self.begin_in(actor.sight()).await
    }

    async fn begin_in(&self, sight: Sight) -> Result<Write, StoreError> {
        Ok(Write {
            tx: Reader(database::begin(&self.writer).await?, sight),
            changes: self.changes.clone(),
            pending: Vec::new(),
            audited: Vec::new(),
        })
    }

    /// Copies a SQLite database as it is at this moment, while it is used.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let file = file.display().to_string().replace('\'', "''");
        let copy = format!("VACUUM INTO '{file}'");
        self.readers.0.execute_unprepared(&copy).await?;
        Ok(())
    }

    /// What SQLite finds wrong with its file.
    pub async fn damage(&self) -> Result<Vec<String>, StoreError> {
        let check = Statement::from_string(self.readers.0.get_database_backend(), "PRAGMA integrity_check");
        let rows = self.readers.0.query_all_raw(check).await?;
        let said: Result<Vec<String>, DbErr> = rows.iter().map(|row| row.try_get_by_index(0)).collect();
        Ok(said?.into_iter().filter(|line| line != "ok").collect())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.readers.0.ping().await?)
    }

    /// Ends its connections. Dropping it does so too, but without waiting.
    pub async fn close(self) {
        for pool in [self.writer, self.readers.0] {
            if let Err(error) = pool.close().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot close the database"
                );
            }
        }
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl Deref for Store {
    type Target = Reader<DatabaseConnection>;

    fn deref(&self) -> &Self::Target {
        &self.readers
    }
}

impl Deref for Write {
    type Target = Reader<Clean>;

    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}

impl Write {
    /// Makes everything durable, then tells whoever watches.
    pub async fn commit(self) -> Result<(), StoreError> {
        hubs::tell(&self.tx.0, self.changes.origin(), &self.pending).await?;
        self.tx.0.0.commit().await?;
        for entry in self.audited {
            tracing::info!(
                target: "audit",
                sequence = entry.sequence,
                actor = entry.actor,
                address = entry.address,
                action = entry.action,
                subject = entry.subject,
                outcome = ?*entry.outcome,
                detail = entry.detail,
                hash = entry.hash,
            );
        }
        for change in self.pending {
            self.changes.publish(change);
        }
        Ok(())
    }

    fn changed(&mut self, change: Change) {
        if !self.pending.contains(&change) {
            self.pending.push(change);
        }
    }

    /// Something else is wanted of `runner`: its long poll is answered when this commits. Returns the
    /// generation of what is wanted now.
    pub async fn runner_touch(&mut self, runner: &RunnerId) -> Result<u64, StoreError> {
        runner::Entity::update_many()
            .col_expr(
                runner::Column::DesiredGeneration,
                Expr::col(runner::Column::DesiredGeneration).add(1),
            )
            .filter(runner::Column::Id.eq(runner.as_str()))
            .exec(&self.tx.0)
            .await?;
        self.changed(Change::Desired(runner.clone()));
        let row = self.runner(runner).await?;
        Ok(row.desired_generation.cast_unsigned())
    }

    /// The same for the runner of a server, if it has one yet.
    pub async fn runner_of_touch(&mut self, server: &source_server::Model) -> Result<(), StoreError> {
        if let Some(runner) = &server.runner {
            self.runner_touch(runner).await?;
        }
        Ok(())
    }
}

fn not_found(what: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound {
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests;
