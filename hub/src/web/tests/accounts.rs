//! What accounts say of themselves, on their pages and on those of their servers.

use axum::http::StatusCode;
use cloud::control::{Measure, Place, Resource, ResourceKind, SERVER_TAG};
use domain::account::Access;

use super::{
    console,
    world::{ACCOUNTS, server_id},
};
use crate::fixtures;

#[tokio::test]
async fn an_account_says_what_it_has_and_what_is_left_over() {
    let console = console().await;
    let operator = console.sign_in("operator").await;
    let page = format!("/accounts/{}", ACCOUNTS[0].0);
    let shown = console.get(&operator, &page).await.body;
    assert!(shown.contains("The hub asks the account by tag"), "{shown}");
    let check = format!("{page}/resources/check");
    assert_eq!(
        console.post(&operator, &check, "").await.status,
        StatusCode::SEE_OTHER
    );
    let shown = console.get(&operator, &page).await.body;
    assert!(shown.contains("not asked yet, being asked now"), "{shown}");

    let snapshot = |id: &str, server: String| Resource {
        kind: ResourceKind::Snapshot,
        id: id.into(),
        tags: [(SERVER_TAG.to_owned(), server)].into(),
        measure: Measure::of_bytes(100 << 30),
    };
    let there = vec![
        snapshot("snap-1", server_id(1).to_string()),
        snapshot("snap-2", "s-9999999999999999a".into()),
    ];
    let place = Place::direct(ACCOUNTS[0].0.parse().unwrap(), fixtures::REGION);
    let mut tx = console.hub.store.begin().await.unwrap();
    tx.inventory_asked(&place, 1, Ok(there)).await.unwrap();
    tx.commit().await.unwrap();
    let shown = console.get(&operator, &page).await.body;
    assert!(shown.contains("Needed: 1 snapshot."), "{shown}");
    assert!(!shown.contains("snap-1"), "{shown}");
    assert!(
        shown.contains("costs about 10.00 USD a month, by the list of us-east-1"),
        "{shown}"
    );
    for word in ["snap-2", "Stray", "s-9999999999999999a", "1 to look at"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    // The page of a server tells of its own alone.
    let page = format!("/servers/{}", server_id(1));
    let shown = console.get(&operator, &page).await.body;
    for word in [
        "What the account has of this server",
        "Needed: 1 snapshot.",
        "As it should be",
        "about 5.00 USD",
    ] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    assert!(!shown.contains("snap-2"), "{shown}");
    let check = format!("{page}/resources/check");
    assert_eq!(
        console.post(&operator, &check, "").await.status,
        StatusCode::SEE_OTHER
    );
    let shown = console.get(&operator, &page).await.body;
    assert!(shown.contains("being asked now"), "{shown}");
}

#[tokio::test]
async fn an_account_that_the_hub_leaves_alone_wants_no_hand() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    let (account, name) = ACCOUNTS[2];
    // Among the accounts, and among what wants a hand.
    let links = format!("href=\"/accounts/{account}\"");
    let before = console.get(&viewer, "/").await.body;
    let mut tx = console.hub.store.begin().await.unwrap();
    let why = "it is the hub's own account".to_owned();
    let left_alone = Access::LeftAlone { why: why.clone() };
    tx.account_checked(&account.parse().unwrap(), left_alone)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let after = console.get(&viewer, "/").await.body;
    assert_eq!(
        after.matches(&links).count() + 1,
        before.matches(&links).count(),
        "{name} in {after}"
    );
    assert!(after.contains("LEFT_ALONE"), "{after}");
    let page = console.get(&viewer, &format!("/accounts/{account}")).await.body;
    assert!(page.contains("it is the hub&#39;s own account"), "{page}");
}
