//! A snapshot store made of files: a layer per snapshot, which holds the blocks that changed.
//!
//! ```text
//! PATH/snap-….data    sparse; each block at its natural offset
//! PATH/snap-….index   what the layer is based on, which blocks it holds, their digests: a committed snapshot
//! PATH/snap-….open    the same of a snapshot that is not committed, without blocks
//! PATH/limit          optional: the bytes that all files together may take up
//! ```
//!
//! One process writes a store, and takes its lock with the first change it makes; any number of
//! processes read it meanwhile, without a lock. Every change is one rename of an index, so that a
//! reader, or whoever comes after a crash, finds the state before it or the state after it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use domain::digest::Digest;

use crate::snapshots::{SnapshotId, SnapshotInfo, SnapshotSpec, SnapshotStore, StoreError};

mod held;
mod index;
mod merge;
mod out;
mod space;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod writer;

pub use space::LIMIT_FILE;

use index::{Header, Standing, index_path};
use space::Space;
use view::{View, absent};
use writer::{OpenLayer, Writer, is_snapshot_id, parse_name, store_error};

/// How long a new writer waits for the lock of one that is just ending.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
const CLAIM_POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct LayerStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    space: Space,
    /// `None` until the first change.
    writer: Mutex<Option<Writer>>,
    open: Mutex<HashMap<SnapshotId, Arc<OpenLayer>>>,
    /// The view that was read last: reading a disk from end to end opens its layers once.
    view: Mutex<Option<Arc<View>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a snapshot store: layers:PATH or layers:PATH?limit=BYTES is expected")]
pub struct InvalidStoreName(String);

impl LayerStore {
    /// Opens the store in `path`, which is created if need be. Nothing is locked or changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_limited(path.as_ref(), None)
    }

    /// Opens a store by the name that operators give it: `layers:PATH` or `layers:PATH?limit=BYTES`.
    pub fn open_named(name: &str) -> Result<Result<Self, StoreError>, InvalidStoreName> {
        let wrong = || InvalidStoreName(name.to_owned());
        let path = name.strip_prefix("layers:").ok_or_else(wrong)?;
        let (path, limit) = match path.split_once("?limit=") {
            Some((path, limit)) => (path, Some(limit.parse().map_err(|_| wrong())?)),
            None => (path, None),
        };
        if path.is_empty() {
            return Err(wrong());
        }
        Ok(Self::open_limited(Path::new(path), limit))
    }

    fn open_limited(dir: &Path, limit: Option<u64>) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(store_error("create", dir))?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                space: Space::new(dir, limit),
                writer: Mutex::new(None),
                open: Mutex::new(HashMap::new()),
                view: Mutex::new(None),
            }),
        })
    }

    pub fn path(&self) -> &Path {
        &self.shared.dir
    }

    /// What is known of one snapshot, open or committed.
    pub fn info(&self, id: &SnapshotId) -> Result<SnapshotInfo, StoreError> {
        check_id(id)?;
        let path = index_path(&self.shared.dir, id);
        if let Some(file) = absent(fs::File::open(&path)).map_err(store_error("read", &path))? {
            // One that is damaged is there all the same.
            Header::read(id, &path, &file)?;
        }
        let found = self.list_now()?.into_iter().find(|info| info.id == *id);
        found.ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    /// Writes the whole disk as a committed snapshot shows it to `file`: a raw image, exactly as long as
    /// the disk, with holes where zeros are.
    pub fn copy_to(&self, id: &SnapshotId, file: &mut fs::File) -> Result<(), StoreError> {
        self.copy_with_progress(id, file, |_| {})
    }

    /// As [`LayerStore::copy_to`]; `progress` is told how many bytes of the disk are done.
    pub fn copy_with_progress(
        &self,
        id: &SnapshotId,
        file: &mut fs::File,
        progress: impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let dir = &self.shared.dir;
        check_id(id)?;
        let view = View::load(dir, id)?;
        let copied = view.copy_to(file, progress);
        // What was merged into a child looks damaged from then on.
        if !view.still_exists(dir)? {
            return Err(StoreError::NotFound(id.clone()));
        }
        copied
    }

    /// Every snapshot in the store, open ones included.
    pub fn list_now(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        self.shared.list()
    }

    /// Runs `work` where it may wait for files.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => Err(StoreError::Store {
                operation: "finish an operation on",
                path: self.shared.dir.clone(),
                source: std::io::Error::other("the program is stopping"),
            }),
        }
    }

    /// Becomes the writer, unless we are.
    async fn claim(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + CLAIM_PATIENCE;
        while !self.blocking(Shared::try_claim).await? {
            if Instant::now() > deadline {
                return Err(StoreError::Store {
                    operation: "write",
                    path: self.shared.dir.clone(),
                    source: std::io::Error::other("another program is writing it"),
                });
            }
            tokio::time::sleep(CLAIM_POLL).await;
        }
        Ok(())
    }
}

