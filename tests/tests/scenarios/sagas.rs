//! The hub dies at each call into an account, before the call is done and after it. Started again, it
//! finishes the job; nothing is made twice, and nothing stays behind.

use cloud::{
    control::ResourceKind,
    folder::faults::{Call, Effect, Fault},
};
use domain::ids::SourceServerId;
use lab::{
    network::Wire,
    source::compare::first_difference_of_all,
    wait::{Look, eventually},
};
use reqwest::Method;
use serde_json::Value;

use crate::scene::{MIB, SOON, Scene};

impl Scene {
    /// Kills the hub while it is in `call`, lifts the fault, and starts the hub again.
    async fn kill_hub_in(&mut self, call: Call, effect: Effect) {
        let faults = self.world.cloud.faults();
        let met = || async {
            let hits = faults.list()?.first().map_or(0, |fault| fault.hits);
            Ok(Look::when(hits > 0, hits))
        };
        eventually(&format!("the hub is in {}", call.name()), SOON, met)
            .await
            .unwrap_or_else(|error| panic!("{effect:?}: {error:#}"));
        self.world.hub.kill().unwrap();
        faults.set(&[]).unwrap();
        self.world.hub.restart().await.unwrap();
    }

    fn holds(&self, call: Call, effect: &Effect) {
        let fault = Fault::new(effect.clone())
            .on(call)
            .in_account(self.account.id.as_str());
        self.world.cloud.faults().set(&[fault]).unwrap();
    }

    /// What the ledger says of resources that somebody must still look after.
    pub async fn open_in_ledger(&self, id: &SourceServerId) -> Vec<String> {
        let path = format!("/api/v1/servers/{id}");
        let answer: Value = self.world.hub.api.call(Method::GET, &path, None).await.unwrap();
        let rows = answer["ledger"].as_array().cloned().unwrap_or_default();
        assert!(!rows.is_empty(), "{answer}");
        let open = rows.iter().filter(|row| row["endedAt"].is_null());
        open.map(ToString::to_string).collect()
    }

    async fn start_test(&self, id: &SourceServerId) -> String {
        let api = &self.world.hub.api;
        api.launch("StartTest", &self.account.id, id).await.unwrap().id
    }
}

#[tokio::test]
async fn a_launch_survives_the_hubs_death_in_every_call() {
    let mut scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    for call in [
        Call::RegisterImage,
        Call::RunInstances,
        Call::DescribeInstances,
        Call::DeregisterImage,
    ] {
        for effect in [Effect::HoldBefore, Effect::HoldAfter] {
            scene.holds(call, &effect);
            let job = scene.start_test(&id).await;
            scene.kill_hub_in(call, effect).await;
            let api = scene.world.hub.api.clone();
            let instance = api.launched(&scene.account.id, &job, &id, SOON).await.unwrap();
            assert_eq!(
                scene.inventory(ResourceKind::Instance).await,
                [instance],
                "{call:?}"
            );
            assert!(scene.inventory(ResourceKind::Image).await.len() <= 1, "{call:?}");
        }
    }
    // Each of the launches took the instance of the one before away: that survives as well.
    for effect in [Effect::HoldBefore, Effect::HoldAfter] {
        scene.holds(Call::TerminateInstances, &effect);
        let job = scene.start_test(&id).await;
        scene.kill_hub_in(Call::TerminateInstances, effect).await;
        let api = scene.world.hub.api.clone();
        let instance = api.launched(&scene.account.id, &job, &id, SOON).await.unwrap();
        assert_eq!(scene.inventory(ResourceKind::Instance).await, [instance]);
    }
}

#[tokio::test]
async fn a_cutover_survives_the_hubs_death_in_every_call_and_its_volumes_equal_the_source() {
    let mut scene = Scene::new().await;
    let mut server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.launches("StartTest", &id).await.unwrap();
    let api = scene.world.hub.api.clone();
    api.mark_ready_for_cutover(&scene.account.id, &id).await.unwrap();
    server.hold().unwrap();
    let mut instances = Vec::new();
    for call in [
        Call::TerminateInstances,
        Call::RegisterImage,
        Call::RunInstances,
        Call::DescribeInstances,
        Call::DeregisterImage,
    ] {
        for effect in [Effect::HoldBefore, Effect::HoldAfter] {
            scene.holds(call, &effect);
            let job = api.launch("StartCutover", &scene.account.id, &id).await.unwrap();
            scene.kill_hub_in(call, effect).await;
            let api = scene.world.hub.api.clone();
            let launched = api.launched(&scene.account.id, &job.id, &id, SOON).await;
            instances = vec![launched.unwrap()];
            assert_eq!(
                scene.inventory(ResourceKind::Instance).await,
                instances,
                "{call:?}"
            );
            assert_eq!(scene.inventory(ResourceKind::Image).await, [""; 0], "{call:?}");
            assert_eq!(scene.open_in_ledger(&id).await.len(), 2, "{call:?}");
        }
    }
    let volumes = scene.volumes(&instances[0]).await;
    assert_eq!(first_difference_of_all(&server.disks(), &volumes).unwrap(), None);
}

