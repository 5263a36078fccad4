//! Clones of disks as files, through FUSE: one mount, a file for each disk, named "0", "1" and so on.
//!
//! ```text
//! worker:          mount, in its own namespace ─▶ descriptor of the connection ─▶ uses the files
//! serving process:                                serve ◀──┘                      answers, never uses them
//! ```
//!
//! They are two processes, because one that mounts what it serves itself may never end: the kernel unmounts in the
//! last thread of a killed process, before it closes the connection there, and waits for answers that nobody gives.
//!
//! Where volumes are made of several stretches of the disks, the worker writes a [map](super::mapping) to the file
//! "map", and from then on there is a file for each of them, numbered after the disks. Once more it may write one of
//! volumes that lie on these.
//!
//! Nothing is cached on the way: the loop device above keeps pages already, and the overlay below keeps blocks.
//! The files are there to be attached and to be read; they cannot be made, removed or resized.

use std::{
    ffi::{CString, OsStr},
    fs,
    io::{self, Write},
    ops::Range,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use rustix::{
    fs::{FallocateFlags, FileType as OpenedType, fstat, major, minor},
    mount::{MountFlags, mount as mount_at},
};

use super::mapping::{self, Mapped};
use crate::convert::{
    overlay::{Overlay, OverlayError},
    threads::{Background, NotEnded},
};

const DEVICE: &str = "/dev/fuse";
/// `MISC_MAJOR` and `FUSE_MINOR` of Linux.
const DEVICE_NUMBER: (u32, u32) = (10, 229);
/// While one waits for the store, the others answer what is there.
const THREADS: usize = 4;
/// A block at once.
const WRITE_LEN: u32 = 512 << 10;
/// Of the map, as JSON. It has to come in one request, and some thousand segments take no more.
const MAP_LEN_MAX: usize = 256 << 10;
/// One of arrays, and one of logical volumes.
const MAPS: usize = 2;
const MAP: &str = "map";
const MAP_INODE: INodeNo = INodeNo(u64::MAX);
/// Nothing changes but the contents.
const FOR_GOOD: Duration = Duration::from_secs(1 << 20);

/// Mounts the files at `at`, which is created, in the mount namespace of the thread. Whoever uses them waits until
/// the descriptor is served; when nobody holds it any more, every use of them is an error.
pub fn mount(at: &Path) -> io::Result<OwnedFd> {
    fs::create_dir_all(at)?;
    let connection = fs::File::options().read(true).write(true).open(DEVICE)?;
    // QEMU is not root, and is given open files; it can open none of them.
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        connection.as_raw_fd()
    );
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_at("orglift", at, "fuse.orglift", flags, &*CString::new(options)?)?;
    Ok(connection.into())
}

/// Has the mount at `at` show these volumes as files. To be done [`MAPS`] times at most.
pub fn map(at: &Path, volumes: &[Mapped]) -> io::Result<()> {
    let map = serde_json::to_vec(volumes)?;
    if map.len() > MAP_LEN_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "their map is too long",
        ));
    }
    let mut file = fs::File::options().write(true).open(at.join(MAP))?;
    file.write_all(&map)
}

/// Answers what is asked of a mount.
#[derive(Debug)]
pub struct Serving {
    stopped: Arc<AtomicBool>,
    session: Background<io::Result<()>>,
}

/// Serves the mount whose connection is `connection`, which comes from another process and may be anything.
pub fn serve(connection: OwnedFd, disks: Vec<Arc<Overlay>>) -> io::Result<Serving> {
    let found = fstat(&connection)?;
    let is_device = OpenedType::from_raw_mode(found.st_mode) == OpenedType::CharacterDevice
        && (major(found.st_rdev), minor(found.st_rdev)) == DEVICE_NUMBER;
    if !is_device {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no FUSE connection",
        ));
    }
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let stopped = Arc::new(AtomicBool::new(false));
    let files = Files {
        disks,
        maps: Default::default(),
        stopped: Arc::clone(&stopped),
    };
    // It begins with a greeting of the kernel, for which it waits.
    let session = Background::spawn("server of disk files", move || {
        Session::from_fd(files, connection, SessionACL::Owner, config)?.run()
    })?;
    Ok(Serving { stopped, session })
}

