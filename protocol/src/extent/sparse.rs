//! Data without their zeros.
//!
//! ```text
//! size  field
//!    …  map    one bit per page of 4 KiB, the first one lowest: whether it follows; up to a whole byte
//!    …  pages  those that do not hold zeros alone; the last one may be short
//! ```

const PAGE_LEN: usize = 4 << 10;
const MAP_BITS: usize = u8::BITS as usize;

static ZEROS: [u8; PAGE_LEN] = [0; PAGE_LEN];

/// Which pages of some data there is something in.
pub(super) struct Map {
    bits: Vec<u8>,
    pages_len: usize,
}

impl Map {
    pub fn of(data: &[u8]) -> Self {
        let mut bits = vec![0; map_len(data.len())];
        let mut pages_len = 0;
        for (index, page) in data.chunks(PAGE_LEN).enumerate() {
            if page != &ZEROS[..page.len()] {
                bits[index / MAP_BITS] |= 1 << (index % MAP_BITS);
                pages_len += page.len();
            }
        }
        Self { bits, pages_len }
    }

    pub fn packed_len(&self) -> usize {
        self.bits.len() + self.pages_len
    }

    /// Packs the data that the map was made of, with `room` for more.
    pub fn pack(&self, data: &[u8], room: usize) -> Vec<u8> {
        let mut packed = Vec::with_capacity(self.packed_len() + room);
        packed.extend_from_slice(&self.bits);
        for (index, page) in data.chunks(PAGE_LEN).enumerate() {
            if holds(&self.bits, index) {
                packed.extend_from_slice(page);
            }
        }
        packed
    }
}

/// The `len` bytes that were packed; `None` if they were not, or not so many.
pub(super) fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let (bits, mut pages) = packed.split_at_checked(map_len(len))?;
    let mut data = vec![0; len];
    for (index, page) in data.chunks_mut(PAGE_LEN).enumerate() {
        if holds(bits, index) {
            let taken;
            (taken, pages) = pages.split_at_checked(page.len())?;
            page.copy_from_slice(taken);
        }
    }
    let mut beyond_the_end = len.div_ceil(PAGE_LEN)..bits.len() * MAP_BITS;
    let is_exact = pages.is_empty() && !beyond_the_end.any(|page| holds(bits, page));
    is_exact.then_some(data)
}

fn map_len(len: usize) -> usize {
    len.div_ceil(PAGE_LEN).div_ceil(MAP_BITS)
}

fn holds(bits: &[u8], page: usize) -> bool {
    bits[page / MAP_BITS] >> (page % MAP_BITS) & 1 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked_and_nothing_else(
            pages in prop::collection::vec(0..2_u8, 0..40),
            tail in 1..PAGE_LEN,
            last in 0..2_u8,
        ) {
            let mut data: Vec<u8> = pages.iter().flat_map(|byte| vec![*byte; PAGE_LEN]).collect();
            data.extend(vec![last; tail]);
            let map = Map::of(&data);
            let packed = map.pack(&data, 0);
            prop_assert_eq!(packed.len(), map.packed_len());
            prop_assert_eq!(unpack(&packed, data.len()), Some(data.clone()));
            prop_assert_eq!(unpack(&[&packed[..], &[0]].concat(), data.len()), None);
            prop_assert_eq!(unpack(&packed[..packed.len() - 1], data.len()), None);
        }
    }

    #[test]
    fn pages_beyond_the_end_are_refused() {
        assert_eq!(unpack(&[0b01, 7], 1), Some(vec![7]));
        assert_eq!(unpack(&[0b10, 7], 1), None);
        assert_eq!(unpack(&[0b11, 7], 1), None);
    }
}
