//! Folding a snapshot into its only child.
//!
//! The lower data file is nearly always the larger by far (it holds the first copy), so it stays, and
//! the child's blocks are copied over it: the cost follows what changed, not the size of the disk.
//!
//! ```text
//! 1 mark     the parent's index says: absorbed into the child. It is no snapshot any more.
//! 2 copy     the child's blocks over the lower data file; the child shows its own copy of them
//! 3 switch   the child's index takes over the lower file, and its parent's parent
//! 4 tidy     the parent's index and the child's former data file are deleted
//! ```
//!
//! Steps 1 and 3 are renames. After a crash between them the child reads as ever, through both files,
//! and the merge is taken up again at step 2, which may be repeated any number of times.
//!
//! What is copied is verified. A block of the child that is damaged is not copied, but keeps its digest,
//! and so stays damaged; one of the parent that the child holds is hidden. A parent whose index cannot be
//! read counts as holding nothing if the child holds everything, and else cannot be merged.

use std::{fs, io, os::unix::fs::FileExt, path::Path};

use domain::{
    digest::{DIGEST_LEN, Digest},
    disk::{BLOCK_LEN, block_count, block_len},
};

use super::{
    held::Held,
    index::{Header, Index, Standing, index_path, sync_dir},
    view::{DataFile, View, Wanted, absent, is_zero},
    writer::{State, Writer, io_error, punch},
};
use crate::snapshots::{SnapshotId, StoreError};

/// A digest that nothing has: of a block that is damaged, and whose length changes.
const LOST: Digest = Digest([0; DIGEST_LEN]);

/// A merge between its steps: what [`begin`] found out.
#[derive(Debug)]
pub(super) struct Merge {
    lower_id: SnapshotId,
    upper_id: SnapshotId,
    lower: Index,
    upper: Index,
}

/// Step 1. `None` if it was done before, to the end.
pub(super) fn begin(
    writer: &mut Writer,
    dir: &Path,
    lower_id: &SnapshotId,
    upper_id: &SnapshotId,
) -> Result<Option<Merge>, StoreError> {
    let refuse = |id: &SnapshotId, state| {
        Err(StoreError::State {
            id: id.clone(),
            state,
            operation: "merge",
        })
    };
    let upper_known = writer.committed(upper_id, "merge")?;
    if upper_known.state == State::Absorbing {
        return refuse(upper_id, "being merged");
    }
    let Some(lower_known) = writer.known.get(lower_id) else {
        return Ok(None);
    };
    if upper_known.parent.as_ref() != Some(lower_id) {
        return refuse(upper_id, "not based on the snapshot");
    }
    let mark = match &lower_known.state {
        State::Committed => true,
        State::Absorbed { into } if into == upper_id => false,
        State::Absorbed { .. } => return Err(StoreError::NotFound(lower_id.clone())),
        State::Open => return refuse(lower_id, "open"),
        State::Absorbing => return refuse(lower_id, "being merged"),
    };
    if writer.children(lower_id).any(|child| child != upper_id) {
        return refuse(lower_id, "the base of other snapshots, too");
    }
    let upper = load(dir, upper_id)?;
    let mut lower = load_below(dir, lower_id, &upper)?;
    if mark {
        lower.header.standing = Standing::Absorbed {
            into: upper_id.clone(),
        };
        lower.write(dir, lower_id).map_err(io_error("merge", lower_id))?;
    }
    let mut set = |id, state| {
        if let Some(known) = writer.known.get_mut(id) {
            known.state = state;
        }
    };
    set(
        lower_id,
        State::Absorbed {
            into: upper_id.clone(),
        },
    );
    set(upper_id, State::Absorbing);
    Ok(Some(Merge {
        lower_id: lower_id.clone(),
        upper_id: upper_id.clone(),
        lower,
        upper,
    }))
}

impl Merge {
    /// Step 2. Needs no lock: nothing else writes these files. Gives the blocks of the merged layer.
    pub fn copy(&self, dir: &Path) -> Result<Held, StoreError> {
        let wrap = || io_error("merge", &self.lower_id);
        let (lower, upper) = (&self.lower, &self.upper);
        let bytes = upper.header.bytes;
        // A file that is missing is made anew: what is not copied into it is damaged, and read as such.
        let target = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(&lower.header.data))
            .map_err(wrap())?;
        self.resize(&target).map_err(wrap())?;

