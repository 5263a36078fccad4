//! Files that are replaced as a whole.

use std::{fs, io::Write, path::Path};

use serde::Serialize;

pub(crate) fn write_json<T: Serialize>(file: &Path, value: &T) -> std::io::Result<()> {
    write_whole(file, &serde_json::to_vec_pretty(value)?)
}

/// Writes a file so that readers see the old contents or the new.
pub(crate) fn write_whole(file: &Path, contents: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let draft = file.with_extension("draft");
    let mut out = fs::File::create(&draft)?;
    out.write_all(contents)?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    // A name that a crash takes back would be one that was never given.
    fs::File::open(folder)?.sync_all()
}