#[tokio::test]
async fn terminating_survives_the_hubs_death_and_leaves_no_instance() {
    let mut scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    for (call, effect) in [
        (Call::TerminateInstances, Effect::HoldBefore),
        (Call::TerminateInstances, Effect::HoldAfter),
        (Call::DescribeInstances, Effect::HoldAfter),
    ] {
        scene.launches("StartTest", &id).await.unwrap();
        let api = scene.world.hub.api.clone();
        let state = serde_json::json!({ "state": "READY_FOR_TEST" });
        let back = serde_json::json!({
            "accountID": scene.account.id, "sourceServerID": id, "lifeCycle": state
        });
        api.mgn::<Value>("ChangeServerLifeCycleState", back)
            .await
            .unwrap();
        scene.holds(call, &effect);
        let job = api
            .launch("TerminateTargetInstances", &scene.account.id, &id)
            .await
            .unwrap();
        scene.kill_hub_in(call, effect).await;
        let ended = || async {
            let job = scene.world.hub.api.job(&scene.account.id, &job.id).await?;
            let done = job.status == "COMPLETED";
            Ok(Look::when(done, job))
        };
        eventually("the job ends", SOON, ended).await.unwrap();
        assert_eq!(scene.inventory(ResourceKind::Instance).await, [""; 0], "{call:?}");
        // The launch template stays as long as the server may be launched.
        assert_eq!(scene.open_in_ledger(&id).await.len(), 1, "{call:?}");
    }
}

#[tokio::test]
async fn a_launch_survives_the_hubs_death_at_any_moment() {
    let mut scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    for _ in 0..8 {
        let job = scene.start_test(&id).await;
        // A launch takes about half a second.
        let moment = std::time::Duration::from_millis(rand::random_range(0..600));
        tokio::time::sleep(moment).await;
        scene.world.hub.kill().unwrap();
        scene.world.hub.restart().await.unwrap();
        let api = scene.world.hub.api.clone();
        let instance = api.launched(&scene.account.id, &job, &id, SOON).await;
        let instance = instance.unwrap_or_else(|error| panic!("killed after {moment:?}: {error:#}"));
        assert_eq!(scene.inventory(ResourceKind::Instance).await, [instance]);
        assert_eq!(scene.inventory(ResourceKind::Image).await, [""; 0]);
        assert_eq!(scene.inventory(ResourceKind::LaunchTemplate).await.len(), 1);
        assert_eq!(scene.open_in_ledger(&id).await.len(), 2);
    }
}

#[tokio::test]
async fn a_launch_survives_the_hubs_death_while_it_waits_for_its_checkpoint() {
    let mut scene = Scene::without_schedule().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.network().set(Wire::Stalled);
    let job = scene.start_test(&id).await;
    scene.world.hub.kill().unwrap();
    scene.network().restore();
    scene.world.hub.restart().await.unwrap();
    let api = scene.world.hub.api.clone();
    let instance = api.launched(&scene.account.id, &job, &id, SOON).await.unwrap();
    assert_eq!(scene.inventory(ResourceKind::Instance).await, [instance]);
}

#[tokio::test]
async fn finalizing_survives_the_hubs_death_and_leaves_the_instance_alone() {
    let mut scene = Scene::new().await;
    let mut server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    scene.launches("StartTest", &id).await.unwrap();
    let api = scene.world.hub.api.clone();
    api.mark_ready_for_cutover(&scene.account.id, &id).await.unwrap();
    scene.cuts_over_equal(&mut server).await;

    // The runner is to forget the server, and does not hear it yet.
    scene.runner().process().unwrap().pause().unwrap();
    api.server_operation("FinalizeCutover", &scene.account.id, &id)
        .await
        .unwrap();
    let started = || async {
        let jobs = api.jobs(&scene.account.id).await?;
        let mut running = jobs.iter().filter(|job| job.status == "STARTED");
        Ok(Look::when(running.next().is_some(), jobs.first()))
    };
    eventually("the job is started", SOON, started).await.unwrap();
    scene.world.hub.kill().unwrap();
    scene.runner().process().unwrap().resume().unwrap();
    scene.world.hub.restart().await.unwrap();

    scene.until_state(&server, "CUTOVER").await;
    let clean = || async {
        let mut left = scene.inventory(ResourceKind::Snapshot).await;
        left.extend(scene.inventory(ResourceKind::Image).await);
        Ok(Look::when(left.is_empty(), left))
    };
    eventually("snapshots and images are gone", SOON, clean)
        .await
        .unwrap();
    assert_eq!(scene.inventory(ResourceKind::Instance).await.len(), 1);
    assert_eq!(scene.open_in_ledger(&id).await, [""; 0]);
}

#[tokio::test]
async fn a_launch_whose_answers_are_lost_or_throttled_makes_one_instance() {
    let scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    let faults = [
        Fault::new(Effect::Forget).on(Call::RegisterImage).times(1),
        Fault::new(Effect::Forget).on(Call::RunInstances).times(1),
        Fault::new(Effect::Throttle).on(Call::RunInstances).times(1),
    ];
    scene.world.cloud.faults().set(&faults).unwrap();
    let instance = scene.launches("StartTest", &id).await.unwrap();
    assert_eq!(scene.inventory(ResourceKind::Instance).await, [instance]);
}

#[tokio::test]
async fn a_launch_that_the_cloud_refuses_fails_and_leaves_nothing() {
    let scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    let reason = "InsufficientInstanceCapacity".to_owned();
    let fault = Fault::new(Effect::Reject { reason }).on(Call::RunInstances);
    scene.world.cloud.faults().set(&[fault]).unwrap();
    let failed = scene.launches("StartTest", &id).await.unwrap_err();
    assert!(failed.to_string().contains("FAILED"), "{failed:#}");
    assert_eq!(scene.inventory(ResourceKind::Instance).await, [""; 0]);
    assert_eq!(scene.inventory(ResourceKind::Image).await, [""; 0]);
    scene.until_state(&server, "READY_FOR_TEST").await;
}
