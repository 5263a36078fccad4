//! A clone of one disk of a checkpoint, which a conversion reads and writes.
//!
//! ```text
//! read  ─▶ sector written? ─yes─▶ scratch file
//!               └─no─▶ block kept? ─no─▶ SnapshotStore::read     whole blocks of 512 KiB
//! write ─▶ scratch file                                          sectors of 512 bytes, at their natural offset
//! ```
//!
//! The snapshot and its lineage are never written: [`Overlay::commit`] makes a child of it. The scratch file has
//! no name, so that a process that is killed leaves nothing. It is never synced either: a conversion that does
//! not reach its commit is thrown away.
//!
//! What cannot be read or kept is an I/O error to the guest's file system, which may or may not get over it. A
//! conversion must not: the first such error is remembered, and [`Overlay::commit`] gives it instead of a snapshot.

mod kept;
mod written;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use cloud::{
    control::Tags,
    snapshots::{SnapshotId, SnapshotSpec, SnapshotStore, StoreError},
};
use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, DiskId, block_count, block_len},
};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use tokio::runtime::Handle;

use self::{
    kept::Kept,
    written::{SECTOR_LEN, Written, WrittenBlocks},
};
use crate::digests::DiskDigests;

/// The disk of a checkpoint that is cloned.
#[derive(Debug, Clone)]
pub struct Base {
    pub snapshot: SnapshotId,
    pub disk: DiskId,
    pub bytes: u64,
    /// With them, blocks of zeros are not read, and written blocks are not read again to see whether they differ.
    pub digests: Option<Arc<DiskDigests>>,
}

#[derive(Debug)]
pub struct Overlay {
    base: Base,
    store: Arc<dyn SnapshotStore>,
    runtime: Handle,
    scratch: fs::File,
    written: Mutex<WrittenBlocks>,
    kept: Mutex<Kept>,
    /// Whoever fetches a block holds the lock that the block falls to: the parts of a block are usually asked for
    /// at the same time, by several threads.
    fetching: [Mutex<()>; 16],
    bytes_fetched: AtomicU64,
    bytes_written: AtomicU64,
    failure: Mutex<Option<OverlayError>>,
}

