//! Only a token that is right, fresh and unused lets a machine in.

use std::{fs, time::Duration};

use chrono::Utc;
use lab::{
    wait::{Look, eventually},
    world::{hub::HubSettings, server::Server},
};

use crate::scene::{MIB, SOON, Scene, account};

/// Installs with a token that must be refused, and returns what the installer said.
async fn refusal(scene: &Scene, server: &Server, token: &str) -> String {
    let refused = server.install(scene.runner(), token).await.unwrap_err();
    let said = format!("{refused:#}");
    assert!(said.contains("exit status: 1:"), "{said}");
    assert!(
        !said.contains(token),
        "the token is told to whoever reads the output"
    );
    // Nothing but the hooks, which are not the agent's.
    let left: Vec<_> = fs::read_dir(server.agent_dir()).unwrap().flatten().collect();
    assert!(
        left.iter().all(|entry| entry.file_name() == "freeze.d"),
        "{left:?}"
    );
    said
}

#[tokio::test]
async fn a_wrong_a_used_and_an_expired_token_are_refused_each_with_its_reason() {
    let scene = Scene::without_schedule().await;
    let server = scene.bare_server("web-1", &[4 * MIB]);
    let right = scene.agent_token().await;

    let said = refusal(&scene, &server, &right[..right.len() - 1]).await;
    assert!(said.contains("not an enrolment token"), "{said}");
    // The secret is in the middle.
    let mut parts: Vec<_> = right.split('.').map(str::to_owned).collect();
    parts[1] = "A".repeat(parts[1].len());
    let said = refusal(&scene, &server, &parts.join(".")).await;
    assert!(said.contains("did not issue the token"), "{said}");
    let mut parts: Vec<_> = right.split('.').map(str::to_owned).collect();
    parts[2] = "0".repeat(parts[2].len());
    let said = refusal(&scene, &server, &parts.join(".")).await;
    assert!(said.contains("another authority"), "{said}");

    let (hub, ttl) = (&scene.world.hub, Duration::from_secs(1));
    let expiring = hub.token(scene.account.id.as_str(), "agent", ttl).await.unwrap();
    let end = Utc::now() + ttl;
    let expired = || async { Ok(Look::when(Utc::now() > end, end)) };
    eventually("the token has expired", SOON, expired).await.unwrap();
    let said = refusal(&scene, &server, &expiring).await;
    assert!(said.contains("has expired"), "{said}");
    assert_eq!(server.id(), None);

    server.install(scene.runner(), &right).await.unwrap();
    let second = scene.bare_server("web-2", &[4 * MIB]);
    let said = refusal(&scene, &second, &right).await;
    assert!(said.contains("used by another machine"), "{said}");

    let servers = scene.world.hub.api.servers(&scene.account.id).await.unwrap();
    assert_eq!(servers.len(), 1);
}

#[tokio::test]
async fn a_token_for_another_account_enrols_nothing_here() {
    let accounts = vec![
        account("210000000001", "production"),
        account("210000000002", "development"),
    ];
    let scene = Scene::with_accounts(HubSettings::default(), accounts.clone()).await;
    let api = &scene.world.hub.api;
    let foreign = api.token(&accounts[1].id, "agent").await.unwrap();
    let server = scene.bare_server("web-1", &[4 * MIB]);
    let said = refusal(&scene, &server, &foreign).await;
    assert!(said.contains("210000000002"), "{said}");
    for account in &accounts {
        assert!(api.servers(&account.id).await.unwrap().is_empty());
    }
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
