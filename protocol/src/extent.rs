//! Extents: a piece of a disk on its way, with the digest that proves it arrived whole.
//!
//! ```text
//! size  field of the payload
//!    …  data      raw, one LZ4 block, or [`sparse`], as the codec in the frame's header says
//!   32  digest    BLAKE3 of the raw bytes
//!    4  raw_len   bytes of disk; 1 to 512 KiB, within one block
//! ```
//!
//! The data come first, so that raw ones need not be moved to where they are wanted.

mod sparse;

use domain::{
    digest::{DIGEST_LEN, Digest},
    disk::BLOCK_LEN,
};

use crate::frame::{Codec, Frame, Kind};

pub const TRAILER_LEN: usize = DIGEST_LEN + 4;

/// A piece of one block of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    pub disk: u16,
    /// Byte offset on the disk.
    pub at: u64,
    /// BLAKE3 of `data`, as the sender computed it; checked by [`Extent::from_frame`].
    pub digest: Digest,
    pub data: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    #[error("a frame of kind {0:?} is not an extent")]
    NotAnExtent(Kind),
    #[error("an extent of {0} bytes is shorter than its trailer")]
    Short(usize),
    #[error("an extent of {raw_len} bytes at {at} does not lie within one block")]
    AcrossBlocks { at: u64, raw_len: usize },
    #[error("the extent at {at} does not unpack to {raw_len} bytes")]
    Unpacking { at: u64, raw_len: usize },
    #[error("the extent at {at} was damaged on the way: its digest does not match")]
    Damaged { at: u64 },
}

/// Packing is kept only if it saves at least this part of the data: below, unpacking costs
/// the runner more than the link gains.
const WORTHWHILE_SAVING: usize = 20; // one twentieth, 5 %

/// Makes the frame of one extent. `data` is 1 byte to one block, within one block.
pub fn encode(disk: u16, at: u64, digest: Digest, data: &[u8], compress: bool) -> Frame {
    let raw_len = u32::try_from(data.len()).expect("an extent is at most one block");
    let is_worthwhile = |packed_len: usize| packed_len + data.len() / WORTHWHILE_SAVING < data.len();
    let compressed = compress
        .then(|| lz4_flex::block::compress(data))
        .filter(|packed| is_worthwhile(packed.len()))
        .map(|packed| (Codec::Lz4, packed));
    // Leaving out zeros costs next to nothing, however fast the link is.
    let packed = compressed.or_else(|| {
        let map = sparse::Map::of(data);
        is_worthwhile(map.packed_len()).then(|| (Codec::Sparse, map.pack(data, TRAILER_LEN)))
    });
    let (codec, mut payload) = packed.unwrap_or_else(|| {
        let mut payload = Vec::with_capacity(data.len() + TRAILER_LEN);
        payload.extend_from_slice(data);
        (Codec::Raw, payload)
    });
    payload.extend_from_slice(&digest.0);
    payload.extend_from_slice(&raw_len.to_le_bytes());
    Frame {
        kind: Kind::Extent,
        codec,
        disk,
        at,
        payload,
    }
}

/// How much of the disk an extent covers, as it says itself before it is verified.
pub fn raw_len(frame: &Frame) -> Option<usize> {
    let (_, trailer) = frame.payload.split_last_chunk::<TRAILER_LEN>()?;
    let len = trailer.last_chunk().copied().map(u32::from_le_bytes)?;
    (frame.kind == Kind::Extent).then_some(len as usize)
}

