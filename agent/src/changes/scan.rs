//! The threads that look at a disk: read, compare with what the runner holds, pack what differs.
//!
//! Several share one segment, each taking a few pieces at a time, so that reading, hashing and sending overlap even
//! on two processors. What they find goes into the session's outbox, which holds a bounded number of bytes; when the
//! network is slow they wait there, and memory stays small. While file systems stand still nobody waits for a network:
//! what is read then is only kept, and packed afterwards ([`Held`]).

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_count},
};
use protocol::{
    extent,
    frame::{self, Codec, DIGESTS_PER_FRAME_MAX, Frame},
};
use tokio_util::sync::CancellationToken;

use super::{chunks::Chunks, progress::Progress};
use crate::{
    disks::reader::{BlockBuffer, DiskReader, ReadError},
    session::{
        meter::Meter,
        outbox::{Closed, Outbox, by_lane},
    },
};

/// 2 MiB of whole blocks: far enough apart that threads do not meet, near enough that a disk with a head does not
/// wander.
const PIECES_AT_A_TIME: usize = 4;

/// Pieces of changes in a segment: their list takes up 1 MiB.
const PIECES_MAX: usize = 1 << 16;

/// Of a block, changes of this many bytes are sent as the whole block, which the runner need not put together:
/// three quarters, so that no more than a third is sent in vain.
const WHOLE_FROM: u64 = BLOCK_LEN as u64 / 4 * 3;

/// What a segment looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pieces {
    /// All of these blocks.
    Blocks(Range<u64>),
    /// Byte ranges, each within a block.
    Changes(Vec<Range<u64>>),
}

/// What the runner holds in a segment.
#[derive(Debug)]
pub enum Expected {
    Zeros,
    /// One per block of the segment.
    Digests(Vec<Digest>),
    /// Something else than what is there now.
    Nothing,
}

/// One segment of one disk, shared by the threads that scan it.
#[derive(Debug)]
pub struct Segment {
    /// The disk's number in the session.
    pub disk: u16,
    pub reader: DiskReader,
    pub progress: Arc<Progress>,
    pub pieces: Pieces,
    pub expected: Expected,
    pub outbox: Arc<Outbox>,
    pub meter: Arc<Meter>,
    pub stop: CancellationToken,
    pub taken: AtomicUsize,
    /// Bytes that differed, in the whole session.
    pub found_bytes: Arc<AtomicU64>,
    /// Blocks that became zeros: sent as few long runs when the segment is done.
    pub zeroed: Mutex<Vec<Range<u64>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The session ended, or the round was called off.
    #[error("the scan was stopped")]
    Stopped,
}

impl From<Closed> for ScanError {
    fn from(_: Closed) -> Self {
        Self::Stopped
    }
}

/// What was read while file systems stood still.
#[derive(Debug)]
pub struct Held {
    pub disk: u16,
    pub at: u64,
    pub data: Vec<u8>,
}

static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// Cuts a disk into segments whose digests fit into one frame.
pub fn whole(bytes: u64) -> impl Iterator<Item = Pieces> {
    let end = block_count(bytes);
    (0..end)
        .step_by(usize::try_from(DIGESTS_PER_FRAME_MAX).unwrap_or(usize::MAX))
        .map(move |first| Pieces::Blocks(first..end.min(first + DIGESTS_PER_FRAME_MAX)))
}

/// Cuts changes into segments of a bounded number of pieces.
pub fn changes(chunks: Arc<Chunks>) -> impl Iterator<Item = Pieces> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let mut pieces = Vec::new();
        for piece in pieces_from(&chunks, next) {
            next = piece.end;
            pieces.push(piece);
            if pieces.len() == PIECES_MAX {
                break;
            }
        }
        (!pieces.is_empty()).then_some(Pieces::Changes(pieces))
    })
}

