//! What operators order of replication, and what becomes of the agent in the end.

use cloud::control::ResourceKind;
use lab::wait::{Look, eventually};

use crate::scene::{MIB, SOON, Scene};

#[tokio::test]
async fn replication_pauses_resumes_stops_and_starts_as_ordered() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    let order = async |operation: &str| {
        let api = &scene.world.hub.api;
        api.server_operation(operation, &scene.account.id, &id)
            .await
            .unwrap();
    };
    order("PauseReplication").await;
    scene.until_replication(&server, "PAUSED").await;
    order("ResumeReplication").await;
    scene.until_replication(&server, "CONTINUOUS").await;
    order("StopReplication").await;
    scene.until_replication(&server, "STOPPED").await;
    scene.until_state(&server, "STOPPED").await;
    order("StartReplication").await;
    scene.until_replication(&server, "CONTINUOUS").await;
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_disconnected_server_leaves_nothing_and_its_agent_removes_itself() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    let api = &scene.world.hub.api;
    api.server_operation("DisconnectFromService", &scene.account.id, &id)
        .await
        .unwrap();
    scene.until_state(&server, "DISCONNECTED").await;
    scene.until_replication(&server, "DISCONNECTED").await;
    let clean = || async {
        let left = scene.inventory(ResourceKind::Snapshot).await;
        Ok(Look::when(left.is_empty(), left))
    };
    eventually("no snapshot is left", SOON, clean).await.unwrap();
    let agent = server.agent().unwrap();
    let ended = || {
        let ended = agent.ended();
        async move { ended.map(|status| Look::when(status.is_some(), status)) }
    };
    eventually("the agent has ended", SOON, ended).await.unwrap();
    assert!(!server.agent_dir().join("credentials").exists());
}

#[tokio::test]
async fn an_uninstalled_agent_leaves_no_identity_and_its_silence_is_noticed() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    server.terminate_agent().await.unwrap();
    server.uninstall().await.unwrap();
    assert!(!server.agent_dir().join("credentials").exists());
    scene.until_replication(&server, "STALLED").await;
}
