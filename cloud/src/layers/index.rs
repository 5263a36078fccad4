//! The index of a layer: what it is based on, which blocks it holds, and their digests.
//!
//! ```text
//! offset  size  field
//!      0     8  "ORGLAYR2"
//!      8     4  n: length of the header, little-endian
//!     12     n  header, JSON
//! 12 + n    32  BLAKE3 of everything before
//!      …     …  one bit per block, least significant first, in words of 8 bytes: the data file holds it
//!      …    32  BLAKE3 of each block that is held, in their order
//!    end    32  BLAKE3 of everything before
//! ```
//!
//! An index is replaced as a whole, by rename. The rename that brings it into being is the commit of
//! its snapshot. The header can be read alone: digests of a whole TiB are 64 MiB.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use domain::disk::{DiskId, block_count};
use serde::{Deserialize, Serialize};

use super::held::Held;
use crate::{
    control::Tags,
    snapshots::{SnapshotId, StoreError},
};

const MAGIC: &[u8; 8] = b"ORGLAYR2";
const CHECKSUM_LEN: usize = 32;
/// What comes before the header: the magic and its length.
const PREFIX_LEN: usize = 12;
/// A header is a few hundred bytes, and what tags a caller gives it.
const HEADER_LEN_MAX: usize = 1 << 20;

const CUT_SHORT: &str = "it is cut short";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub parent: Option<SnapshotId>,
    pub bytes: u64,
    pub disk: DiskId,
    pub tags: Tags,
    /// Name of the data file. After a merge it bears the name of the snapshot that was folded in.
    pub data: String,
    pub standing: Standing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Whole,
    /// No snapshot any more, only the lower layer of `into`, whose blocks are being copied over it.
    Absorbed {
        into: SnapshotId,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub header: Header,
    pub held: Held,
}

impl Header {
    /// The header alone of the index that `file`, which is at `path`, holds for snapshot `id`.
    pub fn read(id: &SnapshotId, path: &Path, file: &fs::File) -> Result<Self, StoreError> {
        let mut bytes = Vec::with_capacity(PREFIX_LEN);
        let read = |len: usize, bytes: &mut Vec<u8>| {
            let mut part = file.take(len as u64);
            part.read_to_end(bytes).map_err(unreadable(id))
        };
        read(PREFIX_LEN, &mut bytes)?;
        // What is too short or too long is found out by decoding it.
        if let Some(len) = header_len(&bytes).filter(|len| *len <= HEADER_LEN_MAX) {
            read(len + CHECKSUM_LEN, &mut bytes)?;
        }
        match Self::decode(&bytes) {
            Ok((header, _)) => Ok(header),
            Err(detail) => Err(damaged(id, path, detail)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let header = serde_json::to_vec(self).expect("a header's keys are text");
        let len = u32::try_from(header.len()).expect("a header is a few hundred bytes");
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&header);
        append_checksum(&mut out);
        out
    }

    /// The header, and what comes after it.
    fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), &'static str> {
        if !bytes.starts_with(MAGIC) {
            return Err("it is not of a version that is known");
        }
        let len = header_len(bytes).ok_or(CUT_SHORT)?;
        let (head, rest) = bytes.split_at_checked(PREFIX_LEN + len).ok_or(CUT_SHORT)?;
        let (checksum, rest) = rest.split_first_chunk::<CHECKSUM_LEN>().ok_or(CUT_SHORT)?;
        if blake3::hash(head) != *checksum {
            return Err("the checksum of its header does not match");
        }
        let header = serde_json::from_slice(&head[PREFIX_LEN..]);
        Ok((header.map_err(|_| "its header cannot be read")?, rest))
    }
}

fn header_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.get(MAGIC.len()..)?.first_chunk()?;
    Some(u32::from_le_bytes(*len) as usize)
}

