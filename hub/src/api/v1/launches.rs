//! Launches before and after: `POST /servers/{id}/launch-check?purpose=test` says whether one would go well now, and
//! `GET /servers/{id}/instances/{purpose}/console.txt` and `…/screenshot` what the launched instance shows.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    response::Response,
};
use domain::{ids::SourceServerId, launch::Purpose};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Hub,
    actions::launch_check::{Foreseen, launch_check},
    api::{ApiError, caller::Caller},
    launched::{self, Shown},
};

#[derive(Debug, Deserialize)]
pub struct For {
    purpose: Purpose,
}

pub async fn check(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<SourceServerId>,
    Query(For { purpose }): Query<For>,
) -> Result<Json<Value>, ApiError> {
    let server = caller.store.server(&id).await?;
    Ok(Json(
        match launch_check(&hub, &caller.actor, &server, purpose).await? {
            Foreseen::Possible {
                instance_type,
                not_checked,
            } => json!({ "possible": true, "instanceType": instance_type, "notChecked": not_checked }),
            Foreseen::Impossible(obstacles) => json!({ "possible": false, "obstacles": obstacles }),
            Foreseen::Unknown(why) => json!({ "possible": null, "reason": why }),
        },
    ))
}

pub async fn shown(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path((id, purpose, what)): Path<(SourceServerId, Purpose, Shown)>,
) -> Result<Response, ApiError> {
    let server = caller.store.server(&id).await?;
    Ok(launched::show(&hub, &caller.actor, &server, purpose, what).await?)
}
