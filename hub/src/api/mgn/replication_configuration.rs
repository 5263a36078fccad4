//! Replication settings of one server.
//!
//! Of MGN's members only `bandwidthThrottling` has a meaning here: it is the limit outside of the windows of
//! the weekly schedule, which MGN has no words for and `/api/v1` has. The others describe replication
//! servers and staging disks. They are answered as MGN sets them by default, whatever an update says.

use std::sync::Arc;

use axum::{Json, extract::State};
use domain::bandwidth::MBIT_S_MAX;
use serde::Deserialize;
use serde_json::Value;

use super::{servers::OneServer, shapes};
use crate::{
    Hub,
    actions::replication::update_replication_configuration,
    api::{ApiError, Ask, caller::Caller},
};

pub async fn get(caller: Caller, Ask(request): Ask<OneServer>) -> Result<Json<Value>, ApiError> {
    let server = request.find(&caller).await?;
    Ok(Json(shapes::replication_configuration(
        &server,
        &server.bandwidth,
    )))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    #[serde(flatten)]
    server: OneServer,
    /// Mbit/s; 0 is none.
    bandwidth_throttling: Option<i64>,
}

pub async fn update(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<Update>,
) -> Result<Json<Value>, ApiError> {
    let server = request.server.find(&caller).await?;
    let limit = request.bandwidth_throttling.map(limit).transpose()?;
    let kept = update_replication_configuration(&hub, &caller.actor, &server.id, |kept| {
        if let Some(limit) = limit {
            kept.bandwidth.mbit_s = limit;
        }
    })
    .await?;
    Ok(Json(shapes::replication_configuration(&server, &kept.bandwidth)))
}

fn limit(throttling: i64) -> Result<Option<u32>, ApiError> {
    match u32::try_from(throttling) {
        Ok(0) => Ok(None),
        Ok(mbit_s) if mbit_s <= MBIT_S_MAX => Ok(Some(mbit_s)),
        _ => Err(ApiError::validation(format!(
            "bandwidthThrottling lies between 0 and {MBIT_S_MAX} Mbit/s; 0 is no limit"
        ))),
    }
}
