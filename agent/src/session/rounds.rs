//! Makes a checkpoint, in rounds over all disks.
//!
//! ```text
//! round, round, … ──▶ a round found little ──▶ freeze ─▶ last pass ─▶ thaw ──▶ offer ──▶ committed
//!      │                                          ▲           │ written meanwhile
//!      └─ nobody wrote meanwhile: offer at once   └───────────┘ three times at most
//! ```
//!
//! A checkpoint is `crash` consistent only if it is proven that no disk was written to from the beginning
//! of the last pass to its end; otherwise it is `none`, and says so.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use domain::{
    checkpoint::{CheckpointKind, Consistency},
    source_server::ReplicationIntent,
};
use protocol::session::{CheckpointOffer, SentBefore};
use tracing::{debug, warn};

use super::{
    SessionError,
    drive::{Drive, Interrupt},
    link::{post, until_the_session_ends},
};
use crate::{
    changes::{
        Against,
        rescan::{Expected, segments},
        scan::{self, ScanError, Segment},
    },
    config::Config,
    disks::{LocalDisk, quiet, reader::DiskReader},
    status::now_ms,
};

/// A server that writes faster than it can be copied does not get quieter by copying it more often.
const EARLY_ROUNDS_MAX: u32 = 3;
const LAST_PASSES_MAX: u32 = 3;

/// What a round came to.
#[derive(Debug)]
struct Pass {
    found_bytes: u64,
    /// Nothing was written to any disk while it ran.
    silent: bool,
    began: Instant,
    taken_at_ms: i64,
    /// The greatest request that had been seen when it began.
    request: u64,
}

/// Whether the runner may commit part of what a round sends, to save a long copy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Saving {
    Partial,
    Whole,
}

