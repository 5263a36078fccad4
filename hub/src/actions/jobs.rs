//! Orders that become jobs: launch, terminate, finalize, disconnect, clean up.
//!
//! Servers that cannot take part are skipped, with a sentence each; if none can, there is no job.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    ids::{JobId, SourceServerId},
    job::{InitiatedBy, JobLogEvent, JobStatus, LaunchStatus},
    launch::Purpose,
    lifecycle::{Event, Lifecycle},
};
use sea_orm::ActiveValue::Set;
use serde::Serialize;

use super::{ActionError, Order, Ordered, Refused};
use crate::{
    Hub,
    auth::Actor,
    changes::Work,
    clock::now_ms,
    entities::{
        Doc, Word, job, job_server,
        saga::{self, Direction, SagaStatus},
        source_server,
        user::UserRole,
    },
    sagas::{
        cleanup::CleanUp,
        launch::Launch,
        retire::{Ending, Retire},
        terminate::Terminate,
    },
    store::{StoreError, Write, jobs::LogLine},
};

/// As many as MGN takes in one request.
pub const SERVERS_MAX: usize = 200;

/// What a job is to do.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Beside the purpose: the age up to which an older checkpoint will do if no fresh one comes in time.
    Launch(Purpose, Option<Duration>),
    Terminate,
    Retire(Ending),
    CleanUp,
}

impl Kind {
    fn initiated_by(self) -> InitiatedBy {
        match self {
            Self::Launch(Purpose::Test, _) => InitiatedBy::StartTest,
            Self::Launch(Purpose::Cutover, _) => InitiatedBy::StartCutover,
            Self::Terminate => InitiatedBy::Terminate,
            Self::Retire(Ending::Finalize) => InitiatedBy::FinalizeCutover,
            Self::Retire(Ending::Disconnect) => InitiatedBy::Disconnect,
            Self::CleanUp => InitiatedBy::CleanUp,
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Launch(Purpose::Test, _) => "start a test",
            Self::Launch(Purpose::Cutover, _) => "start a cutover",
            Self::Terminate => "terminate target instances",
            Self::Retire(Ending::Finalize) => "finalize a cutover",
            Self::Retire(Ending::Disconnect) => "disconnect from the service",
            Self::CleanUp => "clean up",
        }
    }

    fn needed(self) -> UserRole {
        match self {
            Self::Launch(Purpose::Test, _) | Self::Terminate | Self::CleanUp => UserRole::Operator,
            Self::Launch(Purpose::Cutover, _) | Self::Retire(_) => UserRole::Approver,
        }
    }
}

pub async fn start_test(
    hub: &Hub,
    actor: &Actor,
    servers: &[SourceServerId],
) -> Result<Ordered, ActionError> {
    order(
        hub,
        actor,
        servers,
        Kind::Launch(Purpose::Test, None),
        BTreeMap::new(),
    )
    .await
}

/// `accept_older_than`: if no fresh checkpoint comes in time, one of at most this age will do. Without
/// it, the launch refuses.
pub async fn start_cutover(
    hub: &Hub,
    actor: &Actor,
    servers: &[SourceServerId],
    accept_older_than: Option<Duration>,
) -> Result<Ordered, ActionError> {
    let kind = Kind::Launch(Purpose::Cutover, accept_older_than);
    order(hub, actor, servers, kind, BTreeMap::new()).await
}

/// Terminates the launched instances of servers that are not being judged.
pub async fn terminate(hub: &Hub, actor: &Actor, servers: &[SourceServerId]) -> Result<Ordered, ActionError> {
    order(hub, actor, servers, Kind::Terminate, BTreeMap::new()).await
}

/// Makes the cutover instance production and ends replication for good.
pub async fn finalize(hub: &Hub, actor: &Actor, servers: &[SourceServerId]) -> Result<Ordered, ActionError> {
    order(
        hub,
        actor,
        servers,
        Kind::Retire(Ending::Finalize),
        BTreeMap::new(),
    )
    .await
}

/// Ends replication for good and leaves launched instances as they are.
pub async fn disconnect(
    hub: &Hub,
    actor: &Actor,
    servers: &[SourceServerId],
) -> Result<Ordered, ActionError> {
    order(
        hub,
        actor,
        servers,
        Kind::Retire(Ending::Disconnect),
        BTreeMap::new(),
    )
    .await
}

