//! Which blocks a layer holds, and the digest of each: 32 bytes for a block that is held, and little for
//! one that is not.

use std::collections::BTreeMap;

use domain::digest::{DIGEST_LEN, Digest};

/// As many blocks as a word has bits.
const PAGE_BLOCKS: u64 = u64::BITS as u64;
const WORD_LEN: usize = size_of::<u64>();

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held(BTreeMap<u64, Page>);

/// Blocks that follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Page {
    /// A bit per block, the least significant first.
    held: u64,
    /// Of the blocks that are held, in their order.
    digests: Vec<Digest>,
}

impl Page {
    fn holds(&self, bit: u64) -> bool {
        self.held >> bit & 1 == 1
    }

    /// How many blocks are held before this one.
    fn rank(&self, bit: u64) -> usize {
        (self.held & ((1 << bit) - 1)).count_ones() as usize
    }

    fn truncate(&mut self, bits: u64) {
        self.digests.truncate(self.rank(bits));
        self.held &= (1 << bits) - 1;
    }
}

impl Held {
    pub fn get(&self, block: u64) -> Option<Digest> {
        let (page, bit) = (self.0.get(&(block / PAGE_BLOCKS))?, block % PAGE_BLOCKS);
        page.holds(bit).then(|| page.digests[page.rank(bit)])
    }

    pub fn contains(&self, block: u64) -> bool {
        self.get(block).is_some()
    }

    pub fn insert(&mut self, block: u64, digest: Digest) {
        let (page, bit) = (
            self.0.entry(block / PAGE_BLOCKS).or_default(),
            block % PAGE_BLOCKS,
        );
        let rank = page.rank(bit);
        if page.holds(bit) {
            page.digests[rank] = digest;
        } else {
            page.digests.insert(rank, digest);
            page.held |= 1 << bit;
        }
    }

    /// Forgets what lies beyond the first `blocks`.
    pub fn truncate(&mut self, blocks: u64) {
        self.0.split_off(&blocks.div_ceil(PAGE_BLOCKS));
        if let Some(mut last) = self.0.last_entry()
            && *last.key() == blocks / PAGE_BLOCKS
        {
            last.get_mut().truncate(blocks % PAGE_BLOCKS);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, Digest)> {
        self.0.iter().flat_map(|(at, page)| {
            let blocks = (0..PAGE_BLOCKS).filter(|bit| page.holds(*bit));
            blocks
                .map(move |bit| at * PAGE_BLOCKS + bit)
                .zip(page.digests.iter().copied())
        })
    }

    pub fn len(&self) -> u64 {
        self.0.values().map(|page| page.digests.len() as u64).sum()
    }

    /// Appends a bit per block of a disk of `blocks`, in whole words, and then the digests.
    pub fn encode(&self, blocks: u64, out: &mut Vec<u8>) {
        for at in 0..blocks.div_ceil(PAGE_BLOCKS) {
            let held = self.0.get(&at).map_or(0, |page| page.held);
            out.extend_from_slice(&held.to_le_bytes());
        }
        for page in self.0.values() {
            for digest in &page.digests {
                out.extend_from_slice(&digest.0);
            }
        }
    }

    /// `None` if the bytes are not those of a disk of `blocks`.
    pub fn decode(bytes: &[u8], blocks: u64) -> Option<Self> {
        let words = usize::try_from(blocks.div_ceil(PAGE_BLOCKS)).ok()?;
        let (words, digests) = bytes.split_at_checked(words.checked_mul(WORD_LEN)?)?;
        let (words, _) = words.as_chunks::<WORD_LEN>();
        let (mut digests, []) = digests.as_chunks::<DIGEST_LEN>() else {
            return None;
        };
        let mut pages = BTreeMap::new();
        for (at, word) in (0_u64..).zip(words) {
            let held = u64::from_le_bytes(*word);
            if held != 0 {
                let (own, rest) = digests.split_at_checked(held.count_ones() as usize)?;
                let own = own.iter().copied().map(Digest).collect();
                pages.insert(at, Page { held, digests: own });
                digests = rest;
            }
        }
        let held = Self(pages);
        let inside = held
            .0
            .last_key_value()
            .is_none_or(|(at, page)| at * PAGE_BLOCKS + u64::from(page.held.ilog2()) < blocks);
        (digests.is_empty() && inside).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_that_reads_back(
            puts in prop::collection::vec((0..300_u64, any::<u8>()), 0..400),
            end in 0..301_u64,
        ) {
            let (mut held, mut model) = (Held::default(), BTreeMap::new());
            for (block, byte) in puts {
                held.insert(block, Digest([byte; DIGEST_LEN]));
                model.insert(block, Digest([byte; DIGEST_LEN]));
            }
            held.truncate(end);
            model.retain(|block, _| *block < end);
            let mut bytes = Vec::new();
            held.encode(end, &mut bytes);
            let read = Held::decode(&bytes, end).unwrap();
            prop_assert_eq!(read.iter().collect::<BTreeMap<_, _>>(), model.clone());
            prop_assert_eq!(read.len(), model.len() as u64);
            for block in 0..300 {
                prop_assert_eq!(held.get(block), model.get(&block).copied());
            }
            if let Some(last) = model.keys().last() {
                prop_assert_eq!(Held::decode(&bytes, *last), None);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), blocks in any::<u64>()) {
            let _ = Held::decode(&bytes, blocks);
        }
    }
}
