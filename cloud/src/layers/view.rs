//! Reading: a snapshot and everything below it, opened together.
//!
//! Every block is verified against the digest that its layer's index has of it, holes included. What
//! does not match, or cannot be read, is damage: of that block, in that file. The others stay readable.
//!
//! A view keeps showing its snapshot whatever is merged underneath: a merge writes only blocks that
//! the layer above it holds, and replaced files stay readable while they are open. It becomes wrong
//! only when its own snapshot is merged into a child or deleted; [`View::is_current`] tells.

use std::{
    fs, io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_count, block_len},
};
use rustix::io::Errno;

use super::{
    held::Held,
    index::{Header, Index, Standing, index_path},
    writer::io_error,
};
use crate::snapshots::{SnapshotId, StoreError};

/// A merge may replace the files that are being opened; the next attempt finds the new ones.
const ATTEMPTS: usize = 50;

static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

pub(super) fn is_zero(data: &[u8]) -> bool {
    data.chunks(BLOCK_LEN).all(|piece| piece == &ZEROS[..piece.len()])
}

/// The file that the blocks of a layer are in.
#[derive(Debug)]
pub(super) struct DataFile {
    pub path: PathBuf,
    /// `None`: it is missing.
    pub file: Option<fs::File>,
}

impl DataFile {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = absent(fs::File::open(&path))?;
        Ok(Self { path, file })
    }

    pub fn read(&self, wanted: &Wanted) -> Result<Vec<u8>, StoreError> {
        match &self.file {
            Some(file) => wanted.read(file, &self.path),
            None => Err(wanted.damaged(&self.path, "the file is missing".into())),
        }
    }
}

/// A block that must be what its digest says.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The snapshot that is read, which errors name.
    pub id: &'a SnapshotId,
    pub block: u64,
    pub len: usize,
    pub digest: Digest,
}

impl Wanted<'_> {
    /// Reads it from `file`, which is at `path`.
    pub fn read(&self, file: &fs::File, path: &Path) -> Result<Vec<u8>, StoreError> {
        let mut data = vec![0; self.len];
        if let Err(error) = file.read_exact_at(&mut data, self.block * BLOCK_LEN as u64) {
            return Err(match (error.kind(), Errno::from_io_error(&error)) {
                (io::ErrorKind::UnexpectedEof, _) => self.damaged(path, "the file ends before it".into()),
                // What a disk or a file system says that lost it.
                (_, Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG)) => self.damaged(path, error.to_string()),
                _ => io_error("read", self.id)(error),
            });
        }
        let found = Digest::of(&data);
        if found != self.digest {
            let detail = format!("its digest is {found}, and must be {}", self.digest);
            return Err(self.damaged(path, detail));
        }
        Ok(data)
    }

    fn damaged(&self, path: &Path, detail: String) -> StoreError {
        StoreError::Damaged {
            id: self.id.clone(),
            block: self.block,
            file: path.to_owned(),
            detail,
        }
    }
}

#[derive(Debug)]
pub(super) struct Layer {
    pub bytes: u64,
    pub held: Held,
    pub data: DataFile,
}

/// Layers over each other.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Uppermost first.
    layers: Vec<Layer>,
    lost: Option<Lost>,
}

/// Where a chain breaks off: an index that tells which blocks its layer holds and what is below it.
#[derive(Debug)]
struct Lost {
    index: PathBuf,
    detail: String,
}

#[derive(Debug)]
pub(super) struct View {
    pub id: SnapshotId,
    pub bytes: u64,
    stamp: Stamp,
    pub chain: Chain,
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

    fn is_current(self, dir: &Path, id: &SnapshotId) -> bool {
        fs::metadata(index_path(dir, id)).is_ok_and(|file| Self::of(&file) == self)
    }
}

