//! What can be done to a source server: when, by whom, and in which words it is asked for.

use domain::{
    ids::JobId,
    launch::{LaunchConfiguration, RightSizing},
    lifecycle::{Event, Lifecycle},
    replication::Replication,
    source_server::ReplicationIntent,
};

use crate::entities::{source_server::Model, user::UserRole};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    StartTest,
    MarkReadyForCutover,
    RevertToReadyForTest,
    StartCutover,
    RevertToReadyForCutover,
    Finalize,
    Terminate,
    StartReplication,
    ResumeReplication,
    RetryReplication,
    PauseReplication,
    StopReplication,
    Disconnect,
    Archive,
}

/// A confirmation: it names the server, and says what will and what will not happen.
#[derive(Debug)]
pub struct Words {
    pub title: String,
    pub summary: String,
    pub does: Vec<String>,
    pub keeps: Vec<String>,
    pub caution: Option<String>,
}

fn an_instance(launch: &LaunchConfiguration) -> String {
    match launch.right_sizing {
        RightSizing::None => format!("An instance of type {}", launch.instance_type),
        RightSizing::Basic => "An instance of the smallest type that the source fits in".into(),
    }
}

impl Action {
    /// In the order of the menu.
    pub const ALL: [Self; 14] = [
        Self::StartTest,
        Self::MarkReadyForCutover,
        Self::RevertToReadyForTest,
        Self::StartCutover,
        Self::RevertToReadyForCutover,
        Self::Finalize,
        Self::Terminate,
        Self::StartReplication,
        Self::ResumeReplication,
        Self::RetryReplication,
        Self::PauseReplication,
        Self::StopReplication,
        Self::Disconnect,
        Self::Archive,
    ];

