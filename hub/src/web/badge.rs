//! Every state as the console shows it: a word for people, MGN's name beside it, and a colour class.
//!
//! Classes: `good`, `busy` (under way), `warn` (look at it), `bad` (it wants a hand), `idle`, and
//! `open` (it waits for the operator). The words that people see of states are all in this file.

use crate::{n, t};
use std::borrow::Cow;

use cloud::control::ResourceKind;
use domain::{
    account::{Access, Reach},
    checkpoint::{CheckpointKind, Consistency},
    conversion::ConversionState,
    job::{InitiatedBy, JobLogEvent, JobStatus, LaunchStatus},
    launch::{BootMode, LaunchDisposition, Purpose},
    readiness::{Class, Readiness},
    replication::{InitiationStep, ReplicationError, StepStatus},
    wave::{Health, Progress, RunState, Stage},
};

use crate::{
    entities::{ledger::LedgerState, user::UserRole},
    readiness::{Outcome, Report},
    resources::Standing,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Badge {
    pub label: Cow<'static, str>,
    /// The state's name in the API.
    pub name: &'static str,
    pub class: &'static str,
}

fn badge(name: &'static str, label: &'static str, class: &'static str) -> Badge {
    Badge {
        label: label.into(),
        name,
        class,
    }
}

/// A badge that counts: `2 stalled`.
pub fn counting(count: u64, name: &'static str, word: &'static str, class: &'static str) -> Badge {
    Badge {
        label: format!("{count} {word}").into(),
        name,
        class,
    }
}

pub fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Test => t!("test"),
        Purpose::Cutover => t!("cutover"),
    }
}

pub fn resource(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Snapshot => t!("snapshot"),
        ResourceKind::Image => t!("image"),
        ResourceKind::Instance => t!("instance"),
        ResourceKind::Volume => t!("volume"),
        ResourceKind::LaunchTemplate => t!("launch template"),
    }
}

/// So many resources of a kind.
pub fn kinds(kind: ResourceKind, count: u64) -> String {
    match kind {
        ResourceKind::Snapshot => n!(count, "{n} snapshot", "{n} snapshots"),
        ResourceKind::Image => n!(count, "{n} image", "{n} images"),
        ResourceKind::Instance => n!(count, "{n} instance", "{n} instances"),
        ResourceKind::Volume => n!(count, "{n} volume", "{n} volumes"),
        ResourceKind::LaunchTemplate => n!(count, "{n} launch template", "{n} launch templates"),
    }
}

/// In the middle of a sentence.
pub fn role(role: UserRole) -> &'static str {
    match role {
        UserRole::Viewer => t!("viewer"),
        UserRole::Operator => t!("operator"),
        UserRole::Approver => t!("approver"),
        UserRole::Administrator => t!("administrator"),
    }
}

/// By the name that `Lifecycle::name` gives.
pub fn lifecycle(name: &str) -> Badge {
    match name {
        "DISCOVERED" => badge("DISCOVERED", t!("Discovered"), "idle"),
        "PENDING_INSTALLATION" => badge("PENDING_INSTALLATION", t!("Pending installation"), "idle"),
        "STOPPED" => badge("STOPPED", t!("Stopped"), "idle"),
        "NOT_READY" => badge("NOT_READY", t!("Not ready"), "busy"),
        "READY_FOR_TEST" => badge("READY_FOR_TEST", t!("Ready for test"), "open"),
        "TESTING" => badge("TESTING", t!("Testing"), "busy"),
        "READY_FOR_CUTOVER" => badge("READY_FOR_CUTOVER", t!("Ready for cutover"), "open"),
        "CUTTING_OVER" => badge("CUTTING_OVER", t!("Cutting over"), "busy"),
        "CUTOVER" => badge("CUTOVER", t!("Cutover"), "good"),
        _ => badge("DISCONNECTED", t!("Disconnected"), "idle"),
    }
}

