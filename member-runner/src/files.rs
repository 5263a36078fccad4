//! Files that are there whole or not at all.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {path}")]
pub struct FileError {
    pub verb: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Adds the path and what was tried to an error.
pub fn context(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { verb, path, source }
}

const DRAFT_SUFFIX: &str = ".new";

/// Whether a file is what a crash left of [`replace`].
pub fn is_draft(name: &str) -> bool {
    name.ends_with(DRAFT_SUFFIX)
}

/// Gives `path` new contents, durably: after a crash it has the old or the new ones.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(DRAFT_SUFFIX);
    let draft = PathBuf::from(draft);
    let written = || {
        let mut file = fs::File::create(&draft)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_parent(path)
    };
    written().map_err(context("write", path))
}

/// Removes a file durably. One that is gone is no error.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map_err(context("remove", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(context("remove", path)(error)),
    }
}

/// The contents of a file, if it is there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(context("read", path)(error)),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
