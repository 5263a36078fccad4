//! What is committed of one server, on disk.
//!
//! ```text
//! checkpoints/<number>.json      the manifest; its rename is the moment the checkpoint exists
//! digests/<number>-<disk>        digests of the blocks that changed in it
//! given-up                       the number of a checkpoint that an agent was promised and that was lost
//! quarantine.json                what the snapshot store has lost of them (`quarantine`)
//! ```
//!
//! Snapshots and digests are durable before the manifest that names them is written. Whoever reads a
//! checkpoint holds a shared lock on its manifest, and then it is not removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    digest::Digest,
    disk::{Disk, DiskId, block_count},
};
use protocol::{
    exchange::{ObservedCheckpoint, ObservedSnapshot},
    session::CheckpointOffer,
};
use serde::{Deserialize, Serialize};

use crate::{
    digests::{DigestChange, DiskDigests, Kept},
    files::{self, FileError, context},
    quarantine::{Changes, Entry, Quarantine},
};

#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    /// Oldest first.
    checkpoints: Vec<ObservedCheckpoint>,
    heads: BTreeMap<DiskId, Head>,
    given_up: Option<CheckpointNumber>,
    quarantine: Quarantine,
}

/// A disk as the newest checkpoint has it.
#[derive(Debug, Clone)]
pub struct Head {
    pub snapshot: String,
    pub digests: Arc<DiskDigests>,
    pub root: Digest,
}

/// One disk's part of a checkpoint that is about to exist.
#[derive(Debug)]
pub struct StagedDisk {
    pub disk: Disk,
    pub snapshot: String,
    /// `None`: nothing of it changed, and it keeps its snapshot.
    pub change: Option<DigestChange>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    #[serde(flatten)]
    checkpoint: ObservedCheckpoint,
}

const MANIFEST_VERSION: u32 = 1;
const GIVEN_UP: &str = "given-up";

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the manifest {path} is damaged")]
    Manifest {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the manifest {path} is of version {version}, which this program does not know")]
    Version { path: PathBuf, version: u32 },
    #[error("{0} does not hold a number")]
    GivenUp(PathBuf),
    #[error("the digests of disk {disk} in checkpoint {number} are damaged")]
    Digests { number: CheckpointNumber, disk: DiskId },
    #[error("no disk {0} is in the newest checkpoint")]
    NoHead(DiskId),
}

/// Whether a checkpoint could be removed.
#[derive(Debug, PartialEq, Eq)]
pub enum Forgotten {
    Yes,
    /// Somebody reads it.
    InUse,
}

