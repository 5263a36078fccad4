//! Files against a hub's store: what they change, what they do not, and that what is given out can be taken in again.

use std::time::Instant;

use domain::{
    ids::AccountId,
    launch::{Tenancy, volume::VolumeKind},
    scope::Scope,
};
use sea_orm::ActiveValue::Set;

use super::{
    apply::{Count, Outcome},
    export::export,
};
use crate::{
    actions::inventory,
    auth::{Actor, Grant},
    entities::{Doc, source_server, user::UserRole},
    fixtures::{self, MEMBER, REGION, TestHub},
    store::{
        servers::ServerFilter,
        waves::{ApplicationFilter, WaveFilter},
    },
};

struct Scene {
    hub: TestHub,
    ada: Actor,
}

async fn scene() -> Scene {
    let hub = fixtures::hub().await;
    fixtures::with_runner(&hub).await;
    Scene {
        ada: fixtures::add_user(&hub, "ada", UserRole::Operator, "correct horse").await,
        hub,
    }
}

impl Scene {
    async fn import(&self, text: &str) -> Outcome {
        inventory::import(&self.hub, &self.ada, text, None, false)
            .await
            .unwrap()
    }

    async fn servers(&self) -> Vec<source_server::Model> {
        self.hub
            .store
            .server_list(&ServerFilter::default())
            .await
            .unwrap()
    }

    async fn exported(&self) -> String {
        export(&self.hub.store.seen_by(&self.ada), None).await.unwrap()
    }
}

fn count(created_count: u64, modified_count: u64) -> Count {
    Count {
        created_count,
        modified_count,
    }
}

const HEADER: &str = "mgn:account-id,mgn:region,mgn:wave:name,mgn:wave:tag:Wave,mgn:wave:description,mgn:app:name,mgn:app:tag:App,mgn:app:description,mgn:server:user-provided-id,mgn:server:platform,mgn:server:tag:Name,mgn:server:fqdn-for-action-framework,mgn:launch:nic:0:network-interface-id,mgn:launch:nic:0:subnet-id,mgn:launch:nic:0:security-group-id:0,mgn:launch:nic:0:private-ip:0,mgn:launch:instance-type,mgn:launch:placement:tenancy,mgn:launch:iam-instance-profile:name,mgn:launch:placement:host-id,mgn:launch:volume:/dev/sdb:type\r\n";

fn row(wave: &str, application: &str, server: &str, instance: &str) -> String {
    format!(
        "{MEMBER},{REGION},{wave},w,What moves first,{application},a,,{server},LINUX,{server},{server}.example.com,,\
         subnet-0123456789abcdef0,sg-0123456789abcdef0,,{instance},dedicated,web,,io2\r\n"
    )
}

#[tokio::test]
async fn the_template_makes_waves_applications_and_servers_that_wait_for_their_agents() {
    let scene = scene().await;
    let text = format!(
        "{HEADER}{}{}{}",
        row("first", "shop", "web-1", "m5.large"),
        row("first", "shop", "db-1", "r5.xlarge"),
        row("first", "mail", "mx-1", "m5.large")
    );
    let looked = inventory::import(&scene.hub, &scene.ada, &text, None, true)
        .await
        .unwrap();
    assert_eq!(looked.faults, []);
    assert!(scene.servers().await.is_empty(), "it was only looked at");
    let done = scene.import(&text).await;
    assert_eq!((done.summary, done.rows, done.left_out), (looked.summary, 3, 0));
    let made = done.summary;
    assert_eq!(
        (made.waves, made.applications, made.servers),
        (count(1, 0), count(2, 0), count(3, 0))
    );
    let servers = scene.servers().await;
    let db = servers.iter().find(|server| server.hostname == "db-1").unwrap();
    assert_eq!(db.lifecycle_name, "PENDING_INSTALLATION");
    assert_eq!(db.properties.fqdn, "db-1.example.com");
    let launch = &db.launch_configuration;
    assert_eq!(
        (launch.instance_type.as_str(), launch.tenancy),
        ("r5.xlarge", Tenancy::Dedicated)
    );
    assert_eq!(launch.target_subnet, "subnet-0123456789abcdef0");
    assert_eq!(
        launch.test_subnet, launch.target_subnet,
        "nobody chose another one"
    );
    assert_eq!(launch.security_groups, ["sg-0123456789abcdef0"]);
    assert_eq!(launch.instance_profile.as_deref(), Some("web"));
    let volume = launch.volumes.of("/dev/sdb");
    assert_eq!((volume.kind, volume.iops), (VolumeKind::Io2, Some(3000)));
    let wave = &scene.hub.store.wave_list(&WaveFilter::default()).await.unwrap()[0];
    assert_eq!(
        (wave.account.as_ref(), wave.tags.get("Wave").map(String::as_str)),
        (None, Some("w"))
    );
    // The same again changes nothing.
    assert_eq!(
        scene.import(&text).await.summary,
        super::apply::Summary::default()
    );
}

