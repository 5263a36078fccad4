//! What a session does: waits for the runner to want data, for a checkpoint to be due, and for the disks to be there.
//! [`super::checkpoint`] makes the checkpoints.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    flow::Flow,
    source_server::ReplicationIntent,
};
use protocol::session::{
    AgentMessage, CheckpointOffer, DiskStart, Orders, Phase, Trouble, TroubleKind, Welcome,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Agent, SessionEnd, SessionError,
    link::{Incoming, until_the_session_ends},
    meter::{Gauge, Meter},
    outbox::Outbox,
    roster::Roster,
    rounds::Saving,
    throttle::Throttle,
};
use crate::{
    changes::{progress::Progress, scan::ScanError, sources::Sources},
    checkpoint::schedule::Schedule,
    config::{Config, load_copied, save_copied},
    disks::quiet,
    status::LastCheckpoint,
};

/// Why work was broken off.
#[derive(Debug)]
pub(super) enum Interrupt {
    /// The orders have changed: look at them.
    Orders,
    End(SessionEnd),
    /// The disks cannot be read now; [`Troubles`] says why. The session stays, and tries again.
    Trouble,
    /// A change source was not sure any more in the middle of a last round.
    Doubt,
    Session(SessionError),
}

impl From<SessionError> for Interrupt {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// One disk of the session.
#[derive(Debug)]
pub(super) struct SessionDisk {
    pub progress: Arc<Progress>,
}

/// What the ends of the connections share with the drive.
#[derive(Debug)]
pub struct Parts {
    pub outbox: Arc<Outbox>,
    pub meter: Arc<Meter>,
    pub throttle: Arc<Throttle>,
}

/// What is read in a second, before it was measured: that of a disk with a head that does not move much.
const READ_RATE_BEFORE: f64 = 100e6;

#[derive(Debug)]
pub struct Drive<'a> {
    pub(super) agent: &'a Agent,
    pub(super) sources: &'a mut Sources,
    pub(super) roster: Roster,
    pub(super) disks: Vec<SessionDisk>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) meter: Arc<Meter>,
    pub(super) throttle: Arc<Throttle>,
    /// Bytes per second, as last rounds read them.
    pub(super) read_rate: f64,
    pub(super) incoming: Incoming,
    pub(super) schedule: Schedule,
    pub(super) workers: JoinSet<Result<(), ScanError>>,
    pub(super) scan_stop: CancellationToken,
    /// All that differed and was sent in this session.
    pub(super) found_bytes: Arc<AtomicU64>,
    pub(super) saved: Saved,
    pub(super) troubles: Troubles,
    /// Offered and not yet committed, oldest first.
    offers: VecDeque<CheckpointOffer>,
    /// The runner has never had a launchable checkpoint of these disks.
    first_copy: bool,
    /// The runner holds a launchable checkpoint, and what changed since is known.
    pub(super) caught_up: bool,
    achieved: bool,
    pub(super) audited: Instant,
}

/// The last time that something was offered to the runner, and how much had been found by then.
#[derive(Debug)]
pub(super) struct Saved {
    pub at: Instant,
    pub found_bytes: u64,
}

/// What keeps data from flowing, or a checkpoint from being good.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pub disks: Option<String>,
    pub reading: Option<String>,
    pub hooks: Option<String>,
    pub converging: Option<String>,
}

impl<'a> Drive<'a> {
    pub fn new(
        agent: &'a Agent,
        sources: &'a mut Sources,
        roster: Roster,
        welcome: &Welcome,
        parts: Parts,
        incoming: Incoming,
    ) -> Self {
        let copied = load_copied(&agent.layout).unwrap_or_else(|error| {
            warn!("{}", crate::cli::chain(&error));
            BTreeSet::new()
        });
        let was_copied = |start: DiskStart, id| start != DiskStart::Full && copied.contains(id);
        let plans = || roster.disks().into_iter().zip(&welcome.disks);
        sources.session_began(&roster.disks(), welcome.disks.iter().map(|plan| plan.start));
        let disks = plans()
            .map(|(disk, plan)| SessionDisk {
                progress: Arc::new(Progress::new(disk, was_copied(plan.start, &plan.id))),
            })
            .collect();
        let first_copy = plans().any(|(_, plan)| !was_copied(plan.start, &plan.id));
        let Parts {
            outbox,
            meter,
            throttle,
        } = parts;
        Self {
            agent,
            sources,
            disks,
            first_copy,
            roster,
            outbox,
            meter,
            throttle,
            read_rate: READ_RATE_BEFORE,
            incoming,
            schedule: Schedule::default(),
            workers: JoinSet::new(),
            scan_stop: CancellationToken::new(),
            found_bytes: Arc::default(),
            saved: Saved {
                at: Instant::now(),
                found_bytes: 0,
            },
            troubles: Troubles::default(),
            offers: VecDeque::new(),
            caught_up: false,
            achieved: false,
            audited: Instant::now(),
        }
    }

