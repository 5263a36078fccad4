//! The promise of a checkpoint: written durably before the agent is told to forget, kept until the
//! checkpoint exists.
//!
//! ```text
//! journal/<id>.pieces   what was sent
//! journal/promise       the record: JSON in one line, its BLAKE3 in the next
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use domain::{checkpoint::CheckpointNumber, digest::Digest, disk::Disk};
use protocol::session::CheckpointOffer;
use serde::{Deserialize, Serialize};

use super::Seal;
use crate::files::{self, FileError, context};

/// A checkpoint that the agent was told is durable, before its blocks are merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub number: CheckpointNumber,
    pub offer: CheckpointOffer,
    pub received_bytes: u64,
    /// In the order that numbers them in the journal.
    pub disks: Vec<Disk>,
    /// The journal's file, in the same folder.
    journal: String,
    pub seal: Seal,
}

const VERSION: u32 = 1;
const NAME: &str = "promise";
const SUFFIX: &str = "pieces";

/// What is there of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    Record(Record),
    /// Something was promised, and nobody can tell what.
    Damaged,
}

/// The folder of the journals of a server.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub fn open(server_dir: &Path) -> Result<Self, FileError> {
        let dir = server_dir.join("journal");
        fs::create_dir_all(&dir).map_err(context("create", &dir))?;
        Ok(Self(dir))
    }

    /// Where a new journal goes.
    pub fn journal(&self) -> PathBuf {
        self.0.join(format!("{:016x}.{SUFFIX}", rand::random::<u64>()))
    }

    pub fn journal_of(&self, record: &Record) -> PathBuf {
        self.0.join(&record.journal)
    }

    pub fn promise(&self, record: &Record) -> Result<(), FileError> {
        files::replace(&self.0.join(NAME), &record.encode())
    }

    pub fn promised(&self) -> Result<Kept, FileError> {
        Ok(match files::read(&self.0.join(NAME))? {
            None => Kept::Nothing,
            Some(bytes) => Record::decode(&bytes).map_or(Kept::Damaged, Kept::Record),
        })
    }

    /// The promise is kept, or given up. Without it, its journal is nobody's.
    pub fn release(&self) -> Result<(), FileError> {
        files::remove(&self.0.join(NAME))
    }

    /// Removes journals that no promise names.
    pub fn tidy(&self) -> Result<(), FileError> {
        let kept = match self.promised()? {
            Kept::Nothing => None,
            Kept::Record(record) => Some(self.journal_of(&record)),
            Kept::Damaged => return Ok(()),
        };
        for entry in fs::read_dir(&self.0).map_err(context("list", &self.0))? {
            let path = entry.map_err(context("list", &self.0))?.path();
            let is_journal = path.extension().is_some_and(|extension| extension == SUFFIX);
            if is_journal && kept.as_ref() != Some(&path) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Record {
    pub fn new(
        number: CheckpointNumber,
        offer: CheckpointOffer,
        received_bytes: u64,
        disks: Vec<Disk>,
        journal: &super::Journal,
    ) -> Self {
        let name = journal.path().file_name().unwrap_or_default();
        Self {
            version: VERSION,
            number,
            offer,
            received_bytes,
            disks,
            journal: name.to_string_lossy().into_owned(),
            seal: journal.seal(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = serde_json::to_string(self).expect("a record's keys are text");
        let checksum = Digest::of(text.as_bytes());
        text.push('\n');
        text.push_str(&checksum.to_string());
        text.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (json, checksum) = std::str::from_utf8(bytes).ok()?.rsplit_once('\n')?;
        if Digest::of(json.as_bytes()).to_string() != checksum {
            return None;
        }
        let record: Self = serde_json::from_str(json).ok()?;
        (record.version == VERSION).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use domain::checkpoint::{CheckpointKind, Consistency};
    use proptest::prelude::*;

    use super::*;
    use crate::journal::Journal;

    fn promised(dir: &Path) -> (Folder, Record) {
        let folder = Folder::open(dir).unwrap();
        let journal = Journal::create(folder.journal()).unwrap();
        let offer = CheckpointOffer {
            kind: CheckpointKind::Launchable,
            consistency: Consistency::Filesystem,
            taken_at_ms: 1_700_000_000_000,
            request: 4,
            frozen_ms: 120,
            after: protocol::session::SentBefore(vec![1, 2]),
        };
        let record = Record::new(CheckpointNumber(7), offer, 4096, Vec::new(), &journal);
        folder.promise(&record).unwrap();
        (folder, record)
    }

    #[test]
    fn a_promise_keeps_its_journal_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, record) = promised(dir.path());
        let other = folder.journal();
        drop(Journal::create(other.clone()).unwrap());
        folder.tidy().unwrap();
        assert!(!other.exists());
        assert!(folder.journal_of(&record).exists());
        assert_eq!(folder.promised().unwrap(), Kept::Record(record.clone()));
        folder.release().unwrap();
        assert_eq!(folder.promised().unwrap(), Kept::Nothing);
        folder.tidy().unwrap();
        assert!(!folder.journal_of(&record).exists());
    }

    proptest! {
        #[test]
        fn a_damaged_record_is_told(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let dir = tempfile::tempdir().unwrap();
            let (folder, record) = promised(dir.path());
            let mut bytes = record.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(folder.0.join(NAME), bytes).unwrap();
            prop_assert_eq!(folder.promised().unwrap(), Kept::Damaged);
        }
    }
}
