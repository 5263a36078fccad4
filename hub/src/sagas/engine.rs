//! Moves sagas: tries a step, writes down what came of it, and goes on.
//!
//! [`attempt`] acts and writes nothing about the saga itself; [`record`] writes and does nothing else. If
//! the hub dies between the two, the step is tried again at the next start.

use std::{collections::HashSet, sync::Arc, time::Duration};

use domain::{
    IllegalTransition,
    ids::JobId,
    job::{InitiatedBy, JobEvent, JobLogEvent, JobStatus, LaunchEvent},
    lifecycle,
};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::Instrument;

use super::{
    Context, Progress, Saga, StepError, cleanup::CleanUp, launch::Launch, retire::Retire,
    terminate::Terminate,
};
use crate::{
    Hub,
    changes::Change,
    clock::now_ms,
    entities::{
        Doc, Word,
        saga::{Direction, Model, SagaStatus},
    },
    store::{StoreError, Write, jobs::LogLine},
};

/// Steps that act in accounts at one time. Waiting ones do not count.
const AT_ONCE: usize = 64;

/// How often a waiting step looks again by itself. It looks at once when its server changes.
const POLL: Duration = Duration::from_millis(250);

/// A pause between two attempts is made in parts of this length.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often the engine looks for sagas that nobody told it of.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Between two attempts: doubles from the first to the last, and half of it is chance.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_LAST: Duration = Duration::from_mins(1);

/// What came of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub state: Value,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Wait(String),
    Retry(String),
    Failed(String),
}

/// What is known of a kind of saga without knowing the kind.
#[derive(Debug)]
struct Ended {
    succeeded: LaunchEvent,
    failed: Option<lifecycle::Event>,
}

