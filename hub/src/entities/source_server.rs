//! A source server: what is known of it, what is wanted of it, and how far it has come.

use std::collections::BTreeMap;

use domain::{
    bandwidth::Bandwidth,
    checkpoint::{CheckpointNumber, Consistency},
    conversion::Inspection,
    digest::Digest,
    disk::{DiskId, DiskProgress, Tracking},
    flow::{Flow, Forecast},
    ids::{AccountId, ApplicationId, JobId, RunnerId, SourceServerId},
    launch::{LaunchConfiguration, Purpose},
    lifecycle::Lifecycle,
    readiness::Readiness,
    replication::Replication,
    replication_configuration::{CHECKPOINTS_KEPT_USUALLY, ReplicationConfiguration},
    source_server::{ReplicationIntent, SourceProperties},
};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::{Doc, Word};
use crate::clock::now_ms;

// A row has the columns that it has.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "source_servers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<SourceServerId>,
    pub account: Word<AccountId>,
    /// `None` until its agent is installed.
    pub runner: Option<Word<RunnerId>>,
    pub application: Option<Word<ApplicationId>>,
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
    /// So many launchable checkpoints stay.
    pub checkpoints_kept: i32,
    pub retry_request: i64,
    /// When the newest launchable checkpoint was taken; lag counts from here.
    pub lag_basis: Option<i64>,
    pub disks: Doc<Vec<DiskProgress>>,
    pub bandwidth: Doc<Bandwidth>,
    /// As of `last_seen`; see [`Model::flow_at`].
    pub flow: Doc<Flow>,
    /// See [`diverges`].
    pub diverges: bool,
    /// See [`is_untracked`].
    pub untracked: bool,
    /// The last look at a checkpoint.
    pub inspection: Doc<Option<Inspection>>,
    /// Follows from the inspection.
    pub readiness: Word<Readiness>,
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
    /// The rest follows from what is above: for lists, counts and searches, within an index.
    pub archived: bool,
    /// See [`Model::known_as`].
    pub name: String,
    /// See [`Model::to_be_sought`].
    pub sought: String,
    pub replicated_bytes: i64,
    /// When the newest point of its trend was measured.
    pub measured_at: i64,
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

/// In characters. PostgreSQL indexes 2,704 bytes of a row at most, and every search reads what is sought of every server.
const NAME_MAX: usize = 128;
const SOUGHT_MAX: usize = 480;

/// A flow is that of a moment: an agent that was not seen for so long may do anything by now.
const FLOW_KEPT_MS: i64 = 20_000;

/// Whether more is written than gets through, so that replication never catches up.
pub fn diverges(flow: &Flow) -> bool {
    matches!(flow.forecast, Some(Forecast::Diverges { .. }))
}

/// Whether whole disks are compared although a person could change that.
pub fn is_untracked(disks: &[DiskProgress]) -> bool {
    let curable =
        |disk: &DiskProgress| matches!(&disk.tracking, Some(Tracking::Rescan { remedy: Some(_), .. }));
    disks.iter().any(curable)
}

