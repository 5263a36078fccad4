//! The partition table of a BIOS: four entries in the first sector, and a chain of more in one of them.
//!
//! ```text
//! sector 0        446: 4 × 16 bytes, 510: 55 aa
//! entry           0: 80 if active   4: type   8: first sector   12: sectors   (little-endian, 32 bits)
//! extended        its first sector has two entries: a logical partition, by its place from this sector on, and the
//!                 next such sector, by its place from the beginning of the extended partition
//! ```

use std::{fs, io, os::unix::fs::FileExt};

const SECTOR: u64 = 512;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
pub const PROTECTIVE: u8 = 0xee;
/// Linux's `DISK_MAX_PARTS`. A chain that leads back into itself ends here, at the latest.
const PARTITIONS_MAX: u32 = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    /// What Linux makes PARTUUIDs of.
    pub signature: u32,
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 4, or from 5 on for logical partitions.
    pub number: u32,
    pub kind: u8,
    /// In bytes.
    pub start: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain of logical partitions {0}")]
pub struct ChainError(&'static str);

/// `None`: there is no such table.
pub fn read(disk: &fs::File, bytes: u64) -> io::Result<Option<Result<Mbr, ChainError>>> {
    if bytes < SECTOR {
        return Ok(None);
    }
    let sector = read_sector(disk, 0)?;
    let raw = entries(&sector);
    // A FAT volume that fills a disk ends its first sector alike, and has a program where the entries are.
    let is_table = sector[510..] == [0x55, 0xaa]
        && raw.iter().all(|raw| matches!(raw.status, 0 | 0x80))
        && raw.iter().any(|raw| raw.kind != 0 && raw.sectors != 0);
    if !is_table {
        return Ok(None);
    }
    let signature = u32::from_le_bytes([sector[440], sector[441], sector[442], sector[443]]);
    let mut found = Vec::new();
    let mut extended = None;
    for (number, raw) in (1..).zip(raw) {
        let (start, len) = (u64::from(raw.first) * SECTOR, u64::from(raw.sectors) * SECTOR);
        if raw.kind == 0 || len == 0 {
        } else if EXTENDED.contains(&raw.kind) {
            extended = extended.or(Some((start, len)));
        } else {
            found.push(Entry {
                number,
                kind: raw.kind,
                start,
                bytes: len,
            });
        }
    }
    if let Some((start, len)) = extended
        && start < bytes
        && let Err(error) = logical(disk, start, len.min(bytes - start), &mut found)?
    {
        return Ok(Some(Err(error)));
    }
    Ok(Some(Ok(Mbr {
        signature,
        entries: found,
    })))
}

/// Follows the chain within an extended partition.
fn logical(
    disk: &fs::File,
    start: u64,
    len: u64,
    found: &mut Vec<Entry>,
) -> io::Result<Result<(), ChainError>> {
    let mut at = 0;
    let mut number = 5;
    for _ in 0..PARTITIONS_MAX {
        if at + SECTOR > len {
            return Ok(Err(ChainError("leads out of the extended partition")));
        }
        let sector = read_sector(disk, start + at)?;
        if sector[510..] != [0x55, 0xaa] {
            // Linux ends here, too: an extended partition that was never used has nothing in it.
            return Ok(Ok(()));
        }
        let [data, next, ..] = entries(&sector);
        if data.kind != 0 && data.sectors != 0 && !EXTENDED.contains(&data.kind) {
            found.push(Entry {
                number,
                kind: data.kind,
                start: start + at + u64::from(data.first) * SECTOR,
                bytes: u64::from(data.sectors) * SECTOR,
            });
            number += 1;
        }
        if !EXTENDED.contains(&next.kind) || next.sectors == 0 {
            return Ok(Ok(()));
        }
        at = u64::from(next.first) * SECTOR;
    }
    Ok(Err(ChainError("has no end")))
}

#[derive(Debug, Clone, Copy)]
struct Raw {
    status: u8,
    kind: u8,
    first: u32,
    sectors: u32,
}

fn entries(sector: &[u8; 512]) -> [Raw; 4] {
    [446, 462, 478, 494].map(|at| {
        let word =
            |at: usize| u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
        Raw {
            status: sector[at],
            kind: sector[at + 4],
            first: word(at + 8),
            sectors: word(at + 12),
        }
    })
}

fn read_sector(disk: &fs::File, at: u64) -> io::Result<[u8; 512]> {
    let mut sector = [0; 512];
    disk.read_exact_at(&mut sector, at)?;
    Ok(sector)
}
