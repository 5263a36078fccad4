//! The threads that look at blocks: read, compare with what the runner holds, pack what differs.
//!
//! Several share one segment, each taking a few blocks at a time, so that reading, hashing and sending
//! overlap even on two processors. What they find goes into the session's outbox, which holds a bounded
//! number of frames of bounded size; when the network is slow they wait there, and memory stays small.

use std::{
    ops::Range,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_len},
};
use protocol::{
    extent,
    frame::{self, Codec, Frame},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{progress::Progress, rescan::Expected};
use crate::disks::reader::{BlockBuffer, DiskReader, ReadError};

/// 2 MiB: far enough apart that threads do not meet, near enough that a disk with a head does not
/// wander.
const BLOCKS_AT_A_TIME: u64 = 4;

/// A frame on its way to the runner, and whose progress it is.
#[derive(Debug)]
pub struct Outgoing {
    pub frame: Frame,
    pub payload_of: Option<(Arc<Progress>, u64)>,
}

impl Outgoing {
    /// A frame that carries nothing of a disk.
    pub fn plain(frame: Frame) -> Self {
        Self {
            frame,
            payload_of: None,
        }
    }
}

/// One segment of one disk, shared by the threads that scan it.
#[derive(Debug)]
pub struct Segment {
    /// The disk's number in the session.
    pub disk: u16,
    pub reader: DiskReader,
    pub progress: Arc<Progress>,
    pub blocks: Range<u64>,
    pub expected: Expected,
    pub outbox: mpsc::Sender<Outgoing>,
    pub stop: CancellationToken,
    pub taken: AtomicU64,
    /// Bytes that differed, in the whole session.
    pub found_bytes: Arc<AtomicU64>,
    /// Blocks that became zeros: sent as few long runs when the segment is done.
    pub zeroed: Mutex<Vec<u64>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The session ended, or the round was called off.
    #[error("the scan was stopped")]
    Stopped,
}

static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];
static DIGEST_OF_ZERO_BLOCK: LazyLock<Digest> = LazyLock::new(|| digest_of(&ZEROS));

fn digest_of(data: &[u8]) -> Digest {
    Digest(*blake3::hash(data).as_bytes())
}

/// The digest of a block that holds `len` zeros.
pub fn digest_of_zeros(len: usize) -> Digest {
    if len == BLOCK_LEN {
        *DIGEST_OF_ZERO_BLOCK
    } else {
        digest_of(&ZEROS[..len])
    }
}

/// Scans until no block of the segment is left to take. Every thread of a segment calls this once.
pub fn scan(segment: &Segment) -> Result<(), ScanError> {
    let mut buffer = BlockBuffer::new();
    let mut compression = Compression::default();
    loop {
        let first = segment.blocks.start + segment.taken.fetch_add(BLOCKS_AT_A_TIME, Relaxed);
        if first >= segment.blocks.end {
            return Ok(());
        }
        for block in first..segment.blocks.end.min(first + BLOCKS_AT_A_TIME) {
            if segment.stop.is_cancelled() {
                return Err(ScanError::Stopped);
            }
            look_at(segment, block, &mut buffer, &mut compression)?;
        }
    }
}

fn look_at(
    segment: &Segment,
    block: u64,
    buffer: &mut BlockBuffer,
    compression: &mut Compression,
) -> Result<(), ScanError> {
    let data = segment.reader.read(block, buffer)?;
    let len = data.len() as u64;
    let is_zero = data == &ZEROS[..data.len()];
    let digest = match &segment.expected {
        Expected::Zeros if is_zero => {
            segment.progress.scanned(len);
            return Ok(());
        }
        _ if is_zero => digest_of_zeros(data.len()),
        _ => digest_of(data),
    };
    if let Expected::Digests(held) = &segment.expected {
        // A list of digests is at most 8192 long.
        let index = usize::try_from(block - segment.blocks.start).unwrap_or(usize::MAX);
        if held.get(index) == Some(&digest) {
            segment.progress.scanned(len);
            return Ok(());
        }
    }
    segment.found_bytes.fetch_add(len, Relaxed);
    segment.progress.found(len);
    segment.progress.scanned(len);
    if is_zero {
        segment.zeroed().push(block);
        return Ok(());
    }
    let frame = extent::encode(
        segment.disk,
        block * BLOCK_LEN as u64,
        digest,
        data,
        compression.is_worth_a_try(&segment.outbox),
    );
    compression.learn(&frame);
    segment.send(frame, len)
}

impl Segment {
    /// Sends the blocks that became zeros. Called once, when all threads are done.
    pub fn zero_runs(&self) -> Vec<Outgoing> {
        let mut blocks = std::mem::take(&mut *self.zeroed());
        blocks.sort_unstable();
        let disk_len = self.reader.bytes();
        blocks
            .chunk_by(|earlier, later| earlier + 1 == *later)
            .map(|run| {
                let (at, last) = (run[0] * BLOCK_LEN as u64, run[run.len() - 1]);
                let end = last * BLOCK_LEN as u64 + block_len(last, disk_len) as u64;
                Outgoing {
                    frame: frame::zeros(self.disk, at, end - at),
                    payload_of: Some((self.progress.clone(), end - at)),
                }
            })
            .collect()
    }

