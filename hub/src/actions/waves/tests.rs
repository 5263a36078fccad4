//! Waves from the first name to the last batch, over a hub without machines.

use domain::{
    ids::{ApplicationId, SourceServerId, WaveId},
    job::LaunchEvent,
    launch::Purpose,
    lifecycle::Event,
    scope::Scope,
    wave::{RunState, Stage, Window},
};

use super::{run::Pace, *};
use crate::{
    actions::{applications, jobs},
    auth::Grant,
    entities::{runner, source_server},
    fixtures::{self, MEMBER, TestHub},
    store::servers::ServerFilter,
    tasks,
};

struct Scene {
    hub: TestHub,
    runner: runner::Model,
    ada: Actor,
    grace: Actor,
}

async fn scene() -> Scene {
    let hub = fixtures::hub().await;
    let runner = fixtures::with_runner(&hub).await;
    Scene {
        ada: fixtures::add_user(&hub, "ada", UserRole::Approver, "correct horse").await,
        grace: fixtures::add_user(&hub, "grace", UserRole::Approver, "correct horse").await,
        hub,
        runner,
    }
}

fn named(name: &str) -> Naming {
    Naming {
        name: name.into(),
        ..Naming::default()
    }
}

impl Scene {
    async fn servers(&self, count: u128) -> Vec<SourceServerId> {
        let mut ids = Vec::new();
        let mut tx = self.hub.store.begin().await.unwrap();
        for number in 1..=count {
            let row = fixtures::server(SourceServerId::from_entropy(number), &self.runner);
            let id = row.id.0.clone();
            tx.server_insert(row).await.unwrap();
            tx.server_on(&id, Event::FirstLaunchableCheckpoint).await.unwrap();
            ids.push(id);
        }
        tx.commit().await.unwrap();
        ids
    }

    /// A wave of all accounts with one application of these servers.
    async fn wave_of(&self, servers: &[SourceServerId]) -> (WaveId, ApplicationId) {
        let wave = create(&self.hub, &self.ada, None, named("first")).await.unwrap();
        let account = MEMBER.parse().unwrap();
        let application = applications::create(&self.hub, &self.ada, &account, named("shop"))
            .await
            .unwrap();
        applications::associate(&self.hub, &self.ada, &application, servers)
            .await
            .unwrap();
        associate(&self.hub, &self.ada, &wave, std::slice::from_ref(&application))
            .await
            .unwrap();
        (wave, application)
    }

    async fn approved(&self, wave: &WaveId) {
        let now = now_ms();
        let window = Window {
            from: now - 1000,
            to: now + 600_000,
        };
        plan(&self.hub, &self.ada, wave, Some(window), "CHG-7")
            .await
            .unwrap();
        submit(&self.hub, &self.ada, wave).await.unwrap();
        approve(&self.hub, &self.grace, wave).await.unwrap();
    }

    async fn run_of(&self, wave: &WaveId) -> domain::wave::Run {
        self.hub.store.wave(wave).await.unwrap().run.0.unwrap()
    }

    async fn busy(&self) -> Vec<source_server::Model> {
        let mut servers = self
            .hub
            .store
            .server_list(&ServerFilter::default())
            .await
            .unwrap();
        servers.retain(|server| server.running_job.is_some());
        servers
    }