    /// Its name in addresses and in the audit log.
    pub fn slug(self) -> &'static str {
        match self {
            Self::StartTest => "start-test",
            Self::MarkReadyForCutover => "mark-ready-for-cutover",
            Self::RevertToReadyForTest => "revert-to-ready-for-test",
            Self::StartCutover => "start-cutover",
            Self::RevertToReadyForCutover => "revert-to-ready-for-cutover",
            Self::Finalize => "finalize-cutover",
            Self::Terminate => "terminate-instances",
            Self::StartReplication => "start-replication",
            Self::ResumeReplication => "resume-replication",
            Self::RetryReplication => "retry-replication",
            Self::PauseReplication => "pause-replication",
            Self::StopReplication => "stop-replication",
            Self::Disconnect => "disconnect",
            Self::Archive => "archive",
        }
    }

    pub fn by_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.slug() == slug)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::StartTest => "Launch test instance",
            Self::MarkReadyForCutover => "Mark as ready for cutover",
            Self::RevertToReadyForTest => "Revert to ready for test",
            Self::StartCutover => "Launch cutover instance",
            Self::RevertToReadyForCutover => "Revert to ready for cutover",
            Self::Finalize => "Finalize cutover",
            Self::Terminate => "Terminate launched instances",
            Self::StartReplication => "Start replication",
            Self::ResumeReplication => "Resume replication",
            Self::RetryReplication => "Retry replication now",
            Self::PauseReplication => "Pause replication",
            Self::StopReplication => "Stop replication",
            Self::Disconnect => "Disconnect from service",
            Self::Archive => "Archive",
        }
    }

    pub fn needs(self) -> UserRole {
        match self {
            Self::StartCutover | Self::RevertToReadyForCutover | Self::Finalize | Self::Disconnect => {
                UserRole::Approver
            }
            _ => UserRole::Operator,
        }
    }

    /// Whether it takes something away that does not come back.
    pub fn is_destructive(self) -> bool {
        matches!(self, Self::Terminate | Self::StopReplication | Self::Disconnect)
    }

    /// Whether the server's state allows it. The domain decides; a server on which a job works waits.
    pub fn is_possible(self, server: &Model) -> bool {
        let state = &server.lifecycle.0;
        let moves = |event: Event| state.clone().on(event).is_ok();
        // Which job it would be does not matter for whether there could be one.
        let job = JobId::from_entropy(0);
        let free = server.running_job.is_none();
        let intent = server.intent.0;
        match self {
            Self::StartTest => free && moves(Event::TestStarted(job)),
            Self::MarkReadyForCutover => free && moves(Event::MarkedReadyForCutover),
            Self::RevertToReadyForTest => free && moves(Event::RevertedToReadyForTest),
            Self::StartCutover => free && moves(Event::CutoverStarted(job)),
            Self::RevertToReadyForCutover => free && moves(Event::RevertedToReadyForCutover),
            Self::Finalize => free && moves(Event::Finalized),
            Self::Terminate => {
                let launched = server.test_launch.is_some() || server.cutover_launch.is_some();
                free && launched && moves(Event::TargetTerminationStarted)
            }
            Self::StartReplication => free && moves(Event::ReplicationStarted),
            Self::ResumeReplication => free && intent == ReplicationIntent::Paused && !state.is_final(),
            Self::RetryReplication => {
                free && intent == ReplicationIntent::Run
                    && matches!(server.replication.0, Replication::Stalled(_))
            }
            Self::PauseReplication => {
                free && intent == ReplicationIntent::Run
                    && !state.is_final()
                    && !matches!(
                        state,
                        Lifecycle::Stopped | Lifecycle::Discovered | Lifecycle::PendingInstallation
                    )
            }
            Self::StopReplication => free && moves(Event::ReplicationStopped),
            Self::Disconnect => free && !state.is_final() && moves(Event::Disconnected),
            Self::Archive => free && !server.is_archived() && moves(Event::Archived),
        }
    }

    // A table: one entry for each action.
    #[allow(clippy::too_many_lines)]
    pub fn words(self, server: &Model) -> Words {
        let name = server.known_as();
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let launch = &server.launch_configuration;
        let (summary, does, keeps, caution): (String, Vec<String>, Vec<String>, Option<String>) = match self {
            Self::StartTest => (
                format!(
                    "Makes an instance of {name} to try out, while {name} goes on running and replicating."
                ),
                vec![
                    "A fresh checkpoint is asked for, and launched when it is there.".into(),
                    format!("{} starts in subnet {}.", an_instance(launch), launch.test_subnet),
                    "An earlier test instance of this server is terminated.".into(),
                ],
                lines(&[
                    "The source server and its disks",
                    "Data replication, and the checkpoints that it made",
                ]),
                None,
            ),
            Self::MarkReadyForCutover => (
                format!("Says that {name} was tested, or needs no test, and may be cut over."),
                lines(&["The life cycle moves to ready for cutover."]),
                lines(&[
                    "Data replication",
                    "The test instance, until the cutover replaces it",
                ]),
                None,
            ),
            Self::RevertToReadyForTest => (
                format!("Takes {name} back to ready for test."),
                lines(&["The life cycle moves back; a new test can be launched."]),
                lines(&[
                    "Data replication",
                    "A launched test instance, until the next test or a termination",
                ]),
                None,
            ),
            Self::StartCutover => (
                format!("Makes the instance that is to take the place of {name}."),
                vec![
                    "A fresh checkpoint is asked for, and launched when it is there.".into(),
                    format!(
                        "{} starts in subnet {}.",
                        an_instance(launch),
                        launch.target_subnet
                    ),
                    "The test instance of this server is terminated.".into(),
                ],
                lines(&[
                    "The source server: it keeps running until you stop it",
                    "Data replication, until you finalize the cutover",
                ]),
                Some(
                    "What is written to the source after the checkpoint does not reach the new instance. \
                     Stop the applications on the source first."
                        .into(),
                ),
            ),
            Self::RevertToReadyForCutover => (
                format!("Takes {name} back to ready for cutover."),
                lines(&["The life cycle moves back; a new cutover can be launched."]),
                lines(&[
                    "Data replication",
                    "The cutover instance, until the next cutover or a termination",
                ]),
                None,
            ),
            Self::Finalize => (
                format!("Ends the migration of {name}: its cutover instance is production from now on."),
                lines(&[
                    "Data replication ends, and the agent removes itself from the source.",
                    "Checkpoints, snapshots and images of this server are deleted.",
                    "The cutover instance is handed over: Orglift will not touch it again.",
                ]),
                lines(&[
                    "The cutover instance and its volumes",
                    "The source server and its disks",
                ]),
                Some("A finalized cutover cannot be taken back.".into()),
            ),
            Self::Terminate => (
                format!("Removes the instances that were launched for {name}, with their volumes."),
                vec![
                    match [&server.test_launch, &server.cutover_launch].map(|launch| launch.0.as_ref()) {
                        [Some(test), Some(cutover)] => {
                            format!(
                                "Instances {} and {} are terminated.",
                                test.instance, cutover.instance
                            )
                        }
                        [Some(only), None] | [None, Some(only)] => {
                            format!("Instance {} is terminated.", only.instance)
                        }
                        [None, None] => "Launched instances are terminated.".into(),
                    },
                    "Their volumes are deleted with them.".into(),
                ],
                lines(&[
                    "The source server and its disks",
                    "Data replication and its checkpoints",
                ]),
                Some("Whatever was changed inside these instances is lost.".into()),
            ),
            Self::StartReplication => (
                format!("Starts to replicate the disks of {name}."),
                lines(&["The agent connects to its runner and sends what the runner does not hold."]),
                lines(&["The source server goes on running."]),
                None,
            ),
            Self::ResumeReplication => (
                format!("Goes on replicating {name} where it was paused."),
                lines(&["The agent compares its disks with the last checkpoint and sends what differs."]),
                lines(&["Checkpoints made so far"]),
                None,
            ),
            Self::RetryReplication => (
                format!("Tries again at once, instead of waiting for the next attempt for {name}."),
                lines(&["Replication begins again with its first step."]),
                lines(&["What was replicated so far", "Checkpoints made so far"]),
                None,
            ),
            Self::PauseReplication => (
                format!("Pauses the replication of {name}."),
                lines(&["No data is sent and no checkpoint made; the lag grows until you resume."]),
                lines(&[
                    "What was replicated so far",
                    "Checkpoints made so far, which can be launched",
                ]),
                None,
            ),
            Self::StopReplication => (
                format!("Stops the replication of {name}."),
                lines(&[
                    "No data is sent and no checkpoint made.",
                    "The life cycle moves to stopped.",
                ]),
                lines(&["The agent on the source", "The source server and its disks"]),
                Some("When it is started again, all disks are compared in full.".into()),
            ),
            Self::Disconnect => (
                format!("Takes {name} out of the migration."),
                lines(&[
                    "Data replication ends, and the agent removes itself from the source.",
                    "All checkpoints of this server are deleted.",
                ]),
                lines(&[
                    "The source server and its disks",
                    "Launched instances, until you terminate them",
                ]),
                Some("It cannot be taken back: to migrate this server later, install the agent anew.".into()),
            ),
            Self::Archive => (
                format!("Hides {name} from lists and counts. It stays under the filter “Archived”."),
                lines(&["The server is marked as archived."]),
                lines(&["Its history, jobs and ledger"]),
                None,
            ),
        };
        Words {
            title: format!("{}: {name}", self.label()),
            summary,
            does,
            keeps,
            caution,
        }
    }

    /// What the next page says when it was done.
    pub fn done(self, name: &str) -> String {
        match self {
            Self::MarkReadyForCutover => format!("{name} is ready for cutover."),
            Self::RevertToReadyForTest => format!("{name} is ready for test again."),
            Self::RevertToReadyForCutover => format!("{name} is ready for cutover again."),
            Self::StartReplication => format!("Replication of {name} starts."),
            Self::ResumeReplication => format!("Replication of {name} resumes."),
            Self::RetryReplication => format!("Replication of {name} is tried again."),
            Self::PauseReplication => format!("Replication of {name} pauses."),
            Self::StopReplication => format!("Replication of {name} stops."),
            Self::Archive => format!("{name} is archived."),
            Self::StartTest | Self::StartCutover | Self::Finalize | Self::Terminate | Self::Disconnect => {
                format!("A job was started for {name}: {}.", self.label().to_lowercase())
            }
        }
    }
}