impl Index {
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.header, &self.held)
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, rest) = Header::decode(bytes)?;
        let (held, checksum) = rest.split_last_chunk::<CHECKSUM_LEN>().ok_or(CUT_SHORT)?;
        if blake3::hash(&bytes[..bytes.len() - CHECKSUM_LEN]) != *checksum {
            return Err("its checksum does not match");
        }
        let held = Held::decode(held, block_count(header.bytes));
        let held = held.ok_or("it is not one of its disk")?;
        Ok(Self { header, held })
    }

    /// Reads the index that `file`, which is at `path`, holds for snapshot `id`.
    pub fn read(id: &SnapshotId, path: &Path, mut file: &fs::File) -> Result<Self, StoreError> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unreadable(id))?;
        Self::decode(&bytes).map_err(|detail| damaged(id, path, detail))
    }

    pub fn write(&self, dir: &Path, id: &SnapshotId) -> io::Result<()> {
        replace(dir, id, &self.encode())
    }
}

pub(super) fn encode(header: &Header, held: &Held) -> Vec<u8> {
    let mut out = header.encode();
    held.encode(block_count(header.bytes), &mut out);
    append_checksum(&mut out);
    out
}

fn append_checksum(out: &mut Vec<u8>) {
    let checksum = *blake3::hash(out).as_bytes();
    out.extend_from_slice(&checksum);
}

/// Replaces the index of `id` by an encoded one, durably and at once or not at all.
pub(super) fn replace(dir: &Path, id: &SnapshotId, index: &[u8]) -> io::Result<()> {
    let draft = dir.join(format!("{id}.index{DRAFT_SUFFIX}"));
    let mut file = fs::File::create(&draft)?;
    file.write_all(index)?;
    file.sync_all()?;
    fs::rename(&draft, index_path(dir, id))?;
    sync_dir(dir)
}

fn unreadable(id: &SnapshotId) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io {
        operation: "read the index of",
        id: id.clone(),
        source,
    }
}

fn damaged(id: &SnapshotId, path: &Path, detail: &str) -> StoreError {
    StoreError::DamagedIndex {
        id: id.clone(),
        file: path.to_owned(),
        detail: detail.to_owned(),
    }
}

pub(super) const INDEX_SUFFIX: &str = ".index";
pub(super) const OPEN_SUFFIX: &str = ".open";
pub(super) const DATA_SUFFIX: &str = ".data";
pub(super) const DRAFT_SUFFIX: &str = ".new";

pub(super) fn index_path(dir: &Path, id: &SnapshotId) -> PathBuf {
    dir.join(format!("{id}{INDEX_SUFFIX}"))
}

/// The index of a snapshot that is not committed: what it was started with, and no blocks.
pub(super) fn open_path(dir: &Path, id: &SnapshotId) -> PathBuf {
    dir.join(format!("{id}{OPEN_SUFFIX}"))
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use domain::{
        digest::{DIGEST_LEN, Digest},
        disk::BLOCK_LEN,
    };
    use proptest::prelude::*;

    use super::*;

    fn index(bytes: u64, blocks: &[u64]) -> Index {
        let mut held = Held::default();
        for block in blocks {
            held.insert(*block, Digest([block.to_le_bytes()[0]; DIGEST_LEN]));
        }
        let header = Header {
            parent: Some(SnapshotId("snap-00000000000000001".into())),
            bytes,
            disk: "serial-1".parse().unwrap(),
            tags: Tags::from([("a".into(), "b".into())]),
            data: "snap-00000000000000002.data".into(),
            standing: Standing::Whole,
        };
        Index { header, held }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let bytes = index(20 * BLOCK_LEN as u64, &[0, 7, 19]).encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Index::decode(&damaged).is_err(), "byte {at}");
            assert!(Index::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn an_index_reads_back(blocks in prop::collection::btree_set(0..300_u64, 0..40)) {
            let blocks: Vec<_> = blocks.into_iter().collect();
            let made = index(300 * BLOCK_LEN as u64, &blocks);
            let read = Index::decode(&made.encode()).unwrap();
            prop_assert_eq!(read.held.iter().map(|(block, _)| block).collect::<Vec<_>>(), blocks);
            prop_assert_eq!(read, made);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Index::decode(&bytes);
        }
    }
}