/// Removes what failed jobs left behind.
pub async fn clean_up(hub: &Hub, actor: &Actor, servers: &[SourceServerId]) -> Result<Ordered, ActionError> {
    order(hub, actor, servers, Kind::CleanUp, BTreeMap::new()).await
}

/// Orders a job of any kind, with tags for whoever looks for it later.
pub async fn order(
    hub: &Hub,
    actor: &Actor,
    servers: &[SourceServerId],
    kind: Kind,
    tags: BTreeMap<String, String>,
) -> Result<Ordered, ActionError> {
    order_and(hub, actor, servers, kind, tags, async |_, _| Ok(())).await
}

/// The same, and writes down by `also` what has to be true of the job as soon as there is one.
pub async fn order_and(
    hub: &Hub,
    actor: &Actor,
    servers: &[SourceServerId],
    kind: Kind,
    tags: BTreeMap<String, String>,
    also: impl AsyncFnOnce(&mut Write, &Ordered) -> Result<(), ActionError>,
) -> Result<Ordered, ActionError> {
    let names: Vec<_> = servers.iter().map(SourceServerId::as_str).collect();
    let order = Order::new(actor, kind.action(), &names.join(" "));
    let mut tx = hub.store.begin_as(actor).await?;
    if servers.is_empty() || servers.len() > SERVERS_MAX {
        return Err(ActionError::Invalid(format!(
            "name 1 to {SERVERS_MAX} source servers"
        )));
    }
    let job = JobId::from_entropy(rand::random());
    let (mut taking_part, mut skipped) = (Vec::new(), Vec::new());
    let mut forbidden = None;
    for id in servers {
        if taking_part
            .iter()
            .any(|(server, _): &(source_server::Model, _)| server.id.0 == *id)
        {
            continue;
        }
        let part = match may(&tx, &order, id, kind).await? {
            Ok(()) => enlist(&mut tx, &job, id, kind).await?,
            Err(refusal) => {
                let reason = refusal.to_string();
                forbidden = Some(refusal);
                Err(reason)
            }
        };
        match part {
            Ok(part) => taking_part.push(part),
            Err(reason) => skipped.push(Refused {
                server: id.clone(),
                reason,
            }),
        }
    }
    if taking_part.is_empty() {
        drop(tx);
        let refusal = forbidden.unwrap_or(ActionError::Refused(skipped));
        return order.refuse(hub, refusal).await;
    }
    make_job(&mut tx, &job, actor, kind, tags, taking_part).await?;
    for refused in &skipped {
        let line =
            LogLine::of_server(JobLogEvent::ServerSkipped, &refused.server).with_detail(&refused.reason);
        tx.job_log(&job, line).await?;
    }
    let ordered = Ordered { job, skipped };
    also(&mut tx, &ordered).await?;
    order.done(tx).await?;
    hub.want(Work::Sagas).await;
    let job = &ordered.job;
    tracing::info!(job.id = %job, actor = %actor.name, "{} ordered: job {job}", kind.action());
    Ok(ordered)
}

/// Whether who orders the job may do so for this server. One that is not there says so when it is enlisted.
async fn may(
    tx: &Write,
    order: &Order<'_>,
    id: &SourceServerId,
    kind: Kind,
) -> Result<Result<(), ActionError>, StoreError> {
    let server = match tx.server(id).await {
        Ok(server) => server,
        Err(StoreError::NotFound { .. }) => return Ok(Ok(())),
        Err(error) => return Err(error),
    };
    let held = order.actor.role_in(&tx.account(&server.account).await?);
    if held >= Some(kind.needed()) {
        return Ok(Ok(()));
    }
    let place = format!("in account {}", server.account);
    Ok(Err(order.forbidden(held, &place, kind.needed())))
}

