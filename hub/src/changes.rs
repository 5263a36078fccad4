//! What has just changed, for whoever watches: pages, long polls, waiting sagas.
//!
//! A change carries an identifier and nothing else. Who receives one reads the store, so a missed or
//! repeated change does no harm; a receiver that lagged behind takes everything for changed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use domain::ids::{AccountId, JobId, OrganizationId, RunnerId, SourceServerId, WaveId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Organization(OrganizationId),
    Account(AccountId),
    Server {
        server: SourceServerId,
        account: AccountId,
    },
    Job(JobId),
    /// A wave, or an application that may be in it.
    Wave(Option<WaveId>),
    /// A runner reported, enrolled or was revoked.
    Runner {
        runner: RunnerId,
        account: AccountId,
    },
    /// Something else is wanted of the runner.
    Desired(RunnerId),
    /// There is work for the hub that leads.
    Wanted(Work),
    /// Something was missed: whatever it was may have changed.
    Anything,
}

/// What the hub that leads does by itself, and looks for now and then if nobody tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    Sagas,
    Accounts,
    Readiness,
    Inventories,
    Waves,
}

impl Work {
    pub const ALL: [Self; 5] = [
        Self::Sagas,
        Self::Accounts,
        Self::Readiness,
        Self::Inventories,
        Self::Waves,
    ];
}

/// Bursts come with reports of many servers at once; whoever falls behind is told so.
const CAPACITY: usize = 1024;

#[derive(Debug, Clone)]
pub struct Changes {
    sender: broadcast::Sender<Change>,
    count: Arc<AtomicU64>,
    origin: Arc<str>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(CAPACITY).0,
            count: Arc::default(),
            origin: format!("{:016x}", rand::random::<u64>()).into(),
        }
    }
}

impl Changes {
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    /// By which other hubs tell this one from themselves.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many there were: as long as it stays the same, nothing has changed.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub fn publish(&self, change: Change) {
        self.count.fetch_add(1, Ordering::Release);
        // An error means that nobody watches.
        let _ = self.sender.send(change);
    }
}
