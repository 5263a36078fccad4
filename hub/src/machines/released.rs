//! Snapshots that a runner's store let go, and that the hub deletes.
//!
//! A snapshot is deleted only if the runner's account is the server's, and the snapshot's tags name that server: a
//! runner that was taken over can have nothing deleted but what runners of its account made.

use std::time::{Duration, Instant};

use cloud::{control::Place, route::Errand};
use domain::ids::{AccountId, RunnerId, SourceServerId};
use protocol::exchange::{Deleted, RELEASED_MAX, Released, ReleasedSnapshot};

use crate::{Hub, store::StoreError};

/// The runner waits for the answer; what is left it asks for again.
const WITHIN: Duration = Duration::from_secs(20);

pub async fn delete(hub: &Hub, runner: &RunnerId, released: Released) -> Result<Deleted, StoreError> {
    let began = Instant::now();
    let runner = hub.store.runner(runner).await?;
    let account = &runner.account.0;
    let place = Place {
        region: runner.region.clone(),
        ..hub.store.place(account, Errand::own("delete snapshots")).await?
    };
    let mut deleted = Vec::new();
    for ReleasedSnapshot { snapshot, server } in released.snapshots.into_iter().take(RELEASED_MAX) {
        if began.elapsed() > WITHIN {
            break;
        }
        if !is_in(hub, &server, account).await? {
            tracing::warn!(runner.id = %runner.id, %snapshot, server.id = %server, "a runner lets go of a snapshot of a server elsewhere");
            continue;
        }
        match hub
            .cloud
            .delete_snapshot(&place, &snapshot, server.as_str())
            .await
        {
            Ok(()) => deleted.push(snapshot),
            Err(error) => tracing::warn!(%error, %snapshot, "a snapshot is not deleted yet"),
        }
    }
    Ok(Deleted { snapshots: deleted })
}

pub(super) async fn is_in(
    hub: &Hub,
    server: &SourceServerId,
    account: &AccountId,
) -> Result<bool, StoreError> {
    match hub.store.server(server).await {
        Ok(server) => Ok(server.account.0 == *account),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
