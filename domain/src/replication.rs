//! The state of a source server's data replication.
//!
//! ```text
//! STOPPED ─start─▶ INITIATING ─▶ INITIAL_SYNC ─▶ CREATING_SNAPSHOT ─▶ CONTINUOUS ◀─▶ BACKLOG
//!                     │   ├────▶ RESCAN ────────────┘ ▲                    ▲ │
//!                     │   │                           └── next checkpoint ─│─┘
//!                     │   └──── from the last checkpoint, by changes ────────┘
//!                     └─ a failed step, or silence ─▶ STALLED ─ agent back, or retry ─▶ INITIATING
//! PAUSED and STOPPED end by the operator; DISCONNECTED is final.
//! ```
//!
//! MGN's two states of snapshot shipping belong to its agentless replication and have no counterpart here.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Replication {
    Stopped,
    Initiating(Initiation),
    /// The first copy.
    InitialSync,
    /// Digests of the whole disk are compared; only differing blocks are sent.
    Rescan,
    /// Changes wait to be sent.
    Backlog,
    CreatingSnapshot,
    Continuous,
    Paused,
    Stalled(Stall),
    Disconnected,
}

/// Where the start of replication stands: `step` is running; the steps before it are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initiation {
    pub step: InitiationStep,
}

/// Why data does not flow, in MGN's vocabulary, and in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub error: ReplicationError,
    /// What happened, to what, and what to do about it.
    pub detail: String,
    /// The step of the initiation that failed, when replication had not begun.
    pub step: Option<InitiationStep>,
}

/// MGN's `DataReplicationInitiationStepName`, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InitiationStep {
    Wait,
    CreateSecurityGroup,
    LaunchReplicationServer,
    BootReplicationServer,
    AuthenticateWithService,
    DownloadReplicationSoftware,
    CreateStagingDisks,
    AttachStagingDisks,
    PairReplicationServerWithAgent,
    ConnectAgentToReplicationServer,
    StartDataTransfer,
}

/// MGN's `DataReplicationInitiationStepStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepStatus {
    NotStarted,
    InProgress,
    Succeeded,
    Failed,
    Skipped,
}

/// MGN's `DataReplicationErrorString`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplicationError {
    AgentNotSeen,
    SnapshotsFailure,
    NotConverging,
    UnstableNetwork,
    FailedToCreateSecurityGroup,
    FailedToLaunchReplicationServer,
    FailedToBootReplicationServer,
    FailedToAuthenticateWithService,
    FailedToDownloadReplicationSoftware,
    FailedToCreateStagingDisks,
    FailedToAttachStagingDisks,
    FailedToPairReplicationServerWithAgent,
    FailedToConnectAgentToReplicationServer,
    FailedToStartDataTransfer,
    UnsupportedVmConfiguration,
    LastSnapshotJobFailed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The operator, or an agent's first sight, starts replication.
    Started,
    StepReached(InitiationStep),
    /// The first copy of a disk begins.
    FirstCopyStarted,
    /// The compare of a disk that has a checkpoint begins.
    RescanStarted,
    /// Changes are known that the runner does not hold yet.
    ChangesWaiting,
    /// Every block of this checkpoint is with the runner.
    AllBlocksSent,
    CheckpointCommitted,
    Stalled(Stall),
    /// The agent, or the network, is back.
    Recovered,
    Retried,
    Paused,
    Resumed,
    Stopped,
    Disconnected,
}

impl InitiationStep {
    pub const ALL: [Self; 11] = [
        Self::Wait,
        Self::CreateSecurityGroup,
        Self::LaunchReplicationServer,
        Self::BootReplicationServer,
        Self::AuthenticateWithService,
        Self::DownloadReplicationSoftware,
        Self::CreateStagingDisks,
        Self::AttachStagingDisks,
        Self::PairReplicationServerWithAgent,
        Self::ConnectAgentToReplicationServer,
        Self::StartDataTransfer,
    ];

