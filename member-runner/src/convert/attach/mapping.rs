//! Volumes that are made of stretches of disks, as md's arrays and device-mapper's `linear` and `striped` are.
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

/// A volume that was found, and how it is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// As the source calls it, the name that people use most first: `/dev/md0`, `/dev/mapper/vg-root`.
    pub names: Vec<String>,
    pub mapped: Mapped,
}

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
    pub stripes: Vec<Stripe>,
}

/// Where a stripe is: in one place, or in several that are written alike. The first is the one that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stripe(pub Vec<Stretch>);

/// Where a copy of a stripe begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// By its place among the disks, and the volumes of earlier maps behind them.
    pub disk: usize,
    /// In bytes.
    pub start: u64,
}

/// A part of a request that is all in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    stripe: &'a Stripe,
    /// In the stripe.
    offset: u64,
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

/// Whether volumes can be read and written, on disks of so many bytes, and none of them changes another. The last of the
/// disks are volumes themselves, those of `earlier` maps.
pub fn check(map: &[Mapped], earlier: &[Mapped], disks: &[u64]) -> Result<(), MapError> {
    for (at, mapped) in map.iter().enumerate() {
        let mut bytes = 0_u64;
        for segment in &mapped.segments {
            let len = segment.stripe_bytes().ok_or(MapError::Uneven(at))?;
            let is_within = |stretch: &Stretch| {
                let end = stretch.start.checked_add(len);
                disks
                    .get(stretch.disk)
                    .is_some_and(|disk| end.is_some_and(|end| end <= *disk))
            };
            let is_there = |Stripe(copies): &Stripe| !copies.is_empty() && copies.iter().all(is_within);
            if !segment.stripes.iter().all(is_there) {
                return Err(MapError::OutOfDisk(at));
            }
            let longer = bytes.checked_add(segment.bytes);
            bytes = longer
                .filter(|bytes| i64::try_from(*bytes).is_ok())
                .ok_or(MapError::TooLong(at))?;
        }
    }
    let shared = shared(earlier.iter().chain(map)).into_iter();
    let mut new = shared.filter_map(|at| at.checked_sub(earlier.len()));
    new.next().map_or(Ok(()), |at| Err(MapError::Shared(at)))
}

/// The volumes that share bytes with another, or have some twice. Their segments must be even.
pub fn shared<'a>(map: impl IntoIterator<Item = &'a Mapped>) -> BTreeSet<usize> {
    let mut stretches = Vec::new();
    for (at, mapped) in map.into_iter().enumerate() {
        for segment in &mapped.segments {
            let len = segment.stripe_bytes().unwrap_or_default();
            stretches.extend(
                segment
                    .stretches()
                    .map(|stretch| (stretch.disk, stretch.start, stretch.start.saturating_add(len), at)),
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
    pub fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = Piece<'_>> {
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

    /// Every copy of every stripe.
    pub fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.stripes.iter().flat_map(|Stripe(copies)| copies)
    }

    /// `None` where not every stripe has the same number of whole chunks, and one at least.
    fn stripe_bytes(&self) -> Option<u64> {
        let stripes = self.stripes.len() as u64;
        let row = self.chunk.checked_mul(stripes)?;
        let is_even = self.chunk >= CHUNK_MIN && row > 0 && self.bytes > 0 && self.bytes.is_multiple_of(row);
        is_even.then(|| self.bytes / stripes)
    }

    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece<'_>> {
        let mut at = range.start;
        iter::from_fn(move || {
            let (number, within) = (at / self.chunk, at % self.chunk);
            let stripes = self.stripes.len() as u64;
            let stripe = usize::try_from(number % stripes).ok()?;
            let len = (self.chunk - within).min(range.end.checked_sub(at)?);
            at += len;
            (len > 0).then(|| Piece {
                stripe: &self.stripes[stripe],
                offset: number / stripes * self.chunk + within,
                len,
            })
        })
    }
}

impl Piece<'_> {
    /// Where it begins, in each copy of its stripe.
    pub fn copies(&self) -> impl Iterator<Item = Stretch> {
        self.stripe.0.iter().map(|stretch| Stretch {
            disk: stretch.disk,
            start: stretch.start + self.offset,
        })
    }
}