    fn zeroed(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.zeroed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, frame: Frame, len: u64) -> Result<(), ScanError> {
        let outgoing = Outgoing {
            frame,
            payload_of: Some((self.progress.clone(), len)),
        };
        self.outbox
            .blocking_send(outgoing)
            .map_err(|_closed| ScanError::Stopped)
    }
}

/// Whether to spend time on compression. It pays when the network is the slower part, that is when frames
/// queue in the outbox, and when the data shrinks at all.
#[derive(Debug, Default)]
struct Compression {
    /// Grows while blocks do not shrink.
    reluctance: u32,
    skip: u32,
    tried: bool,
}

/// Of data that does not shrink, at least one block in this many is tried: what comes may be text.
const SKIPPED_MAX: u32 = 32;

impl Compression {
    fn is_worth_a_try(&mut self, outbox: &mpsc::Sender<Outgoing>) -> bool {
        let queue_is_long = outbox.capacity() * 2 <= outbox.max_capacity();
        self.tried = queue_is_long && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        self.tried
    }

    fn learn(&mut self, frame: &Frame) {
        if !self.tried {
            return;
        }
        if frame.codec == Codec::Lz4 {
            *self = Self::default();
        } else {
            self.reluctance = (self.reluctance * 2).clamp(1, SKIPPED_MAX);
            self.skip = self.reluctance;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn segment(content: &[u8], expected: Expected, capacity: usize) -> (Segment, mpsc::Receiver<Outgoing>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        fs::write(&path, content).unwrap();
        let disk = domain::disk::Disk {
            id: "serial-1".parse().unwrap(),
            device_name: "disk.raw".into(),
            bytes: content.len() as u64,
            is_boot: true,
        };
        let (outbox, sent) = mpsc::channel(capacity);
        let segment = Segment {
            disk: 3,
            reader: DiskReader::open(&path, content.len() as u64).unwrap(),
            progress: Arc::new(Progress::new(disk, false)),
            blocks: 0..domain::disk::block_count(content.len() as u64),
            expected,
            outbox,
            stop: CancellationToken::new(),
            taken: AtomicU64::new(0),
            found_bytes: Arc::default(),
            zeroed: Mutex::default(),
        };
        (segment, sent)
    }

    fn blocks_of(sent: &mut mpsc::Receiver<Outgoing>) -> Vec<u64> {
        std::iter::from_fn(|| sent.try_recv().ok())
            .map(|outgoing| outgoing.frame.at / BLOCK_LEN as u64)
            .collect()
    }

    /// Blocks 0 to 9 hold their number plus one, and 2, 3, 4, 7 and the short last one hold zeros.
    fn content() -> Vec<u8> {
        (0..10_u8)
            .flat_map(|n| {
                let byte = if matches!(n, 2..=4 | 7) { 0 } else { n + 1 };
                vec![byte; BLOCK_LEN]
            })
            .chain(vec![0; 100])
            .collect()
    }

    #[test]
    fn an_empty_runner_needs_no_zeros() {
        let (segment, mut sent) = segment(&content(), Expected::Zeros, 64);
        scan(&segment).unwrap();
        assert_eq!(blocks_of(&mut sent), [0, 1, 5, 6, 8, 9]);
        assert!(segment.zero_runs().is_empty());
        assert_eq!(segment.found_bytes.load(Relaxed), 6 * BLOCK_LEN as u64);
        assert_eq!(segment.progress.report().rescanned_bytes, content().len() as u64);
    }

    #[test]
    fn only_what_differs_is_sent_and_zeros_go_in_runs() {
        let content = content();
        let mut held: Vec<_> = content.chunks(BLOCK_LEN).map(digest_of).collect();
        for changed in [1, 2, 3, 7, 10] {
            held[changed] = Digest([9; 32]);
        }
        let (segment, mut sent) = segment(&content, Expected::Digests(held), 64);
        scan(&segment).unwrap();
        assert_eq!(blocks_of(&mut sent), [1]);
        let runs: Vec<_> = segment
            .zero_runs()
            .iter()
            .map(|run| {
                (
                    run.frame.at / BLOCK_LEN as u64,
                    frame::zeros_len(&run.frame).unwrap(),
                )
            })
            .collect();
        assert_eq!(
            runs,
            [(2, 2 * BLOCK_LEN as u64), (7, BLOCK_LEN as u64), (10, 100)]
        );
    }

    #[test]
    fn a_full_outbox_turns_compression_on_and_noise_turns_it_off() {
        let (outbox, _sent) = mpsc::channel(2);
        let mut compression = Compression::default();
        assert!(!compression.is_worth_a_try(&outbox));
        outbox.try_send(Outgoing::plain(frame::zeros(0, 0, 1))).unwrap();
        assert!(compression.is_worth_a_try(&outbox));
        // Stayed raw, twice.
        let noise = extent::encode(0, 0, digest_of(b"x"), b"x", true);
        compression.learn(&noise);
        assert!(!compression.is_worth_a_try(&outbox));
        assert!(compression.is_worth_a_try(&outbox));
        compression.learn(&noise);
        let tries = (0..2).filter(|_| compression.is_worth_a_try(&outbox)).count();
        assert_eq!(tries, 0);
        assert!(compression.is_worth_a_try(&outbox));
    }

    #[test]
    fn a_stopped_scan_stops() {
        let (segment, sent) = segment(&content(), Expected::Zeros, 64);
        segment.stop.cancel();
        assert!(matches!(scan(&segment), Err(ScanError::Stopped)));
        drop(sent);
    }
}