    /// Steps that a standing runner makes needless: it is there before the agent is.
    fn is_skipped(self) -> bool {
        matches!(
            self,
            Self::CreateSecurityGroup
                | Self::LaunchReplicationServer
                | Self::BootReplicationServer
                | Self::DownloadReplicationSoftware
                | Self::AttachStagingDisks
        )
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "WAIT",
            Self::CreateSecurityGroup => "CREATE_SECURITY_GROUP",
            Self::LaunchReplicationServer => "LAUNCH_REPLICATION_SERVER",
            Self::BootReplicationServer => "BOOT_REPLICATION_SERVER",
            Self::AuthenticateWithService => "AUTHENTICATE_WITH_SERVICE",
            Self::DownloadReplicationSoftware => "DOWNLOAD_REPLICATION_SOFTWARE",
            Self::CreateStagingDisks => "CREATE_STAGING_DISKS",
            Self::AttachStagingDisks => "ATTACH_STAGING_DISKS",
            Self::PairReplicationServerWithAgent => "PAIR_REPLICATION_SERVER_WITH_AGENT",
            Self::ConnectAgentToReplicationServer => "CONNECT_AGENT_TO_REPLICATION_SERVER",
            Self::StartDataTransfer => "START_DATA_TRANSFER",
        }
    }
}

impl Replication {
    /// The only place where a replication state may change.
    pub fn on(self, event: Event) -> Result<Self, IllegalTransition> {
        use {Event as E, Replication as R};
        let waiting = || {
            R::Initiating(Initiation {
                step: InitiationStep::Wait,
            })
        };
        Ok(match (self, event) {
            (R::Disconnected, E::Disconnected) => R::Disconnected,
            (from @ R::Disconnected, event) => return Err(from.refuse(&event)),
            (_, E::Disconnected) => R::Disconnected,
            (_, E::Stopped) => R::Stopped,

            (R::Stopped, E::Started) => waiting(),
            (from @ R::Stopped, event) => return Err(from.refuse(&event)),

            (_, E::Paused) => R::Paused,
            (R::Paused, E::Resumed) => waiting(),
            (from @ R::Paused, event) => return Err(from.refuse(&event)),

            (_, E::Stalled(stall)) => R::Stalled(stall),
            (R::Stalled(_), E::Recovered | E::Retried) => waiting(),
            // The agent may go straight on when only one report was late.
            (R::Stalled(_) | R::Initiating(_), E::StepReached(step)) => R::Initiating(Initiation { step }),
            (R::Stalled(_) | R::Initiating(_), E::FirstCopyStarted) => R::InitialSync,
            (R::Stalled(_) | R::Initiating(_) | R::Backlog | R::Continuous, E::RescanStarted) => R::Rescan,

            // It goes on from its last checkpoint, by tracked changes.
            (R::Stalled(_) | R::Initiating(_) | R::Continuous | R::Backlog, E::ChangesWaiting) => R::Backlog,
            (R::InitialSync | R::Rescan | R::Backlog | R::Continuous, E::AllBlocksSent) => {
                R::CreatingSnapshot
            }
            (R::CreatingSnapshot, E::CheckpointCommitted) => R::Continuous,

            (from, event) => return Err(from.refuse(&event)),
        })
    }

    fn refuse(&self, event: &Event) -> IllegalTransition {
        IllegalTransition {
            subject: "data replication",
            state: self.name(),
            event: event.name(),
        }
    }

    /// MGN's name of the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Initiating(_) => "INITIATING",
            Self::InitialSync => "INITIAL_SYNC",
            Self::Rescan => "RESCAN",
            Self::Backlog => "BACKLOG",
            Self::CreatingSnapshot => "CREATING_SNAPSHOT",
            Self::Continuous => "CONTINUOUS",
            Self::Paused => "PAUSED",
            Self::Stalled(_) => "STALLED",
            Self::Disconnected => "DISCONNECTED",
        }
    }

    /// Every step of the initiation with its status, as MGN's console lists them.
    pub fn initiation(&self) -> Vec<(InitiationStep, StepStatus)> {
        let (at, at_status) = match self {
            Self::Initiating(Initiation { step }) => (Some(*step), StepStatus::InProgress),
            Self::Stalled(Stall { step: Some(step), .. }) => (Some(*step), StepStatus::Failed),
            Self::Stopped => (Some(InitiationStep::Wait), StepStatus::NotStarted),
            _ => (None, StepStatus::Succeeded),
        };
        let status = |step: InitiationStep| match at {
            Some(at) if step == at => at_status,
            Some(at) if step > at => StepStatus::NotStarted,
            _ if step.is_skipped() => StepStatus::Skipped,
            _ => StepStatus::Succeeded,
        };
        InitiationStep::ALL
            .into_iter()
            .map(|step| (step, status(step)))
            .collect()
    }
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "start replication",
            Self::StepReached(_) => "initiation step reached",
            Self::FirstCopyStarted => "first copy started",
            Self::RescanStarted => "rescan started",
            Self::ChangesWaiting => "changes waiting",
            Self::AllBlocksSent => "all blocks sent",
            Self::CheckpointCommitted => "checkpoint committed",
            Self::Stalled(_) => "stalled",
            Self::Recovered => "recovered",
            Self::Retried => "retry data replication",
            Self::Paused => "pause replication",
            Self::Resumed => "resume replication",
            Self::Stopped => "stop replication",
            Self::Disconnected => "disconnect from service",
        }
    }
}

