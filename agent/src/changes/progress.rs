//! How far the replication of one disk is. Written by the scanning threads, read for each report.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use domain::disk::{Disk, DiskProgress, Tracking};

#[derive(Debug)]
pub struct Progress {
    disk: Disk,
    /// Bytes of which it is known whether the runner holds them; all, once the disk was copied.
    known: AtomicU64,
    /// Looked at in the running round.
    scanned: AtomicU64,
    /// Known to differ, and not yet handed to the network.
    backlogged: AtomicU64,
    /// Known to have changed, and not yet looked at.
    waiting: AtomicU64,
    tracking: Mutex<Option<Tracking>>,
}

impl Progress {
    /// `copied`: the runner has had the whole disk before.
    pub fn new(disk: Disk, copied: bool) -> Self {
        let known = AtomicU64::new(if copied { disk.bytes } else { 0 });
        Self {
            disk,
            known,
            scanned: AtomicU64::new(0),
            backlogged: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            tracking: Mutex::new(None),
        }
    }

    /// The runner has had the whole disk: what is looked at from now on are changes.
    pub fn copied_whole(&self) {
        self.known.store(self.disk.bytes, Relaxed);
    }

    /// How changes are found, and how much of them waits to be looked at, if that is known.
    pub fn tracked(&self, tracking: Tracking, waiting_bytes: Option<u64>) {
        *self.tracking.lock().unwrap_or_else(PoisonError::into_inner) = Some(tracking);
        self.waiting.store(waiting_bytes.unwrap_or(0), Relaxed);
    }

    pub fn round_began(&self) {
        self.scanned.store(0, Relaxed);
        // What an interrupted round had found is found again.
        self.backlogged.store(0, Relaxed);
    }

    /// `bytes` more were looked at; they are the same at both ends, or counted by `found`.
    pub fn scanned(&self, bytes: u64) {
        let scanned = self.scanned.fetch_add(bytes, Relaxed) + bytes;
        self.known.fetch_max(scanned.min(self.disk.bytes), Relaxed);
    }

    pub fn found(&self, bytes: u64) {
        self.backlogged.fetch_add(bytes, Relaxed);
    }

    pub fn sent(&self, bytes: u64) {
        let less = |backlogged: u64| Some(backlogged.saturating_sub(bytes));
        // The closure never refuses.
        let _before = self.backlogged.fetch_update(Relaxed, Relaxed, less);
    }

    pub fn report(&self) -> DiskProgress {
        let backlogged_bytes = self.backlogged.load(Relaxed) + self.waiting.load(Relaxed);
        let tracking = self.tracking.lock().unwrap_or_else(PoisonError::into_inner);
        DiskProgress {
            id: self.disk.id.clone(),
            device_name: self.disk.device_name.clone(),
            total_bytes: self.disk.bytes,
            replicated_bytes: self.known.load(Relaxed).saturating_sub(backlogged_bytes),
            rescanned_bytes: self.scanned.load(Relaxed),
            backlogged_bytes,
            tracking: tracking.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk {
            id: "serial-1".parse().unwrap(),
            device_name: "/dev/sda".into(),
            bytes: 100,
            is_boot: true,
        }
    }

    #[test]
    fn a_first_copy_grows_and_a_rescan_starts_from_the_whole() {
        let first = Progress::new(disk(), false);
        first.round_began();
        first.found(40);
        first.scanned(60);
        assert_eq!(first.report().replicated_bytes, 20);
        first.sent(40);
        assert_eq!(first.report().replicated_bytes, 60);
        // The next round begins at the front and takes nothing back.
        first.round_began();
        assert_eq!(
            (first.report().replicated_bytes, first.report().rescanned_bytes),
            (60, 0)
        );

        let again = Progress::new(disk(), true);
        again.found(30);
        let report = again.report();
        assert_eq!((report.replicated_bytes, report.backlogged_bytes), (70, 30));
    }
}
