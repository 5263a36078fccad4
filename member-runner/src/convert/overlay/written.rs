//! Which sectors of a clone are not its snapshot's any more.

use std::{collections::BTreeMap, ops::Range};

use domain::disk::BLOCK_LEN;

/// The least that a disk writes at once. Whatever is made of whole sectors is written without reading anything.
pub const SECTOR_LEN: usize = 512;

const WORDS: usize = BLOCK_LEN / SECTOR_LEN / 64;

/// What is written of a block. Nothing that was written becomes the snapshot's again, unless both are zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    Nothing,
    /// All of it is zeros, and nothing of it in the scratch file.
    Zeros,
    /// A bit for every sector that is in the scratch file.
    Sectors(Box<[u64; WORDS]>),
}

/// Where a sector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Base,
    Zeros,
    Scratch,
}

/// Only blocks of which something is written take memory: 128 bytes and the entry, or the entry alone.
#[derive(Debug, Default)]
pub struct WrittenBlocks(BTreeMap<u64, Written>);

impl WrittenBlocks {
    pub fn get(&self, block: u64) -> Written {
        self.0.get(&block).cloned().unwrap_or(Written::Nothing)
    }

    pub fn set(&mut self, block: u64, written: Written) {
        if written == Written::Nothing {
            self.0.remove(&block);
        } else {
            self.0.insert(block, written);
        }
    }

    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }
}

impl Written {
    /// Notes that every sector that `range` touches is in the scratch file. Where all was zeros, the scratch file
    /// has a hole, which reads the same.
    pub fn add(&mut self, range: Range<usize>) {
        let before = match self {
            Self::Nothing => 0,
            Self::Zeros => u64::MAX,
            Self::Sectors(bits) => return set(bits, range),
        };
        let mut bits = Box::new([before; WORDS]);
        set(&mut bits, range);
        *self = Self::Sectors(bits);
    }

    /// Where the bytes of `range` are, in runs.
    pub fn runs(&self, range: Range<usize>) -> Vec<(Range<usize>, Held)> {
        let bits = match self {
            Self::Nothing => return vec![(range, Held::Base)],
            Self::Zeros => return vec![(range, Held::Zeros)],
            Self::Sectors(bits) => bits,
        };
        let mut runs: Vec<(Range<usize>, Held)> = Vec::new();
        for sector in sectors(&range) {
            let is_set = bits[sector / 64] & (1 << (sector % 64)) != 0;
            let held = if is_set { Held::Scratch } else { Held::Base };
            let end = ((sector + 1) * SECTOR_LEN).min(range.end);
            match runs.last_mut() {
                Some((run, same)) if *same == held => run.end = end,
                _ => runs.push(((sector * SECTOR_LEN).max(range.start)..end, held)),
            }
        }
        runs
    }
}

fn set(bits: &mut [u64; WORDS], range: Range<usize>) {
    for sector in sectors(&range) {
        bits[sector / 64] |= 1 << (sector % 64);
    }
}

fn sectors(range: &Range<usize>) -> Range<usize> {
    range.start / SECTOR_LEN..range.end.div_ceil(SECTOR_LEN)
}
