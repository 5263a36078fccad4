//! Volumes that are made of stretches of disks, as device-mapper's `linear` and `striped` make block devices.
//!
//! ```text
//! worker: what lies on the disks ─▶ a map ─▶ serving process: checks it, and shows a file for each entry
//! ```
//!
//! The map is made of what a stranger wrote, and comes from a process that read it.

use std::{collections::BTreeSet, iter, ops::Range};

use serde::{Deserialize, Serialize};

/// What is cut up smaller makes too many pieces of a request. device-mapper has the same least.
const CHUNK_MIN: u64 = 512;

/// A volume: its segments, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mapped {
    pub segments: Vec<Segment>,
}

/// Chunks that go in turn to each of the stripes, of which there is one where a segment is linear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub bytes: u64,
    /// In bytes.
    pub chunk: u64,
    pub stripes: Vec<Stretch>,
}

/// Where a stripe begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// By its place among the disks.
    pub disk: usize,
    /// In bytes.
    pub start: u64,
}

/// A part of a request that is all on one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub disk: usize,
    pub start: u64,
    pub len: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("volume {0} has a segment without a whole number of chunks for each stripe")]
    Uneven(usize),
    #[error("volume {0} is not within the disks")]
    OutOfDisk(usize),
    #[error("volume {0} is longer than any file")]
    TooLong(usize),
    #[error("volume {0} has a part that is another's, too")]
    Shared(usize),
}

/// Whether volumes can be read and written, on disks of so many bytes, and none of them changes another.
pub fn check(map: &[Mapped], disks: &[u64]) -> Result<(), MapError> {
    for (at, mapped) in map.iter().enumerate() {
        let mut bytes = 0_u64;
        for segment in &mapped.segments {
            let stripe = segment.stripe_bytes().ok_or(MapError::Uneven(at))?;
            let is_within = |stretch: &Stretch| {
                let end = stretch.start.checked_add(stripe);
                disks
                    .get(stretch.disk)
                    .is_some_and(|disk| end.is_some_and(|end| end <= *disk))
            };
            if !segment.stripes.iter().all(is_within) {
                return Err(MapError::OutOfDisk(at));
            }
            let longer = bytes.checked_add(segment.bytes);
            bytes = longer
                .filter(|bytes| i64::try_from(*bytes).is_ok())
                .ok_or(MapError::TooLong(at))?;
        }
    }
    shared(map)
        .first()
        .map_or(Ok(()), |at| Err(MapError::Shared(*at)))
}

/// The volumes that share bytes with another, or have some twice. Their segments must be even.
pub fn shared(map: &[Mapped]) -> BTreeSet<usize> {
    let mut stretches = Vec::new();
    for (at, mapped) in map.iter().enumerate() {
        for segment in &mapped.segments {
            let len = segment.stripe_bytes().unwrap_or_default();
            let all = segment.stripes.iter();
            stretches.extend(
                all.map(|stretch| (stretch.disk, stretch.start, stretch.start.saturating_add(len), at)),
            );
        }
    }
    stretches.sort_unstable();
    let mut shared = BTreeSet::new();
    // Of those that begin before: the one that ends last.
    let mut last = None;
    for (disk, start, end, at) in stretches {
        match last {
            Some((same, last_end, other)) if same == disk && start < last_end => {
                shared.extend([at, other]);
                if end > last_end {
                    last = Some((disk, end, at));
                }
            }
            _ => last = Some((disk, end, at)),
        }
    }
    shared
}

impl Mapped {
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Where the `len` bytes from `offset` on are, in their order. What is beyond the end is nowhere.
    pub fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = Piece> {
        let wanted = offset..offset.saturating_add(len);
        let mut end = 0;
        self.segments.iter().flat_map(move |segment| {
            let start = end;
            end += segment.bytes;
            let within = |at: u64| at.clamp(start, end) - start;
            segment.pieces(within(wanted.start)..within(wanted.end))
        })
    }
}

impl Segment {
    pub fn is_even(&self) -> bool {
        self.stripe_bytes().is_some()
    }

