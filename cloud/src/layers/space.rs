//! How much room is left: on the file system, and within a limit that the store may be given.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// A file in the store's folder with a number of bytes. It can change while the store is in use.
pub const LIMIT_FILE: &str = "limit";

#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    limit: Option<u64>,
    /// What the files take up, counted at some time and grown since; `None` asks for a new count.
    used: Mutex<Option<u64>>,
}

impl Space {
    pub fn new(dir: &Path, limit: Option<u64>) -> Self {
        Self {
            dir: dir.to_owned(),
            limit,
            used: Mutex::new(None),
        }
    }

    fn limit(&self) -> Option<u64> {
        let file = fs::read_to_string(self.dir.join(LIMIT_FILE)).ok();
        let set = file.and_then(|text| text.trim().parse().ok());
        match (self.limit, set) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Reserves room for `bytes`; `false` if the limit does not allow them.
    pub fn reserve(&self, bytes: u64) -> io::Result<bool> {
        let Some(limit) = self.limit() else {
            return Ok(true);
        };
        let mut used = self.used.lock().expect("no panic while it was held");
        let mut now = match *used {
            Some(counted) if counted + bytes <= limit => counted,
            // Blocks that were written twice counted twice: look again before refusing.
            _ => used_bytes(&self.dir)?,
        };
        let fits = now + bytes <= limit;
        if fits {
            now += bytes;
        }
        *used = Some(now);
        Ok(fits)
    }

    /// Files came or went: the next reservation counts anew.
    pub fn recount(&self) {
        *self.used.lock().expect("no panic while it was held") = None;
    }

    pub fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        let on_disk = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(match self.limit() {
            Some(limit) => on_disk.min(limit.saturating_sub(used_bytes(&self.dir)?)),
            None => on_disk,
        })
    }
}

fn used_bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        // A file that is being deleted takes up nothing.
        if let Ok(file) = entry?.metadata() {
            sum += file.blocks() * 512;
        }
    }
    Ok(sum)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