/// Every replication state by the name that `Replication::name` gives, in the order of its journey.
pub const REPLICATION_NAMES: [&str; 10] = [
    "STOPPED",
    "INITIATING",
    "INITIAL_SYNC",
    "RESCAN",
    "BACKLOG",
    "CREATING_SNAPSHOT",
    "CONTINUOUS",
    "PAUSED",
    "STALLED",
    "DISCONNECTED",
];

pub fn health(health: Health) -> Badge {
    match health {
        Health::Healthy => badge("HEALTHY", t!("Healthy"), "good"),
        Health::Lagging => badge("LAGGING", t!("Lagging"), "warn"),
        Health::Error => badge("ERROR", t!("Error"), "bad"),
    }
}

pub fn progress(progress: Progress) -> Badge {
    match progress {
        Progress::NotStarted => badge("NOT_STARTED", t!("Not started"), "idle"),
        Progress::InProgress => badge("IN_PROGRESS", t!("In progress"), "busy"),
        Progress::Completed => badge("COMPLETED", t!("Completed"), "good"),
    }
}

pub fn stage(stage: Stage) -> Badge {
    match stage {
        Stage::Draft => badge("DRAFT", t!("Draft"), "idle"),
        Stage::Submitted => badge("SUBMITTED", t!("Waits for approval"), "open"),
        Stage::Approved => badge("APPROVED", t!("Approved"), "good"),
    }
}

pub fn run(state: &RunState) -> Badge {
    match state {
        RunState::Running => badge("RUNNING", t!("Running"), "busy"),
        RunState::Held { .. } => badge("HELD", t!("Held"), "warn"),
        RunState::Ended { .. } => badge("ENDED", t!("Ended"), "idle"),
    }
}

pub fn archived() -> Badge {
    badge("ARCHIVED", t!("Archived"), "idle")
}

pub fn replication(name: &str) -> Badge {
    match name {
        "STOPPED" => badge("STOPPED", t!("Stopped"), "idle"),
        "INITIATING" => badge("INITIATING", t!("Initiating"), "busy"),
        "INITIAL_SYNC" => badge("INITIAL_SYNC", t!("Initial sync"), "busy"),
        "RESCAN" => badge("RESCAN", t!("Rescan"), "busy"),
        "BACKLOG" => badge("BACKLOG", t!("Backlog"), "busy"),
        "CREATING_SNAPSHOT" => badge("CREATING_SNAPSHOT", t!("Creating snapshot"), "busy"),
        "CONTINUOUS" => badge("CONTINUOUS", t!("Continuous"), "good"),
        "PAUSED" => badge("PAUSED", t!("Paused"), "warn"),
        "STALLED" => badge("STALLED", t!("Stalled"), "bad"),
        _ => badge("DISCONNECTED", t!("Disconnected"), "idle"),
    }
}

pub fn replication_error(error: ReplicationError) -> &'static str {
    use ReplicationError as E;
    match error {
        E::AgentNotSeen => t!("The agent was not seen"),
        E::SnapshotsFailure => t!("Checkpoints cannot be made"),
        E::NotConverging => t!("Replication does not converge"),
        E::UnstableNetwork => t!("The network is unstable"),
        E::FailedToCreateSecurityGroup => t!("The security group cannot be created"),
        E::FailedToLaunchReplicationServer => t!("The runner cannot be launched"),
        E::FailedToBootReplicationServer => t!("The runner does not boot"),
        E::FailedToAuthenticateWithService => t!("The agent cannot authenticate"),
        E::FailedToDownloadReplicationSoftware => t!("The replication software cannot be fetched"),
        E::FailedToCreateStagingDisks => t!("The staging area cannot take the disks"),
        E::FailedToAttachStagingDisks => t!("The staging disks cannot be attached"),
        E::FailedToPairReplicationServerWithAgent => t!("The agent and the runner do not pair"),
        E::FailedToConnectAgentToReplicationServer => t!("The agent cannot connect to the runner"),
        E::FailedToStartDataTransfer => t!("The transfer of data does not start"),
        E::UnsupportedVmConfiguration => t!("The machine's disks cannot be replicated as they are"),
        E::LastSnapshotJobFailed => t!("The last checkpoint failed"),
    }
}