#[tokio::test]
async fn cells_reset_delete_and_leave_alone() {
    let scene = scene().await;
    scene
        .import(&format!("{HEADER}{}", row("first", "shop", "web-1", "m5.large")))
        .await;
    let text = format!(
        "mgn:account-id,mgn:server:user-provided-id,mgn:server:tag:Name,mgn:server:tag:Owner,mgn:launch:nic:0:subnet-id,mgn:launch:nic:0:security-group-id:0,mgn:launch:iam-instance-profile:name,mgn:launch:instance-type,mgn:launch:volume:/dev/sdb:type,mgn:launch:tag:instance:Env,mgn:launch:transfer-server-tags\n\
         {MEMBER},web-1,[DELETE_TAG],[RESET_VALUE],[RESET_VALUE],[RESET_VALUE],[RESET_VALUE],,[RESET_VALUE],prod,false\n"
    );
    let done = scene.import(&text).await;
    assert_eq!(
        (done.faults.as_slice(), done.summary.servers),
        (&[][..], count(0, 1))
    );
    let server = &scene.servers().await[0];
    assert_eq!(server.tags.0, [("Owner".to_owned(), String::new())].into());
    let launch = &server.launch_configuration;
    let usual = domain::launch::LaunchConfiguration::default();
    assert_eq!(
        (&launch.target_subnet, &launch.test_subnet),
        (&usual.target_subnet, &usual.test_subnet)
    );
    assert!(launch.security_groups.is_empty() && launch.instance_profile.is_none());
    assert_eq!(launch.instance_type, "m5.large", "an empty cell says nothing");
    assert_eq!(launch.tags.get("Env").map(String::as_str), Some("prod"));
    assert!(launch.volumes.by_disk.is_empty() && !launch.copy_tags);
    assert!(server.application.is_some());
}

#[tokio::test]
async fn a_group_with_a_fault_is_left_out_as_a_whole() {
    let scene = scene().await;
    let text = format!(
        "{HEADER}{}{}{}",
        row("first", "shop", "web-1", "m5.large"),
        row("first", "shop", "db-1", "large"),
        row("first", "mail", "mx-1", "m5.large")
    );
    let done = scene.import(&text).await;
    assert_eq!((done.rows, done.left_out), (3, 2));
    let at: Vec<_> = done
        .faults
        .iter()
        .map(|fault| (fault.row, fault.column.as_str()))
        .collect();
    assert_eq!(at, [(3, "mgn:launch:instance-type")]);
    let names: Vec<_> = scene
        .servers()
        .await
        .into_iter()
        .map(|server| server.hostname)
        .collect();
    assert_eq!(names, ["mx-1"]);
    let applications = scene
        .hub
        .store
        .application_list(&ApplicationFilter::default())
        .await
        .unwrap();
    assert_eq!(applications.len(), 1);
    for (text, says) in [
        (
            "mgn:account-id,mgn:server:id\n111122223333,s-00000000000000001\n",
            "does not exist in account",
        ),
        (
            "mgn:account-id,mgn:app:id\n111122223333,app-00000000000000001\n",
            "does not exist in account",
        ),
        (
            "mgn:account-id,mgn:wave:id\n111122223333,wave-00000000000000001\n",
            "does not exist",
        ),
        (
            "mgn:account-id,mgn:app:name\n999999999999,a\n",
            "does not exist here",
        ),
        (
            "mgn:account-id,mgn:region,mgn:app:name\n111122223333,us-east-1,a\n",
            "is worked in in eu-central-1",
        ),
        (
            "mgn:account-id,mgn:app:name,no\n111122223333,a,b\n",
            "is no column",
        ),
    ] {
        let done = scene.import(text).await;
        assert!(
            done.faults.len() == 1 && done.faults[0].message.contains(says),
            "{text}: {:?}",
            done.faults
        );
        assert_eq!(done.summary, super::apply::Summary::default(), "{text}");
    }
}

#[tokio::test]
async fn what_is_named_in_two_ways_is_left_out_in_both() {
    let scene = scene().await;
    scene
        .import(&format!("{HEADER}{}", row("first", "shop", "web-1", "m5.large")))
        .await;
    let id = scene.servers().await[0].application.clone().unwrap().to_string();
    let text = format!(
        "mgn:account-id,mgn:app:id,mgn:app:name,mgn:app:description,mgn:server:user-provided-id\n\
         {MEMBER},{id},,Sells,web-1\n{MEMBER},,shop,,web-2\n{MEMBER},,mail,,mx-1\n"
    );
    let done = scene.import(&text).await;
    let rows: Vec<_> = done.faults.iter().map(|fault| fault.row).collect();
    assert_eq!((rows, done.left_out), (vec![2, 3], 2));
    let made = done.summary;
    assert_eq!((made.applications, made.servers), (count(1, 0), count(1, 0)));
}

