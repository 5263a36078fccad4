//! Every state as the console shows it: a word for people, MGN's name beside it, and a colour class.
//!
//! Classes: `good`, `busy` (under way), `warn` (look at it), `bad` (it wants a hand), `idle`, and
//! `open` (it waits for the operator). The words that people see of states are all in this file.

use std::borrow::Cow;

use domain::{
    account::{Access, Reach},
    checkpoint::{CheckpointKind, Consistency},
    conversion::ConversionState,
    job::{InitiatedBy, JobLogEvent, JobStatus, LaunchStatus},
    launch::{BootMode, LaunchDisposition},
    readiness::{Class, Readiness},
    replication::{InitiationStep, ReplicationError, StepStatus},
};

use crate::{
    entities::ledger::LedgerState,
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

/// By the name that `Lifecycle::name` gives.
pub fn lifecycle(name: &str) -> Badge {
    match name {
        "DISCOVERED" => badge("DISCOVERED", "Discovered", "idle"),
        "PENDING_INSTALLATION" => badge("PENDING_INSTALLATION", "Pending installation", "idle"),
        "STOPPED" => badge("STOPPED", "Stopped", "idle"),
        "NOT_READY" => badge("NOT_READY", "Not ready", "busy"),
        "READY_FOR_TEST" => badge("READY_FOR_TEST", "Ready for test", "open"),
        "TESTING" => badge("TESTING", "Testing", "busy"),
        "READY_FOR_CUTOVER" => badge("READY_FOR_CUTOVER", "Ready for cutover", "open"),
        "CUTTING_OVER" => badge("CUTTING_OVER", "Cutting over", "busy"),
        "CUTOVER" => badge("CUTOVER", "Cutover", "good"),
        _ => badge("DISCONNECTED", "Disconnected", "idle"),
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

pub fn replication(name: &str) -> Badge {
    match name {
        "STOPPED" => badge("STOPPED", "Stopped", "idle"),
        "INITIATING" => badge("INITIATING", "Initiating", "busy"),
        "INITIAL_SYNC" => badge("INITIAL_SYNC", "Initial sync", "busy"),
        "RESCAN" => badge("RESCAN", "Rescan", "busy"),
        "BACKLOG" => badge("BACKLOG", "Backlog", "busy"),
        "CREATING_SNAPSHOT" => badge("CREATING_SNAPSHOT", "Creating snapshot", "busy"),
        "CONTINUOUS" => badge("CONTINUOUS", "Continuous", "good"),
        "PAUSED" => badge("PAUSED", "Paused", "warn"),
        "STALLED" => badge("STALLED", "Stalled", "bad"),
        _ => badge("DISCONNECTED", "Disconnected", "idle"),
    }
}

pub fn replication_error(error: ReplicationError) -> &'static str {
    use ReplicationError as E;
    match error {
        E::AgentNotSeen => "The agent was not seen",
        E::SnapshotsFailure => "Checkpoints cannot be made",
        E::NotConverging => "Replication does not converge",
        E::UnstableNetwork => "The network is unstable",
        E::FailedToCreateSecurityGroup => "The security group cannot be created",
        E::FailedToLaunchReplicationServer => "The runner cannot be launched",
        E::FailedToBootReplicationServer => "The runner does not boot",
        E::FailedToAuthenticateWithService => "The agent cannot authenticate",
        E::FailedToDownloadReplicationSoftware => "The replication software cannot be fetched",
        E::FailedToCreateStagingDisks => "The staging area cannot take the disks",
        E::FailedToAttachStagingDisks => "The staging disks cannot be attached",
        E::FailedToPairReplicationServerWithAgent => "The agent and the runner do not pair",
        E::FailedToConnectAgentToReplicationServer => "The agent cannot connect to the runner",
        E::FailedToStartDataTransfer => "The transfer of data does not start",
        E::UnsupportedVmConfiguration => "The machine's disks cannot be replicated as they are",
        E::LastSnapshotJobFailed => "The last checkpoint failed",
    }
}

/// What to do about it, where whoever met the error knew what happened and not what helps.
pub fn replication_remedy(error: ReplicationError) -> Option<&'static str> {
    use ReplicationError as E;
    match error {
        E::SnapshotsFailure => Some(
            "If a disk of the source cannot be read, look into the source's kernel log. If the runner cannot write, \
             look at its store and the room that is left there.",
        ),
        E::NotConverging => Some(
            "If a hook failed, repair it on the source, under /etc/orglift/freeze.d. If too much is written, raise \
             the limit under Bandwidth, widen the network, or replicate when less is written.",
        ),
        E::UnsupportedVmConfiguration => Some(
            "Attach the disk again as it was. If it was taken away for good, install the agent anew with the disks \
             that are left.",
        ),
        E::FailedToCreateStagingDisks => Some("Make room in the staging area of the runner."),
        // Their detail says it, or they are not raised.
        _ => None,
    }
}

pub fn initiation_step(step: InitiationStep) -> &'static str {
    use InitiationStep as S;
    match step {
        S::Wait => "Wait for the agent",
        S::CreateSecurityGroup => "Create security group",
        S::LaunchReplicationServer => "Launch replication server",
        S::BootReplicationServer => "Boot replication server",
        S::AuthenticateWithService => "Authenticate with service",
        S::DownloadReplicationSoftware => "Download replication software",
        S::CreateStagingDisks => "Create staging disks",
        S::AttachStagingDisks => "Attach staging disks",
        S::PairReplicationServerWithAgent => "Pair replication server with agent",
        S::ConnectAgentToReplicationServer => "Connect agent to replication server",
        S::StartDataTransfer => "Start data transfer",
    }
}

