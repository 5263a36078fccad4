//! The store on EBS direct APIs, and what may go wrong on the way there.

use std::{fs, path::Path, time::Duration};

use cloud::{
    aws::{Access, ebs::EbsStore},
    route::{Endpoints, Profile},
    snapshots::{SnapshotStore, StoreError},
};
use lab::aws::{
    Aws,
    caller::key_of,
    ebs::settings::Settings,
    faults::{Effect, Fault},
    moto,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::contract::{self, BYTES, committed, filled, put, shown, spec};

const ACCOUNT: &str = "111122223333";
const SOON: Duration = Duration::from_mins(1);

struct Scene {
    aws: Aws,
    folder: TempDir,
}

impl Scene {
    /// `None`, and why, where the endpoints cannot be had.
    async fn new() -> Option<Self> {
        if let Err(why) = moto::python() {
            eprintln!("cannot run here: the store on EBS: {why:#}");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why:#}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let aws = Aws::start(&folder.path().join("aws"), 0).await.unwrap();
        let keys = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = any\n",
            key_of(ACCOUNT).unwrap()
        );
        fs::write(folder.path().join("credentials"), keys).unwrap();
        Some(Self { aws, folder })
    }

    async fn store(&self) -> EbsStore {
        self.open().await.unwrap()
    }

    async fn open(&self) -> Result<EbsStore, StoreError> {
        let access = Access {
            region: "eu-central-1".into(),
            profile: Some(Profile {
                name: "default".into(),
                file: Some(self.path().join("credentials")),
            }),
            endpoints: Endpoints {
                url: Some(self.aws.endpoint()),
                ..Endpoints::default()
            },
        };
        EbsStore::open(&self.path().join("store"), &access, None).await
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn calls(&self, action: &str) -> usize {
        let calls = self.aws.calls().list();
        calls.iter().filter(|done| done.call.action == action).count()
    }
}

#[tokio::test]
async fn it_holds_the_contract() {
    let Some(scene) = Scene::new().await else { return };
    contract::holds(&scene.store().await).await;
}

#[tokio::test]
async fn it_gets_through_throttling_faults_and_broken_connections() {
    let Some(scene) = Scene::new().await else { return };
    let store = scene.store().await;
    let fault = |effect, action| Fault::new(effect).on("ebs", action).times(2);
    scene.aws.faults().set(vec![
        fault(Effect::Throttle, "StartSnapshot"),
        fault(Effect::Forget, "StartSnapshot"),
        fault(Effect::Unseen { millis: 1500 }, "StartSnapshot"),
        fault(Effect::Throttle, "PutSnapshotBlock"),
        fault(Effect::Fail, "PutSnapshotBlock"),
        fault(Effect::Reset, "PutSnapshotBlock"),
        fault(Effect::Forget, "PutSnapshotBlock"),
        fault(Effect::Fail, "CompleteSnapshot"),
        fault(Effect::Forget, "CompleteSnapshot"),
        fault(Effect::Throttle, "ListSnapshotBlocks"),
        fault(Effect::Fail, "GetSnapshotBlock"),
        fault(Effect::Forget, "GetSnapshotBlock"),
    ]);
    let parent = committed(&store, None, BYTES, &[(0, 1), (1, 2), (2, 3), (3, 4)]).await;
    let child = committed(&store, Some(&parent), BYTES, &[(1, 5)]).await;
    assert_eq!(shown(&store, &child, BYTES).await, [1, 5, 3, 4]);
    // An answer that was lost made no second snapshot.
    assert_eq!(store.list().await.unwrap().len(), 2);
    assert_eq!(store.released().await.unwrap(), []);
    let untouched: Vec<_> = scene
        .aws
        .faults()
        .list()
        .into_iter()
        .filter(|fault| fault.hits == 0)
        .collect();
    assert_eq!(untouched, []);
}

#[tokio::test]
async fn what_nobody_may_do_is_said_at_once() {
    let Some(scene) = Scene::new().await else { return };
    let store = scene.store().await;
    scene
        .aws
        .faults()
        .set(vec![Fault::new(Effect::Deny).on("ebs", "PutSnapshotBlock")]);
    let id = store.start(&spec(None, BYTES)).await.unwrap();
    put(&store, &id, 0, filled(1, 0, BYTES)).await.unwrap();
    let refused = timeout(SOON, store.commit(&id)).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("denied"), "{refused}");
    assert_eq!(scene.calls("PutSnapshotBlock"), 1);
    // And for good: the snapshot lacks a block.
    scene.aws.faults().set(Vec::new());
    assert!(put(&store, &id, 1, filled(1, 1, BYTES)).await.is_err());
    assert!(store.commit(&id).await.is_err());
}

#[tokio::test]
async fn a_pending_snapshot_that_expired_fails_and_the_next_does_not() {
    let Some(scene) = Scene::new().await else { return };
    scene.aws.ebs().set(Settings {
        minute_ms: 20,
        ..Settings::default()
    });
    let store = scene.store().await;
    let parent = committed(&store, None, BYTES, &[(0, 1)]).await;
    let id = store.start(&spec(Some(&parent), BYTES)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    put(&store, &id, 1, filled(2, 1, BYTES)).await.unwrap();
    assert!(store.commit(&id).await.is_err());
    store.delete(&id).await.unwrap();
    let next = committed(&store, Some(&parent), BYTES, &[(1, 2)]).await;
    assert_eq!(shown(&store, &next, BYTES).await, [1, 2, 0, 0]);
}

#[tokio::test]
async fn what_a_killed_program_began_is_let_go_and_what_it_made_is_there() {
    let Some(scene) = Scene::new().await else { return };
    let (made, begun) = {
        let store = scene.store().await;
        let made = committed(&store, None, BYTES, &[(0, 1)]).await;
        let begun = store.start(&spec(Some(&made), BYTES)).await.unwrap();
        put(&store, &begun, 1, filled(2, 1, BYTES)).await.unwrap();
        // One whose name does not come back.
        scene
            .aws
            .faults()
            .set(vec![Fault::new(Effect::HoldAfter).on("ebs", "StartSnapshot")]);
        let lost = spec(Some(&made), BYTES);
        assert!(timeout(Duration::from_secs(2), store.start(&lost)).await.is_err());
        scene.aws.faults().set(Vec::new());
        (made, begun)
    };
    let store = scene.store().await;
    let listed = store.list().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|info| (&info.id, info.committed)).collect();
    assert!(
        listed.contains(&(&made, true)) && listed.contains(&(&begun, false)),
        "{listed:?}"
    );
    assert_eq!(listed.len(), 2);
    let released = store.released().await.unwrap();
    assert_eq!(released.len(), 1);
    store.forget(&released[0].id).await.unwrap();
    assert_eq!(store.released().await.unwrap(), []);
    let refused = put(&store, &begun, 1, filled(2, 1, BYTES)).await.unwrap_err();
    assert!(matches!(refused, StoreError::State { .. }), "{refused}");
    store.delete(&begun).await.unwrap();
    assert_eq!(store.released().await.unwrap()[0].id, begun);
    assert_eq!(shown(&store, &made, BYTES).await, [1, 0, 0, 0]);
}

/// 2 GiB, of which every block is written: as fast as the quota lets it, and no storm of requests.
#[tokio::test]
async fn a_disk_arrives_whole_under_quotas_and_faults() {
    const BLOCKS: u64 = 4096;
    const BYTES: u64 = BLOCKS << 19;
    let Some(scene) = Scene::new().await else { return };
    scene.aws.ebs().set(Settings {
        put: 300,
        put_per_snapshot: 300,
        ..Settings::default()
    });
    let fault = |effect, count| Fault::new(effect).on("ebs", "PutSnapshotBlock").times(count);
    scene.aws.faults().set(vec![
        fault(Effect::Fail, 40),
        fault(Effect::Reset, 20),
        fault(Effect::Slow { millis: 15_000 }, 4),
    ]);
    let store = scene.store().await;
    let id = store.start(&spec(None, BYTES)).await.unwrap();
    let content = |block: u64| {
        let mut data = vec![0; 512 << 10];
        data[..8].copy_from_slice(&(block + 1).to_le_bytes());
        data
    };
    for block in 0..BLOCKS {
        put(&store, &id, block, content(block)).await.unwrap();
    }
    store.commit(&id).await.unwrap();
    for block in (0..BLOCKS).step_by(16) {
        assert_eq!(
            store.read(&id, block).await.unwrap(),
            content(block),
            "block {block}"
        );
    }
    let sent = scene.calls("PutSnapshotBlock");
    eprintln!("{sent} requests for {BLOCKS} blocks");
    assert!(
        sent * 10 <= usize::try_from(BLOCKS).unwrap() * 13,
        "{sent} requests for {BLOCKS} blocks"
    );
}
