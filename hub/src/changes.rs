//! What has just changed, for whoever watches: pages, long polls, waiting sagas.
//!
//! A change carries an identifier and nothing else. Who receives one reads the store, so a missed or
//! repeated change does no harm; a receiver that lagged behind takes everything for changed.

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
pub struct Changes(broadcast::Sender<Change>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

impl Changes {
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }

    pub fn publish(&self, change: Change) {
        // An error means that nobody watches.
        let _ = self.0.send(change);
    }
}
