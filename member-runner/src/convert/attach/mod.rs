//! Clones of disks as mounted file systems.
//!
//! ```text
//! Overlay ─▶ file (FUSE) ─▶ loop device per volume ─▶ mounted at the guest's root
//! ```
//!
//! - [`fuse`]: each clone as a file, and [`loops`]: volumes of it as loop devices.
//! - [`partitions`], [`mbr`], [`filesystems`]: where the volumes are, and what is on them.
//! - [`md`], [`lvm`]: volumes that are made of stretches of others, by their [`place`]s, and [`mapping`]: how they become
//!   files as well.
//! - [`esp`]: the files of an EFI system partition, which is not mounted.
//! - [`mounts`]: the guest's file tree, put together as its fstab says, and [`mounted`]: what is mounted.

pub mod esp;
pub mod filesystems;
pub mod fuse;
pub mod loops;
mod lvm;
pub mod mapping;
pub mod mbr;
mod md;
pub mod mounted;
pub mod mounts;
mod names;
pub mod partitions;
mod place;

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
    filesystems::{CheckError, Kind},
    loops::{LoopDevice, LoopError},
    mapping::Opened,
    mounts::Guest,
    partitions::{PartitionError, Volume},
    place::Place,
};
use super::inspect::disks::{self, AttachedDisk, Closed, Content, Degraded, DiskFacts, PartitionTable};

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
    /// After the source's disks, its arrays, and then its logical volumes, which are disks that one volume fills.
    pub disks: Vec<Disk>,
    /// What is on the disks and cannot be used.
    pub closed: Vec<Closed>,
    /// Arrays that are used without some of their members.
    pub degraded: Vec<Degraded>,
    devices: Vec<(VolumeAt, LoopDevice)>,
    files: PathBuf,
}

/// Finds the volumes of a disk.
type Read = fn(&str, &fs::File, u64) -> Result<(Option<PartitionTable>, Vec<Volume>), PartitionError>;

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
    #[error("cannot read the members of md's arrays")]
    Md(#[source] io::Error),
    #[error("cannot read LVM's physical volumes")]
    Lvm(#[source] io::Error),
    #[error("cannot use md's arrays or LVM's logical volumes")]
    Map(#[source] io::Error),
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
            closed: Vec::new(),
            degraded: Vec::new(),
            devices: Vec::new(),
            files: files.to_owned(),
        };
        let mut opened = Vec::new();
        for disk in disks {
            opened.push(attached.open_disk(disk.clone(), &[], partitions::read)?);
        }
        let arrays = md::find(&attached.places(Kind::Md, &opened)).map_err(AttachError::Md)?;
        attached.closed.extend(arrays.closed);
        attached.degraded = arrays.degraded;
        opened.extend(attached.open_mapped(arrays.opened, partitions::read)?);
        let logical = lvm::find(&attached.places(Kind::Lvm, &opened)).map_err(AttachError::Lvm)?;
        attached.closed.extend(logical.closed);
        attached.open_mapped(logical.opened, partitions::whole)?;
        let closed: Vec<Closed> = attached
            .volumes()
            .filter_map(|(_, volume)| closed(volume))
            .collect();
        attached.closed.extend(closed);
        Ok(attached)
    }

    /// Of the volumes that are part of something.
    fn places<'a>(&'a self, kind: Kind, files: &'a [fs::File]) -> Vec<Place<'a>> {
        let parts = self.volumes().filter(|(_, volume)| volume.kind == Some(kind));
        let places = parts.map(|(at, volume)| Place {
            device_name: &volume.facts.device_name,
            file: &files[at.disk],
            disk: at.disk,
            start: volume.start,
            bytes: volume.bytes,
        });
        places.collect()
    }

    /// Adds what is made of parts of the disks there are.
    fn open_mapped(&mut self, opened: Vec<Opened>, read: Read) -> Result<Vec<fs::File>, AttachError> {
        let (names, maps): (Vec<_>, Vec<_>) = opened
            .into_iter()
            .map(|opened| (opened.names, opened.mapped))
            .unzip();
        if !maps.is_empty() {
            fuse::map(&self.files, &maps).map_err(AttachError::Map)?;
        }
        let mut files = Vec::new();
        for (mut names, mapped) in names.into_iter().zip(&maps) {
            let disk = DiskFile {
                device_name: names.remove(0),
                is_boot: false,
                bytes: mapped.bytes(),
            };
            files.push(self.open_disk(disk, &names, read)?);
        }
        Ok(files)
    }

    /// Adds a disk, whose file is the next.
    fn open_disk(&mut self, disk: DiskFile, names: &[String], read: Read) -> Result<fs::File, AttachError> {
        let file = self.open_file(&disk)?;
        let (table, mut volumes) = read(&disk.device_name, &file, disk.bytes)?;
        for name in names {
            partitions::add_names(&mut volumes, &disk.device_name, name);
        }
        self.disks.push(Disk {
            file: disk,
            table,
            volumes,
        });
        Ok(file)
    }

    /// That of the next disk.
    fn open_file(&self, disk: &DiskFile) -> Result<fs::File, AttachError> {
        let path = self.file(self.disks.len());
        fs::File::open(&path).map_err(|source| AttachError::Disk {
            disk: disk.device_name.clone(),
            path,
            source,
        })
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
            closed: self.closed.clone(),
            degraded: self.degraded.clone(),
            reported_boot_mode,
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

/// Why what is in a volume cannot be used.
fn closed(volume: &Volume) -> Option<Closed> {
    let why = match volume.facts.content {
        Content::Luks => "it is encrypted with LUKS",
        Content::Md if volume.facts.is_logical() => "it is a member of an md array, and no part of a disk",
        _ => return None,
    };
    Some(Closed {
        content: volume.facts.content.clone(),
        names: vec![volume.facts.device_name.clone()],
        why: why.to_owned(),
    })
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
