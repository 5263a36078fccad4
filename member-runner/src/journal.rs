//! Pieces of blocks in the order in which they came, in one sequential file, until they are merged.
//!
//! To write a few bytes into a block costs reading, hashing and writing all of it. The journal puts that
//! off until nobody waits for it. A journal that a [`Record`](record::Record) names survives a crash.
//!
//! ```text
//! offset  size  field of an entry
//!      0     1  1: data, 2: zeros
//!      1     1  0
//!      2     2  disk, as the record lists them; integers are little-endian
//!      4     4  len    bytes of the disk that it covers, within one block
//!      8     8  at     byte offset on the disk
//!     16    32  digest BLAKE3 of the data; of nothing for zeros
//!     48   len  data; nothing for zeros
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{
    digest::{DIGEST_LEN, Digest},
    disk::{BLOCK_LEN, Disk, block_len},
};
use protocol::{extent::Extent, frame::Frame, session::Fault};
use tokio::sync::OwnedSemaphorePermit;

use crate::files::{FileError, context};

pub(crate) mod record;

const ENTRY_HEADER_LEN: usize = 16 + DIGEST_LEN;

/// So much is written at once: small pieces cost a system call per megabyte.
const WRITE_LEN: usize = 1 << 20;

/// A journal that has grown beyond this is merged before it grows further. Twice it is on disk at worst, while
/// one journal is being merged.
const BYTES_MAX: u64 = 1 << 30;

/// As many chunks of 4 KiB as that are. The index has them in about 50 MiB.
const PIECES_MAX: usize = 1 << 18;

/// A block of one of the disks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub disk: usize,
    pub block: u64,
}

/// Something to be written into a block.
#[derive(Debug)]
pub(crate) enum Piece {
    /// An extent as it came, with its share of the bytes that may be in flight.
    Extent(Frame, OwnedSemaphorePermit),
    Zeros(Range<usize>),
}

/// An entry, by its place in the block and in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
    entry: u64,
    is_data: bool,
}

impl Span {
    pub fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Arc<fs::File>,
    len: u64,
    pieces: usize,
    /// Per block, the oldest piece first; none that a later one covers whole.
    index: BTreeMap<Key, Vec<Span>>,
    /// Two kilobytes, which are not to be moved about.
    headers: Box<blake3::Hasher>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the journal is damaged: {0}")]
    Damaged(&'static str),
}

/// What a journal held at one time, for telling whether it still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seal {
    pub bytes: u64,
    /// BLAKE3 over the headers of all entries, which hold the digests of their data.
    pub headers: Digest,
}

struct Header {
    is_data: bool,
    disk: u16,
    len: u32,
    at: u64,
    digest: Digest,
}

impl Header {
    fn encode(&self) -> [u8; ENTRY_HEADER_LEN] {
        let mut bytes = [0; ENTRY_HEADER_LEN];
        bytes[0] = if self.is_data { 1 } else { 2 };
        bytes[2..4].copy_from_slice(&self.disk.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        bytes[16..].copy_from_slice(&self.digest.0);
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_HEADER_LEN]) -> Option<Self> {
        let [kind, 0, d0, d1, l0, l1, l2, l3, rest @ ..] = *bytes else {
            return None;
        };
        let (at, digest) = rest.split_at(8);
        Some(Self {
            is_data: match kind {
                1 => true,
                2 => false,
                _ => return None,
            },
            disk: u16::from_le_bytes([d0, d1]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            at: u64::from_le_bytes(at.try_into().ok()?),
            digest: Digest(digest.try_into().ok()?),
        })
    }

    fn data_len(&self) -> usize {
        if self.is_data { self.len as usize } else { 0 }
    }

    fn key(&self) -> Key {
        Key {
            disk: usize::from(self.disk),
            block: self.at / BLOCK_LEN as u64,
        }
    }

    /// The entry as part of its block, if it lies within one of these disks.
    fn span(&self, entry: u64, disks: &[Disk]) -> Option<Span> {
        let disk = disks.get(usize::from(self.disk))?;
        let start = u32::try_from(self.at % BLOCK_LEN as u64).ok()?;
        let room = block_len(self.key().block, disk.bytes);
        let fits = self.at < disk.bytes && start as usize + self.len as usize <= room;
        (fits && self.len > 0).then_some(Span {
            start,
            len: self.len,
            entry,
            is_data: self.is_data,
        })
    }
}

impl Journal {
    pub fn create(path: PathBuf) -> Result<Self, FileError> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(context("create", &path))?;
        Ok(Self::empty(path, file))
    }