    /// `None` where not every stripe has the same number of whole chunks, and one at least.
    fn stripe_bytes(&self) -> Option<u64> {
        let stripes = self.stripes.len() as u64;
        let row = self.chunk.checked_mul(stripes)?;
        let is_even = self.chunk >= CHUNK_MIN && row > 0 && self.bytes > 0 && self.bytes.is_multiple_of(row);
        is_even.then(|| self.bytes / stripes)
    }

    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> {
        let mut at = range.start;
        iter::from_fn(move || {
            let (number, within) = (at / self.chunk, at % self.chunk);
            let stripes = self.stripes.len() as u64;
            let stripe = usize::try_from(number % stripes).ok()?;
            let len = (self.chunk - within).min(range.end.checked_sub(at)?);
            at += len;
            (len > 0).then(|| Piece {
                disk: self.stripes[stripe].disk,
                start: self.stripes[stripe].start + number / stripes * self.chunk + within,
                len,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DISKS: [u64; 2] = [1 << 20, 1 << 20];

    fn segment(bytes: u64, chunk: u64, stripes: &[(usize, u64)]) -> Segment {
        let stripes = stripes.iter().map(|(disk, start)| Stretch {
            disk: *disk,
            start: *start,
        });
        Segment {
            bytes,
            chunk,
            stripes: stripes.collect(),
        }
    }

    fn checked(segments: &[&[Segment]]) -> Result<(), MapError> {
        let map = segments.iter().map(|segments| Mapped {
            segments: segments.to_vec(),
        });
        check(&map.collect::<Vec<_>>(), &DISKS)
    }

    #[test]
    fn what_no_disk_has_is_refused() {
        let fits = segment(1 << 20, 4096, &[(0, 0), (1, 1 << 19)]);
        assert_eq!(checked(&[&[fits]]), Ok(()));
        for (bytes, stripes) in [
            (1 << 20, &[(0, 0), (1, (1 << 19) + 1)][..]),
            (4096, &[(2, 0)]),
            (4096, &[(0, u64::MAX)]),
            (1 << 63, &[(0, 0)]),
        ] {
            let refused = checked(&[&[segment(bytes, 4096, stripes)]]);
            assert_eq!(refused, Err(MapError::OutOfDisk(0)), "{bytes} {stripes:?}");
        }
    }

    #[test]
    fn what_makes_no_chunks_is_refused() {
        for (bytes, chunk, stripes) in [
            (4096, 0, &[(0, 0)][..]),
            (4096, 1, &[(0, 0)]),
            (0, 512, &[(0, 0)]),
            (4096, 4096, &[]),
            (4096 + 512, 4096, &[(0, 0)]),
            (3 * 4096, 4096, &[(0, 0), (1, 0)]),
            (4096, u64::MAX, &[(0, 0), (1, 0)]),
        ] {
            let refused = checked(&[&[segment(bytes, chunk, stripes)]]);
            assert_eq!(refused, Err(MapError::Uneven(0)), "{bytes} {chunk} {stripes:?}");
        }
    }

    #[test]
    fn volumes_share_nothing_with_others_nor_with_themselves() {
        let linear = |start, bytes| segment(bytes, bytes, &[(0, start)]);
        let apart = [linear(0, 4096), linear(8192, 4096)];
        assert_eq!(checked(&[&apart, &[linear(4096, 4096)]]), Ok(()));
        assert_eq!(checked(&[&[linear(0, 512)], &apart]), Err(MapError::Shared(0)));
        assert_eq!(
            checked(&[&[linear(0, 512), linear(0, 512)]]),
            Err(MapError::Shared(0))
        );
        let map = [linear(0, 1 << 20), linear(512, 512), linear(2048, 512)];
        let map = map.map(|segment| Mapped {
            segments: vec![segment],
        });
        assert_eq!(shared(&map), BTreeSet::from([0, 1, 2]));
    }

    /// Segments on two disks, none of which overlaps another: a chunk, rows of chunks, and the number of stripes.
    fn volumes() -> impl Strategy<Value = Mapped> {
        let segment = (1..4_u64, 1..4_u64, 1..3_usize);
        proptest::collection::vec(segment, 1..6).prop_map(|shapes| {
            let mut next = [0; DISKS.len()];
            let segments = shapes.into_iter().map(|(chunk, rows, stripes)| {
                let (chunk, len) = (chunk * 512, chunk * 512 * rows);
                // The second disk first, so that no order is given.
                let stripes = (0..stripes).rev().map(|disk| {
                    let start = next[disk];
                    next[disk] += len;
                    Stretch { disk, start }
                });
                let stripes: Vec<Stretch> = stripes.collect();
                Segment {
                    bytes: len * stripes.len() as u64,
                    chunk,
                    stripes,
                }
            });
            Mapped {
                segments: segments.collect(),
            }
        })
    }

    /// Byte by byte, where each is.
    fn model(mapped: &Mapped) -> Vec<(usize, u64)> {
        let mut bytes = Vec::new();
        for segment in &mapped.segments {
            let mut next: Vec<Stretch> = segment.stripes.clone();
            while next
                .iter()
                .zip(&segment.stripes)
                .map(|(now, begin)| now.start - begin.start)
                .sum::<u64>()
                < segment.bytes
            {
                for stripe in &mut next {
                    bytes.extend((0..segment.chunk).map(|at| (stripe.disk, stripe.start + at)));
                    stripe.start += segment.chunk;
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn every_byte_is_where_the_model_has_it(mapped in volumes(), from in 0..40_000_u64, len in 0..20_000_u64) {
            prop_assert_eq!(check(std::slice::from_ref(&mapped), &DISKS), Ok(()));
            let bytes = mapped.pieces(from, len).flat_map(|piece| {
                (piece.start..piece.start + piece.len).map(move |at| (piece.disk, at))
            });
            let model = model(&mapped);
            prop_assert_eq!(model.len() as u64, mapped.bytes());
            let from = usize::try_from(from).unwrap().min(model.len());
            let to = (from + usize::try_from(len).unwrap()).min(model.len());
            prop_assert_eq!(bytes.collect::<Vec<_>>(), &model[from..to]);
        }

        #[test]
        fn any_map_is_survived(
            bytes in any::<u64>(), chunk in any::<u64>(), start in any::<u64>(), disk in 0..4_usize, twice in any::<bool>(),
        ) {
            let stretch = Stretch { disk, start };
            let segment = Segment { bytes, chunk, stripes: vec![stretch; 1 + usize::from(twice)] };
            drop(check(&[Mapped { segments: vec![segment.clone(), segment] }], &DISKS));
        }
    }
}
