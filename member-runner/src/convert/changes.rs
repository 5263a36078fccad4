//! What a conversion changed, and why: the list that the owner of a server reads and an auditor keeps.
//!
//! Entries stand in the order in which things were done. A path that two steps changed has two entries, and the
//! second begins with the digest that the first ended with. What a file held that nobody may read does not enter.

mod diff;
mod signed;

use std::fmt::Write;

use domain::{checkpoint::CheckpointNumber, digest::Digest, ids::SourceServerId};
use serde::{Deserialize, Serialize};

pub use diff::{Contents, DIFFED_BYTES_MAX, Diff};
pub use signed::{SignedChangeList, SignedError};

/// The most entries of a list. A conversion makes some dozens.
pub const CHANGES_MAX: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeList {
    pub server: SourceServerId,
    pub checkpoint: CheckpointNumber,
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub path: String,
    /// The step of the conversion.
    pub step: String,
    pub why: String,
    #[serde(flatten)]
    pub what: What,
    /// Of text files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Diff>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    Created { after: State },
    Changed { before: State, after: State },
    Removed { before: State },
}

impl What {
    /// `None` where nothing changed.
    pub fn between(before: Option<State>, after: Option<State>) -> Option<Self> {
        match (before, after) {
            (None, Some(after)) => Some(Self::Created { after }),
            (Some(before), None) => Some(Self::Removed { before }),
            (Some(before), Some(after)) if before != after => Some(Self::Changed { before, after }),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Changed { .. } => "changed",
            Self::Removed { .. } => "removed",
        }
    }

    fn states(&self) -> (Option<&State>, Option<&State>) {
        match self {
            Self::Created { after } => (None, Some(after)),
            Self::Changed { before, after } => (Some(before), Some(after)),
            Self::Removed { before } => (Some(before), None),
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum State {
    File {
        bytes: u64,
        digest: Digest,
    },
    Link {
        target: String,
    },
    Folder,
    /// A FIFO, a socket or a device.
    Special,
}

impl State {
    /// Of a file with these contents.
    pub fn of(contents: &[u8]) -> Self {
        Self::File {
            bytes: contents.len() as u64,
            digest: Digest::of(contents),
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { bytes, digest } => write!(f, "file of {bytes} bytes, BLAKE3 {digest}"),
            Self::Link { target } => write!(f, "symbolic link to {}", printable(target)),
            Self::Folder => f.write_str("folder"),
            Self::Special => f.write_str("FIFO, socket or device"),
        }
    }
}

impl ChangeList {
    pub fn new(server: SourceServerId, checkpoint: CheckpointNumber) -> Self {
        Self {
            server,
            checkpoint,
            changes: Vec::new(),
        }
    }

    /// For a reader, to be attached to an audit. Paths come from the guest, and cannot move a terminal's cursor.
    pub fn text(&self) -> String {
        let mut text = format!(
            "Changes to {}, checkpoint {}: {}\n",
            self.server,
            self.checkpoint,
            self.changes.len()
        );
        for change in &self.changes {
            change.write_to(&mut text);
        }
        text
    }
}

impl Change {
    fn write_to(&self, text: &mut String) {
        let (before, after) = self.what.states();
        let lines = [
            Some(format!("\n{} {}", self.what.name(), printable(&self.path))),
            Some(format!("  step:   {}", self.step)),
            Some(format!("  why:    {}", printable(&self.why))),
            before.map(|state| format!("  before: {state}")),
            after.map(|state| format!("  after:  {state}")),
        ];
        for line in lines.into_iter().flatten() {
            text.push_str(&line);
            text.push('\n');
        }
        match &self.diff {
            None => {}
            Some(Diff::Text { unified }) => {
                for line in unified.lines() {
                    writeln!(text, "    {}", printable(line)).expect("text grows");
                }
            }
            Some(Diff::LeftOut { because }) => writeln!(text, "    {because}").expect("text grows"),
        }
    }
}

/// Text of a guest that moves no cursor of a terminal.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}
