//! Blocks that were read and stay in memory, up to a number of bytes. The one that was used longest ago leaves first.

use std::{collections::HashMap, sync::Arc};

#[derive(Debug)]
pub struct Kept {
    most: usize,
    bytes: usize,
    /// Counts uses: the higher, the later.
    clock: u64,
    blocks: HashMap<u64, Block>,
}

#[derive(Debug)]
struct Block {
    used: u64,
    data: Arc<Vec<u8>>,
}

impl Kept {
    pub fn at_most(bytes: usize) -> Self {
        Self {
            most: bytes,
            bytes: 0,
            clock: 0,
            blocks: HashMap::new(),
        }
    }

    pub fn get(&mut self, block: u64) -> Option<Arc<Vec<u8>>> {
        self.clock += 1;
        let found = self.blocks.get_mut(&block)?;
        found.used = self.clock;
        Some(Arc::clone(&found.data))
    }

    pub fn put(&mut self, block: u64, data: Arc<Vec<u8>>) {
        self.clock += 1;
        self.bytes += data.len();
        let used = self.clock;
        if let Some(before) = self.blocks.insert(block, Block { used, data }) {
            self.bytes -= before.data.len();
        }
        while self.bytes > self.most {
            // A look at all of them is little beside the fetch of 512 KiB that comes before it.
            let oldest = self.blocks.iter().min_by_key(|(_, block)| block.used);
            let Some(oldest) = oldest.map(|(block, _)| *block) else {
                return;
            };
            if let Some(gone) = self.blocks.remove(&oldest) {
                self.bytes -= gone.data.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_leaves_and_the_bound_holds() {
        let mut kept = Kept::at_most(30);
        for block in 0..3 {
            kept.put(block, Arc::new(vec![0; 10]));
        }
        assert!(kept.get(0).is_some());
        kept.put(3, Arc::new(vec![0; 10]));
        assert!(kept.get(1).is_none());
        assert!(kept.get(0).is_some() && kept.get(2).is_some() && kept.get(3).is_some());
        kept.put(3, Arc::new(vec![0; 10]));
        assert_eq!(kept.bytes, 30);
        kept.put(4, Arc::new(vec![0; 31]));
        assert_eq!((kept.bytes, kept.blocks.len()), (0, 0));
    }
}
