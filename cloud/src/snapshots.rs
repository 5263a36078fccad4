//! The data plane: snapshots of disks, made block by block.
//!
//! ```text
//! start(parent) ─▶ open ── put(block) … ──▶ commit ─▶ committed: read, be a parent, be merged, delete
//!                   └───── abandon, or a crash ─▶ gone
//! ```
//!
//! A committed snapshot never changes. A block that it was not given is its parent's; without a
//! parent, zeros. What was not committed is nothing: after a crash, callers abandon and start anew.

use std::path::PathBuf;

use async_trait::async_trait;
use domain::{digest::Digest, disk::DiskId, ids::SourceServerId};

use crate::control::Tags;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

impl std::fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    pub parent: Option<SnapshotId>,
    /// Size of the disk in bytes; may differ from the parent's.
    pub bytes: u64,
    pub disk: DiskId,
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnapshotInfo {
    pub id: SnapshotId,
    pub parent: Option<SnapshotId>,
    pub bytes: u64,
    pub committed: bool,
    pub tags: Tags,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the snapshot store has no room left")]
    Full,
    #[error("snapshot {0} does not exist")]
    NotFound(SnapshotId),
    #[error("snapshot {id} is {state}, which does not allow to {operation} it")]
    State {
        id: SnapshotId,
        state: &'static str,
        operation: &'static str,
    },
    #[error("block {block} is not within snapshot {id}")]
    OutOfRange { id: SnapshotId, block: u64 },
    /// One block cannot be had. Others can.
    #[error("block {block} of snapshot {id} is damaged in {file}: {detail}")]
    Damaged {
        id: SnapshotId,
        block: u64,
        file: PathBuf,
        detail: String,
    },
    /// Nothing that only this index tells of can be had: it is not known which blocks its snapshot holds.
    #[error("snapshot {id} cannot be read: its index {file} is damaged: {detail}")]
    DamagedIndex {
        id: SnapshotId,
        file: PathBuf,
        detail: String,
    },
    /// The cloud refused it, or gave no answer for long.
    #[error("cannot {operation} snapshot {id}: {detail}")]
    Remote {
        operation: &'static str,
        id: String,
        detail: String,
    },
    #[error("cannot {operation} the snapshot store {path}")]
    Store {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {operation} snapshot {id}")]
    Io {
        operation: &'static str,
        id: SnapshotId,
        #[source]
        source: std::io::Error,
    },
}

/// The newest snapshot of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskHead {
    pub server: SourceServerId,
    pub disk: DiskId,
    pub snapshot: SnapshotId,
}

/// A snapshot that somebody is to copy, since what is based on it is to be under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyWish {
    pub original: SnapshotId,
    pub server: SourceServerId,
    pub key: String,
    /// Once it was asked for.
    pub copy: Option<SnapshotId>,
}

/// What a runner does in its own account.
#[async_trait]
pub trait SnapshotStore: Send + Sync + std::fmt::Debug {
    async fn start(&self, spec: &SnapshotSpec) -> Result<SnapshotId, StoreError>;

    /// Writes one whole block; the last of a disk may be shorter. Zeros are data like any other: with a
    /// parent, leaving them out would show the parent's block. `digest` is the block's BLAKE3, by which
    /// every read will know it: it is taken from the caller, who has it, and not computed again. A block
    /// is put or read by one at a time.
    async fn put(&self, id: &SnapshotId, block: u64, data: Vec<u8>, digest: Digest)
    -> Result<(), StoreError>;

    /// Makes everything put so far durable and the snapshot immutable. Repeating it is no error.
    async fn commit(&self, id: &SnapshotId) -> Result<(), StoreError>;

    /// Reads one whole block as the snapshot shows it: what was put, or [`StoreError::Damaged`]. Open
    /// snapshots can be read, too.
    async fn read(&self, id: &SnapshotId, block: u64) -> Result<Vec<u8>, StoreError>;

    /// Folds `id` into its only child, which then has `id`'s parent; `id` is gone. Both must be
    /// committed. A crash in between leaves either both or the child alone. A damaged block stays
    /// damaged, unless the child holds a good one, which hides it.
    async fn merge_into_child(&self, id: &SnapshotId, child: &SnapshotId) -> Result<(), StoreError>;

    /// Deletes a snapshot that nothing is based on, open or committed. One that is gone is no error.
    async fn delete(&self, id: &SnapshotId) -> Result<(), StoreError>;

    /// Every snapshot of ours in the store, open ones included.
    async fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError>;

    /// Bytes that can still be written, where the store is bounded.
    async fn free_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Snapshots that were deleted here, and exist until somebody else deletes them. Most stores delete themselves.
    async fn released(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        Ok(Vec::new())
    }

    /// Takes up a committed snapshot that this store had before it lost what it knew. `false` if there is none that can
    /// be read.
    async fn take_up(&self, lost: &SnapshotInfo) -> Result<bool, StoreError> {
        let all = self.list().await?;
        Ok(all.iter().any(|info| info.id == lost.id && info.committed))
    }

    /// Of such snapshots, lets one go that nobody needs. Most stores know all they have, and need no telling.
    async fn let_go(&self, _lost: &SnapshotInfo) -> Result<(), StoreError> {
        Ok(())
    }

    /// Which snapshots are to be copied, given the newest of all disks. A snapshot stays the one until its copy is
    /// complete, whichever is the newest by then. Most stores know no keys.
    async fn to_copy(&self, _heads: &[DiskHead]) -> Result<Vec<CopyWish>, StoreError> {
        Ok(Vec::new())
    }

    /// How far a copy has come. Once it is complete, the next snapshot of the disk is based on it.
    async fn copied(
        &self,
        _original: &SnapshotId,
        _copy: &SnapshotId,
        _complete: bool,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether the next snapshot of this disk is to be made even if nothing changed: it may be under another key.
    async fn changes_key(&self, _disk: &DiskId, _newest: &SnapshotId) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// A released snapshot is gone.
    async fn forget(&self, _deleted: &SnapshotId) -> Result<(), StoreError> {
        Ok(())
    }
}
