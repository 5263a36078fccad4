//! A note of what is frozen, for the case that agent and guard are killed together: the next agent, or
//! `orglift-agent thaw`, which systemd calls, thaws what it names.
//!
//! It is written before anything is frozen and removed after everything is thawed, so that it may lie on any file
//! system. A file system that thaws twice takes no harm.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::fsfreeze;
use crate::layout::{FileError, read_if_there, remove_if_there, write_atomically};

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// After a restart nothing is frozen, and what is mounted at a place may be another.
    boot: String,
    mount_points: Vec<PathBuf>,
}

pub fn write(path: &Path, mount_points: Vec<PathBuf>) -> Result<(), FileError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| FileError {
            verb: "create",
            path: folder.to_owned(),
            source,
        })?;
    }
    let mark = Mark {
        boot: boot(),
        mount_points,
    };
    let json = serde_json::to_vec(&mark).expect("mount points come from a table of text");
    write_atomically(path, &json)
}

pub fn remove(path: &Path) {
    if let Err(error) = remove_if_there(path) {
        warn!("{}", crate::cli::chain(&error));
    }
}

/// Thaws what an agent left frozen, and says which. Nothing is logged, nor written elsewhere, before all is
/// thawed.
pub fn thaw_left_over(path: &Path) -> Vec<PathBuf> {
    let mark = match read_if_there(path) {
        Ok(Some(json)) => serde_json::from_slice::<Mark>(&json),
        Ok(None) => return Vec::new(),
        Err(error) => {
            warn!("{}", crate::cli::chain(&error));
            return Vec::new();
        }
    };
    let (mut thawed, mut troubles) = (Vec::new(), Vec::new());
    match mark {
        Ok(mark) if mark.boot == boot() => {
            for mount_point in mark.mount_points {
                match thaw(&mount_point) {
                    Ok(true) => thawed.push(mount_point),
                    Ok(false) => {}
                    Err(error) => troubles.push(format!("cannot thaw {}: {error}", mount_point.display())),
                }
            }
        }
        Ok(_of_an_earlier_boot) => {}
        // It is written whole. Somebody else's file names nothing that we froze.
        Err(error) => troubles.push(format!("cannot understand {}: {error}", path.display())),
    }
    for trouble in &troubles {
        warn!("{trouble}");
    }
    for mount_point in &thawed {
        warn!(
            "{} was left frozen by an agent that was killed; it is thawed",
            mount_point.display()
        );
    }
    remove(path);
    thawed
}

fn thaw(mount_point: &Path) -> std::io::Result<bool> {
    let file = fs::File::open(mount_point)?;
    Ok(fsfreeze::thaw(file.as_fd())?)
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_used_once_and_a_strange_one_is_put_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/frozen");
        assert!(thaw_left_over(&path).is_empty());
        write(&path, vec!["/nowhere".into(), "/proc".into()]).unwrap();
        assert!(thaw_left_over(&path).is_empty());
        assert!(!path.exists());
        for strange in ["", "{\"boot\":\"another\",\"mount_points\":[\"/\"]}"] {
            fs::write(&path, strange).unwrap();
            assert!(thaw_left_over(&path).is_empty());
            assert!(!path.exists());
        }
    }
}
