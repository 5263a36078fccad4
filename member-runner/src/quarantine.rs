//! What the snapshot store has lost of a server's checkpoints, and what became of it.
//!
//! ```text
//! found ─▶ missing: the newest checkpoint shows it ── the agent sends it again ──▶ repaired
//!   └───── hidden: later checkpoints hold good blocks ───────────────────────────────┤
//!                                        the last checkpoint that shows it leaves ───┴─▶ forgotten
//! ```
//!
//! Kept in `quarantine.json` of the server's folder. A checkpoint that shows damage cannot be launched; a
//! disk with missing blocks is compared with its source in the next session, and of a missing block the
//! runner claims to have a digest that nothing has, so that it is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use domain::{
    checkpoint::CheckpointNumber,
    digest::{DIGEST_LEN, Digest},
    disk::{DiskId, block_count},
};
use protocol::exchange::ObservedCheckpoint;
use serde::{Deserialize, Serialize};

use crate::{
    digests::DigestChange,
    files::{self, FileError},
};

/// What is claimed of a block that is missing.
pub const LOST: Digest = Digest([0; DIGEST_LEN]);

/// What a checkpoint changes of each of its disks; `None` if nothing.
pub type Changes = BTreeMap<DiskId, Option<DigestChange>>;

const FILE: &str = "quarantine.json";

#[derive(Debug, Default)]
pub struct Quarantine {
    entries: Vec<Entry>,
}

/// Blocks of a disk that are damaged in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub disk: DiskId,
    /// The source's name of the disk.
    pub device_name: String,
    /// The newest snapshot that shows the damage.
    pub snapshot: String,
    pub file: PathBuf,
    pub detail: String,
    pub found_at_ms: i64,
    pub blocks: BTreeSet<u64>,
    /// Those that the newest checkpoint shows.
    pub missing: BTreeSet<u64>,
    /// Those that show any of the blocks.
    pub checkpoints: BTreeSet<CheckpointNumber>,
}

impl Entry {
    fn words(&self) -> String {
        let (name, file) = (&self.device_name, self.file.display());
        match (self.blocks.len(), self.blocks.first()) {
            (1, Some(block)) => format!("block {block} of {name} is damaged in {file}"),
            (count, first) => {
                let first = first.copied().unwrap_or_default();
                format!("{count} blocks of {name}, from block {first} on, are damaged in {file}")
            }
        }
    }

    fn missing_after(&self, changes: &Changes) -> BTreeSet<u64> {
        match changes.get(&self.disk) {
            // The server has no such disk any more.
            None => BTreeSet::new(),
            Some(None) => self.missing.clone(),
            Some(Some(change)) if change.from_scratch => BTreeSet::new(),
            Some(Some(change)) => {
                let end = block_count(change.bytes);
                let still = |block: &&u64| **block < end && !change.blocks.contains_key(block);
                self.missing.iter().filter(still).copied().collect()
            }
        }
    }

    fn is_over(&self) -> bool {
        self.missing.is_empty() && self.checkpoints.is_empty()
    }
}

impl Quarantine {
    pub fn load(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(FILE);
        let Some(text) = files::read(&path)? else {
            return Ok(Self::default());
        };
        let entries = serde_json::from_slice(&text).map_err(|error| FileError {
            verb: "understand",
            path,
            source: error.into(),
        })?;
        Ok(Self { entries })
    }

    fn save(dir: &Path, entries: Vec<Entry>) -> Result<Self, FileError> {
        let text = serde_json::to_vec(&entries).expect("its keys are text");
        files::replace(&dir.join(FILE), &text)?;
        Ok(Self { entries })
    }

    /// The blocks of a disk that the newest checkpoint shows damaged.
    pub fn missing(&self, disk: &DiskId) -> BTreeSet<u64> {
        let own = self.entries.iter().filter(|entry| entry.disk == *disk);
        own.flat_map(|entry| entry.missing.iter().copied()).collect()
    }