impl Serving {
    /// Answers everything with an error from now on, and waits until the last mount is gone. Whoever mounted it must
    /// have unmounted it, or be dead.
    pub fn stop(self, limit: Duration) -> Result<(), NotEnded> {
        // What a killed process leaves to be written is not waited for.
        self.stopped.store(true, Relaxed);
        if let Err(error) = self.session.end_within(limit)? {
            tracing::debug!(%error, "the files of disks were served to the end of their connection");
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Files {
    disks: Vec<Arc<Overlay>>,
    maps: [OnceLock<Vec<Mapped>>; MAPS],
    stopped: Arc<AtomicBool>,
}

/// One of the files.
#[derive(Debug, Clone, Copy)]
enum Volume<'a> {
    Disk(&'a Overlay),
    Mapped(&'a Mapped),
}

impl Volume<'_> {
    fn bytes(self) -> u64 {
        match self {
            Self::Disk(disk) => disk.bytes(),
            Self::Mapped(mapped) => mapped.bytes(),
        }
    }
}

/// What is done on a disk: from an offset on, with so much of a request.
type Act<'a> = dyn FnMut(&Overlay, u64, Range<u64>) -> Result<(), OverlayError> + 'a;

/// Which copies of a part are meant.
#[derive(Debug, Clone, Copy)]
enum Copies {
    First,
    All,
}

impl Files {
    fn len(&self) -> usize {
        self.disks.len() + self.mapped().count()
    }

    fn mapped(&self) -> impl Iterator<Item = &Mapped> {
        self.maps.iter().filter_map(OnceLock::get).flatten()
    }

    fn volume(&self, inode: INodeNo) -> Result<Volume<'_>, Errno> {
        let at = inode.0.checked_sub(INodeNo::ROOT.0 + 1).ok_or(Errno::EISDIR)?;
        let at = usize::try_from(at).map_err(|_| Errno::ENOENT)?;
        if self.stopped.load(Relaxed) {
            return Err(Errno::EIO);
        }
        self.volume_at(at).ok_or(Errno::ENOENT)
    }

    fn volume_at(&self, at: usize) -> Option<Volume<'_>> {
        match self.disks.get(at) {
            Some(disk) => Some(Volume::Disk(disk)),
            None => self.mapped().nth(at - self.disks.len()).map(Volume::Mapped),
        }
    }

    /// Does something to each part of a request that is on one disk. A volume lies on those of earlier maps only, so that
    /// this comes to an end.
    fn on_disks(
        &self,
        volume: Volume,
        copies: Copies,
        offset: u64,
        request: Range<u64>,
        act: &mut Act,
    ) -> Result<(), Errno> {
        let mapped = match volume {
            Volume::Disk(disk) => return act(disk, offset, request).map_err(|error| errno(&error)),
            Volume::Mapped(mapped) => mapped,
        };
        let mut at = request.start;
        for piece in mapped.pieces(offset, request.end - request.start) {
            let part = at..at + piece.len;
            at = part.end;
            let count = match copies {
                Copies::First => 1,
                Copies::All => usize::MAX,
            };
            for copy in piece.copies().take(count) {
                let below = self.volume_at(copy.disk).ok_or(Errno::EIO)?;
                self.on_disks(below, copies, copy.start, part.clone(), act)?;
            }
        }
        Ok(())
    }

    fn attributes(&self, inode: INodeNo) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            MAP_INODE => (FileType::RegularFile, 0o200, 0),
            _ => (FileType::RegularFile, 0o600, self.volume(inode)?.bytes()),
        };
        Ok(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn inode(at: usize) -> INodeNo {
        INodeNo(INodeNo::ROOT.0 + 1 + at as u64)
    }

    fn read(&self, inode: INodeNo, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let volume = self.volume(inode)?;
        let inside = volume.bytes().saturating_sub(offset).min(u64::from(len));
        let mut data = vec![0; usize::try_from(inside).map_err(|_| Errno::EINVAL)?];
        self.on_disks(
            volume,
            Copies::First,
            offset,
            0..inside,
            &mut |disk, start, part| disk.read(start, &mut data[in_memory(part)]),
        )?;
        Ok(data)
    }

    fn write(&self, inode: INodeNo, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if inode == MAP_INODE {
            return self.map(offset, data);
        }
        let volume = self.volume(inode)?;
        let len = data.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > volume.bytes()) {
            return Err(Errno::EFBIG);
        }
        self.on_disks(volume, Copies::All, offset, 0..len, &mut |disk, start, part| {
            disk.write(start, &data[in_memory(part)])
        })
    }

