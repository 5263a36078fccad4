//! What an account has of ours: `GET /accounts/{id}/resources?server=s-…` as it last told, and `POST` has it asked at once.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use domain::ids::{AccountId, SourceServerId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Hub,
    actions::accounts,
    api::{ApiError, caller::Caller, date_time},
    resources::of_place,
};

#[derive(Debug, Deserialize)]
pub struct Of {
    server: Option<SourceServerId>,
}

/// `nothingLeft` says whether all that there is, is needed; it is null as long as the account did not answer.
pub async fn get(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<AccountId>,
    Query(of): Query<Of>,
) -> Result<Json<Value>, ApiError> {
    caller.store.account(&id).await?;
    let mut regions = Vec::new();
    for row in caller.store.inventory_of(&id).await? {
        let asked_at = row.asked_at.unwrap_or_default();
        let mut found = of_place(
            &caller.store,
            &hub.prices,
            &id,
            &row.region,
            &row.resources,
            asked_at,
        )
        .await?;
        if let Some(server) = &of.server {
            found.retain(server);
        }
        let mut region = found.json();
        region["region"] = json!(row.region);
        region["pricesOf"] = json!(hub.prices.region_for(&row.region));
        region["askedAt"] = json!(row.asked_at.map(date_time));
        region["triedAt"] = json!(row.tried_at.map(date_time));
        region["access"] = json!(row.access.0);
        region["nothingLeft"] = json!(row.is_known().then(|| found.is_right()));
        regions.push(region);
    }
    let prices = json!({
        "source": hub.prices.source,
        "asOf": hub.prices.as_of,
        "currency": hub.prices.currency,
    });
    Ok(Json(json!({ "regions": regions, "prices": prices })))
}

pub async fn check(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<AccountId>,
) -> Result<StatusCode, ApiError> {
    accounts::check_resources(&hub, &caller.actor, &id).await?;
    Ok(StatusCode::ACCEPTED)
}
