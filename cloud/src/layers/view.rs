//! Reading: a snapshot and everything below it, opened together.
//!
//! A view keeps showing its snapshot whatever is merged underneath: a merge writes only blocks that
//! the layer above it holds, and replaced files stay readable while they are open. It becomes wrong
//! only when its own snapshot is merged into a child or deleted; [`View::is_current`] tells.

use std::{
    fs, io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use domain::disk::{BLOCK_LEN, block_count, block_len};

use super::index::{BlockSet, Header, Index, Standing, index_path};
use crate::snapshots::{SnapshotId, StoreError};

/// A merge may replace the files that are being opened; the next attempt finds the new ones.
const ATTEMPTS: usize = 50;

static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

pub(super) fn is_zero(data: &[u8]) -> bool {
    data.chunks(BLOCK_LEN).all(|piece| piece == &ZEROS[..piece.len()])
}

#[derive(Debug)]
pub(super) struct Layer {
    pub bytes: u64,
    pub held: BlockSet,
    pub data: fs::File,
}

#[derive(Debug)]
pub(super) struct View {
    pub id: SnapshotId,
    pub bytes: u64,
    stamp: Stamp,
    /// Uppermost first.
    pub layers: Vec<Layer>,
}

/// Tells an index file from the one that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Self {
        Self {
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl View {
    pub fn load(dir: &Path, id: &SnapshotId) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            if let Some(view) = Self::try_load(dir, id)? {
                return Ok(view);
            }
        }
        Err(StoreError::Damaged {
            id: id.clone(),
            detail: "a file below it is missing".into(),
        })
    }

    /// `None` if a file vanished meanwhile.
    fn try_load(dir: &Path, id: &SnapshotId) -> Result<Option<Self>, StoreError> {
        let io_error = |operation| {
            let id = id.clone();
            move |source| StoreError::Io {
                operation,
                id,
                source,
            }
        };
        let (top, stamp) = read_index(dir, id)?.ok_or_else(|| StoreError::NotFound(id.clone()))?;
        if top.header.standing != Standing::Whole {
            return Err(StoreError::NotFound(id.clone()));
        }
        let bytes = top.header.bytes;
        let mut layers = Vec::new();
        let mut next = Some(top);
        while let Some(index) = next.take() {
            let Header {
                parent, bytes, data, ..
            } = index.header;
            let Some(data) = absent(fs::File::open(dir.join(data))).map_err(io_error("open"))? else {
                return Ok(None);
            };
            layers.push(Layer {
                bytes,
                held: index.held,
                data,
            });
            if let Some(parent) = parent {
                match read_index(dir, &parent)? {
                    Some((index, _)) => next = Some(index),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(Self {
            id: id.clone(),
            bytes,
            stamp,
            layers,
        }))
    }

    pub fn read(&self, block: u64) -> Result<Vec<u8>, StoreError> {
        if block >= block_count(self.bytes) {
            return Err(StoreError::OutOfRange {
                id: self.id.clone(),
                block,
            });
        }
        read_through(&self.layers, self.bytes, block).map_err(|source| StoreError::Io {
            operation: "read",
            id: self.id.clone(),
            source,
        })
    }

    /// Whether the snapshot's index is still the one that this view was made of.
    pub fn is_current(&self, dir: &Path) -> bool {
        fs::metadata(index_path(dir, &self.id)).is_ok_and(|file| Stamp::of(&file) == self.stamp)
    }

    /// Whether what was read is what the snapshot shows: true as long as the snapshot exists.
    pub fn still_exists(&self, dir: &Path) -> Result<bool, StoreError> {
        Ok(self.is_current(dir)
            || read_index(dir, &self.id)?.is_some_and(|(index, _)| index.header.standing == Standing::Whole))
    }

    /// Writes the whole disk to `file`, which becomes exactly as long, with holes where zeros are.
    pub fn copy_to(&self, file: &fs::File, mut progress: impl FnMut(u64)) -> Result<(), StoreError> {
        let written = |source| StoreError::Io {
            operation: "write a copy of",
            id: self.id.clone(),
            source,
        };
        file.set_len(0).map_err(written)?;
        file.set_len(self.bytes).map_err(written)?;
        for block in 0..block_count(self.bytes) {
            if self.layers.iter().any(|layer| layer.held.contains(block)) {
                let data = self.read(block)?;
                if !is_zero(&data) {
                    file.write_all_at(&data, block * BLOCK_LEN as u64)
                        .map_err(written)?;
                }
            }
            progress(block * BLOCK_LEN as u64 + block_len(block, self.bytes) as u64);
        }
        Ok(())
    }
}

/// One block of a disk of `bytes`, as `layers` show it from above. A layer hides whatever is below it
/// and beyond its own end, so that a disk that shrank and grew again shows zeros there.
pub(super) fn read_through(layers: &[Layer], bytes: u64, block: u64) -> io::Result<Vec<u8>> {
    let len = block_len(block, bytes);
    let start = block * BLOCK_LEN as u64;
    let mut data = vec![0; len];
    let mut visible = bytes;
    for layer in layers {
        visible = visible.min(layer.bytes);
        if start >= visible {
            break;
        }
        if layer.held.contains(block) {
            let inside = block_len(block, visible).min(len);
            layer.data.read_exact_at(&mut data[..inside], start)?;
            break;
        }
    }
    Ok(data)
}

fn read_index(dir: &Path, id: &SnapshotId) -> Result<Option<(Index, Stamp)>, StoreError> {
    let wrap = |source| StoreError::Io {
        operation: "open the index of",
        id: id.clone(),
        source,
    };
    let Some(mut file) = absent(fs::File::open(index_path(dir, id))).map_err(wrap)? else {
        return Ok(None);
    };
    let stamp = Stamp::of(&file.metadata().map_err(wrap)?);
    Ok(Some((Index::read(id, &mut file)?, stamp)))
}

/// `None` for what does not exist.
pub(super) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