/// Runs every saga until the hub stops; what is on its way then goes on at the next start.
pub async fn run(hub: Arc<Hub>) {
    // A step's deadline does not run while no hub does.
    let started = now_ms();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut driven: HashSet<String> = HashSet::new();
    let mut tasks: JoinSet<(String, Result<(), StoreError>)> = JoinSet::new();
    loop {
        match hub.store.sagas_running().await {
            Ok(sagas) => {
                for saga in sagas {
                    if driven.insert(saga.id.clone()) {
                        // Whatever is logged on the way has them, for whoever looks for one job.
                        let span = tracing::info_span!("saga", job.id = %saga.job, server.id = %saga.server);
                        let (hub, turns, id) = (hub.clone(), turns.clone(), saga.id);
                        let driving = async move {
                            let result = drive(&hub, &turns, &id, started).await;
                            (id, result)
                        };
                        tasks.spawn(driving.instrument(span));
                    }
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look for sagas");
            }
        }
        tokio::select! {
            () = hub.sagas_added.notified() => {}
            () = sleep(LOOK_EVERY) => {}
            Some(ended) = tasks.join_next() => take_end(&mut driven, ended),
            () = hub.stopping.cancelled() => break,
        }
    }
    // Each stops between two steps by itself.
    while let Some(ended) = tasks.join_next().await {
        take_end(&mut driven, ended);
    }
}

fn take_end(
    driven: &mut HashSet<String>,
    ended: Result<(String, Result<(), StoreError>), tokio::task::JoinError>,
) {
    match ended {
        Ok((id, result)) => {
            driven.remove(&id);
            if let Err(error) = result {
                tracing::error!(saga.id = %id, error = &error as &dyn std::error::Error, "a saga is interrupted");
            }
        }
        // Its name is lost with it, and it is not driven again before the next start: a step that
        // panics would panic again.
        Err(panic) => tracing::error!(error = &panic as &dyn std::error::Error, "a saga's step panicked"),
    }
}

/// Moves one saga to its end, or until the hub stops.
async fn drive(hub: &Arc<Hub>, turns: &Semaphore, id: &str, started: i64) -> Result<(), StoreError> {
    let mut changes = hub.changes.subscribe();
    begin(hub, &hub.store.saga(id).await?).await?;
    loop {
        let saga = hub.store.saga(id).await?;
        if saga.status.0 != SagaStatus::Running {
            return Ok(());
        }
        let pause = Duration::from_millis(u64::try_from(saga.run_after - now_ms()).unwrap_or(0));
        let is_cancelled = saga.cancelled_by.is_some() && saga.direction.0 == Direction::Forward;
        if !pause.is_zero() && !is_cancelled {
            // Somebody may cancel it meanwhile, or want it done at once.
            tokio::select! {
                () = sleep(pause.min(PAUSE_MAX)) => continue,
                () = hub.stopping.cancelled() => return Ok(()),
            }
        }
        let made = {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            attempt(hub, &saga, started).await
        };
        let waits = matches!(made.outcome, Outcome::Wait(_));
        let server = saga.server.0.clone();
        record(hub, saga, made).await?;
        if waits {
            let until = Instant::now() + POLL;
            loop {
                tokio::select! {
                    change = changes.recv() => match change {
                        Ok(Change::Server { server: of, .. }) if of == server => break,
                        Ok(Change::Anything) | Err(RecvError::Lagged(_)) => break,
                        Ok(_) => {}
                        Err(RecvError::Closed) => sleep_until(until).await,
                    },
                    () = sleep_until(until) => break,
                    () = hub.stopping.cancelled() => return Ok(()),
                }
            }
        }
    }
}

/// Starts the job with the first of its sagas, and the participant with its own.
pub(crate) async fn begin(hub: &Hub, saga: &Model) -> Result<(), StoreError> {
    let mut tx = hub.store.begin().await?;
    if tx.job(&saga.job).await?.status.0 == JobStatus::Pending {
        tx.job_on(&saga.job, JobEvent::Started).await?;
        tx.job_log(&saga.job, LogLine::of_job(JobLogEvent::JobStart))
            .await?;
    }
    match tx
        .participant_on(&saga.job, &saga.server, LaunchEvent::Started)
        .await
    {
        // It had begun before the hub was started again.
        Ok(()) | Err(StoreError::Illegal(_)) => tx.commit().await,
        Err(error) => Err(error),
    }
}

/// Tries the present step, forward or back.
pub(crate) async fn attempt(hub: &Arc<Hub>, saga: &Model, engine_started: i64) -> Attempt {
    match saga.kind.0 {
        InitiatedBy::StartTest | InitiatedBy::StartCutover => {
            attempt_of::<Launch>(hub, saga, engine_started).await
        }
        InitiatedBy::Terminate => attempt_of::<Terminate>(hub, saga, engine_started).await,
        InitiatedBy::FinalizeCutover | InitiatedBy::Disconnect => {
            attempt_of::<Retire>(hub, saga, engine_started).await
        }
        InitiatedBy::CleanUp => attempt_of::<CleanUp>(hub, saga, engine_started).await,
    }
}

async fn attempt_of<S: Saga>(hub: &Arc<Hub>, saga: &Model, engine_started: i64) -> Attempt {
    let mut state: S = match serde_json::from_value(saga.state.0.clone()) {
        Ok(state) => state,
        Err(error) => {
            return Attempt {
                state: saga.state.0.clone(),
                outcome: Outcome::Failed(format!("the stored state of this job cannot be read: {error}")),
            };
        }
    };
    let waited = now_ms() - saga.step_since.max(engine_started);
    let cx = Context {
        hub: hub.clone(),
        job: saga.job.0.clone(),
        server: saga.server.0.clone(),
        waited: Duration::from_millis(u64::try_from(waited).unwrap_or(0)),
    };
    let at = usize::try_from(saga.position).unwrap_or(0);
    let (deadline, result) = match saga.direction.0 {
        Direction::Forward => {
            let step = S::STEPS[at];
            if let Some(who) = saga.cancelled_by.as_ref().filter(|_| state.is_cancellable(step)) {
                return Attempt {
                    state: saga.state.0.clone(),
                    outcome: Outcome::Failed(format!("cancelled by {who}")),
                };
            }
            (state.deadline(step, &hub.settings), state.run(step, &cx).await)
        }
        Direction::Back => (
            hub.settings.step_deadline,
            state.undo(S::STEPS[at - 1], &cx).await,
        ),
    };
    let late = cx.waited >= deadline;
    let given_up = |what: &str| format!("{what}; given up after {} s", cx.waited.as_secs());
    let outcome = match result {
        Ok(Progress::Done) => Outcome::Done,
        Ok(Progress::Wait(what)) if late => Outcome::Failed(given_up(&what)),
        Ok(Progress::Wait(what)) => Outcome::Wait(what),
        Err(StepError::Transient(why)) if late => Outcome::Failed(given_up(&why)),
        Err(StepError::Transient(why)) => Outcome::Retry(why),
        Err(StepError::Permanent(why)) => Outcome::Failed(why),
    };
    let state = serde_json::to_value(&state).expect("a saga's state has no maps with keys that are not text");
    Attempt { state, outcome }
}

fn step_count(kind: InitiatedBy) -> usize {
    match kind {
        InitiatedBy::StartTest | InitiatedBy::StartCutover => Launch::STEPS.len(),
        InitiatedBy::Terminate => Terminate::STEPS.len(),
        InitiatedBy::FinalizeCutover | InitiatedBy::Disconnect => Retire::STEPS.len(),
        InitiatedBy::CleanUp => CleanUp::STEPS.len(),
    }
}

/// The names of a kind's steps, in order, for the job page.
pub fn step_names(kind: InitiatedBy) -> Vec<String> {
    fn names<S: Saga>() -> Vec<String> {
        S::STEPS.iter().map(|step| format!("{step:?}")).collect()
    }
    match kind {
        InitiatedBy::StartTest | InitiatedBy::StartCutover => names::<Launch>(),
        InitiatedBy::Terminate => names::<Terminate>(),
        InitiatedBy::FinalizeCutover | InitiatedBy::Disconnect => names::<Retire>(),
        InitiatedBy::CleanUp => names::<CleanUp>(),
    }
}

fn ended(saga: &Model) -> Option<Ended> {
    fn of<S: Saga>(state: &Value, job: &JobId) -> Option<Ended> {
        let state: S = serde_json::from_value(state.clone()).ok()?;
        Some(Ended {
            succeeded: state.succeeded(),
            failed: state.failed(job),
        })
    }
    let (state, job) = (&saga.state.0, &saga.job.0);
    match saga.kind.0 {
        InitiatedBy::StartTest | InitiatedBy::StartCutover => of::<Launch>(state, job),
        InitiatedBy::Terminate => of::<Terminate>(state, job),
        InitiatedBy::FinalizeCutover | InitiatedBy::Disconnect => of::<Retire>(state, job),
        InitiatedBy::CleanUp => of::<CleanUp>(state, job),
    }
}

/// Writes down what came of an attempt, and whatever follows from it, in one transaction.
pub(crate) async fn record(hub: &Hub, mut saga: Model, attempt: Attempt) -> Result<(), StoreError> {
    let before = saga.clone();
    saga.state = Doc(attempt.state);
    let position = usize::try_from(saga.position).unwrap_or(usize::MAX);
    let step = step_names(*saga.kind)
        .into_iter()
        .nth(position)
        .unwrap_or_default();
    match attempt.outcome {
        Outcome::Wait(what) => saga.last_error = Some(what),
        Outcome::Retry(why) => {
            tracing::warn!(saga.id = %saga.id, step, attempts = saga.attempts, "a step will be tried again: {why}");
            saga.run_after = now_ms() + backoff(saga.attempts);
            saga.attempts += 1;
            saga.last_error = Some(why);
        }
        Outcome::Done => {
            let forward = saga.direction.0 == Direction::Forward;
            tracing::info!(saga.id = %saga.id, step, forward, "a step is done");
            step_to(&mut saga, if forward { 1 } else { -1 });
        }
        Outcome::Failed(why) if saga.direction.0 == Direction::Forward => {
            tracing::warn!(saga.id = %saga.id, step, "a step failed and everything is undone: {why}");
            saga.direction = Word(Direction::Back);
            saga.failure = Some(why);
            // The step that failed may have done a part of its work.
            step_to(&mut saga, 1);
        }
        Outcome::Failed(why) => {
            tracing::error!(saga.id = %saga.id, step, "something could not be undone: {why}");
            saga.left.0.push(why);
            step_to(&mut saga, -1);
        }
    }
    if saga == before {
        return Ok(());
    }
    let mut tx = hub.store.begin().await?;
    if !stands_as(&tx.saga(&saga.id).await?, &before) {
        // This hub stood still for so long that another came to lead, and has gone on.
        tracing::warn!(saga.id = %saga.id, "another hub has moved it meanwhile");
        return Ok(());
    }
    let at = usize::try_from(saga.position).unwrap_or(0);
    match saga.direction.0 {
        Direction::Forward if at == step_count(saga.kind.0) => {
            saga.status = Word(SagaStatus::Succeeded);
            succeed(&mut tx, &saga).await?;
        }
        Direction::Back if at == 0 => {
            saga.status = Word(SagaStatus::Failed);
            fail(&mut tx, &saga).await?;
        }
        _ => return save(tx, saga).await,
    }
    let server = tx.server(&saga.server).await?;
    tx.server_release(&server).await?;
    let job = saga.job.0.clone();
    tx.saga_save(saga).await?;
    if tx.sagas_running_in(&job).await? == 0 {
        tx.job_on(&job, JobEvent::LastParticipantEnded).await?;
        tx.job_log(&job, LogLine::of_job(JobLogEvent::JobEnd)).await?;
    }
    tx.commit().await
}

/// Whether nobody has moved a saga since it was read. Its next attempt may be due earlier, and it may be cancelled.
fn stands_as(now: &Model, before: &Model) -> bool {
    let place = |saga: &Model| (saga.position, saga.direction, saga.status, saga.attempts);
    place(now) == place(before)
}

async fn save(mut tx: Write, saga: Model) -> Result<(), StoreError> {
    tx.saga_save(saga).await?;
    tx.commit().await
}

fn step_to(saga: &mut Model, by: i32) {
    saga.position += by;
    saga.attempts = 0;
    saga.step_since = now_ms();
    saga.run_after = 0;
    saga.last_error = None;
}

async fn succeed(tx: &mut Write, saga: &Model) -> Result<(), StoreError> {
    let event = ended(saga).map_or(LaunchEvent::Terminated, |ended| ended.succeeded);
    tx.participant_on(&saga.job, &saga.server, event).await
}

async fn fail(tx: &mut Write, saga: &Model) -> Result<(), StoreError> {
    let error = saga.failure.clone().unwrap_or_default();
    if saga.kind.job_type() == "LAUNCH" {
        let line = LogLine::of_server(JobLogEvent::LaunchFailed, &saga.server).with_detail(&error);
        tx.job_log(&saga.job, line).await?;
    }
    let event = LaunchEvent::Failed {
        error,
        left: saga.left.0.clone(),
    };
    tx.participant_on(&saga.job, &saga.server, event).await?;
    let Some(event) = ended(saga).and_then(|ended| ended.failed) else {
        return Ok(());
    };
    match tx.server_on(&saga.server, event).await {
        Ok(_) => Ok(()),
        // Somebody moved it on while the job failed; that stands.
        Err(StoreError::Illegal(IllegalTransition { state, event, .. })) => {
            tracing::info!(saga.id = %saga.id, "the server is {state}, which {event} does not change");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Milliseconds until the next attempt.
fn backoff(attempts: i32) -> i64 {
    let doubled = BACKOFF_FIRST * 2_u32.saturating_pow(attempts.clamp(0, 16).cast_unsigned());
    let most = i64::try_from(doubled.min(BACKOFF_LAST).as_millis()).unwrap_or(i64::MAX);
    rand::random_range(most / 2..=most)
}
