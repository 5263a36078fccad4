//! Blocks on their way into the open snapshots of one session.
//!
//! Pieces of different blocks are verified and written side by side; pieces of one block in the order in
//! which they came, and together when several wait. Nothing here survives the session: what was not
//! committed is abandoned with it.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use cloud::snapshots::{SnapshotId, SnapshotSpec, StoreError};
use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    digest::Digest,
    disk::{BLOCK_LEN, Disk, block_count, block_len},
};
use protocol::{
    frame::{self, Frame},
    session::{CheckpointOffer, DiskPlan, DiskStart, Fault},
};
use tokio::task::JoinSet;

use crate::{
    digests::{DigestChange, DiskDigests, boundary_blocks, digest, zeros},
    ledger::{Head, StagedDisk},
    server::{Server, blocking},
};

mod block;

pub(crate) use block::Finished;
pub(crate) use block::Piece;
use block::{Job, Written};

/// Blocks that are worked on at once: enough to keep two cores and a disk busy.
const PARALLEL_BLOCKS: usize = 6;

/// Blocks that may wait. Extents are bounded by their bytes long before; runs of zeros have none.
const WAITING_BLOCKS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    disk: usize,
    block: u64,
}

#[derive(Debug)]
pub(crate) struct Staging {
    server: Arc<Server>,
    disks: Vec<OpenDisk>,
    waiting: HashMap<Key, Vec<Piece>>,
    /// Blocks of `waiting` that can be taken up, in the order in which they came.
    ready: VecDeque<Key>,
    running: HashSet<Key>,
    jobs: JoinSet<Result<Written, Fault>>,
}

#[derive(Debug)]
struct OpenDisk {
    disk: Disk,
    head: Option<Head>,
    start: DiskStart,
    /// As committed, brought to the disk's size.
    base: Arc<DiskDigests>,
    resized: bool,
    changed: BTreeMap<u64, Digest>,
    open: Option<SnapshotId>,
}

impl OpenDisk {
    /// What the block shows now, with all that was written.
    fn digest(&self, block: u64) -> Option<Digest> {
        self.changed.get(&block).copied().or_else(|| self.base.get(block))
    }

    fn is_unchanged(&self) -> bool {
        self.head.is_some() && !self.resized && self.changed.is_empty()
    }
}

pub(crate) fn store_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Full => Fault::StagingFull,
        other => Fault::Store { detail: chain(other) },
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn protocol_fault(detail: impl Into<String>) -> Fault {
    Fault::Protocol {
        detail: detail.into(),
    }
}

impl Staging {
    /// Goes on from the newest checkpoint.
    pub async fn open(server: &Arc<Server>, disks: Vec<Disk>) -> Result<Self, StoreError> {
        let since = server
            .ledger()
            .newest()
            .map(|newest| (newest.number, newest.kind));
        let mut open = Vec::new();
        for disk in disks {
            let head = server.ledger().head(&disk.id).cloned();
            open.push(open_disk(server, disk, head, since).await?);
        }
        Ok(Self {
            server: Arc::clone(server),
            disks: open,
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            running: HashSet::new(),
            jobs: JoinSet::new(),
        })
    }

    pub fn plan(&self) -> Vec<DiskPlan> {
        let plan = self.disks.iter().map(|disk| DiskPlan {
            id: disk.disk.id.clone(),
            start: disk.start,
        });
        plan.collect()
    }

    /// Takes up an extent; it is verified and written later.
    pub async fn extent(&mut self, piece: Piece, disk: u16, at: u64) -> Result<(), Fault> {
        let disk = self.disk_index(disk)?;
        if at >= self.disks[disk].disk.bytes {
            return Err(protocol_fault(format!(
                "an extent at {at} is beyond the end of {}",
                self.disks[disk].disk.device_name
            )));
        }
        let block = at / BLOCK_LEN as u64;
        self.enqueue(Key { disk, block }, piece);
        self.pump().await
    }

