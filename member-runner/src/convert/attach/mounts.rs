//! The guest's file tree: its root, and what its fstab mounts over it.
//!
//! ```text
//! find the root ─▶ mount it ─▶ mount the rest, shortest paths first ─▶ (conversion) ─▶ unmount in reverse
//! ```
//!
//! Mounting replays the log of a file system that was not unmounted; a checkpoint always is one. Everything is mounted
//! in the worker's own namespace, without devices and without set-user-id. A mount point is looked for within the
//! guest's root: a symbolic link there does not lead out.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount},
};

use super::{
    Attached, VolumeAt,
    esp::{Esp, EspError},
    filesystems::Kind,
    loops::LoopError,
    mounted, names,
};
use crate::convert::{
    inspect::{
        disks::Closed,
        fstab::{self, FstabEntry, Spec},
    },
    tree::{Tree, TreeError},
};

/// Without these a guest cannot be changed sensibly; what is mounted elsewhere may be missing.
const NEEDED: [&str; 3] = ["/boot", "/usr", "/var"];
/// Where the EFI system partition is mounted; FAT elsewhere is no business of a conversion.
const ESP: [&str; 3] = ["/boot/efi", "/efi", "/boot"];
/// The copy of its files, beside the guest's root.
const ESP_FOLDER: &str = "esp";
const NOT_THERE: &str = "no volume that can be reached on the replicated disks has this name";
/// What is said of volumes that cannot be used, of which there may be hundreds.
const CLOSED_NAMED: usize = 4;
/// The subvolumes of btrfs that are looked at in search of a root.
const SUBVOLUMES_MAX: usize = 64;

/// Whether what is on the guest's file systems may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    MayRun,
    MayNotRun,
}

/// The mounted tree of a guest. Unmounted when it is dropped, by force where need be, and without what was to be written
/// to its EFI system partition.
#[derive(Debug)]
pub struct Guest {
    root: PathBuf,
    is_mounted: bool,
    esp: Option<Esp>,
    /// The root first.
    pub mounted: Vec<Mounted>,
    pub not_mounted: Vec<NotMounted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// In the guest's eyes.
    pub path: String,
    pub volume: VolumeAt,
}