/// The pieces of `chunks` from byte `from` on, which is where one ended. A block of which most has changed is one
/// piece.
fn pieces_from(chunks: &Chunks, from: u64) -> impl Iterator<Item = Range<u64>> {
    let mut runs = chunks
        .ranges()
        .skip_while(move |run| run.end <= from)
        .map(move |run| run.start.max(from)..run.end)
        .flat_map(by_block)
        .peekable();
    let bytes = chunks.disk_len();
    let mut queue = Vec::new().into_iter();
    std::iter::from_fn(move || {
        if let Some(piece) = queue.next() {
            return Some(piece);
        }
        let first = runs.next()?;
        let block = first.start / BLOCK_LEN as u64;
        let mut of_block = vec![first];
        while let Some(more) = runs.next_if(|run| run.start / BLOCK_LEN as u64 == block) {
            of_block.push(more);
        }
        let changed: u64 = of_block.iter().map(|run| run.end - run.start).sum();
        if changed >= WHOLE_FROM {
            let start = block * BLOCK_LEN as u64;
            of_block.clear();
            of_block.push(start..bytes.min(start + BLOCK_LEN as u64));
        }
        queue = of_block.into_iter();
        queue.next()
    })
}

/// Cuts a byte range at the boundaries of blocks.
fn by_block(run: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    const LEN: u64 = BLOCK_LEN as u64;
    let blocks = run.start / LEN..run.end.div_ceil(LEN);
    blocks.map(move |block| run.start.max(block * LEN)..run.end.min((block + 1) * LEN))
}

/// Scans until no piece of the segment is left to take. Every thread of a segment calls this once.
pub fn scan(segment: &Segment) -> Result<(), ScanError> {
    let mut compression = Compression::default();
    segment.each_piece(|piece, data| segment.look_at(piece, data, &mut compression))
}

/// As [`scan`], but keeps what is there in memory.
pub fn hold(segment: &Segment) -> Result<Vec<Held>, ScanError> {
    let mut held = Vec::new();
    segment.each_piece(|piece, data| {
        held.push(Held {
            disk: segment.disk,
            at: piece.start,
            data: data.to_vec(),
        });
        Ok(())
    })?;
    Ok(held)
}

impl Segment {
    /// Sends what [`hold`] kept of this segment.
    pub fn send_held(&self, held: Vec<Held>) -> Result<(), ScanError> {
        let mut compression = Compression::default();
        held.into_iter().try_for_each(|Held { at, data, .. }| {
            self.look_at(at..at + data.len() as u64, &data, &mut compression)
        })
    }

    /// Sends the blocks that became zeros. Called once, when all threads are done; waits as [`Outbox::send`] does.
    pub fn send_zeros(&self) -> Result<(), ScanError> {
        let mut zeroed = std::mem::take(&mut *self.zeroed());
        zeroed.sort_unstable_by_key(|run| run.start);
        for run in zeroed.chunk_by(|earlier, later| earlier.end == later.start) {
            for cut in by_lane(run[0].start..run[run.len() - 1].end) {
                let len = cut.end - cut.start;
                self.send(frame::zeros(self.disk, cut.start, len), len)?;
            }
        }
        Ok(())
    }

    /// Reads piece by piece what no other thread has taken.
    fn each_piece(
        &self,
        mut then: impl FnMut(Range<u64>, &[u8]) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        let mut buffer = BlockBuffer::new();
        loop {
            let first = self.taken.fetch_add(PIECES_AT_A_TIME, Relaxed);
            for index in first..first + PIECES_AT_A_TIME {
                let Some(piece) = self.piece(index) else {
                    return Ok(());
                };
                if self.stop.is_cancelled() {
                    return Err(ScanError::Stopped);
                }
                let began = Instant::now();
                let data = self.reader.read(piece.clone(), &mut buffer)?;
                self.meter.read(began);
                then(piece, data)?;
            }
        }
    }

    fn piece(&self, index: usize) -> Option<Range<u64>> {
        match &self.pieces {
            Pieces::Changes(pieces) => pieces.get(index).cloned(),
            Pieces::Blocks(blocks) => {
                let block = blocks.start + index as u64;
                let start = block * BLOCK_LEN as u64;
                let end = self.reader.bytes().min(start + BLOCK_LEN as u64);
                (block < blocks.end).then_some(start..end)
            }
        }
    }