impl Drive<'_> {
    pub(super) async fn checkpoint(&mut self, config: &mut Config) -> Result<(), Interrupt> {
        let has_hooks = self.agent.hooks.any();
        for _ in 0..EARLY_ROUNDS_MAX {
            let pass = self.pass(Saving::Partial).await?;
            if pass.silent && !has_hooks {
                return self.offer_launchable(&pass, config).await;
            }
            if pass.found_bytes <= self.agent.pace.small_round_bytes {
                break;
            }
            self.examine(config)?;
        }
        let mut pass = self.last_pass().await?;
        for _ in 1..LAST_PASSES_MAX {
            if pass.silent {
                break;
            }
            self.examine(config)?;
            pass = self.last_pass().await?;
        }
        self.offer_launchable(&pass, config).await
    }

    async fn offer_launchable(&mut self, pass: &Pass, config: &mut Config) -> Result<(), Interrupt> {
        // A disk that vanished or grew meanwhile must not be part of a checkpoint.
        self.examine(config)?;
        self.troubles.reading = None;
        self.show_troubles();
        self.schedule.taken(pass.began, pass.request);
        self.offer(CheckpointOffer {
            kind: CheckpointKind::Launchable,
            consistency: if pass.silent {
                Consistency::Crash
            } else {
                Consistency::None
            },
            taken_at_ms: pass.taken_at_ms,
            request: pass.request,
            frozen_ms: 0,
            after: SentBefore::default(),
        })
        .await;
        self.all_committed().await
    }

    /// A pass with applications at rest, if hooks can bring them there.
    async fn last_pass(&mut self) -> Result<Pass, Interrupt> {
        let hooks = self.agent.hooks.clone();
        let frozen = tokio::task::spawn_blocking(move || hooks.freeze())
            .await
            .map_err(|_panic| SessionError::Panic)?;
        self.troubles.hooks = frozen.as_ref().err().map(|error| crate::cli::chain(error));
        if let Some(trouble) = &self.troubles.hooks {
            warn!("{trouble}; the checkpoint is taken without it");
        }
        self.show_troubles();
        // Dropped, and thereby thawed, on every way out of here.
        let frozen = frozen.ok();
        let pass = self.pass(Saving::Whole).await;
        tokio::task::spawn_blocking(move || drop(frozen))
            .await
            .map_err(|_panic| SessionError::Panic)?;
        pass
    }

    /// Looks at all disks once, and sends what the runner does not have.
    async fn pass(&mut self, saving: Saving) -> Result<Pass, Interrupt> {
        let disks = self
            .roster
            .present()
            .map_err(|_told_when_examined| Interrupt::Trouble)?;
        let found_before = self.found_bytes.load(Relaxed);
        let before = quiet::before_pass(&self.agent.roots, &disks).await;
        let mut pass = Pass {
            found_bytes: 0,
            silent: false,
            began: Instant::now(),
            taken_at_ms: now_ms(),
            request: self.incoming.orders.borrow().checkpoint_request,
        };
        for disk in &self.disks {
            disk.progress.round_began();
        }
        for (number, disk) in (0_u16..).zip(&disks) {
            self.sweep(number, disk, saving).await?;
        }
        let after = quiet::look(&self.agent.roots, &disks);
        pass.silent = quiet::nothing_was_written(&before, &after);
        pass.found_bytes = self.found_bytes.load(Relaxed) - found_before;
        debug!(found_bytes = pass.found_bytes, silent = pass.silent, elapsed = ?pass.began.elapsed(), "pass");
        Ok(pass)
    }

    /// One disk's part of a pass.
    async fn sweep(&mut self, number: u16, local: &LocalDisk, saving: Saving) -> Result<(), Interrupt> {
        let round = self.disks[usize::from(number)].source.begin_round();
        let mut segments = segments(round.blocks).peekable();
        let ask = round.against == Against::RunnersDigests;
        if ask && let Some(first) = segments.peek() {
            let digests = &mut self.incoming.digests;
            digests.ask(&self.outbox, number, first.clone()).await;
        }
        while let Some(blocks) = segments.next() {
            let expected = if ask {
                // One ahead, so that the answer is there when it is needed.
                if let Some(next) = segments.peek() {
                    let digests = &mut self.incoming.digests;
                    digests.ask(&self.outbox, number, next.clone()).await;
                }
                Expected::Digests(self.incoming.digests.next().await?)
            } else {
                Expected::Zeros
            };
            // Opened anew each time: the file behind a name may have been replaced.
            let reader = DiskReader::open(&local.path, local.disk.bytes)
                .map_err(|error| self.reading_failed(&ScanError::Read(error)))?;
            let segment = Arc::new(Segment {
                disk: number,
                reader,
                progress: self.disks[usize::from(number)].progress.clone(),
                blocks,
                expected,
                outbox: self.outbox.clone(),
                stop: self.scan_stop.clone(),
                taken: AtomicU64::new(0),
                found_bytes: self.found_bytes.clone(),
                zeroed: Mutex::default(),
            });
            for _ in 0..threads() {
                let segment = segment.clone();
                self.workers.spawn_blocking(move || scan::scan(&segment));
            }
            self.join_workers(saving).await?;
            for run in segment.zero_runs() {
                post(&self.outbox, run).await;
            }
        }
        self.disks[usize::from(number)].source.end_round();
        Ok(())
    }

    /// Waits for the threads of a segment, while the runner may speak.
    async fn join_workers(&mut self, saving: Saving) -> Result<(), Interrupt> {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
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
                    if self.incoming.orders.borrow().replication != ReplicationIntent::Run {
                        return Err(Interrupt::Orders);
                    }
                }
                committed = self.incoming.commits.recv() => match committed {
                    Some(number) => self.committed(number)?,
                    None => return until_the_session_ends().await,
                },
                _ = tick.tick() => if saving == Saving::Partial {
                    self.save_part_if_due().await;
                },
            }
        }
    }

    /// A fault must never cost more than minutes of a long copy.
    async fn save_part_if_due(&mut self) {
        let unsaved = self.found_bytes.load(Relaxed) - self.saved.found_bytes;
        let pace = self.agent.pace;
        let due = unsaved >= pace.partial_bytes || self.saved.at.elapsed() >= pace.partial_every;
        if due && unsaved > 0 && !self.offers_open() {
            self.offer(CheckpointOffer {
                kind: CheckpointKind::Partial,
                consistency: Consistency::None,
                taken_at_ms: now_ms(),
                request: 0,
                frozen_ms: 0,
                after: SentBefore::default(),
            })
            .await;
        }
    }

    fn reading_failed(&mut self, error: &ScanError) -> Interrupt {
        let text = crate::cli::chain(error);
        if self.troubles.reading.as_ref() != Some(&text) {
            warn!("{text}");
        }
        self.troubles.reading = Some(text);
        self.show_troubles();
        Interrupt::Trouble
    }
}

/// Enough for one thread to read while others compute; more would only take the server's processors.
fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(2, NonZero::get)
        .clamp(2, 4)
}
