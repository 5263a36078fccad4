//! What MGN has no words for: organizations and rosters, tokens, runners, checkpoints, conversions, the ledger.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    routing::{get, post},
};
use cloud::route::Route;
use domain::{
    account::Reach,
    ids::{AccountId, JobId, RunnerId, SourceServerId},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Ask, caller::Caller, date_time, mgn::shapes::SourceServer};
use crate::{
    Hub,
    actions::{
        accounts::{self, NewOrganization, RosterAccount},
        job_control, jobs, machines,
    },
    clock::now_ms,
    entities::{ledger, source_server::Launch, token::TokenPurpose},
};

mod bandwidth;
mod conversion_settings;
mod conversions;
mod inventory;
mod launches;
mod readiness;
mod removals;
mod resources;

pub fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/organizations", get(organizations).post(add_organization))
        .route("/accounts", get(account_list))
        .route("/accounts/refresh", post(refresh_accounts))
        .route("/accounts/{id}/ledger", get(account_ledger))
        .route(
            "/accounts/{id}/readiness",
            get(readiness::get).post(readiness::check),
        )
        .route(
            "/accounts/{id}/resources",
            get(resources::get).post(resources::check),
        )
        .route("/tokens", post(create_token))
        .route("/runners", get(runners))
        .route("/runners/{id}/revoke", post(revoke_runner))
        .route("/servers/{id}", get(server))
        .route("/servers/{id}/bandwidth", get(bandwidth::get).put(bandwidth::put))
        .route(
            "/servers/{id}/conversion-settings",
            get(conversion_settings::get).put(conversion_settings::put),
        )
        .route("/servers/{id}/conversions/{job}", get(conversions::get))
        .route(
            "/servers/{id}/conversions/{job}/{document}",
            get(conversions::document),
        )
        .route("/servers/{id}/launch-check", post(launches::check))
        .route("/servers/{id}/removal-check", post(removals::check))
        .route("/servers/{id}/instances/{purpose}/{what}", get(launches::shown))
        .route("/servers/{id}/clean-up", post(clean_up))
        .route("/servers/{id}/revoke", post(revoke_server))
        .route("/jobs/{job}/cancel", post(cancel_job))
        .route(
            "/inventory",
            get(inventory::export)
                .post(inventory::import)
                .layer(DefaultBodyLimit::max(inventory::BODY_MAX)),
        )
        .route("/turned-away", get(turned_away))
}

type Answer = Result<Json<Value>, ApiError>;

async fn organizations(caller: Caller) -> Answer {
    let organizations = caller.store.organization_list().await?;
    let items: Vec<_> = organizations
        .iter()
        .map(|row| {
            json!({
                "id": row.id.0,
                "name": row.name,
                "reach": row.reach.0,
                "region": row.region,
                "listing": row.listing.0,
                "listedAt": row.listed_at.map(date_time),
            })
        })
        .collect();
    Ok(Json(json!({ "items": items })))
}

#[derive(Debug, Deserialize)]
struct AddOrganization {
    name: String,
    reach: Reach,
    region: Option<String>,
    #[serde(default)]
    accounts: Vec<RosterAccount>,
    #[serde(default)]
    route: Route,
}

