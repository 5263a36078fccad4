//! What the disks of a checkpoint show beside files: partitions, and what is on them.
//!
//! Whoever attaches the disks fills this in. Nothing here reads one.

use domain::launch::BootMode;
use serde::{Deserialize, Serialize};

use super::fstab::Spec;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskFacts {
    /// What was opened within LVM, md or LUKS is on a disk of its own, without a table: `/dev/mapper/vg-root`.
    pub disks: Vec<AttachedDisk>,
    /// How the server was started when its agent last looked.
    pub reported_boot_mode: Option<BootMode>,
    /// Whether LVM and LUKS can be opened here.
    pub device_mapper: bool,
    /// Whether md arrays can be assembled here.
    pub md: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedDisk {
    /// As the source calls it: `/dev/sda`.
    pub device_name: String,
    pub is_boot: bool,
    /// `None` where a file system fills the disk.
    pub table: Option<PartitionTable>,
    /// The partitions, or the one volume that fills the disk.
    pub volumes: Vec<Volume>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionTable {
    Mbr,
    Gpt,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Volume {
    /// As the source calls it: `/dev/sda1`.
    pub device_name: String,
    pub role: Role,
    pub content: Content,
    /// Of what is on it, and of the partition itself.
    pub uuid: Option<String>,
    pub label: Option<String>,
    pub part_uuid: Option<String>,
    pub part_label: Option<String>,
    /// Where it is mounted in the guest's tree; `None` if it is not.
    pub mounted_at: Option<String>,
}

/// What the type of a partition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Role {
    #[default]
    Data,
    EfiSystem,
    /// Where GRUB's core image is on a GPT disk that a BIOS starts.
    BiosBoot,
}

/// What blkid would say is on a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Content {
    #[default]
    Unknown,
    /// `ext4`, `xfs`, `vfat`.
    FileSystem(String),
    Swap,
    Lvm,
    Md,
    Luks,
}

impl DiskFacts {
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.disks.iter().flat_map(|disk| &disk.volumes)
    }

    pub fn has(&self, content: &Content) -> bool {
        self.volumes().any(|volume| volume.content == *content)
    }

    pub fn mounted_at(&self, path: &str) -> Option<&Volume> {
        self.volumes()
            .find(|volume| volume.mounted_at.as_deref() == Some(path))
    }

    /// The volume that a name stands for; `None` for names that only the source's hardware gives a meaning.
    pub fn volume(&self, spec: Spec) -> Option<&Volume> {
        let same = |found: &Option<String>, wanted: &str| {
            // FAT's identifiers are written in either case.
            found
                .as_ref()
                .is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        };
        self.volumes().find(|volume| match spec {
            Spec::Uuid(uuid) => same(&volume.uuid, uuid),
            Spec::Label(label) => volume.label.as_deref() == Some(label),
            Spec::PartUuid(uuid) => same(&volume.part_uuid, uuid),
            Spec::PartLabel(label) => volume.part_label.as_deref() == Some(label),
            Spec::Kernel(name) | Spec::Mapped(name) | Spec::Md(name) => volume.device_name == name,
            Spec::Hardware(_) | Spec::Network(_) | Spec::NoDisk => false,
        })
    }
}