    fn look_at(
        &self,
        piece: Range<u64>,
        data: &[u8],
        compression: &mut Compression,
    ) -> Result<(), ScanError> {
        let began = Instant::now();
        let len = data.len() as u64;
        let is_zero = data == &ZEROS[..data.len()];
        let digest = match &self.expected {
            Expected::Zeros if is_zero => {
                self.progress.scanned(len);
                self.meter.computed(began);
                return Ok(());
            }
            _ if is_zero => Digest::of_zeros(data.len()),
            _ => Digest::of(data),
        };
        if let (Expected::Digests(held), Pieces::Blocks(blocks)) = (&self.expected, &self.pieces) {
            // A list of digests is at most 8192 long.
            let block = piece.start / BLOCK_LEN as u64;
            let index = usize::try_from(block - blocks.start).unwrap_or(usize::MAX);
            if held.get(index) == Some(&digest) {
                self.progress.scanned(len);
                self.meter.computed(began);
                return Ok(());
            }
        }
        self.found_bytes.fetch_add(len, Relaxed);
        self.progress.found(len);
        self.progress.scanned(len);
        if is_zero {
            self.zeroed().push(piece);
            self.meter.computed(began);
            return Ok(());
        }
        let compress = compression.is_worth_a_try(&self.outbox);
        let frame = extent::encode(self.disk, piece.start, digest, data, compress);
        compression.learn(&frame);
        self.meter.computed(began);
        self.send(frame, len)
    }

    fn send(&self, frame: Frame, len: u64) -> Result<(), ScanError> {
        let began = Instant::now();
        self.outbox.send(frame, &self.progress, len)?;
        self.meter.waited(began);
        Ok(())
    }

    fn zeroed(&self) -> std::sync::MutexGuard<'_, Vec<Range<u64>>> {
        self.zeroed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether to spend time on compression. It pays when frames queue in the outbox and leave it slowly, and when the data
/// shrinks at all.
#[derive(Debug, Default)]
struct Compression {
    /// Grows while data do not shrink.
    reluctance: u32,
    skip: u32,
    tried: bool,
}

/// Of data that does not shrink, at least one piece in this many is tried: what comes may be text.
const SKIPPED_MAX: u32 = 32;

impl Compression {
    fn is_worth_a_try(&mut self, outbox: &Outbox) -> bool {
        self.tried = outbox.is_slow() && self.skip == 0;
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

    use proptest::prelude::*;

    use super::*;
    use crate::session::outbox::Queues;

    const LEN: u64 = BLOCK_LEN as u64;

    fn segment(content: &[u8], pieces: Option<Pieces>, expected: Expected) -> (Segment, Queues) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        fs::write(&path, content).unwrap();
        let disk = domain::disk::Disk {
            id: "serial-1".parse().unwrap(),
            device_name: "disk.raw".into(),
            bytes: content.len() as u64,
            is_boot: true,
        };
        let (outbox, queues) = Outbox::new(1);
        let segment = Segment {
            disk: 3,
            reader: DiskReader::open(&path, content.len() as u64).unwrap(),
            progress: Arc::new(Progress::new(disk, false)),
            pieces: pieces.unwrap_or_else(|| Pieces::Blocks(0..block_count(content.len() as u64))),
            expected,
            outbox: Arc::new(outbox),
            meter: Arc::default(),
            stop: CancellationToken::new(),
            taken: AtomicUsize::new(0),
            found_bytes: Arc::default(),
            zeroed: Mutex::default(),
        };
        (segment, queues)
    }

    fn sent(queues: &mut Queues) -> Vec<Frame> {
        std::iter::from_fn(|| Some(queues.lanes[0].try_recv().ok()?.frame)).collect()
    }

    fn blocks_of(queues: &mut Queues) -> Vec<u64> {
        sent(queues).iter().map(|frame| frame.at / LEN).collect()
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
        let (segment, mut queues) = segment(&content(), None, Expected::Zeros);
        scan(&segment).unwrap();
        segment.send_zeros().unwrap();
        assert_eq!(blocks_of(&mut queues), [0, 1, 5, 6, 8, 9]);
        assert_eq!(segment.found_bytes.load(Relaxed), 6 * LEN);
        assert_eq!(segment.progress.report().rescanned_bytes, content().len() as u64);
    }