/// Class, mark and word of a step in a checklist.
pub fn step_status(status: StepStatus) -> (&'static str, &'static str, &'static str) {
    match status {
        StepStatus::NotStarted => ("waiting", "○", "Not started"),
        StepStatus::InProgress => ("running", "●", "In progress"),
        StepStatus::Succeeded => ("done", "✓", "Done"),
        StepStatus::Failed => ("failed", "✕", "Failed"),
        StepStatus::Skipped => ("skipped", "–", "Not needed"),
    }
}

pub fn kind(kind: CheckpointKind) -> Badge {
    match kind {
        CheckpointKind::Partial => badge("partial", "Partial", "idle"),
        CheckpointKind::Launchable => badge("launchable", "Launchable", "good"),
    }
}

/// In place of the kind: whatever it was, it cannot be launched.
pub fn damaged() -> Badge {
    badge("damaged", "Damaged", "bad")
}

/// More is written than gets through.
pub fn diverges() -> Badge {
    badge("WILL_NOT_CONVERGE", "Will not converge", "warn")
}

/// Whole disks are compared, and somebody could change that.
pub fn untracked() -> Badge {
    badge("NOT_TRACKED", "Not tracked", "warn")
}

pub fn consistency(consistency: Consistency) -> Badge {
    match consistency {
        Consistency::Filesystem => badge("filesystem", "File systems frozen", "good"),
        Consistency::Crash => badge("crash", "Crash-consistent", "good"),
        Consistency::None => badge("none", "Not consistent", "warn"),
    }
}

pub fn readiness(readiness: Readiness) -> Badge {
    let (label, class) = match readiness {
        Readiness::NotInspected => ("Not looked at yet", "idle"),
        Readiness::Ready => ("Boots", "good"),
        Readiness::ReadyWithWarnings => ("Boots, with warnings", "warn"),
        Readiness::Blocked => ("Would not boot", "bad"),
    };
    badge(readiness.name(), label, class)
}

pub fn finding(class: Class) -> Badge {
    match class {
        Class::Blocks => badge("blocks", "Blocks", "bad"),
        Class::Warns => badge("warns", "Warning", "warn"),
        Class::Informs => badge("informs", "Note", "idle"),
    }
}

/// `None` until its runner has heard of it. One that nobody wants any more and that did not end was given up.
pub fn conversion(state: Option<&ConversionState>, wanted: bool) -> Badge {
    match state {
        Some(ConversionState::Done(_)) => badge("done", "Converted", "good"),
        Some(ConversionState::Failed { .. }) => badge("failed", "Failed", "bad"),
        _ if !wanted => badge("given-up", "Given up", "idle"),
        Some(ConversionState::Running { .. }) => badge("running", "Converting", "busy"),
        Some(ConversionState::Waiting) => badge("waiting", "Waiting", "busy"),
        None => badge("ordered", "Ordered", "busy"),
    }
}

pub fn rehearsal(came_up: bool) -> Badge {
    if came_up {
        badge("came-up", "Came up", "good")
    } else {
        badge("did-not-come-up", "Did not come up", "bad")
    }
}

