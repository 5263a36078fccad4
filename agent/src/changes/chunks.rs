//! A set of chunks of one disk: one bit each.
//!
//! Whatever touches a chunk takes it in whole, so that a set may hold more than was written, never less.

use std::ops::Range;

const BITS: u64 = 64;

/// The smallest and the largest length of a chunk: the page of most databases, and a block of a snapshot.
pub const CHUNK_LEN_MIN: u64 = 4 << 10;
pub const CHUNK_LEN_MAX: u64 = 512 << 10;

#[derive(Clone, PartialEq, Eq)]
pub struct Chunks {
    disk_len: u64,
    /// A power of two.
    chunk_len: u64,
    /// Zeroed by the allocator, so that untouched pages cost nothing.
    words: Vec<u64>,
}

impl Chunks {
    /// The empty set of a disk of `disk_len` bytes.
    pub fn none(disk_len: u64, chunk_len: u64) -> Self {
        assert!(
            chunk_len.is_power_of_two() && (CHUNK_LEN_MIN..=CHUNK_LEN_MAX).contains(&chunk_len),
            "{chunk_len} is no length of a chunk"
        );
        let words = disk_len.div_ceil(chunk_len).div_ceil(BITS);
        Self {
            disk_len,
            chunk_len,
            words: vec![0; usize::try_from(words).expect("a disk's bitmap fits into memory")],
        }
    }

    /// Every chunk of the disk.
    pub fn all(disk_len: u64, chunk_len: u64) -> Self {
        let mut chunks = Self::none(disk_len, chunk_len);
        chunks.insert(0..disk_len);
        chunks
    }

    pub fn disk_len(&self) -> u64 {
        self.disk_len
    }

    pub fn chunk_len(&self) -> u64 {
        self.chunk_len
    }

    /// Takes in every chunk that the bytes touch. What lies beyond the disk's end is left out.
    pub fn insert(&mut self, bytes: Range<u64>) {
        let end = bytes.end.min(self.disk_len);
        if bytes.start >= end {
            return;
        }
        let (first, last) = (bytes.start / self.chunk_len, (end - 1) / self.chunk_len);
        for index in first / BITS..=last / BITS {
            let low = first.saturating_sub(index * BITS).min(BITS - 1);
            let high = (last - index * BITS).min(BITS - 1);
            self.insert_word(index, u64::MAX << low & u64::MAX >> (BITS - 1 - high));
        }
    }