    /// What of a checkpoint is damaged, in words.
    pub fn damage(&self, number: CheckpointNumber) -> Option<String> {
        let own = self
            .entries
            .iter()
            .filter(|entry| entry.checkpoints.contains(&number));
        let words: Vec<_> = own.map(Entry::words).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Takes up what was found. Gives what is new of it, in words.
    pub fn take_up(&mut self, dir: &Path, found: Vec<Entry>) -> Result<Vec<Entry>, FileError> {
        let mut entries = self.entries.clone();
        let mut news = Vec::new();
        for new in found {
            let known = entries
                .iter_mut()
                .find(|entry| entry.disk == new.disk && entry.file == new.file);
            let Some(known) = known else {
                entries.push(new.clone());
                news.push(new);
                continue;
            };
            let before = known.clone();
            known.blocks.extend(&new.blocks);
            known.missing.extend(&new.missing);
            known.checkpoints.extend(&new.checkpoints);
            if *known != before {
                news.push(new);
            }
        }
        if !news.is_empty() {
            *self = Self::save(dir, entries)?;
        }
        Ok(news)
    }

    /// A checkpoint is about to exist. There must be no moment at which it shows damage and is not marked,
    /// and none at which a block is missing and nobody knows: so this comes before, and
    /// [`Quarantine::committed`] after.
    pub fn committing(
        &mut self,
        dir: &Path,
        number: CheckpointNumber,
        changes: &Changes,
    ) -> Result<(), FileError> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            if entry.missing_after(changes).is_empty() {
                entry.checkpoints.remove(&number);
            } else {
                entry.checkpoints.insert(number);
            }
        }
        self.replace(dir, entries)
    }

    /// The checkpoint exists. What it holds is not missing any more.
    pub fn committed(&mut self, dir: &Path, changes: &Changes) -> Result<(), FileError> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            entry.missing = entry.missing_after(changes);
        }
        self.replace(dir, entries)
    }

    /// Forgets of what is over, given the checkpoints that there are.
    pub fn tidy(&mut self, dir: &Path, checkpoints: &[ObservedCheckpoint]) -> Result<(), FileError> {
        let mut entries = self.entries.clone();
        let exists = |number: &CheckpointNumber| checkpoints.iter().any(|one| one.number == *number);
        for entry in &mut entries {
            entry.checkpoints.retain(exists);
        }
        entries.retain(|entry| !entry.is_over());
        self.replace(dir, entries)
    }

    fn replace(&mut self, dir: &Path, entries: Vec<Entry>) -> Result<(), FileError> {
        if entries != self.entries {
            *self = Self::save(dir, entries)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::disk::BLOCK_LEN;

    use super::*;

    const BLOCK: u64 = BLOCK_LEN as u64;

    fn found(file: &str, missing: &[u64], checkpoints: &[u64]) -> Entry {
        Entry {
            disk: "serial-1".parse().unwrap(),
            device_name: "/dev/sda".into(),
            snapshot: "snap-1".into(),
            file: file.into(),
            detail: "its digest is another".into(),
            found_at_ms: 1,
            blocks: missing.iter().copied().chain([90]).collect(),
            missing: missing.iter().copied().collect(),
            checkpoints: checkpoints.iter().copied().map(CheckpointNumber).collect(),
        }
    }

    fn changes(blocks: &[u64], bytes: u64) -> Changes {
        let change = DigestChange {
            from_scratch: false,
            bytes,
            blocks: blocks.iter().map(|block| (*block, LOST)).collect(),
        };
        Changes::from([("serial-1".parse().unwrap(), Some(change))])
    }

    #[test]
    fn a_block_is_missing_until_a_checkpoint_holds_it_and_marks_those_that_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, disk) = (dir.path(), "serial-1".parse().unwrap());
        let mut quarantine = Quarantine::load(dir).unwrap();
        let news = quarantine.take_up(dir, vec![found("/store/a", &[3, 7], &[4, 5])]);
        assert_eq!(news.unwrap().len(), 1);
        let again = quarantine.take_up(dir, vec![found("/store/a", &[3], &[5])]);
        assert_eq!(again.unwrap(), []);
        for number in [3, 4, 5, 6] {
            let damage = quarantine.damage(CheckpointNumber(number));
            assert_eq!(damage.is_some(), [4, 5].contains(&number), "{damage:?}");
        }

        let part = changes(&[3], 100 * BLOCK);
        quarantine.committing(dir, CheckpointNumber(6), &part).unwrap();
        // Killed in between, more is missing than need be, and never less.
        assert_eq!(Quarantine::load(dir).unwrap().missing(&disk), [3, 7].into());
        quarantine.committed(dir, &part).unwrap();
        let words = quarantine.damage(CheckpointNumber(6)).unwrap();
        assert_eq!(
            words,
            "3 blocks of /dev/sda, from block 3 on, are damaged in /store/a"
        );
        assert_eq!(quarantine.missing(&disk), [7].into());

        let nothing = Changes::from([("serial-1".parse().unwrap(), None)]);
        quarantine.committing(dir, CheckpointNumber(7), &nothing).unwrap();
        quarantine.committed(dir, &nothing).unwrap();
        assert!(quarantine.damage(CheckpointNumber(7)).is_some());

        // The disk shrank.
        let shorter = changes(&[], 7 * BLOCK);
        quarantine.committing(dir, CheckpointNumber(8), &shorter).unwrap();
        quarantine.committed(dir, &shorter).unwrap();
        assert_eq!(quarantine.damage(CheckpointNumber(8)), None);
        assert_eq!(Quarantine::load(dir).unwrap().missing(&disk), [].into());
    }

    #[test]
    fn an_entry_stays_as_long_as_a_checkpoint_shows_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut quarantine = Quarantine::default();
        quarantine
            .take_up(dir, vec![found("/store/a", &[], &[4])])
            .unwrap();
        let listed = |number| ObservedCheckpoint {
            number: CheckpointNumber(number),
            kind: domain::checkpoint::CheckpointKind::Launchable,
            consistency: domain::checkpoint::Consistency::Crash,
            taken_at_ms: 0,
            request: 0,
            frozen_ms: 0,
            received_bytes: 0,
            damage: None,
            disks: Vec::new(),
        };
        quarantine.tidy(dir, &[listed(4), listed(5)]).unwrap();
        assert_eq!(Quarantine::load(dir).unwrap().entries.len(), 1);
        quarantine.tidy(dir, &[listed(5)]).unwrap();
        assert_eq!(Quarantine::load(dir).unwrap().entries, []);
    }
}
