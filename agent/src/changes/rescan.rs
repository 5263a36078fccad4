//! The change source that needs no help from the kernel: every block is looked at, in every round.

use std::ops::Range;

use domain::{digest::Digest, disk::block_count};
use protocol::{frame::DIGESTS_PER_FRAME_MAX, session::DiskStart};

use super::{Against, ChangeSource, Round};

/// Compares the whole disk with what the runner holds.
#[derive(Debug)]
pub struct Rescan {
    blocks: u64,
    /// Nothing was sent in this session, and the runner said that it holds nothing.
    runner_is_empty: bool,
}

impl Rescan {
    /// For a disk of `bytes` bytes that the runner wants from `start` on. What changed since a checkpoint
    /// is not known here, so a delta is a rescan.
    pub fn new(bytes: u64, start: DiskStart) -> Self {
        Self {
            blocks: block_count(bytes),
            runner_is_empty: start == DiskStart::Full,
        }
    }
}

impl ChangeSource for Rescan {
    fn name(&self) -> &'static str {
        "rescan"
    }

    fn begin_round(&mut self) -> Round {
        // Only the first round may rely on it, even if that is cut short: it has sent something.
        let against = if std::mem::take(&mut self.runner_is_empty) {
            Against::Zeros
        } else {
            Against::RunnersDigests
        };
        Round {
            blocks: 0..self.blocks,
            against,
        }
    }

    fn end_round(&mut self) {}

    fn committed(&mut self) {}
}

/// Cuts a round into pieces whose digests fit into one frame.
pub fn segments(blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = blocks.end;
    std::iter::successors((!blocks.is_empty()).then_some(blocks.start), move |first| {
        Some(first + DIGESTS_PER_FRAME_MAX).filter(|next| *next < end)
    })
    .map(move |first| first..end.min(first + DIGESTS_PER_FRAME_MAX))
}

/// What the runner holds in a segment.
#[derive(Debug)]
pub enum Expected {
    Zeros,
    /// One per block of the segment.
    Digests(Vec<Digest>),
}

#[cfg(test)]
mod tests {
    use domain::disk::BLOCK_LEN;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_runner_is_believed_once() {
        let bytes = 3 * BLOCK_LEN as u64 + 1;
        let mut source = Rescan::new(bytes, DiskStart::Full);
        assert_eq!(
            source.begin_round(),
            Round {
                blocks: 0..4,
                against: Against::Zeros
            }
        );
        assert_eq!(source.begin_round().against, Against::RunnersDigests);
        let since = domain::checkpoint::CheckpointNumber(3);
        for start in [DiskStart::Rescan, DiskStart::Delta { since }] {
            assert_eq!(
                Rescan::new(bytes, start).begin_round().against,
                Against::RunnersDigests
            );
        }
    }

    proptest! {
        #[test]
        fn segments_cover_the_round_in_order(first in 0..100_000_u64, len in 0..100_000_u64) {
            let mut at = first;
            for segment in segments(first..first + len) {
                prop_assert_eq!(segment.start, at);
                prop_assert!(!segment.is_empty());
                prop_assert!(segment.end - segment.start <= DIGESTS_PER_FRAME_MAX);
                at = segment.end;
            }
            prop_assert_eq!(at, first + len);
        }
    }
}
