//! The only way in which conversion changes a guest's files: each change is noted, with why it was made.
//!
//! A change that changes nothing is not noted, so that a step that runs twice leaves no trace of the second time.

mod found;
mod watch;

use domain::changes::{CHANGES_MAX, Change, ChangeList, State, What};

use super::{
    diff::{Contents, diff},
    tree::{Readers, Tree, TreeError},
};
use found::{Found, find};

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("cannot convert {path}: {problem}")]
    NotUnderstood { path: String, problem: String },
    #[error("more than {CHANGES_MAX} changes")]
    TooManyChanges,
    #[error("more than {} files and folders to watch", watch::WATCHED_MAX)]
    TooManyWatched,
}

/// Changes files in one step of a conversion.
#[derive(Debug)]
pub struct Editor<'a> {
    tree: &'a Tree,
    list: &'a mut ChangeList,
    step: &'static str,
}

impl<'a> Editor<'a> {
    pub fn new(tree: &'a Tree, list: &'a mut ChangeList, step: &'static str) -> Self {
        Self { tree, list, step }
    }

    pub fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// Gives a file these contents, and makes the folders that lead to it. A file that was there keeps its owner,
    /// mode and extended attributes, SELinux's label among them; a new one belongs to root and all may read it.
    pub fn write(&mut self, path: &str, contents: &[u8], why: &str) -> Result<(), EditError> {
        self.write_for(path, contents, why, Readers::All)
    }

    /// The same, but that a new file can be read by root only.
    pub fn write_private(&mut self, path: &str, contents: &[u8], why: &str) -> Result<(), EditError> {
        self.write_for(path, contents, why, Readers::Owner)
    }

    fn write_for(
        &mut self,
        path: &str,
        contents: &[u8],
        why: &str,
        readers: Readers,
    ) -> Result<(), EditError> {
        let before = self.tree.read(path)?;
        if before.as_deref() == Some(contents) {
            return Ok(());
        }
        self.make_folders_to(path, why)?;
        self.tree.replace(path, contents, readers)?;
        let path = &self.tree.target(path)?;
        self.note(
            path,
            before.map(Found::file).as_ref(),
            Some(&Found::file(contents.to_vec())),
            why,
        )
    }

    /// Writes a text file anew, if it is there.
    pub fn amend(
        &mut self,
        path: &str,
        why: &str,
        change: impl FnOnce(&str) -> String,
    ) -> Result<(), EditError> {
        match self.tree.read_text(path)? {
            Some(text) => self.write(path, change(&text).as_bytes(), why),
            None => Ok(()),
        }
    }

    /// Removes a file or symbolic link, or a folder with all that is in it.
    pub fn remove(&mut self, path: &str, why: &str) -> Result<(), EditError> {
        self.remove_as(path, why, &|found| found)
    }

    /// The same, but that nothing of what the files held enters the list: keys are among them.
    pub fn remove_private(&mut self, path: &str, why: &str) -> Result<(), EditError> {
        self.remove_as(path, why, &Found::private)
    }

    fn remove_as(&mut self, path: &str, why: &str, noted: &dyn Fn(Found) -> Found) -> Result<(), EditError> {
        let Some(found) = find(self.tree, path)? else {
            return Ok(());
        };
        if found.state == State::Folder {
            for name in self.tree.list(path)? {
                self.remove_as(&format!("{path}/{name}"), why, noted)?;
            }
        }
        self.tree.remove(path)?;
        self.note(path, Some(&noted(found)), None, why)
    }

    /// Puts a symbolic link at `path`, instead of the file or link that is there.
    pub fn link(&mut self, path: &str, target: &str, why: &str) -> Result<(), EditError> {
        let (before, after) = (
            find(self.tree, path)?,
            Found::plain(State::Link {
                target: target.to_owned(),
            }),
        );
        if before.as_ref().is_some_and(|before| before.state == after.state) {
            return Ok(());
        }
        self.make_folders_to(path, why)?;
        self.tree.replace_with_link(path, target)?;
        self.note(path, before.as_ref(), Some(&after), why)
    }

    fn make_folders_to(&mut self, path: &str, why: &str) -> Result<(), EditError> {
        for folder in self.tree.make_folders_to(path)? {
            self.note(&folder, None, Some(&Found::plain(State::Folder)), why)?;
        }
        Ok(())
    }

    fn note(
        &mut self,
        path: &str,
        before: Option<&Found>,
        after: Option<&Found>,
        why: &str,
    ) -> Result<(), EditError> {
        let state = |found: Option<&Found>| found.map(|found| found.state.clone());
        let Some(what) = What::between(state(before), state(after)) else {
            return Ok(());
        };
        if self.list.changes.len() >= CHANGES_MAX {
            return Err(EditError::TooManyChanges);
        }
        let contents =
            |found: Option<&'_ Found>| found.map_or(Contents::Nothing, |found| found.contents.clone());
        self.list.changes.push(Change {
            path: path.to_owned(),
            step: self.step.to_owned(),
            why: why.to_owned(),
            what,
            diff: diff(&contents(before), &contents(after)),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