impl Extent {
    /// Unpacks and verifies an extent. Nothing is allocated beyond one block, whatever the frame says.
    pub fn from_frame(frame: Frame) -> Result<Self, ExtentError> {
        if frame.kind != Kind::Extent {
            return Err(ExtentError::NotAnExtent(frame.kind));
        }
        let Some((packed, trailer)) = frame.payload.split_last_chunk::<TRAILER_LEN>() else {
            return Err(ExtentError::Short(frame.payload.len()));
        };
        let (digest, raw_len) = trailer.split_at(DIGEST_LEN);
        let digest = Digest(digest.try_into().expect("split at the digest's length"));
        let raw_len = u32::from_le_bytes(raw_len.try_into().expect("four bytes remain")) as usize;
        let at = frame.at;
        let room_in_block = BLOCK_LEN as u64 - at % BLOCK_LEN as u64;
        if raw_len == 0 || raw_len as u64 > room_in_block || at.checked_add(raw_len as u64).is_none() {
            return Err(ExtentError::AcrossBlocks { at, raw_len });
        }
        let unpacked = match frame.codec {
            Codec::Raw => {
                let len = packed.len();
                let mut payload = frame.payload;
                payload.truncate(len);
                Some(payload)
            }
            Codec::Lz4 => lz4_flex::block::decompress(packed, raw_len).ok(),
            Codec::Sparse => sparse::unpack(packed, raw_len),
        };
        let data = unpacked.filter(|data| data.len() == raw_len);
        let data = data.ok_or(ExtentError::Unpacking { at, raw_len })?;
        if Digest::of(&data) != digest {
            return Err(ExtentError::Damaged { at });
        }
        Ok(Self {
            disk: frame.disk,
            at,
            digest,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let hex = |frame: &Frame| {
            let mut bytes = Vec::new();
            frame.encode_to(&mut bytes);
            domain::digest::hex(&bytes)
        };
        let data = b"the only copy";
        insta::assert_snapshot!("extent_v2", hex(&encode(2, 4096, Digest::of(data), data, false)));
        // Its second page follows, which is short.
        let data = [&[0; 4096][..], data].concat();
        insta::assert_snapshot!(
            "extent_sparse_v2",
            hex(&encode(2, 4096, Digest::of(&data), &data, false))
        );
    }

    #[test]
    fn zeros_are_left_out() {
        let mut data = vec![0; BLOCK_LEN];
        data[5000] = 1;
        let frame = encode(0, 0, Digest::of(&data), &data, false);
        assert_eq!(frame.codec, Codec::Sparse);
        assert_eq!(frame.payload.len(), 128 / 8 + 4096 + TRAILER_LEN);
        assert_eq!(Extent::from_frame(frame).unwrap().data, data);
    }

    #[test]
    fn data_that_does_not_shrink_travels_raw() {
        let noise: Vec<u8> = (0..4096_u32)
            .flat_map(|n| Digest::of(&n.to_le_bytes()).0[..4].to_vec())
            .collect();
        assert_eq!(encode(0, 0, Digest::of(&noise), &noise, true).codec, Codec::Raw);
        let text = vec![b'x'; 4096];
        assert_eq!(encode(0, 0, Digest::of(&text), &text, true).codec, Codec::Lz4);
    }

    #[test]
    fn a_changed_bit_is_seen() {
        let data = vec![7; 4096];
        let mut frame = encode(0, 0, Digest::of(&data), &data, false);
        frame.payload[0] ^= 1;
        assert_eq!(Extent::from_frame(frame), Err(ExtentError::Damaged { at: 0 }));
    }

    proptest! {
        #[test]
        fn extents_read_back(
            data in prop::collection::vec(0..4_u8, 1..9000),
            block in 0..1_u64 << 20,
            compress: bool,
        ) {
            let at = block * BLOCK_LEN as u64;
            let extent = Extent::from_frame(encode(9, at, Digest::of(&data), &data, compress)).unwrap();
            prop_assert_eq!(extent, Extent { disk: 9, at, digest: Digest::of(&data), data });
        }

        #[test]
        fn arbitrary_payloads_never_panic(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            codec in prop::sample::select(vec![Codec::Raw, Codec::Lz4, Codec::Sparse]),
            at: u64,
        ) {
            let _ = Extent::from_frame(Frame { kind: Kind::Extent, codec, disk: 0, at, payload });
        }
    }
}