    /// Takes up a run of zeros. Blocks that are zeros already cost nothing.
    pub async fn zeros(&mut self, disk: u16, at: u64, len: u64) -> Result<(), Fault> {
        let index = self.disk_index(disk)?;
        let bytes = self.disks[index].disk.bytes;
        let Some(end) = at.checked_add(len).filter(|end| *end <= bytes && len > 0) else {
            return Err(protocol_fault(format!(
                "{len} zeros at {at} do not lie within the disk"
            )));
        };
        for block in at / BLOCK_LEN as u64..end.div_ceil(BLOCK_LEN as u64) {
            let key = Key { disk: index, block };
            let whole = block_len(block, bytes);
            let in_flight = self.running.contains(&key) || self.waiting.contains_key(&key);
            if !in_flight && self.disks[index].digest(block) == Some(zeros(whole)) {
                continue;
            }
            let start = block * BLOCK_LEN as u64;
            let within =
                |at: u64| usize::try_from(at.saturating_sub(start)).map_or(whole, |at| at.min(whole));
            self.enqueue(key, Piece::Zeros(within(at)..within(end)));
            while self.waiting.len() > WAITING_BLOCKS_MAX {
                self.pump().await?;
                self.finish_one().await?;
            }
        }
        self.pump().await
    }

    /// The digests of up to a frame's worth of blocks, with all that was sent before.
    pub async fn digests(&mut self, disk: u16, first: u64, count: u64) -> Result<Frame, Fault> {
        let index = self.disk_index(disk)?;
        let end = first.saturating_add(count.min(frame::DIGESTS_PER_FRAME_MAX));
        let end = end.min(block_count(self.disks[index].disk.bytes));
        let asked = |key: &Key| key.disk == index && (first..end).contains(&key.block);
        if self.running.iter().any(asked) || self.waiting.keys().any(asked) {
            self.drain().await?;
        }
        let digests: Vec<_> = (first..end)
            .filter_map(|block| self.disks[index].digest(block))
            .collect();
        Ok(frame::digests(disk, first, &digests))
    }

