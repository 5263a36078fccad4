//! Writing: starting, filling, committing and deleting snapshots. One process writes a store at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, RwLock},
};

use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_count, block_len},
};

use super::{
    held::Held,
    index::{
        self, DATA_SUFFIX, DRAFT_SUFFIX, Header, INDEX_SUFFIX, OPEN_SUFFIX, Standing, index_path, open_path,
        sync_dir,
    },
    out::OutFile,
    space::is_full,
    view::{Chain, View, Wanted, absent, is_zero},
};
use crate::snapshots::{SnapshotId, SnapshotSpec, StoreError};

const LOCK_FILE: &str = "writer.lock";

/// What is written or left a hole as a whole. Smaller holes would save room and cost the disk more writes.
const PIECE: usize = 64 << 10;

/// What the writing process knows of the store. It alone changes the folder, so this stays true.
#[derive(Debug)]
pub(super) struct Writer {
    /// Locked as long as we write; the kernel unlocks it when the process ends, however it ends.
    _lock: fs::File,
    pub known: BTreeMap<SnapshotId, Known>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub parent: Option<SnapshotId>,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Committed,
    /// Committed, and its parent is being folded into it.
    Absorbing,
    Absorbed {
        into: SnapshotId,
    },
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::Absorbing => "being merged with its parent",
            Self::Absorbed { .. } => "merged",
        }
    }
}

/// A snapshot that this process started and has not committed.
#[derive(Debug)]
pub(super) struct OpenLayer {
    id: SnapshotId,
    header: Header,
    file: OutFile,
    path: PathBuf,
    parents: Chain,
    held: Mutex<Held>,
    /// Blocks that a put which failed may have left something of in the file.
    spoilt: Mutex<BTreeSet<u64>>,
    /// Puts hold it shared, so that a commit waits for them.
    phase: RwLock<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Writing,
    Committed,
    Deleted,
}

pub(super) fn store_error(operation: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = dir.to_owned();
    move |source| {
        if is_full(&source) {
            return StoreError::Full;
        }
        StoreError::Store {
            operation,
            path,
            source,
        }
    }
}

pub(super) fn io_error(operation: &'static str, id: &SnapshotId) -> impl FnOnce(io::Error) -> StoreError {
    let id = id.clone();
    move |source| {
        if is_full(&source) {
            return StoreError::Full;
        }
        StoreError::Io {
            operation,
            id,
            source,
        }
    }
}

impl Writer {
    /// Becomes the writer of the store in `dir`; `None` while another is. What a crashed writer left
    /// half done is tidied, except merges: [`Writer::unfinished_merges`] names them.
    pub fn claim(dir: &Path) -> Result<Option<Self>, StoreError> {
        let wrong = |operation| store_error(operation, dir);
        let lock = fs::File::create(dir.join(LOCK_FILE)).map_err(wrong("lock"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(wrong("lock")(error.into())),
        }
        let known = tidy(dir)?;
        Ok(Some(Self { _lock: lock, known }))
    }

    pub fn start(&mut self, dir: &Path, spec: &SnapshotSpec) -> Result<OpenLayer, StoreError> {
        let parents = match &spec.parent {
            Some(parent) => {
                self.committed(parent, "base a snapshot on")?;
                match View::load(dir, parent) {
                    Ok(view) => view.chain,
                    // What is put hides the damage.
                    Err(StoreError::DamagedIndex { file, detail, .. }) => Chain::lost(file, detail),
                    Err(other) => return Err(other),
                }
            }
            None => Chain::default(),
        };
        let id = SnapshotId(format!("snap-{:017x}", rand::random::<u128>() & ((1 << 68) - 1)));
        let header = Header {
            parent: spec.parent.clone(),
            bytes: spec.bytes,
            disk: spec.disk.clone(),
            tags: spec.tags.clone(),
            data: format!("{id}{DATA_SUFFIX}"),
            standing: Standing::Whole,
        };
        let held = Held::default();
        let path = dir.join(&header.data);
        let made = || {
            // Names the data file before it exists, so that tidying knows whose it is.
            fs::write(open_path(dir, &id), index::encode(&header, &held))?;
            OutFile::create(&path, spec.bytes)
        };
        let file = made().map_err(io_error("start", &id))?;
        let known = Known {
            parent: spec.parent.clone(),
            state: State::Open,
        };
        self.known.insert(id.clone(), known);
        Ok(OpenLayer {
            id,
            header,
            file,
            path,
            parents,
            held: Mutex::new(held),
            spoilt: Mutex::default(),
            phase: RwLock::new(Phase::Writing),
        })
    }

    /// Deletes the files of `id`, its index first. Whoever reads it keeps reading.
    pub fn delete(&mut self, dir: &Path, id: &SnapshotId) -> Result<(), StoreError> {
        let state = match self.known.get(id) {
            // Its blocks live on in the child, which is a snapshot of its own.
            None
            | Some(Known {
                state: State::Absorbed { .. },
                ..
            }) => return Ok(()),
            Some(known) => known.state.clone(),
        };
        let refuse = |state| {
            Err(StoreError::State {
                id: id.clone(),
                state,
                operation: "delete",
            })
        };
        if state == State::Absorbing {
            return refuse(state.name());
        }
        if self.children(id).next().is_some() {
            return refuse("the base of another snapshot");
        }
        // A merge into it that a full disk interrupted ends with it.
        let absorbed = self.known.iter().filter_map(|(lower, known)| match &known.state {
            State::Absorbed { into } if into == id => Some(lower.clone()),
            _ => None,
        });
        let leaving: Vec<_> = std::iter::once(id.clone()).chain(absorbed).collect();
        for id in leaving {
            remove_files(dir, &id).map_err(io_error("delete", &id))?;
            self.known.remove(&id);
        }
        Ok(())
    }

    pub fn children<'a>(&'a self, id: &'a SnapshotId) -> impl Iterator<Item = &'a SnapshotId> {
        self.known
            .iter()
            .filter(move |(_, known)| known.parent.as_ref() == Some(id))
            .map(|(child, _)| child)
    }

    pub fn committed(&self, id: &SnapshotId, operation: &'static str) -> Result<&Known, StoreError> {
        match self.known.get(id) {
            None
            | Some(Known {
                state: State::Absorbed { .. },
                ..
            }) => Err(StoreError::NotFound(id.clone())),
            Some(Known {
                state: State::Open, ..
            }) => Err(StoreError::State {
                id: id.clone(),
                state: "open",
                operation,
            }),
            Some(known) => Ok(known),
        }
    }

    pub fn unfinished_merges(&self) -> Vec<(SnapshotId, SnapshotId)> {
        let merges = self.known.iter().filter_map(|(id, known)| match &known.state {
            State::Absorbed { into } => Some((id.clone(), into.clone())),
            _ => None,
        });
        merges.collect()
    }
}

impl OpenLayer {
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    pub fn check(&self, block: u64, len: usize) -> Result<(), StoreError> {
        if block >= block_count(self.header.bytes) || len != block_len(block, self.header.bytes) {
            return Err(StoreError::OutOfRange {
                id: self.id.clone(),
                block,
            });
        }
        Ok(())
    }

