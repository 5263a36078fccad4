//! Files of the store that are not what was written: found, named, kept from launches, and repaired.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use domain::{
    checkpoint::{
        CheckpointKind::{self, Launchable},
        CheckpointNumber,
    },
    disk::{BLOCK_LEN, Disk},
};
use member_runner::export::{self, ExportError, Which};
use protocol::session::{DiskStart, Fault, RunnerMessage};
use world::{Agent, BLOCK, Connection, World, digests_of, disk, server_id};

fn disks() -> [Disk; 2] {
    [disk(0, 4 * BLOCK), disk(1, BLOCK)]
}

/// A world with checkpoint 1 of two disks, blocks of 1, 2, 3, 4 and of 5, and checkpoint 2, in which block
/// 1 of the first disk is of 6.
async fn world_with_two_checkpoints() -> (World, Agent, Connection, Vec<u8>) {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut link, _) = agent.enter(&world, &disks()).await;
    let mut content = Vec::new();
    for byte in 1..=4_u8 {
        link.write(0, content.len() as u64, &vec![byte; BLOCK_LEN]).await;
        content.extend(vec![byte; BLOCK_LEN]);
    }
    link.write(1, 0, &vec![5; BLOCK_LEN]).await;
    link.commit(Launchable).await;
    content[BLOCK_LEN..2 * BLOCK_LEN].fill(6);
    link.write(0, BLOCK, &vec![6; BLOCK_LEN]).await;
    assert_eq!(link.commit(Launchable).await, CheckpointNumber(2));
    (world, agent, link, content)
}

/// The file of the snapshot that a checkpoint has of the first disk.
async fn file_of(world: &World, number: u64, suffix: &str) -> PathBuf {
    let server = world
        .eventually_server(1, |server| {
            server.checkpoints.iter().any(|one| one.number.0 == number)
        })
        .await;
    let mut checkpoints = server.checkpoints.iter();
    let checkpoint = checkpoints.find(|one| one.number.0 == number).unwrap();
    world
        .store_path()
        .join(format!("{}.{suffix}", checkpoint.disks[0].snapshot))
}