    /// Makes a checkpoint of all that was sent.
    pub async fn commit(
        &mut self,
        offer: &CheckpointOffer,
    ) -> Result<(CheckpointNumber, Vec<Digest>), Fault> {
        self.drain().await?;
        let mut staged = Vec::new();
        for index in 0..self.disks.len() {
            staged.push(self.commit_disk(index).await?);
        }
        let committed = blocking({
            let (server, offer) = (Arc::clone(&self.server), offer.clone());
            move || server.ledger().commit(&offer, staged)
        })
        .await;
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                // The manifest may be there all the same: only the disk knows.
                if let Err(error) = self.server.reload_ledger().await {
                    tracing::error!(server.id = %self.server.id, error = %chain(&error), "cannot read the ledger");
                }
                return Err(Fault::Store {
                    detail: chain(&error),
                });
            }
        };
        let ledger = self.server.ledger();
        for disk in &mut self.disks {
            disk.head = ledger.head(&disk.disk.id).cloned();
            if let Some(head) = &disk.head {
                disk.base = Arc::clone(&head.digests);
            }
            disk.changed.clear();
            disk.resized = false;
            disk.open = None;
        }
        Ok(committed)
    }

    /// Waits for the work on a block to finish; for ever if none is under way. Nothing is lost when it is
    /// not waited for to the end: [`Staging::go_on`] must be told what it returned.
    pub async fn finished(&mut self) -> Finished {
        match self.jobs.join_next().await {
            Some(joined) => Finished(joined),
            None => std::future::pending().await,
        }
    }

    /// Takes up the next blocks in place of one that is finished.
    pub async fn go_on(&mut self, finished: Finished) -> Result<(), Fault> {
        self.settle(finished)?;
        self.pump().await
    }

    /// Deletes what was not committed.
    pub async fn abandon(mut self) {
        self.jobs.shutdown().await;
        for disk in &mut self.disks {
            let Some(open) = disk.open.take() else { continue };
            // After a fault in the middle of a commit, a manifest may name it.
            let named = self.server.ledger().snapshots().contains(open.0.as_str());
            if named {
                continue;
            }
            if let Err(error) = self.server.store.delete(&open).await {
                tracing::warn!(snapshot = %open, error = %chain(&error), "an abandoned snapshot stays until the next start");
            }
        }
    }

    fn disk_index(&self, disk: u16) -> Result<usize, Fault> {
        let index = usize::from(disk);
        if index < self.disks.len() {
            Ok(index)
        } else {
            Err(protocol_fault(format!("there is no disk {disk} in this session")))
        }
    }

    fn enqueue(&mut self, key: Key, piece: Piece) {
        let pieces = self.waiting.entry(key).or_default();
        if pieces.is_empty() && !self.running.contains(&key) {
            self.ready.push_back(key);
        }
        pieces.push(piece);
    }

    /// Takes up as many blocks as may be worked on at once.
    async fn pump(&mut self) -> Result<(), Fault> {
        while self.running.len() < PARALLEL_BLOCKS {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(pieces) = self.waiting.remove(&key) else {
                continue;
            };
            let open = self.open_snapshot(key.disk).await?;
            let disk = &self.disks[key.disk];
            let job = Job {
                store: Arc::clone(&self.server.store),
                key,
                open,
                block: key.block,
                len: block_len(key.block, disk.disk.bytes),
                shown: disk.digest(key.block),
                pieces,
            };
            self.running.insert(key);
            self.jobs.spawn(job.run());
        }
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<(), Fault> {
        if self.running.is_empty() {
            return Ok(());
        }
        let finished = self.finished().await;
        self.settle(finished)
    }

    fn settle(&mut self, Finished(joined): Finished) -> Result<(), Fault> {
        let Written { key, digest } = match joined {
            Ok(written) => written?,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => return Err(Fault::Stopping),
        };
        self.running.remove(&key);
        if self.waiting.contains_key(&key) {
            self.ready.push_back(key);
        }
        if let Some(digest) = digest {
            self.disks[key.disk].changed.insert(key.block, digest);
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Fault> {
        loop {
            self.pump().await?;
            if self.running.is_empty() {
                return Ok(());
            }
            self.finish_one().await?;
        }
    }

    async fn open_snapshot(&mut self, index: usize) -> Result<SnapshotId, Fault> {
        let disk = &mut self.disks[index];
        if let Some(open) = &disk.open {
            return Ok(open.clone());
        }
        let spec = SnapshotSpec {
            parent: disk.head.as_ref().map(|head| SnapshotId(head.snapshot.clone())),
            bytes: disk.disk.bytes,
            disk: disk.disk.id.clone(),
            tags: self.server.tags(),
        };
        let started = self.server.store.start(&spec).await;
        let id = started.map_err(|error| store_fault(&error))?;
        disk.open = Some(id.clone());
        Ok(id)
    }

    async fn commit_disk(&mut self, index: usize) -> Result<StagedDisk, Fault> {
        if self.disks[index].is_unchanged() {
            if let Some(open) = self.disks[index].open.take() {
                let deleted = self.server.store.delete(&open).await;
                deleted.map_err(|error| store_fault(&error))?;
            }
            let disk = &self.disks[index];
            let head = disk.head.as_ref().expect("an unchanged disk has a head");
            return Ok(StagedDisk {
                disk: disk.disk.clone(),
                snapshot: head.snapshot.clone(),
                change: None,
            });
        }
        let open = self.open_snapshot(index).await?;
        let committed = self.server.store.commit(&open).await;
        committed.map_err(|error| store_fault(&error))?;
        let disk = &self.disks[index];
        Ok(StagedDisk {
            disk: disk.disk.clone(),
            snapshot: open.0,
            change: Some(DigestChange {
                from_scratch: disk.head.is_none(),
                bytes: disk.disk.bytes,
                blocks: disk.changed.clone(),
            }),
        })
    }
}

async fn open_disk(
    server: &Server,
    disk: Disk,
    head: Option<Head>,
    since: Option<(CheckpointNumber, CheckpointKind)>,
) -> Result<OpenDisk, StoreError> {
    let bytes = disk.bytes;
    let Some(known) = &head else {
        return Ok(OpenDisk {
            disk,
            head,
            start: DiskStart::Full,
            base: Arc::new(DiskDigests::of_zeros(bytes)),
            resized: false,
            changed: BTreeMap::new(),
            open: None,
        });
    };
    let resized = known.digests.bytes != bytes;
    let start = match since {
        // A partial checkpoint does not hold the whole disk, and a resized disk is not the one it held.
        Some((since, CheckpointKind::Launchable)) if !resized => DiskStart::Delta { since },
        _ => DiskStart::Rescan,
    };
    let mut base = Arc::clone(&known.digests);
    let mut changed = BTreeMap::new();
    if resized {
        let snapshot = SnapshotId(known.snapshot.clone());
        for block in boundary_blocks(known.digests.bytes, bytes) {
            let mut data = server.store.read(&snapshot, block).await?;
            data.resize(block_len(block, bytes), 0);
            changed.insert(block, digest(&data));
        }
        Arc::make_mut(&mut base).resize(bytes);
    }
    Ok(OpenDisk {
        disk,
        head,
        start,
        base,
        resized,
        changed,
        open: None,
    })
}
