//! What a runner reports, taken into the store: one transaction per report, and only what changed.

use domain::{
    checkpoint::CheckpointKind,
    flow::Flow,
    ids::{RunnerId, SourceServerId},
    lifecycle::{Event, Lifecycle},
    readiness::Readiness,
    replication::Replication,
    source_server::ReplicationIntent,
    trend::{Point, interval},
};
use protocol::exchange::{Observed, ObservedServer};
use sea_orm::ActiveValue::{NotSet, Set};

use super::ArrivedAt;
use crate::{
    Hub,
    changes::Change,
    clock::now_ms,
    entities::{Doc, Word, checkpoint, conversion, runner, source_server},
    store::{StoreError, Write},
};

pub async fn take(
    hub: &Hub,
    id: &RunnerId,
    at: Option<ArrivedAt>,
    report: Observed,
) -> Result<(), StoreError> {
    let now = now_ms();
    let mut tx = hub.store.begin().await?;
    let runner = tx.runner(id).await?;
    let servers = tx.servers_of_runner(id).await?;
    let ids: Vec<SourceServerId> = servers.iter().map(|server| server.id.0.clone()).collect();
    let checkpoints = tx.checkpoints_of(&ids).await?;
    let conversions = tx.conversions_wanted(&ids).await?;
    let up_to_date = report.generation == runner.desired_generation.cast_unsigned();
    let (mut seen, mut measured) = (Vec::new(), Vec::new());
    for server in &servers {
        let known: Vec<_> = checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.server == server.id)
            .cloned()
            .collect();
        match report.servers.iter().find(|observed| observed.id == server.id.0) {
            Some(observed) => {
                if observed.agent.is_some() {
                    seen.push(server.id.0.clone());
                }
                take_server(&mut tx, server, &known, observed, now).await?;
                measured.extend(measure(server, observed, now));
                let wanted = conversions.iter().find(|wanted| wanted.server == server.id);
                if let Some(wanted) = wanted {
                    take_conversion(&mut tx, server, wanted, observed).await?;
                }
            }
            // It has heard of the wish and knows nothing of the server: nothing is left with it.
            None if up_to_date && server.intent.0 == ReplicationIntent::Disconnected => {
                forget(&mut tx, server).await?;
            }
            None => {}
        }
    }
    for stranger in report
        .servers
        .iter()
        .filter(|observed| !ids.contains(&observed.id))
    {
        tracing::warn!(server.id = %stranger.id, runner.id = %id, "runner {id} reports a source server that is not its");
    }
    tx.servers_seen(&seen, now).await?;
    tx.trends_add(&measured, now).await?;
    tx.turned_away_add(id, report.turned_away).await?;
    let row = runner::ActiveModel {
        id: Set(Word(id.clone())),
        version: Set(report.runner_version),
        last_seen: Set(Some(now)),
        hub_address: at.map_or(NotSet, |ArrivedAt(at)| Set(Some(at.to_string()))),
        staging_free: Set(report.staging_free_bytes.map(u64::cast_signed)),
        observed_generation: Set(report.generation.cast_signed()),
        ..Default::default()
    };
    let change = Change::Runner {
        runner: id.clone(),
        account: runner.account.0,
    };
    tx.runner_update(row, change).await?;
    tx.commit().await
}

/// The next point of its trend, once it is time for one.
fn measure(
    server: &source_server::Model,
    observed: &ObservedServer,
    now: i64,
) -> Option<(SourceServerId, Point)> {
    let is_due = now - server.measured_at >= 1000 * interval((now - server.created_at) / 1000);
    if !is_due || server.forgotten || server.lifecycle.is_final() {
        return None;
    }
    // An agent that is away sends nothing.
    let flow = observed.agent.as_ref().map(|_| &observed.flow);
    let kib_s = |bytes_s: u64| u32::try_from(bytes_s / 1024).unwrap_or(u32::MAX);
    let point = Point {
        at_s: now / 1000,
        lag_s: server
            .lag_ms(now)
            .map(|lag| u32::try_from(lag / 1000).unwrap_or(u32::MAX)),
        written_kib_s: flow.map_or(0, |flow| kib_s(flow.written_bytes_s)),
        sent_kib_s: flow.map_or(0, |flow| kib_s(flow.copied_bytes_s)),
    };
    Some((server.id.0.clone(), point))
}