/// What to do about it, where whoever met the error knew what happened and not what helps.
pub fn replication_remedy(error: ReplicationError) -> Option<&'static str> {
    use ReplicationError as E;
    match error {
        E::SnapshotsFailure => Some(t!(
            "If a disk of the source cannot be read, look into the source's kernel log. If the runner cannot write, \
             look at its store and the room that is left there."
        )),
        E::NotConverging => Some(t!(
            "If a hook failed, repair it on the source, under /etc/orglift/freeze.d. If too much is written, raise \
             the limit under Bandwidth, widen the network, or replicate when less is written."
        )),
        E::UnsupportedVmConfiguration => Some(t!(
            "Attach the disk again as it was. If it was taken away for good, install the agent anew with the disks \
             that are left."
        )),
        E::FailedToCreateStagingDisks => Some(t!("Make room in the staging area of the runner.")),
        // Their detail says it, or they are not raised.
        _ => None,
    }
}

pub fn initiation_step(step: InitiationStep) -> &'static str {
    use InitiationStep as S;
    match step {
        S::Wait => t!("Wait for the agent"),
        S::CreateSecurityGroup => t!("Create security group"),
        S::LaunchReplicationServer => t!("Launch replication server"),
        S::BootReplicationServer => t!("Boot replication server"),
        S::AuthenticateWithService => t!("Authenticate with service"),
        S::DownloadReplicationSoftware => t!("Download replication software"),
        S::CreateStagingDisks => t!("Create staging disks"),
        S::AttachStagingDisks => t!("Attach staging disks"),
        S::PairReplicationServerWithAgent => t!("Pair replication server with agent"),
        S::ConnectAgentToReplicationServer => t!("Connect agent to replication server"),
        S::StartDataTransfer => t!("Start data transfer"),
    }
}

/// Class, mark and word of a step in a checklist.
pub fn step_status(status: StepStatus) -> (&'static str, &'static str, &'static str) {
    match status {
        StepStatus::NotStarted => ("waiting", "○", t!("Not started")),
        StepStatus::InProgress => ("running", "●", t!("In progress")),
        StepStatus::Succeeded => ("done", "✓", t!("Done")),
        StepStatus::Failed => ("failed", "✕", t!("Failed")),
        StepStatus::Skipped => ("skipped", "–", t!("Not needed")),
    }
}

pub fn kind(kind: CheckpointKind) -> Badge {
    match kind {
        CheckpointKind::Partial => badge("partial", t!("Partial"), "idle"),
        CheckpointKind::Launchable => badge("launchable", t!("Launchable"), "good"),
    }
}

/// In place of the kind: whatever it was, it cannot be launched.
pub fn damaged() -> Badge {
    badge("damaged", t!("Damaged"), "bad")
}

/// More is written than gets through.
pub fn diverges() -> Badge {
    badge("WILL_NOT_CONVERGE", t!("Will not converge"), "warn")
}

/// Whole disks are compared, and somebody could change that.
pub fn untracked() -> Badge {
    badge("NOT_TRACKED", t!("Not tracked"), "warn")
}

pub fn consistency(consistency: Consistency) -> Badge {
    match consistency {
        Consistency::Filesystem => badge("filesystem", t!("File systems frozen"), "good"),
        Consistency::Crash => badge("crash", t!("Crash-consistent"), "good"),
        Consistency::None => badge("none", t!("Not consistent"), "warn"),
    }
}

