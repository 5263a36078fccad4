//! What a launch wants of the guest, as far as its files are concerned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub network: Network,
    /// What the source called a disk or partition, "/dev/sda1", and what names it wherever it is attached.
    pub devices: BTreeMap<String, Device>,
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

/// What is on a disk or partition of the source that the instance has as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Of the file system, swap space or LUKS volume on it, as `blkid` says.
    pub uuid: Option<String>,
    /// Of the entry in a GPT.
    pub part_uuid: Option<String>,
}
