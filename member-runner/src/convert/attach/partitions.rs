//! Where the volumes of a disk are: partitions of an MBR or a GPT, or the disk itself.
//!
//! Tables are what a stranger wrote. What begins beyond the end of the disk is left out and what ends there is cut
//! off, as Linux does. Volumes that share sectors are refused: two file systems would be written over each other.

use std::{fs, io, io::Cursor, os::unix::fs::FileExt};

use gptman::{GPTHeader, GPTPartitionEntry};

use super::{
    filesystems::{self, Kind},
    mbr::{self, ChainError, PROTECTIVE},
};
use crate::convert::inspect::disks::{self, PartitionTable, Role};

/// A volume and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Not mounted anywhere, as far as this says.
    pub facts: disks::Volume,
    /// `None`: it has nothing that is known.
    pub kind: Option<Kind>,
    /// In bytes, on the disk.
    pub start: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("cannot read the partitions of {disk}")]
    Read {
        disk: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the partitions of {disk}: {source}")]
    Chain {
        disk: String,
        #[source]
        source: ChainError,
    },
    #[error("cannot read the partitions of {disk}: both copies of its GPT are damaged")]
    Gpt { disk: String },
    #[error("cannot use the partitions of {disk}: {one} and {other} share sectors")]
    Overlap {
        disk: String,
        one: String,
        other: String,
    },
}

/// The volumes of a disk in the order of their numbers, or the one that is the disk. Reads tables and superblocks;
/// writes nothing.
pub fn read(
    device_name: &str,
    disk: &fs::File,
    bytes: u64,
) -> Result<(Option<PartitionTable>, Vec<Volume>), PartitionError> {
    let failed = |source| PartitionError::Read {
        disk: device_name.to_owned(),
        source,
    };
    let mbr = mbr::read(disk, bytes)
        .map_err(failed)?
        .transpose()
        .map_err(|source| PartitionError::Chain {
            disk: device_name.to_owned(),
            source,
        })?;
    let (table, mut volumes) = match mbr {
        None => (None, vec![filling(device_name, bytes)]),
        Some(mbr) if mbr.entries.iter().any(|entry| entry.kind == PROTECTIVE) => {
            let volumes = gpt(device_name, disk, bytes).map_err(failed)?;
            let damaged = || PartitionError::Gpt {
                disk: device_name.to_owned(),
            };
            (Some(PartitionTable::Gpt), volumes.ok_or_else(damaged)?)
        }
        Some(mbr) => (Some(PartitionTable::Mbr), of_mbr(device_name, &mbr)),
    };
    volumes.retain(|volume| volume.start < bytes);
    for volume in &mut volumes {
        volume.bytes = volume.bytes.min(bytes - volume.start);
    }
    refuse_overlaps(device_name, &volumes)?;
    for volume in &mut volumes {
        look(disk, volume).map_err(failed)?;
    }
    Ok((table, volumes))
}

/// The same for a disk that has no table, whatever is at its beginning.
pub fn whole(
    device_name: &str,
    disk: &fs::File,
    bytes: u64,
) -> Result<(Option<PartitionTable>, Vec<Volume>), PartitionError> {
    let mut volume = filling(device_name, bytes);
    look(disk, &mut volume).map_err(|source| PartitionError::Read {
        disk: device_name.to_owned(),
        source,
    })?;
    Ok((None, vec![volume]))
}

/// Notes what is on it.
fn look(disk: &fs::File, volume: &mut Volume) -> io::Result<()> {
    if let Some(found) = filesystems::probe(disk, volume.start, volume.bytes)? {
        volume.kind = Some(found.kind);
        volume.facts.content = found.kind.content();
        volume.facts.uuid = found.uuid;
        volume.facts.label = found.label;
    }
    Ok(())
}

fn filling(device_name: &str, bytes: u64) -> Volume {
    let facts = disks::Volume {
        device_name: device_name.to_owned(),
        ..disks::Volume::default()
    };
    Volume {
        facts,
        kind: None,
        start: 0,
        bytes,
    }
}

fn of_mbr(device_name: &str, mbr: &mbr::Mbr) -> Vec<Volume> {
    const EFI_SYSTEM: u8 = 0xef;
    let volume = |entry: &mbr::Entry| Volume {
        facts: disks::Volume {
            device_name: partition_name(device_name, entry.number),
            role: if entry.kind == EFI_SYSTEM {
                Role::EfiSystem
            } else {
                Role::Data
            },
            part_uuid: Some(format!("{:08x}-{:02x}", mbr.signature, entry.number)),
            ..disks::Volume::default()
        },
        kind: None,
        start: entry.start,
        bytes: entry.bytes,
    };
    mbr.entries.iter().map(volume).collect()
}