impl Model {
    /// One that nothing is known of but this.
    pub fn new(
        id: SourceServerId,
        account: AccountId,
        lifecycle: Lifecycle,
        replication: Replication,
        properties: SourceProperties,
        configuration: &ReplicationConfiguration,
    ) -> Self {
        let intent = match replication {
            Replication::Stopped => ReplicationIntent::Stopped,
            _ => ReplicationIntent::Run,
        };
        Self {
            id: Word(id),
            account: Word(account),
            runner: None,
            application: None,
            generation: 0,
            lifecycle_name: lifecycle.name().to_owned(),
            lifecycle: Doc(lifecycle),
            milestones: Doc(Milestones::default()),
            replication_name: replication.name().to_owned(),
            replication: Doc(replication),
            intent: Word(intent),
            forgotten: false,
            hostname: properties.hostname.clone(),
            properties: Doc(properties),
            tags: Doc(BTreeMap::new()),
            user_provided_id: None,
            launch_configuration: Doc(LaunchConfiguration::default()),
            checkpoint_request: 0,
            checkpoint_interval_s: configuration.checkpoint_interval_s.cast_signed(),
            checkpoints_kept: configuration.checkpoints_kept.into(),
            retry_request: 0,
            lag_basis: None,
            disks: Doc(Vec::new()),
            bandwidth: Doc(configuration.bandwidth.clone()),
            flow: Doc(Flow::default()),
            diverges: false,
            untracked: false,
            inspection: Doc(None),
            readiness: Word(Readiness::NotInspected),
            agent_address: None,
            agent_version: None,
            last_seen: None,
            first_byte_at: None,
            created_at: now_ms(),
            running_job: None,
            test_launch: Doc(None),
            cutover_launch: Doc(None),
            archived: false,
            name: String::new(),
            sought: String::new(),
            replicated_bytes: 0,
            measured_at: 0,
        }
        .with_what_follows()
    }

    /// With the columns that follow from others as they have to be.
    #[must_use]
    pub fn with_what_follows(mut self) -> Self {
        self.archived = self.is_archived();
        self.name = self.known_as().chars().take(NAME_MAX).collect();
        self.sought = self.to_be_sought();
        let bytes = self
            .disks
            .iter()
            .map(|disk| disk.replicated_bytes.min(disk.total_bytes))
            .sum::<u64>();
        self.replicated_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// By what people look for it, in small letters.
    fn to_be_sought(&self) -> String {
        let addresses = self
            .properties
            .network_interfaces
            .iter()
            .flat_map(|interface| &interface.ips);
        let texts = [
            self.known_as(),
            &self.hostname,
            &self.properties.fqdn,
            self.id.as_str(),
            self.user_provided_id.as_deref().unwrap_or_default(),
            self.agent_address.as_deref().unwrap_or_default(),
            &self.properties.os,
        ];
        let tags = self.tags.iter().filter(|(key, _)| *key != "Name");
        let tags = tags.map(|(key, value)| format!("{key}={value}"));
        let texts = texts.into_iter().map(str::to_owned);
        let all: Vec<_> = texts.chain(addresses.cloned()).chain(tags).collect();
        all.join(" ").to_lowercase().chars().take(SOUGHT_MAX).collect()
    }

    pub fn replication_configuration(&self) -> ReplicationConfiguration {
        ReplicationConfiguration {
            bandwidth: self.bandwidth.0.clone(),
            checkpoint_interval_s: self.checkpoint_interval_s.cast_unsigned(),
            checkpoints_kept: u16::try_from(self.checkpoints_kept).unwrap_or(CHECKPOINTS_KEPT_USUALLY),
        }
    }

    #[must_use]
    pub fn replicated_by(mut self, configuration: &ReplicationConfiguration) -> Self {
        self.bandwidth = Doc(configuration.bandwidth.clone());
        self.checkpoint_interval_s = configuration.checkpoint_interval_s.cast_signed();
        self.checkpoints_kept = configuration.checkpoints_kept.into();
        self
    }

    /// How data flows, as far as that is known at `now`.
    pub fn flow_at(&self, now: i64) -> Option<&Flow> {
        let flows = self.intent.0 == ReplicationIntent::Run && !self.lifecycle.is_final();
        let seen = self.last_seen?;
        (flows && now - seen < FLOW_KEPT_MS).then_some(&self.flow.0)
    }

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

    /// For sentences.
    pub fn runner_name(&self) -> String {
        self.runner
            .as_ref()
            .map_or_else(|| "(none)".to_owned(), ToString::to_string)
    }

    /// What people call it: its tag `Name`, as they are used to from their cloud, or its host name.
    pub fn known_as(&self) -> &str {
        self.tags
            .get("Name")
            .filter(|name| !name.is_empty())
            .unwrap_or(&self.hostname)
    }

    pub fn is_archived(&self) -> bool {
        self.lifecycle.is_archived()
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
