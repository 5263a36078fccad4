//! The files of a guest, and no others.
//!
//! A guest's file tree was written by strangers: a symbolic link may point out of it, a configuration file may be
//! a FIFO that blocks its reader for ever, a device, or larger than memory. [`Tree`] resolves every path with
//! `openat2` as if the guest's root were ours, looks at what is there before it opens it, and reads no more than
//! its limits. It runs nothing.
//!
//! Paths are absolute in the guest's eyes, "/etc/fstab". What is not there is `None`, not an error.

mod write;

pub(super) use write::Readers;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

/// The longest file that is read as a whole. No configuration is longer.
pub const FILE_MAX: u64 = 8 << 20;
/// The most names of one folder.
pub const NAMES_MAX: usize = 65_536;
/// `PATH_MAX` of Linux.
const PATH_LEN_MAX: usize = 4096;
/// `MAXSYMLINKS` of Linux.
const LINKS_MAX: usize = 40;
/// `openat2` gives up with `EAGAIN` when something is renamed or mounted meanwhile, which nothing here does for long.
const ATTEMPTS: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("cannot open the file tree at {root}")]
    Root {
        root: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} is no path in a guest: {problem}")]
    Path { path: String, problem: &'static str },
    #[error("{path} is {found}, and should be {wanted}")]
    Unexpected { path: String, found: Kind, wanted: Kind },
    #[error("{path} has {bytes} bytes, more than the {limit} that are read")]
    TooLong { path: String, bytes: u64, limit: u64 },
    #[error("{path} has more than {limit} names")]
    TooManyNames { path: String, limit: usize },
    #[error("{path} is not text: byte {at} is not UTF-8")]
    NotText { path: String, at: usize },
    #[error("{path} has a name that is not UTF-8: {name:?}")]
    Name { path: String, name: String },
    #[error("{path} leads through too many symbolic links")]
    Links { path: String },
    #[error("cannot {verb} {path}")]
    Io {
        verb: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Link,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Unknown => "of an unknown kind",
        })
    }
}

impl From<FileType> for Kind {
    fn from(found: FileType) -> Self {
        match found {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => Self::Unknown,
        }
    }
}

/// What is left of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    pub bytes: u64,
    /// `None` where inodes are made as needed, as btrfs does.
    pub inodes: Option<u64>,
}

/// The files of a guest, mounted at a folder; or a recorded tree.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

