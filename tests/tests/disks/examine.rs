//! Whether an exported file system is whole: the strictest that its own tools can say.
//!
//! | | nothing to recover | then |
//! |---|---|---|
//! | ext4 | the superblock asks for no recovery; mounts with `noload` | mounts, and passes `e2fsck -fn` |
//! | XFS | mounts with `norecovery` | mounts, and passes `xfs_repair -n` |
//! | Btrfs | no log tree; mounts with `rescue=nologreplay` | mounts, and passes `btrfs check` |
//!
//! The middle column is for `filesystem` alone. Of XFS, `xfs_repair -n` says nothing before it was mounted: a frozen
//! one keeps its superblock in the log, so that files deleted while open are cleared at the next mount.

use std::path::Path;

use domain::checkpoint::Consistency;

use crate::place::{Mounted, sh};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    /// Examines the image and mounts it at `dir`, to be read. An error says what is wrong with it.
    pub fn examine(self, image: &Path, consistency: Consistency, dir: &Path) -> Result<Mounted, String> {
        let shown = image.display();
        if consistency == Consistency::Filesystem {
            match self {
                Self::Ext4 => {
                    let superblock = sh(&format!("dumpe2fs -h {shown}"))?;
                    if superblock.contains("needs_recovery") {
                        return Err(format!("{shown} wants its journal replayed"));
                    }
                }
                Self::Xfs => {}
                Self::Btrfs => {
                    let superblock = sh(&format!("btrfs inspect-internal dump-super {shown}"))?;
                    let log = superblock
                        .lines()
                        .find_map(|line| line.strip_prefix("log_root\t"));
                    if log.map(str::trim) != Some("0") {
                        return Err(format!("{shown} wants its log tree replayed: {log:?}"));
                    }
                }
            }
            drop(Mounted::try_at(
                dir,
                image,
                &self.options("ro", self.without_recovery()),
            )?);
        }
        // Nothing stands against it that only a mount would put right.
        drop(Mounted::try_at(dir, image, &self.options("rw", ""))?);
        let check = match self {
            Self::Ext4 => "e2fsck -fn",
            Self::Xfs => "xfs_repair -n -f",
            Self::Btrfs => "btrfs check --readonly",
        };
        sh(&format!("{check} {shown}"))?;
        Mounted::try_at(dir, image, &self.options("ro", ""))
    }

    fn without_recovery(self) -> &'static str {
        match self {
            Self::Ext4 => ",noload",
            Self::Xfs => ",norecovery",
            Self::Btrfs => ",rescue=nologreplay",
        }
    }

    /// The original of an image is in use on this very machine.
    fn options(self, access: &str, more: &str) -> String {
        let same_identity = if self == Self::Xfs { ",nouuid" } else { "" };
        format!("loop,{access}{same_identity}{more}")
    }

    pub fn make(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4 -q",
            Self::Xfs => "mkfs.xfs -q",
            Self::Btrfs => "mkfs.btrfs -q",
        }
    }

    /// The smallest that there is, or a little more.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Ext4 => 64 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 128 << 20,
        }
    }
}
