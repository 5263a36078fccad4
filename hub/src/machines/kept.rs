//! What a runner kept, for one that comes in its place with nothing: the checkpoints that were reported, and the
//! snapshots that exist.
//!
//! The runner reaches nothing that lists snapshots, so that the hub does it. Whatever no checkpoint needs the runner lets
//! go, and has deleted as usual.

use cloud::{
    control::{Place, Resource, ResourceKind, SERVER_TAG},
    route::Errand,
};
use domain::ids::{RunnerId, SourceServerId};
use protocol::exchange::{Kept, KeptServer};

use crate::{Hub, store::StoreError};

/// Snapshots of a replication carry it, those of a conversion another.
const REPLICATION: (&str, &str) = ("orglift:purpose", "replication");

pub async fn of(hub: &Hub, runner: &RunnerId) -> Result<Kept, StoreError> {
    let runner = hub.store.runner(runner).await?;
    let mut servers = hub.store.servers_of_runner(&runner.id.0).await?;
    servers.retain(|server| !server.forgotten);
    if servers.is_empty() {
        return Ok(Kept { servers: Vec::new() });
    }
    let ids: Vec<SourceServerId> = servers.into_iter().map(|server| server.id.0).collect();
    let checkpoints = hub.store.checkpoints_of(&ids).await?;
    let account = &runner.account.0;
    let place = Place {
        region: runner.region.clone(),
        ..hub.store.place(account, Errand::own("list snapshots")).await?
    };
    let exist = match hub.cloud.inventory(&place).await {
        Ok(exist) => Some(exist),
        Err(error) => {
            tracing::warn!(%error, runner.id = %runner.id, "a runner that lost its folder is not told which snapshots exist");
            None
        }
    };
    let servers = ids.into_iter().map(|id| KeptServer {
        checkpoints: checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.server.0 == id)
            .map(crate::entities::checkpoint::Model::observed)
            .collect(),
        snapshots: exist.as_ref().map(|exist| replicated(exist, &id)),
        id,
    });
    Ok(Kept {
        servers: servers.collect(),
    })
}

fn replicated(exist: &[Resource], server: &SourceServerId) -> Vec<String> {
    let (name, value) = REPLICATION;
    let has = |resource: &Resource, name, value| resource.tags.get(name).map(String::as_str) == Some(value);
    exist
        .iter()
        .filter(|resource| {
            resource.kind == ResourceKind::Snapshot
                && has(resource, SERVER_TAG, server.as_str())
                && has(resource, name, value)
        })
        .map(|resource| resource.id.clone())
        .collect()
}
