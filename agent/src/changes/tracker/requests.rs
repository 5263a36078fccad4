//! The table of requests in flight, shared with the programs.
//!
//! Each disk has 1024 buckets of eight entries of 64 bits: one cache line, which an issued request finds by its first
//! sector. A free entry is 0. Two requests with one first sector have two entries.
//!
//! ```text
//! 63       60 59                              23 22                  0
//! generation |           first sector           |  length in sectors  |
//! ```

use std::{ops::Range, sync::atomic::Ordering::Relaxed, sync::atomic::Ordering::SeqCst};

use super::{
    kernel::Words,
    layout::{SECTOR_LEN, SLOTS},
};

pub const GENERATION_BITS: i32 = 4;
/// 64 TiB, the largest volume of EBS.
pub const SECTOR_BITS: i32 = 37;
/// 4 GiB, the longest request that Linux makes.
pub const LEN_BITS: i32 = 23;
pub const BUCKET_BITS: i32 = 10;
pub const ENTRIES_PER_BUCKET: i16 = 8;

/// 2⁶⁴ divided by the golden ratio, whose multiples spread over the high bits.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

pub const BUCKETS: u32 = SLOTS << BUCKET_BITS;
pub const WORDS_PER_BUCKET: u32 = 8;

const ENTRIES_PER_SLOT: usize = (ENTRIES_PER_BUCKET as usize) << BUCKET_BITS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    entry: u64,
}

impl Request {
    pub fn sectors(self) -> u64 {
        self.entry & ((1 << LEN_BITS) - 1)
    }

    pub fn bytes(self) -> Range<u64> {
        let first = (self.entry >> LEN_BITS) & ((1 << SECTOR_BITS) - 1);
        first * SECTOR_LEN..(first + self.sectors()) * SECTOR_LEN
    }

    pub fn generation(self) -> Generation {
        Generation::of(self.entry)
    }
}

/// Tells entries that were made before a moment from those made after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generation(u64);

impl Generation {
    /// From the place where it stands in an entry.
    pub fn of(entry: u64) -> Self {
        Self(entry >> (LEN_BITS + SECTOR_BITS))
    }

    pub fn next(self) -> Self {
        Self((self.0 + 1) % (1 << GENERATION_BITS))
    }

    /// As it stands in an entry.
    pub fn in_place(self) -> u64 {
        self.0 << (LEN_BITS + SECTOR_BITS)
    }
}

/// The entries of one disk. A program may enter and remove some meanwhile.
pub fn of_slot(table: &Words, slot: u32) -> impl Iterator<Item = Request> {
    entries(table, slot)
        .iter()
        .map(|entry| Request {
            entry: entry.load(SeqCst),
        })
        .filter(|request| request.entry != 0)
}

/// Removes the entries that `finished` says are of requests that the kernel has finished, and returns how many
/// sectors they had. One that a program removes at the same time is not counted.
pub fn purge(table: &Words, slot: u32, finished: impl Fn(Request) -> bool) -> u64 {
    let mut sectors = 0;
    for place in entries(table, slot) {
        let request = Request {
            entry: place.load(Relaxed),
        };
        if request.entry != 0
            && finished(request)
            && place.compare_exchange(request.entry, 0, SeqCst, Relaxed).is_ok()
        {
            sectors += request.sectors();
        }
    }
    sectors
}

fn entries(table: &Words, slot: u32) -> &[std::sync::atomic::AtomicU64] {
    let first = slot as usize * ENTRIES_PER_SLOT;
    &table[first..first + ENTRIES_PER_SLOT]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_room_for_the_largest_disk_and_the_longest_request() {
        let (sector, sectors) = ((1_u64 << SECTOR_BITS) - 1, (1_u64 << LEN_BITS) - 1);
        let generation = (0..15).fold(Generation::default(), |generation, _| generation.next());
        let request = Request {
            entry: generation.in_place() | sector << LEN_BITS | sectors,
        };
        let bytes = sector * SECTOR_LEN..(sector + sectors) * SECTOR_LEN;
        assert_eq!((request.bytes(), request.sectors()), (bytes, sectors));
        assert_eq!(request.generation(), generation);
        assert_eq!(generation.next(), Generation::default());
    }
}
