//! What a program of the guest changed, found by comparing before and after.

use std::collections::{BTreeMap, BTreeSet};

use domain::changes::State;

use super::{
    EditError, Editor,
    found::{Found, find},
};
use crate::convert::{diff::Contents, tree::Tree};

/// The most that is kept of files from before, to be compared line by line. What is beyond has a digest only.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// The most paths that are watched; /etc and /boot have some thousands.
pub(super) const WATCHED_MAX: usize = 262_144;

type Seen = BTreeMap<String, Found>;

impl Editor<'_> {
    /// Runs something that changes files behind our back, and notes what it changed in these folders. Where it
    /// fails, that is noted as well: the caller has the error, and the list says how far it came.
    pub fn watch<R>(&mut self, folders: &[&str], why: &str, run: impl FnOnce() -> R) -> Result<R, EditError> {
        let before = look(self.tree, folders)?;
        let result = run();
        let after = look(self.tree, folders)?;
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for path in paths {
            self.note(path, before.get(path), after.get(path), why)?;
        }
        Ok(result)
    }
}

/// Everything in these folders, and the folders themselves; what is not there is not seen.
fn look(tree: &Tree, folders: &[&str]) -> Result<Seen, EditError> {
    let mut seen = Seen::new();
    let mut kept = 0;
    let mut ahead: Vec<String> = folders.iter().map(|folder| (*folder).to_owned()).collect();
    while let Some(path) = ahead.pop() {
        let Some(mut found) = find(tree, &path)? else {
            continue;
        };
        if found.state == State::Folder {
            ahead.extend(tree.list(&path)?.iter().map(|name| format!("{path}/{name}")));
        }
        if let Contents::Text(text) = &found.contents {
            kept += text.len();
            if kept > KEPT_BYTES_MAX {
                found.contents = Contents::TooLong;
            }
        }
        seen.insert(path, found);
        if seen.len() + ahead.len() > WATCHED_MAX {
            return Err(EditError::TooManyWatched);
        }
    }
    Ok(seen)
}
