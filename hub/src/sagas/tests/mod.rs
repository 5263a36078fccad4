//! Every kind of saga under three harnesses, fail, repeat and crash at each step, against a real store and
//! a cloud that is only different from the real one in being made of folders.

mod cancelled;
mod world;

use cloud::control::ResourceKind;
use domain::{
    conversion::{ConversionState, Converted, Network, Rehearsal},
    ids::JobId,
    job::{InitiatedBy, JobLogEvent, LaunchStatus},
    launch::{BootMode, Hypervisor},
};
use world::{ALL_KINDS, World, ada};

use super::engine::{self, Attempt, Outcome};
use crate::{
    actions::{ActionError, jobs, lifecycle::update_launch_configuration, removal_check::removal_check},
    entities::saga::{self, Direction},
    resources::{Item, removal::Removal},
};

fn steps(kind: InitiatedBy) -> usize {
    engine::step_names(kind).len()
}

fn is_at(saga: &saga::Model, step: usize) -> bool {
    saga.direction.0 == Direction::Forward && usize::try_from(saga.position).unwrap() == step
}

/// Tries a step until it does not wait any more, and records nothing but its state.
async fn carry_out(world: &World, saga: &mut saga::Model) -> Attempt {
    loop {
        let attempt = engine::attempt(&world.hub, saga, 0).await;
        saga.state.0 = attempt.state.clone();
        match attempt.outcome {
            Outcome::Wait(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            _ => return attempt,
        }
    }
}

/// Drives the job; `tamper` may change what comes of a step.
async fn drive_tampered(
    world: &World,
    job: &JobId,
    tamper: impl AsyncFn(&mut saga::Model) -> Option<Attempt>,
) {
    while let Some(mut saga) = world.running(job).await.unwrap() {
        let attempt = match tamper(&mut saga).await {
            Some(attempt) => attempt,
            None => engine::attempt(&world.hub, &saga, 0).await,
        };
        engine::record(&world.hub, saga, attempt).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn fail_at(kind: InitiatedBy, step: usize, after_its_effect: bool) {
    let world = World::before(kind).await;
    let before = world.standing().await;
    let job = world.order(kind).await.unwrap().job;
    drive_tampered(&world, &job, async |saga| {
        if !is_at(saga, step) {
            return None;
        }
        if after_its_effect {
            carry_out(&world, saga).await;
        }
        let outcome = Outcome::Failed("it was made to fail".into());
        let state = saga.state.0.clone();
        Some(Attempt { state, outcome })
    })
    .await;
    world.assert_over(&job).await;
    let LaunchStatus::Failed { error, left } = world.status(&job).await else {
        panic!("{kind:?} {step} failed")
    };
    assert_eq!(error, "it was made to fail");
    let case = format!("{kind:?}, step {step}, after its effect: {after_its_effect}");
    let after = world.standing().await;
    assert_eq!((after.pinned, after.ordered), (0, 0), "{case}");
    match kind {
        InitiatedBy::StartTest | InitiatedBy::StartCutover => {
            assert_eq!(left, Vec::<String>::new(), "{case}");
            assert_eq!(after.lifecycle, before.lifecycle, "{case}");
            assert_eq!(after.images, 0, "{case}");
            // The previous test instance goes first of all, and does not come back.
            let removes_previous = step == 1 && after_its_effect || step > 1;
            let previous_left = kind == InitiatedBy::StartCutover && !removes_previous;
            assert_eq!(after.instances, usize::from(previous_left), "{case}");
            assert_eq!(after.templates, before.templates, "{case}");
            assert_eq!(after.open, after.instances + after.templates, "{case}");
        }
        // Nothing that was removed comes back, and nothing is hidden: the ledger and the account agree.
        InitiatedBy::Terminate | InitiatedBy::CleanUp => {
            assert_eq!(after.lifecycle, before.lifecycle, "{case}");
            assert_eq!(
                after.open,
                after.instances + after.images + after.templates,
                "{case}"
            );
        }
        InitiatedBy::FinalizeCutover | InitiatedBy::Disconnect => {
            assert_eq!(after.instances, before.instances, "{case}");
            let forgotten = step > 1 || (step == 1 && after_its_effect);
            if !forgotten {
                let cleaned_up = step > 0 || after_its_effect;
                let expected = if cleaned_up { before.cleaned_up() } else { before };
                assert_eq!(after, expected, "{case}");
            }
            assert_eq!(left.len(), usize::from(forgotten), "{case}: {left:?}");
        }
    }
}

async fn repeat_each(kind: InitiatedBy) {
    let world = World::before(kind).await;
    let job = world.order(kind).await.unwrap().job;
    drive_tampered(&world, &job, async |saga| {
        carry_out(&world, saga).await;
        Some(carry_out(&world, saga).await)
    })
    .await;
    assert_arrived(&world, kind, &job).await;
}

async fn crash_at(kind: InitiatedBy, step: usize) {
    let world = World::before(kind).await;
    let job = world.order(kind).await.unwrap().job;
    loop {
        let mut saga = world
            .running(&job)
            .await
            .unwrap()
            .expect("the crash comes before the end");
        if is_at(&saga, step) {
            carry_out(&world, &mut saga).await;
            break;
        }
        let attempt = engine::attempt(&world.hub, &saga, 0).await;
        engine::record(&world.hub, saga, attempt).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (world, engine) = world.restart().await;
    world
        .eventually("over", async |world| world.running(&job).await.unwrap().is_none())
        .await;
    world.hub.stopping.cancel();
    engine.await.unwrap();
    assert_arrived(&world, kind, &job).await;
}

/// The last step that acts fails, and the hub dies while `undone` steps are taken back already.
async fn crash_while_undoing(kind: InitiatedBy, undone: usize) {
    let world = World::before(kind).await;
    let before = world.standing().await;
    let job = world.order(kind).await.unwrap().job;
    let last = steps(kind) - 1;
    loop {
        let mut saga = world
            .running(&job)
            .await
            .unwrap()
            .expect("the crash comes before the end");
        let mut attempt = carry_out(&world, &mut saga).await;
        if is_at(&saga, last) {
            attempt.outcome = Outcome::Failed("it was made to fail".into());
        }
        let left = usize::try_from(saga.position).unwrap();
        if saga.direction.0 == Direction::Back && left == steps(kind) - undone {
            break;
        }
        engine::record(&world.hub, saga, attempt).await.unwrap();
    }
    let (world, engine) = world.restart().await;
    world
        .eventually("over", async |world| world.running(&job).await.unwrap().is_none())
        .await;
    world.hub.stopping.cancel();
    engine.await.unwrap();
    world.assert_over(&job).await;
    let status = world.status(&job).await;
    assert!(
        matches!(&status, LaunchStatus::Failed { left, .. } if left.is_empty()),
        "{status:?}"
    );
    assert_eq!(world.standing().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undoing_survives_crashes() {
    for undone in 0..steps(InitiatedBy::StartTest) {
        crash_while_undoing(InitiatedBy::StartTest, undone).await;
    }
}

async fn assert_arrived(world: &World, kind: InitiatedBy, job: &JobId) {
    world.assert_over(job).await;
    let status = world.status(job).await;
    assert!(
        !matches!(status, LaunchStatus::Failed { .. }),
        "{kind:?}: {status:?}"
    );
    // The launch template stays as long as the server may be launched.
    let (lifecycle, instances, templates, open) = match kind {
        InitiatedBy::StartTest => ("TESTING", 1, 1, 2),
        InitiatedBy::StartCutover => ("CUTTING_OVER", 1, 1, 2),
        InitiatedBy::Terminate => ("READY_FOR_TEST", 0, 1, 1),
        InitiatedBy::CleanUp => ("READY_FOR_TEST", 0, 0, 0),
        // The instance is production now, and not ours to remove.
        InitiatedBy::FinalizeCutover => ("CUTOVER", 1, 0, 0),
        InitiatedBy::Disconnect => ("DISCONNECTED", 0, 0, 0),
    };
    let expected = world::Standing {
        lifecycle: lifecycle.into(),
        images: 0,
        instances,
        templates,
        open,
        pinned: 0,
        ordered: 0,
    };
    assert_eq!(world.standing().await, expected, "{kind:?}");
}

macro_rules! harnesses {
    ($($kind:ident => $fail:ident, $repeat:ident, $crash:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fail() {
            let kind = InitiatedBy::$kind;
            for step in 0..steps(kind) {
                fail_at(kind, step, false).await;
                fail_at(kind, step, true).await;
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $repeat() {
            repeat_each(InitiatedBy::$kind).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $crash() {
            let kind = InitiatedBy::$kind;
            for step in 0..steps(kind) {
                crash_at(kind, step).await;
            }
        }
    )*};
}

harnesses! {
    StartTest => a_test_fails_cleanly, a_test_repeats, a_test_survives_crashes;
    StartCutover => a_cutover_fails_cleanly, a_cutover_repeats, a_cutover_survives_crashes;
    Terminate => a_termination_fails_cleanly, a_termination_repeats, a_termination_survives_crashes;
    FinalizeCutover => a_finalizing_fails_cleanly, a_finalizing_repeats, a_finalizing_survives_crashes;
    Disconnect => a_disconnect_fails_cleanly, a_disconnect_repeats, a_disconnect_survives_crashes;
    CleanUp => a_clean_up_fails_cleanly, a_clean_up_repeats, a_clean_up_survives_crashes;
}

#[test]
fn every_step_keeps_its_place() {
    let mut table = String::new();
    for kind in ALL_KINDS {
        use std::fmt::Write;
        writeln!(table, "{}: {}", kind.name(), engine::step_names(kind).join(", ")).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn the_log_of_a_cutover_reads_like_mgn() {
    let world = World::before(InitiatedBy::StartCutover).await;
    let job = world.order(InitiatedBy::StartCutover).await.unwrap().job;
    world.drive(&job).await;
    let expected = [
        "JOB_START",
        "CLEANUP_START",
        "CLEANUP_END",
        "SNAPSHOT_START",
        "SNAPSHOT_END",
        "CONVERSION_START",
        "CONVERSION_END",
        "LAUNCH_START",
        "JOB_END",
    ];
    assert_eq!(world.events(&job).await, expected);
    let launch = world.server().await.cutover_launch.0.unwrap();
    assert_eq!(launch.roots.len(), 1);
}

async fn detail(world: &World, job: &JobId, event: JobLogEvent) -> String {
    let events = world.hub.store.job_events(job, 0).await.unwrap();
    let found = events.into_iter().find(|row| row.event.0 == event);
    found.and_then(|row| row.detail).unwrap_or_default()
}

#[tokio::test]
async fn what_is_launched_is_what_the_runner_converted() {
    let world = World::before(InitiatedBy::StartTest).await;
    let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
    world.drive(&job).await;
    let conversion = world
        .hub
        .store
        .conversion(&job, &world.server)
        .await
        .unwrap()
        .unwrap();
    let Some(ConversionState::Done(converted)) = conversion.state.0 else {
        panic!("{:?}", conversion.state)
    };
    let order = &conversion.order;
    assert_eq!(
        (order.network, order.boot_mode),
        (Network::Dhcp, BootMode::LegacyBios)
    );
    assert_eq!(order.hypervisor, Hypervisor::Nitro);
    let saga = world.hub.store.sagas_of_job(&job).await.unwrap().remove(0);
    assert_eq!(
        saga.state.0["chosen"]["disks"][0]["snapshot"],
        converted.disks[0].snapshot
    );
    let ended = detail(&world, &job, JobLogEvent::ConversionEnd).await;
    assert_eq!(ended, "12 changes; 40 MiB read and 3 MiB written in 8.4 s");
    world
        .eventually("without what was converted", async |world| {
            !world.has_snapshot(&converted.disks[0].snapshot).await
        })
        .await;
}

#[tokio::test]
async fn disks_that_are_not_to_be_converted_are_launched_as_they_are() {
    let world = World::before(InitiatedBy::StartTest).await;
    update_launch_configuration(&world.hub, &ada(), &world.server, |kept| kept.convert = false)
        .await
        .unwrap();
    let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
    world.drive(&job).await;
    assert_arrived(&world, InitiatedBy::StartTest, &job).await;
    assert!(
        world
            .hub
            .store
            .conversion(&job, &world.server)
            .await
            .unwrap()
            .is_none()
    );
    assert!(!world.events(&job).await.contains(&"CONVERSION_START"));
    let said = detail(&world, &job, JobLogEvent::LaunchStart).await;
    assert!(said.contains("as they are"), "{said}");
}

#[tokio::test]
async fn a_conversion_that_fails_ends_the_launch_and_leaves_nothing() {
    let rehearsal = Rehearsal {
        came_up: false,
        verdict: "the kernel panicked".into(),
        milliseconds: 61_200,
        accelerator: "tcg".into(),
    };
    let failed = ConversionState::Failed {
        step: "rehearse".into(),
        detail: "the converted disks do not come up: the kernel panicked".into(),
        rehearsal: Some(rehearsal),
    };
    let nameless = ConversionState::Done(Converted {
        disks: vec![],
        changes: 0,
        bytes_read: 0,
        bytes_written: 0,
        milliseconds: 0,
        rehearsal: None,
    });
    let said = "rehearse: the converted disks do not come up: the kernel panicked";
    for (state, expected) in [
        (failed, said),
        (nameless, "the runner names no converted disk for /dev/sda"),
    ] {
        let world = World::before(InitiatedBy::StartTest).await;
        let before = world.standing().await;
        let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
        world.runner_says(&job, state).await;
        world.drive(&job).await;
        let LaunchStatus::Failed { error, left } = world.status(&job).await else {
            panic!("it failed")
        };
        assert_eq!(error, format!("the conversion failed: {expected}"));
        assert_eq!(detail(&world, &job, JobLogEvent::ConversionFail).await, expected);
        assert!(left.is_empty());
        assert_eq!(world.standing().await, before);
    }
}

#[tokio::test]
async fn a_runner_that_is_away_is_waited_for_until_the_deadline() {
    let world = World::before(InitiatedBy::StartTest).await;
    let before = world.standing().await;
    let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
    let state = ConversionState::Running {
        step: "initramfs".into(),
    };
    world.runner_says(&job, state).await;
    let mut saga = world.running(&job).await.unwrap().unwrap();
    let attempt = engine::attempt(&world.hub, &saga, 0).await;
    let Outcome::Wait(what) = attempt.outcome else {
        panic!("{:?}", attempt.outcome)
    };
    assert!(what.ends_with("converts checkpoint 2: initramfs"), "{what}");

    let deadline = i64::try_from(world.hub.settings.conversion_deadline.as_millis()).unwrap();
    saga.step_since -= deadline;
    let attempt = engine::attempt(&world.hub, &saga, 0).await;
    assert!(
        matches!(&attempt.outcome, Outcome::Failed(why) if why.contains("initramfs; given up after")),
        "{:?}",
        attempt.outcome
    );
    engine::record(&world.hub, saga, attempt).await.unwrap();
    world.drive(&job).await;
    assert_eq!(world.standing().await, before);
}

#[tokio::test]
async fn a_lost_answer_makes_nothing_twice() {
    use cloud::folder::faults::{Call, Effect, Fault};
    let world = World::before(InitiatedBy::StartTest).await;
    let lost = |call| Fault::new(Effect::Forget).on(call).times(1);
    let faults = [
        Call::RegisterImage,
        Call::CreateLaunchTemplate,
        Call::RunInstances,
        Call::DeregisterImage,
    ]
    .map(lost);
    world.hub.cloud.faults().set(&faults).unwrap();
    world.run(InitiatedBy::StartTest).await;
    let standing = world.standing().await;
    assert_eq!((standing.images, standing.instances, standing.open), (0, 1, 2));
}

#[tokio::test]
async fn a_second_job_on_a_server_is_refused() {
    let world = World::before(InitiatedBy::StartTest).await;
    world.order(InitiatedBy::StartTest).await.unwrap();
    let refusal = world.order(InitiatedBy::Terminate).await.unwrap_err();
    assert!(matches!(refusal, ActionError::Refused(_)));
    assert!(refusal.to_string().contains("works on it"), "{refusal}");
}

#[tokio::test]
async fn a_stale_checkpoint_is_used_only_if_it_was_accepted() {
    let world = World::before(InitiatedBy::StartCutover).await;
    // The runner is gone: no fresh checkpoint will come.
    world.silence_runner();
    let job = world.order(InitiatedBy::StartCutover).await.unwrap().job;
    world.drive(&job).await;
    let LaunchStatus::Failed { error, left } = world.status(&job).await else {
        panic!("it was refused")
    };
    assert!(
        error.contains("no fresh checkpoint") && error.contains("not accepted"),
        "{error}"
    );
    assert!(left.is_empty());
    assert_eq!(world.server().await.lifecycle_name, "READY_FOR_CUTOVER");
    assert!(world.events(&job).await.contains(&"SNAPSHOT_FAIL"));

    let hour = Some(std::time::Duration::from_hours(1));
    let servers = std::slice::from_ref(&world.server);
    let job = jobs::start_cutover(&world.hub, &ada(), servers, hour)
        .await
        .unwrap()
        .job;
    while !world.events(&job).await.contains(&"USING_PREVIOUS_SNAPSHOT") {
        let saga = world.running(&job).await.unwrap().expect("it was accepted");
        let attempt = engine::attempt(&world.hub, &saga, 0).await;
        engine::record(&world.hub, saga, attempt).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Drives the job until `step` has been tried once, and makes that try a failure for good.
async fn fail_after_one_try(world: &World, job: &JobId, step: usize) {
    drive_tampered(world, job, async |saga| {
        if !is_at(saga, step) {
            return None;
        }
        let attempt = engine::attempt(&world.hub, saga, 0).await;
        assert_ne!(attempt.outcome, Outcome::Done);
        let outcome = Outcome::Failed("it was made to fail".into());
        Some(Attempt { outcome, ..attempt })
    })
    .await;
}

#[tokio::test]
async fn what_was_made_without_an_answer_is_found_and_removed() {
    use cloud::folder::faults::{Call, Effect, Fault};
    let names = engine::step_names(InitiatedBy::StartTest);
    for (call, step) in [
        (Call::RegisterImage, "RegisterImage"),
        (Call::RunInstances, "LaunchInstance"),
    ] {
        let world = World::before(InitiatedBy::StartTest).await;
        let before = world.standing().await;
        world
            .hub
            .cloud
            .faults()
            .set(&[Fault::new(Effect::Forget).on(call)])
            .unwrap();
        let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
        let step = names.iter().position(|name| name == step).unwrap();
        fail_after_one_try(&world, &job, step).await;
        assert_eq!(world.standing().await, before);
    }
}

#[tokio::test]
async fn an_instance_that_does_not_come_up_fails_its_launch_at_once() {
    use cloud::folder::machines::{Instances, MachineRecord, MachineState};
    let world = World::before(InitiatedBy::StartTest).await;
    let before = world.standing().await;
    world.hub.cloud.set_instances(Instances::Booted).unwrap();
    let place = cloud::control::Place::direct(world.server().await.account.0, crate::fixtures::REGION);
    let folder = world.hub.cloud.place(&place);
    let failed = MachineRecord {
        state: MachineState::Failed,
        detail: "the kernel panicked".into(),
        forwards: Vec::new(),
    };
    let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
    drive_tampered(&world, &job, async |_| {
        for instance in folder.instance_records().unwrap() {
            folder.set_machine(&instance.id, &failed).unwrap();
        }
        None
    })
    .await;
    let LaunchStatus::Failed { error, left } = world.status(&job).await else {
        panic!("it must fail")
    };
    assert!(
        error.ends_with("failed its status checks: the kernel panicked"),
        "{error}"
    );
    assert!(left.is_empty());
    assert_eq!(world.standing().await, before);
}

#[tokio::test]
async fn replication_goes_on_when_its_end_fails() {
    for kind in [InitiatedBy::Disconnect, InitiatedBy::FinalizeCutover] {
        let world = World::before(kind).await;
        let before = world.standing().await;
        // The runner does not hear of it.
        world.silence_runner();
        let job = world.order(kind).await.unwrap().job;
        fail_after_one_try(&world, &job, 1).await;
        assert_eq!(world.server().await.intent.name(), "RUN");
        assert_eq!(world.standing().await, before.cleaned_up());
    }
}

/// Somebody else's instance, whose id our records have.
#[tokio::test]
async fn what_is_not_ours_by_its_tags_and_the_ledger_is_left_alone() {
    for (is_in_the_ledger, expected) in [
        (true, "is left alone: by the ledger its tag"),
        (false, "it is not in the ledger"),
    ] {
        let world = World::before(InitiatedBy::Terminate).await;
        let strange = world.strange_instance(is_in_the_ledger).await;
        let job = world.order(InitiatedBy::Terminate).await.unwrap().job;
        world.drive(&job).await;
        let LaunchStatus::Failed { error, .. } = world.status(&job).await else {
            panic!("it is refused")
        };
        assert!(error.contains(expected) && error.contains(&strange), "{error}");
        let said = detail(&world, &job, JobLogEvent::CleanupFail).await;
        assert!(said.contains(expected), "{said}");
        assert!(world.stands(&strange).await);
    }
}

/// The account is asked at the end, and what it says is kept; what remains is named, and undoes nothing.
#[tokio::test]
async fn an_ending_proves_what_is_left() {
    for kind in [InitiatedBy::FinalizeCutover, InitiatedBy::CleanUp] {
        let world = World::before(kind).await;
        let job = world.order(kind).await.unwrap().job;
        world.drive(&job).await;
        let said = last_detail(&world, &job, JobLogEvent::CleanupEnd).await;
        assert!(
            said.contains("nothing is left, 0 snapshots, 0 images"),
            "{kind:?}: {said}"
        );
        let keeps = said.contains("kept, as it should be: 0 snapshots, 0 images, 1 instance (i-");
        assert_eq!(keeps, kind == InitiatedBy::FinalizeCutover, "{said}");
    }

    let world = World::before(InitiatedBy::FinalizeCutover).await;
    let strange = world.unknown_instance().await;
    let job = world.order(InitiatedBy::FinalizeCutover).await.unwrap().job;
    let last = steps(InitiatedBy::FinalizeCutover) - 1;
    drive_tampered(&world, &job, async |saga| {
        if !is_at(saga, last) {
            return None;
        }
        let attempt = engine::attempt(&world.hub, saga, 0).await;
        assert!(
            matches!(&attempt.outcome, Outcome::Wait(what) if what.contains(&strange)),
            "{attempt:?}"
        );
        saga.step_since -= 600_000;
        Some(engine::attempt(&world.hub, saga, 0).await)
    })
    .await;
    let status = world.status(&job).await;
    assert!(!matches!(status, LaunchStatus::Failed { .. }), "{status:?}");
    let said = last_detail(&world, &job, JobLogEvent::CleanupFail).await;
    assert!(
        said.contains("and still has 0 snapshots, 0 images, 1 instance"),
        "{said}"
    );
    assert!(
        said.contains(&format!("instance {strange}: this hub has no record")),
        "{said}"
    );
    assert!(world.stands(&strange).await, "it is told, and left alone");
}

/// What is said before an ending is what it does.
#[tokio::test]
async fn what_was_foreseen_is_what_happens() {
    for (kind, removal, removes, keeps) in [
        (InitiatedBy::Terminate, Removal::TerminateInstances, 1, 1),
        (InitiatedBy::FinalizeCutover, Removal::FinalizeCutover, 1, 1),
        (InitiatedBy::Disconnect, Removal::Disconnect, 0, 0),
        (InitiatedBy::CleanUp, Removal::CleanUp, 2, 0),
    ] {
        let world = World::before(kind).await;
        let strange = match kind {
            InitiatedBy::Terminate => Some(world.unknown_instance().await),
            _ => None,
        };
        let foreseen = removal_check(&world.hub, &ada(), &world.server().await, removal)
            .await
            .unwrap()
            .unwrap();
        let ids = |items: &[Item]| items.iter().map(|item| item.id.clone()).collect::<Vec<_>>();
        let (removed, kept) = (ids(&foreseen.removed), ids(&foreseen.kept));
        let what = format!("{kind:?}: {foreseen:?}");
        assert_eq!(
            ids(&foreseen.left_alone),
            strange.clone().into_iter().collect::<Vec<_>>(),
            "{what}"
        );
        // Volumes go and stay with their instance.
        let without_volumes = |items: &[Item]| {
            items
                .iter()
                .filter(|item| item.kind != ResourceKind::Volume)
                .count()
        };
        assert_eq!(
            (
                without_volumes(&foreseen.removed),
                without_volumes(&foreseen.kept)
            ),
            (removes, keeps),
            "{what}"
        );
        let job = world.order(kind).await.unwrap().job;
        let last = steps(kind) - 1;
        drive_tampered(&world, &job, async |saga| {
            if strange.is_none() || !is_at(saga, last) {
                return None;
            }
            // It is waited for, and then told.
            saga.step_since -= 600_000;
            Some(engine::attempt(&world.hub, saga, 0).await)
        })
        .await;
        for id in &removed {
            assert!(!world.stands(id).await, "{id} of {what}");
        }
        for id in kept.iter().chain(&strange) {
            assert!(world.stands(id).await, "{id} of {what}");
        }
    }
}

#[tokio::test]
async fn of_an_account_that_does_not_answer_nothing_is_foreseen() {
    use cloud::folder::faults::{Call, Effect, Fault};
    let world = World::before(InitiatedBy::Terminate).await;
    let denied = Fault::new(Effect::Deny {
        remedy: "allow it".into(),
    })
    .on(Call::GetResources);
    world.hub.cloud.faults().set(&[denied]).unwrap();
    let (actor, server) = (ada(), world.server().await);
    let check = removal_check(&world.hub, &actor, &server, Removal::TerminateInstances);
    let why = check.await.unwrap().unwrap_err();
    assert!(why.contains("allow it"), "{why}");
}

async fn last_detail(world: &World, job: &JobId, event: JobLogEvent) -> String {
    let events = world.hub.store.job_events(job, 0).await.unwrap();
    let found = events.into_iter().rfind(|row| row.event.0 == event);
    found.and_then(|row| row.detail).unwrap_or_default()
}
