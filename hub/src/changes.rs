//! What has just changed, for whoever watches: pages, long polls, waiting sagas.
//!
//! A change carries an identifier and nothing else. Who receives one reads the store, so a missed or
//! repeated change does no harm; a receiver that lagged behind takes everything for changed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use domain::ids::{AccountId, JobId, OrganizationId, RunnerId, SourceServerId, WaveId};
use tokio::sync::broadcast;

#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// Bursts come with reports of many servers at once; whoever falls behind is told so.
const CAPACITY: usize = 1024;

#[derive(Debug, Clone)]
pub struct Changes {
    sender: broadcast::Sender<Change>,
    count: Arc<AtomicU64>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(CAPACITY).0,
            count: Arc::default(),
        }
    }
}

impl Changes {
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
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
