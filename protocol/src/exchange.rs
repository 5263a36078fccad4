//! The exchange between a runner and the hub: `POST /v1/observed` says what is, and
//! `GET /v1/desired?after=N` waits for what is wanted. Both carry everything each time, so that a lost
//! message or a restart of either side needs no replay. The runner's certificate says who it is.

use domain::{
    bandwidth::Bandwidth,
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    conversion::{Conversion, ConversionOrder, Inspection},
    digest::Digest,
    disk::{DiskId, DiskProgress},
    flow::Flow,
    ids::SourceServerId,
    replication::Replication,
    replication_configuration::CHECKPOINTS_KEPT_USUALLY,
    source_server::{ReplicationIntent, SourceProperties},
};
use serde::{Deserialize, Serialize};

/// How long the hub holds a `GET /v1/desired` open while nothing changes.
pub const LONG_POLL: std::time::Duration = std::time::Duration::from_secs(20);

/// A runner reports at least this often, and sooner when something changed.
pub const OBSERVED_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Everything the hub wants of one runner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// Grows whenever anything in here changes; the runner waits for one greater than it has.
    pub generation: u64,
    pub servers: Vec<DesiredServer>,
    /// Serial numbers, in hexadecimal, of certificates that were revoked before their time.
    pub revoked_serials: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredServer {
    pub id: SourceServerId,
    pub replication: ReplicationIntent,
    /// Grows with each launch that asks for a fresh checkpoint.
    pub checkpoint_request: u64,
    pub checkpoint_interval_s: u32,
    /// So many launchable checkpoints stay.
    #[serde(default = "kept_usually")]
    pub checkpoints_kept: u16,
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// Grows with each order to retry a stalled replication at once.
    pub retry_request: u64,
    /// Checkpoints that a job uses and that must not be merged.
    pub pinned: Vec<CheckpointNumber>,
    /// What a job waits for. What an earlier order made may go once it is not wanted any more.
    #[serde(default)]
    pub conversion: Option<ConversionOrder>,
}

/// A hub of an earlier version does not say.
fn kept_usually() -> u16 {
    CHECKPOINTS_KEPT_USUALLY
}

/// Everything one runner knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The generation of the Desired that the runner has taken up.
    pub generation: u64,
    pub runner_version: String,
    /// Room left in the staging area, where it is bounded.
    pub staging_free_bytes: Option<u64>,
    /// So many checkpoints would be lost with the runner, where it keeps an index elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_behind: Option<u64>,
    pub servers: Vec<ObservedServer>,
    /// Agents that were turned away since the last report, and why: the console names them.
    pub turned_away: Vec<TurnedAway>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedServer {
    pub id: SourceServerId,
    pub replication: Replication,
    pub agent: Option<ObservedAgent>,
    pub disks: Vec<DiskProgress>,
    #[serde(default)]
    pub flow: Flow,
    /// The greatest checkpoint request whose answer cannot be lost any more, launchable already or not.
    #[serde(default)]
    pub durable_request: u64,
    /// Committed checkpoints, oldest first.
    pub checkpoints: Vec<ObservedCheckpoint>,
    /// What the newest launchable checkpoint that was looked at shows of booting elsewhere.
    #[serde(default)]
    pub inspection: Option<Inspection>,
    #[serde(default)]
    pub conversion: Option<Conversion>,
    /// Set once a server that was to be disconnected is: nothing of it is left with the runner.
    pub forgotten: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedAgent {
    pub address: String,
    pub agent_version: String,
    pub properties: SourceProperties,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedCheckpoint {
    pub number: CheckpointNumber,
    pub kind: CheckpointKind,
    pub consistency: Consistency,
    /// By the source's clock, milliseconds since 1970.
    pub taken_at_ms: i64,
    /// The greatest checkpoint request that it answers.
    pub request: u64,
    /// For how long file systems stood still, in milliseconds.
    #[serde(default)]
    pub frozen_ms: u32,
    /// Payload that came for it over the network.
    #[serde(default)]
    pub received_bytes: u64,
    /// What of it is damaged in the store, in words: it cannot be launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    pub disks: Vec<ObservedSnapshot>,
}

/// One disk's part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedSnapshot {
    pub disk: DiskId,
    /// What the source called the disk.
    pub device_name: String,
    pub is_boot: bool,
    pub bytes: u64,
    /// The snapshot's id in the account's snapshot store.
    pub snapshot: String,
    /// BLAKE3 over the digests of all blocks.
    pub root: Digest,
}

/// At most so many are named in one [`Released`].
pub const RELEASED_MAX: usize = 50;

/// `POST /v1/released`: snapshots that the runner needs no more, and cannot delete itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    pub snapshots: Vec<ReleasedSnapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedSnapshot {
    pub snapshot: String,
    /// The source server that its tags name.
    pub server: SourceServerId,
}

/// Those of a [`Released`] that are gone now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub snapshots: Vec<String>,
}

/// `POST /v1/copies`: a snapshot that is to be copied under another key. It is repeated until the copy is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyAsked {
    pub snapshot: String,
    /// The source server that its tags name.
    pub server: SourceServerId,
    /// The ARN of a KMS key.
    pub key: String,
    /// As it was answered before.
    pub copy: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyAnswer {
    pub copy: String,
    pub complete: bool,
}

/// `GET /v1/kept`: what is known of what a runner kept before it lost its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub servers: Vec<KeptServer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptServer {
    pub id: SourceServerId,
    /// As they were reported last, oldest first.
    pub checkpoints: Vec<ObservedCheckpoint>,
    /// Snapshots in the account that were made for the server's replication; `None` if nobody can tell.
    pub snapshots: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAway {
    pub address: String,
    /// The server that the agent claimed to be, as far as it got.
    pub server: Option<SourceServerId>,
    pub reason: String,
    pub at_ms: i64,
}
