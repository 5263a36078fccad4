//! What can be done to a source server: when, by whom, and in which words it is asked for.

use crate::t;
use domain::{
    ids::JobId,
    launch::{LaunchConfiguration, RightSizing},
    lifecycle::{Event, Lifecycle},
    replication::Replication,
    source_server::ReplicationIntent,
};

use super::badge;
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
    ApplyTemplates,
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
        RightSizing::None => t!("An instance of type {type_}", type_ = launch.instance_type),
        RightSizing::Basic => t!("An instance of the smallest type that the source fits in").into(),
    }
}

impl Action {
    /// In the order of the menu.
    pub const ALL: [Self; 15] = [
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
        Self::ApplyTemplates,
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
            Self::ApplyTemplates => "apply-templates",
            Self::Disconnect => "disconnect",
            Self::Archive => "archive",
        }
    }

    pub fn by_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.slug() == slug)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::StartTest => t!("Launch test instance"),
            Self::MarkReadyForCutover => t!("Mark as ready for cutover"),
            Self::RevertToReadyForTest => t!("Revert to ready for test"),
            Self::StartCutover => t!("Launch cutover instance"),
            Self::RevertToReadyForCutover => t!("Revert to ready for cutover"),
            Self::Finalize => t!("Finalize cutover"),
            Self::Terminate => t!("Terminate launched instances"),
            Self::StartReplication => t!("Start replication"),
            Self::ResumeReplication => t!("Resume replication"),
            Self::RetryReplication => t!("Retry replication now"),
            Self::PauseReplication => t!("Pause replication"),
            Self::StopReplication => t!("Stop replication"),
            Self::ApplyTemplates => t!("Apply the templates"),
            Self::Disconnect => t!("Disconnect from service"),
            Self::Archive => t!("Archive"),
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
            Self::ApplyTemplates => {
                let has_agent = !matches!(state, Lifecycle::Discovered | Lifecycle::PendingInstallation);
                free && has_agent && !state.is_final() && intent != ReplicationIntent::Disconnected
            }
            Self::Disconnect => free && !state.is_final() && moves(Event::Disconnected),
            Self::Archive => free && !server.is_archived() && moves(Event::Archived),
        }
    }

    /// Why it cannot be done to the server now, if so.
    pub fn hindrance(self, server: &Model) -> Option<String> {
        if self.is_possible(server) {
            return None;
        }
        Some(match &server.running_job {
            Some(job) => t!("job {job} works on it", job),
            None => t!(
                "not possible while its life cycle is “{state}” and its replication “{replication}”",
                state = badge::lifecycle(&server.lifecycle_name).label,
                replication = badge::replication(&server.replication_name).label
            ),
        })
    }

    // A table: one entry for each action.
    #[allow(clippy::too_many_lines)]
    pub fn words(self, server: &Model) -> Words {
        let name = server.known_as();
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let launch = &server.launch_configuration;
        let (summary, does, keeps, caution): (String, Vec<String>, Vec<String>, Option<String>) = match self {
            Self::StartTest => (
                t!(
                    "Makes an instance of {name} to try out, while {name} goes on running and replicating.",
                    name
                ),
                vec![
                    t!("A fresh checkpoint is asked for, and launched when it is there.").into(),
                    t!(
                        "{instance} starts in subnet {subnet}.",
                        instance = an_instance(launch),
                        subnet = launch.test_subnet
                    ),
                    t!("An earlier test instance of this server is terminated.").into(),
                ],
                lines(&[
                    t!("The source server and its disks"),
                    t!("Data replication, and the checkpoints that it made"),
                ]),
                None,
            ),
            Self::MarkReadyForCutover => (
                t!(
                    "Says that {name} was tested, or needs no test, and may be cut over.",
                    name
                ),
                lines(&[t!("The life cycle moves to ready for cutover.")]),
                lines(&[
                    t!("Data replication"),
                    t!("The test instance, until the cutover replaces it"),
                ]),
                None,
            ),
            Self::RevertToReadyForTest => (
                t!("Takes {name} back to ready for test.", name),
                lines(&[t!("The life cycle moves back; a new test can be launched.")]),
                lines(&[
                    t!("Data replication"),
                    t!("A launched test instance, until the next test or a termination"),
                ]),
                None,
            ),
            Self::StartCutover => (
                t!("Makes the instance that is to take the place of {name}.", name),
                vec![
                    t!("A fresh checkpoint is asked for, and launched when it is there.").into(),
                    t!(
                        "{instance} starts in subnet {subnet}.",
                        instance = an_instance(launch),
                        subnet = launch.target_subnet
                    ),
                    t!("The test instance of this server is terminated.").into(),
                ],
                lines(&[
                    t!("The source server: it keeps running until you stop it"),
                    t!("Data replication, until you finalize the cutover"),
                ]),
                Some(
                    t!(
                        "What is written to the source after the checkpoint does not reach the new instance. \
                     Stop the applications on the source first."
                    )
                    .into(),
                ),
            ),
            Self::RevertToReadyForCutover => (
                t!("Takes {name} back to ready for cutover.", name),
                lines(&[t!("The life cycle moves back; a new cutover can be launched.")]),
                lines(&[
                    t!("Data replication"),
                    t!("The cutover instance, until the next cutover or a termination"),
                ]),
                None,
            ),
            Self::Finalize => (
                t!(
                    "Ends the migration of {name}: its cutover instance is production from now on.",
                    name
                ),
                lines(&[
                    t!("Data replication ends, and the agent removes itself from the source."),
                    t!("Checkpoints, snapshots and images of this server are deleted."),
                    t!("The cutover instance is handed over: Orglift will not touch it again."),
                ]),
                lines(&[
                    t!("The cutover instance and its volumes"),
                    t!("The source server and its disks"),
                ]),
                Some(t!("A finalized cutover cannot be taken back.").into()),
            ),
            Self::Terminate => (
                t!(
                    "Removes the instances that were launched for {name}, with their volumes.",
                    name
                ),
                vec![
                    match [&server.test_launch, &server.cutover_launch].map(|launch| launch.0.as_ref()) {
                        [Some(test), Some(cutover)] => {
                            t!(
                                "Instances {test} and {cutover} are terminated.",
                                test = test.instance,
                                cutover = cutover.instance
                            )
                        }
                        [Some(only), None] | [None, Some(only)] => {
                            t!("Instance {instance} is terminated.", instance = only.instance)
                        }
                        [None, None] => t!("Launched instances are terminated.").into(),
                    },
                    t!("Their volumes are deleted with them.").into(),
                ],
                lines(&[
                    t!("The source server and its disks"),
                    t!("Data replication and its checkpoints"),
                ]),
                Some(t!("Whatever was changed inside these instances is lost.").into()),
            ),
            Self::StartReplication => (
                t!("Starts to replicate the disks of {name}.", name),
                lines(&[t!(
                    "The agent connects to its runner and sends what the runner does not hold."
                )]),
                lines(&[t!("The source server goes on running.")]),
                None,
            ),
            Self::ResumeReplication => (
                t!("Goes on replicating {name} where it was paused.", name),
                lines(&[t!(
                    "The agent compares its disks with the last checkpoint and sends what differs."
                )]),
                lines(&[t!("Checkpoints made so far")]),
                None,
            ),
            Self::RetryReplication => (
                t!(
                    "Tries again at once, instead of waiting for the next attempt for {name}.",
                    name
                ),
                lines(&[t!("Replication begins again with its first step.")]),
                lines(&[t!("What was replicated so far"), t!("Checkpoints made so far")]),
                None,
            ),
            Self::PauseReplication => (
                t!("Pauses the replication of {name}.", name),
                lines(&[t!(
                    "No data is sent and no checkpoint made; the lag grows until you resume."
                )]),
                lines(&[
                    t!("What was replicated so far"),
                    t!("Checkpoints made so far, which can be launched"),
                ]),
                None,
            ),
            Self::StopReplication => (
                t!("Stops the replication of {name}.", name),
                lines(&[
                    t!("No data is sent and no checkpoint made."),
                    t!("The life cycle moves to stopped."),
                ]),
                lines(&[
                    t!("The agent on the source"),
                    t!("The source server and its disks"),
                ]),
                Some(t!("When it is started again, all disks are compared in full.").into()),
            ),
            Self::ApplyTemplates => (
                t!(
                    "Gives {name} the launch and replication configuration that the templates of its account say.",
                    name
                ),
                lines(&[t!("What was set for this server alone is replaced.")]),
                lines(&[
                    t!("The source server and its disks"),
                    t!("Data replication, and the checkpoints that it made"),
                    t!("Instances that were launched"),
                ]),
                None,
            ),
            Self::Disconnect => (
                t!("Takes {name} out of the migration.", name),
                lines(&[
                    t!("Data replication ends, and the agent removes itself from the source."),
                    t!("All checkpoints of this server are deleted."),
                ]),
                lines(&[
                    t!("The source server and its disks"),
                    t!("Launched instances, until you terminate them"),
                ]),
                Some(
                    t!("It cannot be taken back: to migrate this server later, install the agent anew.")
                        .into(),
                ),
            ),
            Self::Archive => (
                t!(
                    "Hides {name} from lists and counts. It stays under the filter “Archived”.",
                    name
                ),
                lines(&[t!("The server is marked as archived.")]),
                lines(&[t!("Its history, jobs and ledger")]),
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
            Self::MarkReadyForCutover => t!("{name} is ready for cutover.", name),
            Self::RevertToReadyForTest => t!("{name} is ready for test again.", name),
            Self::RevertToReadyForCutover => t!("{name} is ready for cutover again.", name),
            Self::StartReplication => t!("Replication of {name} starts.", name),
            Self::ResumeReplication => t!("Replication of {name} resumes.", name),
            Self::RetryReplication => t!("Replication of {name} is tried again.", name),
            Self::PauseReplication => t!("Replication of {name} pauses.", name),
            Self::StopReplication => t!("Replication of {name} stops.", name),
            Self::ApplyTemplates => t!("{name} is as its templates say.", name),
            Self::Archive => t!("{name} is archived.", name),
            Self::StartTest | Self::StartCutover | Self::Finalize | Self::Terminate | Self::Disconnect => {
                t!(
                    "A job was started for {name}: {action}.",
                    name,
                    action = self.label().to_lowercase()
                )
            }
        }
    }
}
