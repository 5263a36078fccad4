//! The index: what outlives the runner's machine, so that another one goes on with the same checkpoints.
//!
//! ```text
//! servers/<id>/<number>      one checkpoint: manifest, digests, what the snapshot store knows (`bundle`)
//! ```
//!
//! The folder is the truth for as long as it is there. The index follows it: an object is written once its manifest is
//! on disk, written again when retention adds to its digests, and deleted after it. Nobody waits for it, and what fails
//! is tried again. Read together, its objects show checkpoints at every moment, though the last ones may be missing.

mod bundle;
pub(crate) mod restore;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use cloud::{
    StoreError,
    objects::{ObjectError, ObjectStore},
};
use domain::{checkpoint::CheckpointNumber, disk::DiskId, ids::SourceServerId};
use protocol::exchange::ObservedCheckpoint;
use tokio::time::sleep;

use self::bundle::Bundle;
use crate::{
    files::{self, FileError},
    hub::Backoff,
    ledger::digest_path,
    runner::core::Core,
    server::{SERVERS, Server, blocking},
    staging::chain,
};

const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum IndexError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("checkpoint {0} has more digests than an object of the index may hold")]
    TooMuch(CheckpointNumber),
}

/// What an object was made of, as far as that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    checkpoint: ObservedCheckpoint,
    /// Length and time of each file of digests.
    files: Vec<Option<(u64, SystemTime)>>,
}

/// The objects of a server; what one was made of is not known of those that an earlier process wrote.
type Written = BTreeMap<CheckpointNumber, Option<Made>>;

struct Index {
    core: Arc<Core>,
    objects: Arc<dyn ObjectStore>,
    written: BTreeMap<SourceServerId, Written>,
    /// Names of the servers' folders when the objects were listed last.
    folders: Option<BTreeSet<String>>,
}

/// Keeps the index up to date, and says how far it is behind.
pub(crate) async fn keep_for_ever(core: Arc<Core>, objects: Arc<dyn ObjectStore>) {
    let mut index = Index {
        core: Arc::clone(&core),
        objects,
        written: BTreeMap::new(),
        folders: None,
    };
    let mut backoff = Backoff::default();
    let mut told = 0;
    loop {
        let done = index.follow().await;
        let behind = index.behind();
        core.set_index_behind(behind);
        let pause = match done {
            Ok(()) => {
                if told > 0 && behind == 0 {
                    tracing::info!("the index is up to date again");
                }
                backoff.reset();
                told = behind;
                EVERY
            }
            Err(error) => {
                if behind != told {
                    tracing::warn!(error = %chain(&error), "the index is {behind} checkpoints behind; trying again");
                    told = behind;
                }
                backoff.next()
            }
        };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

impl Index {
    async fn follow(&mut self) -> Result<(), IndexError> {
        self.forget_servers().await?;
        for server in self.core.servers() {
            self.follow_server(&server).await?;
        }
        Ok(())
    }

    fn behind(&self) -> u64 {
        let servers = self.core.servers();
        let missing = servers.iter().map(|server| {
            let written = self.written.get(&server.id);
            let is_written = |number| written.is_some_and(|all| matches!(all.get(&number), Some(Some(_))));
            let ledger = server.ledger();
            let missing = ledger.checkpoints().iter().filter(|one| !is_written(one.number));
            missing.count() as u64
        });
        missing.sum()
    }

    /// Deletes objects of servers that have no folder any more: they were erased.
    async fn forget_servers(&mut self) -> Result<(), IndexError> {
        let dir = self.core.dir().join(SERVERS);
        let folders = blocking(move || names(&dir)).await?;
        if self.folders.as_ref() == Some(&folders) {
            return Ok(());
        }
        for key in self.objects.list("servers/").await? {
            let Some((server, number)) = parts(&key) else {
                continue;
            };
            if folders.contains(server.as_str()) {
                let written = self.written.entry(server).or_default();
                written.entry(number).or_insert(None);
            } else {
                self.objects.delete(&key).await?;
                self.written.remove(&server);
            }
        }
        self.folders = Some(folders);
        Ok(())
    }

    async fn follow_server(&mut self, server: &Arc<Server>) -> Result<(), IndexError> {
        // Whatever has left by now has handed its digests on.
        let checkpoints = server.ledger().checkpoints().to_vec();
        let written = self.written.entry(server.id.clone()).or_default();
        for checkpoint in &checkpoints {
            let dir = server.dir().to_owned();
            let made = blocking({
                let (dir, checkpoint) = (dir.clone(), checkpoint.clone());
                move || Made::of(&dir, checkpoint)
            })
            .await;
            if written.get(&checkpoint.number).and_then(Option::as_ref) == Some(&made) {
                continue;
            }
            let digests = blocking({
                let checkpoint = checkpoint.clone();
                move || read_digests(&dir, &checkpoint)
            });
            let digests = digests.await?;
            let mut snapshots = server.store.list().await?;
            snapshots.retain(|info| checkpoint.disks.iter().any(|disk| disk.snapshot == info.id.0));
            let contents = Bundle::encode(&server.id, checkpoint, snapshots, &digests)
                .ok_or(IndexError::TooMuch(checkpoint.number))?;
            self.objects
                .put(&key(&server.id, checkpoint.number), contents)
                .await?;
            written.insert(checkpoint.number, Some(made));
        }
        let Some(newest) = checkpoints.last().map(|newest| newest.number) else {
            return Ok(());
        };
        let is_here = |number| checkpoints.iter().any(|one| one.number == number);
        let gone: Vec<_> = written
            .keys()
            .copied()
            .filter(|number| *number < newest && !is_here(*number))
            .collect();
        for number in gone {
            self.objects.delete(&key(&server.id, number)).await?;
            written.remove(&number);
        }
        Ok(())
    }
}

impl Made {
    fn of(dir: &Path, checkpoint: ObservedCheckpoint) -> Self {
        let stamp = |path: PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        let disks = checkpoint.disks.iter();
        let files = disks
            .map(|disk| stamp(digest_path(dir, checkpoint.number, &disk.disk)))
            .collect();
        Self { checkpoint, files }
    }
}

fn read_digests(dir: &Path, checkpoint: &ObservedCheckpoint) -> Result<Vec<(DiskId, Vec<u8>)>, FileError> {
    let mut read = Vec::new();
    for disk in &checkpoint.disks {
        if let Some(file) = files::read(&digest_path(dir, checkpoint.number, &disk.disk))? {
            read.push((disk.disk.clone(), file));
        }
    }
    Ok(read)
}

fn names(dir: &Path) -> Result<BTreeSet<String>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(files::context("list", dir))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(files::context("list", dir))?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}

fn key(server: &SourceServerId, number: CheckpointNumber) -> String {
    format!("servers/{server}/{number}")
}

fn parts(key: &str) -> Option<(SourceServerId, CheckpointNumber)> {
    let (server, number) = key.strip_prefix("servers/")?.split_once('/')?;
    Some((server.parse().ok()?, CheckpointNumber(number.parse().ok()?)))
}