    pub fn progress(&self) -> Vec<Arc<Progress>> {
        self.disks.iter().map(|disk| disk.progress.clone()).collect()
    }

    /// Measures the flow of this session whenever it is called.
    pub fn gauge(&self) -> impl FnMut() -> Flow + Send + use<> {
        let disks = self.roster.present().unwrap_or_default();
        let (roots, progress) = (self.agent.roots.clone(), self.progress());
        let throttle = self.throttle.clone();
        let written = quiet::written_bytes(&roots, &disks);
        let mut gauge = Gauge::new(self.meter.clone(), written, Instant::now());
        move || {
            let backlog = progress.iter().map(|disk| disk.report().backlogged_bytes).sum();
            let written = quiet::written_bytes(&roots, &disks);
            gauge.flow(written, backlog, throttle.limit(), Instant::now())
        }
    }

    /// Whether a checkpoint was committed.
    pub fn achieved(&self) -> bool {
        self.achieved
    }

    /// Replicates until the session has to end.
    pub async fn run(&mut self, config: &mut Config) -> Result<SessionEnd, SessionError> {
        loop {
            match self.step(config).await {
                Ok(()) => {}
                Err(Interrupt::Session(error)) => return Err(error),
                Err(Interrupt::End(end)) => return Ok(end),
                Err(Interrupt::Orders | Interrupt::Doubt) => self.call_off().await?,
                Err(Interrupt::Trouble) => {
                    self.call_off().await?;
                    self.idle(self.agent.pace.examine_every).await?;
                }
            }
        }
    }

    async fn step(&mut self, config: &mut Config) -> Result<(), Interrupt> {
        let orders = self.incoming.orders.borrow_and_update().clone();
        self.throttle.order(&orders.bandwidth);
        match orders.replication {
            ReplicationIntent::Disconnected => Err(Interrupt::End(SessionEnd::Disconnected)),
            ReplicationIntent::Paused => self.rest(Phase::Paused).await,
            ReplicationIntent::Stopped => self.rest(Phase::Stopped).await,
            ReplicationIntent::Run => self.replicate(config, &orders).await,
        }
    }

    async fn rest(&mut self, phase: Phase) -> Result<(), Interrupt> {
        self.agent.board.set_phase(phase);
        Ok(self.idle(Duration::MAX).await?)
    }

    async fn replicate(&mut self, config: &mut Config, orders: &Orders) -> Result<(), Interrupt> {
        self.examine(config)?;
        let left = self.left()?;
        self.caught_up |= left.is_tracked && !self.first_copy;
        self.agent
            .board
            .set_phase(match (self.first_copy, self.caught_up) {
                (true, _) => Phase::FirstCopy,
                (false, false) => Phase::Rescan,
                (false, true) => Phase::Continuous,
            });
        self.show_tracking();
        let wait = self.schedule.wait(orders, Instant::now());
        if wait.is_zero() {
            self.checkpoint(config).await
        } else if left.is_tracked && left.bytes >= self.agent.pace.stream_bytes {
            // The less is left, the sooner a launch has the checkpoint that it asks for.
            self.pass(Saving::Whole).await.map(drop)
        } else {
            self.audit_if_due(config).await?;
            Ok(self.idle(wait.min(self.agent.pace.examine_every)).await?)
        }
    }

    /// Shows how changes are found, and how much of them waits.
    pub(super) fn show_tracking(&mut self) {
        let ids = self.roster.disks().into_iter().map(|disk| disk.id);
        for (id, disk) in ids.zip(&self.disks) {
            if let Some(source) = self.sources.get(&id) {
                let tracked_backlog = source.unclean().map(|_| source.backlog());
                disk.progress.tracked(source.tracking(), tracked_backlog);
            }
        }
    }