/// The partitions of the first copy of the table that is whole; `None` if none is.
fn gpt(device_name: &str, disk: &fs::File, bytes: u64) -> io::Result<Option<Vec<Volume>>> {
    for sector in [512, 4096] {
        for at in [sector, (bytes / sector).saturating_sub(1) * sector] {
            if let Some(entries) = gpt_entries(disk, bytes, sector, at)? {
                let used = (1..).zip(&entries).filter(|(_, entry)| entry.is_used());
                return Ok(Some(
                    used.filter_map(|(number, entry)| of_gpt(device_name, number, entry, sector))
                        .collect(),
                ));
            }
        }
    }
    Ok(None)
}

fn gpt_entries(
    disk: &fs::File,
    bytes: u64,
    sector: u64,
    at: u64,
) -> io::Result<Option<Vec<GPTPartitionEntry>>> {
    const HEADER_LEN: usize = 512;
    const ENTRY_LEN: u32 = 128;
    /// gptman reads as many bytes as its own type of an entry takes, which are more.
    const BEHIND_THE_LAST: usize = 512;
    /// Eight times as many as any tool makes.
    const ENTRIES_MAX: u32 = 1024;
    if at + sector > bytes {
        return Ok(None);
    }
    let mut header = [0; HEADER_LEN];
    disk.read_exact_at(&mut header, at)?;
    let Ok(mut header) = GPTHeader::read_from(&mut Cursor::new(header)) else {
        return Ok(None);
    };
    // The checksum says that it is as it was written, not that it makes sense; gptman takes both on trust.
    if header.size_of_partition_entry != ENTRY_LEN || header.number_of_partition_entries > ENTRIES_MAX {
        return Ok(None);
    }
    let len = u64::from(ENTRY_LEN) * u64::from(header.number_of_partition_entries);
    let start = header.partition_entry_lba.checked_mul(sector);
    let Some(start) = start.filter(|start| start.checked_add(len).is_some_and(|end| end <= bytes)) else {
        return Ok(None);
    };
    let len = usize::try_from(len).expect("at most 128 KiB");
    let mut entries = vec![0; len + BEHIND_THE_LAST];
    disk.read_exact_at(&mut entries[..len], start)?;
    header.partition_entry_lba = 0;
    Ok(header.read_partitions(&mut Cursor::new(entries), sector).ok())
}

/// `None` if it lies nowhere.
fn of_gpt(device_name: &str, number: u32, entry: &GPTPartitionEntry, sector: u64) -> Option<Volume> {
    let start = entry.starting_lba.checked_mul(sector)?;
    let sectors = entry.ending_lba.checked_sub(entry.starting_lba)?.checked_add(1)?;
    let label = entry.partition_name.as_str();
    let facts = disks::Volume {
        device_name: partition_name(device_name, number),
        role: match guid(&entry.partition_type_guid).as_str() {
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => Role::EfiSystem,
            "21686148-6449-6e6f-744e-656564454649" => Role::BiosBoot,
            _ => Role::Data,
        },
        part_uuid: Some(guid(&entry.unique_partition_guid)),
        part_label: Some(label.to_owned()).filter(|label| !label.is_empty()),
        ..disks::Volume::default()
    };
    Some(Volume {
        facts,
        kind: None,
        start,
        bytes: sectors.checked_mul(sector)?,
    })
}

/// The first three parts of a GUID are little-endian.
fn guid(bytes: &[u8; 16]) -> String {
    let mut ordered = *bytes;
    ordered[..4].reverse();
    ordered[4..6].reverse();
    ordered[6..8].reverse();
    filesystems::uuid_text(&ordered)
}

/// Notes what the volumes are called by another name of their disk.
pub fn add_names(volumes: &mut [Volume], disk: &str, other: &str) {
    for volume in volumes {
        let number = volume.facts.device_name.strip_prefix(disk).unwrap_or_default();
        let number = number
            .trim_start_matches(|before: char| !before.is_ascii_digit())
            .parse();
        let name = number.map_or_else(|_| other.to_owned(), |number| partition_name(other, number));
        volume.facts.other_names.push(name);
    }
}

/// `sda1`, but `nvme0n1p1`, and what udev adds to names of its own.
fn partition_name(disk: &str, number: u32) -> String {
    let between = if disk.starts_with("/dev/disk/") {
        "-part"
    } else if disk.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{between}{number}")
}

