//! Only a token that is right, fresh and unused lets a machine in.

use std::time::Duration;

use crate::scene::{MIB, Scene};

#[tokio::test]
async fn a_wrong_a_used_and_an_expired_token_are_refused_each_with_its_reason() {
    let scene = Scene::without_schedule().await;
    let right = scene.agent_token().await;

    // The secret is in the middle.
    let mut parts: Vec<_> = right.split('.').map(str::to_owned).collect();
    parts[1] = "A".repeat(parts[1].len());
    let wrong = parts.join(".");
    let server = scene.bare_server("web-1", &[4 * MIB]);
    let refused = server.install(scene.runner(), &wrong).await.unwrap_err();
    assert!(format!("{refused:#}").contains("token"), "{refused:#}");

    let expiring = scene
        .world
        .hub
        .token(scene.account.id.as_str(), "agent", Duration::from_secs(1))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let refused = server.install(scene.runner(), &expiring).await.unwrap_err();
    assert!(format!("{refused:#}").contains("expired"), "{refused:#}");
    assert_eq!(server.id(), None);

    server.install(scene.runner(), &right).await.unwrap();
    let second = scene.bare_server("web-2", &[4 * MIB]);
    let refused = second.install(scene.runner(), &right).await.unwrap_err();
    assert!(format!("{refused:#}").contains("used"), "{refused:#}");

    let servers = scene.world.hub.api.servers(&scene.account.id).await.unwrap();
    assert_eq!(servers.len(), 1);
}

#[tokio::test]
async fn a_token_for_a_runner_enrols_no_agent() {
    let scene = Scene::without_schedule().await;
    let token = scene
        .world
        .hub
        .api
        .token(&scene.account.id, "runner")
        .await
        .unwrap();
    let server = scene.bare_server("web-1", &[4 * MIB]);
    assert!(server.install(scene.runner(), &token).await.is_err());
    assert_eq!(server.id(), None);
}
