//! What a session does: waits for the runner to want data, for a checkpoint to be due, and for the disks
//! to be there. [`super::rounds`] makes the checkpoints.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    source_server::ReplicationIntent,
};
use protocol::session::{CheckpointOffer, DiskStart, Orders, Phase, Trouble, TroubleKind, Welcome};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Agent, SessionEnd, SessionError,
    link::{Incoming, until_the_session_ends},
    roster::Roster,
};
use crate::{
    changes::{
        ChangeSource,
        progress::Progress,
        rescan::Rescan,
        scan::{Outgoing, ScanError},
    },
    checkpoint::schedule::Schedule,
    config::{Config, load_copied, save_copied},
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
    pub source: Box<dyn ChangeSource>,
    pub progress: Arc<Progress>,
}

#[derive(Debug)]
pub struct Drive<'a> {
    pub(super) agent: &'a Agent,
    pub(super) roster: Roster,
    pub(super) disks: Vec<SessionDisk>,
    pub(super) outbox: mpsc::Sender<Outgoing>,
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
    /// A launchable checkpoint was committed in this session.
    caught_up: bool,
    achieved: bool,
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
}

impl<'a> Drive<'a> {
    pub fn new(
        agent: &'a Agent,
        roster: Roster,
        welcome: &Welcome,
        outbox: mpsc::Sender<Outgoing>,
        incoming: Incoming,
    ) -> Self {
        let copied = load_copied(&agent.layout).unwrap_or_else(|error| {
            warn!("{}", crate::cli::chain(&error));
            BTreeSet::new()
        });
        let was_copied = |start: DiskStart, id| start != DiskStart::Full && copied.contains(id);
        let plans = || roster.disks().into_iter().zip(&welcome.disks);
        let disks = plans()
            .map(|(disk, plan)| SessionDisk {
                source: Box::new(Rescan::new(disk.bytes, plan.start)),
                progress: Arc::new(Progress::new(disk, was_copied(plan.start, &plan.id))),
            })
            .collect();
        let first_copy = plans().any(|(_, plan)| !was_copied(plan.start, &plan.id));
        Self {
            agent,
            disks,
            first_copy,
            roster,
            outbox,
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
        }
    }

    pub fn progress(&self) -> Vec<Arc<Progress>> {
        self.disks.iter().map(|disk| disk.progress.clone()).collect()
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
                Err(Interrupt::Orders) => self.call_off().await?,
                Err(Interrupt::Trouble) => {
                    self.call_off().await?;
                    self.idle(self.agent.pace.examine_every).await?;
                }
            }
        }
    }

    async fn step(&mut self, config: &mut Config) -> Result<(), Interrupt> {
        let orders = self.incoming.orders.borrow_and_update().clone();
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
        self.agent
            .board
            .set_phase(match (self.first_copy, self.caught_up) {
                (true, _) => Phase::FirstCopy,
                (false, false) => Phase::Rescan,
                (false, true) => Phase::Continuous,
            });
        self.examine(config)?;
        let wait = self.schedule.wait(orders, Instant::now());
        if wait.is_zero() {
            self.checkpoint(config).await
        } else {
            Ok(self.idle(wait.min(self.agent.pace.examine_every)).await?)
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
        ]
        .into_iter()
        .find_map(|(kind, detail)| detail.clone().map(|detail| Trouble { kind, detail }));
        self.agent.board.set_trouble(first);
    }

    /// Waits until the orders change or something was committed, `longest` at most.
    async fn idle(&mut self, longest: Duration) -> Result<(), SessionError> {
        let committed = tokio::select! {
            () = tokio::time::sleep(longest) => None,
            changed = self.incoming.orders.changed() => {
                if changed.is_err() {
                    until_the_session_ends::<()>().await;
                }
                None
            }
            committed = self.incoming.commits.recv() => match committed {
                Some(number) => Some(number),
                None => until_the_session_ends().await,
            },
        };
        committed.map_or(Ok(()), |number| self.committed(number))
    }

    /// Tells the runner that what was sent is a checkpoint.
    pub(super) async fn offer(&mut self, offer: CheckpointOffer) {
        let message = protocol::session::AgentMessage::Checkpoint(offer.clone());
        // Before it is sent, so that a quick answer finds it.
        self.offers.push_back(offer);
        self.saved = Saved {
            at: Instant::now(),
            found_bytes: self.found_bytes.load(std::sync::atomic::Ordering::Relaxed),
        };
        super::link::post(
            &self.outbox,
            Outgoing::plain(protocol::session::control(&message)),
        )
        .await;
    }

    pub(super) fn offers_open(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Waits for the runner to answer all offers.
    pub(super) async fn all_committed(&mut self) -> Result<(), Interrupt> {
        while self.offers_open() {
            self.idle(Duration::MAX).await?;
            if self.incoming.orders.borrow().replication != ReplicationIntent::Run {
                return Err(Interrupt::Orders);
            }
        }
        Ok(())
    }

    pub(super) fn committed(&mut self, number: CheckpointNumber) -> Result<(), SessionError> {
        let offer = self
            .offers
            .pop_front()
            .ok_or(SessionError::Protocol("it committed what was not offered"))?;
        self.achieved = true;
        for disk in &mut self.disks {
            disk.source.committed();
        }
        info!(
            checkpoint = number.0,
            kind = ?offer.kind,
            consistency = offer.consistency.name(),
            "checkpoint {number} is committed"
        );
        if offer.kind == CheckpointKind::Launchable {
            self.caught_up = true;
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
