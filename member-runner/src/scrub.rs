//! Reads what is kept, to find damage before a cutover does.
//!
//! Every block that a checkpoint's snapshot holds is read once per pass, the newest checkpoints first. A
//! pass begins anew when the runner starts.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::snapshots::{SnapshotId, SnapshotStore, StoreError};
use domain::{checkpoint::CheckpointNumber, disk::BLOCK_LEN};
use protocol::exchange::ObservedSnapshot;

use crate::{
    damage::{self, Blocks, DamageError, Damaged},
    ledger::{LedgerError, changed_blocks, read_checkpoints},
    runner::core::Core,
    server::{Server, blocking},
    staging::chain,
};

/// What was found is told at the latest after so long.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// The pause between two passes over all servers.
const PAUSE: Duration = Duration::from_hours(1);

/// Word from `orglift-runner scrub`, and suspicion, are heard after so long.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// How fast a pass may read.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    BytesPerSecond(NonZeroU64),
    Unlimited,
}

impl Pace {
    async fn after_block(self, begun: Instant) {
        if let Self::BytesPerSecond(rate) = self {
            let share = Duration::from_micros(BLOCK_LEN as u64 * 1_000_000 / rate);
            tokio::time::sleep(share.saturating_sub(begun.elapsed())).await;
        }
    }
}

/// A pass over what is kept of one server.
#[derive(Debug)]
pub struct Scrub {
    store: Arc<dyn SnapshotStore>,
    pace: Pace,
    /// Blocks that are to be read, the last first.
    rest: Vec<(CheckpointNumber, ObservedSnapshot, Vec<u64>)>,
    pub blocks_read: u64,
}

/// A block that is damaged.
#[derive(Debug)]
pub struct Finding {
    pub checkpoint: CheckpointNumber,
    pub disk: ObservedSnapshot,
    pub block: u64,
    pub damaged: Damaged,
}

impl Scrub {
    /// Of the server whose folder is `dir`.
    pub async fn begin(store: Arc<dyn SnapshotStore>, dir: &Path, pace: Pace) -> Result<Self, LedgerError> {
        let dir = dir.to_owned();
        let rest = blocking(move || {
            let mut kept = Vec::new();
            for checkpoint in read_checkpoints(&dir)? {
                for disk in checkpoint.disks {
                    let mut blocks = changed_blocks(&dir, checkpoint.number, &disk)?;
                    blocks.reverse();
                    kept.push((checkpoint.number, disk, blocks));
                }
            }
            Ok::<_, LedgerError>(kept)
        });
        Ok(Self {
            store,
            pace,
            rest: rest.await?,
            blocks_read: 0,
        })
    }

    /// Reads on to the next block that is damaged; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Finding>, StoreError> {
        while let Some((checkpoint, disk, blocks)) = self.rest.last_mut() {
            let Some(block) = blocks.pop() else {
                self.rest.pop();
                continue;
            };
            let begun = Instant::now();
            let snapshot = SnapshotId(disk.snapshot.clone());
            let found = damage::look(&*self.store, &snapshot, block).await?;
            self.blocks_read += 1;
            if let Some(damaged) = found {
                return Ok(Some(Finding {
                    checkpoint: *checkpoint,
                    disk: disk.clone(),
                    block,
                    damaged,
                }));
            }
            self.pace.after_block(begun).await;
        }
        Ok(None)
    }
}

/// One pass over a server of a running runner.
async fn pass(server: &Arc<Server>, pace: Pace) -> Result<(), DamageError> {
    let mut scrub = Scrub::begin(Arc::clone(&server.store), server.dir(), pace).await?;
    let (mut found, mut told) = (Blocks::new(), Instant::now());
    while let Some(Finding { disk, block, .. }) = scrub.next().await? {
        found.entry(disk.disk).or_default().insert(block);
        if told.elapsed() > TELL_EVERY {
            damage::take_up(server, &std::mem::take(&mut found)).await?;
            told = Instant::now();
        }
    }
    damage::take_up(server, &found).await
}

/// Reads all that is kept, over and over, and slowly.
pub(crate) async fn for_ever(core: Arc<Core>, bytes_per_second: NonZeroU64) {
    let over_and_over = async {
        loop {
            for server in core.servers() {
                if let Err(error) = pass(&server, Pace::BytesPerSecond(bytes_per_second)).await {
                    tracing::warn!(server.id = %server.id, error = %chain(&error), "a scrub was cut short");
                }
                core.changed.notify_one();
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    core.stop.run_until_cancelled(over_and_over).await;
}

/// Takes up what others found, and reads all of a server once any of it is damaged.
pub(crate) async fn listen(core: Arc<Core>) {
    let listening = async {
        loop {
            for server in core.servers() {
                match hear(&server).await {
                    Ok(false) => {}
                    Ok(true) => core.changed.notify_one(),
                    Err(error) => {
                        tracing::warn!(server.id = %server.id, error = %chain(&error), "damage could not be looked at");
                    }
                }
            }
            tokio::time::sleep(LISTEN_EVERY).await;
        }
    };
    core.stop.run_until_cancelled(listening).await;
}

async fn hear(server: &Arc<Server>) -> Result<bool, DamageError> {
    let dir = server.dir().to_owned();
    let reported = blocking(move || damage::reported(&dir)).await;
    if let Some(claimed) = reported? {
        damage::take_up(server, &claimed).await?;
        let dir = server.dir().to_owned();
        blocking(move || damage::forget_report(&dir)).await?;
        return Ok(true);
    }
    if server.take_suspicion() {
        pass(server, Pace::Unlimited).await?;
        return Ok(true);
    }
    Ok(false)
}