    #[test]
    fn only_what_differs_is_sent_and_zeros_go_in_runs() {
        let content = content();
        let mut held: Vec<_> = content.chunks(BLOCK_LEN).map(Digest::of).collect();
        for changed in [1, 2, 3, 7, 10] {
            held[changed] = Digest([9; 32]);
        }
        let (segment, mut queues) = segment(&content, None, Expected::Digests(held));
        scan(&segment).unwrap();
        assert_eq!(blocks_of(&mut queues), [1]);
        segment.send_zeros().unwrap();
        let runs: Vec<_> = sent(&mut queues)
            .iter()
            .map(|run| (run.at / LEN, frame::zeros_len(run).unwrap()))
            .collect();
        assert_eq!(runs, [(2, 2 * LEN), (7, LEN), (10, 100)]);
    }

    #[test]
    fn changes_are_sent_as_they_are_and_from_memory_alike() {
        let pieces = || Some(Pieces::Changes(vec![4096..8192, 2 * LEN..2 * LEN + 4096]));
        let (direct, mut queues) = segment(&content(), pieces(), Expected::Nothing);
        scan(&direct).unwrap();
        direct.send_zeros().unwrap();
        let (held, mut held_queues) = segment(&content(), pieces(), Expected::Nothing);
        let kept = hold(&held).unwrap();
        assert_eq!(kept.len(), 2);
        held.send_held(kept).unwrap();
        held.send_zeros().unwrap();
        let frames = sent(&mut queues);
        assert_eq!(frames, sent(&mut held_queues));
        let extent = extent::Extent::from_frame(frames[0].clone()).unwrap();
        assert_eq!((extent.at, extent.data), (4096, vec![1; 4096]));
        assert_eq!(frame::zeros_len(&frames[1]), Some(4096));
    }

    #[test]
    fn noise_turns_compression_off_and_tries_again_later() {
        let (outbox, _queues) = Outbox::new(1);
        let mut compression = Compression::default();
        assert!(!compression.is_worth_a_try(&outbox), "the queue is empty");
        // Stayed raw, twice.
        let noise = extent::encode(0, 0, Digest::of(b"x"), b"x", true);
        for skipped in [1, 2, 4] {
            compression.tried = true;
            compression.learn(&noise);
            assert_eq!(compression.skip, skipped);
        }
    }

    #[test]
    fn a_stopped_scan_stops() {
        let (segment, _queues) = segment(&content(), None, Expected::Zeros);
        segment.stop.cancel();
        assert!(matches!(scan(&segment), Err(ScanError::Stopped)));
    }

    proptest! {
        #[test]
        fn pieces_cover_all_changes_in_order_within_blocks(
            runs in prop::collection::vec((0..2000_u64, 1..200_u64), 0..40), tail in 0..4096_u64,
        ) {
            let bytes = 2048 * 4096 + tail;
            let mut chunks = Chunks::none(bytes, 4096);
            for (first, count) in runs {
                chunks.insert(first * 4096..(first + count) * 4096);
            }
            let mut covered = Chunks::none(bytes, 4096);
            let mut end = 0;
            for segment in changes(Arc::new(chunks.clone())) {
                let Pieces::Changes(pieces) = segment else { panic!() };
                for piece in pieces {
                    prop_assert!(piece.start >= end && piece.start < piece.end && piece.end <= bytes);
                    prop_assert_eq!(piece.start / LEN, (piece.end - 1) / LEN);
                    end = piece.end;
                    covered.insert(piece);
                }
            }
            let mut both = covered.clone();
            both.merge(&chunks);
            prop_assert_eq!(&both, &covered);
            prop_assert!(covered.bytes() <= chunks.bytes() / 3 * 4 + BLOCK_LEN as u64);
        }

        #[test]
        fn segments_cover_the_disk_in_order(bytes in 1..100_000_u64) {
            let bytes = bytes * LEN / 3 + 1;
            let mut at = 0;
            for segment in whole(bytes) {
                let Pieces::Blocks(blocks) = segment else { panic!() };
                prop_assert_eq!(blocks.start, at);
                prop_assert!(blocks.end - at <= DIGESTS_PER_FRAME_MAX);
                at = blocks.end;
            }
            prop_assert_eq!(at, block_count(bytes));
        }
    }
}