    /// Takes in up to 64 chunks: bit `i` of `word` is chunk `64 × index + i`.
    pub(super) fn insert_word(&mut self, index: u64, word: u64) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(held) = self.words.get_mut(index) {
            *held |= word;
        }
    }

    pub fn remove_all(&mut self) {
        // A new allocation is cheaper than writing zeros, and gives the pages back.
        self.words = vec![0; self.words.len()];
    }

    /// Takes in all of `other`, a set of the same disk whose chunks may be longer or shorter.
    pub fn merge(&mut self, other: &Self) {
        if self.chunk_len != other.chunk_len || self.disk_len != other.disk_len {
            other.ranges().for_each(|range| self.insert(range));
            return;
        }
        for (held, more) in self.words.iter_mut().zip(&other.words) {
            // Reading an untouched page does not make it cost anything; writing would.
            if *more != 0 {
                *held |= more;
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many bytes of the disk the set covers.
    pub fn bytes(&self) -> u64 {
        let chunks: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        let beyond_the_end = self.disk_len.next_multiple_of(self.chunk_len) - self.disk_len;
        let holds_the_last = self.disk_len > 0 && self.intersects(self.disk_len - 1..self.disk_len);
        chunks * self.chunk_len - if holds_the_last { beyond_the_end } else { 0 }
    }

    /// The longest runs, in bytes and in order; the last one ends where the disk ends.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.next_chunk(from, 0)?;
            let end = self.next_chunk(first, u64::MAX).unwrap_or(u64::MAX);
            from = end;
            Some(first * self.chunk_len..end.saturating_mul(self.chunk_len).min(self.disk_len))
        })
    }

    /// The first chunk from `from` on that is in the set, or with `flip` of ones, that is not.
    fn next_chunk(&self, from: u64, flip: u64) -> Option<u64> {
        let mut index = usize::try_from(from / BITS).ok()?;
        let mut word = (self.words.get(index)? ^ flip) & u64::MAX << (from % BITS);
        while word == 0 {
            index += 1;
            word = self.words.get(index)? ^ flip;
        }
        Some(index as u64 * BITS + u64::from(word.trailing_zeros()))
    }

    /// Whether the set holds a chunk that the bytes touch.
    pub fn intersects(&self, bytes: Range<u64>) -> bool {
        let end = bytes.end.min(self.disk_len);
        bytes.start < end
            && self
                .next_chunk(bytes.start / self.chunk_len, 0)
                .is_some_and(|chunk| chunk * self.chunk_len < end)
    }

    /// Whether anything of the set lies outside these byte ranges.
    pub fn outside(&self, areas: &[Range<u64>]) -> bool {
        self.ranges().any(|range| {
            let mut at = range.start;
            while at < range.end {
                let Some(area) = areas.iter().find(|area| area.contains(&at)) else {
                    return true;
                };
                at = area.end;
            }
            false
        })
    }
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ranges().take(16)).finish()?;
        write!(f, " ({} bytes of {})", self.bytes(), self.disk_len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const DISK_MAX: u64 = 4 << 20;

    /// A disk's length, a chunk's, and ranges that may lie anywhere.
    fn writes() -> impl Strategy<Value = (u64, u64, Vec<Range<u64>>)> {
        let range = (0..DISK_MAX, 0..DISK_MAX / 8).prop_map(|(at, len)| at..at + len);
        (
            0..DISK_MAX,
            (12..=19_u32).prop_map(|power| 1 << power),
            prop::collection::vec(range, 0..12),
        )
    }

    fn set(disk_len: u64, chunk_len: u64, writes: &[Range<u64>]) -> Chunks {
        let mut chunks = Chunks::none(disk_len, chunk_len);
        writes.iter().cloned().for_each(|write| chunks.insert(write));
        chunks
    }

    /// The same, one number per chunk.
    fn model(disk_len: u64, chunk_len: u64, writes: &[Range<u64>]) -> BTreeSet<u64> {
        let clipped = writes.iter().map(|write| write.start..write.end.min(disk_len));
        clipped
            .filter(|write| !write.is_empty())
            .flat_map(|write| write.start / chunk_len..=(write.end - 1) / chunk_len)
            .collect()
    }

    proptest! {
        #[test]
        fn holds_what_was_written_in_longest_runs((disk_len, chunk_len, writes) in writes()) {
            let chunks = set(disk_len, chunk_len, &writes);
            let ranges: Vec<_> = chunks.ranges().collect();
            let mut listed = BTreeSet::new();
            for (index, range) in ranges.iter().enumerate() {
                prop_assert!(!range.is_empty() && range.end <= disk_len);
                prop_assert!(index == 0 || ranges[index - 1].end < range.start);
                listed.extend(range.start / chunk_len..range.end.div_ceil(chunk_len));
            }
            prop_assert_eq!(listed, model(disk_len, chunk_len, &writes));
            prop_assert_eq!(chunks.bytes(), ranges.iter().map(|range| range.end - range.start).sum::<u64>());
            prop_assert_eq!(chunks.is_empty(), ranges.is_empty());
            prop_assert!(!chunks.outside(&ranges));
            prop_assert_eq!(chunks.outside(ranges.get(1..).unwrap_or(&[])), !ranges.is_empty());
        }

        #[test]
        fn meets_a_range_if_a_chunk_of_it_was_written(
            (disk_len, chunk_len, writes) in writes(),
            at in 0..DISK_MAX,
            len in 0..DISK_MAX / 4,
        ) {
            let asked = model(disk_len, chunk_len, std::slice::from_ref(&(at..at + len)));
            let held = model(disk_len, chunk_len, &writes);
            prop_assert_eq!(
                set(disk_len, chunk_len, &writes).intersects(at..at + len),
                !asked.is_disjoint(&held)
            );
        }

        #[test]
        fn merges_sets_of_any_two_lengths(
            (disk_len, chunk_len, writes) in writes(),
            other_len in (12..=19_u32).prop_map(|power| 1_u64 << power),
            others in prop::collection::vec((0..DISK_MAX).prop_map(|at| at..at + 5000), 0..8),
        ) {
            let other = set(disk_len, other_len, &others);
            let mut merged = set(disk_len, chunk_len, &writes);
            merged.merge(&other);
            let all: Vec<_> = writes.into_iter().chain(other.ranges()).collect();
            prop_assert_eq!(&merged, &set(disk_len, chunk_len, &all));
            merged.remove_all();
            prop_assert!(merged.is_empty());
        }
    }

    #[test]
    fn neighbouring_areas_cover_a_range_together() {
        let mut chunks = Chunks::none(1 << 20, 4096);
        chunks.insert(8192..32768);
        assert!(!chunks.outside(&[16384..65536, 0..16384]));
        assert!(chunks.outside(&[16384..65536, 0..16383]));
        assert!(Chunks::all(1 << 20, 4096).outside(&[0..(1 << 20) - 1, 8192..16384]));
    }
}