impl View {
    pub fn load(dir: &Path, id: &SnapshotId) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            let (top, stamp) = read_index(dir, id)?.ok_or_else(|| StoreError::NotFound(id.clone()))?;
            if top.header.standing != Standing::Whole {
                return Err(StoreError::NotFound(id.clone()));
            }
            let bytes = top.header.bytes;
            if let Some(chain) = Chain::open(dir, id, top, stamp)? {
                return Ok(Self {
                    id: id.clone(),
                    bytes,
                    stamp,
                    chain,
                });
            }
        }
        Err(StoreError::Io {
            operation: "open",
            id: id.clone(),
            source: io::Error::other("it is replaced all the time"),
        })
    }

    pub fn read(&self, block: u64) -> Result<Vec<u8>, StoreError> {
        if block >= block_count(self.bytes) {
            return Err(StoreError::OutOfRange {
                id: self.id.clone(),
                block,
            });
        }
        self.chain.read(&self.id, self.bytes, block)
    }

    /// Whether the snapshot's index is still the one that this view was made of.
    pub fn is_current(&self, dir: &Path) -> bool {
        self.stamp.is_current(dir, &self.id)
    }

    /// Whether what was read is what the snapshot shows: true as long as the snapshot exists.
    pub fn still_exists(&self, dir: &Path) -> Result<bool, StoreError> {
        if self.is_current(dir) {
            return Ok(true);
        }
        let path = index_path(dir, &self.id);
        let Some(file) = open_index(&path, &self.id)? else {
            return Ok(false);
        };
        Ok(Header::read(&self.id, &path, &file)?.standing == Standing::Whole)
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
            if self.chain.may_hold(block) {
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

impl Chain {
    /// What can be read where the uppermost index cannot be: nothing.
    pub fn lost(index: PathBuf, detail: String) -> Self {
        Self {
            layers: Vec::new(),
            lost: Some(Lost { index, detail }),
        }
    }

    /// The layers from `index` of `id` downwards. `None` if they were replaced meanwhile.
    fn open(
        dir: &Path,
        id: &SnapshotId,
        mut index: Index,
        mut stamp: Stamp,
    ) -> Result<Option<Self>, StoreError> {
        let mut id = id.clone();
        let mut chain = Self::default();
        loop {
            let Header {
                parent, bytes, data, ..
            } = index.header;
            let data = DataFile::open(dir.join(data)).map_err(io_error("open", &id))?;
            // A merge replaces an index before it removes what the former one named.
            if data.file.is_none() && !stamp.is_current(dir, &id) {
                return Ok(None);
            }
            chain.layers.push(Layer {
                bytes,
                held: index.held,
                data,
            });
            let Some(parent) = parent else {
                return Ok(Some(chain));
            };
            let (lost, detail) = match read_index(dir, &parent) {
                Ok(Some(below)) => {
                    (id, (index, stamp)) = (parent, below);
                    continue;
                }
                Ok(None) if stamp.is_current(dir, &id) => {
                    (index_path(dir, &parent), "it is missing".to_owned())
                }
                Ok(None) => return Ok(None),
                Err(StoreError::DamagedIndex { file, detail, .. }) => (file, detail),
                Err(other) => return Err(other),
            };
            chain.lost = Some(Lost { index: lost, detail });
            return Ok(Some(chain));
        }
    }

    /// One block of snapshot `id`, a disk of `bytes`, as its layers show it from above. A layer hides
    /// whatever is below it and beyond its own end, so that a disk that shrank and grew again shows zeros
    /// there.
    pub fn read(&self, id: &SnapshotId, bytes: u64, block: u64) -> Result<Vec<u8>, StoreError> {
        let len = block_len(block, bytes);
        let mut visible = bytes;
        for layer in &self.layers {
            visible = visible.min(layer.bytes);
            let inside = block_len(block, visible);
            if inside == 0 {
                return Ok(vec![0; len]);
            }
            if let Some(digest) = layer.held.get(block) {
                let wanted = Wanted {
                    id,
                    block,
                    len: block_len(block, layer.bytes),
                    digest,
                };
                let mut data = layer.data.read(&wanted)?;
                data.truncate(inside);
                data.resize(len, 0);
                return Ok(data);
            }
        }
        match &self.lost {
            None => Ok(vec![0; len]),
            Some(lost) => Err(StoreError::Damaged {
                id: id.clone(),
                block,
                file: lost.index.clone(),
                detail: lost.detail.clone(),
            }),
        }
    }

    /// Whether a block may show anything but zeros.
    fn may_hold(&self, block: u64) -> bool {
        self.lost.is_some() || self.layers.iter().any(|layer| layer.held.contains(block))
    }
}

fn read_index(dir: &Path, id: &SnapshotId) -> Result<Option<(Index, Stamp)>, StoreError> {
    let path = index_path(dir, id);
    let Some(file) = open_index(&path, id)? else {
        return Ok(None);
    };
    let stamp = file.metadata().map_err(io_error("read the index of", id))?;
    Ok(Some((Index::read(id, &path, &file)?, Stamp::of(&stamp))))
}

fn open_index(path: &Path, id: &SnapshotId) -> Result<Option<fs::File>, StoreError> {
    absent(fs::File::open(path)).map_err(io_error("open the index of", id))
}

/// `None` for what does not exist.
pub(super) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
