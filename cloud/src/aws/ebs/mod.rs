//! The snapshot store on EBS direct APIs: nothing is attached, and no volume waits to be used.
//!
//! ```text
//! start ─▶ pending snapshot ◀── put: a local file, and on its way ── commit ─▶ completed ── read by tokens
//! ```
//!
//! - [`calls`]: each call, repeated, so many in a second as [`super::pace`] allows.
//! - [`draft`]: a pending snapshot, and [`listing`]: where the blocks of a completed one are.
//! - [`records`]: which snapshots there are, and [`rekey`]: how they come to be under another key.
//!
//! One process writes a store, and takes its lock with the first change it makes; others read it meanwhile.
//!
//! EBS keeps what a child needs when its parent is deleted. So a merge is a deletion; and deleting needs EC2, which a
//! runner need not reach: it lets snapshots go, and somebody else deletes them.

mod calls;
mod draft;
mod listing;
mod records;
mod rekey;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_ebs::Client;
use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, DiskId, block_count, block_len},
};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::{Instant, sleep},
};

use self::{
    calls::{Calls, refused},
    draft::Draft,
    listing::Listing,
    records::{Record, Records, Standing, Wish},
};
use super::{Access, failure::Failure, pace::Limits};
use crate::snapshots::{
    CopyWish, DiskHead, SnapshotId, SnapshotInfo, SnapshotSpec, SnapshotStore, StoreError,
};

const GIB: u64 = 1 << 30;
/// Requests of 512 KiB each.
pub(super) const LIMITS: Limits = Limits {
    first: 100.0,
    least: 5.0,
    // Half a gigabyte: no disk brings more, and no quota of EBS allows more for one snapshot.
    most: 1000.0,
    more: 25.0,
    after_refusal: 0.75,
    // Put takes about 100 ms, so that 128 at once are as many as there may be in a second.
    at_once: 128,
};
/// Blocks on their way, of all snapshots: 128 MiB.
const ROOM: usize = 256;
/// `snap-` and seventeen digits.
const ID_MAX: usize = 64;
/// How long a new writer waits for one that is just ending.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct EbsStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// The KMS key of new snapshots; the account decides where there is none.
    key: Option<String>,
    calls: Arc<Calls>,
    records: Records,
    listing: Listing,
    room: Arc<Semaphore>,
    /// The lock, from the first change on.
    writer: OnceCell<fs::File>,
    open: Mutex<HashMap<SnapshotId, Arc<Draft>>>,
}

impl EbsStore {
    /// Opens the store whose records are in `dir`, in the account of these credentials. Nothing is locked or changed.
    pub async fn open(dir: &Path, access: &Access, key: Option<String>) -> Result<Self, StoreError> {
        let config = access.loader().load().await;
        let records = Records::open(dir).map_err(store_error("open", dir))?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                key,
                calls: Arc::new(Calls::new(Client::new(&config))),
                records,
                listing: Listing::default(),
                room: Arc::new(Semaphore::new(ROOM)),
                writer: OnceCell::new(),
                open: Mutex::default(),
            }),
        })
    }

    /// Becomes the writer, unless we are. What the last one did not finish is let go.
    async fn claim(&self) -> Result<(), StoreError> {
        let claimed = self.shared.writer.get_or_try_init(|| async {
            let Shared {
                dir, records, calls, ..
            } = &*self.shared;
            let lock = lock(dir).await.map_err(store_error("write", dir))?;
            remove_drafts(dir).map_err(store_error("tidy", dir))?;
            records.reload().map_err(store_error("read", dir))?;
            for wish in records.wishes().map_err(store_error("read", dir))? {
                let (id, _) = calls.start(&wish).await?;
                self.came_true(&id, Record::left(wish, Standing::Released))?;
            }
            Ok(lock)
        });
        claimed.await.map(drop)
    }

    fn came_true(&self, id: &SnapshotId, record: Record) -> Result<(), StoreError> {
        let noted = self.shared.records.came_true(id.clone(), record);
        noted.map_err(store_error("write", &self.shared.dir))
    }

    fn record(&self, id: &SnapshotId) -> Result<Record, StoreError> {
        let known = self.shared.records.get(id);
        known
            .map_err(store_error("read", &self.shared.dir))?
            .filter(|record| record.standing != Standing::Released)
            .ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    fn change(&self, id: &SnapshotId, change: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        let mut record = self.record(id)?;
        change(&mut record);
        self.set(id, record)
    }

    fn set(&self, id: &SnapshotId, record: Record) -> Result<(), StoreError> {
        let set = self.shared.records.set(id.clone(), record);
        set.map_err(store_error("write", &self.shared.dir))
    }

    fn committed(&self, id: &SnapshotId, operation: &'static str) -> Result<Record, StoreError> {
        let record = self.record(id)?;
        if record.standing == Standing::Committed {
            return Ok(record);
        }
        Err(StoreError::State {
            id: id.clone(),
            state: "not committed",
            operation,
        })
    }

    fn draft(&self, id: &SnapshotId) -> Option<Arc<Draft>> {
        self.open_drafts().get(id).cloned()
    }

    fn open_drafts(&self) -> MutexGuard<'_, HashMap<SnapshotId, Arc<Draft>>> {
        self.shared.open.lock().expect("no panic while it was held")
    }

    /// Notes what was known of a snapshot before it was lost. The name becomes that of a file.
    fn remember(&self, lost: &SnapshotInfo, gib: i64, standing: Standing) -> Result<(), StoreError> {
        let id = &lost.id;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if id.0.is_empty() || id.0.len() > ID_MAX || !id.0.bytes().all(is_name) {
            return Err(StoreError::NotFound(id.clone()));
        }
        let wish = Wish {
            token: String::new(),
            parent: lost.parent.clone(),
            bytes: lost.bytes,
            gib,
            tags: lost.tags.clone(),
            key: None,
        };
        let record = Record {
            taken_up: true,
            ..Record::left(wish, standing)
        };
        self.set(id, record)
    }

    async fn read_committed(&self, id: &SnapshotId, block: u64) -> Result<Option<Vec<u8>>, Failure> {
        let Shared { calls, listing, .. } = &*self.shared;
        match listing.token(calls, id, block).await? {
            None => Ok(None),
            Some(token) => calls.get(id, block, &token).await.map(Some),
        }
    }
}

