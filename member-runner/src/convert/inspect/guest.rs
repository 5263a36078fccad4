//! A guest's files, read by somebody who has to go on whatever they are.
//!
//! A file that cannot be read stands for one that is not there, and is noted: an inspection has no other errors. What
//! is read has a limit in all, so that a disk made of nothing but configuration does not keep it busy for hours.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error,
    io::Read,
};

use crate::convert::tree::{Free, Kind, Tree, TreeError};

/// The most files that are noted; one is enough to stop a conversion.
const UNREADABLE_MAX: usize = 100;

/// The most files of one folder that are read.
const FILES_MAX: usize = 256;
/// The most that is read in all. A kernel's lists are 1.5 MB, and all else is smaller.
const READ_MAX: usize = 256 << 20;

#[derive(Debug)]
pub struct Guest<'a> {
    tree: &'a Tree,
    read: Cell<usize>,
    unreadable: RefCell<BTreeMap<String, String>>,
}

impl<'a> Guest<'a> {
    pub fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            read: Cell::new(0),
            unreadable: RefCell::default(),
        }
    }

    /// What could not be read, by path, and why.
    pub fn into_unreadable(self) -> BTreeMap<String, String> {
        self.unreadable.into_inner()
    }

    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        if self.read.get() > READ_MAX {
            self.note(
                path,
                "the server's files before it were too long in all".to_owned(),
            );
            return None;
        }
        let bytes = self.noted(path, self.tree.read(path)).flatten()?;
        self.read.set(self.read.get() + bytes.len());
        Some(bytes)
    }

    /// The first bytes of a file of any length.
    pub fn start(&self, path: &str, len: usize) -> Option<Vec<u8>> {
        let file = self.noted(path, self.tree.open_file(path)).flatten()?;
        let mut start = Vec::with_capacity(len);
        match file.take(len as u64).read_to_end(&mut start) {
            Ok(_) => Some(start),
            Err(error) => {
                self.note(path, format!("cannot read {path}: {error}"));
                None
            }
        }
    }

    /// A comment in Latin-1 does not hide the rest of a file.
    pub fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(path)?).into_owned())
    }

    pub fn first_line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines().next().map(|line| line.trim().to_owned())
    }

    /// The names in a folder; none if it is not there.
    pub fn names(&self, path: &str) -> Vec<String> {
        self.noted(path, self.tree.list(path)).unwrap_or_default()
    }

    /// The paths in `folder` whose names end in `ending`.
    pub fn files(&self, folder: &str, ending: &str) -> Vec<String> {
        let mut names = self.names(folder);
        names.retain(|name| name.ends_with(ending));
        if names.len() > FILES_MAX {
            self.note(
                folder,
                format!("{folder} has more than the {FILES_MAX} files that are read"),
            );
            names.truncate(FILES_MAX);
        }
        names.into_iter().map(|name| format!("{folder}/{name}")).collect()
    }

    /// Whether anything has this name, be it a link that leads nowhere.
    pub fn has(&self, path: &str) -> bool {
        self.noted(path, self.tree.kind(path)).flatten().is_some()
    }

    pub fn first_of(&self, paths: &[&str]) -> Option<String> {
        paths
            .iter()
            .find(|path| self.has(path))
            .map(|path| (*path).to_owned())
    }

    pub fn has_folder(&self, path: &str) -> bool {
        self.noted(path, self.tree.kind(path)).flatten() == Some(Kind::Folder)
    }

    /// Whether systemd starts `unit`, by the link that `systemctl enable` makes.
    pub fn starts(&self, unit: &str) -> bool {
        ["multi-user", "network-online", "sysinit", "basic", "network"]
            .iter()
            .any(|target| self.has(&format!("/etc/systemd/system/{target}.target.wants/{unit}")))
    }

    /// Whether systemd is kept from ever starting a unit, by a link to nothing in place of its file.
    pub fn is_masked(&self, unit_file: &str) -> bool {
        self.noted(unit_file, self.tree.link(unit_file))
            .flatten()
            .is_some_and(|target| target == "/dev/null")
    }

    pub fn free(&self, path: &str) -> Option<Free> {
        self.noted(path, self.tree.free(path)).flatten()
    }

    fn noted<T>(&self, path: &str, found: Result<T, TreeError>) -> Option<T> {
        found
            .map_err(|error| {
                let why = match error.source() {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                self.note(path, why);
            })
            .ok()
    }

    fn note(&self, path: &str, why: String) {
        let mut unreadable = self.unreadable.borrow_mut();
        if unreadable.len() < UNREADABLE_MAX {
            unreadable.insert(path.to_owned(), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_and_all_files_have_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let many = folder.path().join("many.d");
        fs::create_dir(&many).unwrap();
        for number in 0..=FILES_MAX {
            fs::write(many.join(format!("{number:03}.cfg")), "").unwrap();
        }
        let long = fs::File::create(folder.path().join("long")).unwrap();
        long.set_len(8 << 20).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let guest = Guest::new(&tree);
        assert_eq!(guest.files("/many.d", ".cfg").len(), FILES_MAX);
        let reads = (0..100).take_while(|_| guest.bytes("/long").is_some()).count();
        assert_eq!(reads, READ_MAX / (8 << 20) + 1);
        let unreadable = guest.into_unreadable();
        assert_eq!(unreadable.keys().collect::<Vec<_>>(), ["/long", "/many.d"]);
    }
}
