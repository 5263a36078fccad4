//! What the two processes send each other, but for one descriptor: frames of a kind, a length and so many bytes.
//!
//! ```text
//! 0: kind   1: length of the payload, 32 bits, little-endian   5: payload
//! order: JSON, to the worker, first and once      step, report: text and JSON, from the worker
//! ```

use std::io::{self, Read, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Order,
    Step,
    Report,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("there is no message of kind {0}")]
    Kind(u8),
    #[error("a message of kind {kind:?} has {len} bytes, more than {limit}")]
    TooLong { kind: Kind, len: usize, limit: usize },
    #[error("a message is cut short")]
    CutShort,
    #[error("a report is not text")]
    NotText,
    #[error("an order comes from the wrong side")]
    Unexpected,
    #[error(transparent)]
    Io(#[from] io::Error),
}

const HEADER_LEN: usize = 5;

impl Kind {
    const ALL: [Self; 3] = [Self::Order, Self::Step, Self::Report];

    fn code(self) -> u8 {
        match self {
            Self::Order => b'o',
            Self::Step => b's',
            Self::Report => b'r',
        }
    }

    /// In bytes.
    pub fn limit(self) -> usize {
        match self {
            // A plan and what the hub knows of a server have some kilobytes.
            Self::Order => 16 << 20,
            Self::Step => 4 << 10,
            // A change list has a text diff of each file.
            Self::Report => 64 << 20,
        }
    }
}

pub fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).ok();
    let Some(len) = len.filter(|_| payload.len() <= kind.limit()) else {
        let error = FrameError::TooLong {
            kind,
            len: payload.len(),
            limit: kind.limit(),
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    };
    let [a, b, c, d] = len.to_le_bytes();
    to.write_all(&[kind.code(), a, b, c, d])?;
    to.write_all(payload)
}

/// `None` at the end.
pub fn read(from: &mut impl Read) -> Result<Option<(Kind, Vec<u8>)>, FrameError> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    from.take(HEADER_LEN as u64).read_to_end(&mut header)?;
    let (code, len) = match *header {
        [] => return Ok(None),
        [code, a, b, c, d] => (code, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return Err(FrameError::CutShort),
    };
    let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code);
    let kind = kind.ok_or(FrameError::Kind(code))?;
    let limit = kind.limit();
    if len > limit {
        return Err(FrameError::TooLong { kind, len, limit });
    }
    // It grows with what comes, not with what was promised.
    let mut payload = Vec::new();
    from.take(len as u64).read_to_end(&mut payload)?;
    if payload.len() < len {
        return Err(FrameError::CutShort);
    }
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_again_up_to_its_limit() {
        let mut sent = Vec::new();
        for (kind, len) in [(Kind::Order, 0), (Kind::Step, 4 << 10), (Kind::Report, 1 << 20)] {
            write(&mut sent, kind, &vec![7; len]).unwrap();
        }
        let refused = write(&mut sent, Kind::Step, &[7; (4 << 10) + 1]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a message of kind Step has 4097 bytes, more than 4096"
        );
        let mut from = &*sent;
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Order, vec![])));
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Step, vec![7; 4 << 10])));
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Report, vec![7; 1 << 20])));
        assert_eq!(read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_length_is_refused_before_anything_is_read() {
        let refused = read(&mut &b"s\x01\x10\0\0"[..]).unwrap_err();
        assert!(
            matches!(refused, FrameError::TooLong { len: 4097, .. }),
            "{refused}"
        );
        let refused = read(&mut &b"r\x05\0\0\0abc"[..]).unwrap_err();
        assert!(matches!(refused, FrameError::CutShort), "{refused}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, payload))) = read(&mut &*bytes) {
                prop_assert_eq!(&*payload, &bytes[HEADER_LEN..HEADER_LEN + payload.len()]);
            }
        }
    }
}
