//! The files of an EFI system partition, in a folder that stands for it while the guest is converted.
//!
//! ```text
//! FAT ─▶ copy to a folder ─▶ the folder is bound to /boot/efi ─▶ (conversion) ─▶ what changed is written back
//! ```
//!
//! Not every kernel has a driver for FAT, and one that has would trust what a stranger wrote. It is read and written
//! here, in user space, and within limits: what is copied, and how often the partition is read, since a chain of
//! clusters or folders may lead back into itself. Files cannot be removed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    rc::Rc,
};

use domain::digest::Digest;
use fatfs::{Dir, FileSystem, FsOptions};

use crate::convert::tree::{Kind, Tree, TreeError};

/// A boot loader, a few kernels and their initramfs.
const BYTES_MAX: u64 = 128 << 20;
/// Files and folders.
const ENTRIES_MAX: usize = 4096;
const DEPTH_MAX: usize = 16;
/// A sector of a directory is read in some hundred pieces; all that may be copied takes two millions.
const READS_MAX: u32 = 4 << 20;
const PIECE_LEN: usize = 64 << 10;

/// A copy of the files, and what they were.
#[derive(Debug)]
pub struct Esp {
    device: PathBuf,
    device_name: String,
    folder: PathBuf,
    copied: Entries,
}

/// By their paths, "EFI/BOOT/BOOTX64.EFI": folders come before what is in them.
type Entries = BTreeMap<String, Entry>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Digest),
}

#[derive(Debug, thiserror::Error)]
pub enum EspError {
    #[error("cannot {verb} the FAT file system on {device_name}: {source}")]
    Fat {
        verb: &'static str,
        device_name: String,
        source: io::Error,
    },
    #[error("the FAT file system on {device_name} is damaged")]
    Damaged { device_name: String },
    #[error(
        "the EFI system partition has more than {ENTRIES_MAX} files, {} MiB or {DEPTH_MAX} levels of folders",
        BYTES_MAX >> 20
    )]
    TooMuch,
    #[error("the EFI system partition has a file that cannot be copied, {0:?}")]
    Name(String),
    #[error("{path} was removed from the EFI system partition, which is not possible here")]
    Removed { path: String },
    #[error("{path} is {kind}, for which there is no place on an EFI system partition")]
    NoFile { path: String, kind: Kind },
    #[error("cannot copy the files of the EFI system partition to {folder}")]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What fails within the two file systems.
enum Failure {
    Fat(io::Error),
    Folder(io::Error),
    Other(EspError),
}

impl Esp {
    /// Copies what is on `device`, which people call `device_name`, to the new folder `folder`.
    pub fn copy(device: &Path, device_name: &str, folder: &Path) -> Result<Self, EspError> {
        let mut esp = Self {
            device: device.to_owned(),
            device_name: device_name.to_owned(),
            folder: folder.to_owned(),
            copied: Entries::new(),
        };
        esp.copied = esp.survive("read", || {
            fs::create_dir(folder).map_err(Failure::Folder)?;
            let device = fs::File::open(device).map_err(Failure::Fat)?;
            let fat = mounted(&device, &Rc::default())?;
            let mut copying = Copying {
                room: Room::default(),
                copied: Entries::new(),
            };
            copying.folder(&fat.root_dir(), "", folder, 0)?;
            Ok(copying.copied)
        })?;
        Ok(esp)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes back what is new in the folder and what differs from what was copied.
    pub fn write_back(&self) -> Result<(), EspError> {
        let tree = Tree::open(&self.folder)?;
        let mut found = Entries::new();
        look(&tree, "", 0, &mut Room::default(), &mut found)?;
        let is_there = |path: &String| found.contains_key(path);
        if let Some(path) = self.copied.keys().find(|path| !is_there(path)) {
            return Err(EspError::Removed { path: path.clone() });
        }
        found.retain(|path, entry| self.copied.get(path) != Some(entry));
        if found.is_empty() {
            return Ok(());
        }
        self.survive("write", || {
            let mut options = fs::File::options();
            let device = options.read(true).write(true).open(&self.device);
            let device = device.map_err(Failure::Fat)?;
            let own_entry = Rc::default();
            let fat = mounted(&device, &own_entry)?;
            for (path, entry) in &found {
                match entry {
                    Entry::Folder => make_folder(&fat.root_dir(), path, &device, &own_entry),
                    Entry::File(_) => write_file(&fat.root_dir(), path, &tree),
                }?;
            }
            fat.unmount()
                .and_then(|()| device.sync_all())
                .map_err(Failure::Fat)
        })
    }

    /// fatfs calculates with numbers of the disk before it looks at them, which may panic.
    fn survive<T>(
        &self,
        verb: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, EspError> {
        let device_name = self.device_name.clone();
        let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| EspError::Damaged {
            device_name: device_name.clone(),
        })?;
        done.map_err(|failure| match failure {
            Failure::Fat(source) => EspError::Fat {
                verb,
                device_name,
                source,
            },
            Failure::Folder(source) => EspError::Folder {
                folder: self.folder.clone(),
                source,
            },
            Failure::Other(error) => error,
        })
    }
}

/// What may still be copied.
#[derive(Debug)]
struct Room {
    entries: usize,
    bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            entries: ENTRIES_MAX,
            bytes: BYTES_MAX,
        }
    }
}

impl Room {
    fn take(&mut self, bytes: u64) -> Result<(), EspError> {
        self.entries = self.entries.checked_sub(1).ok_or(EspError::TooMuch)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(EspError::TooMuch)?;
        Ok(())
    }
}

struct Copying {
    room: Room,
    copied: Entries,
}

