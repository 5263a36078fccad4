//! The life cycle of a source server.
//!
//! ```text
//! DISCOVERED ─┐                     ┌────────── test again ─────────┐
//! PENDING_… ──┴▶ NOT_READY ─▶ READY_FOR_TEST ─▶ TESTING ─▶ READY_FOR_CUTOVER ─▶ CUTTING_OVER ─▶ CUTOVER
//!                    ▲  │            ▲  │           revert ◀──────┘  ▲ ◀── revert ──┘
//!             start  │  ▼ stop       └──┴─ skip the test ────────────┘
//!                   STOPPED                       any state but CUTOVER ─▶ DISCONNECTED
//! ```
//!
//! Source of the transitions: MGN User Guide "Migration dashboard", API reference
//! `StartTest`, `StartCutover`, `ChangeServerLifeCycleState`, `FinalizeCutover`,
//! `DisconnectFromService`, `MarkAsArchived`, `TerminateTargetInstances`.

use serde::{Deserialize, Serialize};

use crate::{IllegalTransition, ids::JobId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Lifecycle {
    /// Known from a hypervisor's inventory; no agent.
    Discovered,
    /// Named by an import; no agent yet.
    PendingInstallation,
    /// The agent is installed and replication is switched off.
    Stopped,
    /// Replicating, but without a checkpoint that could be launched.
    NotReady,
    ReadyForTest,
    /// `job` launched, or is launching, the test instance.
    Testing {
        job: JobId,
    },
    ReadyForCutover,
    /// `job` launched, or is launching, the cutover instance.
    CuttingOver {
        job: JobId,
    },
    /// Finalized: the instance is production, replication is over.
    Cutover {
        archived: bool,
    },
    Disconnected {
        archived: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    AgentInstalled,
    AgentInstalledWithoutReplication,
    FirstLaunchableCheckpoint,
    ReplicationStarted,
    ReplicationStopped,
    TestStarted(JobId),
    TestFailed(JobId),
    MarkedReadyForCutover,
    RevertedToReadyForTest,
    CutoverStarted(JobId),
    CutoverFailed(JobId),
    RevertedToReadyForCutover,
    Finalized,
    TargetTerminationStarted,
    Disconnected,
    Archived,
}

impl Lifecycle {
    /// The only place where a life cycle may change.
    pub fn on(self, event: Event) -> Result<Self, IllegalTransition> {
        use {Event as E, Lifecycle as L};
        Ok(match (self, event) {
            (L::Discovered | L::PendingInstallation, E::AgentInstalled) => L::NotReady,
            (L::Discovered | L::PendingInstallation, E::AgentInstalledWithoutReplication) => L::Stopped,

            (L::NotReady, E::FirstLaunchableCheckpoint) => L::ReadyForTest,
            (L::Stopped, E::ReplicationStarted) => L::NotReady,
            // A launched instance must be decided on first: it may be all that is left of the work in it.
            (L::NotReady | L::ReadyForTest | L::ReadyForCutover, E::ReplicationStopped) => L::Stopped,

            (L::ReadyForTest | L::Testing { .. }, E::TestStarted(job)) => L::Testing { job },
            // A report about an earlier job must not end the current one.
            (L::Testing { job }, E::TestFailed(failed)) if job == failed => L::ReadyForTest,
            // From READY_FOR_TEST as well: the API lets people skip the test.
            (L::ReadyForTest | L::Testing { .. }, E::MarkedReadyForCutover) => L::ReadyForCutover,
            (L::Testing { .. } | L::ReadyForCutover, E::RevertedToReadyForTest) => L::ReadyForTest,

            (L::ReadyForCutover | L::CuttingOver { .. }, E::CutoverStarted(job)) => L::CuttingOver { job },
            (L::CuttingOver { job }, E::CutoverFailed(failed)) if job == failed => L::ReadyForCutover,
            (L::CuttingOver { .. }, E::RevertedToReadyForCutover) => L::ReadyForCutover,
            (L::CuttingOver { .. }, E::Finalized) => L::Cutover { archived: false },

            // Not while the instance is being judged, and never once it is production.
            (
                state @ (L::ReadyForTest
                | L::ReadyForCutover
                | L::Stopped
                | L::NotReady
                | L::Disconnected { .. }),
                E::TargetTerminationStarted,
            ) => state,

            (
                L::Discovered
                | L::PendingInstallation
                | L::Stopped
                | L::NotReady
                | L::ReadyForTest
                | L::Testing { .. }
                | L::ReadyForCutover
                | L::CuttingOver { .. },
                E::Disconnected,
            ) => L::Disconnected { archived: false },
            // Finalizing has disconnected it already. It stays CUTOVER: as DISCONNECTED, the instance that is
            // production now could be terminated.
            (state @ (L::Cutover { .. } | L::Disconnected { .. }), E::Disconnected) => state,
            (L::Cutover { .. }, E::Archived) => L::Cutover { archived: true },
            (L::Disconnected { .. }, E::Archived) => L::Disconnected { archived: true },

            (from, event) => {
                return Err(IllegalTransition {
                    subject: "a source server",
                    state: from.name(),
                    event: event.name(),
                });
            }
        })
    }

    /// MGN's name of the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Discovered => "DISCOVERED",
            Self::PendingInstallation => "PENDING_INSTALLATION",
            Self::Stopped => "STOPPED",
            Self::NotReady => "NOT_READY",
            Self::ReadyForTest => "READY_FOR_TEST",
            Self::Testing { .. } => "TESTING",
            Self::ReadyForCutover => "READY_FOR_CUTOVER",
            Self::CuttingOver { .. } => "CUTTING_OVER",
            Self::Cutover { .. } => "CUTOVER",
            Self::Disconnected { .. } => "DISCONNECTED",
        }
    }

    /// Whether this state ends the migration: replication is over for good.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Cutover { .. } | Self::Disconnected { .. })
    }

    pub fn is_archived(&self) -> bool {
        matches!(
            self,
            Self::Cutover { archived: true } | Self::Disconnected { archived: true }
        )
    }

    /// Every state's name, in the order of the journey.
    pub const NAMES: [&'static str; 10] = [
        "DISCOVERED",
        "PENDING_INSTALLATION",
        "STOPPED",
        "NOT_READY",
        "READY_FOR_TEST",
        "TESTING",
        "READY_FOR_CUTOVER",
        "CUTTING_OVER",
        "CUTOVER",
        "DISCONNECTED",
    ];
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Self::AgentInstalled => "agent installed",
            Self::AgentInstalledWithoutReplication => "agent installed without replication",
            Self::FirstLaunchableCheckpoint => "first launchable checkpoint",
            Self::ReplicationStarted => "start replication",
            Self::ReplicationStopped => "stop replication",
            Self::TestStarted(_) => "start test",
            Self::TestFailed(_) => "test failed",
            Self::MarkedReadyForCutover => "mark as ready for cutover",
            Self::RevertedToReadyForTest => "revert to ready for testing",
            Self::CutoverStarted(_) => "start cutover",
            Self::CutoverFailed(_) => "cutover failed",
            Self::RevertedToReadyForCutover => "revert to ready for cutover",
            Self::Finalized => "finalize cutover",
            Self::TargetTerminationStarted => "terminate target instances",
            Self::Disconnected => "disconnect from service",
            Self::Archived => "mark as archived",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn states() -> Vec<Lifecycle> {
        let job = JobId::from_entropy(1);
        vec![
            Lifecycle::Discovered,
            Lifecycle::PendingInstallation,
            Lifecycle::Stopped,
            Lifecycle::NotReady,
            Lifecycle::ReadyForTest,
            Lifecycle::Testing { job: job.clone() },
            Lifecycle::ReadyForCutover,
            Lifecycle::CuttingOver { job },
            Lifecycle::Cutover { archived: false },
            Lifecycle::Disconnected { archived: false },
        ]
    }

    fn events() -> Vec<(&'static str, Event)> {
        let (same, other) = (JobId::from_entropy(1), JobId::from_entropy(2));
        vec![
            ("", Event::AgentInstalled),
            ("", Event::AgentInstalledWithoutReplication),
            ("", Event::FirstLaunchableCheckpoint),
            ("", Event::ReplicationStarted),
            ("", Event::ReplicationStopped),
            (" (another job)", Event::TestStarted(other.clone())),
            (" (this job)", Event::TestFailed(same.clone())),
            (" (another job)", Event::TestFailed(other.clone())),
            ("", Event::MarkedReadyForCutover),
            ("", Event::RevertedToReadyForTest),
            (" (another job)", Event::CutoverStarted(other.clone())),
            (" (this job)", Event::CutoverFailed(same)),
            (" (another job)", Event::CutoverFailed(other)),
            ("", Event::RevertedToReadyForCutover),
            ("", Event::Finalized),
            ("", Event::TargetTerminationStarted),
            ("", Event::Disconnected),
            ("", Event::Archived),
        ]
    }

    #[test]
    fn every_state_and_every_event() {
        let mut table = String::new();
        for state in states() {
            writeln!(table, "{state:?}").unwrap();
            for (which, event) in events() {
                let outcome = match state.clone().on(event.clone()) {
                    Ok(next) => format!("{next:?}"),
                    Err(_) => "-".to_owned(),
                };
                writeln!(table, "    {}{which}: {outcome}", event.name()).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_state_is_stored_under_the_name_that_people_read() {
        for (state, name) in states().iter().zip(Lifecycle::NAMES) {
            assert_eq!(state.name(), name);
            let stored = serde_json::to_value(state).unwrap();
            assert_eq!(stored["state"], name);
            assert_eq!(serde_json::from_value::<Lifecycle>(stored).unwrap(), *state);
        }
    }
}
