//! Frames: the unit of the data session on TCP 1500. All integers are little-endian.
//!
//! ```text
//! offset  size  field
//!      0     1  kind     see `Kind`
//!      1     1  codec    0: raw, 1: LZ4 block, 2: without pages of zeros; extents only, else 0
//!      2     2  disk     index of the disk in the Welcome; 0 where no disk is meant
//!      4     4  len      bytes of payload that follow
//!      8     8  at       extent, zeros: byte offset on the disk; digests: first block; else 0
//!     16   len  payload
//! ```
//!
//! Control messages are JSON ([`crate::session`]); extents are in [`crate::extent`]; a digests payload
//! is 32 bytes per block; a zeros payload is the length of the run as u64.

pub const HEADER_LEN: usize = 16;

/// The longest payload: a whole block that did not shrink, with its extent trailer; control messages
/// and digests fit well within.
pub const PAYLOAD_MAX: usize = domain::disk::BLOCK_LEN + crate::extent::TRAILER_LEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Control,
    Extent,
    Zeros,
    Digests,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Raw,
    Lz4,
    /// Without the pages that hold zeros.
    Sparse,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub codec: Codec,
    pub disk: u16,
    pub at: u64,
    pub payload: Vec<u8>,
}

/// The peer does not speak our protocol, or means harm. The connection cannot be used any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    #[error("frame with unknown codec {0}")]
    UnknownCodec(u8),
    #[error("frame announces a payload of {0} bytes; at most {PAYLOAD_MAX} are allowed")]
    PayloadTooLong(usize),
    #[error("a frame of kind {0:?} cannot be compressed")]
    CodecNotAllowed(Kind),
}

/// A frame's header: what is known before its payload has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub codec: Codec,
    pub disk: u16,
    pub at: u64,
    pub payload_len: usize,
}

impl Header {
    /// Reads a header and checks its limits, so that a reader may allocate `payload_len` bytes.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [kind, codec, d0, d1, l0, l1, l2, l3, at @ ..] = *bytes;
        let kind = match kind {
            1 => Kind::Control,
            2 => Kind::Extent,
            3 => Kind::Zeros,
            4 => Kind::Digests,
            other => return Err(FrameError::UnknownKind(other)),
        };
        let codec = match codec {
            0 => Codec::Raw,
            1 | 2 if kind != Kind::Extent => return Err(FrameError::CodecNotAllowed(kind)),
            1 => Codec::Lz4,
            2 => Codec::Sparse,
            other => return Err(FrameError::UnknownCodec(other)),
        };
        let payload_len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if payload_len > PAYLOAD_MAX {
            return Err(FrameError::PayloadTooLong(payload_len));
        }
        Ok(Self {
            kind,
            codec,
            disk: u16::from_le_bytes([d0, d1]),
            at: u64::from_le_bytes(at),
            payload_len,
        })
    }

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let kind = match self.kind {
            Kind::Control => 1,
            Kind::Extent => 2,
            Kind::Zeros => 3,
            Kind::Digests => 4,
        };
        let codec = match self.codec {
            Codec::Raw => 0,
            Codec::Lz4 => 1,
            Codec::Sparse => 2,
        };
        let len = u32::try_from(self.payload_len).expect("payloads are at most PAYLOAD_MAX bytes");
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = kind;
        bytes[1] = codec;
        bytes[2..4].copy_from_slice(&self.disk.to_le_bytes());
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }
}

impl Frame {
    pub fn header(&self) -> Header {
        Header {
            kind: self.kind,
            codec: self.codec,
            disk: self.disk,
            at: self.at,
            payload_len: self.payload.len(),
        }
    }

    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER_LEN + self.payload.len());
        out.extend_from_slice(&self.header().encode());
        out.extend_from_slice(&self.payload);
    }
}

/// Takes one whole frame off the front of `buf`, or `None` while bytes are missing.
pub fn decode(buf: &mut Vec<u8>) -> Result<Option<Frame>, FrameError> {
    let Some(header) = buf.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let header = Header::decode(header)?;
    let end = HEADER_LEN + header.payload_len;
    if buf.len() < end {
        return Ok(None);
    }
    let payload = buf[HEADER_LEN..end].to_vec();
    buf.drain(..end);
    Ok(Some(Frame {
        kind: header.kind,
        codec: header.codec,
        disk: header.disk,
        at: header.at,
        payload,
    }))
}

/// A run of `len` zero bytes on `disk`, from `at`.
pub fn zeros(disk: u16, at: u64, len: u64) -> Frame {
    Frame {
        kind: Kind::Zeros,
        codec: Codec::Raw,
        disk,
        at,
        payload: len.to_le_bytes().to_vec(),
    }
}

/// The length of the run that a zeros frame announces; `None` if it is not one.
pub fn zeros_len(frame: &Frame) -> Option<u64> {
    let payload = frame.payload.as_slice().try_into().ok()?;
    (frame.kind == Kind::Zeros).then(|| u64::from_le_bytes(payload))
}

/// How many digests one frame may carry: 256 KiB of them, that is 4 GiB of disk.
pub const DIGESTS_PER_FRAME_MAX: u64 = 8192;

/// The runner's digests of the blocks of `disk` from `first_block` on.
pub fn digests(disk: u16, first_block: u64, digests: &[domain::digest::Digest]) -> Frame {
    let payload = digests.iter().flat_map(|digest| digest.0).collect();
    Frame {
        kind: Kind::Digests,
        codec: Codec::Raw,
        disk,
        at: first_block,
        payload,
    }
}

/// The digests in a digests frame; `None` if it is not one.
pub fn read_digests(frame: &Frame) -> Option<Vec<domain::digest::Digest>> {
    let (digests, rest) = frame.payload.as_chunks::<{ domain::digest::DIGEST_LEN }>();
    (frame.kind == Kind::Digests && rest.is_empty()).then(|| {
        digests
            .iter()
            .map(|bytes| domain::digest::Digest(*bytes))
            .collect()
    })
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
        let digest = domain::digest::Digest([0xd5; 32]);
        insta::assert_snapshot!("zeros_v1", hex(&zeros(3, 0x0102_0304_0506_0708, 1 << 20)));
        insta::assert_snapshot!("digests_v1", hex(&digests(1, 7, &[digest])));
    }

    #[test]
    fn an_oversized_frame_is_refused_from_its_header_alone() {
        let mut bytes = zeros(0, 0, 1).header().encode().to_vec();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            decode(&mut bytes),
            Err(FrameError::PayloadTooLong(u32::MAX as usize))
        );
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let kind = prop_oneof![
            Just((Kind::Control, Codec::Raw)),
            Just((Kind::Extent, Codec::Lz4)),
            Just((Kind::Extent, Codec::Sparse)),
            Just((Kind::Zeros, Codec::Raw)),
            Just((Kind::Digests, Codec::Raw)),
        ];
        (
            kind,
            any::<u16>(),
            any::<u64>(),
            prop::collection::vec(any::<u8>(), 0..2000),
        )
            .prop_map(|((kind, codec), disk, at, payload)| Frame {
                kind,
                codec,
                disk,
                at,
                payload,
            })
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            frames in prop::collection::vec(any_frame(), 0..8),
            cut in 1..500_usize,
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                frame.encode_to(&mut stream);
            }
            let (mut buf, mut read) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                buf.extend_from_slice(piece);
                while let Some(frame) = decode(&mut buf).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert!(buf.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            while let Ok(Some(frame)) = decode(&mut bytes) {
                let _ = zeros_len(&frame);
                let _ = read_digests(&frame);
            }
        }
    }
}