/// Takes a server into the job and prepares its saga, or says why it cannot take part.
async fn enlist(
    tx: &mut Write,
    job: &JobId,
    id: &SourceServerId,
    kind: Kind,
) -> Result<Result<(source_server::Model, serde_json::Value), String>, StoreError> {
    let server = match tx.server(id).await {
        Ok(server) => server,
        Err(StoreError::NotFound { what }) => return Ok(Err(format!("{what} does not exist"))),
        Err(error) => return Err(error),
    };
    if let Some(reason) = hindrance(&server, Some(job), kind) {
        return Ok(Err(reason));
    }
    if !tx.server_take(&server, job).await? {
        return Ok(Err("another job works on it".into()));
    }
    let state = match kind {
        Kind::Launch(purpose, accept_older_than) => {
            let event = match purpose {
                Purpose::Test => Event::TestStarted(job.clone()),
                Purpose::Cutover => Event::CutoverStarted(job.clone()),
            };
            tx.server_on(id, event).await?;
            let request = server.checkpoint_request + 1;
            tx.server_update(&server, |row| row.checkpoint_request = Set(request))
                .await?;
            tx.runner_of_touch(&server).await?;
            stored(&Launch::new(
                purpose,
                &server,
                request.cast_unsigned(),
                accept_older_than,
            ))
        }
        Kind::Terminate => stored(&Terminate::new(&server)),
        Kind::Retire(ending) => stored(&Retire::new(ending, &server)),
        Kind::CleanUp => stored(&CleanUp::default()),
    };
    Ok(Ok((server, state)))
}

/// Why the server cannot take part, if so. Which job it would be does not matter as long as there is none.
pub fn hindrance(server: &source_server::Model, job: Option<&JobId>, kind: Kind) -> Option<String> {
    let job = job.cloned().unwrap_or_else(|| JobId::from_entropy(0));
    if let Some(running) = &server.running_job {
        return Some(format!("job {running} works on it"));
    }
    let event = match kind {
        Kind::Launch(Purpose::Test, _) => Event::TestStarted(job),
        Kind::Launch(Purpose::Cutover, _) => Event::CutoverStarted(job),
        Kind::Terminate => Event::TargetTerminationStarted,
        Kind::Retire(Ending::Finalize) => Event::Finalized,
        Kind::Retire(Ending::Disconnect) => Event::Disconnected,
        Kind::CleanUp => return None,
    };
    if let Err(illegal) = server.lifecycle.0.clone().on(event) {
        return Some(illegal.to_string());
    }
    match kind {
        Kind::Terminate if server.test_launch.is_none() && server.cutover_launch.is_none() => {
            Some("it has no launched instance".into())
        }
        Kind::Retire(Ending::Finalize) if server.cutover_launch.is_none() => {
            Some("it has no cutover instance; start the cutover first".into())
        }
        Kind::Retire(Ending::Disconnect) if server.lifecycle.is_final() && server.forgotten => {
            Some(match server.lifecycle.0 {
                Lifecycle::Cutover { .. } => "finalizing has disconnected it already".into(),
                _ => "it is disconnected already".into(),
            })
        }
        _ => None,
    }
}

async fn make_job(
    tx: &mut Write,
    id: &JobId,
    actor: &Actor,
    kind: Kind,
    tags: BTreeMap<String, String>,
    taking_part: Vec<(source_server::Model, serde_json::Value)>,
) -> Result<(), StoreError> {
    let now = now_ms();
    let row = job::Model {
        id: Word(id.clone()),
        initiated_by: Word(kind.initiated_by()),
        status: Word(JobStatus::Pending),
        tags: Doc(tags),
        created_by: actor.name.clone(),
        created_at: now,
        ended_at: None,
    };
    let participants = taking_part.iter().map(|(server, _)| job_server::Model {
        job: Word(id.clone()),
        server: server.id.clone(),
        account: server.account.clone(),
        status: Doc(LaunchStatus::Pending),
    });
    tx.job_insert(row, participants.collect()).await?;
    let sagas = taking_part.into_iter().map(|(server, state)| saga::Model {
        id: format!("{id}/{}", server.id),
        kind: Word(kind.initiated_by()),
        job: Word(id.clone()),
        server: server.id,
        state: Doc(state),
        position: 0,
        direction: Word(Direction::Forward),
        status: Word(SagaStatus::Running),
        attempts: 0,
        step_since: now,
        run_after: 0,
        last_error: None,
        failure: None,
        left: Doc(Vec::new()),
        cancelled_by: None,
    });
    tx.sagas_insert(sagas.collect()).await
}

fn stored<S: Serialize>(state: &S) -> serde_json::Value {
    serde_json::to_value(state).expect("a saga's state has no maps with keys that are not text")
}
