//! What the programs and the agent agree on: the state of a disk, and the map of its marks.

use std::sync::atomic::Ordering::Relaxed;

use super::kernel::{Map, Words};
use crate::changes::chunks::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, Chunks};

/// Disks that can be watched at once. Each costs 64 KiB for its request table.
pub const SLOTS: u32 = 64;

pub const SECTOR_LEN: u64 = 512;

/// All maps of marks together, two for each disk. With a bit per chunk that is enough for 512 GiB of disks in
/// chunks of 4 KiB, 1 TiB in 8 KiB, and 16 TiB in 128 KiB; the agent as a whole may use 128 MiB.
pub const MARKS_BUDGET: u64 = 32 << 20;

/// More turns of the marking loop than a request of 4 GiB needs: 386 with bits in chunks of 4 KiB, 1022 with
/// bytes in chunks of 32 KiB.
pub const TURNS_MAX: i32 = 1100;

pub const COARSE_CHUNKS_OF_BITS: i32 = 64 * 64;
pub const COARSE_CHUNKS_OF_BYTES: i32 = 256;

/// Offsets in the state of a disk, a value of 192 bytes. Who issues and who completes requests are often different
/// processors, so that the counters lie in different cache lines.
pub mod state {
    pub const WORDS: u32 = 24;

    /// A chunk is `1 << this` sectors.
    pub const CHUNK_SHIFT: i16 = 0;
    /// Number of the first coarse word, or with bytes, the first coarse byte.
    pub const COARSE_BASE: i16 = 8;
    /// What new entries of the request table carry, in its place in the entry.
    pub const GENERATION: i16 = 16;

    /// Requests that may change the disk.
    pub const ISSUED: i16 = 64;
    /// Commands passed through with data.
    pub const UNKNOWN: i16 = 72;
    /// Requests that the table had no room for.
    pub const OVERFLOWED: i16 = 80;
    /// Requests beyond the disk's end, or longer than can be.
    pub const ODD: i16 = 88;

    pub const COMPLETED: i16 = 128;
    pub const SECTORS: i16 = 136;
}

/// How the programs mark a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    Bits,
    /// Where the kernel cannot set one bit of a word at once.
    Bytes,
}

impl Marks {
    /// Chunks that one word of the map holds.
    fn per_word(self) -> u64 {
        match self {
            Self::Bits => 64,
            Self::Bytes => 8,
        }
    }

    /// Chunks that one coarse mark stands for.
    pub fn coarse_chunks(self) -> i32 {
        match self {
            Self::Bits => COARSE_CHUNKS_OF_BITS,
            Self::Bytes => COARSE_CHUNKS_OF_BYTES,
        }
    }

    /// Shorter chunks would need more turns than [`TURNS_MAX`] for the longest request.
    fn chunk_len_min(self) -> u64 {
        match self {
            Self::Bits => CHUNK_LEN_MIN,
            Self::Bytes => 32 << 10,
        }
    }
}

/// How the chunks of one disk lie in its maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub marks: Marks,
    pub disk_len: u64,
    pub chunk_len: u64,
}

impl Geometry {
    /// The shortest chunks with which disks of `all_disks` bytes stay within the budget, of which `used` is gone
    /// already. `None` if even the longest are too short.
    pub fn choose(marks: Marks, disk_len: u64, all_disks: u64, used: u64) -> Option<Self> {
        let lens = std::iter::successors(Some(marks.chunk_len_min()), |len| Some(len * 2));
        let geometry = |disk_len, chunk_len| Self {
            marks,
            disk_len,
            chunk_len,
        };
        lens.take_while(|len| *len <= CHUNK_LEN_MAX)
            .find(|len| {
                // A coarse mark for 64 or 256 fine ones is not counted.
                let fine = |bytes| 2 * 8 * geometry(bytes, *len).fine_words();
                fine(all_disks) <= MARKS_BUDGET && fine(disk_len) + used <= MARKS_BUDGET
            })
            .map(|chunk_len| geometry(disk_len, chunk_len))
    }

    /// Bytes of both maps.
    pub fn memory(self) -> u64 {
        2 * 8 * self.fine_words()
    }

    pub fn chunk_shift(self) -> u64 {
        u64::from((self.chunk_len / SECTOR_LEN).trailing_zeros())
    }

    fn chunks(self) -> u64 {
        self.disk_len.div_ceil(self.chunk_len)
    }

