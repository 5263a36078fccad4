//! What md writes on each member of an array. Numbers are little-endian, those of version 0.90 as the machine has them,
//! which is the same on all that are converted. Sectors have 512 bytes, words have four.
//!
//! ```text
//! 1.0, 1.1, 1.2   at 8 KiB before the end, 0, 4 KiB
//!   0: magic   4: version   8: features   16: UUID   32: name   72: level   76: layout   80: sectors of each member
//!   88: sectors of a chunk   92: members   128: first sector of data   136: sectors of data   144: its own sector
//!   160: number   184: flags   200: events   216: checksum   220: numbers   256: role of each number, two bytes
//! 0.90            in the last 64 KiB that are whole, in words
//!   0: magic   1: version   3: patch   5: UUID   7: level   8: KiB of each member   10: members   11: minor
//!   13: UUID   38: checksum   39: events   64: layout   65: bytes of a chunk   128: each number in 32   992: its own
//!   of a number   0: itself   3: role   4: state
//! ```

use std::io;

use super::super::place::Place;

const MAGIC: u32 = 0xa92b_4efc;
const SECTOR: u64 = 512;
const LEN: usize = 4096;
/// Where the roles of version 1 begin.
const ROLES_AT: usize = 256;
/// At the end, of version 0.90.
const RESERVED_0_90: u64 = 64 << 10;
/// Version 0.90 has room for no more members.
const NUMBERS_0_90: usize = 27;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    pub array: Array,
    /// Counts the changes to the array.
    pub events: u64,
    /// Of this member, among all that the array ever had.
    pub number: usize,
    /// By number, as this member knows it: the place in the array; `None` for spares, and for those that failed.
    pub roles: Vec<Option<u32>>,
    /// Where the data of this member begin, in bytes.
    pub start: u64,
    /// A part of it has not been filled yet, or it is to replace another.
    pub is_filling: bool,
    /// It is read when there is nothing else: it is slow, or has blocks that cannot be read.
    pub is_last_choice: bool,
}

/// What all members of an array have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// In the order in which mdadm writes it.
    pub uuid: [u8; 16],
    pub name: Name,
    pub level: i32,
    pub layout: u32,
    /// In bytes.
    pub chunk: u64,
    pub members: u32,
    /// Of each member, in bytes.
    pub bytes: u64,
    pub unsupported: Option<Unsupported>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Of version 1: `name`, or `host:name`.
    Text(String),
    /// Of version 0.90: that of `/dev/md0`.
    Minor(u32),
}

/// What of an array is not understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("it is being reshaped")]
    Reshape,
    #[error("it has a journal")]
    Journal,
    #[error("it has a partial parity log")]
    PartialParityLog,
    #[error("it belongs to a cluster")]
    Cluster,
    #[error("it has features of a newer md ({0:#x})")]
    Features(u32),
}

impl Unsupported {
    /// Of the features of version 1.
    fn of(features: u32) -> Option<Self> {
        const KNOWN: u32 = BITMAP | FILLING | BAD_BLOCKS | REPLACEMENT | FILLING_BY_BITMAP | RAID0_LAYOUT;
        [
            (RESHAPE | RESHAPE_BACKWARDS | NEW_OFFSET, Self::Reshape),
            (JOURNAL, Self::Journal),
            (PPL | MULTIPLE_PPLS, Self::PartialParityLog),
            (CLUSTER, Self::Cluster),
            (!KNOWN, Self::Features(features & !KNOWN)),
        ]
        .into_iter()
        .find_map(|(bits, unsupported)| (features & bits != 0).then_some(unsupported))
    }
}

const BITMAP: u32 = 1;
const FILLING: u32 = 2;
const RESHAPE: u32 = 4;
const BAD_BLOCKS: u32 = 8;
const REPLACEMENT: u32 = 16;
const RESHAPE_BACKWARDS: u32 = 32;
const NEW_OFFSET: u32 = 64;
const FILLING_BY_BITMAP: u32 = 128;
const CLUSTER: u32 = 256;
const JOURNAL: u32 = 512;
const PPL: u32 = 1024;
const MULTIPLE_PPLS: u32 = 2048;
const RAID0_LAYOUT: u32 = 4096;

impl Superblock {
    /// `None`: there is none that is whole.
    pub fn read(place: &Place) -> io::Result<Option<Self>> {
        // As the probe looks: what is at the end counts, whatever the array holds at its beginning.
        let at_1_0 = (place.bytes / 4096 * 4096).checked_sub(8192);
        for at in at_1_0.into_iter().chain([0, 4096]) {
            let superblock = place.read(at, LEN as u64)?;
            if let Some(found) = superblock.and_then(|bytes| Self::version_1(&bytes, at, place.bytes)) {
                return Ok(Some(found));
            }
        }
        let Some(at) = (place.bytes / RESERVED_0_90 * RESERVED_0_90).checked_sub(RESERVED_0_90) else {
            return Ok(None);
        };
        let superblock = place.read(at, LEN as u64)?;
        Ok(superblock.and_then(|bytes| Self::version_0_90(&bytes, at)))
    }

    /// The place of this member in the array.
    pub fn role(&self) -> Option<u32> {
        self.roles.get(self.number).copied().flatten()
    }

