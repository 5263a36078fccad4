//! Conversions that a hub wants, as it hears of them. What they do to a guest is proved elsewhere.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use std::{fs, path::Path};

use cloud::{
    control::{SERVER_TAG, Tags},
    layers::LayerStore,
    snapshots::{SnapshotSpec, SnapshotStore},
};
use domain::{
    checkpoint::{CheckpointKind::Launchable, CheckpointNumber},
    conversion::{ConversionOrder, ConversionState, Network},
    ids::JobId,
    launch::{BootMode, Hypervisor},
};
use world::{BLOCK, World, disk, server_id};

fn order(job: u128, checkpoint: u64) -> ConversionOrder {
    ConversionOrder {
        job: JobId::from_entropy(job),
        checkpoint: CheckpointNumber(checkpoint),
        network: Network::Dhcp,
        hypervisor: Hypervisor::Nitro,
        boot_mode: BootMode::LegacyBios,
        rehearsal: None,
    }
}

/// A world with one checkpoint, of a disk that is no operating system.
async fn with_one_checkpoint() -> World {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut link, _) = agent.enter(&world, &[disk(0, 6 * BLOCK)]).await;
    link.write(0, 0, &[7; 4096]).await;
    link.commit(Launchable).await;
    world
        .eventually_server(1, |server| server.checkpoints.len() == 1)
        .await;
    world
}

fn want(world: &World, order: Option<ConversionOrder>) {
    world.want(|desired| desired.servers[0].conversion = order);
}

/// How the conversion of a job failed, once it has: the step and the reason.
async fn failure(world: &World, job: u128) -> (String, String) {
    let job = JobId::from_entropy(job);
    let server = world
        .eventually_server(1, |server| {
            let conversion = server.conversion.as_ref();
            conversion.is_some_and(|one| one.job == job && one.state.is_final())
        })
        .await;
    match server.conversion.unwrap().state {
        ConversionState::Failed { step, detail, .. } => (step, detail),
        other => panic!("{other:?}"),
    }
}

fn cannot_run() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "conversions need root and FUSE"
        );
        eprintln!("cannot run here: conversions: not root, or no /dev/fuse");
    }
    !can
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_converted_is_said_over_restarts_until_nobody_wants_it() {
    if cannot_run() {
        return;
    }
    let mut world = with_one_checkpoint().await;
    want(&world, Some(order(1, 1)));
    let (step, detail) = failure(&world, 1).await;
    assert_eq!(step, "mount");
    assert!(
        detail.contains("no volume of these disks has a root file system"),
        "{detail}"
    );

    let folder = world
        .dir()
        .join("servers")
        .join(server_id(1).as_str())
        .join("conversions");
    let left = fs::read_dir(folder.join(JobId::from_entropy(1).as_str())).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["result.json"]);
    world.crash_and_restart().await;
    assert_eq!(failure(&world, 1).await, (step, detail));

    // Another job is another attempt, and takes the place of the first.
    want(&world, Some(order(2, 9)));
    let (step, detail) = failure(&world, 2).await;
    assert_eq!(
        (&*step, &*detail),
        ("checkpoint", "checkpoint 9 is not there any more")
    );
    want(&world, None);
    world
        .eventually_server(1, |server| server.conversion.is_none())
        .await;
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_of_a_conversion_is_removed_and_the_checkpoint_stays() {
    if cannot_run() {
        return;
    }
    let mut world = with_one_checkpoint().await;
    let snapshots = |world: &World| {
        let store = LayerStore::open(world.store_path()).unwrap();
        store.list_now().unwrap()
    };
    let of_replication = snapshots(&world);
    world.crash();
    let store = LayerStore::open(world.store_path()).unwrap();
    let left = SnapshotSpec {
        parent: Some(of_replication[0].id.clone()),
        bytes: 6 * BLOCK,
        disk: disk(0, 0).id,
        tags: Tags::from([
            (SERVER_TAG.to_owned(), server_id(1).to_string()),
            ("orglift:purpose".to_owned(), "conversion".to_owned()),
            ("orglift:job".to_owned(), JobId::from_entropy(1).to_string()),
        ]),
    };
    let left = store.start(&left).await.unwrap();
    store.commit(&left).await.unwrap();
    drop(store);
    assert_eq!(snapshots(&world).len(), 2);

    world.start().await;
    want(&world, Some(order(1, 1)));
    failure(&world, 1).await;
    assert_eq!(snapshots(&world), of_replication);
    world.stop().await;
}
