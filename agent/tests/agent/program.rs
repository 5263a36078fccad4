//! `orglift-agent run` as a process: signals, and what is left after it is killed.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use domain::disk::BLOCK_LEN;
use protocol::session::Goodbye;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, noise, program};

fn signal(child: &tokio::process::Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A hook that freezes and thaws by a file named `asleep`.
fn install_hook(world: &World) -> std::path::PathBuf {
    let hooks = world.layout.hooks();
    fs::create_dir(&hooks).unwrap();
    let asleep = world.folder.path().join("asleep");
    let hook = hooks.join("10-app");
    let script = format!(
        "#!/bin/sh\ncase $1 in freeze) touch {0};; thaw) rm {0};; esac\n",
        asleep.display()
    );
    fs::write(&hook, script).unwrap();
    fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).unwrap();
    asleep
}

async fn until(what: &str, right: impl Fn() -> bool) {
    for _ in 0..2000 {
        if right() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_agent_cleanly_and_status_shows_it() {
    let world = World::new(&[noise(3 * BLOCK_LEN, 1)]).await;
    let mut child = program::run(world.layout.dir());
    world.first_copy().await;
    until("the status is written", || {
        world.layout.status().exists() && world.status().connected
    })
    .await;
    let status = program::agent(world.layout.dir(), &["status"]).await;
    assert!(status.success && status.out.contains("(connected)"), "{status:?}");
    assert!(status.out.contains("disk0.raw"), "{status:?}");

    signal(&child, Signal::TERM);
    assert!(child.wait().await.unwrap().success());
    world
        .eventually("goodbye", |state| state.goodbyes == [Goodbye::Stopping])
        .await;
    let status = program::agent(world.layout.dir(), &["status"]).await;
    assert!(status.out.contains("the agent is not running"), "{status:?}");
    let json = program::agent(world.layout.dir(), &["status", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["connected"], false);
}

/// An agent in the middle of its last pass, with applications asleep.
async fn frozen_agent() -> (World, tokio::process::Child, std::path::PathBuf) {
    let world = World::new(&[noise(40 * BLOCK_LEN, 2)]).await;
    let asleep = install_hook(&world);
    let child = program::run(world.layout.dir());
    world.first_copy().await;
    // Every block changes. In early rounds little is sent at once, so that the last pass is long.
    world.runner.state().delay_per_extent = Duration::from_millis(200);
    world.runner.request_checkpoint();
    let (seen, disk) = (asleep.clone(), world.disks[0].clone());
    until("applications are asleep", || {
        let frozen = seen.exists();
        if frozen {
            crate::world::write_at(&disk, 0, &noise(40 * BLOCK_LEN, 3));
        }
        frozen
    })
    .await;
    (world, child, asleep)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_last_pass_thaws() {
    let (_world, mut child, asleep) = frozen_agent().await;
    signal(&child, Signal::TERM);
    assert!(child.wait().await.unwrap().success());
    assert!(!asleep.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_after_one_that_was_killed_thaws() {
    let (world, mut child, asleep) = frozen_agent().await;
    signal(&child, Signal::KILL);
    assert!(!child.wait().await.unwrap().success());
    if !asleep.exists() {
        // The pass was over before the signal came.
        return;
    }
    let mut next = program::run(world.layout.dir());
    until("the next agent thaws", || !asleep.exists()).await;
    signal(&next, Signal::TERM);
    next.wait().await.unwrap();
}
