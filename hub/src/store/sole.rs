//! One hub at a time on a database: two would run every saga twice.
//!
//! PostgreSQL's lock goes with the connection that took it, and a hub that dies gives it back by that. One whose
//! connection is lost takes it again; until then, it cannot write either.

use std::{future::Future, time::Duration};

use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Server, Unopened,
    database::{PATIENCE, explained},
};

/// The number is `1 hub` in ASCII.
const ONE_HUB: &str = "SELECT pg_try_advisory_lock(210997114210)";

/// How often the connection is looked at.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Sole {
    server: Server,
    connection: PgConnection,
}

impl Sole {
    /// Waits for so long for another hub to end.
    pub async fn take(server: &Server, patience: Duration) -> Result<Self, Unopened> {
        let end = Instant::now() + patience;
        loop {
            let taken = lock(server).await;
            let taken = taken.map_err(|error| server.refused(&explained(&error)))?;
            if let Some(connection) = taken {
                let server = server.clone();
                return Ok(Self { server, connection });
            }
            if Instant::now() > end {
                return Err(server.refused("another hub runs on it"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Keeps the database until `stopping`. It is an error if another hub has come to have it.
    pub async fn keep(mut self, stopping: impl Future<Output = ()>) -> Result<(), Unopened> {
        let mut stopping = std::pin::pin!(stopping);
        loop {
            tokio::select! {
                () = &mut stopping => return Ok(()),
                () = sleep(EVERY) => {}
            }
            if let Ok(Ok(())) = timeout(PATIENCE, self.connection.ping()).await {
                continue;
            }
            match lock(&self.server).await {
                Ok(Some(connection)) => self.connection = connection,
                Ok(None) => return Err(self.server.refused("another hub has taken it over")),
                Err(error) => tracing::warn!("PostgreSQL cannot be reached: {error}"),
            }
        }
    }
}

/// The connection that has the lock, unless another has it.
async fn lock(server: &Server) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = server.connect().await?;
    let row = connection.fetch_one(sqlx::query(ONE_HUB)).await?;
    Ok(sqlx::Row::try_get::<bool, _>(&row, 0)?.then_some(connection))
}
