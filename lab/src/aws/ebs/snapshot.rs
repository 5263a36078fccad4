//! One snapshot: its record, and the blocks that were put into it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::record::{Record, State, ms, now_ms};

pub(super) const BLOCK: usize = 512 * 1024;
const BLOCKS_PER_GIB: u64 = 2048;

pub(super) type Sha256 = [u8; 32];

pub(super) fn sha256(data: &[u8]) -> Sha256 {
    let mut sum = Sha256::default();
    sum.copy_from_slice(digest(&SHA256, data).as_ref());
    sum
}

#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
    /// Absent where EC2 made it: all it shows is its parent's.
    blocks: Option<File>,
    changing: Mutex<Changing>,
}

#[derive(Debug)]
struct Changing {
    record: Record,
    /// What was put, by index.
    put: BTreeMap<u64, Sha256>,
    /// Until then it does not exist for EBS direct.
    unseen_until_ms: u64,
}

impl Snapshot {
    pub(super) fn start(folder: PathBuf, record: Record) -> io::Result<Self> {
        std::fs::create_dir(&folder)?;
        let blocks = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.join("blocks"))?;
        record.write(&folder)?;
        Ok(Self::with(folder, Some(blocks), record))
    }

    /// One that EC2 made.
    pub(super) fn found(folder: PathBuf) -> io::Result<Self> {
        let record = Record::read(&folder)?;
        Ok(Self::with(folder, None, record))
    }

    fn with(folder: PathBuf, blocks: Option<File>, record: Record) -> Self {
        let changing = Changing {
            record,
            put: BTreeMap::new(),
            unseen_until_ms: 0,
        };
        Self {
            folder,
            blocks,
            changing: Mutex::new(changing),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self) -> Record {
        self.lock().record.clone()
    }

    pub(super) fn state(&self) -> io::Result<State> {
        let last_put = match &self.blocks {
            Some(blocks) => ms(blocks.metadata()?.modified()?),
            None => 0,
        };
        Ok(self.lock().record.state(last_put, now_ms()))
    }

    pub(super) fn is_seen(&self) -> bool {
        self.lock().unseen_until_ms <= now_ms()
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.folder.join("deleted").exists()
    }

    pub(super) fn hide(&self, millis: u64) {
        self.lock().unseen_until_ms = now_ms() + millis;
    }

    /// How many blocks a volume of its size has.
    pub(super) fn len(&self) -> u64 {
        self.lock().record.volume_size * BLOCKS_PER_GIB
    }

    /// Whether the block was taken: once it is being completed, a snapshot does not change.
    pub(super) fn put(&self, index: u64, data: &[u8], sum: Sha256) -> io::Result<bool> {
        let blocks = self.blocks.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        // Held until the block is written, so that nothing completes the snapshot meanwhile.
        let mut changing = self.lock();
        if changing.record.completes_at_ms.is_some() {
            return Ok(false);
        }
        blocks.write_all_at(data, index * BLOCK as u64)?;
        changing.put.insert(index, sum);
        Ok(true)
    }

    pub(super) fn read(&self, index: u64) -> io::Result<Vec<u8>> {
        let blocks = self.blocks.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let mut data = vec![0; BLOCK];
        blocks.read_exact_at(&mut data, index * BLOCK as u64)?;
        Ok(data)
    }

    pub(super) fn sum_of(&self, index: u64) -> Option<Sha256> {
        self.lock().put.get(&index).copied()
    }

    pub(super) fn all_put(&self) -> BTreeMap<u64, Sha256> {
        self.lock().put.clone()
    }

    /// Completes it a while later if `fits` says so of how many blocks were put, and of the sum over their sums in the
    /// order of their indexes: `LINEAR`.
    pub(super) fn complete<E: From<io::Error>>(
        &self,
        in_ms: u64,
        fits: impl FnOnce(usize, Sha256) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut changing = self.lock();
        let mut linear = Context::new(&SHA256);
        for sum in changing.put.values() {
            linear.update(sum);
        }
        let mut aggregate = Sha256::default();
        aggregate.copy_from_slice(linear.finish().as_ref());
        fits(changing.put.len(), aggregate)?;
        changing.record.completes_at_ms = Some(now_ms() + in_ms);
        changing.record.write(&self.folder)?;
        Ok(())
    }
}
