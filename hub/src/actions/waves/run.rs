//! Launching all servers of a wave, batch by batch.
//!
//! What is to be launched is written down once; [`crate::tasks::waves`] orders a job for each batch, with the rights
//! that whoever began it has at that moment.

use std::collections::BTreeMap;

use domain::{
    ids::{AccountId, WaveId},
    launch::Purpose,
    wave::{IN_JOBS_MAX, Run, RunState, Stage},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait};

use super::{begin, stage_in};
use crate::{
    Hub,
    actions::{
        ActionError, Order, Refused,
        jobs::{self, Kind},
    },
    auth::Actor,
    changes::Work,
    clock::now_ms,
    entities::{Doc, user::UserRole, wave},
    store::{Reader, StoreError, Write, servers::ServerFilter},
};

/// How a wave is to be launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Servers of an account that jobs may work on at once.
    pub at_once: u32,
    /// After more failures than these, nothing new is begun.
    pub failures_allowed: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            at_once: 20,
            failures_allowed: 0,
        }
    }
}

pub fn is_under_way(wave: &wave::Model) -> bool {
    matches!(&wave.run.0, Some(run) if !matches!(run.state, RunState::Ended { .. }))
}

pub(super) fn under_way(wave: &wave::Model) -> ActionError {
    ActionError::Conflict(format!(
        "the servers of wave “{}” are being launched; wait until that ends, or end it",
        wave.name
    ))
}

fn needed(purpose: Purpose) -> UserRole {
    match purpose {
        Purpose::Test => UserRole::Operator,
        Purpose::Cutover => UserRole::Approver,
    }
}

/// Why a launch may not begin now. `store` must see the whole wave.
async fn forbidden_now<C: ConnectionTrait>(
    store: &Reader<C>,
    wave: &wave::Model,
    purpose: Purpose,
) -> Result<Option<String>, StoreError> {
    if purpose == Purpose::Test {
        return Ok(None);
    }
    Ok(match stage_in(store, wave).await? {
        Stage::Draft => Some("its plan, as it is now, was not submitted for approval".into()),
        Stage::Submitted => Some("its plan was not approved yet; a second person has to do so".into()),
        Stage::Approved => match wave.plan.window {
            Some(window) if window.holds(now_ms()) => None,
            _ => Some("this is not within its cutover window; plan another one, and have it approved".into()),
        },
    })
}

/// The same, for whoever asks before.
pub async fn in_the_way(
    hub: &Hub,
    wave: &wave::Model,
    purpose: Purpose,
) -> Result<Option<String>, StoreError> {
    if is_under_way(wave) {
        return Ok(Some(under_way(wave).to_string()));
    }
    forbidden_now(&hub.store, wave, purpose).await
}

/// Begins to launch all servers of a wave that can take part.
pub async fn start(
    hub: &Hub,
    actor: &Actor,
    id: &WaveId,
    purpose: Purpose,
    pace: Pace,
) -> Result<(), ActionError> {
    let order = Order::new(actor, action(purpose), id);
    if !(1..=IN_JOBS_MAX).contains(&(pace.at_once as usize)) {
        return Err(ActionError::Invalid(format!(
            "1 to {IN_JOBS_MAX} servers of an account may be launched at once"
        )));
    }
    let (mut tx, row) = begin(hub, &order, id, needed(purpose)).await?;
    if is_under_way(&row) {
        drop(tx);
        return order.refuse(hub, under_way(&row)).await;
    }
    if let Some(why) = forbidden_now(&tx, &row, purpose).await? {
        drop(tx);
        return refuse(hub, &order, &row, &why).await;
    }
    let filter = ServerFilter {
        wave: Some(id.clone()),
        ..ServerFilter::default()
    };
    let (mut waiting, mut refused) = (Vec::new(), Vec::new());
    for server in tx.server_list(&filter).await? {
        match jobs::hindrance(&server, None, Kind::Launch(purpose, None)) {
            None => waiting.push((server.account.0, server.id.0)),
            Some(reason) => refused.push((server.id.0, reason)),
        }
    }
    if waiting.is_empty() {
        drop(tx);
        let why = match refused.first() {
            None => "it has no servers".to_owned(),
            Some((server, reason)) => format!("none of its servers can take part; {server}: {reason}"),
        };
        return refuse(hub, &order, &row, &why).await;
    }
    let detail = format!(
        "{} servers, {} at once in an account",
        waiting.len(),
        pace.at_once
    );
    let run = Run {
        purpose,
        by: actor.name.clone(),
        at: now_ms(),
        at_once: pace.at_once,
        failures_allowed: pace.failures_allowed,
        failed: 0,
        failed_known: 0,
        waiting,
        jobs: Vec::new(),
        refused,
        state: RunState::Running,
    };
    write(&mut tx, id, run).await?;
    order.done_so(tx, &detail).await?;
    hub.want(Work::Waves).await;
    Ok(())
}

