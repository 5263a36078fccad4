//! What a launch wants of the guest, as far as its files are concerned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub network: Network,
    /// What the source called its disks and partitions, "/dev/sda1" or "/dev/disk/by-path/…", and what is on those
    /// that the instance has as well.
    pub devices: BTreeMap<String, Device>,
    /// Nothing is on the instance's disks but `devices`: the runner could look into all of them, LVM among them. If
    /// not, what a UUID or label names may still be there.
    pub devices_are_all: bool,
}

/// How the instance gets its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// By DHCP, as every subnet offers it.
    #[default]
    Dhcp,
    /// Those of the source: the launch copies its private address, and the subnet fits.
    Keep,
}

/// What names a device wherever it is attached, as `blkid` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    /// Of the file system, swap space or LUKS volume.
    pub uuid: Option<String>,
    pub label: Option<String>,
    /// Of the partition. Disks with an MBR have it as well.
    pub part_uuid: Option<String>,
}

impl Device {
    /// The partition's where there is nothing with a UUID on it, as on swap space with a new key at every start.
    pub fn stable_name(&self) -> Option<String> {
        let uuid = self.uuid.as_ref().map(|uuid| format!("UUID={uuid}"));
        uuid.or_else(|| self.part_uuid.as_ref().map(|uuid| format!("PARTUUID={uuid}")))
    }
}