impl ReplicationError {
    pub fn name(self) -> &'static str {
        match self {
            Self::AgentNotSeen => "AGENT_NOT_SEEN",
            Self::SnapshotsFailure => "SNAPSHOTS_FAILURE",
            Self::NotConverging => "NOT_CONVERGING",
            Self::UnstableNetwork => "UNSTABLE_NETWORK",
            Self::FailedToCreateSecurityGroup => "FAILED_TO_CREATE_SECURITY_GROUP",
            Self::FailedToLaunchReplicationServer => "FAILED_TO_LAUNCH_REPLICATION_SERVER",
            Self::FailedToBootReplicationServer => "FAILED_TO_BOOT_REPLICATION_SERVER",
            Self::FailedToAuthenticateWithService => "FAILED_TO_AUTHENTICATE_WITH_SERVICE",
            Self::FailedToDownloadReplicationSoftware => "FAILED_TO_DOWNLOAD_REPLICATION_SOFTWARE",
            Self::FailedToCreateStagingDisks => "FAILED_TO_CREATE_STAGING_DISKS",
            Self::FailedToAttachStagingDisks => "FAILED_TO_ATTACH_STAGING_DISKS",
            Self::FailedToPairReplicationServerWithAgent => "FAILED_TO_PAIR_REPLICATION_SERVER_WITH_AGENT",
            Self::FailedToConnectAgentToReplicationServer => "FAILED_TO_CONNECT_AGENT_TO_REPLICATION_SERVER",
            Self::FailedToStartDataTransfer => "FAILED_TO_START_DATA_TRANSFER",
            Self::UnsupportedVmConfiguration => "UNSUPPORTED_VM_CONFIGURATION",
            Self::LastSnapshotJobFailed => "LAST_SNAPSHOT_JOB_FAILED",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn stall(step: Option<InitiationStep>) -> Stall {
        Stall {
            error: ReplicationError::AgentNotSeen,
            detail: "silent for 30 s".into(),
            step,
        }
    }

    fn states() -> Vec<Replication> {
        vec![
            Replication::Stopped,
            Replication::Initiating(Initiation {
                step: InitiationStep::Wait,
            }),
            Replication::InitialSync,
            Replication::Rescan,
            Replication::Backlog,
            Replication::CreatingSnapshot,
            Replication::Continuous,
            Replication::Paused,
            Replication::Stalled(stall(None)),
            Replication::Disconnected,
        ]
    }

    #[test]
    fn every_state_and_every_event() {
        let events = [
            Event::Started,
            Event::StepReached(InitiationStep::AuthenticateWithService),
            Event::FirstCopyStarted,
            Event::RescanStarted,
            Event::ChangesWaiting,
            Event::AllBlocksSent,
            Event::CheckpointCommitted,
            Event::Stalled(stall(None)),
            Event::Recovered,
            Event::Retried,
            Event::Paused,
            Event::Resumed,
            Event::Stopped,
            Event::Disconnected,
        ];
        let mut table = String::new();
        for state in states() {
            writeln!(table, "{}", state.name()).unwrap();
            for event in &events {
                let outcome = state.clone().on(event.clone());
                let outcome = outcome.as_ref().map_or("-", Replication::name);
                writeln!(table, "    {}: {outcome}", event.name()).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn steps_before_the_current_one_are_done_or_skipped() {
        let mut table = String::new();
        for state in [
            Replication::Stopped,
            Replication::Initiating(Initiation {
                step: InitiationStep::CreateStagingDisks,
            }),
            Replication::Stalled(stall(Some(InitiationStep::ConnectAgentToReplicationServer))),
            Replication::Continuous,
        ] {
            writeln!(table, "{}", state.name()).unwrap();
            for (step, status) in state.initiation() {
                writeln!(table, "    {}: {status:?}", step.name()).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_state_is_stored_under_the_name_that_people_read() {
        for state in states() {
            let stored = serde_json::to_value(&state).unwrap();
            assert_eq!(stored["state"], state.name());
            assert_eq!(serde_json::from_value::<Replication>(stored).unwrap(), state);
        }
    }
}
