//! Whole sessions: a real agent over real TLS against a runner in memory.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers, too"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use domain::{
    checkpoint::{CheckpointKind, Consistency},
    disk::{BLOCK_LEN, Tracking},
    source_server::ReplicationIntent,
};
use protocol::session::{Fault, Goodbye, Phase, Refusal};

use crate::world::{World, loop_device::LoopDevice, noise, runner::State, write_at};

/// Two blocks of data, four of zeros, two of data, and an odd end.
fn content() -> Vec<u8> {
    let mut content = noise(8 * BLOCK_LEN + 777, 1);
    content[2 * BLOCK_LEN..6 * BLOCK_LEN].fill(0);
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_copy_is_whole_and_the_next_checkpoint_sends_only_changes() {
    let mut world = World::new(&[content(), noise(3 * BLOCK_LEN, 2)]).await;
    world.start_agent();
    world.first_copy().await;
    world.assert_replica_equals_source();
    {
        let state = world.runner.state();
        assert_eq!(state.extents, 5 + 3, "zeros are not sent to an empty runner");
        assert_eq!(state.checkpoints[0].kind, CheckpointKind::Launchable);
        assert_eq!(state.checkpoints[0].consistency, Consistency::Crash);
        assert_eq!(state.hellos[0].disks.len(), 2);
        assert!(state.hellos[0].disks[0].is_boot && !state.hellos[0].disks[1].is_boot);
    }

    world.write_block(0, 1, b"changed");
    world.write_block(0, 3, b"no zeros any more");
    world.write_block(1, 1, &vec![0; 2 * BLOCK_LEN]);
    let checkpoint = world.checkpoint().await;
    assert_eq!(checkpoint.consistency, Consistency::Crash);
    world.assert_replica_equals_source();
    {
        let state = world.runner.state();
        assert_eq!(state.extents, 8 + 2);
        assert_eq!(state.zero_runs, 1, "neighbours are one run");
    }
    world
        .eventually("the status says that all is there", |state| {
            state.statuses.last().is_some_and(|status| {
                let all_there = |disk: &domain::disk::DiskProgress| {
                    disk.replicated_bytes == disk.total_bytes && disk.backlogged_bytes == 0
                };
                status.phase == Phase::Continuous && status.disks.iter().all(all_there)
            })
        })
        .await;
    world.stop_agent().await;
    world
        .eventually("goodbye", |state| state.goodbyes == [Goodbye::Stopping])
        .await;
    assert!(!world.status().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_in_a_frame_is_taken_up_again_where_it_was_saved() {
    let blocks = 40;
    let mut world = World::new(&[noise(blocks * BLOCK_LEN, 3)]).await;
    world.pace.partial_bytes = 2 * BLOCK_LEN as u64;
    {
        let mut state = world.runner.state();
        state.delay_per_extent = Duration::from_millis(50);
        state.cut_after = Some(blocks * BLOCK_LEN / 2 + 12_345);
    }
    world.start_agent();
    world
        .eventually("a launchable checkpoint", |state| {
            let last = state.checkpoints.last();
            last.is_some_and(|offer| offer.kind == CheckpointKind::Launchable)
        })
        .await;
    world.assert_replica_equals_source();
    let state = world.runner.state();
    assert!(state.hellos.len() >= 2);
    assert_eq!(
        state.hellos[1].kept_session.as_ref().unwrap().0,
        "session-1",
        "the second Hello shows the first session"
    );
    assert_eq!(state.checkpoints[0].kind, CheckpointKind::Partial);
    assert!(
        state.extents < blocks + blocks / 2,
        "{} extents for {blocks} blocks: what was saved was sent again",
        state.extents
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_shown_and_the_agent_keeps_trying() {
    let mut world = World::new(&[content()]).await;
    world.runner.state().refuse = Some(Refusal::StagingFull {
        free_bytes: 1,
        needed_bytes: 2,
    });
    world.start_agent();
    world
        .eventually("two attempts", |state| state.hellos.len() >= 2)
        .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = world.status().last_error.unwrap().message;
    assert!(error.contains("staging area has 1 bytes left"), "{error}");
    world.runner.state().refuse = None;
    world.first_copy().await;
    world.assert_replica_equals_source();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_ends_the_session_and_the_next_one_goes_on() {
    let mut world = World::new(&[content()]).await;
    world.runner.state().fail = Some(Fault::StagingFull);
    world.start_agent();
    world.first_copy().await;
    world.assert_replica_equals_source();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = world.status().last_error.unwrap().message;
    assert!(error.contains("staging area is full"), "{error}");
    assert!(world.status().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_flows_while_replication_is_paused() {
    let mut world = World::new(&[noise(40 * BLOCK_LEN, 4)]).await;
    world.runner.state().delay_per_extent = Duration::from_millis(20);
    world.start_agent();
    world.eventually("data", |state| state.extents > 3).await;
    world.runner.want(ReplicationIntent::Paused);
    world
        .eventually("the agent says so", |state| {
            state
                .statuses
                .last()
                .is_some_and(|status| status.phase == Phase::Paused)
        })
        .await;
    let sent = world.runner.state().extents;
    world.runner.request_checkpoint();
    tokio::time::sleep(Duration::from_millis(400)).await;
    {
        let state = world.runner.state();
        assert_eq!(state.extents, sent);
        assert!(sent < 40 && state.checkpoints.is_empty());
    }
    world.runner.want(ReplicationIntent::Run);
    world.first_copy().await;
    world.assert_replica_equals_source();
    assert_eq!(world.runner.state().checkpoints[0].request, 1);
    assert_eq!(world.runner.state().hellos.len(), 1);
}

/// Writes to a disk without a pause, except while a file named `pause` exists.
fn writer(world: &World, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (disk, pause, stop) = (
        world.disks[0].clone(),
        world.folder.path().join("pause"),
        stop.clone(),
    );
    std::thread::spawn(move || {
        let mut n = 0_u64;
        while !stop.load(Relaxed) {
            if !pause.exists() {
                n += 1;
                write_at(&disk, 0, &n.to_le_bytes());
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_under_writes_is_honest_and_hooks_make_it_good() {
    let mut world = World::new(&[content(), noise(2 * BLOCK_LEN, 5)]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writer(&world, &stop);
    world.start_agent();
    world.first_copy().await;
    assert_eq!(world.runner.state().checkpoints[0].consistency, Consistency::None);

    let hooks = world.layout.hooks();
    fs::create_dir(&hooks).unwrap();
    let pause = world.folder.path().join("pause");
    let script = format!(
        "#!/bin/sh\ncase $1 in freeze) touch {0};; thaw) rm {0};; esac\n",
        pause.display()
    );
    fs::write(hooks.join("10-writer"), script).unwrap();
    fs::set_permissions(hooks.join("10-writer"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(world.checkpoint().await.consistency, Consistency::Crash);
    assert!(!pause.exists(), "the writer was set going again");

    fs::write(hooks.join("20-broken"), "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(hooks.join("20-broken"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(world.checkpoint().await.consistency, Consistency::None);
    assert!(!pause.exists());
    world
        .eventually("the broken hook is reported", |state| {
            let status = state.statuses.last();
            status.is_some_and(|status| {
                status
                    .trouble
                    .as_ref()
                    .is_some_and(|t| t.detail.contains("20-broken"))
            })
        })
        .await;
    stop.store(true, Relaxed);
    writer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_replicated_with_a_disk_missing() {
    let mut world = World::new(&[content(), noise(2 * BLOCK_LEN, 6)]).await;
    world.start_agent();
    world.first_copy().await;
    let (here, gone) = (world.disks[1].clone(), world.folder.path().join("elsewhere"));
    fs::rename(&here, &gone).unwrap();
    world
        .eventually("trouble names the disk", |state| {
            let status = state.statuses.last();
            status.is_some_and(|status| {
                status
                    .trouble
                    .as_ref()
                    .is_some_and(|t| t.detail.contains("disk1.raw"))
            })
        })
        .await;
    world.write_block(0, 0, b"changed");
    world.runner.request_checkpoint();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.runner.state().checkpoints.len(), 1);

    fs::rename(&gone, &here).unwrap();
    world
        .eventually("the checkpoint that was asked for", |state| {
            state.checkpoints.len() == 2
        })
        .await;
    world.assert_replica_equals_source();
    assert_eq!(world.runner.state().hellos.len(), 1, "the session stayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_grows_begins_a_new_session() {
    let mut world = World::new(&[content()]).await;
    world.start_agent();
    world.first_copy().await;
    let mut more = content();
    more.extend(noise(BLOCK_LEN, 7));
    fs::write(&world.disks[0], more).unwrap();
    world
        .eventually("another Hello and checkpoint", |state| {
            state.hellos.len() == 2 && state.checkpoints.len() == 2
        })
        .await;
    world.assert_replica_equals_source();
    assert_eq!(world.runner.state().goodbyes, [Goodbye::DisksChanged]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_agent_removes_itself() {
    let mut world = World::new(&[content()]).await;
    world.start_agent();
    world.first_copy().await;
    world.runner.want(ReplicationIntent::Disconnected);
    world.agent_ends().await;
    world
        .eventually("goodbye", |state| state.goodbyes == [Goodbye::Uninstalled])
        .await;
    assert!(!world.layout.dir().exists());
    assert!(world.disks[0].exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_again_compares_and_sends_nothing_twice() {
    let mut world = World::new(&[content()]).await;
    world.start_agent();
    world.first_copy().await;
    world.stop_agent().await;
    let extents = world.runner.state().extents;
    world.start_agent();
    world
        .eventually("a second checkpoint", |state| state.checkpoints.len() == 2)
        .await;
    let state = world.runner.state();
    assert_eq!(state.extents, extents);
    let rescans = state
        .statuses
        .iter()
        .filter(|status| status.phase == Phase::Rescan);
    for status in rescans {
        assert_eq!(status.disks[0].replicated_bytes, status.disks[0].total_bytes);
    }
}

fn block_device(backing: &Path) -> Option<LoopDevice> {
    let device = LoopDevice::attach(backing);
    if device.is_none() {
        cannot_run("replication of a block device: no loop device can be made");
    }
    device
}

fn cannot_run(what: &str) {
    eprintln!("cannot run here: {what}");
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "in CI, every test runs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_device_is_copied_and_its_counters_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let backing = folder.path().join("backing");
    // Whole sectors, and a short last block.
    fs::write(&backing, noise(4 * BLOCK_LEN + 4096, 8)).unwrap();
    let Some(device) = block_device(&backing) else {
        return;
    };
    let mut world = World::with_disks(folder, vec![device.path.clone()]).await;
    world.start_agent();
    world.first_copy().await;
    assert_eq!(
        world.runner.state().checkpoints[0].consistency,
        Consistency::Crash
    );
    world.assert_replica_equals_source();

    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (device.path.clone(), stop.clone());
    let writer = std::thread::spawn(move || {
        let mut n = 0_u8;
        while !stopped.load(Relaxed) {
            n = n.wrapping_add(1);
            write_at(&path, 4096, &[n; 4096]);
            fs::File::open(&path).unwrap().sync_all().unwrap();
        }
    });
    assert_eq!(world.checkpoint().await.consistency, Consistency::None);
    stop.store(true, Relaxed);
    writer.join().unwrap();
    assert_eq!(world.checkpoint().await.consistency, Consistency::Crash);
    world.assert_replica_equals_source();
    world.stop_agent().await;
}

fn tracking(state: &State) -> Option<&Tracking> {
    state.statuses.last()?.disks[0].tracking.as_ref()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_breaks_costs_no_session_and_one_that_finds_a_difference_has_the_disk_compared() {
    let folder = tempfile::tempdir().unwrap();
    let backing = folder.path().join("backing");
    fs::write(&backing, noise(4 * BLOCK_LEN, 9)).unwrap();
    let Some(device) = block_device(&backing) else {
        return;
    };
    let mut world = World::with_disks(folder, vec![device.path.clone()]).await;
    world.pace.audit_every = Duration::from_millis(50);
    world.runner.state().break_inspections = true;
    world.start_agent();
    world.first_copy().await;
    world
        .eventually("the status tells of the tracking", |state| {
            tracking(state).is_some()
        })
        .await;
    if let Some(Tracking::Rescan { reason, .. }) = tracking(&world.runner.state()) {
        cannot_run(&format!("audits of a tracked disk: {reason}"));
        return;
    }
    world
        .eventually("audits go on though each breaks", |state| state.inspections >= 3)
        .await;

    world.runner.state().break_inspections = false;
    let before = world.runner.state().inspections;
    world
        .eventually("audits find nothing", |state| state.inspections >= before + 10)
        .await;
    let trusted = tracking(&world.runner.state()).cloned();
    assert!(matches!(trusted, Some(Tracking::Tracker { .. })), "{trusted:?}");
    let extents = world.runner.state().extents;

    // Nothing passes the device, so that no tracker can see it.
    write_at(&backing, BLOCK_LEN as u64 + 4096, b"changed in the cable");
    world
        .eventually("the disk is suspect, with the audit's reason", |state| {
            let Some(Tracking::Suspect { doubt }) = tracking(state) else {
                return false;
            };
            doubt.contains("block 1 of ") && doubt.contains("differs though nothing wrote to it")
        })
        .await;
    world.checkpoint().await;
    world
        .eventually("the tracker is believed again", |state| {
            tracking(state) == trusted.as_ref()
        })
        .await;
    {
        let state = world.runner.state();
        let replica = state.committed.values().next().unwrap();
        assert!(*replica == fs::read(&backing).unwrap(), "the replica differs");
        assert_eq!(state.extents, extents + 1, "what was equal was sent again");
        assert_eq!(state.hellos.len(), 1, "the session stayed");
    }
    world.stop_agent().await;
}
