//! Digests of blocks: what the runner knows of a disk without reading it.
//!
//! Per checkpoint and disk, a file holds the digests of the blocks that changed in it. Read in the order
//! of the checkpoints, they give the digests of every block. What no file names is zeros.
//!
//! ```text
//! offset  size  field
//!      0     8  "ORGDIGS1"
//!      8     1  1: the disk starts anew here, earlier files do not count; else 0
//!      9     8  bytes of the disk, little-endian
//!     17  40·n  block as u64, digest; in the order of the blocks
//!    end    32  BLAKE3 of everything before
//! ```

use std::{collections::BTreeMap, path::Path};

use domain::{
    digest::{DIGEST_LEN, Digest},
    disk::{BLOCK_LEN, block_count, block_len},
};

use crate::files::{self, FileError};

const MAGIC: &[u8; 8] = b"ORGDIGS1";
const ENTRY_LEN: usize = 8 + DIGEST_LEN;

/// The digests of all blocks of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDigests {
    pub bytes: u64,
    digests: Vec<Digest>,
}

impl DiskDigests {
    pub fn of_zeros(bytes: u64) -> Self {
        let mut disk = Self {
            bytes: 0,
            digests: Vec::new(),
        };
        disk.resize(bytes);
        disk
    }

    pub fn get(&self, block: u64) -> Option<Digest> {
        let at = usize::try_from(block).ok()?;
        self.digests.get(at).copied()
    }

    /// Blocks beyond the end are ignored: the disk has shrunk since.
    pub fn set(&mut self, block: u64, digest: Digest) {
        let slot = usize::try_from(block)
            .ok()
            .and_then(|at| self.digests.get_mut(at));
        if let Some(slot) = slot {
            *slot = digest;
        }
    }

    /// What it grows by is zeros. The blocks at the old and at the new end change their length, unless
    /// they are whole; [`boundary_blocks`] names them, and somebody must digest them anew.
    pub fn resize(&mut self, bytes: u64) {
        let count = usize::try_from(block_count(bytes)).expect("64 TiB have 2^27 blocks");
        self.digests.resize(count, Digest::of_zeros(BLOCK_LEN));
        let before = std::mem::replace(&mut self.bytes, bytes);
        if let Some(last) = block_count(bytes).checked_sub(1)
            && block_len(last, bytes) != BLOCK_LEN
            && last >= block_count(before)
        {
            self.set(last, Digest::of_zeros(block_len(last, bytes)));
        }
    }

    /// BLAKE3 over the digests of all blocks.
    pub fn root(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for digest in &self.digests {
            hasher.update(&digest.0);
        }
        Digest(*hasher.finalize().as_bytes())
    }

    pub fn apply(&mut self, change: &DigestChange) {
        if change.from_scratch {
            *self = Self::of_zeros(change.bytes);
        }
        self.resize(change.bytes);
        for (block, digest) in &change.blocks {
            self.set(*block, *digest);
        }
    }
}

/// The blocks whose length differs in a disk of `before` bytes and in one of `after`.
pub fn boundary_blocks(before: u64, after: u64) -> Vec<u64> {
    let both = block_count(before).min(block_count(after));
    (both.saturating_sub(1)..both)
        .filter(|block| block_len(*block, before) != block_len(*block, after))
        .collect()
}

/// What one checkpoint changed of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestChange {
    pub from_scratch: bool,
    pub bytes: u64,
    pub blocks: BTreeMap<u64, Digest>,
}

/// What a file of digests holds.
#[derive(Debug)]
pub enum Kept {
    Change(DigestChange),
    /// There is no such file: the checkpoint changed nothing of the disk.
    Nothing,
    Damaged,
}

