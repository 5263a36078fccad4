//! A checkpoint that is being made: per disk, an open snapshot and the digests of what is in it.

use std::{collections::BTreeMap, sync::Arc};

use cloud::snapshots::{SnapshotId, SnapshotSpec, StoreError};
use domain::{
    digest::Digest,
    disk::{Disk, block_len},
};
use protocol::session::{CheckpointOffer, DiskPlan, DiskStart, Fault};
use tokio::task::JoinSet;

use super::{
    Committed,
    block::{Merge, Merged},
    chain, settled, store_fault,
};
use crate::{
    damage::{self, Blocks},
    digests::{DigestChange, DiskDigests, boundary_blocks},
    journal::{Journal, Key},
    ledger::{Head, StagedDisk},
    quarantine::LOST,
    server::{Server, blocking},
};

/// Blocks that are worked on at once: enough to keep two cores and a disk busy.
pub(super) const PARALLEL_BLOCKS: usize = 6;

#[derive(Debug)]
pub(super) struct Draft {
    server: Arc<Server>,
    pub disks: Vec<OpenDisk>,
}

#[derive(Debug)]
pub(super) struct OpenDisk {
    pub disk: Disk,
    head: Option<Head>,
    start: DiskStart,
    /// As committed, brought to the disk's size.
    base: Arc<DiskDigests>,
    resized: bool,
    /// Its next snapshot is to be under another key.
    rekeyed: bool,
    changed: BTreeMap<u64, Digest>,
    open: Option<SnapshotId>,
}

impl OpenDisk {
    /// What the block shows now, with all that was written.
    pub fn digest(&self, block: u64) -> Option<Digest> {
        self.changed.get(&block).copied().or_else(|| self.base.get(block))
    }

    fn is_unchanged(&self) -> bool {
        self.head.is_some() && !self.resized && !self.rekeyed && self.changed.is_empty()
    }
}

impl Draft {
    /// Goes on from the newest checkpoint.
    pub async fn open(server: &Arc<Server>, disks: &[Disk]) -> Result<Self, StoreError> {
        let mut open = Vec::new();
        for disk in disks {
            let head = server.ledger().head(&disk.id).cloned();
            open.push(open_disk(server, disk.clone(), head).await?);
        }
        Ok(Self {
            server: Arc::clone(server),
            disks: open,
        })
    }

    pub fn plan(&self) -> Vec<DiskPlan> {
        let plan = self.disks.iter().map(|disk| DiskPlan {
            id: disk.disk.id.clone(),
            start: disk.start,
        });
        plan.collect()
    }

    /// Whether it shows exactly what the newest checkpoint shows.
    pub fn is_unchanged(&self) -> bool {
        self.disks.iter().all(OpenDisk::is_unchanged)
    }

    pub fn digest(&self, key: Key) -> Option<Digest> {
        self.disks[key.disk].digest(key.block)
    }

    pub fn block_len(&self, key: Key) -> usize {
        block_len(key.block, self.disks[key.disk].disk.bytes)
    }

    /// A block was put into its snapshot.
    pub fn put(&mut self, key: Key, digest: Digest) {
        self.disks[key.disk].changed.insert(key.block, digest);
    }