        let mut held = lower.held.clone();
        held.truncate(block_count(bytes));
        self.digest_boundary(dir, &mut held)?;
        if lower.header.parent.is_some() && lower.header.bytes < bytes {
            self.cover_tail(dir, &target, &mut held)?;
        }
        let source = DataFile::open(dir.join(&upper.header.data)).map_err(wrap())?;
        let (mut damaged, mut first_damage) = (0_u64, None);
        for (block, digest) in upper.held.iter() {
            held.insert(block, digest);
            let wanted = Wanted {
                id: &self.upper_id,
                block,
                len: block_len(block, bytes),
                digest,
            };
            let at = block * BLOCK_LEN as u64;
            match source.read(&wanted) {
                Ok(data) if is_zero(&data) => punch(&target, at, &data).map_err(wrap())?,
                Ok(data) => target.write_all_at(&data, at).map_err(wrap())?,
                Err(damage @ StoreError::Damaged { .. }) => {
                    damaged += 1;
                    first_damage.get_or_insert(damage);
                }
                Err(other) => return Err(other),
            }
        }
        target.sync_all().map_err(wrap())?;
        if let Some(error) = first_damage {
            tracing::warn!(snapshot = %self.upper_id, damaged, %error, "blocks stay damaged in a merge");
        }
        Ok(held)
    }

    /// Brings the lower data file to the length of the merged disk. Until the switch, the last block that
    /// both disks have is read in the length that it has in the lower one, and so it is left whole.
    fn resize(&self, target: &fs::File) -> io::Result<()> {
        let (before, after) = (self.lower.header.bytes, self.upper.header.bytes);
        if before < after {
            // What an earlier merge left beyond the end is not to show.
            target.set_len(before)?;
            target.set_len(after)
        } else {
            target.set_len(before.min(block_count(after) * BLOCK_LEN as u64))
        }
    }

    /// The last block that both disks have may change its length, and then its digest.
    fn digest_boundary(&self, dir: &Path, held: &mut Held) -> Result<(), StoreError> {
        let (before, after) = (self.lower.header.bytes, self.upper.header.bytes);
        let Some(block) = block_count(before).min(block_count(after)).checked_sub(1) else {
            return Ok(());
        };
        let changes = block_len(block, before) != block_len(block, after);
        if changes && held.contains(block) && !self.upper.held.contains(block) {
            let digest = match View::load(dir, &self.upper_id)?.read(block) {
                Ok(data) => Digest::of(&data),
                Err(StoreError::Damaged { .. }) => LOST,
                Err(other) => return Err(other),
            };
            held.insert(block, digest);
        }
        Ok(())
    }

    /// The lower layer ended before the child does, and so hid what is below it there. The merged one
    /// is longer: it must hold that part itself, or its new parent would show through.
    fn cover_tail(&self, dir: &Path, target: &fs::File, held: &mut Held) -> Result<(), StoreError> {
        let end = self.lower.header.bytes;
        let view = View::load(dir, &self.upper_id)?;
        for block in end / BLOCK_LEN as u64..block_count(self.upper.header.bytes) {
            if held.contains(block) || self.upper.held.contains(block) {
                continue;
            }
            let digest = match view.read(block) {
                Ok(data) => {
                    if !is_zero(&data) {
                        target
                            .write_all_at(&data, block * BLOCK_LEN as u64)
                            .map_err(io_error("merge", &self.lower_id))?;
                    }
                    Digest::of(&data)
                }
                Err(StoreError::Damaged { .. }) => LOST,
                Err(other) => return Err(other),
            };
            held.insert(block, digest);
        }
        Ok(())
    }

    /// Step 3.
    pub fn switch(&self, writer: &mut Writer, dir: &Path, held: Held) -> Result<(), StoreError> {
        let mut header = self.upper.header.clone();
        header.parent.clone_from(&self.lower.header.parent);
        header.data.clone_from(&self.lower.header.data);
        Index { header, held }
            .write(dir, &self.upper_id)
            .map_err(io_error("merge into", &self.upper_id))?;
        writer.known.remove(&self.lower_id);
        if let Some(upper) = writer.known.get_mut(&self.upper_id) {
            upper.parent.clone_from(&self.lower.header.parent);
            upper.state = State::Committed;
        }
        Ok(())
    }

    /// Step 4. What it leaves behind is harmless, and removed by the next writer.
    pub fn tidy(&self, dir: &Path) -> Result<(), StoreError> {
        let wrap = || io_error("tidy up after merging", &self.lower_id);
        absent(fs::remove_file(index_path(dir, &self.lower_id))).map_err(wrap())?;
        absent(fs::remove_file(dir.join(&self.upper.header.data))).map_err(wrap())?;
        sync_dir(dir).map_err(wrap())
    }

    /// The copy failed: the child can be used as before, and the merge tried again.
    pub fn interrupt(&self, writer: &mut Writer) {
        if let Some(upper) = writer.known.get_mut(&self.upper_id) {
            upper.state = State::Committed;
        }
    }
}

fn load(dir: &Path, id: &SnapshotId) -> Result<Index, StoreError> {
    let path = index_path(dir, id);
    let file = fs::File::open(&path).map_err(io_error("open the index of", id))?;
    Index::read(id, &path, &file)
}

/// The index of a layer below `upper`. One that is damaged does not matter if nothing of it shows.
fn load_below(dir: &Path, id: &SnapshotId, upper: &Index) -> Result<Index, StoreError> {
    match load(dir, id) {
        Err(StoreError::DamagedIndex { .. }) if upper.held.len() == block_count(upper.header.bytes) => {
            let path = index_path(dir, id);
            let file = fs::File::open(&path).map_err(io_error("open the index of", id))?;
            Ok(Index {
                header: Header::read(id, &path, &file)?,
                held: Held::default(),
            })
        }
        other => other,
    }
}