pub fn readiness(readiness: Readiness) -> Badge {
    let (label, class) = match readiness {
        Readiness::NotInspected => (t!("Not looked at yet"), "idle"),
        Readiness::Ready => (t!("Boots"), "good"),
        Readiness::ReadyWithWarnings => (t!("Boots, with warnings"), "warn"),
        Readiness::Blocked => (t!("Would not boot"), "bad"),
    };
    badge(readiness.name(), label, class)
}

pub fn finding(class: Class) -> Badge {
    match class {
        Class::Blocks => badge("blocks", t!("Blocks"), "bad"),
        Class::Warns => badge("warns", t!("Warning"), "warn"),
        Class::Informs => badge("informs", t!("Note"), "idle"),
    }
}

/// `None` until its runner has heard of it. One that nobody wants any more and that did not end was given up.
pub fn conversion(state: Option<&ConversionState>, wanted: bool) -> Badge {
    match state {
        Some(ConversionState::Done(_)) => badge("done", t!("Converted"), "good"),
        Some(ConversionState::Failed { .. }) => badge("failed", t!("Failed"), "bad"),
        _ if !wanted => badge("given-up", t!("Given up"), "idle"),
        Some(ConversionState::Running { .. }) => badge("running", t!("Converting"), "busy"),
        Some(ConversionState::Waiting) => badge("waiting", t!("Waiting"), "busy"),
        None => badge("ordered", t!("Ordered"), "busy"),
    }
}

pub fn rehearsal(came_up: bool) -> Badge {
    if came_up {
        badge("came-up", t!("Came up"), "good")
    } else {
        badge("did-not-come-up", t!("Did not come up"), "bad")
    }
}

/// By the name that `What::name` gives.
pub fn change(name: &str) -> Badge {
    match name {
        "created" => badge("created", t!("Created"), "good"),
        "removed" => badge("removed", t!("Removed"), "bad"),
        _ => badge("changed", t!("Changed"), "busy"),
    }
}

pub fn job_title(initiated_by: InitiatedBy) -> &'static str {
    match initiated_by {
        InitiatedBy::StartTest => t!("Launch test instances"),
        InitiatedBy::StartCutover => t!("Launch cutover instances"),
        InitiatedBy::Terminate => t!("Terminate launched instances"),
        InitiatedBy::FinalizeCutover => t!("Finalize cutover"),
        InitiatedBy::Disconnect => t!("Disconnect from service"),
        InitiatedBy::CleanUp => t!("Clean up"),
    }
}

/// `failed` counts the job's participants that failed.
pub fn job(status: JobStatus, failed: u64) -> Badge {
    match (status, failed) {
        (JobStatus::Pending, _) => badge("PENDING", t!("Pending"), "idle"),
        (JobStatus::Started, 0) => badge("STARTED", t!("Started"), "busy"),
        (JobStatus::Started, _) => badge("STARTED", t!("Started"), "warn"),
        (JobStatus::Completed, 0) => badge("COMPLETED", t!("Completed"), "good"),
        (JobStatus::Completed, _) => badge("COMPLETED", t!("Completed with failures"), "bad"),
    }
}

pub fn notice_target(fails: bool) -> Badge {
    if fails {
        badge("FAILS", t!("Not reached"), "bad")
    } else {
        badge("REACHED", t!("Reached"), "good")
    }
}

/// What became of a participant. Only a launch leaves something launched.
pub fn launch(status: &LaunchStatus, initiated_by: InitiatedBy) -> Badge {
    match status {
        LaunchStatus::Launched { .. } if initiated_by.job_type() != "LAUNCH" => {
            badge("LAUNCHED", t!("Done"), "good")
        }
        LaunchStatus::Pending => badge("PENDING", t!("Pending"), "idle"),
        LaunchStatus::InProgress => badge("IN_PROGRESS", t!("In progress"), "busy"),
        LaunchStatus::Launched { .. } => badge("LAUNCHED", t!("Launched"), "good"),
        LaunchStatus::Failed { .. } => badge("FAILED", t!("Failed"), "bad"),
        LaunchStatus::Terminated => badge("TERMINATED", t!("Done, nothing left"), "good"),
    }
}