#[async_trait]
impl SnapshotStore for LayerStore {
    async fn start(&self, spec: &SnapshotSpec) -> Result<SnapshotId, StoreError> {
        self.claim().await?;
        let spec = spec.clone();
        self.blocking(move |shared| {
            let layer = shared.with_writer(|writer| writer.start(&shared.dir, &spec))?;
            let id = layer.id().clone();
            shared.open().insert(id.clone(), Arc::new(layer));
            Ok(id)
        })
        .await
    }

    async fn put(
        &self,
        id: &SnapshotId,
        block: u64,
        data: Vec<u8>,
        digest: Digest,
    ) -> Result<(), StoreError> {
        let layer = self.shared.open_layer(id, "write to")?;
        self.blocking(move |shared| {
            layer.check(block, data.len())?;
            let fits = shared.space.reserve(data.len() as u64);
            if !fits.map_err(store_error("measure", &shared.dir))? {
                return Err(StoreError::Full);
            }
            layer.put(block, &data, digest)
        })
        .await
    }

    async fn commit(&self, id: &SnapshotId) -> Result<(), StoreError> {
        self.claim().await?;
        let id = id.clone();
        self.blocking(move |shared| shared.commit(&id)).await
    }

    async fn read(&self, id: &SnapshotId, block: u64) -> Result<Vec<u8>, StoreError> {
        let id = id.clone();
        self.blocking(move |shared| shared.read(&id, block)).await
    }

    async fn merge_into_child(&self, id: &SnapshotId, child: &SnapshotId) -> Result<(), StoreError> {
        self.claim().await?;
        let (id, child) = (id.clone(), child.clone());
        self.blocking(move |shared| shared.merge(&id, &child)).await
    }

    async fn delete(&self, id: &SnapshotId) -> Result<(), StoreError> {
        self.claim().await?;
        let id = id.clone();
        self.blocking(move |shared| shared.delete(&id)).await
    }

    async fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        self.blocking(Shared::list).await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.blocking(|shared| {
            let free = shared.space.free();
            free.map(Some).map_err(store_error("measure", &shared.dir))
        })
        .await
    }
}

impl Shared {
    fn try_claim(&self) -> Result<bool, StoreError> {
        let unfinished = {
            let mut writer = self.writer();
            if writer.is_some() {
                return Ok(true);
            }
            let Some(claimed) = Writer::claim(&self.dir)? else {
                return Ok(false);
            };
            writer.insert(claimed).unfinished_merges()
        };
        for (lower, upper) in unfinished {
            // It stays as it is, readable, until somebody asks for the merge again.
            if let Err(error) = self.merge(&lower, &upper) {
                tracing::warn!(snapshot = %lower, into = %upper, %error, "cannot finish a merge");
            }
        }
        Ok(true)
    }

    fn commit(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let layer = self.open().get(id).cloned();
        let Some(layer) = layer else {
            // Repeated, or of a process that is gone.
            return self.with_writer(|writer| writer.committed(id, "commit").map(|_| ()));
        };
        layer.commit(&self.dir)?;
        self.with_writer(|writer| {
            if let Some(known) = writer.known.get_mut(id) {
                known.state = writer::State::Committed;
            }
            Ok(())
        })?;
        self.open().remove(id);
        self.space.recount();
        Ok(())
    }

    fn delete(&self, id: &SnapshotId) -> Result<(), StoreError> {
        check_id(id)?;
        let layer = self.open().get(id).cloned();
        if layer.is_some_and(|layer| layer.retire()) {
            self.open().remove(id);
        }
        self.with_writer(|writer| writer.delete(&self.dir, id))?;
        self.space.recount();
        Ok(())
    }