    /// Looks whether the disks are those of the Hello, and all there.
    pub(super) fn examine(&mut self, config: &mut Config) -> Result<(), Interrupt> {
        let now = Roster::examine(&self.agent.roots, config, &self.agent.layout)?;
        if !now.is_about_the_same(&self.roster) {
            info!("the disks have changed; a new session begins");
            return Err(Interrupt::End(SessionEnd::DisksChanged));
        }
        self.roster = now;
        let trouble = self.roster.present().err();
        if let Some(text) = &trouble
            && self.troubles.disks.as_ref() != Some(text)
        {
            warn!("{text}");
        }
        self.troubles.disks.clone_from(&trouble);
        self.show_troubles();
        trouble.map_or(Ok(()), |_told| Err(Interrupt::Trouble))
    }

    pub(super) fn show_troubles(&self) {
        let troubles = &self.troubles;
        let first = [
            (TroubleKind::Disks, &troubles.disks),
            (TroubleKind::Reading, &troubles.reading),
            (TroubleKind::Hooks, &troubles.hooks),
            (TroubleKind::NotConverging, &troubles.converging),
        ]
        .into_iter()
        .find_map(|(kind, detail)| detail.clone().map(|detail| Trouble { kind, detail }));
        self.agent.board.set_trouble(first);
    }

    /// Waits until the orders change or something was committed, `longest` at most.
    async fn idle(&mut self, longest: Duration) -> Result<(), SessionError> {
        let durable = tokio::select! {
            () = tokio::time::sleep(longest) => None,
            changed = self.incoming.orders.changed() => {
                if changed.is_err() {
                    until_the_session_ends::<()>().await;
                }
                None
            }
            durable = self.incoming.durable.recv() => match durable {
                Some(number) => Some(number),
                None => until_the_session_ends().await,
            },
        };
        durable.map_or(Ok(()), |number| self.durable(number))
    }

    /// Tells the runner that what was sent is a checkpoint.
    pub(super) async fn offer(&mut self, offer: CheckpointOffer) {
        let message = AgentMessage::Checkpoint(offer.clone());
        if offer.kind == CheckpointKind::Launchable {
            for (_, source) in self.sources.all() {
                source.offered();
            }
        }
        // Before it is sent, so that a quick answer finds it.
        self.offers.push_back(offer);
        self.saved = Saved {
            at: Instant::now(),
            found_bytes: self.found_bytes.load(Relaxed),
        };
        self.outbox.post(&message).await;
    }

    pub(super) fn offers_open(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Waits for the runner to answer all offers.
    pub(super) async fn all_durable(&mut self) -> Result<(), Interrupt> {
        while self.offers_open() {
            self.idle(Duration::MAX).await?;
            if self.incoming.orders.borrow().replication != ReplicationIntent::Run {
                return Err(Interrupt::Orders);
            }
        }
        Ok(())
    }

    pub(super) fn durable(&mut self, number: CheckpointNumber) -> Result<(), SessionError> {
        let offer = self
            .offers
            .pop_front()
            .ok_or(SessionError::Protocol("it answered what was not offered"))?;
        self.achieved = true;
        info!(
            checkpoint = number.0,
            kind = ?offer.kind,
            consistency = offer.consistency.name(),
            "checkpoint {number} is durable"
        );
        if offer.kind == CheckpointKind::Launchable {
            self.caught_up = true;
            for (_, source) in self.sources.all() {
                source.committed(number);
            }
            if std::mem::take(&mut self.first_copy) {
                let ids = self.roster.disks().into_iter().map(|disk| disk.id).collect();
                save_copied(&self.agent.layout, &ids)?;
            }
        }
        self.agent.board.committed(LastCheckpoint {
            number,
            kind: offer.kind,
            consistency: offer.consistency,
            taken_at_ms: offer.taken_at_ms,
            request: offer.request,
        });
        Ok(())
    }

    /// Ends a round before its end. When this returns, no thread is left that could send an old block
    /// after a new one, and no answer is left that could be taken for another.
    async fn call_off(&mut self) -> Result<(), SessionError> {
        self.stop_scanning().await;
        self.scan_stop = CancellationToken::new();
        self.incoming.digests.drain().await
    }

    pub async fn stop_scanning(&mut self) {
        self.scan_stop.cancel();
        // Their outcome does not matter any more: what they sent is compared again.
        while self.workers.join_next().await.is_some() {}
    }
}
