//! What an ending removes from the account, and what it leaves: one rule, for the jobs that do it and for the page and
//! the API that say so before.

use cloud::control::{Resource, ResourceKind, TOKEN_TAG};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Item, Standing, of_server, reconcile};
use crate::entities::{
    ledger,
    source_server::{self, Launch},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    TerminateInstances,
    FinalizeCutover,
    Disconnect,
    CleanUp,
}

impl Removal {
    /// Whether what this entry of the ledger stands for stays.
    pub fn keeps(self, entry: &ledger::Model, server: &source_server::Model) -> bool {
        let is_of =
            |launch: Option<&Launch>| launch.map(|launch| &launch.instance) == entry.resource.as_ref();
        let is_known = entry.resource.is_some();
        let is_test = is_known && is_of(server.test_launch.as_ref());
        let is_cutover = is_known && is_of(server.cutover_launch.as_ref());
        match self {
            Self::TerminateInstances => !is_test && !is_cutover,
            // It is production.
            Self::FinalizeCutover => is_cutover,
            // As MGN does: launched instances are left to whoever launched them.
            Self::Disconnect => is_test || is_cutover,
            // The server's launch template stays as long as the server does.
            Self::CleanUp => is_test || is_cutover || entry.kind.0 == ResourceKind::LaunchTemplate,
        }
    }

    /// Whether the runner goes on holding checkpoints, which are the snapshots.
    pub fn keeps_checkpoints(self) -> bool {
        match self {
            Self::TerminateInstances | Self::CleanUp => true,
            Self::FinalizeCutover | Self::Disconnect => false,
        }
    }
}

/// What an ending would do to everything that carries the mark of a source server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Foreseen {
    pub removed: Vec<Item>,
    pub kept: Vec<Item>,
    /// Not known well enough to be removed. Each has a remedy.
    pub left_alone: Vec<Item>,
}

/// `inventory` is what the account has now, of whatever server; `ledger` has the rows of this one.
pub fn foresee(
    removal: Removal,
    inventory: &[Resource],
    ledger: &[ledger::Model],
    server: &source_server::Model,
) -> Foreseen {
    let inventory = of_server(inventory, &server.id);
    let items = reconcile(&inventory, ledger, std::slice::from_ref(server));
    let mut foreseen = Foreseen::default();
    for (resource, item) in inventory.iter().zip(items) {
        let row = ledger
            .iter()
            .find(|row| resource.tags.get(TOKEN_TAG) == Some(&row.token.0.0));
        let fate = match item.standing {
            Standing::Ours if item.kind == ResourceKind::Snapshot && removal.keeps_checkpoints() => {
                &mut foreseen.kept
            }
            Standing::Ours if row.is_some_and(|row| removal.keeps(row, server)) => &mut foreseen.kept,
            Standing::Ours => &mut foreseen.removed,
            Standing::HandedOver => &mut foreseen.kept,
            _ => &mut foreseen.left_alone,
        };
        fate.push(item);
    }
    foreseen
}

impl Foreseen {
    pub fn json(&self) -> Value {
        let items = |items: &[Item]| items.iter().map(Item::json).collect::<Vec<_>>();
        json!({
            "removed": items(&self.removed),
            "kept": items(&self.kept),
            "leftAlone": items(&self.left_alone),
        })
    }
}
