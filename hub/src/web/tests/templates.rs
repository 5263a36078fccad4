//! Templates: which one counts, what changes when one does, and what a person sees of that.

use domain::{
    bandwidth::Bandwidth,
    ids::{AccountId, RunnerId, SourceServerId},
    launch::LaunchConfiguration,
    lifecycle::Lifecycle,
    scope::Scope,
};

use super::{world::server_id, *};
use crate::{
    actions::templates::{Half, keep},
    entities::user::UserRole,
};

const LAUNCH: &str = "instance_type=r5.xlarge&test_subnet=subnet-0a&target_subnet=subnet-0b&disposition=stopped&\
                      boot_mode=use-source&right_sizing=none&tenancy=default&encryption=as-snapshots&volume=&copy_tags=yes&\
                      convert=yes&tags=";
const REPLICATION: &str = "checkpoint_interval=300&checkpoints_kept=12&mbit_s=50&utc_offset=";

fn scope(account: usize) -> Scope {
    Scope::Account(ACCOUNTS[account].0.parse::<AccountId>().unwrap())
}

#[tokio::test]
async fn the_narrowest_template_counts_and_changes_nothing_by_itself() {
    let console = console().await;
    let ada = fixtures::add_user(&console.hub, "ada", UserRole::Administrator, PASSWORD).await;
    let hub = &console.hub.hub;
    let store = &hub.store;
    let of = |instance_type: &str| {
        Half::Launch(Some(Box::new(LaunchConfiguration {
            instance_type: instance_type.into(),
            ..LaunchConfiguration::default()
        })))
    };
    let before = store.server(&server_id(1)).await.unwrap();
    let account = store.account(&before.account).await.unwrap();
    let unit = format!("unit:{}:{}", account.organization, account.unit);
    keep(hub, &ada, &Scope::Everything, of("c5.large")).await.unwrap();
    keep(hub, &ada, &unit.parse().unwrap(), of("c5.xlarge"))
        .await
        .unwrap();
    let says = async || {
        let inherited = store.templates().await.unwrap().of(&account);
        inherited.launch.unwrap().1.instance_type
    };
    assert_eq!(says().await, "c5.xlarge");
    keep(hub, &ada, &scope(0), of("c5.2xlarge")).await.unwrap();
    assert_eq!(says().await, "c5.2xlarge");
    keep(hub, &ada, &scope(0), Half::Launch(None)).await.unwrap();
    assert_eq!(says().await, "c5.xlarge");
    let wrong = keep(hub, &ada, &scope(0), of("")).await.unwrap_err();
    assert!(wrong.to_string().contains("instance types"), "{wrong}");
    assert_eq!(store.server(&server_id(1)).await.unwrap(), before);

    let runner = fixtures::runner(RunnerId::from_entropy(7), &account.id);
    let properties = fixtures::properties("new");
    let new = source_server::Model::new(
        SourceServerId::from_entropy(77),
        runner.account.0.clone(),
        Lifecycle::NotReady,
        before.replication.0.clone(),
        properties,
        &hub.usual_replication(),
    );
    let configured = store
        .templates()
        .await
        .unwrap()
        .of(&account)
        .configure(new.clone());
    assert_eq!(configured.launch_configuration.instance_type, "c5.xlarge");
    // What no template says stays as the product has it.
    assert_eq!(
        configured.replication_configuration(),
        new.replication_configuration()
    );
}

#[tokio::test]
async fn a_template_is_kept_shown_and_applied_on_pages() {
    let console = console().await;
    let ada = console.sign_in("administrator").await;
    for (half, form) in [("launch", LAUNCH), ("replication", REPLICATION)] {
        let path = format!("/settings/templates/{half}?scope=everything");
        assert_eq!(console.get(&ada, &path).await.status, StatusCode::OK);
        let answer = console.post(&ada, &path, form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    }
    let settings = console.get(&ada, "/settings").await.body;
    assert!(settings.contains("r5.xlarge, tests in subnet-0a"), "{settings}");
    assert!(settings.contains("every 300 s, 12 kept"), "{settings}");
    let account = console
        .get(&ada, &format!("/accounts/{}", ACCOUNTS[0].0))
        .await
        .body;
    assert!(account.contains("of all accounts"), "{account}");

    let wrong = "checkpoint_interval=0&checkpoints_kept=many&mbit_s=fast&utc_offset=";
    let answer = console
        .post(&ada, "/settings/templates/replication?scope=everything", wrong)
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    for word in [
        "1 to 86400 seconds",
        "a number from 1 to 100",
        "whole number of Mbit/s",
    ] {
        assert!(answer.body.contains(word), "{word}: {}", answer.body);
    }

    let (path, server) = (format!("/servers/{}", server_id(1)), server_id(1));
    let page = console.get(&ada, &path).await.body;
    assert!(page.contains("settings differ"), "{page}");
    let form = console
        .get(&ada, &format!("{path}/launch-configuration"))
        .await
        .body;
    assert!(
        form.contains("The template of all accounts says: r5.xlarge"),
        "{form}"
    );
    let form = console
        .get(&ada, &format!("{path}/replication-configuration"))
        .await
        .body;
    assert!(form.contains("The template of all accounts says: 12"), "{form}");

    let row = console.hub.store.server(&server).await.unwrap();
    let mut tx = console.hub.store.begin().await.unwrap();
    tx.server_update(&row, |update| update.running_job = Set(None))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let preview = console
        .get(&ada, &format!("/bulk?action=apply-templates&server={server}"))
        .await
        .body;
    assert!(
        preview.contains("Instance type: ") && preview.contains("→ r5.xlarge"),
        "{preview}"
    );
    assert!(preview.contains("50 Mbit/s"), "{preview}");
    let form = format!("action=apply-templates&server={server}");
    let answer = console.post(&ada, "/bulk", &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let after = console.hub.store.server(&server).await.unwrap();
    assert_eq!(after.launch_configuration.instance_type, "r5.xlarge");
    assert_eq!((after.checkpoint_interval_s, after.checkpoints_kept), (300, 12));
    assert_eq!(
        after.bandwidth,
        Doc(Bandwidth {
            mbit_s: Some(50),
            ..Bandwidth::default()
        })
    );
    let preview = console
        .get(&ada, &format!("/bulk?action=apply-templates&server={server}"))
        .await
        .body;
    assert!(preview.contains("as its templates say already"), "{preview}");
}
