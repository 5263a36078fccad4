//! Whether the network of an account is ready: `GET /accounts/{id}/readiness` answers with the last report of each region,
//! and `POST` has the hub look at once.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use domain::ids::AccountId;
use serde_json::{Value, json};

use crate::{
    Hub,
    actions::accounts::check_network,
    api::{ApiError, caller::Caller, date_time},
    entities::readiness,
    readiness::Report,
};

pub async fn get(caller: Caller, Path(id): Path<AccountId>) -> Result<Json<Value>, ApiError> {
    caller.store.account(&id).await?;
    let rows = caller.store.readiness_of(&id).await?;
    Ok(Json(
        json!({ "items": rows.iter().map(shape).collect::<Vec<_>>() }),
    ))
}

pub async fn check(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<AccountId>,
) -> Result<StatusCode, ApiError> {
    check_network(&hub, &caller.actor, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

fn shape(row: &readiness::Model) -> Value {
    let report = row.report.0.as_ref();
    json!({
        "region": row.region,
        "checkedAt": row.checked_at.map(date_time),
        "beingChecked": row.wanted,
        "sources": report.map(|report| &report.sources),
        "hub": report.and_then(|report| report.hub),
        "outcome": report.map(|report| &report.outcome),
        "drift": report.map(|report| &report.drift),
        "notAsked": report.map(Report::not_asked),
    })
}
