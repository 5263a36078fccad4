//! A hub whose records are in PostgreSQL.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use lab::{
    network::Network,
    programs::folder_under_test,
    wait::{Look, eventually},
    world::hub::{Hub, HubSettings},
};
use tests::postgresql::Cluster;

use crate::scene::{MIB, SOON, Scene};

const PASSWORD: &str = "rosebud-1941";

/// A server where the role `orglift` has a database, and must say its password.
struct Postgres {
    cluster: Cluster,
    port: u16,
    folder: tempfile::TempDir,
}

impl Postgres {
    fn start(port: u16) -> Option<Self> {
        let Some(programs) = Cluster::programs() else {
            eprintln!("cannot run here: PostgreSQL is not installed");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // Its programs run as a user of their own.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let cluster = Cluster::make(&programs, folder.path(), port, "").unwrap();
        let rules = "local all postgres trust\nlocal all all scram-sha-256\n";
        std::fs::write(cluster.folder().join("pg_hba.conf"), rules).unwrap();
        cluster.start().unwrap();
        for statement in [
            format!("CREATE ROLE orglift LOGIN PASSWORD '{PASSWORD}'"),
            "CREATE DATABASE orglift OWNER orglift".to_owned(),
        ] {
            cluster.administer(&statement).unwrap();
        }
        Some(Self {
            cluster,
            port,
            folder,
        })
    }

    fn url(&self, user: &str, database: &str) -> String {
        let socket = self.cluster.folder().display();
        format!(
            "postgres://{user}@localhost/{database}?host={socket}&port={}",
            self.port
        )
    }

    /// The address of the hub's database, with the password.
    fn hubs(&self) -> String {
        self.url(&format!("orglift:{PASSWORD}"), "orglift")
    }
}

/// What becomes of a hub that is started with these arguments, and with this address in its environment.
fn refused(dir: &Path, args: &[&str], variable: Option<&str>) -> String {
    // One that runs in spite of it is ended, and then has another status.
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(folder_under_test().unwrap().join("orglift-hub"))
        .args([
            "serve",
            "--ui",
            "127.0.0.1:0",
            "--machines",
            "127.0.0.1:0",
            "--dir",
        ])
        .arg(dir.join("hub"))
        .arg("--cloud")
        .arg(format!("folder:{}", dir.join("cloud").display()))
        .args(args)
        .env_remove("ORGLIFT_DATABASE");
    if let Some(url) = variable {
        command.env("ORGLIFT_DATABASE", url);
    }
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

#[tokio::test]
async fn a_server_moves_while_the_hub_and_its_database_are_killed() {
    let Some(postgres) = Postgres::start(54401) else {
        return;
    };
    let mut scene = Scene::with(HubSettings {
        database: Some(postgres.hubs()),
        ..HubSettings::default()
    })
    .await;
    let mut server = scene.server("web-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();

    // The hub dies in the middle of a test, and comes back without losing it.
    let api = &scene.world.hub.api;
    let job = api.launch("StartTest", &scene.account.id, &id).await.unwrap().id;
    scene.world.hub.kill().unwrap();
    scene.world.hub.restart().await.unwrap();
    let api = &scene.world.hub.api;
    api.launched(&scene.account.id, &job, &id, SOON).await.unwrap();
    scene.until_state(&server, "TESTING").await;

    // Its database loses its power in the middle of a cutover, and the hub finds it again by itself.
    api.mark_ready_for_cutover(&scene.account.id, &id).await.unwrap();
    server.hold().unwrap();
    let job = api
        .launch("StartCutover", &scene.account.id, &id)
        .await
        .unwrap()
        .id;
    postgres.cluster.stop().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    postgres.cluster.start().unwrap();
    eventually("the hub has its database again", SOON, || async {
        Ok(match api.server(&scene.account.id, &id).await {
            Ok(_) => Look::Seen(()),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    })
    .await
    .unwrap();
    api.launched(&scene.account.id, &job, &id, SOON).await.unwrap();
    scene.until_state(&server, "CUTTING_OVER").await;
    assert!(!scene.world.plan.dir.join("hub/hub.db").exists());

    // A hub of another authority would be a stranger to every machine.
    let said = refused(postgres.folder.path(), &[], Some(&postgres.hubs()));
    assert!(said.contains("copy the folder `ca`"), "{said}");
}

#[tokio::test]
async fn another_hub_goes_on_within_seconds_when_one_is_killed_or_stands_still() {
    let Some(postgres) = Postgres::start(54403) else {
        return;
    };
    let mut scene = Scene::with(HubSettings {
        database: Some(postgres.hubs()),
        ..HubSettings::default()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut second = scene
        .world
        .hub
        .companion(&folder.path().join("second"))
        .await
        .unwrap();
    let server = scene.server("web-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    let account = scene.account.id.clone();
    assert!(leads(&scene.world.hub).await && !leads(&second).await);

    // Ordered of the hub that does not lead, carried out by the one that does, and seen at both.
    let ordered = Instant::now();
    let job = second.api.launch("StartTest", &account, &id).await.unwrap().id;
    let first = scene.world.hub.api.clone();
    second.api.launched(&account, &job, &id, SOON).await.unwrap();
    first.launched(&account, &job, &id, SOON).await.unwrap();
    println!(
        "a test ordered of the hub that does not lead took {:?}",
        ordered.elapsed()
    );

    // The first is killed in the middle of a cutover. Its address goes to the second, as a balancer sees to.
    second.api.mark_ready_for_cutover(&account, &id).await.unwrap();
    let job = first.launch("StartCutover", &account, &id).await.unwrap().id;
    let machines = scene.world.hub.machines();
    scene.world.hub.kill().unwrap();
    let killed = Instant::now();
    let balancer = Network::at(machines, second.machines()).await.unwrap();
    takes_over(&second, killed).await;
    second.api.launched(&account, &job, &id, SOON).await.unwrap();

    // The first is started again, and leads when the second stands still with its connections open.
    drop(balancer);
    scene.world.hub.restart().await.unwrap();
    assert!(!leads(&scene.world.hub).await);
    second.process().unwrap().pause().unwrap();
    takes_over(&scene.world.hub, Instant::now()).await;
    second.process().unwrap().resume().unwrap();
    eventually("the one that stood still notices", SOON, || async {
        Ok(if leads(&second).await {
            Look::NotYet("it leads".to_owned())
        } else {
            Look::Seen(())
        })
    })
    .await
    .unwrap();
    // One that is told to stop gives the lead away at once.
    let stopped = Instant::now();
    scene.world.hub.terminate().await.unwrap();
    takes_over(&second, stopped).await;
    second.terminate().await.unwrap();
}

async fn leads(hub: &Hub) -> bool {
    let answer = reqwest::get(format!("{}/readyz", hub.console())).await.unwrap();
    let said: serde_json::Value = answer.json().await.unwrap();
    said["leads"].as_bool().unwrap()
}

async fn takes_over(hub: &Hub, since: Instant) {
    eventually("the other hub leads", SOON, || async {
        Ok(if leads(hub).await {
            Look::Seen(())
        } else {
            Look::NotYet("it does not".to_owned())
        })
    })
    .await
    .unwrap();
    let took = since.elapsed();
    println!("the other hub leads after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_database_that_cannot_be_used_is_told_of_without_the_password() {
    let Some(postgres) = Postgres::start(54402) else {
        return;
    };
    let dir = postgres.folder.path();
    postgres
        .cluster
        .administer("CREATE DATABASE latin OWNER orglift TEMPLATE template0 ENCODING 'LATIN1'")
        .unwrap();
    let socket = postgres.cluster.folder().display();
    let nowhere = format!("postgres://orglift:{PASSWORD}@localhost/orglift?host={socket}&port=1");
    for (url, reason) in [
        (
            postgres.url(&format!("orglift:not-{PASSWORD}"), "orglift"),
            "password authentication failed",
        ),
        (
            postgres.url(&format!("orglift:{PASSWORD}"), "nothing"),
            "does not exist",
        ),
        (
            postgres.url(&format!("orglift:{PASSWORD}"), "latin"),
            "its text is in LATIN1",
        ),
        (nowhere, "PostgreSQL must run there"),
        (
            format!("postgres://orglift:{PASSWORD}@127.0.0.1:1/orglift"),
            "PostgreSQL must run there",
        ),
        (
            format!("mysql://orglift:{PASSWORD}@localhost/orglift"),
            "is written postgres://",
        ),
    ] {
        let said = refused(dir, &[], Some(&url));
        assert!(said.contains(reason), "{said}");
    }
    let said = refused(dir, &["--database", &postgres.hubs()], None);
    assert!(said.contains("ORGLIFT_DATABASE"), "{said}");
}
