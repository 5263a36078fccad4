//! A disk of a checkpoint as a raw image. Reads the runner's folder and its store, whether the runner runs
//! or not; while it reads, the checkpoint stays.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    os::unix::fs::FileExt,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};

use cloud::snapshots::{SnapshotId, SnapshotStore, StoreError};
use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    digest::Digest,
    disk::{BLOCK_LEN, block_count},
    ids::SourceServerId,
};
use protocol::exchange::{ObservedCheckpoint, ObservedSnapshot};

use crate::{
    ledger::{LedgerError, manifest_path, newest_launchable, read_checkpoints},
    server::server_dir,
};

/// Which checkpoint is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Number(CheckpointNumber),
    /// The newest that can be launched.
    Latest,
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "latest" => Ok(Self::Latest),
            number => number
                .parse()
                .map(|number| Self::Number(CheckpointNumber(number)))
                .map_err(|_| "a checkpoint is a number, or `latest`"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(
        "source server {0} has no checkpoint that can be exported yet; `orglift-runner checkpoints` lists them"
    )]
    NoCheckpoint(SourceServerId),
    #[error("source server {server} has no checkpoint {number}; it has {known}")]
    UnknownCheckpoint {
        server: SourceServerId,
        number: CheckpointNumber,
        known: String,
    },
    #[error("checkpoint {0} is partial: it saves the work of a first copy and does not hold whole disks")]
    Partial(CheckpointNumber),
    #[error("checkpoint {number} has no disk {disk:?}; it has {known}")]
    UnknownDisk {
        number: CheckpointNumber,
        disk: String,
        known: String,
    },
    #[error("cannot read the disk")]
    Store(#[from] StoreError),
    #[error("cannot write {path}")]
    Write {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("what was read is not what was committed: its digest is {found}, not {committed}")]
    Damaged { found: Digest, committed: Digest },
}

/// A checkpoint that cannot leave while this exists.
#[derive(Debug)]
pub struct Held {
    pub checkpoint: ObservedCheckpoint,
    _manifest: fs::File,
}

/// Finds a checkpoint that can be launched, and keeps it from leaving.
pub fn hold(dir: &Path, server: &SourceServerId, which: Which) -> Result<Held, ExportError> {
    let dir = server_dir(dir, server);
    if !dir.join("checkpoints").exists() {
        return Err(ExportError::NoCheckpoint(server.clone()));
    }
    loop {
        let checkpoints = read_checkpoints(&dir)?;
        let checkpoint = choose(&checkpoints, server, which)?;
        let path = manifest_path(&dir, checkpoint.number);
        // One that left in this moment is not there any more: look again.
        let Ok(manifest) = fs::File::open(&path) else {
            continue;
        };
        let shared = rustix::fs::FlockOperation::LockShared;
        if rustix::fs::flock(&manifest, shared).is_ok() && path.exists() {
            return Ok(Held {
                checkpoint: checkpoint.clone(),
                _manifest: manifest,
            });
        }
    }
}

fn choose<'a>(
    checkpoints: &'a [ObservedCheckpoint],
    server: &SourceServerId,
    which: Which,
) -> Result<&'a ObservedCheckpoint, ExportError> {
    let number = match which {
        Which::Latest => {
            let newest = newest_launchable(checkpoints);
            return newest.ok_or_else(|| ExportError::NoCheckpoint(server.clone()));
        }
        Which::Number(number) => number,
    };
    let found = checkpoints.iter().find(|checkpoint| checkpoint.number == number);
    match found {
        Some(checkpoint) if checkpoint.kind == CheckpointKind::Partial => Err(ExportError::Partial(number)),
        Some(checkpoint) => Ok(checkpoint),
        None => Err(ExportError::UnknownCheckpoint {
            server: server.clone(),
            number,
            known: list(checkpoints.iter().map(|checkpoint| checkpoint.number.to_string())),
        }),
    }
}

/// The disk that is meant by its identifier or by the source's name of it.
pub fn disk<'a>(checkpoint: &'a ObservedCheckpoint, disk: &str) -> Result<&'a ObservedSnapshot, ExportError> {
    let mut disks = checkpoint.disks.iter();
    let found = disks.find(|one| one.disk.as_str() == disk || one.device_name == disk);
    found.ok_or_else(|| ExportError::UnknownDisk {
        number: checkpoint.number,
        disk: disk.to_owned(),
        known: list(
            checkpoint
                .disks
                .iter()
                .map(|one| format!("{} ({})", one.disk, one.device_name)),
        ),
    })
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}

/// Writes a disk of a checkpoint to `to`, durably, with holes where zeros are, and checks every block
/// against the digests of the checkpoint. `progress` is told how many bytes are done.
pub async fn export(
    store: &dyn SnapshotStore,
    disk: &ObservedSnapshot,
    to: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(), ExportError> {
    let written = |source| ExportError::Write {
        path: to.to_owned(),
        source,
    };
    let file = fs::File::create(to).map_err(written)?;
    // A device is as long as it is.
    if file.metadata().map_err(written)?.is_file() {
        file.set_len(disk.bytes).map_err(written)?;
    }
    let snapshot = SnapshotId(disk.snapshot.clone());
    let mut root = blake3::Hasher::new();
    for block in 0..block_count(disk.bytes) {
        let data = store.read(&snapshot, block).await?;
        root.update(&Digest::of(&data).0);
        let at = block * BLOCK_LEN as u64;
        if data.iter().any(|byte| *byte != 0) {
            file.write_all_at(&data, at).map_err(written)?;
        }
        progress(at + data.len() as u64);
    }
    let found = Digest(*root.finalize().as_bytes());
    if found != disk.root {
        return Err(ExportError::Damaged {
            found,
            committed: disk.root,
        });
    }
    file.sync_all().map_err(written)
}

/// A line on a terminal that says how far it is.
#[derive(Debug)]
pub(crate) struct Meter {
    total: u64,
    shown: Option<Instant>,
}

impl Meter {
    pub fn new(total: u64) -> Self {
        let shown = io::stderr().is_terminal().then(Instant::now);
        Self { total, shown }
    }

    pub fn show(&mut self, done: u64) {
        const EVERY: Duration = Duration::from_millis(200);
        let Some(shown) = self.shown else { return };
        if done < self.total && shown.elapsed() < EVERY {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = (done * 100).checked_div(self.total).unwrap_or(100);
        let end = if done < self.total { "" } else { "\n" };
        // A terminal that is gone is no reason to stop.
        drop(write!(
            io::stderr(),
            "\r{percent:3} %  {} of {} MiB{end}",
            done >> 20,
            self.total >> 20
        ));
    }
}
