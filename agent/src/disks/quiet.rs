//! Did anybody write to the disks while they were read?
//!
//! A pass over disks that nobody wrote to shows them as they were at one instant. Each disk gives a
//! *witness* before the pass and one after it; only if all of them prove silence was it one instant.
//! Whatever is in doubt counts as written.
//!
//! - A block device counts its finished writes and discards, and shows how many are in flight. A write
//!   that began before the pass or ends after it is in flight at one of the two looks; any other that
//!   touched the pass has been counted in between. Without statistics (`queue/iostats` is 0) it is
//!   no witness.
//! - A regular file has its times of change and its size. A time is as coarse as the kernel's tick, so
//!   that a change is only sure to be seen if the last one before the pass is older than a tick.
//!   A program that writes through a mapping changes the times when it first touches a clean page;
//!   `fdatasync` before the pass makes its pages clean.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{DiskKind, LocalDisk, Roots};

/// Two ticks of the slowest kernel clock (100 Hz).
const TIMESTAMP_TICK: Duration = Duration::from_millis(20);

/// How long to wait for a file to be left alone before the pass starts regardless. It then proves
/// nothing unless the writer happened to stop.
const SETTLING_MAX: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    Blocks(Vec<WriteCounters>),
    File(FileTimes),
    /// It cannot be told, and why.
    Blind(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteCounters {
    writes: u64,
    sectors_written: u64,
    discards: u64,
    sectors_discarded: u64,
    in_flight: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileTimes {
    len: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The last change was too recent for its time to tell it from the next.
    fresh: bool,
}

impl Witness {
    fn is_settled(&self) -> bool {
        match self {
            Self::Blocks(counters) => counters.iter().all(|c| c.in_flight == 0),
            Self::File(times) => !times.fresh,
            Self::Blind(_) => true,
        }
    }

    /// Whether `self` and the later witness `after` prove that nothing was written in between.
    pub fn proves_silence(&self, after: &Self) -> bool {
        match (self, after) {
            (Self::Blocks(before), Self::Blocks(after)) => {
                let idle = |counters: &[WriteCounters]| counters.iter().all(|c| c.in_flight == 0);
                idle(before) && idle(after) && before == after
            }
            (Self::File(before), Self::File(after)) => {
                !before.fresh
                    && (before.len, before.inode, before.modified, before.changed)
                        == (after.len, after.inode, after.modified, after.changed)
            }
            _ => false,
        }
    }
}

/// Looks at all disks before a pass, giving writes that are under way a moment to finish.
pub async fn before_pass(roots: &Roots, disks: &[LocalDisk]) -> Vec<Witness> {
    for disk in disks {
        if disk.kind == DiskKind::File {
            flush(disk.path.clone()).await;
        }
    }
    let deadline = tokio::time::Instant::now() + SETTLING_MAX;
    loop {
        let witnesses = look(roots, disks);
        if witnesses.iter().all(Witness::is_settled) || tokio::time::Instant::now() >= deadline {
            return witnesses;
        }
        tokio::time::sleep(TIMESTAMP_TICK / 4).await;
    }
}

/// Bytes written to the disks since they were attached, as far as the kernel counts them.
pub fn written_bytes(roots: &Roots, disks: &[LocalDisk]) -> u64 {
    const SECTOR_LEN: u64 = 512;
    let sectors = |witness| match witness {
        Witness::Blocks(counters) => counters.iter().map(|c| c.sectors_written).sum(),
        Witness::File(_) | Witness::Blind(_) => 0,
    };
    look(roots, disks).into_iter().map(sectors).sum::<u64>() * SECTOR_LEN
}

/// Whether nothing is in flight to any disk, as far as it can be told.
pub fn is_settled(witnesses: &[Witness]) -> bool {
    witnesses.iter().all(Witness::is_settled)
}

/// Looks at all disks once.
pub fn look(roots: &Roots, disks: &[LocalDisk]) -> Vec<Witness> {
    disks.iter().map(|disk| witness(roots, disk)).collect()
}

/// Whether two looks at the same disks prove that nothing was written between them.
pub fn nothing_was_written(before: &[Witness], after: &[Witness]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(b, a)| b.proves_silence(a))
}

async fn flush(path: std::path::PathBuf) {
    // A file that cannot be flushed is no worse a witness for ordinary writes.
    let _flushed = tokio::task::spawn_blocking(move || File::open(path)?.sync_data()).await;
}

fn witness(roots: &Roots, disk: &LocalDisk) -> Witness {
    match &disk.kind {
        DiskKind::File => file_times(&disk.path),
        DiskKind::Block { kernel_names } => kernel_names
            .iter()
            .map(|name| counters(&roots.sys.join("block").join(name)))
            .collect::<Result<_, _>>()
            .map_or_else(Witness::Blind, Witness::Blocks),
    }
}

fn file_times(path: &Path) -> Witness {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Witness::Blind(format!("{}: {error}", path.display())),
    };
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (seconds, nanoseconds) = modified.max(changed);
    let latest = Duration::new(
        seconds.try_into().unwrap_or(0),
        nanoseconds.try_into().unwrap_or(0),
    );
    Witness::File(FileTimes {
        len: metadata.len(),
        inode: metadata.ino(),
        modified,
        changed,
        fresh: now < latest + TIMESTAMP_TICK,
    })
}