impl Ledger {
    /// Reads the ledger in `dir`. Disks whose digests are lost are returned: they must be made anew.
    pub fn load(dir: &Path) -> Result<(Self, Vec<DiskId>), LedgerError> {
        for sub in ["checkpoints", "digests"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).map_err(context("create", &sub))?;
        }
        let mut ledger = Self {
            dir: dir.to_owned(),
            checkpoints: read_checkpoints(dir)?,
            heads: BTreeMap::new(),
            given_up: read_given_up(dir)?,
            quarantine: Quarantine::load(dir)?,
        };
        ledger.quarantine.tidy(dir, &ledger.checkpoints)?;
        ledger.remove_orphans()?;
        let lost = ledger.rebuild_heads()?;
        Ok((ledger, lost))
    }

    pub fn checkpoints(&self) -> &[ObservedCheckpoint] {
        &self.checkpoints
    }

    pub fn newest(&self) -> Option<&ObservedCheckpoint> {
        self.checkpoints.last()
    }

    pub fn next_number(&self) -> CheckpointNumber {
        let newest = self.newest().map(|newest| newest.number);
        newest
            .max(self.given_up)
            .map_or(CheckpointNumber(1), CheckpointNumber::next)
    }

    /// Whether a checkpoint of this number exists, existed, or was given up.
    pub fn is_used(&self, number: CheckpointNumber) -> bool {
        number < self.next_number()
    }

    /// The checkpoint from which an agent may go on with its changes only. A partial one does not hold
    /// whole disks; and an agent forgot what was in one that was given up.
    pub fn delta_since(&self) -> Option<CheckpointNumber> {
        let newest = self.newest()?;
        let is_whole = newest.kind == CheckpointKind::Launchable;
        (is_whole && Some(newest.number) > self.given_up).then_some(newest.number)
    }

    /// A checkpoint that was promised will not be.
    pub fn give_up(&mut self, number: CheckpointNumber) -> Result<(), LedgerError> {
        write_given_up(&self.dir, number)?;
        self.given_up = Some(number);
        Ok(())
    }

    pub fn head(&self, disk: &DiskId) -> Option<&Head> {
        self.heads.get(disk)
    }

    /// The blocks of a disk that the newest checkpoint shows damaged.
    pub fn missing(&self, disk: &DiskId) -> BTreeSet<u64> {
        self.quarantine.missing(disk)
    }

    /// Takes up damage that was found while `newest` was the newest checkpoint, and gives what is new of
    /// it; `None` if there is a newer one meanwhile.
    pub fn damaged(
        &mut self,
        newest: CheckpointNumber,
        found: Vec<Entry>,
    ) -> Result<Option<Vec<Entry>>, LedgerError> {
        if self.newest().map(|newest| newest.number) != Some(newest) {
            return Ok(None);
        }
        let news = self.quarantine.take_up(&self.dir, found)?;
        for checkpoint in &mut self.checkpoints {
            checkpoint.damage = self.quarantine.damage(checkpoint.number);
        }
        Ok(Some(news))
    }

    /// Every snapshot that a checkpoint needs.
    pub fn snapshots(&self) -> BTreeSet<&str> {
        let disks = self.checkpoints.iter().flat_map(|checkpoint| &checkpoint.disks);
        disks.map(|disk| disk.snapshot.as_str()).collect()
    }

    /// Replaces the digests of a disk in the newest checkpoint by ones made from its blocks.
    pub fn restore_head(&mut self, disk: &DiskId, digests: DiskDigests) -> Result<(), LedgerError> {
        let number = self.newest().map(|newest| newest.number);
        let (Some(number), Some(head)) = (number, self.heads.get_mut(disk)) else {
            return Err(LedgerError::NoHead(disk.clone()));
        };
        let blocks = (0..)
            .map_while(|block| digests.get(block).map(|digest| (block, digest)))
            .collect();
        let change = DigestChange {
            from_scratch: true,
            bytes: digests.bytes,
            blocks,
        };
        change.write(&digest_path(&self.dir, number, disk))?;
        head.digests = Arc::new(digests);
        Ok(())
    }

    /// Makes a checkpoint of snapshots that are committed. On an error there is none, and all is as before.
    pub fn commit(
        &mut self,
        offer: &CheckpointOffer,
        received_bytes: u64,
        disks: Vec<StagedDisk>,
    ) -> Result<(CheckpointNumber, Vec<Digest>), LedgerError> {
        let number = self.next_number();
        let (mut heads, mut changes) = (BTreeMap::new(), Changes::new());
        let mut listed = Vec::new();
        for StagedDisk {
            disk,
            snapshot,
            change,
        } in disks
        {
            let before = self.heads.get(&disk.id);
            let head = match (&change, before) {
                (None, Some(head)) => head.clone(),
                (None, None) => return Err(LedgerError::NoHead(disk.id)),
                (Some(change), before) => {
                    let mut digests = before.map_or_else(
                        || DiskDigests::of_zeros(change.bytes),
                        |head| (*head.digests).clone(),
                    );
                    digests.apply(change);
                    change.write(&digest_path(&self.dir, number, &disk.id))?;
                    Head {
                        snapshot,
                        root: digests.root(),
                        digests: Arc::new(digests),
                    }
                }
            };
            listed.push(ObservedSnapshot {
                disk: disk.id.clone(),
                device_name: disk.device_name,
                is_boot: disk.is_boot,
                bytes: disk.bytes,
                snapshot: head.snapshot.clone(),
                root: head.root,
            });
            heads.insert(disk.id.clone(), head);
            changes.insert(disk.id, change);
        }
        self.quarantine.committing(&self.dir, number, &changes)?;
        let checkpoint = ObservedCheckpoint {
            number,
            kind: offer.kind,
            consistency: offer.consistency,
            taken_at_ms: offer.taken_at_ms,
            request: offer.request,
            frozen_ms: offer.frozen_ms,
            received_bytes,
            damage: None,
            disks: listed,
        };
        write_manifest(&self.dir, &checkpoint)?;
        let mut checkpoint = checkpoint;
        let roots = checkpoint.disks.iter().map(|disk| disk.root).collect();
        checkpoint.damage = self.quarantine.damage(number);
        self.checkpoints.push(checkpoint);
        self.heads = heads;
        if let Err(error) = self.quarantine.committed(&self.dir, &changes) {
            // Blocks that were sent are asked for once more.
            tracing::warn!(%error, "the quarantine is not up to date");
        }
        Ok((number, roots))
    }

    /// Removes a checkpoint that is not the newest. Its digests go over to the next one first. Snapshots
    /// that no other names are left to the caller.
    pub fn forget(&mut self, number: CheckpointNumber) -> Result<Forgotten, LedgerError> {
        let at = self
            .checkpoints
            .iter()
            .position(|checkpoint| checkpoint.number == number);
        let Some((at, next)) = at.and_then(|at| Some((at, self.checkpoints.get(at + 1)?))) else {
            return Ok(Forgotten::InUse);
        };
        let path = manifest_path(&self.dir, number);
        let manifest = fs::File::open(&path).map_err(context("open", &path))?;
        let alone = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&manifest, alone).is_err() {
            return Ok(Forgotten::InUse);
        }
        let disks = self.checkpoints[at].disks.iter().map(|snapshot| &snapshot.disk);
        let own: Vec<_> = disks
            .map(|disk| (disk, digest_path(&self.dir, number, disk)))
            .collect();
        for (disk, path) in &own {
            let continued = next.disks.iter().any(|snapshot| snapshot.disk == **disk);
            if !continued {
                continue;
            }
            let Kept::Change(change) = DigestChange::read(path)? else {
                continue; // Nothing changed, or it is lost and the head is made anew at the next start.
            };
            let next_path = digest_path(&self.dir, next.number, disk);
            let folded = match DigestChange::read(&next_path)? {
                Kept::Change(later) => change.followed_by(later),
                Kept::Damaged => continue,
                Kept::Nothing => change,
            };
            folded.write(&next_path)?;
        }
        files::remove(&path)?;
        for (_, path) in own {
            files::remove(&path)?;
        }
        self.checkpoints.remove(at);
        self.quarantine.tidy(&self.dir, &self.checkpoints)?;
        Ok(Forgotten::Yes)
    }

    /// Drafts, and digests of checkpoints that came to nothing.
    fn remove_orphans(&self) -> Result<(), FileError> {
        let numbers: BTreeSet<_> = self.checkpoints.iter().map(|one| one.number.0).collect();
        for name in names(&self.dir.join("digests"))? {
            let number = name.split_once('-').and_then(|(number, _)| number.parse().ok());
            if files::is_draft(&name) || number.is_none_or(|number| !numbers.contains(&number)) {
                files::remove(&self.dir.join("digests").join(name))?;
            }
        }
        for name in names(&self.dir.join("checkpoints"))? {
            if files::is_draft(&name) {
                files::remove(&self.dir.join("checkpoints").join(name))?;
            }
        }
        Ok(())
    }

    /// Keeps a checkpoint, by default the newest that can be launched, while its file is open.
    pub fn hold(
        &self,
        number: Option<CheckpointNumber>,
    ) -> Result<Option<(ObservedCheckpoint, fs::File)>, LedgerError> {
        let found = match number {
            None => newest_launchable(&self.checkpoints),
            Some(number) => self.checkpoints.iter().find(|one| one.number == number),
        };
        let Some(checkpoint) = found else {
            return Ok(None);
        };
        let path = manifest_path(&self.dir, checkpoint.number);
        let manifest = fs::File::open(&path).map_err(context("open", &path))?;
        // Only we remove checkpoints, and not now.
        rustix::fs::flock(&manifest, rustix::fs::FlockOperation::LockShared)
            .map_err(|error| context("lock", &path)(error.into()))?;
        Ok(Some((checkpoint.clone(), manifest)))
    }

    /// The digests of a disk in a checkpoint.
    pub fn digests_at(
        &self,
        number: CheckpointNumber,
        snapshot: &ObservedSnapshot,
    ) -> Result<Arc<DiskDigests>, LedgerError> {
        if let Some(head) = self.head(&snapshot.disk)
            && self.newest().is_some_and(|newest| newest.number == number)
        {
            return Ok(Arc::clone(&head.digests));
        }
        match digests_of(&self.dir, &self.checkpoints, number, snapshot)? {
            (digests, Whole::Yes) => Ok(Arc::new(digests)),
            (_, Whole::No) => Err(LedgerError::Digests {
                number,
                disk: snapshot.disk.clone(),
            }),
        }
    }

    fn rebuild_heads(&mut self) -> Result<Vec<DiskId>, LedgerError> {
        let mut lost = Vec::new();
        let Some(newest) = self.checkpoints.last() else {
            return Ok(lost);
        };
        for snapshot in &newest.disks {
            let (digests, whole) = digests_of(&self.dir, &self.checkpoints, newest.number, snapshot)?;
            if whole == Whole::No {
                lost.push(snapshot.disk.clone());
            }
            let head = Head {
                snapshot: snapshot.snapshot.clone(),
                digests: Arc::new(digests),
                root: snapshot.root,
            };
            self.heads.insert(snapshot.disk.clone(), head);
        }
        Ok(lost)
    }
}