    fn empty(path: PathBuf, file: fs::File) -> Self {
        Self {
            path,
            file: Arc::new(file),
            len: 0,
            pieces: 0,
            index: BTreeMap::new(),
            headers: Box::default(),
        }
    }

    /// Reads a journal and proves that it is what was sealed, byte for byte.
    pub fn load(path: &Path, seal: Seal, disks: &[Disk]) -> Result<Self, JournalError> {
        let wrong = |error| JournalError::File(context("read", path)(error));
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Damaged("it is gone"));
            }
            opened => opened.map_err(wrong)?,
        };
        let len = file.metadata().map_err(wrong)?.len();
        if len < seal.bytes {
            return Err(JournalError::Damaged("its end is missing"));
        }
        let mut journal = Self::empty(path.to_owned(), file);
        let mut reader = io::BufReader::with_capacity(WRITE_LEN, Arc::clone(&journal.file)).take(seal.bytes);
        let mut data = Vec::new();
        while journal.len < seal.bytes {
            let cut = |error: io::Error| match error.kind() {
                io::ErrorKind::UnexpectedEof => JournalError::Damaged("an entry is cut off"),
                _ => wrong(error),
            };
            let mut bytes = [0; ENTRY_HEADER_LEN];
            reader.read_exact(&mut bytes).map_err(cut)?;
            let unknown = JournalError::Damaged("an entry is no piece of these disks");
            let Some(header) = Header::decode(&bytes) else {
                return Err(unknown);
            };
            let Some(span) = header.span(journal.len, disks) else {
                return Err(unknown);
            };
            data.resize(header.data_len(), 0);
            reader.read_exact(&mut data).map_err(cut)?;
            if Digest::of(&data) != header.digest {
                return Err(JournalError::Damaged("a piece differs from its digest"));
            }
            journal.headers.update(&bytes);
            journal.len += (ENTRY_HEADER_LEN + data.len()) as u64;
            journal.enter(header.key(), span, disks);
        }
        if journal.seal() != seal {
            return Err(JournalError::Damaged(
                "its entries are not those that were sealed",
            ));
        }
        Ok(journal)
    }

    /// Verifies pieces and writes them down.
    pub fn append(&mut self, pieces: Vec<(Key, Piece)>, disks: &[Disk]) -> Result<(), Fault> {
        let mut out = Vec::new();
        for (key, piece) in pieces {
            let disk = u16::try_from(key.disk).expect("a session has sixty disks at most");
            let (header, data, _in_flight) = match piece {
                Piece::Zeros(range) => {
                    let header = Header {
                        is_data: false,
                        disk,
                        len: u32::try_from(range.len()).expect("a block has 512 KiB"),
                        at: key.block * BLOCK_LEN as u64 + range.start as u64,
                        digest: Digest::of(&[]),
                    };
                    (header, Vec::new(), None)
                }
                Piece::Extent(frame, permit) => {
                    let extent = verified(frame)?;
                    let header = Header {
                        is_data: true,
                        disk,
                        len: u32::try_from(extent.data.len()).expect("a block has 512 KiB"),
                        at: extent.at,
                        digest: extent.digest,
                    };
                    (header, extent.data, Some(permit))
                }
            };
            let entry = self.len + out.len() as u64;
            let span = header.span(entry, disks).ok_or_else(|| Fault::Protocol {
                detail: format!("the piece at {} ends beyond the disk", header.at),
            })?;
            let bytes = header.encode();
            self.headers.update(&bytes);
            out.extend_from_slice(&bytes);
            out.extend_from_slice(&data);
            self.enter(key, span, disks);
            if out.len() >= WRITE_LEN {
                self.write(&mut out)?;
            }
        }
        self.write(&mut out)
    }

    fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let written = self.file.write_all_at(out, self.len);
        written.map_err(|error| write_fault(&context("write", &self.path)(error)))?;
        self.len += out.len() as u64;
        out.clear();
        Ok(())
    }

    fn enter(&mut self, key: Key, span: Span, disks: &[Disk]) {
        let spans = self.index.entry(key).or_default();
        if span.range() == (0..block_len(key.block, disks[key.disk].bytes)) {
            self.pieces -= spans.len();
            spans.clear();
        }
        spans.push(span);
        self.pieces += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.len > BYTES_MAX || self.pieces > PIECES_MAX
    }

    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    /// Its blocks, each with its pieces, oldest first.
    pub fn into_blocks(self) -> (Pieces, BTreeMap<Key, Vec<Span>>) {
        (Pieces(self.file), self.index)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn seal(&self) -> Seal {
        Seal {
            bytes: self.len,
            headers: Digest(*self.headers.finalize().as_bytes()),
        }
    }

    /// Makes what was written durable; the folder's entry is left to whoever names it.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_all().map_err(context("write", &self.path))
    }
}

