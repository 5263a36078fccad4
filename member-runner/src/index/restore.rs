//! A runner without a folder takes up what the one before it kept.
//!
//! ```text
//! no `servers/` ─▶ ask the hub what was reported ─▶ `servers.restoring/` ─▶ renamed: `servers/`
//! ```
//!
//! A bucket may hold anything. What is restored is what the hub had been told as well: the same checkpoints, of the same
//! snapshots, with digests that give the same root. Without S3, EBS or the hub the runner waits: going on with nothing
//! would copy every disk again.
//!
//! The agents' sessions are lost, and perhaps a checkpoint that an agent was promised: all disks are compared once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cloud::{
    StoreError,
    control::{SERVER_TAG, Tags},
    objects::{ObjectError, ObjectStore},
    snapshots::{SnapshotId, SnapshotInfo, SnapshotStore},
};
use domain::{checkpoint::CheckpointNumber, disk::DiskId, ids::SourceServerId};
use protocol::{
    exchange::{KeptServer, ObservedCheckpoint},
    handshake::SessionMemory,
};
use tokio::time::sleep;

use super::{
    bundle::{BUNDLE_MAX, Bundle},
    key, parts,
};
use crate::{
    digests::{DigestChange, DiskDigests},
    files::{self, FileError, context},
    hub::{Backoff, HubClient, HubError},
    ledger,
    server::{PURPOSE, PURPOSE_TAG, SERVERS, SESSION_FILE},
    staging::chain,
};

const RESTORING: &str = "servers.restoring";
/// Retention leaves far fewer.
const CHECKPOINTS_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Returns once there is a folder.
pub(crate) async fn restore(
    dir: &Path,
    hub: &HubClient,
    store: &dyn SnapshotStore,
    objects: &dyn ObjectStore,
) {
    let mut backoff = Backoff::default();
    while !dir.join(SERVERS).exists() {
        if let Err(error) = attempt(dir, hub, store, objects).await {
            tracing::warn!(error = %chain(&error), "cannot restore what the last runner kept yet; trying again");
            sleep(backoff.next()).await;
        }
    }
}

async fn attempt(
    dir: &Path,
    hub: &HubClient,
    store: &dyn SnapshotStore,
    objects: &dyn ObjectStore,
) -> Result<(), RestoreError> {
    let kept = hub.kept().await?;
    let draft = dir.join(RESTORING);
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(context("remove", &draft))?;
    }
    fs::create_dir_all(&draft).map_err(context("create", &draft))?;
    for server in &kept.servers {
        restore_server(&draft.join(server.id.as_str()), server, store, objects).await?;
    }
    let servers = dir.join(SERVERS);
    fs::rename(&draft, &servers).map_err(context("write", &servers))?;
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    Ok(synced.map_err(context("write", dir))?)
}

async fn restore_server(
    dir: &Path,
    known: &KeptServer,
    store: &dyn SnapshotStore,
    objects: &dyn ObjectStore,
) -> Result<(), RestoreError> {
    let server = &known.id;
    let found = fetch(known, objects).await?;
    let whole = whole(&found);
    let mut taken = BTreeMap::new();
    let mut usable = BTreeSet::new();
    for bundle in found
        .iter()
        .filter(|bundle| whole.contains(&bundle.checkpoint.number))
    {
        if take_up(bundle, &mut taken, store).await? {
            usable.insert(bundle.checkpoint.number);
        }
    }
    if usable.is_empty() {
        // Its digests are made anew from its blocks, which costs reads, and no copy.
        for bundle in found.iter().rev() {
            if take_up(bundle, &mut taken, store).await? {
                usable.insert(bundle.checkpoint.number);
                break;
            }
        }
    }
    for folder in ["checkpoints", "digests"] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder).map_err(context("create", &folder))?;
    }
    write(dir, &found, &usable, &whole)?;
    let numbers = known.checkpoints.iter().map(|one| one.number);
    if let Some(last) = numbers.chain(usable.last().copied()).max() {
        // The next one may have been promised to an agent. Neither number is used again.
        ledger::write_given_up(dir, last.next())?;
    }
    let memory = SessionMemory {
        lost: true,
        ..SessionMemory::default()
    };
    let memory = serde_json::to_vec_pretty(&memory).expect("its keys are text");
    files::replace(&dir.join(SESSION_FILE), &memory)?;
    let named: BTreeSet<_> = found
        .iter()
        .filter(|bundle| usable.contains(&bundle.checkpoint.number))
        .flat_map(|bundle| bundle.checkpoint.disks.iter().map(|disk| disk.snapshot.as_str()))
        .collect();
    let orphans = let_go(known, &named, store).await?;
    tracing::info!(
        server.id = %server, checkpoints = usable.len(), newest = ?usable.last().map(|number| number.0), orphans,
        "what the last runner kept of a server is restored"
    );
    Ok(())
}

