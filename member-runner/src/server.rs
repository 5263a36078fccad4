//! One source server, as the runner keeps it: its folder, its ledger, and who may write for it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cloud::{
    control::{SERVER_TAG, Tags},
    snapshots::{SnapshotId, SnapshotInfo, SnapshotStore, StoreError},
};
use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    digest::Digest,
    disk::{DiskId, DiskProgress, block_count},
    ids::SourceServerId,
};
use protocol::{
    exchange::{ObservedCheckpoint, ObservedServer},
    handshake::SessionMemory,
    session::HEARTBEAT,
};
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    conversions::{self, Shown},
    digests::DiskDigests,
    files::{self, FileError, context},
    journal::record::Folder,
    ledger::{Ledger, LedgerError, newest_launchable},
    quarantine::LOST,
    standing::Standing,
};

/// Beside [`SERVER_TAG`], what tells snapshots of the replication from others of the same server.
pub const PURPOSE_TAG: &str = "orglift:purpose";
pub const PURPOSE: &str = "replication";

/// How often it is looked whether the last snapshots of a server are gone.
const DELETED_POLL: Duration = Duration::from_secs(1);

/// How long a session has to end once another takes its place.
const TAKE_OVER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Server {
    pub id: SourceServerId,
    dir: PathBuf,
    pub store: Arc<dyn SnapshotStore>,
    pub(crate) journals: Folder,
    ledger: Mutex<Ledger>,
    memory: Mutex<SessionMemory>,
    standing: Mutex<Standing>,
    shown: Mutex<Shown>,
    /// Snapshots that no checkpoint names any more, and that could not be removed yet.
    pub(crate) leftovers: Mutex<BTreeSet<String>>,
    /// Counts how often blocks turned out to be missing: a session that sees it change ends.
    missing: watch::Sender<u64>,
    /// Damage was found: there may be more of it.
    is_suspect: AtomicBool,
    /// Set when the store was full: how many bytes must be free before the agent is let in again.
    full: Mutex<Option<u64>>,
    /// Whoever holds it writes for this server: one session, or its erasure.
    slot: Arc<tokio::sync::Mutex<()>>,
    /// The session that holds the slot, or held it last.
    current: Mutex<Option<Current>>,
    /// The lock of the runner's folder: held until the last of those who write there is done.
    lock: Arc<fs::File>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("cannot use the snapshots of {server}")]
    Store {
        server: SourceServerId,
        #[source]
        source: StoreError,
    },
    #[error("what was remembered of the sessions of {0} is damaged")]
    Memory(SourceServerId),
    #[error("an earlier session of {0} does not end, or its last checkpoint is still being written")]
    Occupied(SourceServerId),
}

/// The right to write for a server; dropped, it is free again.
#[derive(Debug)]
pub struct Slot {
    _held: OwnedMutexGuard<()>,
    pub replaced: CancellationToken,
}

#[derive(Debug)]
struct Current {
    /// Ends the session.
    replaced: CancellationToken,
    /// Of the machine it came from; empty if nothing came from one, or it could not be told.
    boot_id: String,
    /// When the agent was heard last.
    heard: Instant,
}

/// An agent that was heard within this time lives: it speaks twice as often.
const ALIVE_WITHIN: Duration = HEARTBEAT.saturating_mul(2);

/// The folder of all servers, within that of the runner.
pub(crate) const SERVERS: &str = "servers";

/// The folder of a server's state.
pub fn server_dir(dir: &Path, id: &SourceServerId) -> PathBuf {
    dir.join(SERVERS).join(id.as_str())
}

