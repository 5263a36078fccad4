//! The state that every part of the hub shares.

use std::{sync::Arc, time::Duration};

use cloud::Cloud;
use tokio_util::sync::CancellationToken;

use crate::{changes::Changes, pki::Pki, store::Store};

#[derive(Debug)]
pub struct Hub {
    pub store: Store,
    pub changes: Changes,
    pub cloud: Arc<dyn Cloud>,
    pub pki: Pki,
    pub settings: Settings,
    /// Cancelled when the hub is to stop: long polls and event streams end.
    pub stopping: CancellationToken,
}

/// What an operator sets when starting the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between scheduled checkpoints of a server.
    pub checkpoint_interval: Duration,
    /// How long a launch waits for a fresh checkpoint before it refuses.
    pub checkpoint_deadline: Duration,
    /// How long a step is retried, or waits, before it fails for good.
    pub step_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            checkpoint_interval: Duration::from_secs(600),
            checkpoint_deadline: Duration::from_secs(900),
            step_deadline: Duration::from_secs(1800),
        }
    }
}
