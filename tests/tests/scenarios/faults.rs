//! Programs are killed, the wire is cut, the staging area fills up: replication goes on, and what was
//! committed stays.

use std::time::Duration;

use lab::network::Wire;

use crate::scene::{MIB, SOON, Scene};

/// Slow enough that a kill strikes while blocks are on their way.
const SLOW: Wire = Wire::Throttled(2_000_000);

#[tokio::test]
async fn a_runner_killed_in_the_middle_of_a_checkpoint_loses_nothing_committed_and_offers_nothing_else() {
    let mut scene = Scene::new().await;
    let mut server = scene.server("web-1", &[16 * MIB, 8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.network().set(SLOW);
    // The launch wants a checkpoint; while it is on its way, the runner dies.
    let api = scene.world.hub.api.clone();
    let job = api.launch("StartTest", &scene.account.id, &id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    scene.runner_mut().kill().unwrap();
    scene.runner_mut().restart().await.unwrap();
    scene.network().restore();
    api.launched(&scene.account.id, &job.id, &id, SOON).await.unwrap();
    api.mark_ready_for_cutover(&scene.account.id, &id).await.unwrap();
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_of_its_first_copy_goes_on() {
    let scene = Scene::new().await;
    scene.network().set(SLOW);
    let mut server = scene.server("web-1", &[16 * MIB]).await;
    scene.until_replication(&server, "INITIAL_SYNC").await;
    server.kill_agent().unwrap();
    scene.network().restore();
    server.start_agent().unwrap();
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_frame_is_made_anew_and_nothing_is_missing() {
    let scene = Scene::new().await;
    scene.network().set(SLOW);
    let mut server = scene.server("web-1", &[16 * MIB]).await;
    scene.until_replication(&server, "INITIAL_SYNC").await;
    for _ in 0..3 {
        scene.network().cut_mid_frame();
        tokio::time::sleep(Duration::from_millis(400)).await;
        scene.network().restore();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn an_agent_that_stands_still_is_noticed_and_taken_back() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    server.agent().unwrap().pause().unwrap();
    scene.until_replication(&server, "STALLED").await;
    server.agent().unwrap().resume().unwrap();
    scene.until_replication(&server, "CONTINUOUS").await;
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_full_staging_area_is_named_loses_nothing_and_replication_resumes_when_there_is_room() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[16 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    // Not a block more than what is there.
    scene.runner().limit_store(Some(MIB)).unwrap();
    let stalled = scene.until_replication(&server, "STALLED").await;
    let error = stalled.data_replication_info.data_replication_error.unwrap();
    assert!(error.to_string().contains("SNAPSHOTS_FAILURE"), "{error}");
    assert!(error.to_string().contains("full"), "{error}");
    // What was committed before can still be launched, if the operator accepts its age.
    assert_eq!(stalled.life_cycle.state, "READY_FOR_TEST");
    scene.runner().limit_store(None).unwrap();
    scene
        .world
        .hub
        .api
        .server_operation("RetryDataReplication", &scene.account.id, &id)
        .await
        .unwrap();
    scene.until_replication(&server, "CONTINUOUS").await;
    scene.cuts_over_equal(&mut server).await;
}
