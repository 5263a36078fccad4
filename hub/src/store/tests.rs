//! The store against a real database in a folder of its own.

use domain::{
    bandwidth::Bandwidth,
    flow::Flow,
    ids::{JobId, SourceServerId},
    lifecycle::{Event, Lifecycle},
};

use sea_orm::ConnectionTrait;

use super::{
    pages::{ServerSearch, ServerSort},
    servers::Transition,
    *,
};
use crate::{
    entities::{Doc, source_server},
    fixtures::{self, MEMBER, TestHub, hub},
};

async fn with_server(hub: &TestHub) -> SourceServerId {
    let runner = fixtures::with_runner(hub).await;
    let server = fixtures::server(SourceServerId::from_entropy(1), &runner);
    let id = server.id.0.clone();
    let mut tx = hub.store.begin().await.unwrap();
    tx.server_insert(server).await.unwrap();
    tx.commit().await.unwrap();
    id
}

#[tokio::test]
async fn a_life_cycle_moves_once_per_generation() {
    let hub = hub().await;
    let store = &hub.store;
    let id = with_server(&hub).await;
    let mut tx = store.begin().await.unwrap();
    let moved = tx
        .server_transition(&id, 0, Event::FirstLaunchableCheckpoint)
        .await
        .unwrap();
    assert_eq!(moved, Transition::Moved(Lifecycle::ReadyForTest));
    let stale = tx
        .server_transition(&id, 0, Event::TestStarted(JobId::from_entropy(1)))
        .await
        .unwrap();
    assert_eq!(stale, Transition::Stale);
    tx.commit().await.unwrap();
    let server = store.server(&id).await.unwrap();
    assert_eq!(
        (server.generation, server.lifecycle_name.as_str()),
        (1, "READY_FOR_TEST")
    );
}

#[tokio::test]
async fn what_is_not_committed_is_neither_kept_nor_told() {
    let hub = hub().await;
    let store = &hub.store;
    let id = with_server(&hub).await;
    let mut changes = store.changes().subscribe();
    let mut tx = store.begin().await.unwrap();
    tx.server_on(&id, Event::FirstLaunchableCheckpoint).await.unwrap();
    drop(tx);
    assert_eq!(store.server(&id).await.unwrap().generation, 0);
    assert!(changes.try_recv().is_err());

    let mut tx = store.begin().await.unwrap();
    tx.server_on(&id, Event::FirstLaunchableCheckpoint).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(changes.try_recv(), Ok(Change::Server { server, .. }) if server == id));
}

#[tokio::test]
async fn a_server_takes_part_in_one_job_at_a_time() {
    let hub = hub().await;
    let store = &hub.store;
    let id = with_server(&hub).await;
    let (first, second) = (JobId::from_entropy(1), JobId::from_entropy(2));
    let mut tx = store.begin().await.unwrap();
    let server = tx.server(&id).await.unwrap();
    assert!(tx.server_take(&server, &first).await.unwrap());
    assert!(tx.server_take(&server, &first).await.unwrap());
    assert!(!tx.server_take(&server, &second).await.unwrap());
    tx.server_release(&server).await.unwrap();
    assert!(tx.server_take(&server, &second).await.unwrap());
}