    pub fn put(&self, block: u64, data: &[u8], digest: Digest) -> Result<(), StoreError> {
        let phase = self.phase.read().expect("no panic while it was held");
        self.expect_writing(*phase, "write to")?;
        let at = block * BLOCK_LEN as u64;
        let is_hole = !self.held().contains(block) && !self.spoilt().contains(&block);
        let written = match (is_hole, is_zero(data)) {
            (true, _) => write_sparse(&self.file, at, data),
            (false, true) => punch(self.file.file(), at, data),
            (false, false) => self.file.write_all_at(data, at),
        };
        if let Err(error) = written {
            self.spoilt().insert(block);
            return Err(io_error("write to", &self.id)(error));
        }
        self.held().insert(block, digest);
        Ok(())
    }

    pub fn read(&self, block: u64) -> Result<Vec<u8>, StoreError> {
        self.check(block, block_len(block, self.header.bytes))?;
        let bytes = self.header.bytes;
        let held = self.held().get(block);
        match held {
            Some(digest) => Wanted {
                id: &self.id,
                block,
                len: block_len(block, bytes),
                digest,
            }
            .read(self.file.file(), &self.path),
            None => self.parents.read(&self.id, bytes, block),
        }
    }

    /// Makes it durable. The rename within [`index::replace`] is the commit.
    pub fn commit(&self, dir: &Path) -> Result<(), StoreError> {
        let mut phase = self.phase.write().expect("no panic while it was held");
        if *phase == Phase::Committed {
            return Ok(());
        }
        self.expect_writing(*phase, "commit")?;
        let index = index::encode(&self.header, &self.held());
        let done = || {
            self.file.file().sync_data()?;
            index::replace(dir, &self.id, &index)
        };
        done().map_err(io_error("commit", &self.id))?;
        *phase = Phase::Committed;
        // The index rules; a leftover is tidied by the next writer.
        if let Err(error) = fs::remove_file(open_path(dir, &self.id)) {
            tracing::debug!(snapshot = %self.id, %error, "an obsolete file stays until the next start");
        }
        Ok(())
    }

    /// No put or commit succeeds from here on. `false` if it is committed already.
    pub fn retire(&self) -> bool {
        let mut phase = self.phase.write().expect("no panic while it was held");
        if *phase == Phase::Committed {
            return false;
        }
        *phase = Phase::Deleted;
        true
    }