#[async_trait]
impl SnapshotStore for EbsStore {
    async fn start(&self, spec: &SnapshotSpec) -> Result<SnapshotId, StoreError> {
        self.claim().await?;
        let own = i64::try_from(spec.bytes.div_ceil(GIB)).unwrap_or(i64::MAX).max(1);
        let mut wish = Wish {
            token: format!("{:032x}", rand::random::<u128>()),
            parent: spec.parent.clone(),
            bytes: spec.bytes,
            gib: own,
            tags: spec.tags.clone(),
            key: self.shared.key.clone(),
        };
        let mut switch = None;
        if let Some(parent) = &spec.parent {
            let above = self.committed(parent, "be based on")?.wish;
            switch = self.switch(&spec.disk, parent)?;
            wish.gib = own.max(above.gib);
            match &switch {
                Some(switch) => wish.parent = Some(switch.copy.clone()),
                None => wish.key = above.key,
            }
        }
        let Shared {
            dir, records, calls, ..
        } = &*self.shared;
        records.wish(&wish).map_err(store_error("write", dir))?;
        let (id, key) = calls.start(&wish).await?;
        wish.key = key.or(wish.key);
        let record = Record {
            parent: spec.parent.clone(),
            ..Record::left(wish, Standing::Open)
        };
        self.came_true(&id, record)?;
        let draft = Draft::create(dir, id.clone(), switch).map_err(store_error("write", dir))?;
        self.open_drafts().insert(id.clone(), Arc::new(draft));
        Ok(id)
    }

    async fn put(
        &self,
        id: &SnapshotId,
        block: u64,
        data: Vec<u8>,
        digest: Digest,
    ) -> Result<(), StoreError> {
        let record = self.record(id)?;
        let draft = self.draft(id).ok_or_else(|| StoreError::State {
            id: id.clone(),
            state: match record.standing {
                Standing::Committed => "committed",
                _ => "left over by a crash",
            },
            operation: "write to",
        })?;
        let bytes = record.wish.bytes;
        if block >= block_count(bytes) || data.len() != block_len(block, bytes) {
            return Err(StoreError::OutOfRange {
                id: id.clone(),
                block,
            });
        }
        let room = Arc::clone(&self.shared.room).acquire_owned().await;
        let room = room.expect("the room is never closed");
        draft.put(&self.shared.calls, block, data, digest, room).await
    }

