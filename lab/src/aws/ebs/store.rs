//! All snapshots, and how they show each other's blocks.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    record::{Record, State},
    snapshot::{BLOCK, Sha256, Snapshot, sha256},
};

#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    known: Mutex<HashMap<String, Arc<Snapshot>>>,
}

/// A block of a snapshot, and the snapshot in its line of parents that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) holder: String,
    pub(super) sum: Sha256,
}

impl Store {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self {
            folder,
            known: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Snapshot>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, record: Record) -> io::Result<Arc<Snapshot>> {
        let id = record.id.clone();
        let snapshot = Arc::new(Snapshot::start(self.folder.join(&id), record)?);
        self.lock().insert(id, Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Also one that was deleted: its children show its blocks.
    fn any(&self, id: &str) -> Option<Arc<Snapshot>> {
        if let Some(known) = self.lock().get(id) {
            return Some(Arc::clone(known));
        }
        let found = Arc::new(Snapshot::found(self.folder.join(id)).ok()?);
        Some(Arc::clone(self.lock().entry(id.to_owned()).or_insert(found)))
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Snapshot>> {
        // It becomes part of a path.
        let digits = id.strip_prefix("snap-")?;
        let well_formed =
            digits.len() <= 59 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return None;
        }
        self.any(id).filter(|snapshot| !snapshot.is_deleted())
    }

    /// How many EBS direct has started in an account and region that are not yet completed.
    pub(super) fn pending(&self, account: &str, region: &str) -> usize {
        self.lock()
            .values()
            .filter(|snapshot| {
                let record = snapshot.record();
                record.account == account
                    && record.region == region
                    && record.timeout_ms.is_some()
                    && !snapshot.is_deleted()
                    && matches!(snapshot.state(), Ok(State::Pending | State::Completing))
            })
            .count()
    }

    /// From the first ancestor to the snapshot itself.
    fn line(&self, id: &str) -> Vec<(String, Arc<Snapshot>)> {
        let mut line = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some((id, snapshot)) = next.and_then(|id| Some((id.clone(), self.any(&id)?))) {
            next = snapshot.record().parent;
            line.push((id, snapshot));
        }
        line.reverse();
        line
    }

    /// Every block that is not zeros: what was never put is that as well.
    pub(super) fn blocks(&self, id: &str) -> BTreeMap<u64, Block> {
        let mut blocks = BTreeMap::new();
        for (holder, snapshot) in self.line(id) {
            for (index, sum) in snapshot.all_put() {
                let holder = holder.clone();
                blocks.insert(index, Block { holder, sum });
            }
        }
        let zeros = sha256(&vec![0; BLOCK]);
        blocks.retain(|_, block| block.sum != zeros);
        blocks
    }

    /// One block, as [`Self::blocks`] shows it or zeros, without looking at the others.
    pub(super) fn block(&self, id: &str, index: u64) -> Option<Block> {
        self.line(id).into_iter().rev().find_map(|(holder, snapshot)| {
            let sum = snapshot.sum_of(index)?;
            Some(Block { holder, sum })
        })
    }

    pub(super) fn holder(&self, block: &Block) -> Option<Arc<Snapshot>> {
        self.any(&block.holder)
    }

    pub(super) fn are_related(&self, one: &str, other: &str) -> bool {
        let first = |id| self.line(id).into_iter().next().map(|(id, _)| id);
        first(one) == first(other)
    }
}