impl Copying {
    fn folder(&mut self, from: &Dir<Device>, path: &str, to: &Path, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(Failure::Other(EspError::TooMuch));
        }
        for entry in from.iter() {
            let entry = entry.map_err(Failure::Fat)?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = joined(path, &name);
            if name.is_empty() || name.contains(['/', '\0']) {
                return Err(Failure::Other(EspError::Name(path)));
            }
            let to = to.join(name);
            if entry.is_dir() {
                self.room.take(0).map_err(Failure::Other)?;
                fs::create_dir(&to).map_err(Failure::Folder)?;
                self.copied.insert(path.clone(), Entry::Folder);
                self.folder(&entry.to_dir(), &path, &to, depth + 1)?;
            } else {
                self.room.take(entry.len()).map_err(Failure::Other)?;
                let digest = copy_file(entry.to_file().take(entry.len()), &to)?;
                self.copied.insert(path, Entry::File(digest));
            }
        }
        Ok(())
    }
}

fn copy_file(mut from: impl Read, to: &Path) -> Result<Digest, Failure> {
    let mut file = fs::File::create_new(to).map_err(Failure::Folder)?;
    let mut digest = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_LEN];
    loop {
        let len = from.read(&mut piece).map_err(Failure::Fat)?;
        if len == 0 {
            return Ok(Digest(*digest.finalize().as_bytes()));
        }
        digest.update(&piece[..len]);
        file.write_all(&piece[..len]).map_err(Failure::Folder)?;
    }
}

/// What is in the folder now. The guest's own programs wrote there, and may have made anything.
fn look(tree: &Tree, path: &str, depth: usize, room: &mut Room, found: &mut Entries) -> Result<(), EspError> {
    if depth > DEPTH_MAX {
        return Err(EspError::TooMuch);
    }
    for name in tree.list(&format!("/{path}"))? {
        let path = joined(path, &name);
        let absolute = format!("/{path}");
        match tree.kind(&absolute)? {
            Some(Kind::Folder) => {
                room.take(0)?;
                found.insert(path.clone(), Entry::Folder);
                look(tree, &path, depth + 1, room, found)?;
            }
            Some(Kind::File) => {
                let Some(file) = tree.open_file(&absolute)? else {
                    continue;
                };
                let read = |source| TreeError::Io {
                    verb: "read",
                    path: absolute.clone(),
                    source,
                };
                room.take(file.metadata().map_err(read)?.len())?;
                let mut digest = blake3::Hasher::new();
                digest.update_reader(file).map_err(read)?;
                found.insert(path, Entry::File(Digest(*digest.finalize().as_bytes())));
            }
            Some(kind) => return Err(EspError::NoFile { path, kind }),
            None => {}
        }
    }
    Ok(())
}

fn write_file(root: &Dir<Device>, path: &str, tree: &Tree) -> Result<(), Failure> {
    let opened = tree.open_file(&format!("/{path}"));
    let opened = opened.map_err(|error| Failure::Other(error.into()))?;
    let from = opened.ok_or_else(|| {
        Failure::Other(EspError::Removed {
            path: path.to_owned(),
        })
    })?;
    let mut to = root.create_file(path).map_err(Failure::Fat)?;
    to.truncate().map_err(Failure::Fat)?;
    io::copy(&mut from.take(BYTES_MAX), &mut to).map_err(Failure::Fat)?;
    to.flush().map_err(Failure::Fat)
}

const ENTRY_LEN: usize = 32;
/// As a directory spells its own name.
const DOT: &[u8] = b".          ";
const REMOVED: u8 = 0xe5;

/// A folder that fatfs 0.3 made has long names for "." and "..", which must have none, and must come first:
///
/// ```text
/// long name, ".", long name, ".."  ─▶  ".", "..", removed, removed
/// ```
fn make_folder(
    root: &Dir<Device>,
    path: &str,
    device: &fs::File,
    own_entry: &Cell<Option<u64>>,
) -> Result<(), Failure> {
    own_entry.set(None);
    root.create_dir(path).map_err(Failure::Fat)?;
    let Some(at) = own_entry.take() else {
        // It was there, in another spelling.
        return Ok(());
    };
    let at = at - ENTRY_LEN as u64;
    let mut entries = [0; 4 * ENTRY_LEN];
    let mut put_in_order = || {
        device.read_exact_at(&mut entries, at)?;
        entries.copy_within(ENTRY_LEN..2 * ENTRY_LEN, 0);
        entries.copy_within(3 * ENTRY_LEN.., ENTRY_LEN);
        if !path.contains('/') {
            // The root has no number in its folders, and on FAT32 it would get the one that it has.
            for number in [20..22, 26..28] {
                entries[ENTRY_LEN..][number].fill(0);
            }
        }
        entries[2 * ENTRY_LEN] = REMOVED;
        entries[3 * ENTRY_LEN] = REMOVED;
        device.write_all_at(&entries, at)
    };
    put_in_order().map_err(Failure::Fat)
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

fn mounted(device: &fs::File, own_entry: &Rc<Cell<Option<u64>>>) -> Result<FileSystem<Device>, Failure> {
    let mount = || {
        let device = Device {
            file: device.try_clone()?,
            reads_left: READS_MAX,
            own_entry: Rc::clone(own_entry),
        };
        FileSystem::new(device, FsOptions::new())
    };
    mount().map_err(Failure::Fat)
}

/// A device that is read only so often.
struct Device {
    file: fs::File,
    reads_left: u32,
    /// Where the name "." was written last.
    own_entry: Rc<Cell<Option<u64>>>,
}

impl Read for Device {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.reads_left.checked_sub(1);
        self.reads_left = left.ok_or_else(|| io::Error::other("it has no end"))?;
        self.file.read(into)
    }
}

impl Write for Device {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data == DOT {
            self.own_entry.set(Some(self.file.stream_position()?));
        }
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Device {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests;