impl Server {
    /// Reads what is on disk, and brings it in order. No session may be open.
    pub async fn load(
        dir: &Path,
        id: &SourceServerId,
        store: Arc<dyn SnapshotStore>,
        lock: Arc<fs::File>,
    ) -> Result<Self, ServerError> {
        let dir = server_dir(dir, id);
        let (ledger, lost) = blocking({
            let dir = dir.clone();
            move || Ledger::load(&dir)
        })
        .await?;
        let memory = match files::read(&dir.join(SESSION_FILE))? {
            Some(text) => serde_json::from_slice(&text).map_err(|_| ServerError::Memory(id.clone()))?,
            None => SessionMemory::default(),
        };
        let disks = ledger.newest().map(known_progress).unwrap_or_default();
        let shown = conversions::load(&dir)?;
        let server = Self {
            id: id.clone(),
            journals: Folder::open(&dir)?,
            dir,
            store,
            ledger: Mutex::new(ledger),
            memory: Mutex::new(memory),
            standing: Mutex::new(Standing::new(Instant::now(), disks)),
            shown: Mutex::new(shown),
            leftovers: Mutex::default(),
            missing: watch::Sender::new(0),
            is_suspect: AtomicBool::new(false),
            full: Mutex::new(None),
            slot: Arc::default(),
            current: Mutex::new(None),
            lock,
        };
        for disk in lost {
            tracing::error!(server.id = %id, %disk, "digests are lost; making them anew from the blocks");
            server.digest_anew(&disk).await?;
        }
        Ok(server)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic while it was held")
    }

    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().expect("no panic while it was held")
    }

    /// What conversions have come to.
    pub fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().expect("no panic while it was held")
    }

    pub fn memory(&self) -> SessionMemory {
        self.memory.lock().expect("no panic while it was held").clone()
    }

    /// Keeps what is known of the sessions, on disk first.
    pub async fn remember(&self, memory: SessionMemory) -> Result<(), FileError> {
        let path = self.dir.join(SESSION_FILE);
        let text = serde_json::to_vec_pretty(&memory).expect("its keys are text");
        let lock = Arc::clone(&self.lock);
        blocking(move || {
            let replaced = files::replace(&path, &text);
            drop(lock);
            replaced
        })
        .await?;
        *self.memory.lock().expect("no panic while it was held") = memory;
        Ok(())
    }

    pub fn tags(&self) -> Tags {
        Tags::from([
            (SERVER_TAG.to_owned(), self.id.to_string()),
            (PURPOSE_TAG.to_owned(), PURPOSE.to_owned()),
        ])
    }

    /// Ends the session that there is, and takes its place for a machine with this boot id.
    pub async fn take_over(&self, boot_id: &str) -> Result<Slot, ServerError> {
        self.close();
        let held = tokio::time::timeout(TAKE_OVER_MAX, Arc::clone(&self.slot).lock_owned())
            .await
            .map_err(|_| ServerError::Occupied(self.id.clone()))?;
        let replaced = CancellationToken::new();
        *self.current() = Some(Current {
            replaced: replaced.clone(),
            boot_id: boot_id.to_owned(),
            heard: Instant::now(),
        });
        Ok(Slot {
            _held: held,
            replaced,
        })
    }

    /// The right to write for the server, if nobody has it.
    pub fn try_slot(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.slot).try_lock_owned().ok()
    }

    /// Asks the session that there is to end.
    pub fn close(&self) {
        if let Some(current) = &*self.current() {
            current.replaced.cancel();
        }
    }

    /// The agent of the present session said something.
    pub fn heard(&self) {
        if let Some(current) = &mut *self.current() {
            current.heard = Instant::now();
        }
    }

    /// Whether a session is alive that came from another machine, or from the same one before it booted.
    /// Both hold the session that was dealt out last, so that it cannot tell them apart.
    pub fn is_alive_elsewhere(&self, boot_id: &str) -> bool {
        let is_open = self.slot.try_lock().is_err();
        let current = self.current();
        let other = current.as_ref().filter(|current| {
            let known = !boot_id.is_empty() && !current.boot_id.is_empty();
            known && current.boot_id != boot_id && !current.replaced.is_cancelled()
        });
        is_open && other.is_some_and(|other| other.heard.elapsed() < ALIVE_WITHIN)
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().expect("no panic while it was held")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Blocks are missing: a session that was opened before must make place for one that begins with a compare.
    pub fn ask_for_compare(&self) {
        self.missing.send_modify(|times| *times += 1);
    }

    /// What of the newest checkpoint is damaged, in words, and what comes of it.
    pub fn damage(&self) -> Option<String> {
        let ledger = self.ledger();
        let damage = ledger.newest()?.damage.as_ref()?;
        Some(format!("{damage}; the disk is compared with its source anew"))
    }

    /// Changes when blocks turn out to be missing.
    pub fn missing(&self) -> watch::Receiver<u64> {
        self.missing.subscribe()
    }

    /// All that is kept of it should be read soon.
    pub fn suspect(&self) {
        self.is_suspect.store(true, Relaxed);
    }

    /// Whether it was suspected since this was asked last.
    pub fn take_suspicion(&self) -> bool {
        self.is_suspect.swap(false, Relaxed)
    }

    pub fn set_full(&self, needed: Option<u64>) {
        *self.full.lock().expect("no panic while it was held") = needed;
    }

    /// How many bytes must be free before the agent is let in, after the store was full.
    pub fn needed_bytes(&self) -> Option<u64> {
        *self.full.lock().expect("no panic while it was held")
    }

    pub fn has_launchable(&self) -> bool {
        let ledger = self.ledger();
        let mut checkpoints = ledger.checkpoints().iter();
        checkpoints.any(|checkpoint| checkpoint.kind == CheckpointKind::Launchable)
    }

    pub fn newest_launchable(&self) -> Option<CheckpointNumber> {
        newest_launchable(self.ledger().checkpoints()).map(|newest| newest.number)
    }

    pub fn observed(&self) -> ObservedServer {
        let checkpoints = self.ledger().checkpoints().to_vec();
        let shown = self.shown().clone();
        let standing = self.standing();
        ObservedServer {
            id: self.id.clone(),
            replication: standing.replication.clone(),
            agent: standing.agent.clone(),
            disks: standing.disks.clone(),
            flow: standing.flow.clone(),
            durable_request: standing.durable_request,
            checkpoints,
            inspection: shown.inspection,
            conversion: shown.conversion,
            forgotten: standing.forgotten,
        }
    }

    /// Deletes every trace of the server, its snapshots included. May be repeated.
    pub async fn erase(&self) -> Result<(), ServerError> {
        let _slot = self.take_over("").await?;
        // Without the manifests, a crash in between leaves snapshots that nobody names.
        let dir = self.dir.clone();
        blocking(move || match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(context("remove", &dir)(error)),
            _ => Ok(()),
        })
        .await?;
        *self.ledger() = blocking({
            let dir = self.dir.clone();
            move || Ledger::load(&dir)
        })
        .await?
        .0;
        *self.memory.lock().expect("no panic while it was held") = SessionMemory::default();
        let swept = crate::housekeeping::sweep_all(self).await;
        swept.map_err(|source| self.store_error(source))?;
        let removed = conversions::remove_snapshots(self, None).await;
        removed.map_err(|source| self.store_error(source))?;
        while self.is_being_deleted().await? {
            sleep(DELETED_POLL).await;
        }
        *self.shown() = Shown::default();
        let dir = self.dir.clone();
        blocking(move || fs::remove_dir_all(&dir).map_err(context("remove", &dir))).await?;
        let mut standing = self.standing();
        standing.disks.clear();
        standing.forgotten = true;
        Ok(())
    }

    /// Whether snapshots of the server wait for somebody else to delete them.
    async fn is_being_deleted(&self) -> Result<bool, ServerError> {
        let released = self.store.released().await;
        let released = released.map_err(|source| self.store_error(source))?;
        let is_own =
            |info: &SnapshotInfo| info.tags.get(SERVER_TAG).map(String::as_str) == Some(self.id.as_str());
        Ok(released.iter().any(is_own))
    }

    pub fn store_error(&self, source: StoreError) -> ServerError {
        ServerError::Store {
            server: self.id.clone(),
            source,
        }
    }

    /// The ledger as it is on disk: after a fault it may differ from what was thought.
    pub async fn reload_ledger(&self) -> Result<(), ServerError> {
        let dir = self.dir.clone();
        let (ledger, lost) = blocking(move || Ledger::load(&dir)).await?;
        *self.ledger() = ledger;
        for disk in lost {
            self.digest_anew(&disk).await?;
        }
        Ok(())
    }

    async fn digest_anew(&self, disk: &DiskId) -> Result<(), ServerError> {
        let head = self.ledger().head(disk).cloned();
        let Some(head) = head else { return Ok(()) };
        let snapshot = SnapshotId(head.snapshot);
        let bytes = self.ledger().newest().and_then(|newest| {
            let found = newest.disks.iter().find(|one| one.disk == *disk);
            found.map(|one| one.bytes)
        });
        let mut made = DiskDigests::of_zeros(bytes.unwrap_or(head.digests.bytes));
        for block in 0..block_count(made.bytes) {
            made.set(
                block,
                match self.store.read(&snapshot, block).await {
                    Ok(data) => Digest::of(&data),
                    Err(StoreError::Damaged { .. } | StoreError::DamagedIndex { .. }) => {
                        self.suspect();
                        LOST
                    }
                    Err(source) => return Err(self.store_error(source)),
                },
            );
        }
        if made.root() != head.root {
            tracing::error!(server.id = %self.id, %disk, "the blocks differ from what was committed");
        }
        self.ledger().restore_head(disk, made)?;
        Ok(())
    }
}

pub(crate) const SESSION_FILE: &str = "session.json";

/// What a checkpoint says of progress, until the agent reports.
fn known_progress(newest: &ObservedCheckpoint) -> Vec<DiskProgress> {
    let whole = newest.kind == CheckpointKind::Launchable;
    let progress = newest.disks.iter().map(|disk| DiskProgress {
        id: disk.disk.clone(),
        device_name: disk.device_name.clone(),
        total_bytes: disk.bytes,
        replicated_bytes: if whole { disk.bytes } else { 0 },
        rescanned_bytes: 0,
        backlogged_bytes: 0,
        tracking: None,
    });
    progress.collect()
}

/// Runs `work`, which waits for files, on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        // Only a runtime that is shutting down cancels; this task goes with it.
        Err(_) => std::future::pending().await,
    }
}
