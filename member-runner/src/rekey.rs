//! Snapshots that go on under another key: the hub has them copied, since only it reaches what copies snapshots.

use std::{sync::Arc, time::Duration};

use cloud::snapshots::{CopyWish, DiskHead, SnapshotId, SnapshotStore};
use protocol::exchange::{CopyAsked, Observed};
use tokio::time::sleep;

use crate::{hub::HubClient, runner::Runner, staging::chain};

/// Keys change once in years, and a copy takes minutes.
const EVERY: Duration = Duration::from_secs(15);

pub(crate) async fn copy_for_ever(hub: HubClient, runner: Arc<Runner>, store: Arc<dyn SnapshotStore>) {
    let observed = runner.observed();
    let mut told = String::new();
    loop {
        let heads = heads(&observed.borrow());
        let failed = match copy(&hub, &*store, &heads).await {
            Ok(()) => String::new(),
            Err(error) => chain(&*error),
        };
        if failed != told && !failed.is_empty() {
            tracing::warn!(error = %failed, "snapshots are not under the new key yet; trying again");
        }
        told = failed;
        sleep(EVERY).await;
    }
}

async fn copy(
    hub: &HubClient,
    store: &dyn SnapshotStore,
    heads: &[DiskHead],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for wish in store.to_copy(heads).await? {
        let CopyWish {
            original,
            server,
            key,
            copy,
        } = wish;
        let answer = hub
            .copy(&CopyAsked {
                snapshot: original.0.clone(),
                server: server.clone(),
                key: key.clone(),
                copy: copy.as_ref().map(|copy| copy.0.clone()),
            })
            .await?;
        let (is_new, copied) = (copy.is_none(), SnapshotId(answer.copy));
        store.copied(&original, &copied, answer.complete).await?;
        if is_new || answer.complete {
            let is_complete = answer.complete;
            tracing::info!(server.id = %server, snapshot = %original, %copied, %key, is_complete, "a snapshot is copied under the new key");
        }
    }
    Ok(())
}

/// Of all disks of all servers, as they were reported last.
fn heads(observed: &Observed) -> Vec<DiskHead> {
    let servers = observed.servers.iter();
    let heads = servers.flat_map(|server| {
        let newest = server.checkpoints.last();
        newest.into_iter().flat_map(|newest| {
            newest.disks.iter().map(|disk| DiskHead {
                server: server.id.clone(),
                disk: disk.disk.clone(),
                snapshot: SnapshotId(disk.snapshot.clone()),
            })
        })
    });
    heads.collect()
}