    fn expect_writing(&self, phase: Phase, operation: &'static str) -> Result<(), StoreError> {
        let state = match phase {
            Phase::Writing => return Ok(()),
            Phase::Committed => "committed",
            Phase::Deleted => "deleted",
        };
        Err(StoreError::State {
            id: self.id.clone(),
            state,
            operation,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic while it was held")
    }

    fn spoilt(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.spoilt.lock().expect("no panic while it was held")
    }
}

/// Writes to where the file has a hole, and leaves it one where the data are zeros: it takes up nothing.
fn write_sparse(file: &OutFile, at: u64, data: &[u8]) -> io::Result<()> {
    let holds: Vec<_> = data.chunks(PIECE).map(|piece| !is_zero(piece)).collect();
    let mut start = 0;
    for run in holds.chunk_by(|one, next| one == next) {
        let end = data.len().min(start + run.len() * PIECE);
        if run[0] {
            file.write_all_at(&data[start..end], at + start as u64)?;
        }
        start = end;
    }
    Ok(())
}

/// Makes a hole of a block, or writes its zeros where the file system knows no holes.
pub(super) fn punch(file: &fs::File, at: u64, zeros: &[u8]) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, at, zeros.len() as u64)
        .map_err(io::Error::from)
        .or_else(|_| file.write_all_at(zeros, at))
}

/// Removes a snapshot's own files. The index goes first: without it, the data are nobody's.
pub(super) fn remove_files(dir: &Path, id: &SnapshotId) -> io::Result<()> {
    let mut data = BTreeSet::new();
    for path in [index_path(dir, id), open_path(dir, id)] {
        if let Some(file) = absent(fs::File::open(&path))? {
            if let Ok(header) = Header::read(id, &path, &file) {
                data.insert(header.data);
            }
            fs::remove_file(&path)?;
        }
    }
    sync_dir(dir)?;
    for name in data {
        absent(fs::remove_file(dir.join(name)))?;
    }
    Ok(())
}

/// Reads the folder, and removes drafts and data files that belong to nothing.
fn tidy(dir: &Path) -> Result<BTreeMap<SnapshotId, Known>, StoreError> {
    let wrong = |operation| store_error(operation, dir);
    let mut known = BTreeMap::new();
    let mut data_files = BTreeSet::new();
    let mut named = BTreeMap::new();
    let mut all_readable = true;
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(wrong("list"))? {
        files.extend(entry.map_err(wrong("list"))?.file_name().into_string());
    }
    // An index comes before the record of the start that it replaces.
    files.sort_unstable();
    for name in files {
        if name.ends_with(DRAFT_SUFFIX) {
            absent(fs::remove_file(dir.join(&name))).map_err(wrong("tidy"))?;
        } else if name.ends_with(DATA_SUFFIX) {
            data_files.insert(name);
        } else if let Some((id, committed)) = parse_name(&name) {
            if known.contains_key(&id) {
                absent(fs::remove_file(dir.join(&name))).map_err(wrong("tidy"))?;
                continue;
            }
            let path = dir.join(&name);
            let file = fs::File::open(&path).map_err(wrong("read"))?;
            let (parent, state) = match Header::read(&id, &path, &file) {
                Ok(header) => {
                    named.insert(id.clone(), header.data);
                    let state = match header.standing {
                        Standing::Absorbed { into } => State::Absorbed { into },
                        Standing::Whole if committed => State::Committed,
                        Standing::Whole => State::Open,
                    };
                    (header.parent, state)
                }
                // A start that did not get far enough to be anything.
                Err(_) if !committed => (None, State::Open),
                Err(error) => {
                    tracing::error!(snapshot = %id, %error, "a committed snapshot cannot be read");
                    all_readable = false;
                    (None, State::Committed)
                }
            };
            known.insert(id, Known { parent, state });
        }
    }
    for lower in merged_leftovers(&known) {
        absent(fs::remove_file(index_path(dir, &lower))).map_err(wrong("tidy"))?;
        known.remove(&lower);
        named.remove(&lower);
    }
    // An index that cannot be read may name any of them.
    if all_readable {
        let named: BTreeSet<_> = named.into_values().collect();
        for orphan in data_files.difference(&named) {
            absent(fs::remove_file(dir.join(orphan))).map_err(wrong("tidy"))?;
        }
    }
    Ok(known)
}

/// Snapshots whose merge went all the way but for the deletion of their index. Their data file, if it is
/// still in use, is the child's by now.
fn merged_leftovers(known: &BTreeMap<SnapshotId, Known>) -> Vec<SnapshotId> {
    let leftovers = known.iter().filter(|(lower, snapshot)| match &snapshot.state {
        State::Absorbed { into } => known
            .get(into)
            .is_none_or(|upper| upper.parent.as_ref() != Some(*lower)),
        _ => false,
    });
    leftovers.map(|(lower, _)| lower.clone()).collect()
}

/// The snapshot that a file of the folder describes, and whether it is committed.
pub(super) fn parse_name(name: &str) -> Option<(SnapshotId, bool)> {
    let (id, committed) = match name.strip_suffix(INDEX_SUFFIX) {
        Some(id) => (id, true),
        None => (name.strip_suffix(OPEN_SUFFIX)?, false),
    };
    is_snapshot_id(id).then(|| (SnapshotId(id.to_owned()), committed))
}

/// `snap-` and seventeen hexadecimal digits, as EBS makes them. Identifiers name files: nothing else may pass.
pub(super) fn is_snapshot_id(text: &str) -> bool {
    text.strip_prefix("snap-")
        .is_some_and(|rest| rest.len() == 17 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
