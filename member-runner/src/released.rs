//! Snapshots that the store let go: the hub deletes them, since only it reaches what deletes snapshots.

use std::{sync::Arc, time::Duration};

use cloud::{
    control::SERVER_TAG,
    snapshots::{SnapshotId, SnapshotInfo, SnapshotStore},
};
use protocol::exchange::{RELEASED_MAX, Released, ReleasedSnapshot};
use tokio::time::sleep;

use crate::{hub::HubClient, staging::chain};

/// How often it is looked whether there is something to delete.
const EVERY: Duration = Duration::from_secs(2);
/// What the hub could not delete, such as a snapshot in use, is asked for again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Hands over what was let go, until it is deleted.
pub(crate) async fn hand_over_for_ever(hub: HubClient, store: Arc<dyn SnapshotStore>) {
    let mut told = None;
    loop {
        match hand_over(&hub, &*store).await {
            Ok(Handed::All) => {
                told = None;
                sleep(EVERY).await;
            }
            Ok(Handed::Some) => sleep(EVERY).await,
            Ok(Handed::NoneOf(left)) => {
                if told != Some(left) {
                    tracing::warn!(
                        "{left} snapshots that are not needed any more could not be deleted yet; the hub's log says why"
                    );
                    told = Some(left);
                }
                sleep(AGAIN_AFTER).await;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&*error), "cannot have snapshots deleted; trying again");
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

enum Handed {
    All,
    Some,
    NoneOf(usize),
}

async fn hand_over(
    hub: &HubClient,
    store: &dyn SnapshotStore,
) -> Result<Handed, Box<dyn std::error::Error + Send + Sync>> {
    let mut all = store.released().await?;
    let left = all.len();
    if left == 0 {
        return Ok(Handed::All);
    }
    all.truncate(RELEASED_MAX);
    let snapshots = all.iter().filter_map(named).collect();
    let deleted = hub.delete_released(&Released { snapshots }).await?.snapshots;
    for id in &deleted {
        store.forget(&SnapshotId(id.clone())).await?;
    }
    Ok(if deleted.is_empty() {
        Handed::NoneOf(left)
    } else {
        Handed::Some
    })
}

fn named(info: &SnapshotInfo) -> Option<ReleasedSnapshot> {
    Some(ReleasedSnapshot {
        snapshot: info.id.0.clone(),
        server: info.tags.get(SERVER_TAG)?.parse().ok()?,
    })
}