/// By the name that `What::name` gives.
pub fn change(name: &str) -> Badge {
    match name {
        "created" => badge("created", "Created", "good"),
        "removed" => badge("removed", "Removed", "bad"),
        _ => badge("changed", "Changed", "busy"),
    }
}

pub fn job_title(initiated_by: InitiatedBy) -> &'static str {
    match initiated_by {
        InitiatedBy::StartTest => "Launch test instances",
        InitiatedBy::StartCutover => "Launch cutover instances",
        InitiatedBy::Terminate => "Terminate launched instances",
        InitiatedBy::FinalizeCutover => "Finalize cutover",
        InitiatedBy::Disconnect => "Disconnect from service",
        InitiatedBy::CleanUp => "Clean up",
    }
}

/// `failed` counts the job's participants that failed.
pub fn job(status: JobStatus, failed: u64) -> Badge {
    match (status, failed) {
        (JobStatus::Pending, _) => badge("PENDING", "Pending", "idle"),
        (JobStatus::Started, 0) => badge("STARTED", "Started", "busy"),
        (JobStatus::Started, _) => badge("STARTED", "Started", "warn"),
        (JobStatus::Completed, 0) => badge("COMPLETED", "Completed", "good"),
        (JobStatus::Completed, _) => badge("COMPLETED", "Completed with failures", "bad"),
    }
}

/// What became of a participant. Only a launch leaves something launched.
pub fn launch(status: &LaunchStatus, initiated_by: InitiatedBy) -> Badge {
    match status {
        LaunchStatus::Launched { .. } if initiated_by.job_type() != "LAUNCH" => {
            badge("LAUNCHED", "Done", "good")
        }
        LaunchStatus::Pending => badge("PENDING", "Pending", "idle"),
        LaunchStatus::InProgress => badge("IN_PROGRESS", "In progress", "busy"),
        LaunchStatus::Launched { .. } => badge("LAUNCHED", "Launched", "good"),
        LaunchStatus::Failed { .. } => badge("FAILED", "Failed", "bad"),
        LaunchStatus::Terminated => badge("TERMINATED", "Done, nothing left", "good"),
    }
}

pub fn log_event(event: JobLogEvent) -> &'static str {
    use JobLogEvent as E;
    match event {
        E::JobStart => "Job started",
        E::ServerSkipped => "Server skipped",
        E::CleanupStart => "Clean-up started",
        E::CleanupEnd => "Clean-up finished",
        E::CleanupFail => "Clean-up failed",
        E::SnapshotStart => "Checkpoint asked for",
        E::SnapshotEnd => "Checkpoint taken",
        E::SnapshotFail => "Checkpoint failed",
        E::UsingPreviousSnapshot => "Using an older checkpoint",
        E::ConversionStart => "Conversion started",
        E::ConversionEnd => "Conversion finished",
        E::ConversionFail => "Conversion failed",
        E::LaunchStart => "Launch started",
        E::LaunchFailed => "Launch failed",
        E::JobCancel => "Job cancelled",
        E::JobEnd => "Job finished",
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
        Access::NotAttempted => badge("NOT_ATTEMPTED", "Not checked yet", "idle"),
        Access::Ok => badge("OK", "Access granted", "good"),
        Access::Denied { .. } => badge("DENIED", "Access denied", "bad"),
        Access::Throttled => badge("THROTTLED", "Throttled", "warn"),
        Access::Suspended => badge("SUSPENDED", "Suspended", "warn"),
        Access::LeftAlone { .. } => badge("LEFT_ALONE", "Left alone", "idle"),
        Access::Unknown { .. } => badge("UNKNOWN", "Not reached", "warn"),
    }
}

/// What happened, and what to do about it; `None` when nothing is wrong.
pub fn access_problem(access: &Access) -> Option<(String, String)> {
    match access {
        Access::NotAttempted | Access::Ok => None,
        Access::Denied { call, remedy } => Some((format!("{call} was denied"), remedy.clone())),
        Access::Throttled => Some((
            "The cloud throttles our calls".into(),
            "The hub tries again by itself; nothing needs to be done.".into(),
        )),
        Access::Suspended => Some((
            "The account is suspended".into(),
            "The organization's management account must reactivate it before servers can be moved into it."
                .into(),
        )),
        Access::LeftAlone { why } => Some(("The hub does not act in this account".into(), why.clone())),
        Access::Unknown { detail } => Some(("The account could not be reached".into(), detail.clone())),
    }
}

