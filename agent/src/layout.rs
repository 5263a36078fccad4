//! The folder that holds everything the agent keeps, and how its files are written.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

pub const DEFAULT_DIR: &str = "/var/lib/orglift/agent";
/// In memory, and gone after a restart, as what it says is.
const SYSTEM_FROZEN_FILE_SYSTEMS: &str = "/run/orglift/frozen-file-systems";
const SYSTEM_HOOKS: &str = "/etc/orglift/freeze.d";

/// Where things are within the agent's folder.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {path}")]
pub struct FileError {
    pub verb: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl Layout {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn is_default(&self) -> bool {
        self.dir == Path::new(DEFAULT_DIR)
    }

    pub fn credentials(&self) -> PathBuf {
        self.dir.join("credentials")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.json")
    }

    /// The session of the last Welcome, which the next Hello shows.
    pub fn session(&self) -> PathBuf {
        self.dir.join("session.json")
    }

    /// Disks of which the runner has committed a launchable checkpoint.
    pub fn copied(&self) -> PathBuf {
        self.dir.join("copied.json")
    }

    pub fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }

    /// Exists while freeze hooks have run and thaw hooks have not.
    pub fn frozen(&self) -> PathBuf {
        self.dir.join("frozen")
    }

    /// Exists while file systems may be frozen.
    pub fn frozen_file_systems(&self) -> PathBuf {
        if self.is_default() {
            PathBuf::from(SYSTEM_FROZEN_FILE_SYSTEMS)
        } else {
            self.dir.join("frozen-file-systems")
        }
    }

    /// `/etc/orglift/freeze.d` for an agent in its usual place, else `freeze.d` beside its state.
    pub fn hooks(&self) -> PathBuf {
        if self.is_default() {
            PathBuf::from(SYSTEM_HOOKS)
        } else {
            self.dir.join("freeze.d")
        }
    }

    pub fn create(&self) -> Result<(), FileError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| FileError {
                verb: "create",
                path: self.dir.clone(),
                source,
            })
    }
}

/// Replaces `path` so that a crash leaves the old content or the new, and the new is on disk on return.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, Sync::Yes)
}

/// Replaces `path` so that a reader sees the old content or the new. Nothing is promised after a crash.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, Sync::No)
}

/// The content of a file, or `None` if there is none.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError {
            verb: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Removes a file; that it was not there is as good.
pub fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError {
            verb: "remove",
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sync {
    Yes,
    No,
}

fn replace(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), FileError> {
    let fail = |verb| {
        let path = path.to_owned();
        move |source| FileError { verb, path, source }
    };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(fail("create"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    if sync == Sync::Yes {
        file.sync_all().map_err(fail("write"))?;
    }
    fs::rename(&draft, path).map_err(fail("replace"))?;
    if sync == Sync::Yes
        && let Some(folder) = path.parent()
    {
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(fail("write"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_leave_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert!(read_if_there(&path).unwrap().is_none());
        write_durably(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove_if_there(&path).unwrap();
        remove_if_there(&path).unwrap();
    }

    #[test]
    fn hooks_are_beside_the_state_unless_the_folder_is_the_usual_one() {
        assert_eq!(Layout::new(DEFAULT_DIR).hooks(), Path::new(SYSTEM_HOOKS));
        assert_eq!(Layout::new("/tmp/a").hooks(), Path::new("/tmp/a/freeze.d"));
    }
}
