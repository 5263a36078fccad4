//! How a server's replication stands. Decides only: the callers do, and say what time it is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use domain::{
    checkpoint::CheckpointKind,
    disk::DiskProgress,
    flow::Flow,
    replication::{Event, InitiationStep, Replication, ReplicationError, Stall},
    source_server::ReplicationIntent,
};
use protocol::{
    exchange::ObservedAgent,
    session::{AgentStatus, Phase, SILENCE_MAX, TroubleKind},
};

/// So many lost connections within [`FLAPPING_WITHIN`] make the network unstable.
const FLAPPING_LOSSES: usize = 5;
const FLAPPING_WITHIN: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub struct Standing {
    pub replication: Replication,
    pub agent: Option<ObservedAgent>,
    pub disks: Vec<DiskProgress>,
    pub flow: Flow,
    /// The greatest checkpoint request whose answer is durable.
    pub durable_request: u64,
    /// Since when no agent has been connected; `None` while one is.
    absent_since: Option<Instant>,
    /// Why the last agent is gone, for the operator.
    absence: String,
    losses: VecDeque<Instant>,
    retries_seen: Option<u64>,
    pub forgotten: bool,
}

impl Standing {
    pub fn new(now: Instant, disks: Vec<DiskProgress>) -> Self {
        Self {
            replication: Replication::Stopped,
            agent: None,
            disks,
            flow: Flow::default(),
            durable_request: 0,
            absent_since: Some(now),
            absence: "it has not connected since the runner started".into(),
            losses: VecDeque::new(),
            retries_seen: None,
            forgotten: false,
        }
    }

    /// What the operator wants. May be repeated. `true` if it is a new order to retry at once.
    pub fn intend(&mut self, intent: ReplicationIntent, retries: u64) -> bool {
        use {Replication as R, ReplicationIntent as I};
        let events: &[Event] = match (intent, &self.replication) {
            (I::Run, R::Stopped) => &[Event::Started],
            (I::Run, R::Paused) => &[Event::Resumed],
            (I::Paused, R::Stopped) => &[Event::Started, Event::Paused],
            (I::Paused, R::Paused) | (I::Stopped, R::Stopped) | (I::Run, _) => &[],
            (I::Paused, _) => &[Event::Paused],
            (I::Stopped, _) => &[Event::Stopped],
            (I::Disconnected, _) => &[Event::Disconnected],
        };
        events.iter().cloned().for_each(|event| self.on(event));
        let seen = self.retries_seen.replace(retries);
        let retry = seen.is_some_and(|seen| seen < retries);
        if retry && matches!(self.replication, R::Stalled(_)) {
            self.on(Event::Retried);
            // The silence is counted anew, or the next tick would stall it again.
            self.absent_since = self.absent_since.map(|_| Instant::now());
        }
        retry
    }

    pub fn step(&mut self, step: InitiationStep) {
        if matches!(
            self.replication,
            Replication::Initiating(_) | Replication::Stalled(_)
        ) {
            self.on(Event::StepReached(step));
        }
    }

    pub fn agent_came(&mut self, agent: ObservedAgent) {
        // The snapshot that was being made went with the connection.
        if self.replication == Replication::CreatingSnapshot {
            self.stall(
                ReplicationError::LastSnapshotJobFailed,
                "the connection was lost".into(),
            );
        }
        if matches!(self.replication, Replication::Stalled(_)) {
            self.on(Event::Recovered);
        }
        self.absent_since = None;
        self.agent = Some(agent);
    }

    /// The agent left on purpose, and says why.
    pub fn agent_left(&mut self, now: Instant, why: &str) {
        self.absent_since = Some(now);
        why.clone_into(&mut self.absence);
        self.agent = None;
        self.flow = Flow::default();
    }

    pub fn agent_lost(&mut self, now: Instant, why: &str) {
        self.agent_left(now, why);
        self.losses.push_back(now);
        self.losses
            .retain(|lost| now.saturating_duration_since(*lost) < FLAPPING_WITHIN);
        if self.losses.len() >= FLAPPING_LOSSES && self.is_wanted() {
            let detail = format!(
                "the connection to the agent was lost {} times in {} seconds, the last time because {why}; \
                 check the network between the source server and the runner",
                self.losses.len(),
                FLAPPING_WITHIN.as_secs(),
            );
            self.stall(ReplicationError::UnstableNetwork, detail);
        }
    }

