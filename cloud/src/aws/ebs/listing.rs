//! Where the blocks of completed snapshots are: the tokens by which EBS lets them be read.
//!
//! A snapshot of 64 TiB has 128 million tokens of some hundred bytes. A few ranges are kept, those that were used last.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::calls::{Calls, Listed};
use crate::{aws::failure::Failure, snapshots::SnapshotId};

/// Of up to 1000 tokens each: some 10 MiB.
const RANGES_MAX: usize = 64;
/// Tokens are valid for seven days.
const VALID: Duration = Duration::from_hours(6 * 24);

#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The one that was used last is in front.
    ranges: Mutex<VecDeque<Arc<Range>>>,
}

#[derive(Debug)]
struct Range {
    id: SnapshotId,
    listed: Listed,
    since: Instant,
}

impl Listing {
    /// `None` for a block of zeros.
    pub async fn token(&self, calls: &Calls, id: &SnapshotId, block: u64) -> Result<Option<String>, Failure> {
        if let Some(range) = self.known(id, block) {
            return Ok(range.token(block));
        }
        let listed = calls.list(id, block).await?;
        let range = Arc::new(Range {
            id: id.clone(),
            listed,
            since: Instant::now(),
        });
        let token = range.token(block);
        let mut ranges = self.ranges.lock().expect("no panic while it was held");
        ranges.push_front(range);
        ranges.truncate(RANGES_MAX);
        Ok(token)
    }

    fn known(&self, id: &SnapshotId, block: u64) -> Option<Arc<Range>> {
        let mut ranges = self.ranges.lock().expect("no panic while it was held");
        ranges.retain(|range| range.since.elapsed() < VALID);
        let at = ranges
            .iter()
            .position(|range| range.id == *id && range.covers(block))?;
        let found = ranges.remove(at)?;
        ranges.push_front(Arc::clone(&found));
        Some(found)
    }

    /// What is known of a snapshot that is gone.
    pub fn forget(&self, id: &SnapshotId) {
        let mut ranges = self.ranges.lock().expect("no panic while it was held");
        ranges.retain(|range| range.id != *id);
    }
}

impl Range {
    fn covers(&self, block: u64) -> bool {
        block >= self.listed.first && self.listed.end.is_none_or(|end| block < end)
    }

    fn token(&self, block: u64) -> Option<String> {
        let tokens = &self.listed.tokens;
        let at = tokens.binary_search_by_key(&block, |(block, _)| *block).ok()?;
        Some(tokens[at].1.clone())
    }
}
