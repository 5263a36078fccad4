//! What the agent is doing: kept in memory for the runner, in `status.json` for people on the server.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    disk::DiskProgress,
    flow::Flow,
    ids::SourceServerId,
};
use protocol::session::{AgentStatus, Phase, Trouble};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    changes::progress::Progress,
    layout::{Layout, read_if_there, write_atomically},
    own_writes,
};

/// The content of `status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalStatus {
    pub agent_version: String,
    pub pid: u32,
    pub server: SourceServerId,
    /// Host and data port.
    pub runner: String,
    pub connected: bool,
    pub phase: Phase,
    pub disks: Vec<DiskProgress>,
    #[serde(default)]
    pub flow: Flow,
    pub last_checkpoint: Option<LastCheckpoint>,
    /// Why nothing flows, if so.
    pub trouble: Option<Trouble>,
    /// The last reason for a session to end; stays when the next one works.
    pub last_error: Option<LastError>,
    pub updated_at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheckpoint {
    pub number: CheckpointNumber,
    pub kind: CheckpointKind,
    pub consistency: Consistency,
    pub taken_at_ms: i64,
    pub request: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    pub at_ms: i64,
    pub message: String,
}

pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The status while it changes. Cheap to share.
#[derive(Debug, Clone)]
pub struct Board(Arc<Mutex<Current>>);

#[derive(Debug)]
struct Current {
    status: LocalStatus,
    progress: Vec<Arc<Progress>>,
    /// The agent was uninstalled: no file may appear again.
    closed: bool,
}

impl Board {
    pub fn new(server: SourceServerId, runner: String) -> Self {
        Self(Arc::new(Mutex::new(Current {
            status: LocalStatus {
                agent_version: env!("CARGO_PKG_VERSION").into(),
                pid: std::process::id(),
                server,
                runner,
                connected: false,
                phase: Phase::FirstCopy,
                disks: Vec::new(),
                last_checkpoint: None,
                trouble: None,
                flow: Flow::default(),
                last_error: None,
                updated_at_ms: now_ms(),
            },
            progress: Vec::new(),
            closed: false,
        })))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn connected(&self, progress: Vec<Arc<Progress>>) {
        let mut current = self.current();
        current.status.connected = true;
        current.progress = progress;
    }

    pub fn disconnected(&self, reason: Option<String>) {
        let mut current = self.current();
        current.status.connected = false;
        if let Some(message) = reason {
            current.status.last_error = Some(LastError {
                at_ms: now_ms(),
                message,
            });
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.current().status.phase = phase;
    }

    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.current().status.trouble = trouble;
    }

    pub fn flow(&self) -> Flow {
        self.current().status.flow.clone()
    }

    pub fn set_flow(&self, flow: Flow) {
        self.current().status.flow = flow;
    }

    pub fn committed(&self, checkpoint: LastCheckpoint) {
        self.current().status.last_checkpoint = Some(checkpoint);
    }

    pub fn close(&self) {
        self.current().closed = true;
    }

    /// For the runner.
    pub fn report(&self) -> AgentStatus {
        let snapshot = self.snapshot();
        AgentStatus {
            phase: snapshot.phase,
            disks: snapshot.disks,
            trouble: snapshot.trouble,
            flow: snapshot.flow,
        }
    }

    pub fn snapshot(&self) -> LocalStatus {
        let current = self.current();
        let mut status = current.status.clone();
        if !current.progress.is_empty() {
            status.disks = current.progress.iter().map(|disk| disk.report()).collect();
        }
        // In steady state, changes that were found and are on their way are a backlog.
        if status.phase == Phase::Continuous && status.disks.iter().any(|disk| disk.backlogged_bytes > 0) {
            status.phase = Phase::Backlog;
        }
        status
    }

    /// Writes `status.json` each second if something changed, until `stop`.
    pub async fn keep_written(self, layout: Layout, stop: CancellationToken) {
        let mut written: Option<LocalStatus> = None;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            let last = tokio::select! {
                _ = tick.tick() => false,
                () = stop.cancelled() => true,
            };
            let mut status = self.snapshot();
            if let Some(written) = &written {
                status.updated_at_ms = written.updated_at_ms;
            }
            if written.as_ref() != Some(&status) {
                status.updated_at_ms = now_ms();
                // While file systems are frozen, it has to wait for the next tick.
                if let Some(_writing) = own_writes::begin() {
                    self.write(&layout, &status);
                    written = Some(status);
                }
            }
            if last {
                return;
            }
        }
    }