impl Tree {
    pub fn open(root: &Path) -> Result<Self, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, root, flags, Mode::empty()) {
            Ok(opened) => Ok(Self { root: opened }),
            Err(errno) => Err(TreeError::Root {
                root: root.to_owned(),
                source: errno.into(),
            }),
        }
    }

    /// The contents of a file of at most [`FILE_MAX`] bytes.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let Some(file) = self.open_file(path)? else {
            return Ok(None);
        };
        let bytes = file
            .metadata()
            .map_err(|source| io_error("read", path, source))?
            .len();
        let too_long = |bytes| TreeError::TooLong {
            path: path.to_owned(),
            bytes,
            limit: FILE_MAX,
        };
        if bytes > FILE_MAX {
            return Err(too_long(bytes));
        }
        let mut contents = Vec::new();
        // A file may say that it is empty and go on for ever, as those of procfs do.
        file.take(FILE_MAX + 1)
            .read_to_end(&mut contents)
            .map_err(|source| io_error("read", path, source))?;
        if contents.len() as u64 > FILE_MAX {
            return Err(too_long(contents.len() as u64));
        }
        Ok(Some(contents))
    }

    pub fn read_text(&self, path: &str) -> Result<Option<String>, TreeError> {
        let Some(contents) = self.read(path)? else {
            return Ok(None);
        };
        match String::from_utf8(contents) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(TreeError::NotText {
                path: path.to_owned(),
                at: error.utf8_error().valid_up_to(),
            }),
        }
    }

    /// A file of any length, to be read in pieces. Nothing but a file is opened.
    pub fn open_file(&self, path: &str) -> Result<Option<File>, TreeError> {
        Ok(self.open_for_reading(path, Kind::File)?.map(File::from))
    }

    /// The target of a symbolic link, `None` if there is none.
    pub fn link(&self, path: &str) -> Result<Option<String>, TreeError> {
        if self.kind(path)? != Some(Kind::Link) {
            return Ok(None);
        }
        let found = self.locate_name(path)?;
        let target = rustix::fs::readlinkat(&found.folder, &found.name, Vec::new())
            .map_err(|errno| io_error("read", path, errno))?;
        match target.into_string() {
            Ok(target) => Ok(Some(target)),
            Err(_) => Err(TreeError::Path {
                path: path.to_owned(),
                problem: "its target is not UTF-8",
            }),
        }
    }

    /// What is at `path` itself: a symbolic link is not followed.
    pub fn kind(&self, path: &str) -> Result<Option<Kind>, TreeError> {
        Ok(self
            .look(path, OFlags::NOFOLLOW)?
            .map(|(_, found)| kind_of(&found)))
    }

    /// Whether a file can be read there, symbolic links followed. A unit or rule that is masked is a link to a device.
    pub fn is_file(&self, path: &str) -> Result<bool, TreeError> {
        let found = self.look(path, OFlags::empty())?;
        Ok(found.is_some_and(|(_, found)| kind_of(&found) == Kind::File))
    }

    /// The names in a folder, sorted; none if it is not there.
    pub fn list(&self, path: &str) -> Result<Vec<String>, TreeError> {
        self.names(path, NAMES_MAX)?
            .into_iter()
            .map(|name| {
                String::from_utf8(name).map_err(|error| TreeError::Name {
                    path: path.to_owned(),
                    name: error.as_bytes().escape_ascii().to_string(),
                })
            })
            .collect()
    }

    /// What is left of the file system that `path` lies on.
    pub fn free(&self, path: &str) -> Result<Option<Free>, TreeError> {
        let Some((opened, _)) = self.look(path, OFlags::empty())? else {
            return Ok(None);
        };
        let found = rustix::fs::fstatvfs(&opened).map_err(|errno| io_error("read", path, errno))?;
        Ok(Some(Free {
            bytes: found.f_bavail.saturating_mul(found.f_frsize),
            inodes: (found.f_files > 0).then_some(found.f_favail),
        }))
    }

    /// Names as they are on disk: not every one is UTF-8.
    fn names(&self, path: &str, limit: usize) -> Result<Vec<Vec<u8>>, TreeError> {
        let Some(folder) = self.open_for_reading(path, Kind::Folder)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in Dir::new(folder).map_err(|errno| io_error("list", path, errno))? {
            let entry = entry.map_err(|errno| io_error("list", path, errno))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == limit {
                return Err(TreeError::TooManyNames {
                    path: path.to_owned(),
                    limit,
                });
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens what is of the kind that is wanted, links followed. It looks first, since to open a device can do
    /// harm by itself: a watchdog starts to count.
    fn open_for_reading(&self, path: &str, wanted: Kind) -> Result<Option<OwnedFd>, TreeError> {
        let Some((looked, seen)) = self.look(path, OFlags::empty())? else {
            return Ok(None);
        };
        let unexpected = |found| TreeError::Unexpected {
            path: path.to_owned(),
            found,
            wanted,
        };
        if kind_of(&seen) != wanted {
            return Err(unexpected(kind_of(&seen)));
        }
        drop(looked);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some((opened, found)) = self.open_at(path, flags)? else {
            return Ok(None);
        };
        if kind_of(&found) != wanted {
            return Err(unexpected(kind_of(&found)));
        }
        Ok(Some(opened))
    }

    fn look(&self, path: &str, flags: OFlags) -> Result<Option<(OwnedFd, Stat)>, TreeError> {
        self.open_at(path, OFlags::PATH | flags)
    }

    /// The one place where a path of a guest is resolved.
    fn open_at(&self, path: &str, flags: OFlags) -> Result<Option<(OwnedFd, Stat)>, TreeError> {
        check(path)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            let opened =
                rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
                    .and_then(|opened| rustix::fs::fstat(&opened).map(|found| (opened, found)));
            match opened {
                Ok(opened) => return Ok(Some(opened)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(Errno::LOOP) => {
                    return Err(TreeError::Links {
                        path: path.to_owned(),
                    });
                }
                Err(errno) => return Err(io_error("open", path, errno)),
            }
        }
        Err(io_error("open", path, Errno::AGAIN))
    }

    /// The folder and name of `path` itself.
    fn locate_name(&self, path: &str) -> Result<Place, TreeError> {
        let (folder, name) = split(path)?;
        match self.look(folder, OFlags::DIRECTORY)? {
            Some((opened, _)) => Ok(Place {
                path: path.to_owned(),
                folder: opened,
                name: name.to_owned(),
            }),
            None => Err(io_error("open", folder, Errno::NOENT)),
        }
    }

    /// The folder and name that `path` stands for, symbolic links followed; whether or not it is there.
    fn locate(&self, path: &str) -> Result<Place, TreeError> {
        let mut at = path.to_owned();
        for _ in 0..LINKS_MAX {
            let Some(target) = self.link(&at)? else {
                return self.locate_name(&at);
            };
            let (folder, _) = split(&at)?;
            at = if target.starts_with('/') {
                target
            } else {
                format!("{}/{target}", folder.trim_end_matches('/'))
            };
        }
        Err(TreeError::Links {
            path: path.to_owned(),
        })
    }
}

/// Where something is or could be.
struct Place {
    path: String,
    folder: OwnedFd,
    name: String,
}

impl Place {
    fn stat(&self) -> Result<Option<Stat>, TreeError> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(io_error("open", &self.path, errno)),
        }
    }
}

