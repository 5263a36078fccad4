//! Quotas and times, as AWS publishes them where nothing else is said ("Amazon EBS endpoints and quotas" in the AWS
//! General Reference). Tests lower what they want to reach.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Requests per second, per account and region.
    pub start: u32,
    pub complete: u32,
    pub list: u32,
    pub put: u32,
    pub get: u32,
    /// Per snapshot.
    pub put_per_snapshot: u32,
    pub get_per_snapshot: u32,
    /// At once, per account and region.
    pub pending_snapshots: usize,
    /// From `CompleteSnapshot` until the snapshot is `completed`.
    pub completion_ms: u64,
    /// How long a minute of `Timeout` lasts.
    pub minute_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            start: 10,
            complete: 10,
            list: 50,
            put: 1000,
            get: 1000,
            put_per_snapshot: 1000,
            get_per_snapshot: 1000,
            pending_snapshots: 100,
            completion_ms: 200,
            minute_ms: 60_000,
        }
    }
}
