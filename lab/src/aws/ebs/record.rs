//! `record.json` of a snapshot: what moto's EC2 and EBS direct both go by. Whoever makes the snapshot writes it;
//! `CompleteSnapshot` changes it once.
//!
//! ```text
//! DIR/snapshots/snap-…/record.json   the record
//!                      deleted       there once EC2's DeleteSnapshot was called
//!                      blocks        what was put, each block at its natural offset; its time is that of the last put
//! ```
//!
//! The state is no field: it follows from the record's times and the clock, so that both see it change at once.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) region: String,
    /// GiB.
    pub(super) volume_size: u64,
    /// Whose blocks show where this snapshot has none.
    pub(super) parent: Option<String>,
    pub(super) encrypted: bool,
    pub(super) kms_key_arn: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    pub(super) started_at_ms: u64,
    /// An error if it is not completed so long after its start or its last block. Absent where EC2 makes it.
    #[serde(default)]
    pub(super) timeout_ms: Option<u64>,
    /// `None` until it is known when.
    #[serde(default)]
    pub(super) completes_at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Blocks can be put.
    Pending,
    /// Nothing can be done but to wait.
    Completing,
    Completed,
    Error,
}

impl State {
    /// As the API names it.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Pending | Self::Completing => "pending",
            Self::Completed => "completed",
            Self::Error => "error",
        }
    }
}

impl Record {
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(folder.join("record.json"))?)?)
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join("record.draft");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(draft, folder.join("record.json"))
    }

    /// `last_put_ms` is its start if nothing was put.
    pub(super) fn state(&self, last_put_ms: u64, now_ms: u64) -> State {
        match (self.completes_at_ms, self.timeout_ms) {
            (Some(at), _) if at <= now_ms => State::Completed,
            (Some(_), _) => State::Completing,
            (None, Some(timeout)) if last_put_ms.max(self.started_at_ms) + timeout <= now_ms => State::Error,
            (None, _) => State::Pending,
        }
    }
}

pub(super) fn now_ms() -> u64 {
    ms(SystemTime::now())
}

pub(super) fn ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