    /// The jobs of those that are busy end.
    async fn ended(&self, failed: bool) {
        for server in self.busy().await {
            let job = server.running_job.clone().unwrap();
            let mut tx = self.hub.store.begin().await.unwrap();
            tx.participant_on(&job, &server.id, LaunchEvent::Started)
                .await
                .unwrap();
            let event = if failed {
                LaunchEvent::Failed {
                    error: "no room".into(),
                    left: Vec::new(),
                }
            } else {
                LaunchEvent::Launched {
                    instance: "i-1".into(),
                }
            };
            tx.participant_on(&job, &server.id, event).await.unwrap();
            tx.server_release(&server).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

fn conflict<T: std::fmt::Debug>(outcome: Result<T, ActionError>, says: &str) {
    match outcome {
        Err(ActionError::Conflict(why)) => assert!(why.contains(says), "{why}"),
        other => panic!("{other:?} is no conflict about {says}"),
    }
}

#[tokio::test]
async fn what_belongs_together_is_in_one_place_only() {
    let scene = scene().await;
    let (hub, ada) = (&scene.hub, &scene.ada);
    let servers = scene.servers(2).await;
    let (wave, shop) = scene.wave_of(&servers[..1]).await;
    let account: AccountId = MEMBER.parse().unwrap();
    conflict(
        applications::create(hub, ada, &account, named("shop")).await,
        "has an application “shop” already",
    );
    conflict(create(hub, ada, None, named("first")).await, "“first” already");
    // The same name in another place is another wave.
    let own = create(hub, ada, Some(&account), named("first")).await.unwrap();
    let other = applications::create(hub, ada, &account, named("other"))
        .await
        .unwrap();
    let refused = applications::associate(hub, ada, &other, &servers).await;
    assert!(
        matches!(refused, Err(ActionError::Refused(why)) if why.len() == 1 && why[0].server == servers[0])
    );
    // All or nothing.
    assert_eq!(hub.store.server(&servers[1]).await.unwrap().application, None);
    let shop_alone = std::slice::from_ref(&shop);
    conflict(
        associate(hub, ada, &own, shop_alone).await,
        "take it out there first",
    );
    conflict(delete(hub, ada, &wave).await, "take them out first");
    conflict(applications::delete(hub, ada, &shop).await, "has 1 servers");
    disassociate(hub, ada, &wave, shop_alone).await.unwrap();
    delete(hub, ada, &wave).await.unwrap();
    applications::disassociate(hub, ada, &shop, &servers[..1])
        .await
        .unwrap();
    applications::delete(hub, ada, &shop).await.unwrap();
    assert!(
        hub.store
            .application_list(&ApplicationFilter::default())
            .await
            .unwrap()
            .len()
            == 1
    );
}

#[tokio::test]
async fn a_cutover_needs_a_second_person_and_its_window() {
    let scene = scene().await;
    let (hub, ada, grace) = (&scene.hub, &scene.ada, &scene.grace);
    let servers = scene.servers(2).await;
    let (wave, shop) = scene.wave_of(&servers[..1]).await;
    let mut tx = hub.store.begin().await.unwrap();
    for server in &servers {
        tx.server_on(server, Event::MarkedReadyForCutover).await.unwrap();
    }
    tx.commit().await.unwrap();
    let start = || run::start(hub, ada, &wave, Purpose::Cutover, Pace::default());
    conflict(start().await, "was not submitted");
    conflict(submit(hub, ada, &wave).await, "no cutover window");
    let hour = 3_600_000;
    let later = Window {
        from: now_ms() + hour,
        to: now_ms() + 2 * hour,
    };
    plan(hub, ada, &wave, Some(later), " CHG-1 ").await.unwrap();
    submit(hub, ada, &wave).await.unwrap();
    conflict(approve(hub, ada, &wave).await, "a second person");
    conflict(start().await, "a second person has to");
    approve(hub, grace, &wave).await.unwrap();
    conflict(start().await, "not within its cutover window");
    // Another server is another plan.
    applications::associate(hub, ada, &shop, &servers[1..])
        .await
        .unwrap();
    let row = hub.store.wave(&wave).await.unwrap();
    assert_eq!(stage(hub, &row).await.unwrap(), Stage::Draft);
    scene.approved(&wave).await;
    start().await.unwrap();
    conflict(start().await, "are being launched");
    conflict(archive(hub, ada, &wave, true).await, "are being launched");
    conflict(disassociate(hub, ada, &wave, &[shop]).await, "are being launched");
}

#[tokio::test]
async fn batches_follow_one_another_until_too_much_fails() {
    let scene = scene().await;
    let (hub, ada) = (&scene.hub, &scene.ada);
    let servers = scene.servers(5).await;
    let (wave, _) = scene.wave_of(&servers).await;
    // One of them is busy with something else, and counts.
    jobs::start_test(hub, ada, &servers[4..]).await.unwrap();
    let pace = Pace {
        at_once: 3,
        failures_allowed: 1,
    };
    run::start(hub, ada, &wave, Purpose::Test, pace).await.unwrap();
    let begun = scene.run_of(&wave).await;
    assert_eq!((begun.waiting.len(), begun.refused.len()), (4, 1));
    assert!(begun.refused[0].1.contains("works on it"), "{:?}", begun.refused);
    tasks::waves::advance_all(hub).await.unwrap();
    tasks::waves::advance_all(hub).await.unwrap();
    assert_eq!(scene.busy().await.len(), 3, "two of the wave, and the one before");
    assert_eq!(scene.run_of(&wave).await.jobs.len(), 1);
    scene.ended(true).await;
    tasks::waves::advance_all(hub).await.unwrap();
    let held = scene.run_of(&wave).await;
    assert!(
        matches!(&held.state, RunState::Held { why } if why.contains("2 of its launches failed")),
        "{held:?}"
    );
    assert_eq!((held.failed, held.waiting.len()), (2, 2));
    tasks::waves::advance_all(hub).await.unwrap();
    assert!(scene.busy().await.is_empty(), "nothing new while it is held");
    run::resume(hub, &scene.grace, &wave).await.unwrap();
    tasks::waves::advance_all(hub).await.unwrap();
    assert_eq!(scene.busy().await.len(), 2);
    let job = scene.run_of(&wave).await.jobs[1].clone();
    let filter = crate::store::jobs::JobFilter {
        ids: vec![job],
        ..Default::default()
    };
    let job = &hub.store.job_list(&filter).await.unwrap()[0];
    assert_eq!(job.created_by, "grace", "who lets it go on answers for it");
    assert_eq!(
        job.tags.get("orglift:wave").map(String::as_str),
        Some(wave.as_str())
    );
    scene.ended(false).await;
    tasks::waves::advance_all(hub).await.unwrap();
    assert!(matches!(scene.run_of(&wave).await.state, RunState::Ended { .. }));
}

#[tokio::test]
async fn a_run_stops_with_the_rights_of_who_began_it() {
    let scene = scene().await;
    let hub = &scene.hub;
    let servers = scene.servers(1).await;
    let (wave, _) = scene.wave_of(&servers).await;
    let pace = Pace::default();
    run::start(hub, &scene.ada, &wave, Purpose::Test, pace)
        .await
        .unwrap();
    let mut tx = hub.store.begin().await.unwrap();
    tx.user_delete("ada").await.unwrap();
    tx.commit().await.unwrap();
    tasks::waves::advance_all(hub).await.unwrap();
    let run = scene.run_of(&wave).await;
    assert!(
        matches!(&run.state, RunState::Held { why } if why.contains("ada")),
        "{run:?}"
    );
    run::end(hub, &scene.grace, &wave).await.unwrap();
    conflict(run::end(hub, &scene.grace, &wave).await, "it has ended");
}

#[tokio::test]
async fn a_part_of_a_shared_wave_is_seen_and_not_moved() {
    let scene = scene().await;
    let (hub, ada) = (&scene.hub, &scene.ada);
    let servers = scene.servers(1).await;
    let (wave, _) = scene.wave_of(&servers).await;
    let account: AccountId = MEMBER.parse().unwrap();
    let delegate = Actor::new(
        "delegate",
        [Grant {
            role: UserRole::Administrator,
            scope: Scope::Account(account.clone()),
        }],
    );
    let seen = hub.store.seen_by(&delegate);
    assert_eq!(seen.wave(&wave).await.unwrap().name, "first");
    let moved = run::start(hub, &delegate, &wave, Purpose::Test, Pace::default()).await;
    assert!(matches!(moved, Err(ActionError::Forbidden { .. })), "{moved:?}");
    let elsewhere = create(hub, ada, None, named("elsewhere")).await.unwrap();
    assert!(seen.wave(&elsewhere).await.is_err());
    let refused = create(hub, &delegate, None, named("mine")).await;
    assert!(
        matches!(refused, Err(ActionError::Forbidden { .. })),
        "{refused:?}"
    );
    let own = create(hub, &delegate, Some(&account), named("mine"))
        .await
        .unwrap();
    assert_eq!(seen.wave(&own).await.unwrap().name, "mine");
}
