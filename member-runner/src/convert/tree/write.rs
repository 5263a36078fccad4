//! Changing a guest's files: each is there whole or not at all, and keeps its owner, mode and labels.
//!
//! Only the [`Editor`](crate::convert::editor::Editor) calls this, so that nothing changes without a note of it.

use std::{fs::File, io::Write, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, Stat, Uid, XattrFlags},
    io::Errno,
};

use super::{Kind, Place, Tree, TreeError, io_error, kind_of, split};

/// The longest list of names, and the longest value, of extended attributes: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const ATTRIBUTE_MAX: usize = 64 << 10;
const NEW_FOLDER: RawMode = 0o755;

/// Who may read a file that was not there before. It belongs to root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::convert) enum Readers {
    All,
    Owner,
}

impl Tree {
    /// Gives a file new contents: where `path` is a symbolic link, the file that it stands for.
    pub(in crate::convert) fn replace(
        &self,
        path: &str,
        contents: &[u8],
        readers: Readers,
    ) -> Result<(), TreeError> {
        let place = self.locate(path)?;
        let old = self.file_at(&place)?;
        let draft = place.draft();
        let new = create(&place, &draft)?;
        let written = set_attributes(&new, old.as_ref(), readers, &place)
            .and_then(|()| fill(new, contents, &place))
            .and_then(|()| move_to(&place, &draft));
        if written.is_err() {
            // The error that brought us here says more than one of tidying up after it.
            let _ = rustix::fs::unlinkat(&place.folder, &draft, AtFlags::empty());
        }
        written
    }

    /// The path of the file that a path stands for, symbolic links to it followed.
    pub(in crate::convert) fn target(&self, path: &str) -> Result<String, TreeError> {
        Ok(self.locate(path)?.path)
    }

    /// Removes a file or symbolic link itself, or an empty folder. What is gone is no error.
    pub(in crate::convert) fn remove(&self, path: &str) -> Result<(), TreeError> {
        let flags = match self.kind(path)? {
            None => return Ok(()),
            Some(Kind::Folder) => AtFlags::REMOVEDIR,
            Some(_) => AtFlags::empty(),
        };
        let place = self.locate_name(path)?;
        match rustix::fs::unlinkat(&place.folder, &place.name, flags) {
            Ok(()) | Err(Errno::NOENT) => sync(&place),
            Err(errno) => Err(io_error("remove", path, errno)),
        }
    }

    /// Puts a symbolic link in place of whatever file or link is at `path`.
    pub(in crate::convert) fn replace_with_link(&self, path: &str, target: &str) -> Result<(), TreeError> {
        let place = self.locate_name(path)?;
        let draft = place.draft();
        discard(&place, &draft)?;
        rustix::fs::symlinkat(target, &place.folder, &draft)
            .map_err(|errno| io_error("write", path, errno))?;
        move_to(&place, &draft)
    }

    /// Makes the folders that lead to `path` and are not there yet. Answers which.
    pub(in crate::convert) fn make_folders_to(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let (folder, _) = split(path)?;
        let mut made = Vec::new();
        let ends = folder.match_indices('/').skip(1).map(|(at, _)| at);
        for end in ends.chain([folder.len()]) {
            let folder = &folder[..end];
            if self.look(folder, OFlags::empty())?.is_some() {
                continue;
            }
            let place = self.locate_name(folder)?;
            rustix::fs::mkdirat(&place.folder, &place.name, Mode::from_raw_mode(NEW_FOLDER))
                .map_err(|errno| io_error("create", folder, errno))?;
            sync(&place)?;
            made.push(folder.to_owned());
        }
        Ok(made)
    }

    /// The file at a place, opened only to ask after its attributes.
    fn file_at(&self, place: &Place) -> Result<Option<(OwnedFd, Stat)>, TreeError> {
        let Some(found) = place.stat()? else {
            return Ok(None);
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(TreeError::Unexpected {
                path: place.path.clone(),
                found: kind_of(&found),
                wanted: Kind::File,
            });
        }
        self.open_for_reading(&place.path, Kind::File)
            .map(|opened| opened.map(|opened| (opened, found)))
    }
}

impl Place {
    /// Beside the file, since only within a file system does a rename replace it at once.
    fn draft(&self) -> String {
        // A name has at most 255 bytes.
        let start = self.name.floor_char_boundary(200);
        format!(".{}.orglift", &self.name[..start])
    }
}

fn create(place: &Place, draft: &str) -> Result<File, TreeError> {
    discard(place, draft)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&place.folder, draft, flags, Mode::from_raw_mode(0o600))
        .map(File::from)
        .map_err(|errno| io_error("write", &place.path, errno))
}

/// Takes away what a crash left.
fn discard(place: &Place, draft: &str) -> Result<(), TreeError> {
    match rustix::fs::unlinkat(&place.folder, draft, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(io_error("write", &place.path, errno)),
    }
}

/// Those of the file that is replaced.
fn set_attributes(
    new: &File,
    old: Option<&(OwnedFd, Stat)>,
    readers: Readers,
    place: &Place,
) -> Result<(), TreeError> {
    let set = || -> rustix::io::Result<()> {
        let Some((old, found)) = old else {
            let mode = match readers {
                Readers::All => 0o644,
                Readers::Owner => 0o600,
            };
            return rustix::fs::fchmod(new, Mode::from_raw_mode(mode));
        };
        let (owner, group) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
        rustix::fs::fchown(new, Some(owner), Some(group))?;
        // After the owner, whose change takes set-user-ID away.
        rustix::fs::fchmod(new, Mode::from_raw_mode(found.st_mode))?;
        let mut names = vec![0; ATTRIBUTE_MAX];
        let length = match rustix::fs::flistxattr(old, &mut names[..]) {
            // A file system that has none, as FAT.
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        let mut value = vec![0; ATTRIBUTE_MAX];
        for name in names[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let length = rustix::fs::fgetxattr(old, name, &mut value[..])?;
            rustix::fs::fsetxattr(new, name, &value[..length], XattrFlags::empty())?;
        }
        Ok(())
    };
    set().map_err(|errno| io_error("keep owner, mode and labels of", &place.path, errno))
}

fn fill(mut file: File, contents: &[u8], place: &Place) -> Result<(), TreeError> {
    file.write_all(contents)
        .and_then(|()| file.sync_all())
        .map_err(|source| io_error("write", &place.path, source))
}

fn move_to(place: &Place, draft: &str) -> Result<(), TreeError> {
    rustix::fs::renameat(&place.folder, draft, &place.folder, &place.name)
        .map_err(|errno| io_error("write", &place.path, errno))?;
    sync(place)
}

/// Makes a change of a folder durable. The folder is open as a place only, so it is opened once more.
fn sync(place: &Place) -> Result<(), TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&place.folder, ".", flags, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|errno| io_error("write", &place.path, errno))
}
