//! The disks of this machine.
//!
//! - [`discover`]: which there are, from `/sys/block`, and those that somebody named.
//! - [`identity`]: what names a disk for good.
//! - [`boot`]: which one the machine starts from.
//! - [`mountinfo`]: which file systems are mounted.
//! - [`reader`]: reads blocks past the page cache.
//! - [`quiet`]: proves that nobody wrote to the disks during a pass, or that nobody can say.

use std::path::PathBuf;

use domain::disk::Disk;

pub mod boot;
pub mod discover;
#[cfg(test)]
pub(crate) mod fake_tree;
pub mod identity;
pub mod mountinfo;
pub mod quiet;
pub mod reader;

/// The folders that the kernel shows itself in. Tests put trees of their own there.
#[derive(Debug, Clone)]
pub struct Roots {
    pub sys: PathBuf,
    pub proc: PathBuf,
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
        }
    }
}

/// A disk as it is found right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDisk {
    pub disk: Disk,
    /// What to open to read it.
    pub path: PathBuf,
    pub kind: DiskKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskKind {
    /// Names in `/sys/block`. Several where several paths lead to one disk: a write may come by any.
    Block { kernel_names: Vec<String> },
    /// An image file.
    File,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot list the block devices in {path}")]
    List {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot find {path}")]
    Missing {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is neither a block device nor a regular file")]
    NotADisk { path: PathBuf },
    #[error("{path} is a partition; name the whole disk, {disk}")]
    Partition { path: PathBuf, disk: String },
    #[error("{path} holds no data: its size is zero")]
    Empty { path: PathBuf },
    #[error("cannot read {path}")]
    Attribute {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{first} and {second} are the same disk")]
    Twice { first: PathBuf, second: PathBuf },
}
