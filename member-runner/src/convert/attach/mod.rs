//! Clones of disks as mounted file systems.
//!
//! ```text
//! Overlay ─▶ file (FUSE) ─▶ loop device per volume ─▶ mounted at the guest's root
//! ```
//!
//! - [`fuse`]: each clone as a file, and [`loops`]: volumes of it as loop devices.
//! - [`mapping`]: volumes that are made of several stretches of disks, which become files as well.
//! - [`partitions`], [`mbr`], [`filesystems`]: where the volumes are, and what is on them.
//! - [`esp`]: the files of an EFI system partition, which is not mounted.
//! - [`mounts`]: the guest's file tree, put together as its fstab says, and [`mounted`]: what is mounted.

pub mod esp;
pub mod filesystems;
pub mod fuse;
pub mod loops;
pub mod mapping;
pub mod mbr;
pub mod mounted;
pub mod mounts;
mod names;
pub mod partitions;

#[cfg(test)]
pub(super) mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use domain::launch::BootMode;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use serde::{Deserialize, Serialize};

use self::{
    filesystems::CheckError,
    loops::{LoopDevice, LoopError},
    mounts::Guest,
    partitions::{PartitionError, Volume},
};
use super::inspect::disks::{self, AttachedDisk, DiskFacts, PartitionTable};

/// What a kernel does after the last user of something is gone, it does soon.
const RELEASED_WITHIN: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A disk of the source whose clone is a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFile {
    /// As the source calls it: `/dev/sda`.
    pub device_name: String,
    pub is_boot: bool,
    pub bytes: u64,
}

/// The clones of a server's disks, and those of their volumes that somebody wanted as devices.
#[derive(Debug)]
pub struct Attached {
    pub disks: Vec<Disk>,
    devices: Vec<(VolumeAt, LoopDevice)>,
    files: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub file: DiskFile,
    /// `None` where something else than a table is at the beginning.
    pub table: Option<PartitionTable>,
    /// In the order of their numbers; or the one that is the disk.
    pub volumes: Vec<Volume>,
}

/// Which volume of which disk, by their places in [`Attached::disks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeAt {
    pub disk: usize,
    pub volume: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("cannot read {disk} at {path}")]
    Disk {
        disk: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Partitions(#[from] PartitionError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error("{device_name} is still in use after {} s", RELEASED_WITHIN.as_secs())]
    InUse {
        device_name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot unmount the disks at {at}")]
    Files {
        at: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Attached {
    /// Reads where the volumes are of disks whose files are in the folder `files`, in the order in which the source
    /// names them. Nothing is attached or written yet.
    pub fn open(files: &Path, disks: &[DiskFile]) -> Result<Self, AttachError> {
        let mut attached = Self {
            disks: Vec::new(),
            devices: Vec::new(),
            files: files.to_owned(),
        };
        for (at, file) in disks.iter().enumerate() {
            let path = attached.file(at);
            let opened = fs::File::open(&path).map_err(|source| AttachError::Disk {
                disk: file.device_name.clone(),
                path,
                source,
            })?;
            let (table, volumes) = partitions::read(&file.device_name, &opened, file.bytes)?;
            attached.disks.push(Disk {
                file: file.clone(),
                table,
                volumes,
            });
        }
        Ok(attached)
    }

    /// The file of a disk, by its place.
    fn file(&self, disk: usize) -> PathBuf {
        self.files.join(disk.to_string())
    }

    pub fn volumes(&self) -> impl Iterator<Item = (VolumeAt, &Volume)> {
        self.disks.iter().enumerate().flat_map(|(disk, found)| {
            let volumes = found.volumes.iter().enumerate();
            volumes.map(move |(volume, found)| (VolumeAt { disk, volume }, found))
        })
    }

    pub fn volume(&self, at: VolumeAt) -> &Volume {
        &self.disks[at.disk].volumes[at.volume]
    }

    /// What the disks show. A guest that is mounted says where.
    pub fn facts(&self, guest: Option<&Guest>, reported_boot_mode: Option<BootMode>) -> DiskFacts {
        let mut disks: Vec<AttachedDisk> = self
            .disks
            .iter()
            .map(|disk| AttachedDisk {
                device_name: disk.file.device_name.clone(),
                is_boot: disk.file.is_boot,
                table: disk.table,
                volumes: disk.volumes.iter().map(|volume| volume.facts.clone()).collect(),
            })
            .collect();
        for mounted in guest.into_iter().flat_map(|guest| &guest.mounted) {
            let volume = &mut disks[mounted.volume.disk].volumes[mounted.volume.volume];
            // Of several subvolumes, the first: the root comes before the others.
            volume.mounted_at.get_or_insert_with(|| mounted.path.clone());
        }
        DiskFacts {
            disks,
            reported_boot_mode,
            device_mapper: Path::new("/sys/class/misc/device-mapper").exists(),
            md: Path::new("/proc/mdstat").exists(),
        }
    }

    /// The volumes that are attached by now, and their loop devices.
    pub fn devices(&self) -> Vec<(disks::Volume, PathBuf)> {
        let devices = self.devices.iter();
        let devices = devices.map(|(at, device)| (self.volume(*at).facts.clone(), device.path().to_owned()));
        devices.collect()
    }

    /// The loop device of a volume, which is attached if it is not yet.
    pub fn device(&mut self, at: VolumeAt) -> Result<PathBuf, LoopError> {
        let attached = self.devices.iter().find(|(volume, _)| *volume == at);
        if let Some((_, device)) = attached {
            return Ok(device.path().to_owned());
        }
        let volume = self.volume(at);
        let device = LoopDevice::attach(&self.file(at.disk), volume.start, volume.bytes)?;
        let path = device.path().to_owned();
        self.devices.push((at, device));
        Ok(path)
    }

    /// Checks every file system that was attached. Nothing may be mounted.
    pub fn check(&self) -> Result<(), AttachError> {
        for (at, device) in &self.devices {
            let Volume { facts, kind, .. } = self.volume(*at);
            // What the guest's programs saw of it ends a moment after them.
            released(|| open_alone(device.path())).map_err(|source| AttachError::InUse {
                device_name: facts.device_name.clone(),
                source,
            })?;
            if let Some(kind) = kind {
                filesystems::check(*kind, device.path(), &facts.device_name)?;
            }
        }
        Ok(())
    }

    /// Detaches everything and unmounts the files: all that was written is in the clones then. Nothing may be mounted.
    pub fn close(self) -> Result<(), AttachError> {
        let Self { devices, files, .. } = self;
        drop(devices);
        released(|| unmount(&files, UnmountFlags::NOFOLLOW))
            .map_err(|source| AttachError::Files { at: files, source })
    }
}

/// Fails while a device is mounted.
fn open_alone(device: &Path) -> rustix::io::Result<()> {
    rustix::fs::open(
        device,
        OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map(drop)
}

/// Does what cannot be done while something is in use, as soon as it is no longer.
fn released(mut attempt: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now() + RELEASED_WITHIN;
    loop {
        match attempt() {
            Err(Errno::BUSY) if Instant::now() < deadline => thread::park_timeout(ASK_EVERY),
            done => return Ok(done?),
        }
    }
}