    async fn commit(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let Some(draft) = self.draft(id) else {
            // Repeated, or of a process that is gone.
            return self.committed(id, "commit").map(drop);
        };
        self.complete_switch(&draft, self.record(id)?.wish.bytes).await?;
        let digests = draft.all_put().await?;
        self.shared.calls.complete(id, digests.into_iter()).await?;
        self.shared.calls.until_readable(id).await?;
        self.change(id, |record| record.standing = Standing::Committed)?;
        self.open_drafts().remove(id);
        match &draft.switch {
            Some(switch) => self.end_copying(&switch.original),
            None => Ok(()),
        }
    }

    async fn read(&self, id: &SnapshotId, block: u64) -> Result<Vec<u8>, StoreError> {
        let record = self.record(id)?;
        let bytes = record.wish.bytes;
        if block >= block_count(bytes) {
            return Err(StoreError::OutOfRange {
                id: id.clone(),
                block,
            });
        }
        let len = block_len(block, bytes);
        let mut shown = Some(id);
        if record.standing == Standing::Open {
            if let Some(draft) = self.draft(id)
                && let Some(data) = draft.read(block).await?
            {
                return Ok(data);
            }
            shown = record.parent.as_ref();
        }
        let Some(shown) = shown else {
            return Ok(vec![0; len]);
        };
        let read = self.read_committed(shown, block).await;
        let data = read.map_err(|failure| refused("read", &shown.0, &failure))?;
        let mut data = data.unwrap_or_else(|| vec![0; BLOCK_LEN]);
        data.truncate(len);
        // The parent may have been shorter, and EBS has zeros there.
        Ok(data)
    }

    async fn merge_into_child(&self, id: &SnapshotId, child: &SnapshotId) -> Result<(), StoreError> {
        self.claim().await?;
        let Ok(lower) = self.committed(id, "merge") else {
            // Done before.
            return self.committed(child, "merge into").map(drop);
        };
        let upper = self.committed(child, "merge into")?;
        if upper.parent.as_ref() != Some(id) {
            return Err(StoreError::State {
                id: id.clone(),
                state: "not the parent of the other",
                operation: "merge",
            });
        }
        self.change(child, |record| record.parent = lower.parent)?;
        self.delete(id).await
    }

    async fn delete(&self, id: &SnapshotId) -> Result<(), StoreError> {
        self.claim().await?;
        let draft = self.open_drafts().remove(id);
        if let Some(draft) = draft {
            draft.abandon();
        }
        self.shared.listing.forget(id);
        match self.change(id, |record| record.standing = Standing::Released) {
            Err(StoreError::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    async fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        Ok(self.shared.records.list())
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn released(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        self.claim().await?;
        Ok(self.shared.records.released())
    }

    async fn take_up(&self, lost: &SnapshotInfo) -> Result<bool, StoreError> {
        self.claim().await?;
        match self.shared.calls.volume_gib(&lost.id).await {
            Ok(gib) => self.remember(lost, gib, Standing::Committed).map(|()| true),
            Err(Failure::NotFound(_) | Failure::Denied(_) | Failure::Rejected { .. }) => Ok(false),
            Err(failure) => Err(refused("read", &lost.id.0, &failure)),
        }
    }

    async fn let_go(&self, lost: &SnapshotInfo) -> Result<(), StoreError> {
        self.claim().await?;
        self.remember(lost, 0, Standing::Released)
    }

    async fn to_copy(&self, heads: &[DiskHead]) -> Result<Vec<CopyWish>, StoreError> {
        self.claim().await?;
        self.wanted_copies(heads)
    }

    async fn copied(
        &self,
        original: &SnapshotId,
        copy: &SnapshotId,
        complete: bool,
    ) -> Result<(), StoreError> {
        self.claim().await?;
        self.note_copy(original, copy, complete)
    }

    async fn changes_key(&self, disk: &DiskId, newest: &SnapshotId) -> Result<bool, StoreError> {
        let may_change = self.new_key().is_some() && self.record(newest)?.taken_up;
        Ok(may_change || self.switch(disk, newest)?.is_some())
    }

    async fn forget(&self, deleted: &SnapshotId) -> Result<(), StoreError> {
        self.claim().await?;
        let forgotten = self.shared.records.forget(deleted);
        forgotten.map_err(store_error("write", &self.shared.dir))
    }
}

async fn lock(dir: &Path) -> io::Result<fs::File> {
    let file = fs::File::create(dir.join("lock"))?;
    let deadline = Instant::now() + CLAIM_PATIENCE;
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(io::Error::other("another program is writing it"));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(file)
}

/// Of a program that is gone.
fn remove_drafts(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "data") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn store_error(operation: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = dir.to_owned();
    move |source| StoreError::Store {
        operation,
        path,
        source,
    }
}
