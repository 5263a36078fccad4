//! Disks, blocks and what is measured of them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

/// The unit of transfer, digests and snapshots: the block of the EBS direct APIs.
pub const BLOCK_LEN: usize = 512 << 10;

/// The largest disk: EBS's 64 TiB.
pub const DISK_LEN_MAX: u64 = 64 << 40;

/// Disks per server, as MGN's `replicatedDisks` allows.
pub const DISKS_MAX: usize = 60;

/// How many blocks a disk of `len` bytes has; the last may be shorter.
pub fn block_count(len: u64) -> u64 {
    len.div_ceil(BLOCK_LEN as u64)
}

/// The bytes of block `index` that lie within a disk of `len` bytes.
pub fn block_len(index: u64, len: u64) -> usize {
    let start = index * BLOCK_LEN as u64;
    // At most BLOCK_LEN, so it fits.
    #[allow(clippy::cast_possible_truncation)]
    let inside = len.saturating_sub(start).min(BLOCK_LEN as u64) as usize;
    inside
}

/// What names a disk for good, wherever it is attached: `wwn-…`, `serial-…`, or, for a disk without
/// either, `path-…`. It also names files, hence letters, digits, `.`, `_`, `-` only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a disk identifier: 1 to 128 letters, digits, '.', '_' or '-', not starting with '.'")]
pub struct InvalidDiskId(String);

impl DiskId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DiskId {
    type Err = InvalidDiskId;

    fn from_str(given: &str) -> Result<Self, InvalidDiskId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=128).contains(&given.len()) && !given.starts_with('.') && given.bytes().all(allowed) {
            Ok(Self(given.to_owned()))
        } else {
            Err(InvalidDiskId(given.chars().take(128).collect()))
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for DiskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DiskId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A disk of a source server, as its agent found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub id: DiskId,
    /// What the source calls it today, `/dev/sda`; may change with the next boot.
    pub device_name: String,
    pub bytes: u64,
    pub is_boot: bool,
}

/// MGN's `DataReplicationInfoReplicatedDisk`, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskProgress {
    pub id: DiskId,
    pub device_name: String,
    pub total_bytes: u64,
    /// Known to be with the runner, zeros included.
    pub replicated_bytes: u64,
    /// Compared so far in the running rescan.
    pub rescanned_bytes: u64,
    /// Known to have changed and not with the runner yet.
    pub backlogged_bytes: u64,
    /// How its changes are found; `None` until the agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
}

/// How the agent finds what changed on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Tracking {
    /// The kernel marks what is written, in chunks of this length.
    Tracker { chunk_bytes: u64 },
    /// The whole disk is compared for each checkpoint.
    Rescan {
        reason: String,
        /// What a person could do about it; `None` where nothing can be done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
    },
    /// The tracker runs and could not prove that it saw everything: one compare, then it is trusted again.
    Suspect { doubt: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_may_be_short() {
        let len = 3 * BLOCK_LEN as u64 + 512;
        assert_eq!(block_count(len), 4);
        assert_eq!(block_len(2, len), BLOCK_LEN);
        assert_eq!(block_len(3, len), 512);
        assert_eq!(block_len(4, len), 0);
    }

    #[test]
    fn a_disk_identifier_cannot_leave_its_folder() {
        for bad in ["", ".", "..", "a/b", "../x", "a\0b", "é"] {
            assert!(bad.parse::<DiskId>().is_err(), "{bad:?}");
        }
        assert!("wwn-0x5000c500a0b1c2d3".parse::<DiskId>().is_ok());
    }
}