    /// Nothing came from the agent for [`SILENCE_MAX`]: it has been away for so long already.
    pub fn agent_fell_silent(&mut self, now: Instant) {
        self.agent_lost(
            now,
            &format!("it was silent for {} seconds", SILENCE_MAX.as_secs()),
        );
        self.absent_since = Some(now.checked_sub(SILENCE_MAX).unwrap_or(now));
    }

    /// Called every second or so.
    pub fn tick(&mut self, now: Instant) {
        let Some(since) = self.absent_since else { return };
        let silent = now.saturating_duration_since(since) >= SILENCE_MAX;
        if silent && self.is_wanted() && !matches!(self.replication, Replication::Stalled(_)) {
            let detail = format!(
                "the agent is not connected: {}; check that it runs on the source server and that the \
                 server reaches this runner on its data port",
                self.absence
            );
            self.stall(ReplicationError::AgentNotSeen, detail);
        }
    }

    pub fn stall(&mut self, error: ReplicationError, detail: String) {
        if !self.is_wanted() {
            return;
        }
        let step = match &self.replication {
            Replication::Initiating(initiation) => Some(initiation.step),
            Replication::Stalled(stall) => stall.step,
            _ => None,
        };
        self.on(Event::Stalled(Stall { error, detail, step }));
    }

    /// The agent reports. `has_checkpoint`: a launchable one exists.
    pub fn agent_reports(&mut self, status: AgentStatus, has_checkpoint: bool) {
        use Replication as R;
        self.disks = status.disks;
        self.flow = status.flow;
        if let Some(trouble) = status.trouble {
            if !matches!(self.replication, R::Stalled(_)) {
                self.stall(error_of(trouble.kind), trouble.detail);
            }
            return;
        }
        if matches!(self.replication, R::Stalled(_)) {
            self.on(Event::Recovered);
        }
        let waiting = matches!(self.replication, R::Initiating(_));
        match status.phase {
            Phase::FirstCopy if waiting => self.on(Event::FirstCopyStarted),
            Phase::Rescan if waiting || matches!(self.replication, R::Backlog | R::Continuous) => {
                self.on(Event::RescanStarted);
            }
            // It goes on from the last checkpoint, without comparing.
            Phase::Backlog | Phase::Continuous if waiting && has_checkpoint => {
                self.on(Event::ChangesWaiting);
                if status.phase == Phase::Continuous {
                    self.on(Event::AllBlocksSent);
                    self.on(Event::CheckpointCommitted);
                }
            }
            Phase::Backlog if self.replication == R::Continuous => self.on(Event::ChangesWaiting),
            _ => {}
        }
    }

    pub fn checkpoint_offered(&mut self, kind: CheckpointKind) {
        use Replication as R;
        let flowing = matches!(
            self.replication,
            R::InitialSync | R::Rescan | R::Backlog | R::Continuous
        );
        if kind == CheckpointKind::Launchable && flowing {
            self.on(Event::AllBlocksSent);
        }
    }

    pub fn checkpoint_committed(&mut self, kind: CheckpointKind) {
        if kind == CheckpointKind::Launchable && self.replication == Replication::CreatingSnapshot {
            self.on(Event::CheckpointCommitted);
        }
    }

    pub fn is_connected(&self) -> bool {
        self.absent_since.is_none()
    }

    fn is_wanted(&self) -> bool {
        !matches!(
            self.replication,
            Replication::Stopped | Replication::Paused | Replication::Disconnected
        )
    }

    fn on(&mut self, event: Event) {
        match self.replication.clone().on(event) {
            Ok(next) => self.replication = next,
            Err(refused) => tracing::debug!(%refused, "an event came out of turn"),
        }
    }
}

