//! Checkpoints that are promised before they are made, and what crashes make of them.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use cloud::{
    SnapshotStore,
    layers::LayerStore,
    snapshots::{SnapshotId, SnapshotInfo, SnapshotSpec, StoreError},
};
use domain::{
    checkpoint::{
        CheckpointKind::{Launchable, Partial},
        CheckpointNumber,
    },
    digest::Digest,
    disk::{BLOCK_LEN, Disk},
};
use member_runner::export::Which;
use protocol::session::{DiskStart, RunnerMessage};
use tokio::sync::Semaphore;
use world::{Agent, BLOCK, Connection, World, digests_of, disk, server_id};

/// A store that stands still at one of its operations, until it is let go.
#[derive(Debug)]
struct Halting {
    inner: LayerStore,
    /// Operations that pass before one stands still.
    passing: AtomicUsize,
    standing: Semaphore,
    gate: Semaphore,
}

impl Halting {
    fn new(world: &World) -> Arc<Self> {
        Arc::new(Self {
            inner: LayerStore::open(world.store_path()).unwrap(),
            passing: AtomicUsize::new(usize::MAX),
            standing: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    fn halt_after(&self, operations: usize) {
        self.passing.store(operations, SeqCst);
    }

    /// Waits until an operation stands still.
    async fn halted(&self) {
        self.standing.acquire().await.unwrap().forget();
    }

    fn let_go(&self) {
        self.passing.store(usize::MAX, SeqCst);
        self.gate.add_permits(1);
    }

    async fn pass(&self) {
        if self.passing.fetch_sub(1, SeqCst) == 0 {
            self.standing.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait]
impl SnapshotStore for Halting {
    async fn start(&self, spec: &SnapshotSpec) -> Result<SnapshotId, StoreError> {
        self.pass().await;
        self.inner.start(spec).await
    }

    async fn put(
        &self,
        id: &SnapshotId,
        block: u64,
        data: Vec<u8>,
        digest: Digest,
    ) -> Result<(), StoreError> {
        self.pass().await;
        self.inner.put(id, block, data, digest).await
    }

    async fn commit(&self, id: &SnapshotId) -> Result<(), StoreError> {
        self.pass().await;
        self.inner.commit(id).await
    }

    async fn read(&self, id: &SnapshotId, block: u64) -> Result<Vec<u8>, StoreError> {
        self.pass().await;
        self.inner.read(id, block).await
    }

    async fn merge_into_child(&self, id: &SnapshotId, child: &SnapshotId) -> Result<(), StoreError> {
        self.inner.merge_into_child(id, child).await
    }

    async fn delete(&self, id: &SnapshotId) -> Result<(), StoreError> {
        self.inner.delete(id).await
    }

    async fn list(&self) -> Result<Vec<SnapshotInfo>, StoreError> {
        self.inner.list().await
    }

    async fn free_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.free_bytes().await
    }
}

fn disks() -> [Disk; 2] {
    [disk(0, 4 * BLOCK), disk(1, BLOCK + 4096)]
}

/// A world with checkpoint 1 of two disks full of ones, and a store that can be halted.
async fn world_with_a_checkpoint() -> (World, Arc<Halting>, Agent, Vec<Vec<u8>>) {
    let mut world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut link, _) = agent.enter(&world, &disks()).await;
    let mut contents = Vec::new();
    for (n, disk) in (0_u16..).zip(disks()) {
        let content = vec![1; usize::try_from(disk.bytes).unwrap()];
        for (at, block) in (0..).step_by(BLOCK_LEN).zip(content.chunks(BLOCK_LEN)) {
            link.write(n, at, block).await;
        }
        contents.push(content);
    }
    link.commit(Launchable).await;
    world.stop().await;
    let store = Halting::new(&world);
    world
        .start_with(Arc::clone(&store) as Arc<dyn SnapshotStore>)
        .await;
    (world, store, agent, contents)
}

/// Pieces of three blocks of the first disk and of one of the second.
async fn write_pieces(link: &mut Connection, contents: &mut [Vec<u8>], byte: u8) {
    for (disk, at, len) in [
        (0_u16, 100, 5000),
        (0, 4000, 4096),
        (0, BLOCK_LEN, BLOCK_LEN),
        (0, 3 * BLOCK_LEN - 512, 512),
        (1, BLOCK_LEN, 4096),
    ] {
        let data = vec![byte; len];
        link.write(disk, at as u64, &data).await;
        contents[usize::from(disk)][at..at + len].fill(byte);
    }
    // A block and a half.
    link.zeros(0, BLOCK + BLOCK / 2, BLOCK + BLOCK / 2 - 512).await;
    contents[0][BLOCK_LEN + BLOCK_LEN / 2..3 * BLOCK_LEN - 512].fill(0);
}

async fn exported_equals(world: &World, number: u64, contents: &[Vec<u8>]) {
    let which = Which::Number(CheckpointNumber(number));
    for (n, content) in contents.iter().enumerate() {
        let exported = world.exported(1, which, &format!("serial-{n}")).await;
        assert!(exported == *content, "disk {n} of checkpoint {number}");
    }
}

fn journals(world: &World) -> PathBuf {
    let server = server_id(1);
    world.dir().join("servers").join(server.as_str()).join("journal")
}

fn files_in(dir: &PathBuf) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

async fn has_checkpoint(world: &World, number: u64) {
    let number = CheckpointNumber(number);
    world
        .eventually_server(1, |server| {
            server
                .checkpoints
                .last()
                .is_some_and(|last| last.number == number)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_outlives_a_crash_at_every_step_of_its_making() {
    let mut steps = 0;
    loop {
        let (mut world, store, mut agent, mut contents) = world_with_a_checkpoint().await;
        let (mut link, welcome) = agent.enter(&world, &disks()).await;
        let since = CheckpointNumber(1);
        assert_eq!(welcome.disks[0].start, DiskStart::Delta { since });
        write_pieces(&mut link, &mut contents, 7).await;
        store.halt_after(steps);
        link.offer(Launchable).await;
        assert_eq!(link.durable().await, CheckpointNumber(2));
        let made = tokio::select! {
            () = store.halted() => false,
            heard = link.hear() => {
                assert!(matches!(heard, Some(RunnerMessage::Committed { .. })), "{heard:?}");
                true
            }
        };
        world.crash();
        drop(store);
        world.start().await;
        has_checkpoint(&world, 2).await;
        exported_equals(&world, 2, &contents).await;
        let (mut link, welcome) = agent.enter(&world, &disks()).await;
        let since = CheckpointNumber(2);
        let starts = welcome.disks.iter();
        assert!(
            starts
                .clone()
                .all(|plan| plan.start == DiskStart::Delta { since }),
            "{welcome:?}"
        );
        assert_eq!(link.digests(0, disks()[0].bytes).await, digests_of(&contents[0]));
        assert_eq!(link.digests(1, disks()[1].bytes).await, digests_of(&contents[1]));
        assert_eq!(files_in(&journals(&world)), Vec::<PathBuf>::new());
        if made {
            break;
        }
        steps += 1;
    }
    // Two snapshots started, four blocks read or written, two commits, at the least.
    assert!(steps >= 8, "{steps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_was_kept_is_not_kept_twice() {
    let (mut world, store, mut agent, mut contents) = world_with_a_checkpoint().await;
    let (mut link, _) = agent.enter(&world, &disks()).await;
    write_pieces(&mut link, &mut contents, 7).await;
    store.halt_after(0);
    link.offer(Launchable).await;
    link.durable().await;
    store.halted().await;
    let kept: Vec<_> = files_in(&journals(&world))
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    assert_eq!(kept.len(), 2, "a journal and its promise");
    world.crash();
    drop(store);
    world.start().await;
    has_checkpoint(&world, 2).await;
    world.crash();
    // As if the runner had died between the manifest and the end.
    for (bytes, path) in kept {
        fs::write(path, bytes).unwrap();
    }
    world.start().await;
    let (mut link, _) = agent.enter(&world, &disks()).await;
    assert_eq!(files_in(&journals(&world)), Vec::<PathBuf>::new());
    write_pieces(&mut link, &mut contents, 8).await;
    assert_eq!(link.commit(Launchable).await, CheckpointNumber(3));
    exported_equals(&world, 3, &contents).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_cannot_be_kept_is_given_up_and_the_disks_are_compared() {
    for damaged in ["pieces", "promise"] {
        let (mut world, store, mut agent, mut contents) = world_with_a_checkpoint().await;
        let before = contents.clone();
        let (mut link, _) = agent.enter(&world, &disks()).await;
        write_pieces(&mut link, &mut contents, 7).await;
        store.halt_after(0);
        link.offer(Launchable).await;
        link.durable().await;
        store.halted().await;
        world.crash();
        drop(store);
        let files = files_in(&journals(&world));
        let path = files
            .iter()
            .find(|path| path.to_string_lossy().ends_with(damaged))
            .unwrap();
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
        for _ in 0..2 {
            world.start().await;
            let (mut link, welcome) = agent.enter(&world, &disks()).await;
            let starts = welcome.disks.iter();
            assert!(
                starts.clone().all(|plan| plan.start == DiskStart::Rescan),
                "{damaged}: {welcome:?}"
            );
            assert_eq!(link.digests(0, disks()[0].bytes).await, digests_of(&before[0]));
            world.crash();
        }
        world.start().await;
        let (mut link, _) = agent.enter(&world, &disks()).await;
        write_pieces(&mut link, &mut contents, 7).await;
        // Number 2 meant something else to the agent.
        assert_eq!(link.commit(Launchable).await, CheckpointNumber(3));
        exported_equals(&world, 3, &contents).await;
        drop(link);
        let (_link, welcome) = agent.enter(&world, &disks()).await;
        let since = CheckpointNumber(3);
        assert_eq!(welcome.disks[0].start, DiskStart::Delta { since });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_over_a_damaged_block_go_and_the_block_is_sent_whole() {
    let (world, _store, mut agent, mut contents) = world_with_a_checkpoint().await;
    let (mut link, _) = agent.enter(&world, &disks()).await;
    for path in files_in(&world.store_path()) {
        if path.extension().is_some_and(|extension| extension == "data") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[BLOCK_LEN - 1] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    link.write(0, 100, &[7; 512]).await;
    contents[0][100..612].fill(7);
    link.offer(Launchable).await;
    link.durable().await;
    let heard = link.hear().await;
    assert!(matches!(heard, Some(RunnerMessage::Fault { .. })), "{heard:?}");
    let (mut link, welcome) = agent.enter(&world, &disks()).await;
    assert_eq!(welcome.disks[0].start, DiskStart::Rescan);
    assert_ne!(link.digests(0, disks()[0].bytes).await, digests_of(&contents[0]));
    link.write(0, 0, &contents[0][..BLOCK_LEN]).await;
    assert_eq!(link.commit(Launchable).await, CheckpointNumber(3));
    let exported = world.exported(1, Which::Latest, "serial-0").await;
    assert!(exported == contents[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_checkpoint_comes_in_while_one_is_being_made() {
    let (world, store, mut agent, mut contents) = world_with_a_checkpoint().await;
    let (mut link, _) = agent.enter(&world, &disks()).await;
    write_pieces(&mut link, &mut contents, 7).await;
    let second = contents.clone();
    store.halt_after(2);
    link.offer(Launchable).await;
    assert_eq!(link.durable().await, CheckpointNumber(2));
    store.halted().await;
    // Over what is being merged, and beside it.
    write_pieces(&mut link, &mut contents, 8).await;
    link.write(0, 3 * BLOCK, &vec![9; BLOCK_LEN]).await;
    link.zeros(0, 0, BLOCK).await;
    contents[0][3 * BLOCK_LEN..].fill(9);
    contents[0][..BLOCK_LEN].fill(0);
    link.offer(Launchable).await;
    store.let_go();
    let heard = link.hear().await;
    assert!(
        matches!(
            heard,
            Some(RunnerMessage::Committed {
                number: CheckpointNumber(2),
                ..
            })
        ),
        "{heard:?}"
    );
    assert_eq!(link.committed().await, CheckpointNumber(3));
    exported_equals(&world, 2, &second).await;
    exported_equals(&world, 3, &contents).await;
    let server = world
        .eventually_server(1, |server| server.checkpoints.len() == 3)
        .await;
    let received: Vec<_> = server
        .checkpoints
        .iter()
        .map(|checkpoint| checkpoint.received_bytes)
        .collect();
    assert!(
        received.iter().all(|bytes| (100..20_000).contains(bytes)),
        "{received:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_offered_is_gone_with_the_session_and_its_journal_too() {
    let (world, _store, mut agent, mut contents) = world_with_a_checkpoint().await;
    let (mut link, _) = agent.enter(&world, &disks()).await;
    let before = contents.clone();
    write_pieces(&mut link, &mut contents, 7).await;
    // It has taken them up, and shows them.
    assert_eq!(link.digests(0, disks()[0].bytes).await, digests_of(&contents[0]));
    write_pieces(&mut link, &mut contents, 8).await;
    drop(link);
    let (mut link, _) = agent.enter(&world, &disks()).await;
    assert_eq!(link.digests(0, disks()[0].bytes).await, digests_of(&before[0]));
    assert_eq!(files_in(&journals(&world)), Vec::<PathBuf>::new());
}

/// Numbers that look random and are the same each time.
fn numbers(seed: u8) -> impl FnMut(usize) -> usize {
    let mut stream = blake3::Hasher::new().update(&[seed]).finalize_xof();
    move |below| {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % below as u64).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_mixture_of_writes_compares_checkpoints_and_crashes_ends_equal() {
    for seed in 0..3 {
        let mut any = numbers(seed);
        let mut world = World::with_servers(1).await;
        let mut agent = world.agent(1);
        let (mut link, _) = agent.enter(&world, &disks()).await;
        let mut contents: Vec<_> = disks()
            .iter()
            .map(|disk| vec![0; usize::try_from(disk.bytes).unwrap()])
            .collect();
        let mut committed = contents.clone();
        let mut number = 0;
        for _ in 0..150 {
            let n = any(2);
            let disk = u16::try_from(n).unwrap();
            let content = &mut contents[n];
            let block = any(content.len().div_ceil(BLOCK_LEN)) * BLOCK_LEN;
            let whole = BLOCK_LEN.min(content.len() - block);
            match any(16) {
                0..8 => {
                    let from = any(whole);
                    let range = block + from..block + from + 1 + any((whole - from).min(9000));
                    content[range.clone()].fill(u8::try_from(any(4)).unwrap());
                    link.write(disk, range.start as u64, &content[range]).await;
                }
                8..11 => {
                    content[block..block + whole].fill(u8::try_from(any(256)).unwrap());
                    link.write(disk, block as u64, &content[block..block + whole])
                        .await;
                }
                11..13 => {
                    let from = any(content.len());
                    let to = from + 1 + any(content.len() - from);
                    content[from..to].fill(0);
                    link.zeros(disk, from as u64, (to - from) as u64).await;
                }
                13 => assert_eq!(
                    link.digests(disk, content.len() as u64).await,
                    digests_of(content),
                    "seed {seed}"
                ),
                14 => {
                    number += 1;
                    let kind = if any(2) == 0 { Partial } else { Launchable };
                    assert_eq!(link.commit(kind).await, CheckpointNumber(number), "seed {seed}");
                    committed.clone_from(&contents);
                }
                _ => {
                    world.crash_and_restart().await;
                    (link, _) = agent.enter(&world, &disks()).await;
                    contents.clone_from(&committed);
                }
            }
        }
        link.commit(Launchable).await;
        exported_equals(&world, number + 1, &contents).await;
    }
}
