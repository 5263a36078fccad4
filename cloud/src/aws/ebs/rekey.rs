//! Another key. EBS has a child under its parent's key for good, and only EC2 copies a snapshot under another one: so
//! somebody who reaches EC2 copies the newest snapshot of a disk, and what comes after it is based on the copy.
//!
//! ```text
//! original ── … ── newest                under the old key
//!     └ copied ─▶ copy ── next           under the new one, with what changed from the original to the newest
//! ```
//!
//! Replication goes on meanwhile, under the old key. Nothing is read from the source again.

use std::sync::Arc;

use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, DiskId, block_count, block_len},
};
use tokio::task::JoinSet;

use super::{
    EbsStore,
    calls::refused,
    draft::Draft,
    records::{Copying, Record, Standing, Wish},
    store_error,
};
use crate::snapshots::{CopyWish, DiskHead, SnapshotId, StoreError};

/// Blocks that are read at once, some 50 ms each.
const READS: usize = 32;

/// On what a snapshot is based in place of its parent, and what it must hold besides for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switch {
    pub original: SnapshotId,
    pub copy: SnapshotId,
    pub parent: SnapshotId,
}

impl EbsStore {
    pub(super) fn wanted_copies(&self, heads: &[DiskHead]) -> Result<Vec<CopyWish>, StoreError> {
        let Some(key) = self.new_key() else {
            return Ok(Vec::new());
        };
        let mut under_way = self.shared.records.copied();
        let mut wishes = Vec::new();
        for DiskHead {
            server,
            disk,
            snapshot,
        } in heads
        {
            let of_disk = |(_, original, copying): &(_, Record, Copying)| {
                copying.disk == *disk && original.server() == Some(server.as_str())
            };
            let known = under_way.iter().position(of_disk);
            let known = known.map(|at| under_way.swap_remove(at));
            let head = match self.record(snapshot) {
                Ok(head) => head,
                // Another is the newest by now.
                Err(StoreError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let is_done = head.taken_up || head.key() == Some(key);
            let (original, copying) = match known {
                Some((original, _, copying)) if copying.key == key && !is_done => (original, copying),
                outdated => {
                    if let Some((original, ..)) = outdated {
                        self.end_copying(&original)?;
                    }
                    if is_done {
                        continue;
                    }
                    (snapshot.clone(), self.begin_copying(snapshot, disk, key)?)
                }
            };
            if !copying.complete {
                wishes.push(CopyWish {
                    original,
                    server: server.clone(),
                    key: key.to_owned(),
                    copy: copying.copy,
                });
            }
        }
        // Of disks that are gone.
        for (original, ..) in under_way {
            self.end_copying(&original)?;
        }
        Ok(wishes)
    }

    pub(super) fn note_copy(
        &self,
        original: &SnapshotId,
        copy: &SnapshotId,
        complete: bool,
    ) -> Result<(), StoreError> {
        let Some((_, record, copying)) = self.copying_of(|id, _, _| id == original) else {
            // Nobody wants it any more.
            let wish = copy_of(self.known(original)?, None);
            return self.set(copy, Record::left(wish, Standing::Released));
        };
        if copying.copy.as_ref() != Some(copy) {
            self.release_copy(&copying)?;
            let wish = copy_of(record, Some(copying.key));
            self.set(copy, Record::left(wish, Standing::Copy))?;
        }
        self.amend(original, |record| {
            if let Some(copying) = &mut record.copying {
                copying.copy = Some(copy.clone());
                copying.complete = complete;
            }
        })
    }

    /// Whether what is based on this newest snapshot of a disk can be under the new key.
    pub(super) fn switch(&self, disk: &DiskId, newest: &SnapshotId) -> Result<Option<Switch>, StoreError> {
        let Some(key) = self.new_key() else {
            return Ok(None);
        };
        let head = self.record(newest)?;
        if head.taken_up || head.key() == Some(key) {
            return Ok(None);
        }
        let copied = self.copying_of(|_, original, copying| {
            copying.disk == *disk
                && copying.complete
                && copying.key == key
                && original.server() == head.server()
        });
        Ok(copied.and_then(|(original, _, copying)| {
            Some(Switch {
                original,
                copy: copying.copy?,
                parent: newest.clone(),
            })
        }))
    }

    /// Puts what the copy lacks, unless it was put anyway.
    pub(super) async fn complete_switch(&self, draft: &Arc<Draft>, bytes: u64) -> Result<(), StoreError> {
        let Some(Switch { original, parent, .. }) = &draft.switch else {
            return Ok(());
        };
        if original == parent {
            return Ok(());
        }
        let changed = self.shared.calls.changed(original, parent).await;
        let changed = changed.map_err(|failure| refused("list what changed in", &parent.0, &failure))?;
        let mut lacking = changed
            .into_iter()
            .filter(|block| *block < block_count(bytes) && !draft.has(*block));
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < READS
                && let Some(block) = lacking.next()
            {
                let (store, parent) = (self.clone(), parent.clone());
                reads.spawn(async move {
                    let read = store.read_committed(&parent, block).await;
                    let read = read.map_err(|failure| refused("read", &parent.0, &failure))?;
                    Ok::<_, StoreError>((block, read.unwrap_or_else(|| vec![0; BLOCK_LEN])))
                });
            }
            let Some(read) = reads.join_next().await else {
                return Ok(());
            };
            let (block, mut data) = read.unwrap_or_else(|stopped| {
                Err(StoreError::Remote {
                    operation: "read",
                    id: parent.0.clone(),
                    detail: stopped.to_string(),
                })
            })?;
            data.truncate(block_len(block, bytes));
            let digest = Digest::of(&data);
            let room = Arc::clone(&self.shared.room).acquire_owned().await;
            let room = room.expect("the room is never closed");
            draft.put(&self.shared.calls, block, data, digest, room).await?;
        }
    }

    /// The copy was a parent, and is needed no more.
    pub(super) fn end_copying(&self, original: &SnapshotId) -> Result<(), StoreError> {
        if let Some((_, _, copying)) = self.copying_of(|id, _, _| id == original) {
            self.release_copy(&copying)?;
            self.amend(original, |record| record.copying = None)?;
        }
        Ok(())
    }

    fn begin_copying(&self, id: &SnapshotId, disk: &DiskId, key: &str) -> Result<Copying, StoreError> {
        let copying = Copying {
            disk: disk.clone(),
            key: key.to_owned(),
            copy: None,
            complete: false,
        };
        self.amend(id, |record| record.copying = Some(copying.clone()))?;
        Ok(copying)
    }

    fn release_copy(&self, copying: &Copying) -> Result<(), StoreError> {
        match &copying.copy {
            Some(copy) => self.amend(copy, |record| record.standing = Standing::Released),
            None => Ok(()),
        }
    }

    fn copying_of(
        &self,
        is_it: impl Fn(&SnapshotId, &Record, &Copying) -> bool,
    ) -> Option<(SnapshotId, Record, Copying)> {
        let all = self.shared.records.copied();
        all.into_iter()
            .find(|(id, record, copying)| is_it(id, record, copying))
    }

    /// Whatever stands of it.
    fn known(&self, id: &SnapshotId) -> Result<Record, StoreError> {
        let known = self.shared.records.get(id);
        known
            .map_err(store_error("read", &self.shared.dir))?
            .ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    fn amend(&self, id: &SnapshotId, change: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        match self.known(id) {
            Ok(mut record) => {
                change(&mut record);
                self.set(id, record)
            }
            // Deleted by now.
            Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The key that new snapshots are to be under. Only a key's own ARN can be compared with what EBS says.
    pub(super) fn new_key(&self) -> Option<&str> {
        self.shared.key.as_deref().filter(|key| key.contains(":key/"))
    }
}

fn copy_of(original: Record, key: Option<String>) -> Wish {
    Wish {
        token: String::new(),
        parent: None,
        key,
        ..original.wish
    }
}