/// The name that MGN has for what the agent cannot do.
fn error_of(trouble: TroubleKind) -> ReplicationError {
    match trouble {
        TroubleKind::Disks => ReplicationError::UnsupportedVmConfiguration,
        TroubleKind::Reading => ReplicationError::SnapshotsFailure,
        TroubleKind::Hooks | TroubleKind::NotConverging => ReplicationError::NotConverging,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: Phase) -> AgentStatus {
        AgentStatus {
            phase,
            disks: Vec::new(),
            trouble: None,
            flow: Flow::default(),
        }
    }

    fn agent() -> ObservedAgent {
        serde_json::from_value(serde_json::json!({
            "address": "10.0.0.5", "agent_version": "0.1.0",
            "properties": {
                "hostname": "web-1", "fqdn": "web-1.example.com", "os": "Debian", "kernel": "6.1",
                "boot_mode": "UEFI", "cpus": 2, "ram_bytes": 1, "network_interfaces": [], "disks": []
            }
        }))
        .unwrap()
    }

    fn syncing() -> (Standing, Instant) {
        let start = Instant::now();
        let mut standing = Standing::new(start, Vec::new());
        standing.intend(ReplicationIntent::Run, 0);
        standing.agent_came(agent());
        standing.step(InitiationStep::StartDataTransfer);
        standing.agent_reports(status(Phase::FirstCopy), false);
        assert_eq!(standing.replication, Replication::InitialSync);
        (standing, start)
    }

    #[test]
    fn a_first_copy_ends_in_continuous_replication() {
        let (mut standing, _) = syncing();
        standing.checkpoint_offered(CheckpointKind::Partial);
        standing.checkpoint_committed(CheckpointKind::Partial);
        assert_eq!(standing.replication, Replication::InitialSync);
        standing.checkpoint_offered(CheckpointKind::Launchable);
        assert_eq!(standing.replication, Replication::CreatingSnapshot);
        standing.checkpoint_committed(CheckpointKind::Launchable);
        assert_eq!(standing.replication, Replication::Continuous);
        standing.agent_reports(status(Phase::Backlog), true);
        assert_eq!(standing.replication, Replication::Backlog);
    }

    #[test]
    fn whoever_goes_on_by_changes_never_rescans() {
        for (phase, reached) in [
            (Phase::Backlog, Replication::Backlog),
            (Phase::Continuous, Replication::Continuous),
        ] {
            let mut standing = Standing::new(Instant::now(), Vec::new());
            standing.intend(ReplicationIntent::Run, 0);
            standing.agent_came(agent());
            standing.agent_reports(status(phase), false);
            assert!(matches!(standing.replication, Replication::Initiating(_)));
            standing.agent_reports(status(phase), true);
            assert_eq!(standing.replication, reached);
        }
    }

    #[test]
    fn silence_stalls_and_the_agent_recovers() {
        let (mut standing, start) = syncing();
        standing.agent_lost(start, "the peer was silent");
        standing.tick(start + SILENCE_MAX / 2);
        assert_eq!(standing.replication, Replication::InitialSync);
        standing.tick(start + SILENCE_MAX);
        let Replication::Stalled(stall) = &standing.replication else {
            panic!("{:?}", standing.replication)
        };
        assert_eq!(stall.error, ReplicationError::AgentNotSeen);
        standing.agent_came(agent());
        standing.agent_reports(status(Phase::Rescan), true);
        assert_eq!(standing.replication, Replication::Rescan);
    }

    #[test]
    fn an_agent_that_was_silent_long_enough_is_not_given_the_same_time_again() {
        let (mut standing, start) = syncing();
        let now = start + SILENCE_MAX;
        standing.agent_fell_silent(now);
        standing.tick(now);
        let Replication::Stalled(stall) = &standing.replication else {
            panic!("{:?}", standing.replication)
        };
        assert_eq!(stall.error, ReplicationError::AgentNotSeen);
        assert!(stall.detail.contains("silent for 20 seconds"), "{}", stall.detail);
    }

    #[test]
    fn a_flapping_connection_is_named() {
        let (mut standing, start) = syncing();
        for n in 0..5 {
            standing.agent_came(agent());
            standing.agent_lost(start + Duration::from_secs(n), "it was reset");
        }
        let Replication::Stalled(stall) = &standing.replication else {
            panic!("{:?}", standing.replication)
        };
        assert_eq!(stall.error, ReplicationError::UnstableNetwork);
    }

    #[test]
    fn what_the_operator_stopped_does_not_stall() {
        let (mut standing, start) = syncing();
        for (intent, reached) in [
            (ReplicationIntent::Paused, Replication::Paused),
            (ReplicationIntent::Stopped, Replication::Stopped),
            (ReplicationIntent::Disconnected, Replication::Disconnected),
        ] {
            standing.intend(intent, 0);
            standing.agent_left(start, "it stopped");
            standing.tick(start + 2 * SILENCE_MAX);
            assert_eq!(standing.replication, reached);
        }
    }

    #[test]
    fn a_retry_ends_a_stall_once() {
        let (mut standing, start) = syncing();
        standing.agent_lost(start, "it was reset");
        standing.tick(start + SILENCE_MAX);
        standing.intend(ReplicationIntent::Run, 0);
        assert!(matches!(standing.replication, Replication::Stalled(_)));
        standing.intend(ReplicationIntent::Run, 1);
        assert!(matches!(standing.replication, Replication::Initiating(_)));
    }
}
