//! The whole way of a server, and of the lab itself.

use crate::scene::{MIB, Scene};

#[tokio::test]
async fn a_server_that_keeps_changing_is_tested_cut_over_and_finalized() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[16 * MIB, 8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.launches("StartTest", &id).await.unwrap();
    scene.until_state(&server, "TESTING").await;
    assert!(server.written_by_workload() > 0);
    let api = &scene.world.hub.api;
    api.mark_ready_for_cutover(&scene.account.id, &id).await.unwrap();
    scene.cuts_over_equal(&mut server).await;
    api.server_operation("FinalizeCutover", &scene.account.id, &id)
        .await
        .unwrap();
    scene.until_state(&server, "CUTOVER").await;
}
