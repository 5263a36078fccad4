//! Rounds over all disks: each source says what to look at, threads read it, and what differs is sent or held.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use domain::{
    checkpoint::{CheckpointKind, Consistency},
    source_server::ReplicationIntent,
};
use protocol::session::CheckpointOffer;
use tracing::{debug, warn};

use super::{
    SessionError,
    checkpoint::Left,
    drive::{Drive, Interrupt},
    link::until_the_session_ends,
};
use crate::{
    changes::{
        Against, Round,
        scan::{self, Expected, Held, Pieces, ScanError, Segment},
    },
    disks::{LocalDisk, quiet, reader::DiskReader},
    status::now_ms,
};

/// What a round came to.
#[derive(Debug)]
pub(super) struct Pass {
    pub found_bytes: u64,
    /// Of the disks as they were read: all at one instant, or not.
    pub consistency: Consistency,
    /// For how long file systems stood still.
    pub frozen: Duration,
    pub began: Instant,
    pub taken_at_ms: i64,
    /// The greatest request that had been seen when it began.
    pub request: u64,
}

/// Whether the runner may commit part of what a round sends, to save a long copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Saving {
    Partial,
    Whole,
}

/// How much a new estimate of the reading rate counts against what was known.
const RATE_WEIGHT: f64 = 0.5;

