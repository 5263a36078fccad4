//! The index of a layer: what it is based on, and which blocks it holds.
//!
//! ```text
//! offset  size  field
//!      0     8  "ORGLAYR1"
//!      8     4  n: length of the header, little-endian
//!     12     n  header, JSON
//! 12 + n     …  one bit per block, least significant first: the data file holds it
//!    end    32  BLAKE3 of everything before
//! ```
//!
//! An index is replaced as a whole, by rename. The rename that brings it into being is the commit of
//! its snapshot.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use domain::disk::{DiskId, block_count};
use serde::{Deserialize, Serialize};

use crate::{
    control::Tags,
    snapshots::{SnapshotId, StoreError},
};

const MAGIC: &[u8; 8] = b"ORGLAYR1";
const CHECKSUM_LEN: usize = 32;

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
    pub held: BlockSet,
}

/// Which blocks of a disk a layer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockSet(Vec<u8>);

impl BlockSet {
    pub fn empty(bytes: u64) -> Self {
        Self(vec![0; Self::stored_len(bytes)])
    }

    pub fn contains(&self, block: u64) -> bool {
        let Ok(byte) = usize::try_from(block / 8) else {
            return false;
        };
        self.0.get(byte).is_some_and(|bits| bits >> (block % 8) & 1 == 1)
    }

    /// `block` must lie within the disk.
    pub fn insert(&mut self, block: u64) {
        let byte = usize::try_from(block / 8).expect("a block of the disk");
        self.0[byte] |= 1 << (block % 8);
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0_u64..).zip(&self.0).flat_map(|(at, bits)| {
            (0..8)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| at * 8 + bit)
        })
    }

    fn stored_len(bytes: u64) -> usize {
        usize::try_from(block_count(bytes).div_ceil(8)).expect("64 TiB of disk make 16 MiB of bits")
    }
}

impl Index {
    pub fn encode(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).expect("a header's keys are text");
        let len = u32::try_from(header.len()).expect("a header is a few hundred bytes");
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.held.0);
        let checksum = *blake3::hash(&out).as_bytes();
        out.extend_from_slice(&checksum);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (body, checksum) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .ok_or("its index is cut short")?;
        if blake3::hash(body) != *checksum {
            return Err("the checksum of its index does not match");
        }
        let body = body
            .strip_prefix(MAGIC)
            .ok_or("its index is of an unknown version")?;
        let (len, body) = body.split_first_chunk().ok_or("its index is cut short")?;
        let len = u32::from_le_bytes(*len) as usize;
        let (header, held) = body.split_at_checked(len).ok_or("its index is cut short")?;
        let header: Header =
            serde_json::from_slice(header).map_err(|_| "the header of its index is damaged")?;
        if held.len() != BlockSet::stored_len(header.bytes) {
            return Err("its index has another size than its disk");
        }
        Ok(Self {
            header,
            held: BlockSet(held.to_vec()),
        })
    }

    /// Reads the index that `file` of snapshot `id` holds.
    pub fn read(id: &SnapshotId, file: &mut fs::File) -> Result<Self, StoreError> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(file, &mut bytes).map_err(|source| StoreError::Io {
            operation: "read the index of",
            id: id.clone(),
            source,
        })?;
        Self::decode(&bytes).map_err(|detail| StoreError::Damaged {
            id: id.clone(),
            detail: detail.to_owned(),
        })
    }

    /// Replaces the index of `id`, durably and at once or not at all.
    pub fn write(&self, dir: &Path, id: &SnapshotId) -> io::Result<()> {
        let draft = dir.join(format!("{id}.index{DRAFT_SUFFIX}"));
        let mut file = fs::File::create(&draft)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&draft, index_path(dir, id))?;
        sync_dir(dir)
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
    use domain::disk::BLOCK_LEN;
    use proptest::prelude::*;

    use super::*;

    fn index(bytes: u64, blocks: &[u64]) -> Index {
        let mut held = BlockSet::empty(bytes);
        for block in blocks {
            held.insert(*block);
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
            prop_assert_eq!(read.held.iter().collect::<Vec<_>>(), blocks);
            prop_assert_eq!(read, made);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Index::decode(&bytes);
        }
    }
}
