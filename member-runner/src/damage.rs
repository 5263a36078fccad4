//! What a damaged block means: which checkpoints show it, and whether the agent has to send it again.
//!
//! Found in passing, by a read that failed, or looked for: by the scrub of a runner, which reads every block
//! that is kept in the course of days, or by `orglift-runner scrub`, which reads those of one server at once
//! and leaves word in `damage-found.json` of the server's folder. What is claimed is read again before it is
//! believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use cloud::snapshots::{SnapshotId, SnapshotStore, StoreError};
use domain::disk::{DiskId, block_count};
use protocol::exchange::{ObservedCheckpoint, ObservedSnapshot};

use crate::{
    files::{self, FileError},
    ledger::LedgerError,
    quarantine::Entry,
    server::{Server, blocking},
};

/// What `orglift-runner scrub` found: blocks by disk.
const REPORT_FILE: &str = "damage-found.json";

pub type Blocks = BTreeMap<DiskId, BTreeSet<u64>>;

#[derive(Debug, thiserror::Error)]
pub enum DamageError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot read the checkpoints")]
    Store(#[from] StoreError),
}

/// A block that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    pub file: PathBuf,
    pub detail: String,
    pub reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Block,
    /// Nothing of the snapshot can be read.
    Snapshot,
}

/// Why a block cannot be had. `None` if it can, or if its snapshot left meanwhile.
pub async fn look(
    store: &dyn SnapshotStore,
    snapshot: &SnapshotId,
    block: u64,
) -> Result<Option<Damaged>, StoreError> {
    match store.read(snapshot, block).await {
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(None),
        Err(StoreError::Damaged { file, detail, .. }) => Ok(Some(Damaged {
            file,
            detail,
            reach: Reach::Block,
        })),
        Err(StoreError::DamagedIndex { file, detail, .. }) => Ok(Some(Damaged {
            file,
            detail,
            reach: Reach::Snapshot,
        })),
        Err(other) => Err(other),
    }
}

/// Puts into quarantine what is damaged of these blocks, and ends the session if anything is missing: the
/// next one begins with a compare.
pub async fn take_up(server: &Arc<Server>, claimed: &Blocks) -> Result<(), DamageError> {
    loop {
        let checkpoints = server.ledger().checkpoints().to_vec();
        let Some(newest) = checkpoints.last().map(|newest| newest.number) else {
            return Ok(());
        };
        let found = probe(&*server.store, &checkpoints, claimed).await?;
        let taken_up = blocking({
            let server = Arc::clone(server);
            move || server.ledger().damaged(newest, found)
        });
        let Some(news) = taken_up.await? else { continue };
        for entry in &news {
            tracing::error!(
                server.id = %server.id, disk = %entry.disk, device = entry.device_name, snapshot = entry.snapshot,
                file = %entry.file.display(), blocks = ?entry.blocks.iter().take(16).collect::<Vec<_>>(),
                count = entry.blocks.len(), checkpoints = ?entry.checkpoints, detail = entry.detail,
                "blocks are damaged; checkpoints that show them are not launched"
            );
        }
        if !news.is_empty() {
            server.suspect();
        }
        if news.iter().any(|entry| !entry.missing.is_empty()) {
            server.ask_for_compare();
        }
        return Ok(());
    }
}

/// Reads the blocks in every checkpoint. An entry per disk and file.
async fn probe(
    store: &dyn SnapshotStore,
    checkpoints: &[ObservedCheckpoint],
    claimed: &Blocks,
) -> Result<Vec<Entry>, StoreError> {
    let mut found: BTreeMap<(DiskId, PathBuf), Entry> = BTreeMap::new();
    for (id, blocks) in claimed {
        // Newest first: that is what an entry is described by.
        for (age, checkpoint) in checkpoints.iter().rev().enumerate() {
            let Some(disk) = checkpoint.disks.iter().find(|disk| disk.disk == *id) else {
                continue;
            };
            let snapshot = SnapshotId(disk.snapshot.clone());
            for block in blocks.iter().filter(|block| **block < block_count(disk.bytes)) {
                let Some(damaged) = look(store, &snapshot, *block).await? else {
                    continue;
                };
                let blocks = match damaged.reach {
                    Reach::Block => *block..block + 1,
                    Reach::Snapshot => 0..block_count(disk.bytes),
                };
                let entry = found
                    .entry((id.clone(), damaged.file.clone()))
                    .or_insert_with(|| entry(disk, &damaged));
                entry.blocks.extend(blocks.clone());
                entry.checkpoints.insert(checkpoint.number);
                if age == 0 {
                    entry.missing.extend(blocks);
                }
                if damaged.reach == Reach::Snapshot {
                    break;
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

fn entry(disk: &ObservedSnapshot, damaged: &Damaged) -> Entry {
    Entry {
        disk: disk.disk.clone(),
        device_name: disk.device_name.clone(),
        snapshot: disk.snapshot.clone(),
        file: damaged.file.clone(),
        detail: damaged.detail.clone(),
        found_at_ms: chrono::Utc::now().timestamp_millis(),
        blocks: BTreeSet::new(),
        missing: BTreeSet::new(),
        checkpoints: BTreeSet::new(),
    }
}

/// Leaves word for the runner.
pub fn report(dir: &Path, found: &Blocks) -> Result<(), FileError> {
    let text = serde_json::to_vec(found).expect("its keys are text");
    files::replace(&dir.join(REPORT_FILE), &text)
}

/// What somebody left word of.
pub fn reported(dir: &Path) -> Result<Option<Blocks>, FileError> {
    let path = dir.join(REPORT_FILE);
    let Some(text) = files::read(&path)? else {
        return Ok(None);
    };
    // What cannot be read was not meant for us; it goes all the same.
    Ok(Some(serde_json::from_slice(&text).unwrap_or_default()))
}

pub fn forget_report(dir: &Path) -> Result<(), FileError> {
    files::remove(&dir.join(REPORT_FILE))
}
