//! Endings before they happen: `POST /servers/{id}/removal-check?removal=finalize-cutover` says what would be removed from
//! the account, what stays, and what is left alone as it is not known well enough.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use domain::ids::SourceServerId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Hub,
    actions::removal_check::removal_check,
    api::{ApiError, caller::Caller},
    resources::removal::Removal,
};

#[derive(Debug, Deserialize)]
pub struct Of {
    removal: Removal,
}

/// `removed` is null where the account could not be asked.
pub async fn check(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<SourceServerId>,
    Query(Of { removal }): Query<Of>,
) -> Result<Json<Value>, ApiError> {
    let server = caller.store.server(&id).await?;
    Ok(Json(
        match removal_check(&hub, &caller.actor, &server, removal).await? {
            Ok(foreseen) => foreseen.json(),
            Err(why) => json!({ "removed": null, "reason": why }),
        },
    ))
}
