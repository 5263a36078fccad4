//! Extents: a piece of a disk on its way, with the digest that proves it arrived whole.
//!
//! ```text
//! offset  size  field of the payload
//!      0    32  digest    BLAKE3 of the raw bytes
//!     32     4  raw_len   bytes of disk; 1 to 512 KiB, within one block
//!     36     …  data      raw, or one LZ4 block (`Codec::Lz4` in the frame's header)
//! ```

use domain::{
    digest::{DIGEST_LEN, Digest},
    disk::BLOCK_LEN,
};

use crate::frame::{Codec, Frame, Kind};

pub const EXTENT_HEADER_LEN: usize = DIGEST_LEN + 4;

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
    #[error("an extent of {0} bytes is shorter than its header")]
    Short(usize),
    #[error("an extent of {raw_len} bytes at {at} does not lie within one block")]
    AcrossBlocks { at: u64, raw_len: usize },
    #[error("the extent at {at} does not decompress to {raw_len} bytes")]
    Compression { at: u64, raw_len: usize },
    #[error("the extent at {at} was damaged on the way: its digest does not match")]
    Damaged { at: u64 },
}

/// Compression is kept only if it saves at least this part of the data: below, decompressing costs
/// the runner more than the link gains.
const WORTHWHILE_SAVING: usize = 20; // one twentieth, 5 %

/// Makes the frame of one extent. `data` is 1 byte to one block, within one block.
pub fn encode(disk: u16, at: u64, digest: Digest, data: &[u8], compress: bool) -> Frame {
    let raw_len = u32::try_from(data.len()).expect("an extent is at most one block");
    let mut payload = Vec::with_capacity(EXTENT_HEADER_LEN + data.len());
    payload.extend_from_slice(&digest.0);
    payload.extend_from_slice(&raw_len.to_le_bytes());
    if compress {
        let compressed = lz4_flex::block::compress(data);
        if compressed.len() + data.len() / WORTHWHILE_SAVING < data.len() {
            payload.extend_from_slice(&compressed);
            return Frame {
                kind: Kind::Extent,
                codec: Codec::Lz4,
                disk,
                at,
                payload,
            };
        }
    }
    payload.extend_from_slice(data);
    Frame {
        kind: Kind::Extent,
        codec: Codec::Raw,
        disk,
        at,
        payload,
    }
}

/// How much of the disk an extent covers, as it says itself before it is verified.
pub fn raw_len(frame: &Frame) -> Option<usize> {
    let header = frame.payload.first_chunk::<EXTENT_HEADER_LEN>()?;
    let len = header.last_chunk().copied().map(u32::from_le_bytes)?;
    (frame.kind == Kind::Extent).then_some(len as usize)
}

impl Extent {
    /// Unpacks and verifies an extent. Nothing is allocated beyond one block, whatever the frame says.
    pub fn from_frame(frame: Frame) -> Result<Self, ExtentError> {
        if frame.kind != Kind::Extent {
            return Err(ExtentError::NotAnExtent(frame.kind));
        }
        let Some((header, packed)) = frame.payload.split_first_chunk::<EXTENT_HEADER_LEN>() else {
            return Err(ExtentError::Short(frame.payload.len()));
        };
        let (digest, raw_len) = header.split_at(DIGEST_LEN);
        let digest = Digest(digest.try_into().expect("split at the digest's length"));
        let raw_len = u32::from_le_bytes(raw_len.try_into().expect("four bytes remain")) as usize;
        let at = frame.at;
        let room_in_block = BLOCK_LEN as u64 - at % BLOCK_LEN as u64;
        if raw_len == 0 || raw_len as u64 > room_in_block || at.checked_add(raw_len as u64).is_none() {
            return Err(ExtentError::AcrossBlocks { at, raw_len });
        }
        let data = match frame.codec {
            Codec::Raw => {
                let mut payload = frame.payload;
                payload.drain(..EXTENT_HEADER_LEN);
                payload
            }
            Codec::Lz4 => lz4_flex::block::decompress(packed, raw_len)
                .map_err(|_| ExtentError::Compression { at, raw_len })?,
        };
        if data.len() != raw_len {
            return Err(ExtentError::Compression { at, raw_len });
        }
        if blake3::hash(&data) != digest.0 {
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

    fn digest_of(data: &[u8]) -> Digest {
        Digest(*blake3::hash(data).as_bytes())
    }

    #[test]
    fn golden_bytes() {
        let data = b"the only copy";
        let frame = encode(2, 4096, digest_of(data), data, false);
        let mut bytes = Vec::new();
        frame.encode_to(&mut bytes);
        insta::assert_snapshot!("extent_v1", domain::digest::hex(&bytes));
    }

    #[test]
    fn data_that_does_not_shrink_travels_raw() {
        let noise: Vec<u8> = (0..4096_u32)
            .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec())
            .collect();
        assert_eq!(encode(0, 0, digest_of(&noise), &noise, true).codec, Codec::Raw);
        let text = vec![b'x'; 4096];
        assert_eq!(encode(0, 0, digest_of(&text), &text, true).codec, Codec::Lz4);
    }

    #[test]
    fn a_changed_bit_is_seen() {
        let data = vec![7; 4096];
        let mut frame = encode(0, 0, digest_of(&data), &data, false);
        *frame.payload.last_mut().unwrap() ^= 1;
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
            let extent = Extent::from_frame(encode(9, at, digest_of(&data), &data, compress)).unwrap();
            prop_assert_eq!(extent, Extent { disk: 9, at, digest: digest_of(&data), data });
        }

        #[test]
        fn arbitrary_payloads_never_panic(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            lz4: bool,
            at: u64,
        ) {
            let codec = if lz4 { Codec::Lz4 } else { Codec::Raw };
            let _ = Extent::from_frame(Frame { kind: Kind::Extent, codec, disk: 0, at, payload });
        }
    }
}
