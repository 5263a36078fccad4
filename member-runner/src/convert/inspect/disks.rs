//! What the disks of a checkpoint show beside files: partitions, and what is on them.
//!
//! Whoever attaches the disks fills this in. Nothing here reads one.

use std::fmt;

use domain::launch::BootMode;
use serde::{Deserialize, Serialize};

use super::fstab::{Spec, tagged};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskFacts {
    /// An array of md is a disk of its own, and so is a logical volume of LVM, without a table: `/dev/mapper/vg-root`.
    pub disks: Vec<AttachedDisk>,
    pub closed: Vec<Closed>,
    pub degraded: Vec<Degraded>,
    /// How the server was started when its agent last looked.
    pub reported_boot_mode: Option<BootMode>,
}

/// What is on the disks and cannot be used: an array, a logical volume, or a volume with LUKS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// What it is closed by.
    pub content: Content,
    /// As the source calls it, the name that people use most first.
    pub names: Vec<String>,
    /// Of the volume: "it is encrypted with LUKS".
    pub why: String,
}

/// An array of md that works without some of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    pub array: String,
    /// For each of them, why: "/dev/sdb1 is older than the others".
    pub lacks: Vec<String>,
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
    /// Of an array or a logical volume: `/dev/md/0`, `/dev/vg/root`.
    pub other_names: Vec<String>,
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

impl Volume {
    fn is_called(&self, name: &str) -> bool {
        self.device_name == name || self.other_names.iter().any(|other| other == name)
    }

    /// Of an array or a logical volume: they stay the same on other disks. A partition or disk has none that does.
    pub fn lasting_names(&self) -> Vec<String> {
        if !self.is_logical() {
            return Vec::new();
        }
        [&self.device_name]
            .into_iter()
            .chain(&self.other_names)
            .cloned()
            .collect()
    }

    /// Whether it is made of parts of disks, or is within something that is.
    pub fn is_logical(&self) -> bool {
        matches!(tagged(&self.device_name), Spec::Mapped(_) | Spec::Md(_))
    }
}

impl Closed {
    pub fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Whether there may be volumes within it, of whatever name: it is more than one logical volume.
    pub fn may_hold_others(&self) -> bool {
        let is_mapped = |name: &String| matches!(tagged(name), Spec::Mapped(_));
        self.content != Content::Lvm || !self.names.first().is_some_and(is_mapped)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.names.first().map_or("a volume", String::as_str);
        write!(f, "{name}: {}", self.why)
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.array, self.lacks.join(", "))
    }
}

impl DiskFacts {
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.disks.iter().flat_map(|disk| &disk.volumes)
    }

    pub fn has(&self, content: &Content) -> bool {
        self.volumes().any(|volume| volume.content == *content)
    }

    pub fn closed_by(&self, content: &Content) -> Vec<&Closed> {
        self.closed
            .iter()
            .filter(|closed| closed.content == *content)
            .collect()
    }

    /// The arrays that a volume is on. A logical volume is taken to be on all that LVM has.
    pub fn arrays_below(&self, volume: &Volume) -> Vec<&Volume> {
        let is_mapped = matches!(tagged(&volume.device_name), Spec::Mapped(_));
        let is_below = |array: &&Volume| {
            matches!(tagged(&array.device_name), Spec::Md(_))
                && (array.device_name == volume.device_name || is_mapped && array.content == Content::Lvm)
        };
        self.volumes().filter(is_below).collect()
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
            Spec::Kernel(name) | Spec::Mapped(name) | Spec::Md(name) => volume.is_called(name),
            Spec::Hardware(_) | Spec::Network(_) | Spec::NoDisk => false,
        })
    }
}