/// `None` where no network was looked at yet.
pub fn network(report: Option<&Report>) -> Badge {
    match report.map(|report| &report.outcome) {
        None => badge("NOT_CHECKED", "Not looked at yet", "idle"),
        Some(Outcome::NothingToCheck) => badge("NOTHING_TO_CHECK", "Nothing to check", "idle"),
        Some(Outcome::NotRead { .. }) => badge("NOT_READ", "Could not be read", "warn"),
        Some(Outcome::Checked { .. }) if report.is_some_and(|report| report.findings().is_empty()) => {
            badge("READY", "Ready", "good")
        }
        Some(Outcome::Checked { .. }) => badge("NOT_READY", "Not ready", "bad"),
    }
}

/// How many things in an account's network want to be changed.
pub fn network_findings(count: u64) -> Badge {
    counting(count, "NETWORK_NOT_READY", "in the network", "warn")
}

/// How much of what an account has is not as it should be; `None` where its last answer is missing.
pub fn inventory(wanting: Option<usize>) -> Badge {
    match wanting {
        None => badge("NOT_ASKED", "No answer", "idle"),
        Some(0) => badge("AS_IT_SHOULD_BE", "As it should be", "good"),
        Some(count) => counting(count as u64, "WANTING", "to look at", "warn"),
    }
}

pub fn standing(standing: Standing) -> Badge {
    match standing {
        Standing::Ours => badge("ours", "Needed", "good"),
        Standing::HandedOver => badge("handed_over", "Handed over to production", "good"),
        Standing::ServerUnknown => badge("server_unknown", "Stray", "warn"),
        Standing::NotNeeded => badge("not_needed", "Not needed", "warn"),
        Standing::NotInLedger => badge("not_in_ledger", "Not in the ledger", "warn"),
        Standing::TagsDiffer => badge("tags_differ", "Tags differ", "warn"),
    }
}

/// The ledger has it, and its account does not list it.
pub fn missing() -> Badge {
    badge("missing", "Missing", "warn")
}

pub fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::ManagementAccount => "by its management account",
        Reach::DelegatedAdministrator => "by a delegated administrator",
        Reach::Roster => "listed by hand",
    }
}

pub fn ledger(state: LedgerState) -> Badge {
    match state {
        LedgerState::Wanted => badge("wanted", "Asked for", "busy"),
        LedgerState::Present => badge("present", "Exists", "good"),
        LedgerState::Gone => badge("gone", "Gone", "idle"),
        LedgerState::HandedOver => badge("handed_over", "Handed over to production", "good"),
    }
}

pub fn boot_mode(mode: BootMode) -> (&'static str, &'static str) {
    match mode {
        BootMode::LegacyBios => ("LEGACY_BIOS", "Legacy BIOS"),
        BootMode::Uefi => ("UEFI", "UEFI"),
        BootMode::UseSource => ("USE_SOURCE", "As the source"),
    }
}

pub fn disposition(disposition: LaunchDisposition) -> (&'static str, &'static str) {
    match disposition {
        LaunchDisposition::Started => ("STARTED", "Started"),
        LaunchDisposition::Stopped => ("STOPPED", "Stopped"),
    }
}

pub fn runner(connected: bool, revoked: bool) -> Badge {
    match (revoked, connected) {
        (true, _) => badge("REVOKED", "Revoked", "bad"),
        (false, true) => badge("CONNECTED", "Connected", "good"),
        (false, false) => badge("NOT_SEEN", "Not seen", "bad"),
    }
}

pub fn no_runner() -> Badge {
    badge("NO_RUNNER", "No runner", "idle")
}

pub fn turned_away() -> Badge {
    badge("TURNED_AWAY", "Turned away", "warn")
}

/// Of an account in which nothing is wrong.
pub fn healthy(is_empty: bool) -> Badge {
    if is_empty {
        badge("EMPTY", "No servers yet", "idle")
    } else {
        badge("HEALTHY", "Healthy", "good")
    }
}

pub fn certificate(revoked: bool) -> Badge {
    if revoked {
        badge("REVOKED", "Revoked", "idle")
    } else {
        badge("VALID", "Valid", "good")
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
