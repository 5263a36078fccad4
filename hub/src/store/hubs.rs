//! Several hubs on one PostgreSQL database.
//!
//! All of them answer people and machines. What one changes it tells the others with the commit that changed it, so that
//! pages, long polls and waiting steps of another hub go on at once. One [`Lead`]s: it alone runs jobs, waves and checks,
//! which two would do twice.

use std::{future::Future, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel, Statement};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Executor, PgConnection, postgres::PgListener};
use tokio::time::{sleep, timeout};

use super::{Server, Store, StoreError, Unopened, database::explained};
use crate::{
    changes::Change,
    entities::authority::{Entity, Model},
};

const CHANNEL: &str = "orglift_changes";

/// PostgreSQL takes less than 8,000 bytes.
const TOLD_MAX: usize = 7_800;

/// What one hub tells the others.
#[derive(Debug, Serialize, Deserialize)]
struct Told<'a> {
    /// Who tells it hears it, too.
    origin: &'a str,
    changes: Vec<Change>,
}

/// Tells the other hubs, with the commit if within a transaction.
pub(super) async fn tell(
    connection: &impl ConnectionTrait,
    origin: &str,
    changes: &[Change],
) -> Result<(), StoreError> {
    if connection.get_database_backend() != DbBackend::Postgres || changes.is_empty() {
        return Ok(());
    }
    let told = Told {
        origin,
        changes: changes.to_vec(),
    };
    let mut text = serde_json::to_string(&told).expect("changes are plain");
    if text.len() > TOLD_MAX {
        let told = Told {
            origin,
            changes: vec![Change::Anything],
        };
        text = serde_json::to_string(&told).expect("changes are plain");
    }
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT pg_notify($1, $2)",
        [CHANNEL.into(), text.into()],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Takes what the other hubs tell, until `stopping`. After a gap, everything may have changed.
pub async fn listen(
    server: &Server,
    origin: &str,
    stopping: impl Future<Output = ()>,
    mut take: impl FnMut(Change),
) {
    let hearing = async {
        loop {
            if let Err(error) = hear(server, origin, &mut take).await {
                tracing::warn!("other hubs are not heard: {}", explained(&error));
            }
            sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = hearing => {}
        () = stopping => {}
    }
}

async fn hear(server: &Server, origin: &str, take: &mut impl FnMut(Change)) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&server.listening()).await?;
    listener.listen(CHANNEL).await?;
    take(Change::Anything);
    while let Some(heard) = listener.try_recv().await? {
        match serde_json::from_str::<Told>(heard.payload()) {
            Ok(told) if told.origin == origin => {}
            Ok(told) => told.changes.into_iter().for_each(&mut *take),
            // A newer hub may know of changes that this one does not.
            Err(_) => take(Change::Anything),
        }
    }
    Ok(())
}

/// The number is `1 hub` in ASCII.
const ONE_LEADS: &str = "SELECT pg_try_advisory_lock(210997114210)";

/// How often a hub tries to lead, and one that leads says that it still does.
const EVERY: Duration = Duration::from_secs(1);

/// One that does not say so for this long leads no more, whatever became of it: PostgreSQL ends its connection. It notices
/// itself before that, since it waits for [`ANSWER`] at most.
const LEASE: &str = "SET idle_session_timeout = '6s'";
const ANSWER: Duration = Duration::from_secs(3);

/// The right to run jobs, waves and checks. It goes with the connection that took it.
#[derive(Debug)]
pub struct Lead(PgConnection);

impl Lead {
    /// Waits until no other hub leads.
    pub async fn take(server: &Server) -> Self {
        loop {
            match lock(server).await {
                Ok(Some(connection)) => return Self(connection),
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot lead: {}", explained(&error)),
            }
            sleep(EVERY).await;
        }
    }

    /// Keeps the lead until it is lost.
    pub async fn keep(&mut self) {
        while matches!(timeout(ANSWER, self.0.ping()).await, Ok(Ok(()))) {
            sleep(EVERY).await;
        }
    }

    /// Gives it to whoever waits for it.
    pub async fn release(self) {
        // A connection that does not answer any more is as good as ended.
        let _ = timeout(ANSWER, self.0.close()).await;
    }
}

/// The connection that has the lock, unless another has it.
async fn lock(server: &Server) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = server.connect().await?;
    connection.execute(LEASE).await?;
    let row = connection.fetch_one(sqlx::query(ONE_LEADS)).await?;
    Ok(sqlx::Row::try_get::<bool, _>(&row, 0)?.then_some(connection))
}

impl Store {
    /// Tells other hubs of something that no transaction changed.
    pub async fn tell(&self, change: Change) {
        if let Err(error) = tell(&self.readers.0, self.changes.origin(), &[change]).await {
            // They look by themselves, too, a few seconds later.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "other hubs are not told"
            );
        }
    }

    /// Writes down the authority of the first hub; any other hub has to be of the same.
    pub async fn is_of_authority(&self, sha256: &str) -> Result<(), Unopened> {
        let tx = super::database::begin(&self.writer).await?;
        match Entity::find().one(&tx).await? {
            Some(known) if known.sha256 == sha256 => return Ok(()),
            Some(known) => return Err(Unopened::Foreign(known.sha256)),
            None => {}
        }
        let row = Model {
            sha256: sha256.to_owned(),
        };
        Entity::insert(row.into_active_model())
            .exec_without_returning(&tx)
            .await?;
        tx.0.commit().await?;
        Ok(())
    }
}