#[tokio::test]
async fn the_overview_counts_servers_by_state() {
    let hub = hub().await;
    let store = &hub.store;
    with_server(&hub).await;
    let overview = store.account_overview().await.unwrap();
    assert_eq!(overview.len(), 1);
    assert_eq!(overview[0].servers["NOT_READY"], 1);
    assert_eq!(overview[0].replication["INITIATING"], 1);
    assert_eq!(overview[0].runners.len(), 1);
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_taken_over() {
    let hub = hub().await;
    let id = with_server(&hub).await;
    let tx = hub.store.begin().await.unwrap();
    for statement in [
        "DROP INDEX source_servers_counted",
        "DROP INDEX source_servers_by_name",
        "DROP INDEX source_servers_by_account",
        "DROP INDEX source_servers_by_state",
        "DROP INDEX source_servers_by_lag",
        "DROP INDEX source_servers_sought",
        "DROP INDEX source_servers_in_replication",
        "ALTER TABLE source_servers DROP COLUMN archived",
        "ALTER TABLE source_servers DROP COLUMN name",
        "ALTER TABLE source_servers DROP COLUMN sought",
        "ALTER TABLE source_servers DROP COLUMN replicated_bytes",
        "DELETE FROM seaql_migrations WHERE version = 'm0012_at_a_glance'",
        "DROP INDEX source_servers_diverges",
        "DROP INDEX source_servers_untracked",
        "ALTER TABLE source_servers DROP COLUMN bandwidth",
        "ALTER TABLE source_servers DROP COLUMN flow",
        "ALTER TABLE source_servers DROP COLUMN diverges",
        "ALTER TABLE source_servers DROP COLUMN untracked",
        "ALTER TABLE checkpoints DROP COLUMN frozen_ms",
        "ALTER TABLE checkpoints DROP COLUMN received_bytes",
        "ALTER TABLE checkpoints DROP COLUMN damage",
        "DELETE FROM seaql_migrations WHERE version = 'm0002_flow'",
    ] {
        tx.tx.0.execute_unprepared(statement).await.unwrap();
    }
    let checkpoint = "INSERT INTO checkpoints (server, number, kind, consistency, taken_at, request, disks) \
                      SELECT id, 1, 'launchable', 'crash', 5, 0, '[]' FROM source_servers";
    tx.tx.0.execute_unprepared(checkpoint).await.unwrap();
    tx.commit().await.unwrap();
    let (place, cloud) = (hub.place.clone(), hub.cloud.clone());
    drop(hub);

    let hub = fixtures::reopen(place, cloud).await;
    let server = hub.store.server(&id).await.unwrap();
    assert_eq!(
        (&server.bandwidth.0, &server.flow.0),
        (&Bandwidth::default(), &Flow::default())
    );
    assert!(!server.diverges && !server.untracked && !server.archived);
    assert_eq!(server.name, server.known_as());
    assert!(server.sought.contains(server.id.as_str()));
    let checkpoints = hub.store.checkpoint_list(&id).await.unwrap();
    assert_eq!((checkpoints[0].frozen_ms, &checkpoints[0].damage), (0, &None));
}

#[tokio::test]
async fn a_wish_makes_the_runner_look_again() {
    let hub = hub().await;
    let store = &hub.store;
    let id = with_server(&hub).await;
    let mut changes = store.changes().subscribe();
    let mut tx = store.begin().await.unwrap();
    let runner = tx.server(&id).await.unwrap().runner.unwrap().0;
    let generation = tx.runner_touch(&runner).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        store.runner(&runner).await.unwrap().desired_generation,
        generation.cast_signed()
    );
    assert_eq!(changes.try_recv().unwrap(), Change::Desired(runner));
}