async fn take_server(
    tx: &mut Write,
    server: &source_server::Model,
    known: &[checkpoint::Model],
    observed: &ObservedServer,
    now: i64,
) -> Result<(), StoreError> {
    if server.forgotten {
        return Ok(());
    }
    if observed.forgotten {
        // An older report may cross with an order to take the server up again.
        if server.intent.0 == ReplicationIntent::Disconnected {
            forget(tx, server).await?;
        }
        return Ok(());
    }
    tx.checkpoints_replace(&server.id, known, &observed.checkpoints)
        .await?;
    let launchable = observed
        .checkpoints
        .iter()
        .filter(|checkpoint| checkpoint.kind == CheckpointKind::Launchable && checkpoint.damage.is_none());
    let lag_basis = launchable.map(|checkpoint| checkpoint.taken_at_ms).max();
    let row = changes_of(server, observed, lag_basis, now);
    if row != source_server::ActiveModel::default() {
        tx.server_update(server, |update| {
            *update = source_server::ActiveModel {
                id: Set(server.id.clone()),
                ..row
            };
        })
        .await?;
    }
    if server.lifecycle.0 == Lifecycle::NotReady && lag_basis.is_some() {
        tx.server_on(&server.id, Event::FirstLaunchableCheckpoint).await?;
    }
    Ok(())
}

async fn take_conversion(
    tx: &mut Write,
    server: &source_server::Model,
    wanted: &conversion::Model,
    observed: &ObservedServer,
) -> Result<(), StoreError> {
    match &observed.conversion {
        Some(seen) if seen.job == wanted.job.0 && wanted.state.as_ref() != Some(&seen.state) => {
            tx.conversion_stands(server, wanted, seen.state.clone()).await
        }
        _ => Ok(()),
    }
}

/// The columns that the report changes, and no others.
fn changes_of(
    server: &source_server::Model,
    observed: &ObservedServer,
    lag_basis: Option<i64>,
    now: i64,
) -> source_server::ActiveModel {
    let mut row = source_server::ActiveModel::default();
    if server.replication.0 != observed.replication {
        row.replication_name = Set(observed.replication.name().to_owned());
        row.replication = Set(Doc(observed.replication.clone()));
    }
    if server.disks.0 != observed.disks {
        row.disks = Set(Doc(observed.disks.clone()));
        row.untracked = Set(source_server::is_untracked(&observed.disks));
    }
    if server.flow.0 != observed.flow {
        row.flow = Set(Doc(observed.flow.clone()));
        row.diverges = Set(source_server::diverges(&observed.flow));
    }
    if server.lag_basis != lag_basis {
        row.lag_basis = Set(lag_basis);
    }
    // A runner that has not looked again since it was started takes nothing back.
    if observed.inspection.is_some() && server.inspection.0 != observed.inspection {
        let findings = observed.inspection.as_ref().map(|seen| seen.findings.as_slice());
        row.readiness = Set(Word(Readiness::of(findings)));
        row.inspection = Set(Doc(observed.inspection.clone()));
    }
    let some_bytes = observed.disks.iter().any(|disk| disk.replicated_bytes > 0);
    if server.first_byte_at.is_none() && some_bytes {
        row.first_byte_at = Set(Some(now));
    }
    if let Some(agent) = &observed.agent {
        if server.agent_address.as_ref() != Some(&agent.address) {
            row.agent_address = Set(Some(agent.address.clone()));
        }
        if server.agent_version.as_ref() != Some(&agent.agent_version) {
            row.agent_version = Set(Some(agent.agent_version.clone()));
        }
        if server.properties.0 != agent.properties {
            row.hostname = Set(agent.properties.hostname.clone());
            row.properties = Set(Doc(agent.properties.clone()));
        }
    }
    row
}

/// Nothing of the server is left with its runner.
async fn forget(tx: &mut Write, server: &source_server::Model) -> Result<(), StoreError> {
    if server.forgotten {
        return Ok(());
    }
    tx.checkpoints_forget(&server.id).await?;
    tx.server_update(server, |row| {
        row.forgotten = Set(true);
        row.replication = Set(Doc(Replication::Disconnected));
        row.replication_name = Set(Replication::Disconnected.name().to_owned());
        row.lag_basis = Set(None);
        row.disks = Set(Doc(Vec::new()));
        row.untracked = Set(false);
        row.flow = Set(Doc(Flow::default()));
        row.diverges = Set(false);
        row.inspection = Set(Doc(None));
        row.readiness = Set(Word(Readiness::NotInspected));
    })
    .await?;
    tx.runner_of_touch(server).await?;
    Ok(())
}