    fn fine_words(self) -> u64 {
        self.chunks().div_ceil(self.marks.per_word())
    }

    fn coarse_words(self) -> u64 {
        let units = self
            .chunks()
            .div_ceil(u64::from(self.marks.coarse_chunks().cast_unsigned()));
        units.div_ceil(self.marks.per_word())
    }

    pub fn coarse_base(self) -> u64 {
        match self.marks {
            Marks::Bits => self.fine_words(),
            Marks::Bytes => self.fine_words() * 8,
        }
    }

    pub fn new_map(self) -> std::io::Result<Map> {
        let words = self.fine_words() + self.coarse_words();
        Map::inner_array(u32::try_from(words).unwrap_or(u32::MAX))
    }

    /// The chunks that are marked.
    pub fn read(self, map: &Words) -> Chunks {
        let mut chunks = Chunks::none(self.disk_len, self.chunk_len);
        self.visit(map, |first_chunk, word| {
            chunks.insert_word(first_chunk / 64, word << (first_chunk % 64));
        });
        chunks
    }

    /// Takes all marks off, and gives those that were there. No program may use the map meanwhile.
    pub fn take(self, map: &Words) -> Chunks {
        let chunks = self.read(map);
        // Untouched pages are not written.
        map.iter()
            .filter(|word| word.load(Relaxed) != 0)
            .for_each(|word| word.store(0, Relaxed));
        chunks
    }

    /// About how many bytes are marked: twice as many where a request was long and a neighbour is marked again.
    pub fn marked_bytes(self, map: &Words) -> u64 {
        let mut chunks = 0;
        self.visit(map, |_, word| chunks += u64::from(word.count_ones()));
        (chunks * self.chunk_len).min(self.disk_len)
    }

    /// Calls for each word with marks: its first chunk, and which of the up to 64 chunks from there on it is.
    fn visit(self, map: &Words, mut found: impl FnMut(u64, u64)) {
        let fine = usize::try_from(self.fine_words()).unwrap_or(usize::MAX);
        let (fine, coarse) = map.split_at(fine.min(map.len()));
        let unit = u64::from(self.marks.coarse_chunks().cast_unsigned());
        for (index, word) in (0..).zip(fine) {
            let bits = self.bits(word.load(Relaxed));
            if bits != 0 {
                found(index * self.marks.per_word(), bits);
            }
        }
        for (index, word) in (0..).zip(coarse) {
            let mut bits = self.bits(word.load(Relaxed));
            while bits != 0 {
                let number = index * self.marks.per_word() + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                for first in (number * unit..(number + 1) * unit).step_by(64) {
                    found(first, u64::MAX);
                }
            }
        }
    }

    /// One bit per chunk of a word of the map.
    fn bits(self, word: u64) -> u64 {
        match self.marks {
            Marks::Bits => word,
            Marks::Bytes => (0..8).fold(0, |bits, byte| {
                bits | u64::from(word >> (8 * byte) & 0xff != 0) << byte
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_the_disks_and_stay_within_the_budget() {
        let chunk_len = |marks, tib_16ths: u64| {
            let bytes = tib_16ths << 36;
            Geometry::choose(marks, bytes, bytes, 0).map(|g| (g.chunk_len >> 10, g.memory() <= MARKS_BUDGET))
        };
        let of_bits = [1, 8, 9, 16, 256, 1024, 1025].map(|disk| chunk_len(Marks::Bits, disk));
        let fits = |kib| Some((kib, true));
        assert_eq!(
            of_bits,
            [fits(4), fits(4), fits(8), fits(8), fits(128), fits(512), None]
        );
        let of_bytes = [1, 8, 9, 128, 129].map(|disk| chunk_len(Marks::Bytes, disk));
        assert_eq!(of_bytes, [fits(32), fits(32), fits(64), fits(512), None]);
    }

    #[test]
    fn a_disk_that_comes_late_gets_what_is_left_of_the_budget() {
        let disk = 64 << 30;
        let early = Geometry::choose(Marks::Bits, disk, disk, 0).unwrap();
        let late = Geometry::choose(Marks::Bits, disk, disk, MARKS_BUDGET - (1 << 20)).unwrap();
        assert_eq!((early.chunk_len, late.chunk_len), (4 << 10, 16 << 10));
        assert_eq!(Geometry::choose(Marks::Bits, disk, disk, MARKS_BUDGET), None);
    }
}
