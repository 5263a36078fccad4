//! What a conversion changed, and why: the list that the owner of a server reads and an auditor keeps.
//!
//! Entries stand in the order in which things were done. A path that two steps changed has two entries, and the
//! second begins with the digest that the first ended with. What a file held that nobody may read does not enter.

use std::fmt::{self, Write};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};

use crate::{checkpoint::CheckpointNumber, digest::Digest, ids::SourceServerId};

/// The most entries of a list. A conversion makes some dozens.
pub const CHANGES_MAX: usize = 65_536;

/// The longest path, target of a link, or reason, in bytes: `PATH_MAX` of Linux, each byte of which may have become
/// a replacement character.
const PATH_LEN_MAX: usize = 3 * 4096;
const STEP_LEN_MAX: usize = 64;
/// Both sides of a file that is compared are a quarter of a mebibyte at most.
const DIFF_LEN_MAX: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeList {
    pub server: SourceServerId,
    pub checkpoint: CheckpointNumber,
    #[serde(deserialize_with = "at_most_changes")]
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    #[serde(deserialize_with = "at_most::<PATH_LEN_MAX, _>")]
    pub path: String,
    /// The step of the conversion.
    #[serde(deserialize_with = "at_most::<STEP_LEN_MAX, _>")]
    pub step: String,
    #[serde(deserialize_with = "at_most::<PATH_LEN_MAX, _>")]
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

    pub fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Changed { .. } => "changed",
            Self::Removed { .. } => "removed",
        }
    }

    /// Before and after.
    pub fn states(&self) -> (Option<&State>, Option<&State>) {
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
        #[serde(deserialize_with = "at_most::<PATH_LEN_MAX, _>")]
        target: String,
    },
    Folder,
    /// A FIFO, a socket or a device.
    Special,
}

/// What changed in a text, line by line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Diff {
    /// In unified format, with three lines around each change; values of secrets are hidden.
    Text {
        #[serde(deserialize_with = "at_most::<DIFF_LEN_MAX, _>")]
        unified: String,
    },
    LeftOut {
        #[serde(deserialize_with = "at_most::<PATH_LEN_MAX, _>")]
        because: String,
    },
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

fn at_most<'de, const MAX: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > MAX {
        return Err(D::Error::custom(format_args!("a text of more than {MAX} bytes")));
    }
    Ok(text)
}

/// Ends with the first change too many, and keeps no list that is as long as somebody likes.
fn at_most_changes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Change>, D::Error> {
    struct Changes;

    impl<'de> Visitor<'de> for Changes {
        type Value = Vec<Change>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {CHANGES_MAX} changes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Change>, A::Error> {
            let mut changes = Vec::new();
            while let Some(change) = seq.next_element()? {
                if changes.len() == CHANGES_MAX {
                    return Err(A::Error::invalid_length(CHANGES_MAX + 1, &self));
                }
                changes.push(change);
            }
            Ok(changes)
        }
    }

    deserializer.deserialize_seq(Changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str) -> Change {
        Change {
            path: path.into(),
            step: "fstab".into(),
            why: "names change".into(),
            what: What::Changed {
                before: State::of(b"old"),
                after: State::Link { target: "new".into() },
            },
            diff: Some(Diff::LeftOut {
                because: "private".into(),
            }),
        }
    }

    fn list(changes: Vec<Change>) -> ChangeList {
        ChangeList {
            changes,
            ..ChangeList::new("s-00000000000000001".parse().unwrap(), CheckpointNumber(7))
        }
    }

    fn read_back(list: &ChangeList) -> Result<ChangeList, serde_json::Error> {
        serde_json::from_str(&serde_json::to_string(list).unwrap())
    }

    #[test]
    fn a_list_is_stored_as_it_is_read() {
        let list = list(vec![change("/etc/fstab")]);
        assert_eq!(read_back(&list).unwrap(), list);
        insta::assert_json_snapshot!(list);
        insta::assert_snapshot!(list.text());
    }

    #[test]
    fn a_list_of_a_stranger_is_as_long_as_one_of_ours_at_most() {
        let longest = change(&"a".repeat(PATH_LEN_MAX));
        assert!(read_back(&list(vec![longest.clone()])).is_ok());
        let mut longer = longest;
        longer.path.push('a');
        assert!(read_back(&list(vec![longer])).is_err());

        let unified = "+".repeat(DIFF_LEN_MAX + 1);
        let mut differs = change("/etc/fstab");
        differs.diff = Some(Diff::Text { unified });
        assert!(read_back(&list(vec![differs])).is_err());

        let mut many = list(vec![change("/etc/fstab"); CHANGES_MAX]);
        assert!(read_back(&many).is_ok());
        many.changes.push(change("/etc/fstab"));
        assert!(read_back(&many).is_err());
    }

    #[test]
    fn a_path_cannot_move_the_cursor_of_a_terminal() {
        let text = list(vec![change("/etc/\u{1b}[2J\nfstab")]).text();
        assert!(text.contains("/etc/\u{fffd}[2J\u{fffd}fstab"), "{text}");
    }
}
