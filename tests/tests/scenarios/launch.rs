//! What a launch does when the checkpoint or the cloud does not play along: it says why, and leaves the
//! account and the server as they were.

use cloud::{
    control::ResourceKind,
    folder::faults::{Call, Effect, Fault},
};
use domain::ids::SourceServerId;
use lab::{
    source::compare::first_difference_of_all,
    wait::{Look, eventually},
    world::{api::Job, hub::HubSettings, server::Server},
};
use serde_json::{Value, json};

use crate::{
    replica::write_noise,
    scene::{MIB, SOON, Scene},
};

/// A line of a job's log: the event, and what it says beside.
pub type LogLine = (String, String);

impl Scene {
    /// A quiet server that is ready for a test. Another checkpoint is only taken for a launch, which waits for it for
    /// two seconds.
    pub async fn with_one_checkpoint() -> (Self, Server) {
        let scene = Self::with(HubSettings {
            checkpoint_interval_s: 3600,
            checkpoint_deadline_s: 2,
            ..HubSettings::default()
        })
        .await;
        let server = scene.quiet_server("db-1", &[4 * MIB]).await;
        scene.until_state(&server, "READY_FOR_TEST").await;
        (scene, server)
    }

    /// Starts a launch, and waits until its job has ended, however it ends.
    pub async fn launch_ends(&self, operation: &str, body: Value) -> (Job, Vec<LogLine>) {
        let api = &self.world.hub.api;
        let started: Value = api.mgn(operation, body).await.unwrap();
        let id = started["job"]["jobID"].as_str().unwrap().to_owned();
        let ended = || async {
            let job = api.job(&self.account.id, &id).await?;
            Ok(if job.status == "COMPLETED" {
                Look::Seen(job)
            } else {
                Look::NotYet(format!("{job:?}"))
            })
        };
        let job = eventually("the job ends", SOON, ended).await.unwrap();
        let log = self.log_of(&id).await.unwrap();
        (job, log)
    }

    pub async fn log_of(&self, job: &str) -> anyhow::Result<Vec<LogLine>> {
        let body = json!({ "accountID": self.account.id, "jobID": job });
        let log: Value = self.world.hub.api.mgn("DescribeJobLogItems", body).await?;
        let lines = log["items"].as_array().into_iter().flatten().map(|line| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&line["event"]), text(&line["eventData"]["rawError"]))
        });
        Ok(lines.collect())
    }

    pub fn launch_of(&self, id: &SourceServerId) -> Value {
        json!({ "accountID": self.account.id, "sourceServerIDs": [id] })
    }

    pub async fn has_launched_nothing(&self) {
        for kind in [ResourceKind::Instance, ResourceKind::Image] {
            assert_eq!(self.inventory(kind).await, [""; 0]);
        }
    }
}

/// What the log says of an event; fails if there is no such line.
pub fn said(log: &[LogLine], event: &str) -> String {
    let line = log.iter().find(|(name, _)| name == event);
    let (_, detail) = line.unwrap_or_else(|| panic!("no {event} in {log:?}"));
    detail.clone()
}

#[tokio::test]
async fn a_launch_never_takes_an_old_checkpoint_unless_the_operator_accepts_its_age() {
    let (scene, mut server) = Scene::with_one_checkpoint().await;
    let id = server.id().unwrap();
    let old = scene.copy_of(&server, "old");
    server.agent().unwrap().pause().unwrap();
    write_noise(&server.disks()[0], MIB, MIB);

    let (job, log) = scene.launch_ends("StartTest", scene.launch_of(&id)).await;
    assert_eq!(job.participant(&id).unwrap().launch_status, "FAILED");
    let refused = said(&log, "SNAPSHOT_FAIL");
    assert!(
        refused.contains("no fresh checkpoint") && refused.contains("was not accepted"),
        "{refused}"
    );
    scene.until_state(&server, "READY_FOR_TEST").await;
    scene.has_launched_nothing().await;

    let api = &scene.world.hub.api;
    api.mark_ready_for_cutover(&scene.account.id, &id).await.unwrap();
    let mut accepting = scene.launch_of(&id);
    accepting["acceptOlderThanSeconds"] = 1.into();
    let (job, log) = scene.launch_ends("StartCutover", accepting.clone()).await;
    assert_eq!(job.participant(&id).unwrap().launch_status, "FAILED");
    let refused = said(&log, "SNAPSHOT_FAIL");
    assert!(refused.contains("older than the 1 s"), "{refused}");
    scene.until_state(&server, "READY_FOR_CUTOVER").await;
    scene.has_launched_nothing().await;

    accepting["acceptOlderThanSeconds"] = 3600.into();
    let (job, log) = scene.launch_ends("StartCutover", accepting).await;
    let using = said(&log, "USING_PREVIOUS_SNAPSHOT");
    assert!(using.contains("s ago"), "{using}");
    let volumes = scene.volumes(job.launched(&id).unwrap()).await;
    assert_eq!(first_difference_of_all(&old, &volumes).unwrap(), None);
    server.agent().unwrap().resume().unwrap();
}

#[tokio::test]
async fn a_launch_that_is_denied_tells_the_remedy_undoes_itself_and_works_once_it_is_allowed() {
    let scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    for call in [Call::RegisterImage, Call::RunInstances] {
        let remedy = format!("allow ec2:{} to the role", call.name());
        let fault = Fault::new(Effect::Deny {
            remedy: remedy.clone(),
        });
        scene.world.cloud.faults().set(&[fault.on(call)]).unwrap();
        let (job, log) = scene.launch_ends("StartTest", scene.launch_of(&id)).await;
        assert_eq!(job.participant(&id).unwrap().launch_status, "FAILED");
        let why = said(&log, "LAUNCH_FAILED");
        assert!(why.contains(&remedy) && why.contains(call.name()), "{why}");
        scene.until_state(&server, "READY_FOR_TEST").await;
        scene.has_launched_nothing().await;
        assert_eq!(scene.open_in_ledger(&id).await, [""; 0]);
    }
    scene.world.cloud.faults().set(&[]).unwrap();
    scene.launches("StartTest", &id).await.unwrap();
}

#[tokio::test]
async fn a_launch_whose_every_answer_is_lost_once_makes_one_instance_and_leaves_no_image() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let id = server.id().unwrap();
    let forgotten = [
        Call::DescribeSubnets,
        Call::RegisterImage,
        Call::CreateLaunchTemplate,
        Call::RunInstances,
        Call::DescribeInstances,
        Call::DeregisterImage,
    ];
    let faults = forgotten.map(|call| Fault::new(Effect::Forget).on(call).times(1));
    scene.world.cloud.faults().set(&faults).unwrap();
    scene.cuts_over_equal(&mut server).await;
    let met = scene.world.cloud.faults().list().unwrap();
    assert!(met.iter().all(|fault| fault.hits == 1), "{met:?}");
    assert_eq!(scene.inventory(ResourceKind::Instance).await.len(), 1);
    assert_eq!(scene.inventory(ResourceKind::Image).await, [""; 0]);
    let open = scene.open_in_ledger(&id).await;
    assert_eq!(open.len(), 2, "the instance and the launch template: {open:?}");
}
