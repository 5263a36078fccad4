//! What is wanted of a runner, computed from the store each time it is asked for.

use domain::ids::{RunnerId, SourceServerId};
use protocol::exchange::{Desired, DesiredServer, LONG_POLL};
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use crate::{Hub, changes::Change, store::StoreError};

/// Answers once something else is wanted than at generation `after`, or when [`LONG_POLL`] is over.
pub async fn wait(hub: &Hub, runner: &RunnerId, after: u64) -> Result<Desired, StoreError> {
    let mut changes = hub.changes.subscribe();
    let until = Instant::now() + LONG_POLL;
    loop {
        let generation = hub.store.runner(runner).await?.desired_generation.cast_unsigned();
        // Not `>`: a runner may be ahead of a hub whose store was restored from a backup.
        if generation != after || hub.stopping.is_cancelled() || Instant::now() >= until {
            return compute(hub, runner, generation).await;
        }
        tokio::select! {
            () = next_wish(&mut changes, runner) => {}
            () = tokio::time::sleep_until(until) => {}
            () = hub.stopping.cancelled() => {}
        }
    }
}

async fn next_wish(changes: &mut tokio::sync::broadcast::Receiver<Change>, runner: &RunnerId) {
    loop {
        match changes.recv().await {
            Ok(Change::Desired(of)) if of == *runner => return,
            Ok(Change::Anything) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}

/// `generation` was read before: what is computed is that old at most, and may be newer. The runner
/// then hears of the newer generation with the same content, which does no harm.
async fn compute(hub: &Hub, runner: &RunnerId, generation: u64) -> Result<Desired, StoreError> {
    let mut servers = hub.store.servers_of_runner(runner).await?;
    servers.retain(|server| !server.forgotten);
    let ids: Vec<SourceServerId> = servers.iter().map(|server| server.id.0.clone()).collect();
    let checkpoints = hub.store.checkpoints_of(&ids).await?;
    let conversions = hub.store.conversions_wanted(&ids).await?;
    let servers = servers
        .into_iter()
        .map(|server| DesiredServer {
            checkpoints_kept: server.replication_configuration().checkpoints_kept,
            replication: server.intent.0,
            checkpoint_request: server.checkpoint_request.cast_unsigned(),
            checkpoint_interval_s: server.checkpoint_interval_s.cast_unsigned(),
            bandwidth: server.bandwidth.0,
            retry_request: server.retry_request.cast_unsigned(),
            pinned: checkpoints
                .iter()
                .filter(|checkpoint| checkpoint.server == server.id && checkpoint.pinned_by.is_some())
                .map(super::super::entities::checkpoint::Model::checkpoint_number)
                .collect(),
            conversion: conversions
                .iter()
                .find(|conversion| conversion.server == server.id)
                .map(|conversion| conversion.order.0.clone()),
            id: server.id.0,
        })
        .collect();
    Ok(Desired {
        generation,
        servers,
        revoked_serials: hub.store.revoked_serials().await?,
    })
}
