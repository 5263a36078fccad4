//! Orders about the replication of one server. They say what is wanted; the runner strives for it.
//!
//! A server that a job works on keeps its intent until the job has ended. Its bandwidth may be changed
//! even then: a cutover that takes too long is when people want to.

use domain::{
    ids::SourceServerId,
    lifecycle::{Event, Lifecycle},
    replication_configuration::ReplicationConfiguration,
    source_server::ReplicationIntent,
};
use sea_orm::ActiveValue::Set;

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    entities::{Word, source_server, user::UserRole},
    store::Write,
};

pub async fn pause_replication(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "pause replication", server);
    let (mut tx, row) = open(hub, &order, server).await?;
    if row.intent.0 != ReplicationIntent::Run {
        drop(tx);
        return refuse(hub, &order, &row, "can be paused only while it is wanted to run").await;
    }
    want(&mut tx, &row, ReplicationIntent::Paused).await?;
    order.done(tx).await
}

pub async fn resume_replication(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
) -> Result<(), ActionError> {
    let order = Order::new(actor, "resume replication", server);
    let (mut tx, row) = open(hub, &order, server).await?;
    if row.intent.0 != ReplicationIntent::Paused {
        drop(tx);
        return refuse(hub, &order, &row, "is not paused").await;
    }
    want(&mut tx, &row, ReplicationIntent::Run).await?;
    order.done(tx).await
}

/// Stops replication; started again, it compares the disks anew.
pub async fn stop_replication(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "stop replication", server);
    let (mut tx, row) = open(hub, &order, server).await?;
    if let Err(illegal) = row.lifecycle.0.clone().on(Event::ReplicationStopped) {
        drop(tx);
        return order
            .refuse(hub, ActionError::refused(server, illegal.to_string()))
            .await;
    }
    tx.server_on(server, Event::ReplicationStopped).await?;
    want(&mut tx, &row, ReplicationIntent::Stopped).await?;
    order.done(tx).await
}

/// Starts a replication that was stopped, or never started.
pub async fn start_replication(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "start replication", server);
    let (mut tx, row) = open(hub, &order, server).await?;
    if let Err(illegal) = row.lifecycle.0.clone().on(Event::ReplicationStarted) {
        drop(tx);
        return order
            .refuse(hub, ActionError::refused(server, illegal.to_string()))
            .await;
    }
    tx.server_on(server, Event::ReplicationStarted).await?;
    want(&mut tx, &row, ReplicationIntent::Run).await?;
    order.done(tx).await
}

/// Tries a stalled replication again at once.
pub async fn retry_data_replication(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
) -> Result<(), ActionError> {
    let order = Order::new(actor, "retry data replication", server);
    let (mut tx, row) = open(hub, &order, server).await?;
    if row.intent.0 != ReplicationIntent::Run {
        drop(tx);
        return refuse(hub, &order, &row, "is not wanted to run; start or resume it").await;
    }
    tx.server_update(&row, |update| update.retry_request = Set(row.retry_request + 1))
        .await?;
    tx.runner_of_touch(&row).await?;
    order.done(tx).await
}

/// Changes the replication settings, from now on. `change` is given what is kept.
pub async fn update_replication_configuration(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
    change: impl FnOnce(&mut ReplicationConfiguration),
) -> Result<ReplicationConfiguration, ActionError> {
    let order = Order::new(actor, "update the replication configuration", server);
    let (mut tx, row) = order.begin_for(hub, server, UserRole::Operator).await?;
    if is_over(&row) {
        drop(tx);
        return order.refuse(hub, ActionError::refused(server, OVER)).await;
    }
    let mut configuration = row.replication_configuration();
    change(&mut configuration);
    configuration.check().map_err(ActionError::Invalid)?;
    let configured = row.clone().replicated_by(&configuration);
    tx.server_update(&row, |update| {
        update.bandwidth = Set(configured.bandwidth);
        update.checkpoint_interval_s = Set(configured.checkpoint_interval_s);
        update.checkpoints_kept = Set(configured.checkpoints_kept);
    })
    .await?;
    tx.runner_of_touch(&row).await?;
    order.done(tx).await?;
    Ok(configuration)
}

const OVER: &str = "its replication is over; install the agent anew to replicate it again";

fn is_over(row: &source_server::Model) -> bool {
    row.lifecycle.is_final() || row.intent.0 == ReplicationIntent::Disconnected
}

/// A server whose replication is not over, and that no job works on.
pub(super) async fn open(
    hub: &Hub,
    order: &Order<'_>,
    server: &SourceServerId,
) -> Result<(Write, source_server::Model), ActionError> {
    let (tx, row) = order.begin_for(hub, server, UserRole::Operator).await?;
    let hindrance = match (&row.running_job, &row.lifecycle.0) {
        (Some(job), _) => format!("job {job} works on it; wait until it ends"),
        (None, Lifecycle::Discovered | Lifecycle::PendingInstallation) => "it has no agent yet".to_owned(),
        _ if is_over(&row) => OVER.to_owned(),
        _ => return Ok((tx, row)),
    };
    drop(tx);
    order.refuse(hub, ActionError::refused(server, hindrance)).await
}

async fn refuse(
    hub: &Hub,
    order: &Order<'_>,
    row: &source_server::Model,
    why: &str,
) -> Result<(), ActionError> {
    let reason = format!("replication {why}; it is {}", row.replication_name);
    order.refuse(hub, ActionError::refused(&row.id, reason)).await
}

async fn want(
    tx: &mut Write,
    row: &source_server::Model,
    intent: ReplicationIntent,
) -> Result<(), ActionError> {
    tx.server_update(row, |update| update.intent = Set(Word(intent)))
        .await?;
    tx.runner_of_touch(row).await?;
    Ok(())
}