impl Drive<'_> {
    /// Looks at what may differ on all disks once, and sends what the runner does not have.
    pub(super) async fn pass(&mut self, saving: Saving) -> Result<Pass, Interrupt> {
        let disks = self.present()?;
        let found_before = self.found_bytes.load(Relaxed);
        let before = quiet::before_pass(&self.agent.roots, &disks).await;
        let mut pass = self.new_pass();
        for disk in &self.disks {
            disk.progress.round_began();
        }
        for (number, disk) in (0_u16..).zip(&disks) {
            self.sweep(number, disk, saving).await?;
        }
        let after = quiet::look(&self.agent.roots, &disks);
        if quiet::nothing_was_written(&before, &after) {
            pass.consistency = Consistency::Crash;
        }
        pass.found_bytes = self.found_bytes.load(Relaxed) - found_before;
        self.show_tracking();
        debug!(found_bytes = pass.found_bytes, consistency = ?pass.consistency, elapsed = ?pass.began.elapsed(), "pass");
        Ok(pass)
    }

    /// Where the disks are, with a source for each.
    pub(super) fn present(&mut self) -> Result<Vec<LocalDisk>, Interrupt> {
        let disks = self
            .roster
            .present()
            .map_err(|_told_when_examined| Interrupt::Trouble)?;
        self.sources.take_up(&disks);
        Ok(disks)
    }

    pub(super) fn left(&mut self) -> Result<Left, Interrupt> {
        let mut left = Left {
            bytes: 0,
            is_tracked: true,
        };
        for local in self.present()? {
            let source = self.sources.get(&local.disk.id).ok_or(Interrupt::Trouble)?;
            // A disk that has to be looked at as a whole is as good as not tracked.
            left.is_tracked &= source.unclean().is_some();
            left.bytes += source.backlog();
        }
        Ok(left)
    }

    /// One disk's part of a pass.
    async fn sweep(&mut self, number: u16, local: &LocalDisk, saving: Saving) -> Result<(), Interrupt> {
        let source = self.sources.get(&local.disk.id).ok_or(Interrupt::Trouble)?;
        match source.begin_round() {
            Round::Whole(Against::Zeros) => {
                for pieces in scan::whole(local.disk.bytes) {
                    self.scan(number, local, pieces, Expected::Zeros, saving).await?;
                }
            }
            Round::Whole(Against::RunnersDigests) => self.compare(number, local, saving).await?,
            Round::Changes(chunks) => {
                self.disks[usize::from(number)].progress.copied_whole();
                for pieces in scan::changes(chunks) {
                    self.scan(number, local, pieces, Expected::Nothing, saving)
                        .await?;
                }
            }
        }
        if let Some(source) = self.sources.get(&local.disk.id) {
            source.end_round();
        }
        Ok(())
    }

    async fn compare(&mut self, number: u16, local: &LocalDisk, saving: Saving) -> Result<(), Interrupt> {
        let mut segments = scan::whole(local.disk.bytes).peekable();
        let mut asked = 0;
        while let Some(pieces) = segments.next() {
            // One ahead, so that the answer is there when it is needed.
            let ahead = segments.peek().into_iter();
            for blocks in [&pieces].into_iter().chain(ahead).filter_map(blocks_of) {
                if blocks.start >= asked {
                    asked = blocks.end;
                    let digests = &mut self.incoming.digests;
                    digests.ask(&self.outbox, number, blocks).await;
                }
            }
            let expected = Expected::Digests(self.incoming.digests.next().await?);
            self.scan(number, local, pieces, expected, saving).await?;
        }
        Ok(())
    }

    async fn scan(
        &mut self,
        number: u16,
        local: &LocalDisk,
        pieces: Pieces,
        expected: Expected,
        saving: Saving,
    ) -> Result<(), Interrupt> {
        let segment = Arc::new(self.segment(number, local, pieces, expected)?);
        for _ in 0..threads() {
            let segment = segment.clone();
            self.workers.spawn_blocking(move || scan::scan(&segment));
        }
        self.join_workers(saving).await?;
        self.workers.spawn_blocking(move || segment.send_zeros());
        self.join_workers(saving).await
    }

    fn segment(
        &mut self,
        number: u16,
        local: &LocalDisk,
        pieces: Pieces,
        expected: Expected,
    ) -> Result<Segment, Interrupt> {
        // Opened anew each time: the file behind a name may have been replaced.
        let reader = DiskReader::open(&local.path, local.disk.bytes)
            .map_err(|error| self.reading_failed(&ScanError::Read(error)))?;
        Ok(Segment {
            disk: number,
            reader,
            progress: self.disks[usize::from(number)].progress.clone(),
            pieces,
            expected,
            outbox: self.outbox.clone(),
            meter: self.meter.clone(),
            stop: self.scan_stop.clone(),
            taken: AtomicUsize::new(0),
            found_bytes: self.found_bytes.clone(),
            zeroed: Mutex::default(),
        })
    }

    /// Reads into memory what is left of all disks. Nobody waits for the network here, and nothing is logged.
    pub(super) async fn hold_all(
        &mut self,
        disks: &[LocalDisk],
    ) -> Result<Vec<(Arc<Segment>, Vec<Held>)>, Interrupt> {
        let began = Instant::now();
        let mut segments = Vec::new();
        for (number, local) in (0_u16..).zip(disks) {
            let source = self.sources.get(&local.disk.id).ok_or(Interrupt::Trouble)?;
            let Round::Changes(chunks) = source.begin_round() else {
                // A doubt came up: the caller finds that it is not sure.
                return Err(Interrupt::Doubt);
            };
            for pieces in scan::changes(chunks) {
                segments.push(Arc::new(self.segment(
                    number,
                    local,
                    pieces,
                    Expected::Nothing,
                )?));
            }
        }
        let mut threads = tokio::task::JoinSet::new();
        for segment in &segments {
            for _ in 0..self::threads() {
                let segment = segment.clone();
                threads.spawn_blocking(move || {
                    let held = scan::hold(&segment);
                    (segment.disk, segment, held)
                });
            }
        }
        let mut all = Vec::new();
        let mut bytes = 0;
        while let Some(joined) = threads.join_next().await {
            let (_, segment, held) = joined.map_err(|_panic| SessionError::Panic)?;
            let held = held.map_err(|error| self.reading_failed(&error))?;
            bytes += held.iter().map(|held| held.data.len()).sum::<usize>();
            all.push((segment, held));
        }
        self.learn_rate(bytes, began.elapsed());
        Ok(all)
    }

    /// Sends what was held, and ends the round. Gives its bytes.
    pub(super) async fn send_held(&mut self, held: Vec<(Arc<Segment>, Vec<Held>)>) -> Result<u64, Interrupt> {
        let found_before = self.found_bytes.load(Relaxed);
        for (segment, held) in held {
            self.workers.spawn_blocking(move || {
                segment.send_held(held)?;
                segment.send_zeros()
            });
        }
        self.join_workers(Saving::Whole).await?;
        for (_, source) in self.sources.all() {
            source.end_round();
        }
        self.show_tracking();
        Ok(self.found_bytes.load(Relaxed) - found_before)
    }

    fn learn_rate(&mut self, bytes: usize, time: Duration) {
        // Of a few pages, most of the time is that of starting threads.
        if bytes > 1 << 20 {
            // Far from the precision of a float.
            #[allow(clippy::cast_precision_loss)]
            let seen = bytes as f64 / time.as_secs_f64().max(1e-6);
            self.read_rate += RATE_WEIGHT * (seen - self.read_rate);
        }
    }

    /// Waits for the threads of a segment, while the runner may speak.
    async fn join_workers(&mut self, saving: Saving) -> Result<(), Interrupt> {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                ended = self.workers.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(ScanError::Stopped))) => return until_the_session_ends().await,
                    Some(Ok(Err(error))) => return Err(self.reading_failed(&error)),
                    Some(Err(_panic)) => return Err(SessionError::Panic.into()),
                },
                changed = self.incoming.orders.changed() => {
                    if changed.is_err() {
                        return until_the_session_ends().await;
                    }
                    let orders = self.incoming.orders.borrow().clone();
                    self.throttle.order(&orders.bandwidth);
                    if orders.replication != ReplicationIntent::Run {
                        return Err(Interrupt::Orders);
                    }
                }
                durable = self.incoming.durable.recv() => match durable {
                    Some(number) => self.durable(number)?,
                    None => return until_the_session_ends().await,
                },
                _ = tick.tick() => if saving == Saving::Partial {
                    self.save_part_if_due().await;
                },
            }
        }
    }

    /// A fault must never cost more than minutes of a long copy. What a tracker remembers need not be saved.
    async fn save_part_if_due(&mut self) {
        let unsaved = self.found_bytes.load(Relaxed) - self.saved.found_bytes;
        let pace = self.agent.pace;
        let save_after = self.sources.save_after(pace.partial_every);
        let due = unsaved >= pace.partial_bytes || self.saved.at.elapsed() >= save_after;
        if due && unsaved > 0 && !self.offers_open() && !self.goes_on() {
            self.offer(CheckpointOffer {
                kind: CheckpointKind::Partial,
                consistency: Consistency::None,
                taken_at_ms: now_ms(),
                request: 0,
                frozen_ms: 0,
                after: self.outbox.sent_before(),
            })
            .await;
        }
    }

    /// Whether every disk is past its first copy or compare.
    fn goes_on(&mut self) -> bool {
        let suspects = |tracking| !matches!(tracking, domain::disk::Tracking::Tracker { .. });
        self.caught_up && !self.sources.all().any(|(_, source)| suspects(source.tracking()))
    }

    pub(super) fn reading_failed(&mut self, error: &ScanError) -> Interrupt {
        let text = crate::cli::chain(error);
        if self.troubles.reading.as_ref() != Some(&text) {
            warn!("{text}");
        }
        self.troubles.reading = Some(text);
        self.show_troubles();
        Interrupt::Trouble
    }
}

fn blocks_of(pieces: &Pieces) -> Option<std::ops::Range<u64>> {
    match pieces {
        Pieces::Blocks(blocks) => Some(blocks.clone()),
        Pieces::Changes(_) => None,
    }
}

/// Enough for one thread to read while others compute; more would only take the server's processors.
fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(2, NonZero::get)
        .clamp(2, 4)
}