    pub async fn snapshot(&mut self, index: usize) -> Result<SnapshotId, Fault> {
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

    /// Puts the pieces of a journal into their blocks.
    pub async fn merge(&mut self, journal: Journal) -> Result<(), Fault> {
        let (pieces, blocks) = journal.into_blocks();
        let mut jobs = JoinSet::new();
        let mut damaged = Vec::new();
        for (key, spans) in blocks {
            if jobs.len() >= PARALLEL_BLOCKS {
                damaged.extend(self.settle(jobs.join_next().await)?);
            }
            let merge = Merge {
                store: Arc::clone(&self.server.store),
                key,
                open: self.snapshot(key.disk).await?,
                len: self.block_len(key),
                shown: self.digest(key),
                pieces: pieces.clone(),
                spans,
            };
            jobs.spawn(merge.run());
        }
        while !jobs.is_empty() {
            damaged.extend(self.settle(jobs.join_next().await)?);
        }
        self.quarantine(&damaged).await
    }

    /// Gives the block if it is damaged.
    fn settle(
        &mut self,
        joined: Option<Result<Result<Merged, Fault>, tokio::task::JoinError>>,
    ) -> Result<Option<Key>, Fault> {
        let Some(joined) = joined else { return Ok(None) };
        match settled(joined)? {
            Merged::Damaged(key) => return Ok(Some(key)),
            Merged::Written(written) => {
                if let Some(digest) = written.digest {
                    self.put(written.key, digest);
                }
            }
        }
        Ok(None)
    }

    /// Changes of these blocks are lost. That does no harm as long as they are known to be missing: what is
    /// made of this draft is marked, and the agent sends them anew.
    async fn quarantine(&self, damaged: &[Key]) -> Result<(), Fault> {
        if damaged.is_empty() {
            return Ok(());
        }
        let mut claimed = Blocks::new();
        for key in damaged {
            let blocks = claimed.entry(self.disks[key.disk].disk.id.clone()).or_default();
            blocks.insert(key.block);
        }
        let taken_up = damage::take_up(&self.server, &claimed).await;
        taken_up.map_err(|error| Fault::Store {
            detail: chain(&error),
        })?;
        let ledger = self.server.ledger();
        match claimed
            .iter()
            .find(|(disk, blocks)| !blocks.is_subset(&ledger.missing(disk)))
        {
            None => Ok(()),
            Some((disk, _)) => Err(Fault::Store {
                detail: format!("blocks of {disk} could not be read, and now they can"),
            }),
        }
    }

    /// Makes a checkpoint of it. Afterwards, it is of no use.
    pub async fn commit(&mut self, offer: &CheckpointOffer, received_bytes: u64) -> Result<Committed, Fault> {
        let mut staged = Vec::new();
        for index in 0..self.disks.len() {
            staged.push(self.commit_disk(index).await?);
        }
        let committed = blocking({
            let (server, offer) = (Arc::clone(&self.server), offer.clone());
            move || server.ledger().commit(&offer, received_bytes, staged)
        })
        .await;
        match committed {
            Ok((number, roots)) => Ok(Committed {
                number,
                roots,
                kind: offer.kind,
            }),
            Err(error) => {
                // The manifest may be there all the same: only the disk knows.
                if let Err(error) = self.server.reload_ledger().await {
                    tracing::error!(server.id = %self.server.id, error = %chain(&error), "cannot read the ledger");
                }
                Err(Fault::Store {
                    detail: chain(&error),
                })
            }
        }
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
        let open = self.snapshot(index).await?;
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

    /// Deletes what was not committed.
    pub async fn abandon(self) {
        for disk in self.disks {
            let Some(open) = disk.open else { continue };
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
}

async fn open_disk(server: &Arc<Server>, disk: Disk, head: Option<Head>) -> Result<OpenDisk, StoreError> {
    let bytes = disk.bytes;
    let Some(known) = &head else {
        return Ok(OpenDisk {
            disk,
            head,
            start: DiskStart::Full,
            base: Arc::new(DiskDigests::of_zeros(bytes)),
            resized: false,
            rekeyed: false,
            changed: BTreeMap::new(),
            open: None,
        });
    };
    let resized = known.digests.bytes != bytes;
    // A resized disk is not the one that the checkpoint held.
    let mut changed = BTreeMap::new();
    if resized {
        let snapshot = SnapshotId(known.snapshot.clone());
        for block in boundary_blocks(known.digests.bytes, bytes) {
            match server.store.read(&snapshot, block).await {
                Ok(mut data) => {
                    data.resize(block_len(block, bytes), 0);
                    changed.insert(block, Digest::of(&data));
                }
                Err(StoreError::Damaged { .. } | StoreError::DamagedIndex { .. }) => {
                    let claimed = Blocks::from([(disk.id.clone(), [block].into())]);
                    if let Err(error) = damage::take_up(server, &claimed).await {
                        tracing::warn!(server.id = %server.id, error = %chain(&error), "damage is not noted");
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    let newest = SnapshotId(known.snapshot.clone());
    let rekeyed = server.store.changes_key(&disk.id, &newest).await?;
    let missing = server.ledger().missing(&disk.id);
    let start = match server.ledger().delta_since() {
        Some(since) if !resized && missing.is_empty() => DiskStart::Delta { since },
        _ => DiskStart::Rescan,
    };
    let mut base = Arc::clone(&known.digests);
    if resized {
        Arc::make_mut(&mut base).resize(bytes);
    }
    if !missing.is_empty() {
        let base = Arc::make_mut(&mut base);
        for block in missing {
            base.set(block, LOST);
        }
    }
    Ok(OpenDisk {
        disk,
        head,
        start,
        base,
        resized,
        rekeyed,
        changed,
        open: None,
    })
}