fn refuse_overlaps(disk: &str, volumes: &[Volume]) -> Result<(), PartitionError> {
    let mut ordered: Vec<&Volume> = volumes.iter().collect();
    ordered.sort_by_key(|volume| volume.start);
    for pair in ordered.windows(2) {
        if pair[0].start + pair[0].bytes > pair[1].start {
            return Err(PartitionError::Overlap {
                disk: disk.to_owned(),
                one: pair[0].facts.device_name.clone(),
                other: pair[1].facts.device_name.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: u64 = 1 << 20;

    fn disk(pieces: &[(u64, &[u8])]) -> fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES).unwrap();
        for (at, piece) in pieces {
            file.write_all_at(piece, *at).unwrap();
        }
        file
    }

    /// The first sector of a disk with entries of a type, a first sector and a length.
    fn mbr(entries: &[(u8, u32, u32)]) -> [u8; 512] {
        let mut sector = [0; 512];
        for ((kind, first, sectors), entry) in entries.iter().zip(sector[446..].chunks_mut(16)) {
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..16].copy_from_slice(&sectors.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    /// A header of a GPT as `change` leaves it, with checksums that are right.
    fn header(change: impl FnOnce(&mut GPTHeader)) -> Vec<u8> {
        let mut disk = Cursor::new(vec![0; usize::try_from(BYTES).unwrap()]);
        let mut header = GPTHeader::new_from(&mut disk, 512, [7; 16]).unwrap();
        change(&mut header);
        let mut fields = [0; 92];
        fields[..8].copy_from_slice(&header.signature);
        fields[8..12].copy_from_slice(&header.revision);
        fields[12..16].copy_from_slice(&header.header_size.to_le_bytes());
        let numbers = [
            header.primary_lba,
            header.backup_lba,
            header.first_usable_lba,
            header.last_usable_lba,
        ];
        for (number, field) in numbers.iter().zip(fields[24..56].chunks_mut(8)) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        fields[56..72].copy_from_slice(&header.disk_guid);
        fields[72..80].copy_from_slice(&header.partition_entry_lba.to_le_bytes());
        fields[80..84].copy_from_slice(&header.number_of_partition_entries.to_le_bytes());
        fields[84..88].copy_from_slice(&header.size_of_partition_entry.to_le_bytes());
        fields[88..].copy_from_slice(&header.partition_entry_array_crc32.to_le_bytes());
        let sum = header.generate_crc32_checksum();
        fields[16..20].copy_from_slice(&sum.to_le_bytes());
        fields.to_vec()
    }

    type Change = fn(&mut GPTHeader);

    fn refused(disk: &fs::File) -> String {
        read("/dev/sda", disk, BYTES).unwrap_err().to_string()
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused_before_it_is_read() {
        let protective = mbr(&[(PROTECTIVE, 1, u32::MAX)]);
        let changes: [Change; 5] = [
            |header| header.number_of_partition_entries = u32::MAX,
            |header| header.size_of_partition_entry = 1,
            |header| header.size_of_partition_entry = u32::MAX,
            |header| header.partition_entry_lba = u64::MAX,
            |header| header.partition_entry_lba = u64::MAX / 512,
        ];
        for change in changes {
            let disk = disk(&[(0, &protective), (512, &header(change))]);
            assert_eq!(
                refused(&disk),
                "cannot read the partitions of /dev/sda: both copies of its GPT are damaged"
            );
        }
    }

    #[test]
    fn a_chain_that_leads_back_has_an_end() {
        let first = mbr(&[(0x05, 8, 1000)]);
        let again = mbr(&[(0x83, 8, 8), (0x05, 0, 1000)]);
        let disk = disk(&[(0, &first), (8 * 512, &again)]);
        assert_eq!(
            refused(&disk),
            "cannot read the partitions of /dev/sda: the chain of logical partitions has no end"
        );
    }

    #[test]
    fn volumes_do_not_share_sectors_and_end_with_the_disk() {
        let overlapping = disk(&[(0, &mbr(&[(0x83, 8, 100), (0x83, 107, 100)]))]);
        assert_eq!(
            refused(&overlapping),
            "cannot use the partitions of /dev/sda: /dev/sda1 and /dev/sda2 share sectors"
        );
        let too_long = disk(&[(0, &mbr(&[(0x83, 8, u32::MAX), (0x83, u32::MAX, 9)]))]);
        let (_, volumes) = read("/dev/sda", &too_long, BYTES).unwrap();
        assert_eq!(volumes.len(), 1);
        assert_eq!(volumes[0].start + volumes[0].bytes, BYTES);
    }

    proptest! {
        #[test]
        fn any_table_is_survived(
            entries in proptest::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 4),
            logical in proptest::collection::vec((any::<u8>(), 0..2048_u32, 0..2048_u32), 2),
            at in 0..2047_u64,
            junk in proptest::collection::vec(any::<u8>(), 92),
        ) {
            let (first, next) = (mbr(&entries), mbr(&logical));
            let disk = disk(&[(0, &first), (512, &junk), (at * 512, &next)]);
            if let Ok((_, volumes)) = read("/dev/sda", &disk, BYTES) {
                for volume in volumes {
                    prop_assert!(volume.start + volume.bytes <= BYTES);
                }
            }
        }
    }
}