fn spoil(file: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// `orglift-runner scrub`. Whether all is well.
async fn scrub(world: &World) -> bool {
    let (dir, store) = (world.dir(), format!("layers:{}", world.store_path().display()));
    let args = [
        "orglift-runner".into(),
        "scrub".into(),
        server_id(1).as_str().into(),
        "--dir".into(),
        dir.into_os_string(),
        "--store".into(),
        store.into(),
    ];
    let ended = tokio::task::spawn_blocking(|| member_runner::cli::main_from(args)).await;
    format!("{:?}", ended.unwrap()) == format!("{:?}", std::process::ExitCode::SUCCESS)
}

async fn fault(link: &mut Connection) -> String {
    loop {
        match link.hear().await {
            Some(RunnerMessage::Fault {
                fault: Fault::Store { detail },
            }) => return detail,
            Some(RunnerMessage::Durable { .. } | RunnerMessage::Committed { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until exactly these checkpoints are damaged, by `file`.
async fn eventually_damaged(world: &World, wanted: &[u64], file: &Path) {
    let file = file.display().to_string();
    world
        .eventually_server(1, |server| {
            let damaged = server.checkpoints.iter().filter(|one| one.damage.is_some());
            damaged.clone().map(|one| one.number.0).eq(wanted.iter().copied())
                && damaged
                    .clone()
                    .all(|one| one.damage.as_ref().unwrap().contains(&file))
        })
        .await;
}

/// Sends what differs by the runner's digests, as a compare does.
async fn compare(link: &mut Connection, content: &[u8]) -> Vec<usize> {
    let theirs = link.digests(0, content.len() as u64).await;
    let mut sent = Vec::new();
    for (block, (theirs, ours)) in theirs.into_iter().zip(digests_of(content)).enumerate() {
        if theirs != ours {
            let at = block * BLOCK_LEN;
            link.write(0, at as u64, &content[at..at + BLOCK_LEN]).await;
            sent.push(block);
        }
    }
    sent
}

async fn exported_equals(world: &World, content: &[u8]) {
    assert!(world.exported(1, Which::Latest, "serial-0").await == *content);
    assert!(world.exported(1, Which::Latest, "serial-1").await == vec![5; BLOCK_LEN]);
}

/// Two more checkpoints than are kept, each of a block of the second disk.
async fn until_all_left(link: &mut Connection, kind: CheckpointKind) {
    for byte in 10..18 {
        link.write(1, 0, &[byte; 512]).await;
        link.commit(kind).await;
    }
}

fn quarantine(world: &World) -> String {
    let server = server_id(1);
    let dir = world.dir().join("servers").join(server.as_str());
    fs::read_to_string(dir.join("quarantine.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scrub_finds_is_named_and_sent_again() {
    let (mut world, mut agent, mut link, content) = world_with_two_checkpoints().await;
    let file = file_of(&world, 1, "data").await;
    assert!(scrub(&world).await);
    spoil(&file, 2 * BLOCK + 99);
    assert!(!scrub(&world).await);
    let detail = fault(&mut link).await;
    assert!(
        detail.contains(&file.display().to_string()) && detail.contains("block 2 of /dev/sd0"),
        "{detail}"
    );
    eventually_damaged(&world, &[1, 2], &file).await;
    let refused = export::hold(&world.dir(), &server_id(1), Which::Latest);
    assert!(
        matches!(refused, Err(ExportError::NoCheckpoint(_))),
        "{refused:?}"
    );
    assert!(
        quarantine(&world).contains("\"missing\":[2]"),
        "{}",
        quarantine(&world)
    );

    // What is known to be damaged is known after a crash, too.
    world.crash_and_restart().await;
    eventually_damaged(&world, &[1, 2], &file).await;
    let (mut link, welcome) = agent.enter(&world, &disks()).await;
    assert_eq!(welcome.disks[0].start, DiskStart::Rescan);
    let since = CheckpointNumber(2);
    assert_eq!(welcome.disks[1].start, DiskStart::Delta { since });
    assert_eq!(compare(&mut link, &content).await, [2]);
    assert_eq!(link.commit(Launchable).await, CheckpointNumber(3));
    eventually_damaged(&world, &[1, 2], &file).await;
    exported_equals(&world, &content).await;

    world.crash_and_restart().await;
    exported_equals(&world, &content).await;
    let (mut link, welcome) = agent.enter(&world, &disks()).await;
    let since = CheckpointNumber(3);
    assert_eq!(welcome.disks[0].start, DiskStart::Delta { since });
    until_all_left(&mut link, Launchable).await;
    eventually_damaged(&world, &[], &file).await;
    assert_eq!(quarantine(&world), "[]");
    world
        .eventually_server(1, |server| server.checkpoints.len() == 6)
        .await;
    assert!(scrub(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_newer_checkpoints_hide_needs_no_repair() {
    let (world, _agent, mut link, content) = world_with_two_checkpoints().await;
    let file = file_of(&world, 1, "data").await;
    spoil(&file, BLOCK);
    assert!(!scrub(&world).await);
    eventually_damaged(&world, &[1], &file).await;
    // The session goes on.
    link.write(1, 0, &vec![5; BLOCK_LEN]).await;
    link.commit(Launchable).await;
    exported_equals(&world, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_a_damaged_block_do_not_hide_the_damage() {
    for crash in [false, true] {
        let (mut world, mut agent, mut link, mut content) = world_with_two_checkpoints().await;
        let file = file_of(&world, 1, "data").await;
        spoil(&file, 2 * BLOCK + 99);
        let at = 2 * BLOCK_LEN + 512;
        content[at..at + 512].fill(7);
        link.write(0, at as u64, &[7; 512]).await;
        link.offer(Launchable).await;
        assert_eq!(link.durable().await, CheckpointNumber(3));
        if crash {
            world.crash_and_restart().await;
        } else {
            let detail = fault(&mut link).await;
            assert!(detail.contains("block 2 of /dev/sd0"), "{detail}");
        }
        // The promise is kept, and what it lacks is said.
        eventually_damaged(&world, &[1, 2, 3], &file).await;
        let (mut link, welcome) = agent.enter(&world, &disks()).await;
        assert_eq!(welcome.disks[0].start, DiskStart::Rescan);
        // More pieces come before the block was compared.
        content[at + 512..at + 1024].fill(8);
        link.write(0, at as u64 + 512, &[8; 512]).await;
        assert_eq!(compare(&mut link, &content).await, [2]);
        assert_eq!(link.commit(Launchable).await, CheckpointNumber(4));
        eventually_damaged(&world, &[1, 2, 3], &file).await;
        exported_equals(&world, &content).await;
        until_all_left(&mut link, Launchable).await;
        eventually_damaged(&world, &[], &file).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_index_is_damaged_is_sent_anew() {
    let (mut world, mut agent, mut link, content) = world_with_two_checkpoints().await;
    let file = file_of(&world, 2, "index").await;
    spoil(&file, fs::metadata(&file).unwrap().len() - 40);
    assert!(!scrub(&world).await);
    fault(&mut link).await;
    eventually_damaged(&world, &[2], &file).await;
    let (mut link, welcome) = agent.enter(&world, &disks()).await;
    assert_eq!(welcome.disks[0].start, DiskStart::Rescan);
    assert_eq!(compare(&mut link, &content).await, [0, 1, 2, 3]);
    link.commit(Launchable).await;
    eventually_damaged(&world, &[2], &file).await;
    exported_equals(&world, &content).await;
    // Nothing of it shows any more: it is merged like any other.
    until_all_left(&mut link, Launchable).await;
    world
        .eventually_server(1, |server| server.checkpoints.len() == 6)
        .await;
    eventually_damaged(&world, &[], &file).await;
    world.crash_and_restart().await;
    assert!(!file.exists());
}