pub fn log_event(event: JobLogEvent) -> &'static str {
    use JobLogEvent as E;
    match event {
        E::JobStart => t!("Job started"),
        E::ServerSkipped => t!("Server skipped"),
        E::CleanupStart => t!("Clean-up started"),
        E::CleanupEnd => t!("Clean-up finished"),
        E::CleanupFail => t!("Clean-up failed"),
        E::SnapshotStart => t!("Checkpoint asked for"),
        E::SnapshotEnd => t!("Checkpoint taken"),
        E::SnapshotFail => t!("Checkpoint failed"),
        E::UsingPreviousSnapshot => t!("Using an older checkpoint"),
        E::ConversionStart => t!("Conversion started"),
        E::ConversionEnd => t!("Conversion finished"),
        E::ConversionFail => t!("Conversion failed"),
        E::LaunchStart => t!("Launch started"),
        E::LaunchFailed => t!("Launch failed"),
        E::JobCancel => t!("Job cancelled"),
        E::JobEnd => t!("Job finished"),
    }
}

pub fn log_event_class(event: JobLogEvent) -> &'static str {
    use JobLogEvent as E;
    match event {
        E::CleanupFail | E::SnapshotFail | E::ConversionFail | E::LaunchFailed => "bad",
        _ => "",
    }
}

pub fn access(access: &Access) -> Badge {
    match access {
        Access::NotAttempted => badge("NOT_ATTEMPTED", t!("Not checked yet"), "idle"),
        Access::Ok => badge("OK", t!("Access granted"), "good"),
        Access::Denied { .. } => badge("DENIED", t!("Access denied"), "bad"),
        Access::Throttled => badge("THROTTLED", t!("Throttled"), "warn"),
        Access::Suspended => badge("SUSPENDED", t!("Suspended"), "warn"),
        Access::LeftAlone { .. } => badge("LEFT_ALONE", t!("Left alone"), "idle"),
        Access::Unknown { .. } => badge("UNKNOWN", t!("Not reached"), "warn"),
    }
}

/// What happened, and what to do about it; `None` when nothing is wrong.
pub fn access_problem(access: &Access) -> Option<(String, String)> {
    match access {
        Access::NotAttempted | Access::Ok => None,
        Access::Denied { call, remedy } => Some((t!("{call} was denied", call), remedy.clone())),
        Access::Throttled => Some((
            t!("The cloud throttles our calls").into(),
            t!("The hub tries again by itself; nothing needs to be done.").into(),
        )),
        Access::Suspended => Some((
            t!("The account is suspended").into(),
            t!("The organization's management account must reactivate it before servers can be moved into it.")
                .into(),
        )),
        Access::LeftAlone { why } => Some((t!("The hub does not act in this account").into(), why.clone())),
        Access::Unknown { detail } => Some((t!("The account could not be reached").into(), detail.clone())),
    }
}

/// `None` where no network was looked at yet.
pub fn network(report: Option<&Report>) -> Badge {
    match report.map(|report| &report.outcome) {
        None => badge("NOT_CHECKED", t!("Not looked at yet"), "idle"),
        Some(Outcome::NothingToCheck) => badge("NOTHING_TO_CHECK", t!("Nothing to check"), "idle"),
        Some(Outcome::NotRead { .. }) => badge("NOT_READ", t!("Could not be read"), "warn"),
        Some(Outcome::Checked { .. }) if report.is_some_and(|report| report.findings().is_empty()) => {
            badge("READY", t!("Ready"), "good")
        }
        Some(Outcome::Checked { .. }) => badge("NOT_READY", t!("Not ready"), "bad"),
    }
}

/// How many things in an account's network want to be changed.
pub fn network_findings(count: u64) -> Badge {
    counting(count, "NETWORK_NOT_READY", t!("in the network"), "warn")
}

