//! A job that somebody cancels at each of its steps: everything is undone, and the account is as before.

use domain::job::{InitiatedBy, JobLogEvent, LaunchStatus};

use super::{World, ada, engine, is_at, steps, world::ALL_KINDS};
use crate::{
    actions::{ActionError, job_control},
    auth::{Actor, Grant},
    entities::user::UserRole,
};

#[tokio::test]
async fn a_launch_is_cancelled_at_any_step_and_leaves_nothing() {
    // The last step comes after the instance is recorded.
    for step in 0..steps(InitiatedBy::StartTest) - 1 {
        let world = World::before(InitiatedBy::StartTest).await;
        let before = world.standing().await;
        let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
        let mut is_cancelled = false;
        while let Some(saga) = world.running(&job).await.unwrap() {
            if !is_cancelled && is_at(&saga, step) {
                is_cancelled = true;
                assert_eq!(job_control::cancel(&world.hub, &ada(), &job).await.unwrap(), 1);
                let again = job_control::cancel(&world.hub, &ada(), &job).await;
                assert!(matches!(again, Err(ActionError::Conflict(_))), "{again:?}");
                // What the engine read before does not take it back as it is written.
                let waits = engine::Attempt {
                    state: saga.state.0.clone(),
                    outcome: engine::Outcome::Wait("for somebody".into()),
                };
                engine::record(&world.hub, saga, waits).await.unwrap();
                continue;
            }
            let attempt = engine::attempt(&world.hub, &saga, 0).await;
            engine::record(&world.hub, saga, attempt).await.unwrap();
        }
        world.assert_over(&job).await;
        let LaunchStatus::Failed { error, left } = world.status(&job).await else {
            panic!("step {step} was cancelled");
        };
        assert_eq!(
            (error.as_str(), left),
            ("cancelled by ada", vec![]),
            "step {step}"
        );
        let after = world.standing().await;
        assert_eq!(after.lifecycle, before.lifecycle, "step {step}");
        assert_eq!(
            (after.images, after.instances, after.pinned),
            (0, 0, 0),
            "step {step}"
        );
        assert!(
            super::detail(&world, &job, JobLogEvent::JobCancel)
                .await
                .contains("by ada")
        );
    }
}

#[tokio::test]
async fn what_does_not_come_back_is_not_cancelled() {
    for kind in ALL_KINDS {
        let is_launch = matches!(kind, InitiatedBy::StartTest | InitiatedBy::StartCutover);
        let world = World::before(kind).await;
        let job = world.order(kind).await.unwrap().job;
        let cancelled = job_control::cancel(&world.hub, &ada(), &job).await;
        assert_eq!(cancelled.is_ok(), is_launch, "{kind:?}: {cancelled:?}");
        let hastened = job_control::hasten(&world.hub, &ada(), &job).await;
        assert!(
            matches!(hastened, Err(ActionError::Conflict(_))),
            "nothing has failed yet"
        );
        let viewer = Actor::new("viewer", [Grant::everywhere(UserRole::Viewer)]);
        let refused = job_control::cancel(&world.hub, &viewer, &job).await;
        assert!(refused.is_err(), "{kind:?}");
    }
}

#[tokio::test]
async fn what_another_hub_has_moved_is_not_written_over() {
    let world = World::before(InitiatedBy::StartTest).await;
    let job = world.order(InitiatedBy::StartTest).await.unwrap().job;
    let read = world.running(&job).await.unwrap().unwrap();
    let made = engine::attempt(&world.hub, &read, 0).await;
    // This hub stands still; another does the same, and two steps more.
    for _ in 0..3 {
        let saga = world.running(&job).await.unwrap().unwrap();
        let made = engine::attempt(&world.hub, &saga, 0).await;
        engine::record(&world.hub, saga, made).await.unwrap();
    }
    let moved = world.running(&job).await.unwrap().unwrap();
    assert!(moved.position > read.position);
    engine::record(&world.hub, read, made).await.unwrap();
    assert_eq!(world.running(&job).await.unwrap().unwrap(), moved);
}