    fn version_1(bytes: &[u8], at: u64, room: u64) -> Option<Self> {
        const FLAG_WRITE_MOSTLY: u8 = 1;
        // Spare, failed, journal.
        const NO_ROLE: u16 = 0xfffd;
        let numbers = usize::try_from(word(bytes, 220)?).ok()?;
        let len = numbers.checked_mul(2)?.checked_add(ROLES_AT)?;
        let written = bytes.get(..len)?;
        let is_whole = word(bytes, 0)? == MAGIC
            && word(bytes, 4)? == 1
            && numbers > 0
            && long(bytes, 144)?.checked_mul(SECTOR)? == at
            && word(bytes, 216)? == checksum(written, 216);
        if !is_whole {
            return None;
        }
        let features = word(bytes, 8)?;
        let level = word(bytes, 72)?.cast_signed();
        let chunk = u64::from(word(bytes, 88)?) * SECTOR;
        let start = long(bytes, 128)?.checked_mul(SECTOR)?;
        let sectors = if level == 0 {
            long(bytes, 136)?
        } else {
            long(bytes, 80)?
        };
        let used = whole_chunks(level, sectors.checked_mul(SECTOR)?, chunk);
        if start.checked_add(used)? > room {
            return None;
        }
        let name = bytes[32..64].split(|byte| *byte == 0).next()?;
        let roles = written[ROLES_AT..].chunks_exact(2).map(|role| {
            let role = u16::from_le_bytes([role[0], role[1]]);
            (role < NO_ROLE).then_some(u32::from(role))
        });
        Some(Self {
            array: Array {
                uuid: *bytes[16..].first_chunk()?,
                name: Name::Text(String::from_utf8_lossy(name).into_owned()),
                level,
                layout: word(bytes, 76)?,
                chunk,
                members: word(bytes, 92)?,
                bytes: used,
                unsupported: Unsupported::of(
                    features & !(FILLING | BAD_BLOCKS | REPLACEMENT | FILLING_BY_BITMAP),
                ),
            },
            events: long(bytes, 200)?,
            number: usize::try_from(word(bytes, 160)?).ok()?,
            roles: roles.collect(),
            start,
            is_filling: features & (FILLING | REPLACEMENT) != 0,
            is_last_choice: features & BAD_BLOCKS != 0 || bytes[184] & FLAG_WRITE_MOSTLY != 0,
        })
    }

    fn version_0_90(bytes: &[u8], at: u64) -> Option<Self> {
        const RESHAPING: u32 = 91;
        const FAILED: u32 = 1;
        const ACTIVE: u32 = 1 << 1;
        const IN_SYNC: u32 = 1 << 2;
        const WRITE_MOSTLY: u32 = 1 << 9;
        let word = |number: usize| word(bytes, number * 4);
        let is_whole = word(0)? == MAGIC && word(1)? == 0 && word(38)? == checksum(bytes, 38 * 4);
        if !is_whole {
            return None;
        }
        let level = word(7)?.cast_signed();
        let chunk = u64::from(word(65)?);
        let used = if level == 0 { at } else { u64::from(word(8)?) << 10 };
        let used = whole_chunks(level, used, chunk);
        if used > at {
            return None;
        }
        let state = |number: usize| word(128 + number * 32 + 4);
        let roles = (0..NUMBERS_0_90).map(|number| {
            let has_role = state(number)? & (FAILED | ACTIVE) == ACTIVE;
            word(128 + number * 32 + 3).filter(|_| has_role)
        });
        let number = usize::try_from(word(992)?)
            .ok()
            .filter(|number| *number < NUMBERS_0_90)?;
        let mut uuid = [0; 16];
        for (part, at) in uuid.chunks_exact_mut(4).zip([5, 13, 14, 15]) {
            part.copy_from_slice(&word(at)?.to_be_bytes());
        }
        Some(Self {
            array: Array {
                uuid,
                name: Name::Minor(word(11)?),
                level,
                layout: word(64)?,
                chunk,
                members: word(10)?,
                bytes: used,
                unsupported: (word(2)? >= RESHAPING).then_some(Unsupported::Reshape),
            },
            events: u64::from(word(40)?) << 32 | u64::from(word(39)?),
            number,
            roles: roles.collect(),
            start: 0,
            is_filling: state(number)? & IN_SYNC == 0,
            is_last_choice: state(number)? & WRITE_MOSTLY != 0,
        })
    }
}

/// What is used of so many bytes of a member. Those of RAID1 have no chunks, whatever is written there.
fn whole_chunks(level: i32, bytes: u64, chunk: u64) -> u64 {
    if level == 1 || chunk == 0 {
        return bytes;
    }
    bytes / chunk * chunk
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The sum of all words but the one at `own`, with what goes beyond 32 bits added once. The last may be half a word.
pub(super) fn checksum(bytes: &[u8], own: usize) -> u32 {
    let sum: u64 = bytes
        .chunks(4)
        .enumerate()
        .filter(|(at, _)| at * 4 != own)
        .map(|(_, part)| {
            part.iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        })
        .sum();
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    u32::try_from(folded & 0xffff_ffff).unwrap_or_default()
}