/// The digests of each disk of a checkpoint, from the folder of a server whose runner may be at work: `None` where they
/// cannot be read.
pub fn read_digests(
    dir: &Path,
    checkpoint: &ObservedCheckpoint,
) -> Result<Vec<Option<Arc<DiskDigests>>>, LedgerError> {
    let checkpoints = read_checkpoints(dir)?;
    let disks = checkpoint.disks.iter().map(|disk| {
        let (digests, whole) = digests_of(dir, &checkpoints, checkpoint.number, disk)?;
        Ok((whole == Whole::Yes).then(|| Arc::new(digests)))
    });
    disks.collect()
}

fn digests_of(
    dir: &Path,
    checkpoints: &[ObservedCheckpoint],
    number: CheckpointNumber,
    snapshot: &ObservedSnapshot,
) -> Result<(DiskDigests, Whole), FileError> {
    let mut digests = DiskDigests::of_zeros(snapshot.bytes);
    let mut whole = true;
    for checkpoint in checkpoints.iter().filter(|one| one.number <= number) {
        match DigestChange::read(&digest_path(dir, checkpoint.number, &snapshot.disk))? {
            Kept::Change(change) => digests.apply(&change),
            Kept::Damaged => whole = false,
            Kept::Nothing => {}
        }
    }
    whole &= digests.bytes == snapshot.bytes && digests.root() == snapshot.root;
    Ok((digests, if whole { Whole::Yes } else { Whole::No }))
}