impl From<Stretch> for Stripe {
    fn from(only: Stretch) -> Self {
        Self(vec![only])
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
            stripes: stripes.map(Stripe::from).collect(),
        }
    }

    /// The same on both disks.
    fn mirror(start: u64, bytes: u64) -> Mapped {
        let copies = [0, 1].map(|disk| Stretch { disk, start });
        Mapped {
            segments: vec![Segment {
                bytes,
                chunk: bytes,
                stripes: vec![Stripe(copies.to_vec())],
            }],
        }
    }

    fn checked(segments: &[&[Segment]]) -> Result<(), MapError> {
        let map = segments.iter().map(|segments| Mapped {
            segments: segments.to_vec(),
        });
        check(&map.collect::<Vec<_>>(), &[], &DISKS)
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

    #[test]
    fn copies_share_nothing_with_volumes_nor_with_each_other() {
        let on = |disk, start, bytes| Mapped {
            segments: vec![segment(bytes, bytes, &[(disk, start)])],
        };
        assert_eq!(check(&[mirror(0, 4096), on(1, 4096, 512)], &[], &DISKS), Ok(()));
        assert_eq!(
            check(&[mirror(0, 4096), on(1, 4095, 512)], &[], &DISKS),
            Err(MapError::Shared(0))
        );
        let mut twice = mirror(0, 4096);
        twice.segments[0].stripes[0].0[1] = Stretch { disk: 0, start: 512 };
        assert_eq!(check(&[twice], &[], &DISKS), Err(MapError::Shared(0)));
        let mut nowhere = mirror(0, 4096);
        nowhere.segments[0].stripes[0].0.clear();
        assert_eq!(check(&[nowhere], &[], &DISKS), Err(MapError::OutOfDisk(0)));
    }

    #[test]
    fn volumes_may_lie_on_those_of_an_earlier_map_and_share_nothing_with_them() {
        let (array, disks) = ([mirror(4096, 8192)], [DISKS[0], DISKS[1], 8192]);
        let on = |disk, start| Mapped {
            segments: vec![segment(4096, 4096, &[(disk, start)])],
        };
        let checked = |map: &[Mapped]| check(map, &array, &disks);
        assert_eq!(checked(&[on(2, 0), on(2, 4096), on(0, 0)]), Ok(()));
        assert_eq!(checked(&[on(2, 0), on(2, 4097)]), Err(MapError::OutOfDisk(1)));
        assert_eq!(checked(&[on(2, 0), on(2, 4095)]), Err(MapError::Shared(0)));
        assert_eq!(checked(&[on(2, 0), on(1, 8192)]), Err(MapError::Shared(1)));
        // Nor on one of the same map.
        assert_eq!(checked(&[on(2, 0), on(3, 0)]), Err(MapError::OutOfDisk(1)));
    }

    /// Segments on two disks, none of which overlaps another: a chunk, rows of chunks, and the numbers of stripes and of
    /// their copies.
    fn volumes() -> impl Strategy<Value = Mapped> {
        let segment = (1..4_u64, 1..4_u64, 1..3_usize, 1..3_usize);
        proptest::collection::vec(segment, 1..6).prop_map(|shapes| {
            let mut next = [0; DISKS.len()];
            let segments = shapes.into_iter().map(|(chunk, rows, stripes, copies)| {
                let (chunk, len) = (chunk * 512, chunk * 512 * rows);
                let mut place = |disk: usize| {
                    let start = next[disk];
                    next[disk] += len;
                    Stretch { disk, start }
                };
                // The second disk first, so that no order is given.
                let stripes = (0..stripes).rev().map(|stripe| {
                    let copies = (0..copies).map(|copy| place((stripe + copy) % DISKS.len()));
                    Stripe(copies.collect())
                });
                let stripes: Vec<Stripe> = stripes.collect();
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

    /// Byte by byte, where each is in all copies.
    fn model(mapped: &Mapped) -> Vec<Vec<(usize, u64)>> {
        let mut bytes = Vec::new();
        for segment in &mapped.segments {
            let stripe_bytes = segment.bytes / segment.stripes.len() as u64;
            for row in (0..stripe_bytes).step_by(usize::try_from(segment.chunk).unwrap()) {
                for Stripe(copies) in &segment.stripes {
                    for at in row..row + segment.chunk {
                        let copies = copies.iter();
                        bytes.push(copies.map(|copy| (copy.disk, copy.start + at)).collect());
                    }
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn every_byte_is_where_the_model_has_it(mapped in volumes(), from in 0..40_000_u64, len in 0..20_000_u64) {
            prop_assert_eq!(check(std::slice::from_ref(&mapped), &[], &DISKS), Ok(()));
            let bytes = mapped.pieces(from, len).flat_map(|piece| {
                (0..piece.len).map(move |at| piece.copies().map(|copy| (copy.disk, copy.start + at)).collect::<Vec<_>>())
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
            let stripe = Stripe::from(Stretch { disk, start });
            let segment = Segment { bytes, chunk, stripes: vec![stripe; 1 + usize::from(twice)] };
            let volume = Mapped { segments: vec![segment.clone(), segment] };
            drop(check(std::slice::from_ref(&volume), std::slice::from_ref(&volume), &DISKS));
        }
    }
}