fn action(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Test => "start the tests of a wave",
        Purpose::Cutover => "start the cutovers of a wave",
    }
}

async fn refuse(hub: &Hub, order: &Order<'_>, wave: &wave::Model, why: &str) -> Result<(), ActionError> {
    let why = format!("wave “{}” cannot be launched: {why}", wave.name);
    order.refuse(hub, ActionError::Conflict(why)).await
}

/// Begins nothing new until somebody goes on. What runs goes on.
pub async fn hold(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "hold the launch of a wave", id);
    let why = format!("held by {}", actor.name);
    change(hub, order, id, UserRole::Operator, |run| match run.state {
        RunState::Running => Ok(RunState::Held { why }),
        _ => Err("it is not under way"),
    })
    .await
}

/// Goes on with a launch that was held, in the name of whoever says so.
pub async fn resume(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "go on with the launch of a wave", id);
    let purpose = match hub.store.seen_by(actor).wave(id).await?.run.0 {
        Some(run) => run.purpose,
        None => Purpose::Cutover,
    };
    let (tx, row) = begin(hub, &order, id, needed(purpose)).await?;
    let forbidden = forbidden_now(&tx, &row, purpose).await?;
    drop(tx);
    if let Some(why) = forbidden {
        return refuse(hub, &order, &row, &why).await;
    }
    let by = actor.name.clone();
    change(hub, order, id, needed(purpose), |run| match run.state {
        RunState::Held { .. } => {
            run.by = by;
            run.failed_known = run.failed;
            Ok(RunState::Running)
        }
        _ => Err("it is not held"),
    })
    .await
}

/// Launches nobody who still waits.
pub async fn end(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "end the launch of a wave", id);
    change(hub, order, id, UserRole::Operator, |run| match run.state {
        RunState::Ended { .. } => Err("it has ended"),
        _ => Ok(RunState::Ended { at: now_ms() }),
    })
    .await
}

async fn change(
    hub: &Hub,
    order: Order<'_>,
    id: &WaveId,
    needed: UserRole,
    next: impl FnOnce(&mut Run) -> Result<RunState, &'static str>,
) -> Result<(), ActionError> {
    let (mut tx, row) = begin(hub, &order, id, needed).await?;
    let Some(mut run) = row.run.0.clone() else {
        drop(tx);
        return refuse(hub, &order, &row, "it was never begun").await;
    };
    match next(&mut run) {
        Ok(state) => run.state = state,
        Err(why) => {
            drop(tx);
            let why = format!("the launch of wave “{}” cannot be changed: {why}", row.name);
            return order.refuse(hub, ActionError::Conflict(why)).await;
        }
    }
    write(&mut tx, id, run).await?;
    order.done(tx).await?;
    hub.want(Work::Waves).await;
    Ok(())
}

pub async fn write(tx: &mut Write, id: &WaveId, run: Run) -> Result<(), StoreError> {
    tx.wave_update(id, |row| {
        row.run_state = Set(run.state.name().to_owned());
        row.run = Set(Doc(Some(run)));
    })
    .await
}

/// Orders the next batch. The job and the run that knows of it are written down together; a conflict says that
/// somebody changed the run meanwhile, and that nothing was ordered.
pub async fn launch_batch(
    hub: &Hub,
    actor: &Actor,
    wave: &wave::Model,
    run: &Run,
    busy: &BTreeMap<AccountId, u64>,
) -> Result<(), ActionError> {
    let mut next = run.clone();
    let batch = next.next_batch(busy);
    if batch.is_empty() {
        return Ok(());
    }
    let tags = BTreeMap::from([("orglift:wave".to_owned(), wave.id.to_string())]);
    let kind = Kind::Launch(run.purpose, None);
    let ordered = jobs::order_and(hub, actor, &batch, kind, tags, async |tx, ordered| {
        let mut next = next.clone();
        next.jobs.push(ordered.job.clone());
        note_refused(&mut next, &ordered.skipped);
        replace(tx, wave, run, next).await
    })
    .await;
    match ordered {
        Ok(_) => Ok(()),
        Err(ActionError::Refused(refused)) => {
            note_refused(&mut next, &refused);
            let mut tx = hub.store.begin().await?;
            replace(&mut tx, wave, run, next).await?;
            Ok(tx.commit().await?)
        }
        Err(error) => Err(error),
    }
}

fn note_refused(run: &mut Run, refused: &[Refused]) {
    let refused = refused.iter();
    run.refused
        .extend(refused.map(|refused| (refused.server.clone(), refused.reason.clone())));
}

async fn replace(tx: &mut Write, wave: &wave::Model, expected: &Run, next: Run) -> Result<(), ActionError> {
    if tx.wave(&wave.id).await?.run.0.as_ref() != Some(expected) {
        return Err(ActionError::Conflict("the launch was changed meanwhile".into()));
    }
    Ok(write(tx, &wave.id, next).await?)
}