/// What the conversion of a disk has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes read from the snapshot store, whole blocks.
    pub fetched: u64,
    /// Bytes written to the clone; what is written twice counts twice, discards do not count.
    pub written: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub snapshot: SnapshotId,
    /// How many blocks the child holds: those that differ from their parent's.
    pub blocks: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum OverlayError {
    #[error("cannot read the disk: {0}")]
    Base(#[source] Arc<StoreError>),
    #[error("block {block} of snapshot {snapshot} has {found} bytes, and must have {expected}")]
    Length {
        snapshot: SnapshotId,
        block: u64,
        found: usize,
        expected: usize,
    },
    #[error("cannot keep what the conversion writes")]
    Scratch(#[source] Arc<io::Error>),
    #[error("bytes {offset} to {end} are not within a disk of {bytes} bytes")]
    OutOfRange { offset: u64, end: u64, bytes: u64 },
    #[error("cannot commit what the conversion wrote")]
    Commit(#[source] Arc<StoreError>),
}

impl From<io::Error> for OverlayError {
    fn from(error: io::Error) -> Self {
        Self::Scratch(Arc::new(error))
    }
}

impl Overlay {
    /// `scratch` is a folder for what is written; `keep` is how many bytes of blocks that were read stay in
    /// memory. `runtime` is where the store is read, for threads that are not the runtime's.
    pub fn over(
        base: Base,
        store: Arc<dyn SnapshotStore>,
        runtime: Handle,
        scratch: &Path,
        keep: usize,
    ) -> Result<Self, OverlayError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let scratch = rustix::fs::open(scratch, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
        let scratch = fs::File::from(scratch);
        scratch.set_len(base.bytes)?;
        Ok(Self {
            base,
            store,
            runtime,
            scratch,
            written: Mutex::default(),
            kept: Mutex::new(Kept::at_most(keep)),
            fetching: Default::default(),
            bytes_fetched: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            failure: Mutex::new(None),
        })
    }

    pub fn bytes(&self) -> u64 {
        self.base.bytes
    }

    pub fn cost(&self) -> Cost {
        Cost {
            fetched: self.bytes_fetched.load(Relaxed),
            written: self.bytes_written.load(Relaxed),
        }
    }

    /// The first thing that went wrong. From then on the clone may differ from what its writers think it is.
    pub fn failure(&self) -> Option<OverlayError> {
        locked(&self.failure).clone()
    }

    /// Fills `into` from `offset` on. Waits for the store; not for threads of the runtime.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), OverlayError> {
        let mut rest = into;
        for piece in self.pieces(offset, rest.len() as u64)? {
            let (now, later) = rest.split_at_mut(piece.within.len());
            self.read_piece(&piece, now)
                .inspect_err(|error| self.remember(error))?;
            rest = later;
        }
        Ok(())
    }

    /// Waits for the store where it must: only for what is not made of whole sectors. Not for threads of the
    /// runtime.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), OverlayError> {
        let mut rest = data;
        for piece in self.pieces(offset, rest.len() as u64)? {
            let (now, later) = rest.split_at(piece.within.len());
            self.write_piece(&piece, now)
                .inspect_err(|error| self.remember(error))?;
            rest = later;
        }
        self.bytes_written.fetch_add(data.len() as u64, Relaxed);
        Ok(())
    }

    /// Makes a range zeros, and frees what it took. Cheap for whole blocks, however many.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), OverlayError> {
        for piece in self.pieces(offset, len)? {
            self.discard_piece(&piece)
                .inspect_err(|error| self.remember(error))?;
        }
        Ok(())
    }

    /// Makes what differs a child of the snapshot. Nobody may write meanwhile: whatever is mounted has to be
    /// unmounted. Not for threads of the runtime.
    pub fn commit(&self, tags: Tags) -> Result<Committed, OverlayError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let not_committed = |error| OverlayError::Commit(Arc::new(error));
        let spec = SnapshotSpec {
            parent: Some(self.base.snapshot.clone()),
            bytes: self.base.bytes,
            disk: self.base.disk.clone(),
            tags,
        };
        let started = self.runtime.block_on(self.store.start(&spec));
        let snapshot = started.map_err(not_committed)?;
        let filled = self.put_what_differs(&snapshot).and_then(|blocks| {
            let committed = self.runtime.block_on(self.store.commit(&snapshot));
            committed.map_err(not_committed).map(|()| blocks)
        });
        match filled {
            Ok(blocks) => Ok(Committed { snapshot, blocks }),
            Err(error) => {
                if let Err(left) = self.runtime.block_on(self.store.delete(&snapshot)) {
                    tracing::warn!(%snapshot, error = %left, "an open snapshot of a failed conversion stays");
                }
                Err(error)
            }
        }
    }

    fn put_what_differs(&self, snapshot: &SnapshotId) -> Result<u64, OverlayError> {
        let blocks: Vec<u64> = locked(&self.written).blocks().collect();
        let mut put = 0;
        for block in blocks {
            let mut data = vec![0; self.len(block)];
            self.read(block * BLOCK_LEN as u64, &mut data)?;
            let digest = Digest::of(&data);
            if digest == self.base_digest(block)? {
                continue;
            }
            self.runtime
                .block_on(self.store.put(snapshot, block, data, digest))
                .map_err(|error| OverlayError::Commit(Arc::new(error)))?;
            put += 1;
        }
        Ok(put)
    }

    fn base_digest(&self, block: u64) -> Result<Digest, OverlayError> {
        let known = self.base.digests.as_ref().and_then(|known| known.get(block));
        match known {
            Some(digest) => Ok(digest),
            None => Ok(Digest::of(&self.base_block(block)?)),
        }
    }

    fn read_piece(&self, piece: &Piece, into: &mut [u8]) -> Result<(), OverlayError> {
        // A sector that is in the scratch file stays there, and needs no lock to be read.
        let written = locked(&self.written).get(piece.block);
        let mut base = None;
        for (range, held) in written.runs(piece.within.clone()) {
            let into = &mut into[range.start - piece.within.start..range.end - piece.within.start];
            match held {
                written::Held::Zeros => into.fill(0),
                written::Held::Scratch => self
                    .scratch
                    .read_exact_at(into, piece.start() + range.start as u64)?,
                written::Held::Base => {
                    let base = match &base {
                        Some(base) => base,
                        None => base.insert(self.base_block(piece.block)?),
                    };
                    into.copy_from_slice(&base[range]);
                }
            }
        }
        Ok(())
    }

    fn write_piece(&self, piece: &Piece, data: &[u8]) -> Result<(), OverlayError> {
        let base = self.base_of_edges(piece)?;
        let mut blocks = locked(&self.written);
        let mut written = blocks.get(piece.block);
        self.keep_edges(piece, &written, base.as_ref())?;
        self.scratch
            .write_all_at(data, piece.start() + piece.within.start as u64)?;
        written.add(piece.within.clone());
        blocks.set(piece.block, written);
        Ok(())
    }

    fn discard_piece(&self, piece: &Piece) -> Result<(), OverlayError> {
        let whole = piece.within == (0..self.len(piece.block));
        let base = self.base_of_edges(piece)?;
        let mut blocks = locked(&self.written);
        let mut written = blocks.get(piece.block);
        if written != Written::Nothing || !whole {
            self.keep_edges(piece, &written, base.as_ref())?;
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let start = piece.start() + piece.within.start as u64;
            rustix::fs::fallocate(&self.scratch, punch, start, piece.within.len() as u64)
                .map_err(io::Error::from)?;
        }
        if !whole {
            written.add(piece.within.clone());
        } else if self.is_zeros(piece.block) {
            written = Written::Nothing;
        } else {
            written = Written::Zeros;
        }
        blocks.set(piece.block, written);
        Ok(())
    }

    /// The base of a block of which parts of sectors are written: the other parts have to come along.
    fn base_of_edges(&self, piece: &Piece) -> Result<Option<Arc<Vec<u8>>>, OverlayError> {
        if piece.edges(self.len(piece.block)).next().is_none() {
            return Ok(None);
        }
        Ok(Some(self.base_block(piece.block)?))
    }

    /// Brings the sectors that are written in part into the scratch file.
    fn keep_edges(
        &self,
        piece: &Piece,
        written: &Written,
        base: Option<&Arc<Vec<u8>>>,
    ) -> Result<(), OverlayError> {
        let Some(base) = base else { return Ok(()) };
        for sector in piece.edges(base.len()) {
            let is_in_base = written
                .runs(sector.clone())
                .iter()
                .any(|(_, held)| *held == written::Held::Base);
            if is_in_base {
                let at = piece.start() + sector.start as u64;
                self.scratch.write_all_at(&base[sector], at)?;
            }
        }
        Ok(())
    }

    /// A block as the snapshot shows it.
    fn base_block(&self, block: u64) -> Result<Arc<Vec<u8>>, OverlayError> {
        if let Some(kept) = locked(&self.kept).get(block) {
            return Ok(kept);
        }
        if self.is_zeros(block) {
            return Ok(Arc::new(vec![0; self.len(block)]));
        }
        let lock = usize::try_from(block % self.fetching.len() as u64).expect("less than 16");
        let _fetching = locked(&self.fetching[lock]);
        if let Some(kept) = locked(&self.kept).get(block) {
            return Ok(kept);
        }
        let read = self.store.read(&self.base.snapshot, block);
        let data = self.runtime.block_on(read);
        let data = data.map_err(|error| OverlayError::Base(Arc::new(error)))?;
        if data.len() != self.len(block) {
            return Err(OverlayError::Length {
                snapshot: self.base.snapshot.clone(),
                block,
                found: data.len(),
                expected: self.len(block),
            });
        }
        self.bytes_fetched.fetch_add(data.len() as u64, Relaxed);
        let data = Arc::new(data);
        locked(&self.kept).put(block, Arc::clone(&data));
        Ok(data)
    }

    /// Whether a block of the snapshot is known to be zeros.
    fn is_zeros(&self, block: u64) -> bool {
        let known = self.base.digests.as_ref().and_then(|known| known.get(block));
        known.is_some_and(|digest| digest == Digest::of_zeros(self.len(block)))
    }

    fn len(&self, block: u64) -> usize {
        block_len(block, self.base.bytes)
    }

    /// A range as parts of blocks.
    fn pieces(&self, offset: u64, len: u64) -> Result<impl Iterator<Item = Piece> + use<>, OverlayError> {
        let bytes = self.base.bytes;
        let end = offset.saturating_add(len);
        if end > bytes {
            return Err(OverlayError::OutOfRange { offset, end, bytes });
        }
        let within = |block: u64, at: u64| {
            let inside = at.saturating_sub(block * BLOCK_LEN as u64);
            usize::try_from(inside).map_or(BLOCK_LEN, |inside| inside.min(BLOCK_LEN))
        };
        let blocks = if len == 0 {
            0..0
        } else {
            offset / BLOCK_LEN as u64..block_count(end)
        };
        Ok(blocks.map(move |block| Piece {
            block,
            within: within(block, offset)..within(block, end),
        }))
    }

    fn remember(&self, error: &OverlayError) {
        let mut failure = locked(&self.failure);
        if failure.is_none() {
            tracing::error!(disk = %self.base.disk, %error, "the conversion of a disk fails");
            *failure = Some(error.clone());
        }
    }
}

/// A part of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    block: u64,
    within: Range<usize>,
}

impl Piece {
    /// Where the block begins on the disk.
    fn start(&self) -> u64 {
        self.block * BLOCK_LEN as u64
    }

    /// The sectors, at most two, that it covers in part, in a block of `len` bytes.
    fn edges(&self, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.within;
        let sector = move |at: usize| {
            let first = at / SECTOR_LEN * SECTOR_LEN;
            first..(first + SECTOR_LEN).min(len)
        };
        let first = Some(sector(start)).filter(|first| first.start != start || first.end > end);
        let last = Some(sector(end - 1)).filter(|last| last.end != end && Some(last) != first.as_ref());
        first.into_iter().chain(last)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it was held")
}