async fn add_organization(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<AddOrganization>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let of_an_account = || request.accounts.iter().find_map(|account| account.region.clone());
    let region = request.region.clone().or_else(of_an_account).ok_or_else(|| {
        ApiError::validation("a region is needed, for the organization or for each account")
    })?;
    let new = NewOrganization {
        name: request.name,
        reach: request.reach,
        region,
        roster: request.accounts,
        route: request.route,
    };
    let id = accounts::add_organization(&hub, &caller.actor, new).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn account_list(caller: Caller, State(hub): State<Arc<Hub>>) -> Answer {
    let now = now_ms();
    let overview = hub.account_overview(&caller.actor).await?;
    let items: Vec<_> = overview
        .iter()
        .map(|row| {
            json!({
                "id": row.account.id.0,
                "organization": row.account.organization.0,
                "name": row.account.name,
                "region": row.account.region,
                "suspended": row.account.suspended,
                "access": row.account.access.0,
                "checkedAt": row.account.checked_at.map(date_time),
                "servers": row.servers,
                "replication": row.replication,
                "longestLagSeconds": row.oldest_lag_basis.map(|basis| (now - basis).max(0) / 1000),
                "serversInJobs": row.in_jobs,
                "networkFindings": row.network_findings,
                "runners": row.runners.iter().map(|runner| &runner.id.0).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(Json(json!({ "items": items })))
}

async fn refresh_accounts(caller: Caller, State(hub): State<Arc<Hub>>) -> Result<StatusCode, ApiError> {
    accounts::refresh_accounts(&hub, &caller.actor).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn account_ledger(caller: Caller, Path(id): Path<AccountId>) -> Answer {
    caller.store.account(&id).await?;
    let left = caller.store.ledger_left_in(&id).await?;
    Ok(Json(
        json!({ "items": left.iter().map(ledger_row).collect::<Vec<_>>() }),
    ))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateToken {
    account: AccountId,
    purpose: TokenPurpose,
    #[serde(default = "an_hour")]
    ttl_seconds: u64,
}

fn an_hour() -> u64 {
    3600
}

async fn create_token(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<CreateToken>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let ttl = Duration::from_secs(request.ttl_seconds);
    let token = machines::create_token(&hub, &caller.actor, &request.account, request.purpose, ttl).await?;
    Ok((StatusCode::CREATED, Json(json!({ "token": token.reveal() }))))
}

async fn runners(caller: Caller) -> Answer {
    let runners = caller.store.runner_list().await?;
    let items: Vec<_> = runners
        .iter()
        .map(|row| {
            json!({
                "id": row.id.0,
                "account": row.account.0,
                "region": row.region,
                "address": row.address,
                "dataPort": row.data_port,
                "enrolPort": row.enrol_port,
                "version": row.version,
                "lastSeen": row.last_seen.map(date_time),
                "stagingFreeBytes": row.staging_free,
            })
        })
        .collect();
    Ok(Json(json!({ "items": items })))
}

async fn revoke_runner(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<RunnerId>,
) -> Result<StatusCode, ApiError> {
    machines::revoke_runner(&hub, &caller.actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke_server(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<SourceServerId>,
) -> Result<StatusCode, ApiError> {
    machines::revoke_server(&hub, &caller.actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clean_up(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<SourceServerId>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.store.server(&id).await?;
    let ordered = jobs::clean_up(&hub, &caller.actor, &[id]).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "jobID": ordered.job }))))
}

async fn cancel_job(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<JobId>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let servers = job_control::cancel(&hub, &caller.actor, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "cancelledServers": servers }))))
}

/// A server in MGN's shape, and beside it what proves that its targets equal it.
async fn server(caller: Caller, Path(id): Path<SourceServerId>) -> Answer {
    let server = caller.store.server(&id).await?;
    let region = caller.store.account(&server.account).await?.region;
    let checkpoints = caller.store.checkpoint_list(&id).await?;
    let checkpoints: Vec<_> = checkpoints
        .iter()
        .map(|row| {
            json!({
                "number": row.number,
                "kind": row.kind.0,
                "consistency": row.consistency.0,
                "takenAt": date_time(row.taken_at),
                "request": row.request,
                "frozenMs": row.frozen_ms,
                "receivedBytes": row.received_bytes,
                "damage": row.damage,
                "pinnedBy": row.pinned_by.as_ref().map(|job| &job.0),
                "disks": row.disks.0,
            })
        })
        .collect();
    let ledger = caller.store.ledger_of_server(&id).await?;
    let conversion = caller.store.conversion_of(&id).await?;
    let now = now_ms();
    let launches = json!({
        "test": server.test_launch.as_ref().map(launch),
        "cutover": server.cutover_launch.as_ref().map(launch),
    });
    Ok(Json(json!({
        "account": server.account.0,
        "generation": server.generation,
        "intent": server.intent.0,
        "runningJob": server.running_job.as_ref().map(|job| &job.0),
        "disks": server.disks.0,
        "flow": server.flow_at(now),
        "checkpoints": checkpoints,
        "launches": launches,
        "readiness": conversions::readiness(&server),
        "conversion": conversion.as_ref().map(conversions::shape),
        "ledger": ledger.iter().map(ledger_row).collect::<Vec<_>>(),
        "sourceServer": SourceServer::new(server, &region, now),
    })))
}

fn launch(launch: &Launch) -> Value {
    let roots = launch
        .roots
        .iter()
        .map(|(disk, root)| json!({ "disk": disk, "root": root }));
    json!({
        "job": launch.job,
        "instance": launch.instance,
        "at": date_time(launch.at),
        "checkpoint": launch.checkpoint,
        "takenAt": date_time(launch.taken_at),
        "consistency": launch.consistency,
        "roots": roots.collect::<Vec<_>>(),
    })
}

fn ledger_row(row: &ledger::Model) -> Value {
    json!({
        "token": row.token.0,
        "account": row.account.0,
        "region": row.region,
        "kind": row.kind.0,
        "resource": row.resource,
        "state": row.state.0,
        "server": row.server.0,
        "job": row.job.0,
        "step": row.step,
        "wantedAt": date_time(row.wanted_at),
        "presentAt": row.present_at.map(date_time),
        "endedAt": row.ended_at.map(date_time),
    })
}

/// As many as a page shows.
const TURNED_AWAY_SHOWN: u64 = 100;

async fn turned_away(caller: Caller) -> Answer {
    let rows = caller.store.turned_away_list(TURNED_AWAY_SHOWN).await?;
    let items: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "runner": row.runner.0,
                "address": row.address,
                "server": row.server.as_ref().map(|server| &server.0),
                "reason": row.reason,
                "at": date_time(row.at),
            })
        })
        .collect();
    Ok(Json(json!({ "items": items })))
}