/// The data of a journal, for whoever merges it.
#[derive(Debug, Clone)]
pub(crate) struct Pieces(Arc<fs::File>);

impl Pieces {
    /// Puts a piece into its block, and proves that it is what was written.
    pub fn apply(&self, span: Span, block: &mut [u8]) -> io::Result<()> {
        let room = &mut block[span.range()];
        if !span.is_data {
            room.fill(0);
            return Ok(());
        }
        let mut header = [0; ENTRY_HEADER_LEN];
        self.0.read_exact_at(&mut header, span.entry)?;
        self.0.read_exact_at(room, span.entry + ENTRY_HEADER_LEN as u64)?;
        if header[16..] != Digest::of(room).0 {
            let at = span.entry;
            return Err(io::Error::other(format!("the piece at {at} is damaged")));
        }
        Ok(())
    }
}

pub(crate) fn verified(frame: Frame) -> Result<Extent, Fault> {
    Extent::from_frame(frame).map_err(|error| Fault::Protocol {
        detail: error.to_string(),
    })
}

/// A full file system is told apart: people can help it.
pub(crate) fn write_fault(error: &FileError) -> Fault {
    match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::StagingFull,
        _ => Fault::Store {
            detail: crate::staging::chain(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::extent;
    use tokio::sync::Semaphore;

    use super::*;

    /// Two disks, the second with a short last block.
    fn disks() -> Vec<Disk> {
        let disk = |n: u32, bytes| Disk {
            id: format!("serial-{n}").parse().unwrap(),
            device_name: format!("/dev/sd{n}"),
            bytes,
            is_boot: n == 0,
        };
        vec![disk(0, 3 * BLOCK_LEN as u64), disk(1, BLOCK_LEN as u64 + 4096)]
    }

    #[derive(Debug, Clone)]
    struct Write {
        disk: usize,
        at: u64,
        len: usize,
        /// 0 is written as zeros, not as data.
        byte: u8,
    }

    fn any_write() -> impl Strategy<Value = Write> {
        let quarters = BLOCK_LEN / 4;
        let len = prop_oneof![1..5000_usize, Just(quarters), Just(BLOCK_LEN)];
        (0..2_usize, any::<prop::sample::Index>(), len, 0..4_u8).prop_map(move |(disk, at, len, byte)| {
            let bytes = disks()[disk].bytes;
            let at = at.index(usize::try_from(bytes).unwrap()) as u64;
            // Whole blocks often, and whatever fits else.
            let at = if len == BLOCK_LEN {
                at - at % BLOCK_LEN as u64
            } else {
                at
            };
            let room = BLOCK_LEN - usize::try_from(at % BLOCK_LEN as u64).unwrap();
            let len = len.min(room).min(usize::try_from(bytes - at).unwrap());
            Write { disk, at, len, byte }
        })
    }

    fn piece(write: &Write) -> (Key, Piece) {
        let key = Key {
            disk: write.disk,
            block: write.at / BLOCK_LEN as u64,
        };
        let start = usize::try_from(write.at % BLOCK_LEN as u64).unwrap();
        if write.byte == 0 {
            return (key, Piece::Zeros(start..start + write.len));
        }
        let data = vec![write.byte; write.len];
        let disk = u16::try_from(write.disk).unwrap();
        let frame = extent::encode(disk, write.at, Digest::of(&data), &data, write.byte == 1);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (key, Piece::Extent(frame, permit))
    }

    fn written(writes: &[Write], batch: usize, path: PathBuf) -> Journal {
        let mut journal = Journal::create(path).unwrap();
        for batch in writes.chunks(batch) {
            journal
                .append(batch.iter().map(piece).collect(), &disks())
                .unwrap();
        }
        journal
    }

    /// The disks with a journal merged into what they were.
    fn merged(journal: Journal, before: u8) -> Vec<Vec<u8>> {
        let mut contents: Vec<_> = disks()
            .iter()
            .map(|disk| vec![before; usize::try_from(disk.bytes).unwrap()])
            .collect();
        let (pieces, blocks) = journal.into_blocks();
        for (key, spans) in blocks {
            let at = usize::try_from(key.block).unwrap() * BLOCK_LEN;
            let content = &mut contents[key.disk];
            let end = content.len().min(at + BLOCK_LEN);
            for span in spans {
                pieces.apply(span, &mut content[at..end]).unwrap();
            }
        }
        contents
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Written, and read back after a crash, it makes of the disks what the writes make of them.
        #[test]
        fn a_journal_replays_what_was_written(
            writes in prop::collection::vec(any_write(), 1..40), batch in 1..9_usize, before: u8,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.pieces");
            let journal = written(&writes, batch, path.clone());
            let mut model = merged(Journal::create(dir.path().join("none")).unwrap(), before);
            for write in &writes {
                let at = usize::try_from(write.at).unwrap();
                model[write.disk][at..at + write.len].fill(write.byte);
            }
            let seal = journal.seal();
            let loaded = Journal::load(&path, seal, &disks()).unwrap();
            prop_assert_eq!(&loaded.index, &journal.index);
            prop_assert_eq!(loaded.pieces, journal.pieces);
            prop_assert!(merged(journal, before) == model);
            prop_assert!(merged(loaded, before) == model);
        }

        /// No damage passes for what was sealed.
        #[test]
        fn a_damaged_journal_is_refused(
            writes in prop::collection::vec(any_write(), 1..6),
            at in any::<prop::sample::Index>(), bit in 0..8_u8, cut: bool,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.pieces");
            let seal = written(&writes, 3, path.clone()).seal();
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if cut {
                bytes.truncate(at);
            }
            fs::write(&path, bytes).unwrap();
            let loaded = Journal::load(&path, seal, &disks());
            prop_assert!(matches!(loaded, Err(JournalError::Damaged(_))), "{loaded:?}");
        }

        #[test]
        fn arbitrary_headers_never_panic(bytes in prop::array::uniform32(any::<u8>()), more: [u8; 16]) {
            let mut header = [0; ENTRY_HEADER_LEN];
            header[..32].copy_from_slice(&bytes);
            header[32..].copy_from_slice(&more);
            if let Some(header) = Header::decode(&header) {
                let _ = header.span(0, &disks());
            }
        }
    }

    #[test]
    fn a_piece_that_rots_is_not_merged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pieces");
        let write = Write {
            disk: 0,
            at: 4096,
            len: 512,
            byte: 7,
        };
        let journal = written(&[write], 1, path.clone());
        let last = journal.len - 1;
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[8], last).unwrap();
        let (pieces, blocks) = journal.into_blocks();
        let spans = blocks.into_values().next().unwrap();
        assert!(pieces.apply(spans[0], &mut vec![0; BLOCK_LEN]).is_err());
    }

    #[test]
    fn a_full_file_system_is_told_from_a_broken_one() {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut journal = Journal::empty("/dev/full".into(), full);
        let write = Write {
            disk: 0,
            at: 0,
            len: 4096,
            byte: 1,
        };
        assert_eq!(
            journal.append(vec![piece(&write)], &disks()),
            Err(Fault::StagingFull)
        );
    }

    #[test]
    fn a_piece_beyond_the_disk_or_damaged_on_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path().join("a.pieces")).unwrap();
        let beyond = Write {
            disk: 1,
            at: BLOCK_LEN as u64 + 4000,
            len: 97,
            byte: 1,
        };
        assert!(journal.append(vec![piece(&beyond)], &disks()).is_err());
        let (key, mut damaged) = piece(&Write { len: 96, ..beyond });
        if let Piece::Extent(frame, _) = &mut damaged {
            frame.payload[3] ^= 1;
        }
        assert!(journal.append(vec![(key, damaged)], &disks()).is_err());
    }
}
