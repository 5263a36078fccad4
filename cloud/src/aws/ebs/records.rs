//! What is known of our snapshots without asking EC2, which a runner need not be able to reach.
//!
//! ```text
//! PATH/TOKEN.wish      a snapshot was asked for, and its name did not come back yet
//! PATH/snap-….json     one that exists, or existed until somebody deletes it
//! ```
//!
//! A wish is durable before it is asked for: after a crash, asking again gives the name of what was made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use domain::disk::DiskId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    control::{SERVER_TAG, Tags},
    files::write_json,
    snapshots::{SnapshotId, SnapshotInfo},
};

/// A snapshot as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wish {
    pub token: String,
    pub parent: Option<SnapshotId>,
    pub bytes: u64,
    /// At least as many as the parent has, even of a disk that is smaller now.
    pub gib: i64,
    pub tags: Tags,
    /// The key that it is under, as far as is known; the account decides where there is none.
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub wish: Wish,
    /// As it is now; merging a parent away changes it.
    pub parent: Option<SnapshotId>,
    pub standing: Standing,
    #[serde(default)]
    pub copying: Option<Copying>,
    /// Made by a runner that was lost. The key is not known; the answer to the next start tells it.
    #[serde(default)]
    pub taken_up: bool,
}

impl Record {
    /// One that is based on nothing, as far as is known.
    pub fn left(wish: Wish, standing: Standing) -> Self {
        Self {
            parent: wish.parent.clone(),
            wish,
            standing,
            copying: None,
            taken_up: false,
        }
    }

    pub fn key(&self) -> Option<&str> {
        self.wish.key.as_deref()
    }

    pub fn is_live(&self) -> bool {
        matches!(self.standing, Standing::Open | Standing::Committed)
    }

    pub fn server(&self) -> Option<&str> {
        self.wish.tags.get(SERVER_TAG).map(String::as_str)
    }
}

/// A snapshot is being copied, or was, so that what comes after it is under another key. It exists until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copying {
    pub disk: DiskId,
    pub key: String,
    /// `None` until it is known which it is.
    pub copy: Option<SnapshotId>,
    pub complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    Open,
    Committed,
    /// A copy of another, on which the next snapshot is based.
    Copy,
    /// Nobody wants it any more. It costs money until it is deleted.
    Released,
}

#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
    known: Mutex<BTreeMap<SnapshotId, Record>>,
}

impl Records {
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let records = Self {
            dir: dir.to_owned(),
            known: Mutex::default(),
        };
        records.reload()?;
        Ok(records)
    }

    /// Another program may have written since.
    pub fn reload(&self) -> io::Result<()> {
        let mut known = BTreeMap::new();
        for (stem, path) in with_extension(&self.dir, "json")? {
            // One that is gone by now was forgotten.
            if let Some(record) = read(&path)? {
                known.insert(SnapshotId(stem), record);
            }
        }
        *self.known() = known;
        Ok(())
    }

    pub fn wish(&self, wish: &Wish) -> io::Result<()> {
        write_json(&self.wish_path(wish), wish)
    }

    /// What was asked for and may exist.
    pub fn wishes(&self) -> io::Result<Vec<Wish>> {
        let wishes = with_extension(&self.dir, "wish")?.into_iter();
        wishes.filter_map(|(_, path)| read(&path).transpose()).collect()
    }

    /// The wish came true.
    pub fn came_true(&self, id: SnapshotId, record: Record) -> io::Result<()> {
        let path = self.wish_path(&record.wish);
        self.set(id, record)?;
        fs::remove_file(path)
    }

    /// One that is not known may be another program's, and newer.
    pub fn get(&self, id: &SnapshotId) -> io::Result<Option<Record>> {
        let known = self.known().get(id).cloned();
        if known.is_some()
            || !id
                .0
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Ok(known);
        }
        read(&self.dir.join(format!("{id}.json")))
    }

    pub fn set(&self, id: SnapshotId, record: Record) -> io::Result<()> {
        let mut known = self.known();
        write_json(&self.dir.join(format!("{id}.json")), &record)?;
        known.insert(id, record);
        Ok(())
    }

    /// It is deleted.
    pub fn forget(&self, id: &SnapshotId) -> io::Result<()> {
        let mut known = self.known();
        if known.contains_key(id) {
            fs::remove_file(self.dir.join(format!("{id}.json")))?;
            known.remove(id);
        }
        Ok(())
    }

    /// What is kept for a copy goes with the last snapshot of its server.
    pub fn released(&self) -> Vec<SnapshotInfo> {
        let known = self.known();
        let live = known.values().filter(|record| record.is_live());
        let servers: BTreeSet<_> = live.map(Record::server).collect();
        let is_released = |record: &Record| match record.standing {
            Standing::Released if record.copying.is_none() => true,
            Standing::Released | Standing::Copy => !servers.contains(&record.server()),
            Standing::Open | Standing::Committed => false,
        };
        infos(&known, is_released)
    }

    pub fn list(&self) -> Vec<SnapshotInfo> {
        infos(&self.known(), Record::is_live)
    }

    /// Snapshots that are being copied, or were.
    pub fn copied(&self) -> Vec<(SnapshotId, Record, Copying)> {
        let known = self.known();
        let copied = known.iter().filter_map(|(id, record)| {
            let copying = record.copying.clone()?;
            Some((id.clone(), record.clone(), copying))
        });
        copied.collect()
    }

    fn wish_path(&self, wish: &Wish) -> PathBuf {
        self.dir.join(format!("{}.wish", wish.token))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<SnapshotId, Record>> {
        self.known.lock().expect("no panic while it was held")
    }
}

fn infos(known: &BTreeMap<SnapshotId, Record>, is_wanted: impl Fn(&Record) -> bool) -> Vec<SnapshotInfo> {
    let wanted = known.iter().filter(|(_, record)| is_wanted(record));
    let info = wanted.map(|(id, record)| SnapshotInfo {
        id: id.clone(),
        parent: record.parent.clone(),
        bytes: record.wish.bytes,
        committed: record.standing == Standing::Committed,
        tags: record.wish.tags.clone(),
    });
    info.collect()
}

/// Files and their names without it. Other files are drafts of these.
fn with_extension(dir: &Path, extension: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_one = path.extension().is_some_and(|own| own == extension);
        if let (true, Some(stem)) = (is_one, path.file_stem().and_then(|stem| stem.to_str())) {
            found.push((stem.to_owned(), path));
        }
    }
    Ok(found)
}

/// `None` if it is not there.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let unreadable = |detail: String| io::Error::other(format!("{}: {detail}", path.display()));
    match fs::read(path) {
        Ok(text) => {
            let read = serde_json::from_slice(&text);
            read.map(Some).map_err(|error| unreadable(error.to_string()))
        }
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(unreadable(other.to_string())),
    }
}
