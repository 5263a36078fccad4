//! The inventory as CSV: handed in, and given out.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use domain::ids::AccountId;
use serde::Deserialize;

use crate::{
    Hub,
    actions::inventory,
    api::{ApiError, caller::Caller},
    import::{
        apply::Outcome,
        encoding::{self, BYTES_MAX},
        export,
    },
};

pub const BODY_MAX: usize = BYTES_MAX;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// On import: of rows that name none. On export: nothing else.
    account: Option<AccountId>,
    dry_run: bool,
}

/// Answers with what was changed and each fault, also where nothing could be done.
pub async fn import(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Query(asked): Query<Asked>,
    body: Bytes,
) -> Result<Json<Outcome>, ApiError> {
    let text = encoding::decode(&body).map_err(ApiError::validation)?;
    let usual = asked.account.as_ref();
    Ok(Json(
        inventory::import(&hub, &caller.actor, &text, usual, asked.dry_run).await?,
    ))
}

pub async fn export(caller: Caller, Query(asked): Query<Asked>) -> Result<Response, ApiError> {
    if let Some(account) = &asked.account {
        caller.store.account(account).await?;
    }
    let text = export::export(&caller.store, asked.account.as_ref()).await?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response())
}
