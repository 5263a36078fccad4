//! Makes a checkpoint: rounds while the server works, a last one while it stands still.
//!
//! ```text
//! round, round, … ──▶ little is left ──▶ freeze ─▶ last round ─▶ thaw ──▶ offer ──▶ durable
//!      │                                    ▲           │ something was written meanwhile
//!      └─ nobody wrote meanwhile: offer     └───────────┘ three times at most
//! ```
//!
//! - If a tracker watches every disk, file systems are frozen, what is left is read into memory, and sent after the
//!   thaw: `filesystem`, if every file system took part, and nobody wrote but to swap areas.
//! - Otherwise hooks may bring applications to rest for a last pass over the disks: `crash`, if it is proven that
//!   nothing was written from its beginning to its end.
//! - What cannot be proven is `none`, and says so.

use std::time::{Duration, Instant};

use domain::checkpoint::{CheckpointKind, Consistency};
use protocol::session::CheckpointOffer;
use tracing::{info, warn};

use super::{
    SessionError,
    drive::{Drive, Interrupt},
    rounds::{Pass, Saving},
};
use crate::{
    changes::ChangeSource,
    checkpoint::{freeze::Frozen, mounts},
    config::Config,
    disks::{LocalDisk, quiet},
    status::now_ms,
};

/// A server that writes faster than it can be copied does not get quieter by copying it more often.
const EARLY_ROUNDS_MAX: u32 = 3;
const LAST_PASSES_MAX: u32 = 3;
/// With a tracker each round is as short as what was written during the one before.
const TRACKED_ROUNDS_MAX: u32 = 30;

/// How long file systems may stand still.
const FREEZE_MAX: Duration = Duration::from_secs(1);
/// What is left is read in this part of it; freezing and thawing take the rest.
const READING_SHARE: f64 = 0.4;
/// So much is read into memory at most, when it can be brought down to it.
const HELD_BYTES: u64 = 32 << 20;
/// And never more than this.
const HELD_BYTES_MAX: u64 = 256 << 20;