    fn map(&self, offset: u64, map: &[u8]) -> Result<(), Errno> {
        if offset != 0 || map.len() > MAP_LEN_MAX {
            return Err(Errno::EINVAL);
        }
        let map: Vec<Mapped> = serde_json::from_slice(map).map_err(|_| Errno::EINVAL)?;
        let unused = self.maps.iter().position(|map| map.get().is_none());
        let (earlier, rest) = self.maps.split_at(unused.ok_or(Errno::EEXIST)?);
        let earlier: Vec<Mapped> = earlier
            .iter()
            .filter_map(OnceLock::get)
            .flatten()
            .cloned()
            .collect();
        let disks = self.disks.iter().map(|disk| disk.bytes());
        let disks: Vec<u64> = disks.chain(earlier.iter().map(Mapped::bytes)).collect();
        mapping::check(&map, &earlier, &disks).map_err(|error| {
            tracing::warn!(%error, "a worker wants to map what cannot be");
            Errno::EINVAL
        })?;
        rest[0].set(map).map_err(|_| Errno::EEXIST)
    }

    fn allocate(&self, inode: INodeNo, offset: u64, len: u64, mode: i32) -> Result<(), Errno> {
        let volume = self.volume(inode)?;
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let as_zeros = FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !mode.intersects(as_zeros) || !(as_zeros | FallocateFlags::KEEP_SIZE).contains(mode) {
            return Err(Errno::EOPNOTSUPP);
        }
        let inside = volume.bytes().saturating_sub(offset).min(len);
        self.on_disks(
            volume,
            Copies::All,
            offset,
            0..inside,
            &mut |disk, start, part| disk.discard(start, part.end - part.start),
        )
    }
}

fn in_memory(part: Range<u64>) -> Range<usize> {
    let at = |at: u64| usize::try_from(at).expect("it is part of a request");
    at(part.start)..at(part.end)
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // A loop device asks for several parts of a disk at once. Older kernels do without.
        let _as_before = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_MAX_PAGES);
        let _as_before = config.set_max_write(WRITE_LEN);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = name.to_str().and_then(|name| name.parse().ok());
        let attributes = match found {
            _ if parent != INodeNo::ROOT => Err(Errno::ENOENT),
            Some(at) if at < self.len() => self.attributes(Self::inode(at)),
            None if name == MAP => self.attributes(MAP_INODE),
            _ => Err(Errno::ENOENT),
        };
        match attributes {
            Ok(attributes) => reply.entry(&FOR_GOOD, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Ok(attributes) => reply.attr(&FOR_GOOD, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        _modified: Option<TimeOrNow>,
        _changed: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _created: Option<std::time::SystemTime>,
        _kept: Option<std::time::SystemTime>,
        _backed_up: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.attributes(inode) {
            Ok(_) => reply.opened(
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read(inode, offset, len) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match (self.write(inode, offset, data), u32::try_from(data.len())) {
            (Ok(()), Ok(len)) => reply.written(len),
            (Ok(()), Err(_)) => reply.error(Errno::EINVAL),
            (Err(error), _) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match self.allocate(inode, offset, len, mode) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    /// Durable is what is committed, and nothing before.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        for at in usize::try_from(offset).unwrap_or(usize::MAX)..self.len() {
            let name = at.to_string();
            if reply.add(Self::inode(at), at as u64 + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}

fn errno(error: &OverlayError) -> Errno {
    match error {
        OverlayError::OutOfRange { .. } => Errno::EFBIG,
        // The overlay has said, and remembers, what it was.
        OverlayError::Base(_)
        | OverlayError::Length { .. }
        | OverlayError::Scratch(_)
        | OverlayError::Commit(_) => Errno::EIO,
    }
}