#[tokio::test]
async fn what_is_given_out_is_taken_in_without_a_change() {
    let scene = scene().await;
    let servers: String = (0..5)
        .map(|number| row("first", "shop", &format!("web-{number}"), "m5.large"))
        .collect();
    scene.import(&format!("{HEADER}{servers}")).await;
    scene
        .import(&format!("mgn:account-id,mgn:wave:name\n{MEMBER},alone\n"))
        .await;
    scene
        .import(&format!("mgn:account-id,mgn:app:name\n{MEMBER},lonely\n"))
        .await;
    // Names that spreadsheets would compute, and letters that they get wrong.
    let server = scene.servers().await.remove(0);
    let mut tx = scene.hub.store.begin().await.unwrap();
    let tags = [
        ("Formula", "=1+1"),
        ("Quoted", "'=x"),
        ("名前", "東京, \"本社\"\r\n2"),
    ];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    tx.server_update(&server, |row| row.tags = Set(Doc(tags.into())))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let before = (scene.servers().await, scene.exported().await);
    assert!(before.1.starts_with('\u{feff}') && before.1.contains("'=1+1"));
    let done = scene.import(&before.1).await;
    assert_eq!((done.faults.as_slice(), done.rows), (&[][..], 7));
    assert_eq!(done.summary, super::apply::Summary::default());
    assert_eq!((scene.servers().await, scene.exported().await), before);
}

#[tokio::test]
async fn nobody_imports_where_they_have_no_role() {
    let scene = scene().await;
    let account: AccountId = MEMBER.parse().unwrap();
    let grant = |role| Grant {
        role,
        scope: Scope::Account(account.clone()),
    };
    let text = format!("{HEADER}{}", row("first", "shop", "web-1", "m5.large"));
    let viewer = Actor::new("viewer", [grant(UserRole::Viewer)]);
    let refused = inventory::import(&scene.hub, &viewer, &text, None, true).await;
    assert!(
        matches!(refused, Err(crate::actions::ActionError::Forbidden { .. })),
        "{refused:?}"
    );
    let delegate = Actor::new("delegate", [grant(UserRole::Operator)]);
    let done = inventory::import(&scene.hub, &delegate, &text, None, false)
        .await
        .unwrap();
    assert_eq!(
        (done.faults.as_slice(), done.summary.servers),
        (&[][..], count(1, 0))
    );
    let wave = &scene.hub.store.wave_list(&WaveFilter::default()).await.unwrap()[0];
    assert_eq!(
        wave.account.as_ref().map(|own| &own.0),
        Some(&account),
        "of the own account alone"
    );
    let elsewhere = "mgn:account-id,mgn:app:name\n444455556666,a\n";
    let done = inventory::import(&scene.hub, &delegate, elsewhere, None, false)
        .await
        .unwrap();
    assert!(
        done.faults[0].message.contains("does not exist here"),
        "{:?}",
        done.faults
    );
}

#[tokio::test]
async fn ten_thousand_rows_take_seconds() {
    let scene = scene().await;
    let rows: String = (0..10_000)
        .map(|number| {
            row(
                "first",
                &format!("app-{}", number / 100),
                &format!("server-{number}"),
                "m5.large",
            )
        })
        .collect();
    let begun = Instant::now();
    let done = scene.import(&format!("{HEADER}{rows}")).await;
    let taken = begun.elapsed();
    assert_eq!(
        (done.faults.as_slice(), done.summary.servers),
        (&[][..], count(10_000, 0))
    );
    let begun = Instant::now();
    let text = scene.exported().await;
    let given = begun.elapsed();
    let begun = Instant::now();
    let again = scene.import(&text).await;
    assert_eq!(again.summary, super::apply::Summary::default());
    println!(
        "10,000 rows: imported in {taken:.1?}, exported in {given:.1?}, found unchanged in {:.1?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_file_is_carried_out_once_by_who_handed_it_in() {
    let scene = scene().await;
    let text = format!("{HEADER}{}", row("第一", "shop", "web-1", "m5.large"));
    let bytes = encoding_rs::SHIFT_JIS.encode(&text).0.into_owned();
    let hub = &scene.hub;
    let id = inventory::hand_in(hub, &scene.ada, "wave.csv", &bytes, None)
        .await
        .unwrap();
    let grace = fixtures::add_user(hub, "grace", UserRole::Administrator, "correct horse").await;
    assert!(inventory::carry_out(hub, &grace, &id).await.is_err());
    let done = inventory::carry_out(hub, &scene.ada, &id).await.unwrap();
    assert_eq!(done.summary.waves, count(1, 0));
    assert_eq!(
        hub.store.wave_list(&WaveFilter::default()).await.unwrap()[0].name,
        "第一"
    );
    assert!(inventory::carry_out(hub, &scene.ada, &id).await.is_err());
    let kept = hub.store.import(&id, "ada").await.unwrap();
    assert_eq!(kept.outcome.0, Some(done));
}