impl Drive<'_> {
    pub(super) async fn checkpoint(&mut self, config: &mut Config) -> Result<(), Interrupt> {
        if let Some(pass) = self.catch_up(config).await? {
            return self.offer_launchable(&pass, config).await;
        }
        let mut pass = self.last_pass().await?;
        for _ in 1..LAST_PASSES_MAX {
            if pass.consistency != Consistency::None {
                break;
            }
            self.examine(config)?;
            self.catch_up(config).await?;
            pass = self.last_pass().await?;
        }
        self.offer_launchable(&pass, config).await
    }

    /// Rounds until little is left. Gives the last one if it is as good as a checkpoint can get.
    async fn catch_up(&mut self, config: &mut Config) -> Result<Option<Pass>, Interrupt> {
        let mut before = u64::MAX;
        let mut rounds = 0;
        loop {
            let left = self.left()?;
            let converges = !left.is_tracked || left.bytes <= HELD_BYTES_MAX;
            if converges {
                self.troubles.converging = None;
            }
            if left.fits(self.read_rate) {
                return Ok(None);
            }
            let limit = if left.is_tracked {
                TRACKED_ROUNDS_MAX
            } else {
                EARLY_ROUNDS_MAX
            };
            // Not shrinking any more, but small enough to be held.
            let stuck = left.bytes > before / 10 * 9 && left.bytes <= HELD_BYTES_MAX;
            if rounds >= limit || left.is_tracked && rounds > 3 && stuck {
                self.troubles.converging = (!converges).then(|| self.why_it_diverges(left.bytes));
                return Ok(None);
            }
            before = left.bytes;
            rounds += 1;
            let pass = self.pass(Saving::Partial).await?;
            let residents = mounts::residents(&self.agent.roots, &self.present()?);
            let nothing_to_freeze = residents.file_systems.iter().all(|one| !one.writable);
            if pass.consistency != Consistency::None && nothing_to_freeze && !self.agent.hooks.any() {
                return Ok(Some(pass));
            }
            if !self.left()?.is_tracked && pass.found_bytes <= self.agent.pace.small_round_bytes {
                return Ok(None);
            }
            self.examine(config)?;
        }
    }

    /// A pass with applications at rest, if hooks can bring them there, and file systems frozen, if all writes are
    /// seen.
    async fn last_pass(&mut self) -> Result<Pass, Interrupt> {
        let hooks = self.agent.hooks.clone();
        let resting = tokio::task::spawn_blocking(move || hooks.freeze())
            .await
            .map_err(|_panic| SessionError::Panic)?;
        self.troubles.hooks = resting.as_ref().err().map(|error| crate::cli::chain(error));
        if let Some(trouble) = &self.troubles.hooks {
            warn!("{trouble}; the checkpoint is taken without it");
        }
        self.show_troubles();
        // Dropped, and thereby thawed, on every way out of here.
        let resting = resting.ok();
        let left = self.left()?;
        let pass = if left.is_tracked && left.bytes <= HELD_BYTES_MAX {
            self.frozen_pass().await
        } else {
            self.pass(Saving::Whole).await
        };
        tokio::task::spawn_blocking(move || drop(resting))
            .await
            .map_err(|_panic| SessionError::Panic)?;
        pass
    }

    /// What is left is read into memory while file systems stand still, and sent when they work again.
    async fn frozen_pass(&mut self) -> Result<Pass, Interrupt> {
        let disks = self.present()?;
        let mut residents = mounts::residents(&self.agent.roots, &disks);
        let mut frozen = match self.freeze(&residents).await {
            Ok(frozen) => frozen,
            Err(trouble) => {
                warn!("{trouble}; the checkpoint is taken without it");
                None
            }
        };
        let is_frozen = frozen.is_some() || residents.file_systems.iter().all(|one| !one.writable);
        let settled = quiet::is_settled(&quiet::before_pass(&self.agent.roots, &disks).await);
        let mut pass = self.new_pass();
        let held = self.hold_all(&disks).await;
        let silent = held.is_ok() && settled && self.nobody_wrote(&disks, &residents.swap);
        let unfrozen = frozen.as_ref().map_or(&[][..], Frozen::not_frozen).to_vec();
        let thawed = match frozen.take() {
            Some(frozen) => Some(
                tokio::task::spawn_blocking(move || frozen.thaw())
                    .await
                    .map_err(|_panic| SessionError::Panic)?,
            ),
            None => None,
        };
        pass.frozen = thawed.as_ref().map_or(Duration::ZERO, |thawed| thawed.held);
        let unbroken = thawed.is_none_or(|thawed| thawed.unbroken);
        let sure = self.is_sure(&disks);
        // Freezing takes a while. Who came in that time was not frozen, though it may have written nothing since.
        let newcomers = mounts::residents(&self.agent.roots, &disks).newcomers(&residents);
        residents.unseen.extend(newcomers);
        pass.found_bytes = self.send_held(held?).await?;
        pass.consistency = match () {
            () if !silent || !unbroken || !sure => Consistency::None,
            () if is_frozen && !residents.file_systems.is_empty() && residents.unseen.is_empty() => {
                Consistency::Filesystem
            }
            () => Consistency::Crash,
        };
        info!(
            consistency = pass.consistency.name(),
            frozen_ms = pass.frozen.as_millis(),
            silent,
            unbroken,
            ?unfrozen,
            unseen = ?residents.unseen,
            "last pass"
        );
        Ok(pass)
    }

    fn why_it_diverges(&self, left_bytes: u64) -> String {
        let flow = self.agent.board.flow();
        let forecast = flow
            .forecast
            .map(|forecast| format!("; {forecast}"))
            .unwrap_or_default();
        format!(
            "changes are written faster than they get through: {} MiB are left after {TRACKED_ROUNDS_MAX} rounds{forecast}",
            left_bytes >> 20
        )
    }

    async fn freeze(&self, residents: &mounts::Residents) -> Result<Option<Frozen>, String> {
        if residents.file_systems.iter().all(|one| !one.writable) {
            return Ok(None);
        }
        let Some(freezer) = self.agent.freezer.clone() else {
            return Err("file systems cannot be frozen without a guard".into());
        };
        let residents = residents.clone();
        let frozen = tokio::task::spawn_blocking(move || freezer.freeze(&residents, FREEZE_MAX)).await;
        match frozen {
            Ok(Ok(frozen)) => Ok(Some(frozen)),
            Ok(Err(error)) => Err(crate::cli::chain(&error)),
            Err(_panic) => Err("the freezing thread panicked".into()),
        }
    }

    /// Whether nothing was written since the running rounds began, but to swap areas, whose content is nobody's.
    fn nobody_wrote(&mut self, disks: &[LocalDisk], swap: &[(usize, std::ops::Range<u64>)]) -> bool {
        disks.iter().enumerate().all(|(index, local)| {
            let areas: Vec<_> = swap
                .iter()
                .filter(|(disk, _)| *disk == index)
                .map(|(_, area)| area.clone())
                .collect();
            let written = self
                .sources
                .get(&local.disk.id)
                .and_then(|source| source.written());
            written.is_some_and(|written| !written.outside(&areas))
        })
    }

    fn is_sure(&mut self, disks: &[LocalDisk]) -> bool {
        let mut sure = true;
        for local in disks {
            // Each is asked: the question also takes up what was written.
            sure &= self
                .sources
                .get(&local.disk.id)
                .is_some_and(ChangeSource::is_sure);
        }
        sure
    }

    async fn offer_launchable(&mut self, pass: &Pass, config: &mut Config) -> Result<(), Interrupt> {
        // A disk that vanished or grew meanwhile must not be part of a checkpoint.
        self.examine(config)?;
        self.troubles.reading = None;
        self.show_troubles();
        self.schedule.taken(pass.began, pass.request);
        self.offer(CheckpointOffer {
            kind: CheckpointKind::Launchable,
            consistency: pass.consistency,
            taken_at_ms: pass.taken_at_ms,
            request: pass.request,
            frozen_ms: u32::try_from(pass.frozen.as_millis()).unwrap_or(u32::MAX),
            after: self.outbox.sent_before(),
        })
        .await;
        self.all_durable().await
    }

    pub(super) fn new_pass(&self) -> Pass {
        Pass {
            found_bytes: 0,
            consistency: Consistency::None,
            frozen: Duration::ZERO,
            began: Instant::now(),
            taken_at_ms: now_ms(),
            request: self.incoming.orders.borrow().checkpoint_request,
        }
    }
}

/// What a round that began now would have to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub bytes: u64,
    /// All disks are tracked, so that it is what was written and no more.
    pub is_tracked: bool,
}

impl Left {
    fn fits(self, bytes_per_s: f64) -> bool {
        let readable = bytes_per_s * FREEZE_MAX.as_secs_f64() * READING_SHARE;
        // It is far from the precision of a float.
        #[allow(clippy::cast_precision_loss)]
        let fits = self.bytes as f64 <= readable;
        self.is_tracked && fits && self.bytes <= HELD_BYTES
    }
}