/// The checkpoints that the index has and the hub knows, oldest first.
async fn fetch(known: &KeptServer, objects: &dyn ObjectStore) -> Result<Vec<Bundle>, RestoreError> {
    let server = &known.id;
    let keys = objects.list(&format!("servers/{server}/")).await?;
    let numbers: BTreeSet<_> = keys
        .iter()
        .filter_map(|key| parts(key))
        .map(|(_, number)| number)
        .collect();
    let mut found = Vec::new();
    for number in numbers.into_iter().take(CHECKPOINTS_MAX) {
        let Some(reported) = known.checkpoints.iter().find(|one| one.number == number) else {
            continue;
        };
        let read = match objects.get(&key(server, number), BUNDLE_MAX).await {
            Ok(Some(bytes)) => Bundle::decode(&bytes).map_err(|damaged| damaged.to_string()),
            Ok(None) => continue,
            Err(error @ ObjectError::TooLong { .. }) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        match read {
            Ok(bundle) if bundle.server == *server && is_as_reported(&bundle.checkpoint, reported) => {
                found.push(bundle);
            }
            Ok(_) => {
                tracing::warn!(server.id = %server, %number, "a checkpoint of the index is not the one that the hub knows, and is left out");
            }
            Err(damage) => {
                tracing::warn!(server.id = %server, %number, %damage, "a checkpoint of the index is damaged, and is left out");
            }
        }
    }
    Ok(found)
}

fn is_as_reported(found: &ObservedCheckpoint, reported: &ObservedCheckpoint) -> bool {
    found == reported && found.damage.is_none()
}

/// Those whose digests, with those of all before them, give the roots that their manifests name.
fn whole(found: &[Bundle]) -> BTreeSet<CheckpointNumber> {
    let mut disks: BTreeMap<DiskId, DiskDigests> = BTreeMap::new();
    let mut whole = BTreeSet::new();
    for Bundle {
        checkpoint, changes, ..
    } in found
    {
        for (disk, change) in changes {
            let digests = disks.entry(disk.clone());
            digests
                .or_insert_with(|| DiskDigests::of_zeros(change.bytes))
                .apply(change);
        }
        let is_right = checkpoint.disks.iter().all(|disk| {
            let digests = disks
                .entry(disk.disk.clone())
                .or_insert_with(|| DiskDigests::of_zeros(disk.bytes));
            digests.bytes == disk.bytes && digests.root() == disk.root
        });
        if is_right {
            whole.insert(checkpoint.number);
        }
    }
    whole
}

/// Whether all snapshots of a checkpoint are there.
async fn take_up(
    bundle: &Bundle,
    taken: &mut BTreeMap<String, bool>,
    store: &dyn SnapshotStore,
) -> Result<bool, StoreError> {
    for disk in &bundle.checkpoint.disks {
        let is_there = if let Some(is_there) = taken.get(&disk.snapshot) {
            *is_there
        } else {
            let before = bundle.snapshots.iter().find(|info| info.id.0 == disk.snapshot);
            let parent = before.and_then(|info| info.parent.clone());
            let info = SnapshotInfo {
                id: SnapshotId(disk.snapshot.clone()),
                parent: parent.filter(|parent| taken.contains_key(&parent.0)),
                bytes: disk.bytes,
                committed: true,
                tags: tags(&bundle.server),
            };
            store.take_up(&info).await?
        };
        taken.insert(disk.snapshot.clone(), is_there);
        if !is_there {
            tracing::warn!(
                server.id = %bundle.server, number = %bundle.checkpoint.number, snapshot = %disk.snapshot,
                "a snapshot of a checkpoint is gone, and the checkpoint with it"
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the checkpoints that are `usable`. Changes of those in between go over to the next one, as when one leaves.
fn write(
    dir: &Path,
    found: &[Bundle],
    usable: &BTreeSet<CheckpointNumber>,
    whole: &BTreeSet<CheckpointNumber>,
) -> Result<(), FileError> {
    let mut pending: BTreeMap<DiskId, DigestChange> = BTreeMap::new();
    for Bundle {
        checkpoint, changes, ..
    } in found
    {
        for (disk, change) in changes {
            let change = change.clone();
            let folded = match pending.remove(disk) {
                Some(earlier) => earlier.followed_by(change),
                None => change,
            };
            pending.insert(disk.clone(), folded);
        }
        if !usable.contains(&checkpoint.number) {
            continue;
        }
        if whole.contains(&checkpoint.number) {
            for disk in &checkpoint.disks {
                if let Some(change) = pending.remove(&disk.disk) {
                    change.write(&ledger::digest_path(dir, checkpoint.number, &disk.disk))?;
                }
            }
        }
        ledger::write_manifest(dir, checkpoint)?;
    }
    Ok(())
}

/// Lets go of snapshots that no checkpoint names. They are of the runner before: this one has made none yet. How many.
async fn let_go(
    known: &KeptServer,
    named: &BTreeSet<&str>,
    store: &dyn SnapshotStore,
) -> Result<usize, StoreError> {
    let Some(snapshots) = &known.snapshots else {
        tracing::warn!(server.id = %known.id, "the hub cannot tell which snapshots there are; what nobody needs of them stays");
        return Ok(0);
    };
    let orphans = snapshots.iter().filter(|id| !named.contains(id.as_str()));
    let mut count = 0;
    for id in orphans {
        let info = SnapshotInfo {
            id: SnapshotId(id.clone()),
            parent: None,
            bytes: 0,
            committed: true,
            tags: tags(&known.id),
        };
        store.let_go(&info).await?;
        count += 1;
    }
    Ok(count)
}

fn tags(server: &SourceServerId) -> Tags {
    Tags::from([
        (SERVER_TAG.to_owned(), server.to_string()),
        (PURPOSE_TAG.to_owned(), PURPOSE.to_owned()),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use cloud::{layers::LayerStore, objects::FolderObjects};
    use domain::{
        checkpoint::{CheckpointKind, Consistency},
        digest::{DIGEST_LEN, Digest},
        disk::BLOCK_LEN,
    };
    use protocol::exchange::ObservedSnapshot;

    use super::*;
    use crate::ledger::{Ledger, read_checkpoints};

    const BYTES: u64 = 4 * BLOCK_LEN as u64;

    fn server() -> SourceServerId {
        SourceServerId::from_entropy(1)
    }

    fn disk() -> DiskId {
        "serial-1".parse().unwrap()
    }

    fn change(blocks: &[(u64, u8)]) -> DigestChange {
        DigestChange {
            from_scratch: false,
            bytes: BYTES,
            blocks: blocks
                .iter()
                .map(|(block, byte)| (*block, Digest([*byte; DIGEST_LEN])))
                .collect(),
        }
    }

    /// A checkpoint that changed these blocks of a disk of zeros.
    pub(in crate::index) fn bundle(number: u64, blocks: &[(u64, u8)]) -> Bundle {
        following(&[], number, blocks)
    }

    fn following(before: &[Bundle], number: u64, blocks: &[(u64, u8)]) -> Bundle {
        let mut digests = DiskDigests::of_zeros(BYTES);
        for earlier in before {
            digests.apply(&earlier.changes[&disk()]);
        }
        let change = change(blocks);
        digests.apply(&change);
        Bundle {
            server: server(),
            checkpoint: ObservedCheckpoint {
                number: CheckpointNumber(number),
                kind: CheckpointKind::Launchable,
                consistency: Consistency::Crash,
                taken_at_ms: 1,
                request: 0,
                frozen_ms: 0,
                received_bytes: 0,
                damage: None,
                disks: vec![ObservedSnapshot {
                    disk: disk(),
                    device_name: "/dev/sda".into(),
                    is_boot: true,
                    bytes: BYTES,
                    snapshot: format!("snap-{number}"),
                    root: digests.root(),
                }],
            },
            snapshots: Vec::new(),
            changes: BTreeMap::from([(disk(), change)]),
        }
    }

    pub(in crate::index) fn encoded(bundle: &Bundle) -> Vec<u8> {
        let digests: Vec<_> = bundle
            .changes
            .iter()
            .map(|(disk, change)| (disk.clone(), change.encode()))
            .collect();
        Bundle::encode(
            &bundle.server,
            &bundle.checkpoint,
            bundle.snapshots.clone(),
            &digests,
        )
        .unwrap()
    }

    /// Three checkpoints, each upon the one before.
    fn three() -> Vec<Bundle> {
        let mut all = vec![bundle(1, &[(0, 1), (1, 1), (2, 1)])];
        all.push(following(&all, 2, &[(1, 2)]));
        all.push(following(&all, 3, &[(2, 3)]));
        all
    }

    fn whole_of(found: &[Bundle]) -> Vec<u64> {
        whole(found).into_iter().map(|number| number.0).collect()
    }

    #[test]
    fn digests_must_give_the_roots_that_manifests_name() {
        let all = three();
        assert_eq!(whole_of(&all), [1, 2, 3]);
        assert_eq!(whole_of(&all[..2]), [1, 2]);
        // Without the one in the middle, the last one does not know what it changed.
        assert_eq!(whole_of(&[all[0].clone(), all[2].clone()]), [1]);
        assert_eq!(whole_of(&all[1..]), Vec::<u64>::new());
    }

    #[test]
    fn what_was_left_out_hands_its_digests_on() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["checkpoints", "digests"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let all = three();
        let usable = [1, 3].map(CheckpointNumber).into();
        write(dir.path(), &all, &usable, &whole(&all)).unwrap();
        let (ledger, lost) = Ledger::load(dir.path()).unwrap();
        assert_eq!(lost, []);
        let numbers: Vec<_> = ledger.checkpoints().iter().map(|one| one.number.0).collect();
        assert_eq!(numbers, [1, 3]);
    }

    async fn restored(dir: &Path, known: &KeptServer, put: &[(u64, Vec<u8>)]) -> Vec<u64> {
        let objects = FolderObjects::new(dir.join("objects"));
        for (number, contents) in put {
            let key = key(&known.id, CheckpointNumber(*number));
            objects.put(&key, contents.clone()).await.unwrap();
        }
        let found = fetch(known, &objects).await.unwrap();
        whole_of(&found)
    }

    #[tokio::test]
    async fn nothing_is_believed_that_the_hub_was_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let all = three();
        let mut put: Vec<_> = (1..).zip(all.iter().map(encoded)).collect();
        let known = |numbers: &[usize]| KeptServer {
            id: server(),
            checkpoints: numbers.iter().map(|n| all[n - 1].checkpoint.clone()).collect(),
            snapshots: None,
        };
        assert_eq!(restored(dir.path(), &known(&[1, 2, 3]), &put).await, [1, 2, 3]);
        assert_eq!(restored(dir.path(), &known(&[1, 2]), &put).await, [1, 2]);
        // Written by somebody who knows how: another block is said to be there already.
        let mut forged = following(&all[..2], 3, &[(2, 4)]);
        forged.checkpoint.disks[0].root = all[2].checkpoint.disks[0].root;
        put[2].1 = encoded(&forged);
        assert_eq!(restored(dir.path(), &known(&[1, 2, 3]), &put).await, [1, 2]);
        forged.checkpoint.disks[0].snapshot = "snap-1".into();
        put[2].1 = encoded(&forged);
        assert_eq!(restored(dir.path(), &known(&[1, 2, 3]), &put).await, [1, 2]);
        // One of another server, and a damaged one.
        let mut other = all[2].clone();
        other.server = SourceServerId::from_entropy(2);
        put[2].1 = encoded(&other);
        put[1].1[40] ^= 1;
        assert_eq!(restored(dir.path(), &known(&[1, 2, 3]), &put).await, [1]);
    }

    #[tokio::test]
    async fn a_checkpoint_whose_snapshot_is_gone_is_not_restored_and_its_number_not_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let objects = FolderObjects::new(dir.path().join("objects"));
        let store = LayerStore::open(dir.path().join("snapshots")).unwrap();
        let all = three();
        objects
            .put(&key(&server(), CheckpointNumber(3)), encoded(&all[2]))
            .await
            .unwrap();
        let known = KeptServer {
            id: server(),
            checkpoints: vec![all[2].checkpoint.clone()],
            snapshots: Some(vec!["snap-9".into()]),
        };
        let folder = dir.path().join("restored");
        restore_server(&folder, &known, &store, &objects).await.unwrap();
        assert_eq!(read_checkpoints(&folder).unwrap(), []);
        let (ledger, _) = Ledger::load(&folder).unwrap();
        assert_eq!(ledger.next_number(), CheckpointNumber(5));
    }
}