    fn write(&self, layout: &Layout, status: &LocalStatus) {
        let json =
            serde_json::to_vec_pretty(status).expect("a status has no maps with keys that are not text");
        let current = self.current();
        // Held during the write, so that `close` waits for it.
        if !current.closed
            && let Err(error) = write_atomically(&layout.status(), &json)
        {
            tracing::debug!("{}", crate::cli::chain(&error));
        }
    }
}

/// `orglift-agent status`.
pub fn show(layout: &Layout, as_json: bool) -> anyhow::Result<String> {
    let Some(json) = read_if_there(&layout.status())? else {
        anyhow::ensure!(
            layout.config().exists(),
            "no agent is installed in {}; install one with `orglift-agent install`",
            layout.dir().display()
        );
        anyhow::bail!("the agent in {} has not run yet", layout.dir().display());
    };
    if as_json {
        return Ok(String::from_utf8(json)?);
    }
    let status: LocalStatus = serde_json::from_slice(&json)?;
    let running = rustix::process::Pid::from_raw(status.pid.try_into().unwrap_or(0))
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    Ok(table(&status, running))
}

fn table(status: &LocalStatus, running: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:<18} {text}");
    };
    line("Source server", status.server.as_str());
    let reach = match (running, status.connected) {
        (false, _) => "the agent is not running",
        (true, true) => "connected",
        (true, false) => "not connected",
    };
    line("Runner", &format!("{} ({reach})", status.runner));
    line("Phase", phase_label(status.phase));
    match &status.last_checkpoint {
        None => line("Last checkpoint", "none yet"),
        Some(checkpoint) => line(
            "Last checkpoint",
            &format!(
                "{} of {}, {}, consistency {}",
                checkpoint.number,
                utc(checkpoint.taken_at_ms),
                match checkpoint.kind {
                    CheckpointKind::Partial => "partial",
                    CheckpointKind::Launchable => "launchable",
                },
                checkpoint.consistency.name()
            ),
        ),
    }
    if let Some(trouble) = &status.trouble {
        line("Trouble", &trouble.detail);
    }
    if let Some(error) = &status.last_error {
        line("Last error", &format!("{}: {}", utc(error.at_ms), error.message));
    }
    line("As of", &utc(status.updated_at_ms));
    if !status.disks.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<24} {:>10} {:>16} {:>10} {:>10}",
            "Disk", "Size", "Replicated", "Rescanned", "Backlog"
        );
    }
    for disk in &status.disks {
        let percent = disk.replicated_bytes * 100 / disk.total_bytes.max(1);
        let _ = writeln!(
            out,
            "{:<24} {:>10} {:>16} {:>10} {:>10}",
            disk.device_name,
            human_bytes(disk.total_bytes),
            format!("{} {percent:>3} %", human_bytes(disk.replicated_bytes)),
            human_bytes(disk.rescanned_bytes),
            human_bytes(disk.backlogged_bytes)
        );
    }
    out
}

fn phase_label(phase: Phase) -> &'static str {
    match phase {
        Phase::FirstCopy => "first copy",
        Phase::Rescan => "rescan: the disks are compared with what the runner holds",
        Phase::Backlog => "backlog: changes are on their way",
        Phase::Continuous => "continuous replication",
        Phase::Paused => "paused by the operator",
        Phase::Stopped => "stopped by the operator",
    }
}

fn utc(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default()
}

/// `8 GiB`, `1.5 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    let (mut whole, mut unit) = (bytes, "B");
    let mut tenths = 0;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        tenths = whole % 1024 * 10 / 1024;
        (whole, unit) = (whole / 1024, next);
    }
    if tenths == 0 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (8 << 30, "8 GiB"),
            (64 << 40, "64 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[tokio::test]
    async fn the_file_shows_the_last_state_and_stays_away_once_closed() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let board = Board::new(SourceServerId::from_entropy(5), "10.0.0.7:1500".into());
        board.set_trouble(Some(Trouble {
            kind: protocol::session::TroubleKind::Disks,
            detail: "/dev/sdb is gone".into(),
        }));
        let stop = CancellationToken::new();
        stop.cancel();
        board.clone().keep_written(layout.clone(), stop.clone()).await;
        let shown = show(&layout, false).unwrap();
        assert!(
            shown.contains("/dev/sdb is gone") && shown.contains("10.0.0.7:1500"),
            "{shown}"
        );

        board.close();
        std::fs::remove_file(layout.status()).unwrap();
        board.keep_written(layout.clone(), stop).await;
        assert!(
            show(&layout, false)
                .unwrap_err()
                .to_string()
                .contains("no agent is installed")
        );
    }
}
