//! The runner dies, or has no room: nothing that was committed is lost, nothing else is offered.

use std::time::Duration;

use anyhow::Context;
use lab::{
    network::Wire,
    source::compare::first_difference_of_all,
    wait::{Look, eventually},
    world::server::Server,
};

use crate::{
    replica::write_noise,
    scene::{MIB, SOON, Scene},
};

/// Slow enough that a kill strikes while blocks are on their way.
const SLOW: Wire = Wire::Throttled(3_000_000);

impl Scene {
    /// Waits until so many more bytes went towards the runner.
    pub async fn carries(&self, bytes: u64) {
        let goal = self.network().carried() + bytes;
        let look = || async {
            let carried = self.network().carried();
            Ok(Look::when(carried >= goal, format!("{carried} of {goal} bytes")))
        };
        eventually("data flows", SOON, look).await.unwrap();
    }

    async fn kill_runner_within(&mut self, time: Duration) {
        tokio::time::sleep(time.mul_f64(rand::random())).await;
        self.runner_mut().kill().unwrap();
    }
}

#[tokio::test]
async fn a_runner_killed_again_and_again_in_a_first_copy_offers_nothing_until_all_of_it_is_there() {
    let mut scene = Scene::with_a_checkpoint_each_second().await;
    scene.network().set(SLOW);
    let server = scene.quiet_server("web-1", &[16 * MIB, 8 * MIB]).await;
    for _ in 0..3 {
        scene.carries(500_000).await;
        scene.kill_runner_within(Duration::from_secs(2)).await;
        let nothing = scene.export(&server, "latest").await.unwrap_err();
        assert!(nothing.to_string().contains("no checkpoint"), "{nothing:#}");
        scene.runner_mut().restart().await.unwrap();
    }
    scene.network().restore();
    scene.replica_equals_source(&server).await;
}

#[tokio::test]
async fn a_runner_killed_in_the_middle_of_checkpoints_still_holds_the_last_committed_one() {
    let mut scene = Scene::with_a_checkpoint_each_second().await;
    let server = scene.quiet_server("db-1", &[12 * MIB, 8 * MIB]).await;
    scene.next_checkpoint(&server).await;
    let committed = scene.copy_of(&server, "committed");
    for round in 0..3 {
        scene.network().set(SLOW);
        write_noise(&server.disks()[0], round * MIB, 6 * MIB);
        write_noise(&server.disks()[1], round * MIB, 5 * MIB);
        scene.carries(500_000).await;
        scene.kill_runner_within(Duration::from_millis(1500)).await;
        scene.checkpoint_equals(&server, "latest", &committed).await;
        scene.runner_mut().restart().await.unwrap();
    }
    scene.network().restore();
    scene.replica_equals_source(&server).await;
}

#[tokio::test]
async fn a_runner_killed_at_any_moment_holds_one_moment_of_all_disks_and_never_an_older_one() {
    let mut scene = Scene::with_a_checkpoint_each_second().await;
    let server = scene.quiet_server("db-1", &[8 * MIB, 8 * MIB]).await;
    scene.next_checkpoint(&server).await;
    let mut moments = vec![scene.copy_of(&server, "moment-0")];
    let mut reached = 0;
    for round in 1..=6 {
        for disk in server.disks() {
            write_noise(&disk, (round % 6) * MIB, 2 * MIB);
        }
        moments.push(scene.copy_of(&server, &format!("moment-{round}")));
        // A checkpoint is due each second.
        scene.kill_runner_within(Duration::from_millis(1400)).await;
        let exported = scene.export(&server, "latest").await.unwrap();
        let shows = |moment: &Vec<_>| first_difference_of_all(moment, &exported).unwrap().is_none();
        let found = moments.iter().rposition(shows);
        let found = found.expect("what is offered is one moment of all disks");
        assert!(found >= reached, "moment {found} is offered after {reached} was");
        reached = found;
        scene.runner_mut().restart().await.unwrap();
    }
    scene.replica_equals_source(&server).await;
}

#[tokio::test]
async fn a_runner_without_room_says_so_keeps_what_it_has_and_goes_on_by_itself_when_there_is_room() {
    let mut scene = Scene::with_a_checkpoint_each_second().await;
    let server = scene.quiet_server("db-1", &[16 * MIB]).await;
    scene.next_checkpoint(&server).await;
    let committed = scene.copy_of(&server, "committed");
    scene.runner().limit_store(Some(MIB)).unwrap();
    write_noise(&server.disks()[0], 2 * MIB, 6 * MIB);

    let stalled = scene.until_replication(&server, "STALLED").await;
    let error = stalled.data_replication_info.data_replication_error.unwrap();
    assert_eq!(error["error"], "SNAPSHOTS_FAILURE", "{error}");
    let detail = error["rawError"].as_str().unwrap_or_default();
    assert!(
        detail.contains("staging area is full") && detail.contains("make room"),
        "{error}"
    );
    scene.checkpoint_equals(&server, "latest", &committed).await;

    // A runner that starts without room holds the same, and says the same.
    scene.runner_mut().kill().unwrap();
    scene.runner_mut().restart().await.unwrap();
    scene.checkpoint_equals(&server, "latest", &committed).await;
    scene
        .eventually("the runner is out of room again", &server, |seen| {
            let error = &seen.data_replication_info.data_replication_error;
            error
                .as_ref()
                .is_some_and(|error| error["error"] == "SNAPSHOTS_FAILURE")
        })
        .await;

    scene.runner().limit_store(None).unwrap();
    scene.until_replication(&server, "CONTINUOUS").await;
    scene.replica_equals_source(&server).await;
}

#[tokio::test]
async fn six_checkpoints_are_kept_and_each_shows_its_own_moment() {
    let scene = Scene::with_a_checkpoint_each_second().await;
    let mut server = scene.quiet_server("db-1", &[8 * MIB]).await;
    let mut moments = Vec::new();
    while moments.len() < 9 {
        write_noise(&server.disks()[0], moments.len() as u64 % 7 * MIB, MIB);
        let number = scene.next_checkpoint(&server).await;
        moments.push((number, scene.copy_of(&server, &format!("moment-{number}"))));
        // The oldest leaves right after the seventh came.
        let look = || async {
            let offered = launchable(&scene, &server).await?;
            Ok(Look::when(offered.len() <= 6, offered))
        };
        eventually("no more than six are offered", SOON, look)
            .await
            .unwrap();
    }
    server.terminate_agent().await.unwrap();
    let look = || async {
        let offered = launchable(&scene, &server).await?;
        for number in &offered {
            let exported = scene.export(&server, &number.to_string()).await?;
            // What was taken between two writes shows the earlier of them.
            let shown = moments.iter().rev().find(|(taken, _)| taken <= number);
            let (_, moment) = shown.context("a checkpoint before the first")?;
            assert_eq!(first_difference_of_all(moment, &exported)?, None, "{number}");
        }
        Ok(Look::when(offered.len() == 6, offered))
    };
    eventually("six checkpoints are offered and can be read", SOON, look)
        .await
        .unwrap();
    let gone = scene
        .export(&server, &moments[0].0.to_string())
        .await
        .unwrap_err();
    assert!(gone.to_string().contains("has no checkpoint"), "{gone:#}");
}

async fn launchable(scene: &Scene, server: &Server) -> anyhow::Result<Vec<u64>> {
    let seen = scene.checkpoints(server).await?;
    let launchable = seen.iter().filter(|one| one.is_launchable());
    Ok(launchable.map(|one| one.number).collect())
}
