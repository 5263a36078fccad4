//! What a launch wants of the guest, as far as its files are concerned.

use std::collections::BTreeMap;

use domain::conversion::Network;
use serde::{Deserialize, Serialize};

use super::inspect::disks::{Content, DiskFacts, Role};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub network: Network,
    /// What the source called its disks and partitions, "/dev/sda1" or "/dev/disk/by-path/…", and what is on those
    /// that the instance has as well.
    pub devices: BTreeMap<String, Device>,
    /// Nothing is on the instance's disks but `devices`. If not, what a UUID or label names may still be there.
    pub devices_are_all: bool,
}

impl Plan {
    pub fn new(network: Network, disks: &DiskFacts) -> Self {
        let devices = disks.volumes().map(|volume| {
            let device = Device {
                uuid: volume.uuid.clone(),
                label: volume.label.clone(),
                part_uuid: volume.part_uuid.clone(),
            };
            (volume.device_name.clone(), device)
        });
        Self {
            network,
            devices: devices.collect(),
            // There may be anything in what cannot be used.
            devices_are_all: disks.closed.is_empty()
                && !disks
                    .volumes()
                    .any(|volume| volume.content == Content::Unknown && volume.role == Role::Data),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::recorded::Recorded;

    fn plan(disks: &str) -> Plan {
        Plan::new(Network::Keep, &Recorded::unpack(disks).disks)
    }

    #[test]
    fn a_plan_knows_the_devices_and_whether_they_are_all() {
        let plain = "== disk /dev/sda gpt boot\n== volume /dev/sda1 bios\n== volume /dev/sda2 ext4 uuid=22 label=root\n\
                     == volume /dev/sda3 swap partuuid=33\n";
        let found = plan(plain);
        assert_eq!(
            found.devices["/dev/sda2"].stable_name().as_deref(),
            Some("UUID=22")
        );
        assert_eq!(found.devices["/dev/sda2"].label.as_deref(), Some("root"));
        assert_eq!(
            found.devices["/dev/sda3"].stable_name().as_deref(),
            Some("PARTUUID=33")
        );
        assert_eq!(found.devices["/dev/sda1"].stable_name(), None);
        assert!(found.devices_are_all);
        for hidden in ["closed /dev/sda4 luks", "volume /dev/sda4 uuid=44"] {
            assert!(
                !plan(&format!("{plain}== {hidden}\n")).devices_are_all,
                "{hidden}"
            );
        }
    }
}
