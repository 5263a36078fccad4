//! A source server: what is known of it, what is wanted of it, and how far it has come.

use std::collections::BTreeMap;

use domain::{
    checkpoint::{CheckpointNumber, Consistency},
    digest::Digest,
    disk::{DiskId, DiskProgress},
    ids::{AccountId, JobId, RunnerId, SourceServerId},
    launch::{LaunchConfiguration, Purpose},
    lifecycle::Lifecycle,
    replication::Replication,
    source_server::{ReplicationIntent, SourceProperties},
};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "source_servers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<SourceServerId>,
    pub account: Word<AccountId>,
    pub runner: Word<RunnerId>,
    /// Grows with each change of the life cycle.
    pub generation: i64,
    pub lifecycle: Doc<Lifecycle>,
    pub lifecycle_name: String,
    pub milestones: Doc<Milestones>,
    pub replication: Doc<Replication>,
    pub replication_name: String,
    pub intent: Word<ReplicationIntent>,
    /// The runner holds nothing of it any more.
    pub forgotten: bool,
    pub hostname: String,
    pub properties: Doc<SourceProperties>,
    pub tags: Doc<BTreeMap<String, String>>,
    pub user_provided_id: Option<String>,
    pub launch_configuration: Doc<LaunchConfiguration>,
    /// Grows with each launch that asks for a fresh checkpoint.
    pub checkpoint_request: i64,
    pub checkpoint_interval_s: i32,
    pub retry_request: i64,
    /// When the newest launchable checkpoint was taken; lag counts from here.
    pub lag_basis: Option<i64>,
    pub disks: Doc<Vec<DiskProgress>>,
    pub agent_address: Option<String>,
    pub agent_version: Option<String>,
    /// When its agent was last connected to the runner.
    pub last_seen: Option<i64>,
    pub first_byte_at: Option<i64>,
    pub created_at: i64,
    /// The job that works on it now; a second one is refused.
    pub running_job: Option<Word<JobId>>,
    pub test_launch: Doc<Option<Launch>>,
    pub cutover_launch: Doc<Option<Launch>>,
}

/// An instance that stands for the server, and the checkpoint that it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub job: JobId,
    pub instance: String,
    pub at: i64,
    pub checkpoint: CheckpointNumber,
    pub taken_at: i64,
    pub consistency: Consistency,
    /// The root digest of each disk: what the target was made of.
    pub roots: Vec<(DiskId, Digest)>,
}

/// When the life cycle was last moved by people. MGN's `lastTest` and `lastCutover`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Milestones {
    pub test: Milestone,
    pub cutover: Milestone,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Milestone {
    pub initiated_at: Option<i64>,
    pub job: Option<JobId>,
    pub reverted_at: Option<i64>,
    pub finalized_at: Option<i64>,
}

impl Model {
    pub fn launch(&self, purpose: Purpose) -> Option<&Launch> {
        match purpose {
            Purpose::Test => self.test_launch.as_ref(),
            Purpose::Cutover => self.cutover_launch.as_ref(),
        }
    }

    /// How old the newest launchable checkpoint is, in milliseconds, while replication goes on.
    pub fn lag_ms(&self, now: i64) -> Option<i64> {
        if self.lifecycle.is_final() {
            return None;
        }
        self.lag_basis.map(|taken_at| (now - taken_at).max(0))
    }

    /// What people call it: its tag `Name`, as they are used to from their cloud, or its host name.
    pub fn known_as(&self) -> &str {
        self.tags
            .get("Name")
            .filter(|name| !name.is_empty())
            .unwrap_or(&self.hostname)
    }

    pub fn is_archived(&self) -> bool {
        matches!(
            self.lifecycle.0,
            Lifecycle::Cutover { archived: true } | Lifecycle::Disconnected { archived: true }
        )
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
