//! Many accounts: one that no organization lists, and one that refuses us.

use cloud::{
    control::SERVER_TAG,
    folder::faults::{Effect, Fault},
    layers::LayerStore,
    snapshots::{SnapshotSpec, SnapshotStore},
};
use domain::ids::AccountId;
use lab::{
    programs::folder_under_test,
    wait::{Look, eventually},
    world::{AccountPlan, hub::HubSettings},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::scene::{MIB, SOON, Scene, account};

impl Scene {
    /// Waits until the hub has looked at an account, and `is` likes what it shows of it.
    async fn shows_account(&self, what: &str, id: &AccountId, is: impl Fn(&Value) -> bool) -> Value {
        let look = || async {
            let api = &self.world.hub.api;
            let answer: Value = api.call(Method::GET, "/api/v1/accounts", None).await?;
            let rows = answer["items"].as_array().cloned().unwrap_or_default();
            let own = rows.iter().find(|row| row["id"] == json!(id));
            Ok(match own {
                Some(row) if is(row) => Look::Seen(row.clone()),
                _ => Look::NotYet(answer.to_string()),
            })
        };
        eventually(what, SOON, look).await.unwrap()
    }

    /// What `orglift-hub resources` says, and its exit code.
    async fn resources(&self, more: &[&str]) -> (i32, String) {
        let program = folder_under_test().unwrap().join("orglift-hub");
        let cloud = format!("folder:{}", self.world.cloud.root().display());
        let output = tokio::process::Command::new(program)
            .args(["resources", "--cloud", &cloud, "--dir"])
            .arg(self.world.plan.dir.join("hub"))
            .args(more)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    async fn refresh_accounts(&self) {
        let api = &self.world.hub.api;
        let path = "/api/v1/accounts/refresh";
        api.call::<Value>(Method::POST, path, None).await.unwrap();
    }
}

fn access(row: &Value) -> &str {
    row["access"]["access"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_account_that_the_organization_cannot_see_is_migrated_like_any_other() {
    let tenant = AccountPlan {
        in_organization: false,
        ..account("210000000002", "tenant")
    };
    let inside = account("210000000001", "production");
    let scene = Scene::with_accounts(HubSettings::default(), vec![tenant.clone(), inside.clone()]).await;
    let own = scene
        .shows_account("the tenant lets us in", &tenant.id, |row| access(row) == "OK")
        .await;
    let other = scene
        .shows_account("so does the organization", &inside.id, |row| access(row) == "OK")
        .await;
    assert_ne!(own["organization"], other["organization"]);

    let mut server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.launches("StartTest", &id).await.unwrap();
    let api = &scene.world.hub.api;
    api.mark_ready_for_cutover(&tenant.id, &id).await.unwrap();
    scene.cuts_over_equal(&mut server).await;
    api.server_operation("FinalizeCutover", &tenant.id, &id)
        .await
        .unwrap();
    scene.until_state(&server, "CUTOVER").await;
    // Nothing of it is shown to, or in, the other account.
    assert!(api.servers(&inside.id).await.unwrap().is_empty());
    let foreign = api.server(&inside.id, &id).await;
    assert!(foreign.is_err(), "{foreign:?}");
}

#[tokio::test]
async fn an_account_that_refuses_us_is_shown_with_its_remedy_and_the_others_go_on() {
    let (good, refusing) = (
        account("210000000001", "production"),
        account("210000000002", "locked"),
    );
    let mut scene = Scene::with_accounts(HubSettings::default(), vec![good.clone(), refusing.clone()]).await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    let remedy = "let the hub's role be assumed in 210000000002".to_owned();
    let fault = Fault::new(Effect::Deny {
        remedy: remedy.clone(),
    });
    let faults = scene.world.cloud.faults();
    faults.set(&[fault.in_account(refusing.id.as_str())]).unwrap();
    scene.refresh_accounts().await;
    let row = scene
        .shows_account("the refusal is shown", &refusing.id, |row| {
            access(row) == "DENIED"
        })
        .await;
    assert_eq!(row["access"]["remedy"], json!(remedy));
    assert_eq!(row["access"]["call"], "GetCallerIdentity");
    scene
        .shows_account("the other is well", &good.id, |row| access(row) == "OK")
        .await;
    let (code, said) = scene.resources(&[]).await;
    assert_eq!(code, 3, "one of two: {said}");
    assert!(said.contains(&remedy), "{said}");
    let (code, said) = scene.resources(&["--account", refusing.id.as_str()]).await;
    assert_eq!(code, 4, "none: {said}");
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.launches("StartTest", &id).await.unwrap();

    faults.set(&[]).unwrap();
    scene.refresh_accounts().await;
    scene
        .shows_account("the account lets us in", &refusing.id, |row| access(row) == "OK")
        .await;
    let (code, said) = scene.resources(&[]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("1 instance (i-") && said.contains(" USD a month"),
        "{said}"
    );
    assert!(
        said.contains("2 accounts and regions: 2 have nothing but what is needed"),
        "{said}"
    );
    // Somebody else's snapshot with our mark: a folder's store has one writer.
    scene.runner_mut().kill().unwrap();
    let place = scene.world.cloud.place(&scene.account.place());
    let store = LayerStore::open(place.snapshots()).unwrap();
    let spec = SnapshotSpec {
        parent: None,
        bytes: MIB,
        disk: "disk-1".parse().unwrap(),
        tags: [(SERVER_TAG.to_owned(), "s-99999999999999999".to_owned())].into(),
    };
    let stray = store.start(&spec).await.unwrap();
    store.commit(&stray).await.unwrap();
    let (code, said) = scene.resources(&["--account", good.id.as_str()]).await;
    assert_eq!(code, 5, "{said}");
    assert!(
        said.contains(&format!("snapshot {stray}: no source server of this hub")),
        "{said}"
    );
}