/// Whether all digests of a disk could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// From here on, the checkpoint exists.
pub fn write_manifest(dir: &Path, checkpoint: &ObservedCheckpoint) -> Result<(), FileError> {
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        checkpoint: checkpoint.clone(),
    };
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest's keys are text");
    files::replace(&manifest_path(dir, checkpoint.number), &text)
}

pub fn write_given_up(dir: &Path, number: CheckpointNumber) -> Result<(), FileError> {
    files::replace(&dir.join(GIVEN_UP), number.to_string().as_bytes())
}

fn read_given_up(dir: &Path) -> Result<Option<CheckpointNumber>, LedgerError> {
    let path = dir.join(GIVEN_UP);
    let Some(text) = files::read(&path)? else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    let number = number.ok_or(LedgerError::GivenUp(path))?;
    Ok(Some(CheckpointNumber(number)))
}

/// The committed checkpoints in a server's folder, oldest first.
pub fn read_checkpoints(dir: &Path) -> Result<Vec<ObservedCheckpoint>, LedgerError> {
    let folder = dir.join("checkpoints");
    let mut checkpoints = Vec::new();
    for name in names(&folder)? {
        let path = folder.join(&name);
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // It may have been removed since the folder was listed.
        if let Some(text) = files::read(&path)? {
            let manifest: Manifest =
                serde_json::from_slice(&text).map_err(|source| LedgerError::Manifest {
                    path: path.clone(),
                    source,
                })?;
            if manifest.version != MANIFEST_VERSION {
                let version = manifest.version;
                return Err(LedgerError::Version { path, version });
            }
            checkpoints.push(manifest.checkpoint);
        }
    }
    checkpoints.sort_unstable_by_key(|checkpoint| checkpoint.number);
    let quarantine = Quarantine::load(dir)?;
    for checkpoint in &mut checkpoints {
        checkpoint.damage = quarantine.damage(checkpoint.number);
    }
    Ok(checkpoints)
}

/// The blocks of a disk that a checkpoint changed: those that its snapshot holds. All that it has if that
/// is not known.
pub fn changed_blocks(
    dir: &Path,
    number: CheckpointNumber,
    disk: &ObservedSnapshot,
) -> Result<Vec<u64>, LedgerError> {
    Ok(match DigestChange::read(&digest_path(dir, number, &disk.disk))? {
        Kept::Change(change) => change.blocks.into_keys().collect(),
        Kept::Damaged => (0..block_count(disk.bytes)).collect(),
        Kept::Nothing => Vec::new(),
    })
}

/// The newest checkpoint that can be launched.
pub fn newest_launchable(checkpoints: &[ObservedCheckpoint]) -> Option<&ObservedCheckpoint> {
    let mut launchable = checkpoints
        .iter()
        .filter(|checkpoint| checkpoint.kind == CheckpointKind::Launchable && checkpoint.damage.is_none());
    launchable.next_back()
}

pub fn manifest_path(dir: &Path, number: CheckpointNumber) -> PathBuf {
    dir.join("checkpoints").join(format!("{number}.json"))
}

pub fn digest_path(dir: &Path, number: CheckpointNumber, disk: &DiskId) -> PathBuf {
    dir.join("digests").join(format!("{number}-{disk}"))
}

fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(context("list", dir))? {
        let name = entry.map_err(context("list", dir))?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}
