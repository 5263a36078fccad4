//! What may go: checkpoints beyond those that are kept, and snapshots that no checkpoint names.
//!
//! A manifest leaves before its snapshots do, so that no manifest ever names a snapshot that is gone.
//! Whatever a crash leaves in between is found by its tags at the next start.

use std::collections::BTreeSet;

use cloud::snapshots::{SnapshotId, SnapshotInfo, StoreError};
use domain::checkpoint::{CheckpointNumber, retention_plan};

use crate::{
    ledger::{Forgotten, LedgerError},
    server::{PURPOSE, PURPOSE_TAG, Server, blocking},
};
use cloud::control::SERVER_TAG;

#[derive(Debug, thiserror::Error)]
pub enum HousekeepingError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lets the checkpoints go that need not be kept, and merges their snapshots. `true` if any went.
pub async fn retain(
    server: &std::sync::Arc<Server>,
    pinned: &BTreeSet<CheckpointNumber>,
    kept: u16,
) -> Result<bool, HousekeepingError> {
    let kinds: Vec<_> = {
        let ledger = server.ledger();
        let checkpoints = ledger.checkpoints().iter();
        checkpoints
            .map(|checkpoint| (checkpoint.number, checkpoint.kind))
            .collect()
    };
    let mut any = false;
    for number in retention_plan(&kinds, pinned, kept) {
        let forgotten = blocking({
            let server = std::sync::Arc::clone(server);
            move || forget(&server, number)
        })
        .await?;
        any |= forgotten == Forgotten::Yes;
    }
    let leftovers = server
        .leftovers
        .lock()
        .expect("no panic while it was held")
        .clone();
    if !leftovers.is_empty() {
        let left = sweep(server, |id| leftovers.contains(id)).await?;
        let mut leftovers = server.leftovers.lock().expect("no panic while it was held");
        leftovers.retain(|id| left.contains(id));
    }
    Ok(any)
}

/// Deletes or merges every snapshot of the server's replication that no checkpoint names. No session may
/// be open: its snapshots are such, too.
pub async fn sweep_all(server: &Server) -> Result<(), StoreError> {
    sweep(server, |_| true).await.map(|_| ())
}

fn forget(server: &Server, number: CheckpointNumber) -> Result<Forgotten, LedgerError> {
    let mut ledger = server.ledger();
    let leaving: Vec<_> = ledger
        .checkpoints()
        .iter()
        .filter(|checkpoint| checkpoint.number == number)
        .flat_map(|checkpoint| checkpoint.disks.iter().map(|disk| disk.snapshot.clone()))
        .collect();
    let forgotten = ledger.forget(number)?;
    if forgotten == Forgotten::Yes {
        tracing::debug!(server.id = %server.id, %number, "a checkpoint left");
        let named = ledger.snapshots();
        let unnamed = leaving.into_iter().filter(|id| !named.contains(id.as_str()));
        server
            .leftovers
            .lock()
            .expect("no panic while it was held")
            .extend(unnamed);
    }
    Ok(forgotten)
}

/// Removes the snapshots that no checkpoint names, out of those that `may` go, and returns what is left
/// of them.
async fn sweep(server: &Server, may: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, StoreError> {
    let store = &server.store;
    let mut stuck = BTreeSet::new();
    loop {
        let all = store.list().await?;
        let named: BTreeSet<_> = {
            let ledger = server.ledger();
            ledger.snapshots().into_iter().map(str::to_owned).collect()
        };
        let unnamed: Vec<_> = all
            .iter()
            .filter(|info| is_ours(server, info) && !named.contains(&info.id.0) && may(&info.id.0))
            .collect();
        let mut progress = false;
        for info in &unnamed {
            match fate(&all, info) {
                Fate::Delete => store.delete(&info.id).await?,
                Fate::Merge(_) if stuck.contains(&info.id) => continue,
                Fate::Merge(child) => match store.merge_into_child(&info.id, child).await {
                    // Until later snapshots hold all that it held, it must stay.
                    Err(error @ StoreError::DamagedIndex { .. }) => {
                        tracing::debug!(server.id = %server.id, %error, "a damaged snapshot stays");
                        stuck.insert(info.id.clone());
                        continue;
                    }
                    merged => merged?,
                },
                Fate::Wait => continue,
            }
            progress = true;
            break; // The list is not true any more.
        }
        if !progress {
            return Ok(unnamed.into_iter().map(|info| info.id.0.clone()).collect());
        }
    }
}

enum Fate<'a> {
    Delete,
    Merge(&'a SnapshotId),
    /// Something is based on it that is still being written, or more than one thing.
    Wait,
}

fn fate<'a>(all: &'a [SnapshotInfo], info: &SnapshotInfo) -> Fate<'a> {
    let mut children = all.iter().filter(|child| child.parent.as_ref() == Some(&info.id));
    match (children.next(), children.next()) {
        (None, _) => Fate::Delete,
        (Some(child), None) if child.committed && info.committed => Fate::Merge(&child.id),
        _ => Fate::Wait,
    }
}

fn is_ours(server: &Server, info: &SnapshotInfo) -> bool {
    let tag = |name: &str| info.tags.get(name).map(String::as_str);
    tag(SERVER_TAG) == Some(server.id.as_str()) && tag(PURPOSE_TAG) == Some(PURPOSE)
}
