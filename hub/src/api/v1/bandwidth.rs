//! How much of the network a server may use, by the time of the week: the whole schedule at once.
//!
//! `{"mbitS": 100, "windows": [{"from": 480, "until": 1080, "mbitS": 20}], "utcOffsetMin": 60}` is 20 Mbit/s
//! on Mondays from 8 to 18 o'clock by a clock that is an hour ahead of UTC, and 100 Mbit/s else. Times are
//! minutes from Monday 00:00; `null` is no limit; the first window that holds a moment decides.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use domain::{
    bandwidth::{Bandwidth, Window},
    ids::SourceServerId,
};
use serde::{Deserialize, Serialize};

use crate::{
    Hub,
    actions::replication::update_replication_configuration,
    api::{ApiError, Ask, caller::Caller},
};

/// A member that is not known is refused: a limit that was misspelt would be none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    mbit_s: Option<u32>,
    #[serde(default)]
    windows: Vec<PlanWindow>,
    #[serde(default)]
    utc_offset_min: i16,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlanWindow {
    from: u16,
    until: u16,
    mbit_s: Option<u32>,
}

pub async fn get(caller: Caller, Path(id): Path<SourceServerId>) -> Result<Json<Plan>, ApiError> {
    Ok(Json(caller.store.server(&id).await?.bandwidth.0.into()))
}

pub async fn put(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<SourceServerId>,
    Ask(plan): Ask<Plan>,
) -> Result<Json<Plan>, ApiError> {
    let kept = update_replication_configuration(&hub, &caller.actor, &id, |kept| {
        kept.bandwidth = plan.into();
    })
    .await?;
    Ok(Json(kept.bandwidth.into()))
}

impl From<Plan> for Bandwidth {
    fn from(plan: Plan) -> Self {
        let window = |PlanWindow { from, until, mbit_s }| Window { from, until, mbit_s };
        Self {
            mbit_s: plan.mbit_s,
            windows: plan.windows.into_iter().map(window).collect(),
            utc_offset_min: plan.utc_offset_min,
        }
    }
}

impl From<Bandwidth> for Plan {
    fn from(kept: Bandwidth) -> Self {
        let window = |Window { from, until, mbit_s }| PlanWindow { from, until, mbit_s };
        Self {
            mbit_s: kept.mbit_s,
            windows: kept.windows.into_iter().map(window).collect(),
            utc_offset_min: kept.utc_offset_min,
        }
    }
}