/// Reads `stat` and `inflight` of a disk, Documentation/block/stat.rst. `stat` has seventeen numbers since
/// Linux 5.5, fifteen since 4.18, and eleven before, when discards were counted as writes.
fn counters(folder: &Path) -> Result<WriteCounters, String> {
    let read = |name: &str| -> Result<Vec<u64>, String> {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        text.split_ascii_whitespace()
            .map(|number| number.parse().map_err(|_| format!("{} is odd", path.display())))
            .collect()
    };
    if read("queue/iostats")? != [1] {
        return Err(format!("{} keeps no statistics", folder.display()));
    }
    let (stat, in_flight) = (read("stat")?, read("inflight")?);
    let &[_, _, _, _, writes, _, sectors_written, ..] = stat.as_slice() else {
        return Err(format!("{} has few numbers", folder.join("stat").display()));
    };
    let &[_, writes_in_flight] = in_flight.as_slice() else {
        return Err(format!("{} is odd", folder.join("inflight").display()));
    };
    Ok(WriteCounters {
        writes,
        sectors_written,
        discards: stat.get(11).copied().unwrap_or(0),
        sectors_discarded: stat.get(13).copied().unwrap_or(0),
        in_flight: writes_in_flight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::{discover, fake_tree::FakeTree};

    const STILL: &str = "10 0 80 5 20 0 160 9 0 5 14 3 0 24 1 7 2";

    #[test]
    fn a_block_device_proves_silence_only_by_equal_counters_and_nothing_in_flight() {
        let tree = FakeTree::new();
        tree.disk("sda", 2048, "8:0").attribute("sda", "stat", STILL);
        let disks = discover::physical(&tree.roots()).unwrap();
        let look = || look(&tree.roots(), &disks);
        let before = look();
        assert!(nothing_was_written(&before, &look()));

        let reads_only = "99 7 80 5 20 0 160 9 1 5 14 3 0 24 1 7 2";
        tree.attribute("sda", "stat", reads_only)
            .attribute("sda", "inflight", "1 0");
        assert!(nothing_was_written(&before, &look()));

        for written in [
            "10 0 80 5 21 0 168 9 0 5 14 3 0 24 1 7 2",
            "10 0 80 5 20 0 160 9 0 5 14 4 0 32 1 7 2",
        ] {
            tree.attribute("sda", "stat", written);
            assert!(!nothing_was_written(&before, &look()), "{written}");
        }
        tree.attribute("sda", "stat", STILL)
            .attribute("sda", "inflight", "0 1");
        let in_flight = look();
        assert!(!nothing_was_written(&before, &in_flight));
        assert!(!nothing_was_written(&in_flight, &in_flight));
    }

    #[test]
    fn a_device_without_statistics_proves_nothing() {
        let tree = FakeTree::new();
        tree.disk("sda", 2048, "8:0")
            .attribute("sda", "queue/iostats", "0");
        let disks = discover::physical(&tree.roots()).unwrap();
        let look = look(&tree.roots(), &disks);
        assert!(matches!(look[0], Witness::Blind(_)), "{look:?}");
        assert!(!nothing_was_written(&look, &look));
    }

    #[tokio::test]
    async fn a_file_shows_that_it_was_written_even_at_once_and_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        fs::write(&path, [0; 4096]).unwrap();
        let roots = FakeTree::new().roots();
        let disks = discover::named(&roots, std::slice::from_ref(&path)).unwrap();
        for round in 0..20 {
            let before = before_pass(&roots, &disks).await;
            assert!(
                nothing_was_written(&before, &look(&roots, &disks)),
                "round {round}"
            );
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, &[round], 7).unwrap();
            assert!(
                !nothing_was_written(&before, &look(&roots, &disks)),
                "round {round}"
            );
        }
    }
}