#[tokio::test]
async fn a_search_takes_every_character_as_it_is() {
    let hub = hub().await;
    let runner = fixtures::with_runner(&hub).await;
    let mut tx = hub.store.begin().await.unwrap();
    let names = ["100%_a\\b", "100xya?b", "Ätna"];
    for (entropy, name) in (1..).zip(names) {
        let mut server = fixtures::server(SourceServerId::from_entropy(entropy), &runner);
        server.tags = Doc([("Name".to_owned(), name.to_owned())].into());
        tx.server_insert(server).await.unwrap();
    }
    tx.commit().await.unwrap();
    for (text, found) in [
        ("0%_A\\B", &["100%_a\\b"][..]),
        ("_", &["100%_a\\b"]),
        ("?", &["100xya?b"]),
        ("TNA", &["Ätna"]),
        ("100 b", &["100%_a\\b", "100xya?b"]),
        ("'", &[]),
    ] {
        let search = ServerSearch {
            text: text.into(),
            ..ServerSearch::default()
        };
        let slice = hub.store.server_search(&search, 0, 10).await.unwrap();
        let names: Vec<_> = slice.rows.iter().map(source_server::Model::known_as).collect();
        assert_eq!(
            (names.as_slice(), slice.total),
            (found, found.len() as u64),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_found_often_is_counted_to_a_thousand() {
    let hub = hub().await;
    let runner = fixtures::with_runner(&hub).await;
    let mut tx = hub.store.begin().await.unwrap();
    for entropy in 1..=1001 {
        let mut server = fixtures::server(SourceServerId::from_entropy(entropy), &runner);
        server.hostname = format!("web-{entropy:04}");
        tx.server_insert(server).await.unwrap();
    }
    tx.commit().await.unwrap();
    let found = async |text: &str, account: &str, offset| {
        let search = ServerSearch {
            text: text.into(),
            account_text: account.into(),
            descending: true,
            ..ServerSearch::default()
        };
        let slice = hub.store.server_search(&search, offset, 2).await.unwrap();
        let names: Vec<_> = slice.rows.iter().map(|row| row.hostname.clone()).collect();
        (names.join(" "), slice.total, slice.is_more)
    };
    assert_eq!(
        found("WEB", "", 0).await,
        ("web-1001 web-1000".into(), 1000, true)
    );
    assert_eq!(found("web", "", 1000).await, ("web-0001".into(), 1000, true));
    assert_eq!(
        found("web-0", "", 0).await,
        ("web-0999 web-0998".into(), 999, false)
    );
    let account = hub.store.account(&MEMBER.parse().unwrap()).await.unwrap();
    for (sought, total) in [(&account.name[1..], 999), (&MEMBER[3..], 999), ("nobody's", 0)] {
        assert_eq!(found("web-0", sought, 0).await.1, total, "{sought}");
    }
    assert_eq!(found("", &account.name, 0).await.1, 1001);
}

#[tokio::test]
async fn lists_are_in_one_order_everywhere() {
    let hub = hub().await;
    let runner = fixtures::with_runner(&hub).await;
    let mut tx = hub.store.begin().await.unwrap();
    for (entropy, (name, lag)) in (1..).zip([("b-1", None), ("B", Some(5)), ("a b", Some(3)), ("aa", None)]) {
        let mut server = fixtures::server(SourceServerId::from_entropy(entropy), &runner);
        server.hostname = name.into();
        server.lag_basis = lag;
        tx.server_insert(server).await.unwrap();
    }
    tx.commit().await.unwrap();
    for (sort, descending, order) in [
        (ServerSort::Name, false, ["B", "a b", "aa", "b-1"]),
        (ServerSort::Name, true, ["b-1", "aa", "a b", "B"]),
        (ServerSort::Lag, false, ["aa", "b-1", "a b", "B"]),
        (ServerSort::Lag, true, ["B", "a b", "aa", "b-1"]),
    ] {
        let search = ServerSearch {
            sort,
            descending,
            ..ServerSearch::default()
        };
        let slice = hub.store.server_search(&search, 0, 10).await.unwrap();
        let names: Vec<_> = slice.rows.iter().map(|row| row.hostname.as_str()).collect();
        assert_eq!(names, order, "{sort:?}, {descending}");
    }
}

#[tokio::test]
async fn who_reads_and_then_writes_is_alone_with_it() {
    let hub = hub().await;
    let id = with_server(&hub).await;
    // Another hub on the same database.
    let other = Store::open(&hub.place.database(), Changes::default())
        .await
        .unwrap();
    let count = async |store: &Store| {
        for _ in 0..20 {
            let mut tx = store.begin().await.unwrap();
            let server = tx.server(&id).await.unwrap();
            let retry_request = server.retry_request + 1;
            tx.server_update(&server, |row| {
                row.retry_request = sea_orm::ActiveValue::Set(retry_request);
            })
            .await
            .unwrap();
            tx.commit().await.unwrap();
        }
    };
    tokio::join!(count(&hub.store), count(&other), count(&hub.store), count(&other));
    assert_eq!(hub.store.server(&id).await.unwrap().retry_request, 80);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let hub = hub().await;
    let id = with_server(&hub).await;
    let mut tx = hub.store.begin().await.unwrap();
    tx.server_on(&id, Event::FirstLaunchableCheckpoint).await.unwrap();
    assert_eq!(hub.store.server(&id).await.unwrap().generation, 0);
    tx.commit().await.unwrap();
    assert_eq!(hub.store.server(&id).await.unwrap().generation, 1);
}

#[tokio::test]
async fn a_nul_from_an_agent_breaks_neither_its_row_nor_a_list() {
    let hub = hub().await;
    let runner = fixtures::with_runner(&hub).await;
    let mut server = fixtures::server(SourceServerId::from_entropy(1), &runner);
    server.hostname = "a\0b".into();
    server.properties.0.os = "Debian\0".into();
    server.tags = Doc([("Name".to_owned(), "web\0\\u0000".to_owned())].into());
    let mut tx = hub.store.begin().await.unwrap();
    tx.server_insert(server).await.unwrap();
    tx.commit().await.unwrap();
    let search = ServerSearch {
        text: "debian".into(),
        ..ServerSearch::default()
    };
    let found = hub.store.server_search(&search, 0, 10).await.unwrap();
    assert_eq!(found.rows[0].hostname, "a\u{FFFD}b");
    assert_eq!(found.rows[0].known_as(), "web\u{FFFD}\\u0000");
}