/// What the guest's fstab names and nobody mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMounted {
    pub path: String,
    pub spec: String,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot convert: no root file system can be reached ({})", listed(.0))]
    Closed(Vec<Closed>),
    #[error("cannot convert: no volume of these disks has a root file system{}", reasons(.looked_at))]
    NoRoot { looked_at: Vec<String> },
    #[error("cannot convert: {} have a root file system, and their fstab does not say which is started", .0.join(" and "))]
    SeveralRoots(Vec<String>),
    #[error("cannot convert: {path} of the guest, {spec}, cannot be mounted: {why}")]
    Needed { path: String, spec: String, why: String },
    #[error("cannot unmount the guest; something still uses it")]
    Unmount(#[source] io::Error),
    #[error("cannot use {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Esp(#[from] EspError),
    #[error(transparent)]
    Loop(#[from] LoopError),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A volume, and the subvolume of it if it is not the one that is mounted by default.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Root {
    volume: VolumeAt,
    subvolume: Option<String>,
}

impl Root {
    fn options(&self) -> String {
        let subvolume = self.subvolume.as_ref();
        subvolume.map(|name| format!("subvol={name}")).unwrap_or_default()
    }
}

impl Guest {
    /// Finds the guest's root among the volumes and mounts it at `at`, which is created, with all that belongs to it.
    pub fn mount(attached: &mut Attached, at: &Path, programs: Programs) -> Result<Self, MountError> {
        fs::create_dir_all(at).map_err(|source| MountError::Folder {
            path: at.to_owned(),
            source,
        })?;
        // What /proc says of it, and what is unmounted by.
        let at = &at.canonicalize().map_err(|source| MountError::Folder {
            path: at.to_owned(),
            source,
        })?;
        let root = find_root(attached, at)?;
        let mut guest = Self {
            root: at.clone(),
            is_mounted: true,
            esp: None,
            mounted: Vec::new(),
            not_mounted: Vec::new(),
        };
        let flags = flags(programs);
        mount_volume(attached, root.volume, at, flags, &root.options()).map_err(|why| {
            MountError::Needed {
                path: "/".into(),
                spec: attached.volume(root.volume).facts.device_name.clone(),
                why: why.to_string(),
            }
        })?;
        guest.note("/", root.volume);
        let entries = entries(&Tree::open(at)?)?;
        names::rename(attached, &entries);
        let (own, mut others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.mount_point == "/");
        // Whatever is mounted below another comes after it.
        others.sort_by_key(|entry| entry.mount_point.matches('/').count());
        for entry in others {
            let is_on_root = own.iter().any(|own| own.spec == entry.spec);
            let source = if is_on_root {
                // A name of the source's hardware means nothing here, but what it stood for is found.
                Source::Volume(root.volume)
            } else {
                source(attached, &entry)
            };
            guest.mount_entry(attached, &entry, source, flags)?;
        }
        Ok(guest)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn mount_entry(
        &mut self,
        attached: &mut Attached,
        entry: &FstabEntry,
        source: Source,
        flags: MountFlags,
    ) -> Result<(), MountError> {
        let why = match source {
            Source::NoDisk => return Ok(()),
            Source::Missing(why) => why,
            Source::Volume(volume) => match self.try_mount(attached, entry, volume, flags) {
                Ok(()) => {
                    self.note(&entry.mount_point, volume);
                    return Ok(());
                }
                Err(why) => why.to_string(),
            },
        };
        if NEEDED.contains(&entry.mount_point.as_str()) && !entry.is_optional() {
            return Err(MountError::Needed {
                path: entry.mount_point.clone(),
                spec: entry.spec.clone(),
                why,
            });
        }
        self.not_mounted.push(NotMounted {
            path: entry.mount_point.clone(),
            spec: entry.spec.clone(),
            why,
        });
        Ok(())
    }

    fn try_mount(
        &mut self,
        attached: &mut Attached,
        entry: &FstabEntry,
        volume: VolumeAt,
        flags: MountFlags,
    ) -> Result<(), WhyNot> {
        let folder = self.mount_point(&entry.mount_point)?;
        if attached.volume(volume).kind == Some(Kind::Vfat)
            && ESP.contains(&entry.mount_point.as_str())
            && self.esp.is_none()
        {
            return self.mount_esp(attached, volume, &folder, flags);
        }
        mount_volume(attached, volume, &folder, flags, &subvolume(entry))
    }

    /// Has a copy of the files of an EFI system partition in its place.
    fn mount_esp(
        &mut self,
        attached: &mut Attached,
        volume: VolumeAt,
        folder: &Path,
        flags: MountFlags,
    ) -> Result<(), WhyNot> {
        let device = attached.device(volume).map_err(WhyNot::Loop)?;
        let device_name = &attached.volume(volume).facts.device_name;
        let esp = Esp::copy(&device, device_name, &self.root.with_file_name(ESP_FOLDER));
        let esp = self.esp.insert(esp.map_err(WhyNot::Esp)?);
        mount_bind(esp.folder(), folder)
            .and_then(|()| mount_remount(folder, MountFlags::BIND | flags, c""))
            .map_err(|error| WhyNot::Refused {
                kind: Kind::Vfat,
                error,
            })
    }

    /// A folder of the guest, by its own name.
    fn mount_point(&self, path: &str) -> Result<PathBuf, WhyNot> {
        let root = rustix::fs::open(&self.root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(WhyNot::MountPoint)?;
        let folder = rustix::fs::openat2(
            &root,
            path.trim_start_matches('/'),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(WhyNot::MountPoint)?;
        fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).map_err(WhyNot::Name)
    }

    fn note(&mut self, path: &str, volume: VolumeAt) {
        self.mounted.push(Mounted {
            path: path.to_owned(),
            volume,
        });
    }

    /// Writes everything back and unmounts it, and whatever else was mounted below the guest's root.
    pub fn unmount(mut self) -> Result<(), MountError> {
        if let Some(esp) = &self.esp {
            esp.write_back()?;
        }
        mounted::unmount_below(&self.root, UnmountFlags::empty()).map_err(MountError::Unmount)?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = mounted::unmount_below(&self.root, UnmountFlags::DETACH)
        {
            tracing::warn!(root = %self.root.display(), %error, "a guest's file system stays mounted");
        }
    }
}

/// What an entry of fstab stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Volume(VolumeAt),
    /// It is on a disk, or on something that is made of disks; why it is not to be had.
    Missing(String),
    NoDisk,
}

fn source(attached: &Attached, entry: &FstabEntry) -> Source {
    let spec = entry.spec();
    let facts = attached.facts(None, None);
    if let Some(volume) = facts.volume(spec) {
        let found = attached
            .volumes()
            .find(|(_, found)| found.facts.device_name == volume.device_name);
        return found.map_or(Source::NoDisk, |(at, _)| Source::Volume(at));
    }
    let why = match spec {
        Spec::NoDisk | Spec::Network(_) => return Source::NoDisk,
        Spec::Hardware(_) => "only the source's hardware gives this name a meaning",
        Spec::Mapped(name) | Spec::Md(name) | Spec::Kernel(name) => {
            let closed = attached.closed.iter().find(|closed| closed.is_called(name));
            closed.map_or(NOT_THERE, |closed| &closed.why)
        }
        Spec::Uuid(_) | Spec::Label(_) | Spec::PartUuid(_) | Spec::PartLabel(_) => NOT_THERE,
    };
    Source::Missing(why.to_owned())
}

/// The entries of fstab with a mount point.
fn entries(tree: &Tree) -> Result<Vec<FstabEntry>, TreeError> {
    let text = tree.read("/etc/fstab")?.unwrap_or_default();
    let (mut entries, _) = fstab::parse(&String::from_utf8_lossy(&text));
    entries.retain(|entry| !entry.is_swap() && entry.mount_point.starts_with('/'));
    for entry in &mut entries {
        let len = entry.mount_point.trim_end_matches('/').len();
        entry.mount_point.truncate(len.max(1));
    }
    Ok(entries)
}

/// The options that choose what of a file system is mounted; the others are ours to choose.
fn subvolume(entry: &FstabEntry) -> String {
    let chosen = entry.options.iter();
    let chosen = chosen.filter(|option| option.starts_with("subvol=") || option.starts_with("subvolid="));
    chosen.map(String::as_str).collect::<Vec<_>>().join(",")
}

fn flags(programs: Programs) -> MountFlags {
    // Reading writes no times.
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    match programs {
        Programs::MayRun => flags,
        Programs::MayNotRun => flags | MountFlags::NOEXEC,
    }
}

/// The one root that there is, or the one of several whose own fstab says that it is mounted at `/`.
fn find_root(attached: &mut Attached, at: &Path) -> Result<Root, MountError> {
    let mut roots = Vec::new();
    let mut looked_at = Vec::new();
    let volumes: Vec<_> = attached
        .volumes()
        .map(|(at, volume)| (at, volume.clone()))
        .collect();
    for (volume, found) in &volumes {
        let Some(kind) = found.kind.filter(|kind| kind.mounting().is_some()) else {
            continue;
        };
        match roots_of(attached, *volume, kind, at) {
            Ok(found) => roots.extend(found),
            Err(why) => looked_at.push(format!("{}: {why}", found.facts.device_name)),
        }
    }
    if roots.iter().any(|(_, says_so)| *says_so) {
        roots.retain(|(_, says_so)| *says_so);
    }
    match &*roots {
        [(root, _)] => Ok(root.clone()),
        [] if attached.closed.is_empty() => Err(MountError::NoRoot { looked_at }),
        [] => Err(MountError::Closed(attached.closed.clone())),
        several => Err(MountError::SeveralRoots(
            several
                .iter()
                .map(|(root, _)| attached.volume(root.volume).facts.device_name.clone())
                .collect(),
        )),
    }
}

/// The roots on a volume, and for each whether its fstab says that it is one.
fn roots_of(
    attached: &mut Attached,
    volume: VolumeAt,
    kind: Kind,
    at: &Path,
) -> Result<Vec<(Root, bool)>, WhyNot> {
    let looking = flags(Programs::MayNotRun) | MountFlags::RDONLY;
    let by_default = Root {
        volume,
        subvolume: None,
    };
    if let Some(found) = look(attached, by_default, at, looking)? {
        return Ok(vec![found]);
    }
    let mut found = Vec::new();
    if kind == Kind::Btrfs {
        for name in subvolumes(attached, volume, at, looking)? {
            let subvolume = Some(name);
            found.extend(look(attached, Root { volume, subvolume }, at, looking)?);
        }
    }
    Ok(found)
}

fn look(
    attached: &mut Attached,
    root: Root,
    at: &Path,
    looking: MountFlags,
) -> Result<Option<(Root, bool)>, WhyNot> {
    mount_volume(attached, root.volume, at, looking, &root.options())?;
    let _mounted = Look(at);
    let tree = Tree::open(at).map_err(WhyNot::Tree)?;
    if !is_root(&tree, "").map_err(WhyNot::Tree)? {
        return Ok(None);
    }
    let entries = entries(&tree).map_err(WhyNot::Tree)?;
    let own = entries.iter().find(|entry| entry.mount_point == "/");
    let says_so = own.is_some_and(|own| source(attached, own) == Source::Volume(root.volume));
    Ok(Some((root, says_so)))
}

/// Folders at the top of a btrfs that look like a root: `@`, `@rootfs`, `root`.
fn subvolumes(
    attached: &mut Attached,
    volume: VolumeAt,
    at: &Path,
    looking: MountFlags,
) -> Result<Vec<String>, WhyNot> {
    // The top has this identifier in every btrfs, whichever subvolume is mounted by default.
    mount_volume(attached, volume, at, looking, "subvolid=5")?;
    let _mounted = Look(at);
    let tree = Tree::open(at).map_err(WhyNot::Tree)?;
    let names = tree.list("/").map_err(WhyNot::Tree)?;
    let mut roots = Vec::new();
    for name in names.into_iter().take(SUBVOLUMES_MAX) {
        // A comma would begin another option.
        if !name.contains(',') && is_root(&tree, &format!("/{name}")).map_err(WhyNot::Tree)? {
            roots.push(name);
        }
    }
    Ok(roots)
}

/// A mount that is gone when it was looked at.
struct Look<'a>(&'a Path);

impl Drop for Look<'_> {
    fn drop(&mut self) {
        if rustix::mount::unmount(self.0, UnmountFlags::NOFOLLOW).is_err() {
            let _detached = rustix::mount::unmount(self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

fn is_root(tree: &Tree, below: &str) -> Result<bool, TreeError> {
    let is_there = |name: &str| tree.kind(&format!("{below}{name}")).map(|kind| kind.is_some());
    // Distributions of before 2012 have no os-release. A separate /usr is not there yet, but its mount point is, and
    // so is the link into it.
    Ok((is_there("/etc/os-release")? || is_there("/etc/fstab")?) && (is_there("/usr")? || is_there("/bin")?))
}

/// Why a volume is not mounted.
#[derive(Debug, thiserror::Error)]
enum WhyNot {
    #[error("{} is not a file system that is mounted here", .0.map_or("what it holds", Kind::name))]
    Content(Option<Kind>),
    #[error("the kernel of the runner does not know {0}")]
    Kernel(Kind),
    #[error("the kernel refuses to mount its {kind}: {error}")]
    Refused { kind: Kind, error: Errno },
    #[error("its mount point: {0}")]
    MountPoint(Errno),
    #[error("its mount point: {0}")]
    Name(io::Error),
    #[error(transparent)]
    Esp(EspError),
    #[error(transparent)]
    Tree(TreeError),
    #[error(transparent)]
    Loop(LoopError),
}

fn mount_volume(
    attached: &mut Attached,
    at: VolumeAt,
    target: &Path,
    flags: MountFlags,
    options: &str,
) -> Result<(), WhyNot> {
    let volume = attached.volume(at);
    let kind = volume.kind;
    let Some((kind, mounting)) = kind.and_then(|kind| Some((kind, kind.mounting()?))) else {
        return Err(WhyNot::Content(kind));
    };
    let device = attached.device(at).map_err(WhyNot::Loop)?;
    let options = [mounting.options, options];
    let options: Vec<&str> = options.into_iter().filter(|one| !one.is_empty()).collect();
    let data = std::ffi::CString::new(options.join(",")).map_err(|_| WhyNot::MountPoint(Errno::INVAL))?;
    match mount(&device, target, mounting.fs_type, flags, &*data) {
        Ok(()) => Ok(()),
        Err(Errno::NODEV) => Err(WhyNot::Kernel(kind)),
        Err(error) => Err(WhyNot::Refused { kind, error }),
    }
}

fn listed(closed: &[Closed]) -> String {
    let first: Vec<String> = closed
        .iter()
        .take(CLOSED_NAMED)
        .map(ToString::to_string)
        .collect();
    first.join("; ")
}

fn reasons(looked_at: &[String]) -> String {
    if looked_at.is_empty() {
        return String::new();
    }
    format!(": {}", looked_at.join("; "))
}