    fn merge(&self, lower: &SnapshotId, upper: &SnapshotId) -> Result<(), StoreError> {
        let begun = self.with_writer(|writer| merge::begin(writer, &self.dir, lower, upper))?;
        let Some(merge) = begun else { return Ok(()) };
        let switched = merge
            .copy(&self.dir)
            .and_then(|held| self.with_writer(|writer| merge.switch(writer, &self.dir, held)));
        if let Err(error) = switched {
            self.with_writer(|writer| {
                merge.interrupt(writer);
                Ok(())
            })?;
            return Err(error);
        }
        if let Err(error) = merge.tidy(&self.dir) {
            tracing::warn!(snapshot = %lower, %error, "files of a merged snapshot stay until the next start");
        }
        self.space.recount();
        Ok(())
    }

    fn read(&self, id: &SnapshotId, block: u64) -> Result<Vec<u8>, StoreError> {
        check_id(id)?;
        let layer = self.open().get(id).cloned();
        if let Some(layer) = layer {
            return layer.read(block);
        }
        loop {
            let view = self.view_of(id)?;
            let read = view.read(block);
            // What was merged into a child looks damaged from then on.
            if view.still_exists(&self.dir)? {
                return read;
            }
            *self.view.lock().expect("no panic while it was held") = None;
        }
    }

    fn view_of(&self, id: &SnapshotId) -> Result<Arc<View>, StoreError> {
        let mut last = self.view.lock().expect("no panic while it was held");
        if let Some(view) = &*last
            && view.id == *id
            && view.is_current(&self.dir)
        {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(View::load(&self.dir, id)?);
        *last = Some(Arc::clone(&view));
        Ok(view)
    }

    fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        let wrong = |operation| store_error(operation, &self.dir);
        let mut headers = HashMap::new();
        for entry in fs::read_dir(&self.dir).map_err(wrong("list"))? {
            let name = entry.map_err(wrong("list"))?.file_name();
            let Some((id, committed)) = name.to_str().and_then(parse_name) else {
                continue;
            };
            let path = self.dir.join(&name);
            let file = absent(fs::File::open(&path)).map_err(wrong("read"))?;
            let Some(file) = file else { continue };
            match Header::read(&id, &path, &file) {
                Ok(header) if committed || !headers.contains_key(&id) => {
                    headers.insert(id, (header, committed));
                }
                Ok(_) => {}
                // One that cannot be read must not hide the others.
                Err(error) if committed => {
                    tracing::error!(snapshot = %id, %error, "a committed snapshot is not listed");
                }
                // A start that did not get far enough to be anything.
                Err(error) => tracing::debug!(%error, "an open snapshot is not listed"),
            }
        }
        let mut listed: Vec<_> = headers
            .iter()
            .filter(|(_, (header, _))| header.standing == Standing::Whole)
            .map(|(id, (header, committed))| {
                let mut parent = &header.parent;
                // What is being folded into a child is no snapshot any more.
                while let Some((lower, _)) = parent.as_ref().and_then(|id| headers.get(id))
                    && lower.standing != Standing::Whole
                {
                    parent = &lower.parent;
                }
                SnapshotInfo {
                    id: id.clone(),
                    parent: parent.clone(),
                    bytes: header.bytes,
                    committed: *committed,
                    tags: header.tags.clone(),
                }
            })
            .collect();
        listed.sort_unstable_by(|a, b| a.id.0.cmp(&b.id.0));
        Ok(listed)
    }

    fn open_layer(&self, id: &SnapshotId, operation: &'static str) -> Result<Arc<OpenLayer>, StoreError> {
        if let Some(layer) = self.open().get(id) {
            return Ok(Arc::clone(layer));
        }
        check_id(id)?;
        let known = self.list()?.into_iter().find(|info| info.id == *id);
        Err(match known {
            None => StoreError::NotFound(id.clone()),
            Some(info) => StoreError::State {
                id: id.clone(),
                state: if info.committed {
                    "committed"
                } else {
                    "left over by a crash"
                },
                operation,
            },
        })
    }

    fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or_else(|| StoreError::Store {
            operation: "write",
            path: self.dir.clone(),
            source: std::io::Error::other("it was not claimed"),
        })?;
        work(writer)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().expect("no panic while it was held")
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SnapshotId, Arc<OpenLayer>>> {
        self.open.lock().expect("no panic while it was held")
    }
}

/// Anything else names no snapshot of ours, and no file either.
fn check_id(id: &SnapshotId) -> Result<(), StoreError> {
    if is_snapshot_id(&id.0) {
        Ok(())
    } else {
        Err(StoreError::NotFound(id.clone()))
    }
}