/// How much of what an account has is not as it should be; `None` where its last answer is missing.
pub fn inventory(wanting: Option<usize>) -> Badge {
    match wanting {
        None => badge("NOT_ASKED", t!("No answer"), "idle"),
        Some(0) => badge("AS_IT_SHOULD_BE", t!("As it should be"), "good"),
        Some(count) => counting(count as u64, "WANTING", t!("to look at"), "warn"),
    }
}

pub fn standing(standing: Standing) -> Badge {
    match standing {
        Standing::Ours => badge("ours", t!("Needed"), "good"),
        Standing::HandedOver => badge("handed_over", t!("Handed over to production"), "good"),
        Standing::ServerUnknown => badge("server_unknown", t!("Stray"), "warn"),
        Standing::NotNeeded => badge("not_needed", t!("Not needed"), "warn"),
        Standing::NotInLedger => badge("not_in_ledger", t!("Not in the ledger"), "warn"),
        Standing::TagsDiffer => badge("tags_differ", t!("Tags differ"), "warn"),
    }
}

/// The ledger has it, and its account does not list it.
pub fn missing() -> Badge {
    badge("missing", t!("Missing"), "warn")
}

pub fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::ManagementAccount => t!("by its management account"),
        Reach::DelegatedAdministrator => t!("by a delegated administrator"),
        Reach::Roster => t!("listed by hand"),
    }
}

pub fn ledger(state: LedgerState) -> Badge {
    match state {
        LedgerState::Wanted => badge("wanted", t!("Asked for"), "busy"),
        LedgerState::Present => badge("present", t!("Exists"), "good"),
        LedgerState::Gone => badge("gone", t!("Gone"), "idle"),
        LedgerState::HandedOver => badge("handed_over", t!("Handed over to production"), "good"),
    }
}

pub fn boot_mode(mode: BootMode) -> (&'static str, &'static str) {
    match mode {
        BootMode::LegacyBios => ("LEGACY_BIOS", t!("Legacy BIOS")),
        BootMode::Uefi => ("UEFI", "UEFI"),
        BootMode::UseSource => ("USE_SOURCE", t!("As the source")),
    }
}

pub fn disposition(disposition: LaunchDisposition) -> (&'static str, &'static str) {
    match disposition {
        LaunchDisposition::Started => ("STARTED", t!("Started")),
        LaunchDisposition::Stopped => ("STOPPED", t!("Stopped")),
    }
}

pub fn runner(connected: bool, revoked: bool) -> Badge {
    match (revoked, connected) {
        (true, _) => badge("REVOKED", t!("Revoked"), "bad"),
        (false, true) => badge("CONNECTED", t!("Connected"), "good"),
        (false, false) => badge("NOT_SEEN", t!("Not seen"), "bad"),
    }
}

pub fn no_runner() -> Badge {
    badge("NO_RUNNER", t!("No runner"), "idle")
}

pub fn turned_away() -> Badge {
    badge("TURNED_AWAY", t!("Turned away"), "warn")
}

/// Of an account in which nothing is wrong.
pub fn healthy(is_empty: bool) -> Badge {
    if is_empty {
        badge("EMPTY", t!("No servers yet"), "idle")
    } else {
        badge("HEALTHY", t!("Healthy"), "good")
    }
}

pub fn certificate(revoked: bool) -> Badge {
    if revoked {
        badge("REVOKED", t!("Revoked"), "idle")
    } else {
        badge("VALID", t!("Valid"), "good")
    }
}

#[cfg(test)]
mod tests {
    use domain::lifecycle::Lifecycle;

    #[test]
    fn every_state_keeps_its_name() {
        for name in Lifecycle::NAMES {
            assert_eq!(super::lifecycle(name).name, name);
        }
        for name in super::REPLICATION_NAMES {
            assert_eq!(super::replication(name).name, name);
        }
    }
}