fn kind_of(found: &Stat) -> Kind {
    FileType::from_raw_mode(found.st_mode).into()
}

fn check(path: &str) -> Result<(), TreeError> {
    let problem = if !path.starts_with('/') {
        "it is not absolute"
    } else if path.len() >= PATH_LEN_MAX {
        "it is too long"
    } else if path.contains('\0') {
        "it has a NUL in it"
    } else {
        return Ok(());
    };
    Err(TreeError::Path {
        path: path.chars().take(256).collect(),
        problem,
    })
}

/// A path as its folder and its name in it.
fn split(path: &str) -> Result<(&str, &str), TreeError> {
    check(path)?;
    match path.rsplit_once('/') {
        Some((folder, name)) if !["", ".", ".."].contains(&name) => {
            Ok((if folder.is_empty() { "/" } else { folder }, name))
        }
        _ => Err(TreeError::Path {
            path: path.to_owned(),
            problem: "it does not end with a name",
        }),
    }
}

fn io_error(verb: &'static str, path: &str, source: impl Into<io::Error>) -> TreeError {
    TreeError::Io {
        verb,
        path: path.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    };

    use rustix::fs::{FileType, makedev, mknodat};

    use super::*;

    struct Guest {
        folder: tempfile::TempDir,
        tree: Tree,
    }

    impl Guest {
        /// A guest's root beside a file that it must not reach.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("root/etc")).unwrap();
            fs::write(folder.path().join("outside"), "ours").unwrap();
            let tree = Tree::open(&folder.path().join("root")).unwrap();
            Self { folder, tree }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join("root").join(path.trim_start_matches('/'))
        }

        fn make(&self, path: &str, kind: FileType, device: u64) -> rustix::io::Result<()> {
            mknodat(CWD, self.path(path), kind, Mode::from_raw_mode(0o600), device)
        }

        /// What is said of a path that cannot be read as a file.
        fn refusal(&self, path: &str) -> String {
            self.tree.read(path).unwrap_err().to_string()
        }
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let guest = Guest::new();
        fs::write(guest.path("etc/fstab"), "").unwrap();
        for path in ["/none", "/none/deeper", "/etc/fstab/below"] {
            assert_eq!(guest.tree.read(path).unwrap(), None, "{path}");
            assert_eq!(guest.tree.kind(path).unwrap(), None, "{path}");
            assert_eq!(guest.tree.link(path).unwrap(), None, "{path}");
            assert_eq!(guest.tree.list(path).unwrap(), [""; 0], "{path}");
        }
        assert_eq!(guest.tree.read_text("/etc/fstab").unwrap().as_deref(), Some(""));
        assert_eq!(guest.tree.list("/etc").unwrap(), ["fstab"]);
    }

    #[test]
    fn links_lead_nowhere_but_into_the_guest() {
        let guest = Guest::new();
        fs::write(guest.path("etc/inside"), "theirs").unwrap();
        for (name, target) in [
            ("relative", "../../../../../../outside"),
            ("absolute", guest.folder.path().join("outside").to_str().unwrap()),
            ("own", "/proc/self/root/etc/hostname"),
        ] {
            symlink(target, guest.path("etc").join(name)).unwrap();
            let path = format!("/etc/{name}");
            assert_eq!(guest.tree.read(&path).unwrap(), None, "{path}");
            assert_eq!(guest.tree.link(&path).unwrap().as_deref(), Some(target));
            assert_eq!(guest.tree.kind(&path).unwrap(), Some(Kind::Link));
        }
        symlink("/", guest.path("etc/up")).unwrap();
        symlink("../../../etc/up/etc/inside", guest.path("etc/long-way")).unwrap();
        assert_eq!(
            guest.tree.read_text("/etc/long-way").unwrap().as_deref(),
            Some("theirs")
        );
        assert_eq!(guest.tree.read("/../outside").unwrap(), None);
        symlink("round", guest.path("etc/round")).unwrap();
        assert_eq!(
            guest.refusal("/etc/round"),
            "/etc/round leads through too many symbolic links"
        );
    }

    #[test]
    fn only_files_are_read_and_nothing_blocks() {
        let guest = Guest::new();
        guest.make("/etc/fifo", FileType::Fifo, 0).unwrap();
        let _listens = UnixListener::bind(guest.path("etc/socket")).unwrap();
        symlink("fifo", guest.path("etc/to-fifo")).unwrap();
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("to-fifo", "a FIFO"),
            ("socket", "a socket"),
            ("", "a folder"),
        ] {
            let path = format!("/etc/{name}");
            assert_eq!(
                guest.refusal(&path),
                format!("{path} is {what}, and should be a file")
            );
        }
        let refused = guest.tree.list("/etc/fifo").unwrap_err();
        assert_eq!(refused.to_string(), "/etc/fifo is a FIFO, and should be a folder");
    }

    #[test]
    fn devices_are_not_opened() {
        let guest = Guest::new();
        // The null and zero devices, and the first loop device.
        for (name, kind, device, what) in [
            (
                "null",
                FileType::CharacterDevice,
                makedev(1, 3),
                "a character device",
            ),
            (
                "zero",
                FileType::CharacterDevice,
                makedev(1, 5),
                "a character device",
            ),
            ("loop", FileType::BlockDevice, makedev(7, 0), "a block device"),
        ] {
            let path = format!("/etc/{name}");
            if let Err(errno) = guest.make(&path, kind, device) {
                assert!(std::env::var_os("CI").is_none(), "cannot make a device: {errno}");
                eprintln!("cannot run here: devices in a guest: {errno}");
                return;
            }
            assert_eq!(
                guest.refusal(&path),
                format!("{path} is {what}, and should be a file")
            );
        }
    }

    #[test]
    fn long_files_are_refused_by_their_length() {
        let guest = Guest::new();
        let file = File::create(guest.path("etc/fstab")).unwrap();
        file.set_len(FILE_MAX).unwrap();
        assert_eq!(
            guest.tree.read("/etc/fstab").unwrap().unwrap().len() as u64,
            FILE_MAX
        );
        file.set_len(1 << 40).unwrap();
        assert_eq!(
            guest.refusal("/etc/fstab"),
            "/etc/fstab has 1099511627776 bytes, more than the 8388608 that are read"
        );
    }

    #[test]
    fn files_that_hide_their_length_are_read() {
        // The kernel says that its files are empty.
        let tree = Tree::open(Path::new("/proc")).unwrap();
        assert!(!tree.read("/self/status").unwrap().unwrap().is_empty());
    }

    #[test]
    fn folders_have_a_limit() {
        let guest = Guest::new();
        for name in ["one", "two", "three"] {
            fs::write(guest.path("etc").join(name), "").unwrap();
        }
        assert_eq!(guest.tree.names("/etc", 3).unwrap().len(), 3);
        let refused = guest.tree.names("/etc", 2).unwrap_err();
        assert_eq!(refused.to_string(), "/etc has more than 2 names");
    }

    #[test]
    fn what_is_not_utf8_is_named() {
        let guest = Guest::new();
        fs::write(guest.path("etc/hosts"), b"caf\xe9").unwrap();
        let refused = guest.tree.read_text("/etc/hosts").unwrap_err();
        assert_eq!(refused.to_string(), "/etc/hosts is not text: byte 3 is not UTF-8");

        fs::write(
            guest.path("etc").join(std::ffi::OsStr::from_bytes(b"caf\xe9")),
            "",
        )
        .unwrap();
        let refused = guest.tree.list("/etc").unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"/etc has a name that is not UTF-8: "caf\\xe9""#
        );
    }

    #[test]
    fn paths_are_absolute_and_whole() {
        let guest = Guest::new();
        for path in ["", "etc/fstab", "/etc/fs\0tab", &"/etc".repeat(2000)] {
            let refused = guest.tree.read(path).unwrap_err();
            assert!(matches!(refused, TreeError::Path { .. }), "{refused}");
        }
        for path in ["/", "/etc/", "/etc/..", "/etc/."] {
            let refused = guest.tree.replace(path, b"", Readers::All).unwrap_err();
            assert!(matches!(refused, TreeError::Path { .. }), "{path}: {refused}");
        }
    }

    #[test]
    fn free_space_is_that_of_the_file_system() {
        let guest = Guest::new();
        let free = guest.tree.free("/etc").unwrap().unwrap();
        let all = rustix::fs::statvfs(guest.folder.path()).unwrap();
        assert!(
            free.bytes > 0 && free.bytes <= all.f_blocks * all.f_frsize,
            "{free:?}"
        );
        assert_eq!(guest.tree.free("/none").unwrap(), None);
    }
}