impl DigestChange {
    /// The change of this checkpoint and then of `next`, as one.
    #[must_use]
    pub fn followed_by(mut self, next: Self) -> Self {
        if next.from_scratch {
            return next;
        }
        self.blocks.retain(|block, _| *block < block_count(next.bytes));
        // Between the two, the disk ended earlier; what it grew by is zeros, whatever was there before.
        for block in block_count(self.bytes)..block_count(next.bytes) {
            self.blocks
                .insert(block, Digest::of_zeros(block_len(block, next.bytes)));
        }
        self.blocks.extend(next.blocks);
        self.bytes = next.bytes;
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17 + self.blocks.len() * ENTRY_LEN + DIGEST_LEN);
        out.extend_from_slice(MAGIC);
        out.push(u8::from(self.from_scratch));
        out.extend_from_slice(&self.bytes.to_le_bytes());
        for (block, digest) in &self.blocks {
            out.extend_from_slice(&block.to_le_bytes());
            out.extend_from_slice(&digest.0);
        }
        let checksum = Digest::of(&out);
        out.extend_from_slice(&checksum.0);
        out
    }

    /// `None` if the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<DIGEST_LEN>()?;
        if Digest::of(body).0 != *checksum {
            return None;
        }
        let body = body.strip_prefix(MAGIC)?;
        let ([from_scratch], body) = body.split_first_chunk()?;
        let (len, body) = body.split_first_chunk()?;
        let (entries, []) = body.as_chunks::<ENTRY_LEN>() else {
            return None;
        };
        let entry = |entry: &[u8; ENTRY_LEN]| {
            let (block, digest) = entry.split_first_chunk()?;
            Some((u64::from_le_bytes(*block), Digest(digest.try_into().ok()?)))
        };
        Some(Self {
            from_scratch: *from_scratch == 1,
            bytes: u64::from_le_bytes(*len),
            blocks: entries.iter().map(entry).collect::<Option<_>>()?,
        })
    }

    pub fn read(path: &Path) -> Result<Kept, FileError> {
        Ok(match files::read(path)? {
            None => Kept::Nothing,
            Some(bytes) => Self::decode(&bytes).map_or(Kept::Damaged, Kept::Change),
        })
    }

    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        files::replace(path, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u64 = BLOCK_LEN as u64;

    fn any_change() -> impl Strategy<Value = DigestChange> {
        let blocks = prop::collection::btree_map(0..8_u64, any::<u8>(), 0..8);
        (prop::bool::weighted(0.2), 1..32_u64, blocks).prop_map(|(from_scratch, quarters, blocks)| {
            let bytes = quarters * BLOCK / 4;
            let blocks = blocks
                .into_iter()
                .filter(|(block, _)| *block < block_count(bytes))
                .map(|(block, byte)| (block, Digest([byte; DIGEST_LEN])))
                .collect();
            DigestChange {
                from_scratch,
                bytes,
                blocks,
            }
        })
    }

    /// A change as a session makes it: the blocks that a resize altered are among the changed ones.
    fn complete(mut change: DigestChange, before: &DiskDigests) -> DigestChange {
        if !change.from_scratch {
            for block in boundary_blocks(before.bytes, change.bytes) {
                change.blocks.entry(block).or_insert(Digest([1; DIGEST_LEN]));
            }
        }
        change
    }

    proptest! {
        #[test]
        fn a_change_reads_back(change in any_change()) {
            prop_assert_eq!(DigestChange::decode(&change.encode()), Some(change));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(DigestChange::decode(&bytes), None);
        }

        #[test]
        fn two_changes_folded_into_one_end_the_same(
            start in 1..32_u64, first in any_change(), second in any_change(),
        ) {
            let mut one_by_one = DiskDigests::of_zeros(start * BLOCK / 4);
            one_by_one.set(0, Digest([9; DIGEST_LEN]));
            let mut at_once = one_by_one.clone();
            let first = complete(first, &one_by_one);
            one_by_one.apply(&first);
            let second = complete(second, &one_by_one);
            one_by_one.apply(&second);
            at_once.apply(&first.followed_by(second));
            prop_assert_eq!(at_once.root(), one_by_one.root());
        }
    }

    #[test]
    fn a_disk_of_zeros_has_the_digests_of_zeros() {
        let disk = DiskDigests::of_zeros(2 * BLOCK + 512);
        assert_eq!(disk.get(2), Some(Digest::of(&[0; 512])));
        assert_eq!(disk.get(1), Some(Digest::of(&vec![0; BLOCK_LEN])));
        assert_eq!(disk.get(3), None);
    }
}
