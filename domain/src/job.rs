//! Jobs: one order to launch or terminate instances, for one or more source servers.
//!
//! A job ends when each of its participants has ended; a participant's failure never ends the others.

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Who asked for the job, and so what it does. MGN's `InitiatedBy`; its `DIAGNOSTIC` is private to AWS.
/// The last three are ours: MGN does the same work without a job that people could watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InitiatedBy {
    StartTest,
    StartCutover,
    Terminate,
    FinalizeCutover,
    Disconnect,
    CleanUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    Pending,
    Started,
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    Started,
    LastParticipantEnded,
}

/// MGN's `LaunchStatus` of a participating server, with what is true only there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LaunchStatus {
    Pending,
    InProgress,
    Launched {
        instance: String,
    },
    /// `left` names what could not be undone and needs a hand; empty when the account is as before.
    Failed {
        error: String,
        left: Vec<String>,
    },
    Terminated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEvent {
    Started,
    Launched { instance: String },
    Terminated,
    Failed { error: String, left: Vec<String> },
}

/// MGN's `JobLogEvent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobLogEvent {
    JobStart,
    ServerSkipped,
    CleanupStart,
    CleanupEnd,
    CleanupFail,
    SnapshotStart,
    SnapshotEnd,
    SnapshotFail,
    UsingPreviousSnapshot,
    ConversionStart,
    ConversionEnd,
    ConversionFail,
    LaunchStart,
    LaunchFailed,
    JobCancel,
    JobEnd,
}

impl InitiatedBy {
    pub fn name(self) -> &'static str {
        match self {
            Self::StartTest => "START_TEST",
            Self::StartCutover => "START_CUTOVER",
            Self::Terminate => "TERMINATE",
            Self::FinalizeCutover => "FINALIZE_CUTOVER",
            Self::Disconnect => "DISCONNECT",
            Self::CleanUp => "CLEAN_UP",
        }
    }

    /// MGN's `JobType`.
    pub fn job_type(self) -> &'static str {
        match self {
            Self::StartTest | Self::StartCutover => "LAUNCH",
            Self::Terminate | Self::FinalizeCutover | Self::Disconnect | Self::CleanUp => "TERMINATE",
        }
    }
}

impl JobStatus {
    /// The only place where a job's status may change.
    pub fn on(self, event: JobEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Pending, JobEvent::Started) => Ok(Self::Started),
            (Self::Started, JobEvent::LastParticipantEnded) => Ok(Self::Completed),
            (from, event) => Err(IllegalTransition {
                subject: "a job",
                state: from.name(),
                event: match event {
                    JobEvent::Started => "started",
                    JobEvent::LastParticipantEnded => "last participant ended",
                },
            }),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Started => "STARTED",
            Self::Completed => "COMPLETED",
        }
    }
}

impl LaunchStatus {
    /// The only place where a participant's status may change.
    pub fn on(self, event: LaunchEvent) -> Result<Self, IllegalTransition> {
        use {LaunchEvent as E, LaunchStatus as L};
        Ok(match (self, event) {
            (L::Pending, E::Started) => L::InProgress,
            (L::InProgress, E::Launched { instance }) => L::Launched { instance },
            // A launched instance may be taken away later by a job of its own.
            (L::InProgress | L::Launched { .. }, E::Terminated) => L::Terminated,
            (L::Pending | L::InProgress, E::Failed { error, left }) => L::Failed { error, left },
            (from, event) => {
                return Err(IllegalTransition {
                    subject: "a participating server",
                    state: from.name(),
                    event: event.name(),
                });
            }
        })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Launched { .. } => "LAUNCHED",
            Self::Failed { .. } => "FAILED",
            Self::Terminated => "TERMINATED",
        }
    }

    pub fn is_ended(&self) -> bool {
        matches!(
            self,
            Self::Launched { .. } | Self::Failed { .. } | Self::Terminated
        )
    }
}

impl LaunchEvent {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Launched { .. } => "launched",
            Self::Terminated => "terminated",
            Self::Failed { .. } => "failed",
        }
    }
}

impl JobLogEvent {
    pub fn name(self) -> &'static str {
        match self {
            Self::JobStart => "JOB_START",
            Self::ServerSkipped => "SERVER_SKIPPED",
            Self::CleanupStart => "CLEANUP_START",
            Self::CleanupEnd => "CLEANUP_END",
            Self::CleanupFail => "CLEANUP_FAIL",
            Self::SnapshotStart => "SNAPSHOT_START",
            Self::SnapshotEnd => "SNAPSHOT_END",
            Self::SnapshotFail => "SNAPSHOT_FAIL",
            Self::UsingPreviousSnapshot => "USING_PREVIOUS_SNAPSHOT",
            Self::ConversionStart => "CONVERSION_START",
            Self::ConversionEnd => "CONVERSION_END",
            Self::ConversionFail => "CONVERSION_FAIL",
            Self::LaunchStart => "LAUNCH_START",
            Self::LaunchFailed => "LAUNCH_FAILED",
            Self::JobCancel => "JOB_CANCEL",
            Self::JobEnd => "JOB_END",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn every_state_and_every_event() {
        let mut table = String::new();
        for state in [JobStatus::Pending, JobStatus::Started, JobStatus::Completed] {
            for event in [JobEvent::Started, JobEvent::LastParticipantEnded] {
                let outcome = state.on(event).map_or("-", JobStatus::name);
                writeln!(table, "job {} + {event:?}: {outcome}", state.name()).unwrap();
            }
        }
        let failed = || LaunchEvent::Failed {
            error: "no capacity".into(),
            left: vec![],
        };
        for state in [
            LaunchStatus::Pending,
            LaunchStatus::InProgress,
            LaunchStatus::Launched {
                instance: "i-1".into(),
            },
            LaunchStatus::Failed {
                error: "no capacity".into(),
                left: vec![],
            },
            LaunchStatus::Terminated,
        ] {
            for event in [
                LaunchEvent::Started,
                LaunchEvent::Launched {
                    instance: "i-1".into(),
                },
                LaunchEvent::Terminated,
                failed(),
            ] {
                let label = event.name();
                let outcome = state.clone().on(event);
                let outcome = outcome.as_ref().map_or("-", LaunchStatus::name);
                writeln!(table, "participant {} + {label}: {outcome}", state.name()).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }
}
