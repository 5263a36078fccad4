//! What is on a physical volume: its label, and areas of metadata. Numbers are little-endian.
//!
//! ```text
//! sector 0…3   0: "LABELONE"   8: its sector   16: checksum of the rest   20: where the header is   24: "LVM2 001"
//! header       0: UUID         32: bytes       40: data areas, then metadata areas: offset, bytes; zeros end each list
//! area         0: checksum of the rest of 512   4: magic   20: version   24: offset, bytes   40: texts
//! text         0: offset in the area   8: bytes   16: checksum   20: flags; goes on after the area's header at its end
//! ```

use std::io;

use super::super::place::Place;

const SECTOR: usize = 512;
const LABEL: &[u8; 8] = b"LABELONE";
const LABEL_TYPE: &[u8; 8] = b"LVM2 001";
const AREA_MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
const AREA_VERSION: u32 = 1;
/// Of a text: it is out of date on purpose.
const IGNORED: u32 = 1;
/// A group of a thousand logical volumes has half a megabyte. What is read of a text takes sixteen times its bytes.
const TEXT_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// 32 characters.
    pub uuid: String,
    /// In so many bytes of the place, from the first on.
    areas: Vec<(u64, u64)>,
}

/// An area of metadata that is not as LVM wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its metadata is damaged")]
pub struct Damaged;

impl Place<'_> {
    /// `None`: it has none that is whole.
    pub fn label(&self) -> io::Result<Option<Label>> {
        for number in 0..4 {
            let sector = self.read(number * SECTOR as u64, SECTOR as u64)?;
            if let Some(label) = sector.and_then(|sector| parse_label(number, &sector)) {
                return Ok(Some(label));
            }
        }
        Ok(None)
    }

    /// The texts of its areas, as far as there are any: what is on other physical volumes of the group counts as well.
    pub fn texts(&self, label: &Label) -> io::Result<Vec<Result<String, Damaged>>> {
        let mut texts = Vec::new();
        for area in &label.areas {
            texts.extend(self.text(*area)?.transpose());
        }
        Ok(texts)
    }

    fn text(&self, (offset, bytes): (u64, u64)) -> io::Result<Result<Option<String>, Damaged>> {
        let Some(header) = self.read(offset, SECTOR as u64)? else {
            return Ok(Err(Damaged));
        };
        let text = match parse_area(&header, offset, bytes) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Ok(None)),
            Err(damaged) => return Ok(Err(damaged)),
        };
        let to_end = text.bytes.min(bytes - text.offset);
        let first = self.read(offset + text.offset, to_end)?;
        let again = self.read(offset + SECTOR as u64, text.bytes - to_end)?;
        let (Some(mut data), Some(again)) = (first, again) else {
            return Ok(Err(Damaged));
        };
        data.extend(again);
        if checksum(&data) != text.checksum {
            return Ok(Err(Damaged));
        }
        // Descriptions and names of hosts may have been written in another encoding.
        Ok(Ok(Some(String::from_utf8_lossy(&data).into_owned())))
    }
}

fn parse_label(number: u64, sector: &[u8]) -> Option<Label> {
    let is_label =
        sector.starts_with(LABEL) && sector[24..32] == *LABEL_TYPE && number_at(sector, 8)? == number;
    if !is_label || checksum(&sector[20..]) != word_at(sector, 16)? {
        return None;
    }
    let header = sector.get(word_at(sector, 20)? as usize..)?;
    let uuid = header.get(..32)?;
    if !uuid.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let pairs = header.get(40..)?.chunks_exact(16);
    let mut pairs = pairs.map_while(|pair| Some((number_at(pair, 0)?, number_at(pair, 8)?)));
    // The areas of data: where the extents are is said in the metadata as well.
    pairs.find(|(offset, _)| *offset == 0)?;
    Some(Label {
        uuid: String::from_utf8_lossy(uuid).into_owned(),
        areas: pairs.take_while(|(offset, _)| *offset != 0).collect(),
    })
}

struct Text {
    offset: u64,
    bytes: u64,
    checksum: u32,
}

/// Where the text of an area is: within it, behind its header. `None` where there is none.
fn parse_area(header: &[u8], offset: u64, bytes: u64) -> Result<Option<Text>, Damaged> {
    let number = |at| number_at(header, at).ok_or(Damaged);
    let word = |at| word_at(header, at).ok_or(Damaged);
    let is_area = header[4..20] == *AREA_MAGIC
        && word(20)? == AREA_VERSION
        && (number(24)?, number(32)?) == (offset, bytes)
        && checksum(&header[4..]) == word(0)?;
    let text = Text {
        offset: number(40)?,
        bytes: number(48)?,
        checksum: word(56)?,
    };
    let room = bytes.checked_sub(SECTOR as u64).ok_or(Damaged)?;
    if !is_area {
        Err(Damaged)
    } else if text.offset == 0 || word(60)? & IGNORED != 0 {
        Ok(None)
    } else if (SECTOR as u64..bytes).contains(&text.offset) && (1..=room.min(TEXT_MAX)).contains(&text.bytes)
    {
        Ok(Some(text))
    } else {
        Err(Damaged)
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// CRC-32 as LVM begins it, which is not turned over at the end.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
