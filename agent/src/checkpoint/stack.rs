//! What lies on what: from a block device or a mount down to the disks that hold its data.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::disks::{
    DiskKind, LocalDisk, Roots,
    boot::{LAYERS_MAX, lower_devices},
    mountinfo::Mount,
};

/// Sizes in sysfs are in sectors of this many bytes, whatever the disk's own sectors are.
const SECTOR_LEN: u64 = 512;

/// The ways from devices and mounts to some disks.
#[derive(Debug)]
pub struct Stack<'a> {
    roots: &'a Roots,
    disks: &'a [LocalDisk],
    mounts: &'a [Mount],
    /// The file of each disk that is a file, or shows one.
    files: Vec<Option<PathBuf>>,
}

/// What something lies upon.
#[derive(Debug, Default)]
pub struct Below {
    /// Indexes of disks.
    pub disks: BTreeSet<usize>,
    /// How many file systems there are between it and a disk, on the longest way.
    pub file_systems: u32,
}

impl Below {
    fn add(&mut self, other: Self) {
        self.disks.extend(other.disks);
        self.file_systems = self.file_systems.max(other.file_systems);
    }
}

impl<'a> Stack<'a> {
    pub fn new(roots: &'a Roots, disks: &'a [LocalDisk], mounts: &'a [Mount]) -> Self {
        let file = |disk: &LocalDisk| match &disk.kind {
            DiskKind::File => Some(disk.path.clone()),
            DiskKind::Block { kernel_names } => kernel_names
                .iter()
                .find_map(|name| backing_file(&roots.sys.join("block").join(name))),
        };
        Self {
            roots,
            disks,
            mounts,
            files: disks.iter().map(file).collect(),
        }
    }

    pub fn below_mount(&self, mount: &Mount) -> Below {
        self.below_mount_at(mount, 0)
    }

    pub fn below_device(&self, folder: &Path) -> Below {
        self.below_device_at(folder, 0)
    }

    fn below_mount_at(&self, mount: &Mount, layer: u32) -> Below {
        let mut below = Below::default();
        for folder in self.devices_of(mount) {
            below.add(self.below_device_at(&folder, layer));
        }
        below
    }

    fn below_device_at(&self, folder: &Path, layer: u32) -> Below {
        let mut below = Below::default();
        if layer > LAYERS_MAX {
            return below;
        }
        below.disks.extend(self.disk_at(folder));
        for lower in lower_devices(folder) {
            below.add(self.below_device_at(&lower, layer + 1));
        }
        let Some(file) = backing_file(folder) else {
            return below;
        };
        below
            .disks
            .extend(self.files.iter().position(|known| known.as_ref() == Some(&file)));
        if let Some(device) = self.folder_of(&file) {
            below.add(self.below_device_at(&device, layer + 1));
        } else if let Some(mount) = self.mount_that_holds(&file) {
            let mut through = self.below_mount_at(mount, layer + 1);
            through.file_systems += 1;
            below.add(through);
        }
        below
    }

    /// The disk and the bytes on it that a device shows, if they are in one piece.
    pub fn area(&self, folder: &Path) -> Option<(usize, Range<u64>)> {
        let len = number(&folder.join("size"))? * SECTOR_LEN;
        if let Some(disk) = self.disk_at(folder) {
            return Some((disk, 0..self.disks[disk].disk.bytes));
        }
        let (disk, start) = if folder.join("partition").exists() {
            let disk = self.disk_at(folder.parent()?)?;
            (disk, number(&folder.join("start"))? * SECTOR_LEN)
        } else {
            let file = backing_file(folder)?;
            let of_device = || self.disk_at(&self.folder_of(&file)?);
            let of_file = self.files.iter().position(|known| known.as_ref() == Some(&file));
            (of_file.or_else(of_device)?, number(&folder.join("loop/offset"))?)
        };
        Some((
            disk,
            start..start.checked_add(len)?.min(self.disks[disk].disk.bytes),
        ))
    }

    /// The folder in sysfs of the block device at a path of `/dev`.
    pub fn folder_of(&self, device: &Path) -> Option<PathBuf> {
        let within = device.strip_prefix("/dev").ok()?;
        // A name of the device mapper is a link to the kernel's.
        let real = fs::canonicalize(self.roots.dev.join(within)).unwrap_or_else(|_| device.to_owned());
        self.folder_named(real.file_name()?.to_str()?)
    }

    fn folder_named(&self, name: &str) -> Option<PathBuf> {
        fs::canonicalize(self.roots.sys.join("class/block").join(name)).ok()
    }

    fn disk_at(&self, folder: &Path) -> Option<usize> {
        let name = folder.file_name()?.to_str()?;
        self.disks.iter().position(|disk| match &disk.kind {
            DiskKind::Block { kernel_names } => kernel_names.iter().any(|known| known == name),
            DiskKind::File => false,
        })
    }

    /// All block devices that a file system is on.
    fn devices_of(&self, mount: &Mount) -> Vec<PathBuf> {
        let by_number = fs::canonicalize(self.roots.sys.join("dev/block").join(&mount.number)).ok();
        // The kernel makes a number up where there may be several devices.
        let by_source = || -> Vec<PathBuf> {
            let named = mount.source.split(':').map(Path::new);
            named.filter_map(|device| self.folder_of(device)).collect()
        };
        let mut devices = by_number.map_or_else(by_source, |folder| vec![folder]);
        if mount.kind == "btrfs" {
            devices.extend(self.fellows_in_btrfs(&devices));
        }
        for option in ["logdev", "rtdev"] {
            let device = mount.option(option).map(Path::new);
            devices.extend(device.and_then(|device| self.folder_of(device)));
        }
        devices
    }

    /// The other devices of a btrfs that spans several.
    fn fellows_in_btrfs(&self, devices: &[PathBuf]) -> Vec<PathBuf> {
        let named = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        for file_system in named(&self.roots.sys.join("fs/btrfs")) {
            let members: Vec<_> = named(&file_system.path().join("devices"))
                .filter_map(|member| self.folder_named(member.file_name().to_str()?))
                .collect();
            if members.iter().any(|member| devices.contains(member)) {
                return members;
            }
        }
        Vec::new()
    }

    fn mount_that_holds(&self, file: &Path) -> Option<&Mount> {
        let holding = self.mounts.iter().filter(|mount| file.starts_with(&mount.point));
        // Of those for one place, the last is on top.
        holding.max_by_key(|mount| mount.point.components().count())
    }
}

/// The file that a loop device shows.
fn backing_file(folder: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(folder.join("loop/backing_file")).ok()?;
    let path = text.trim_end_matches('\n');
    Some(path.strip_suffix(" (deleted)").unwrap_or(path).into())
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
