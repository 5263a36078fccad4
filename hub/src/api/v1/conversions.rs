//! Boot readiness and conversions of a server, and their documents.
//!
//! `GET /servers/{id}` has `readiness`, and the last `conversion`. Of each conversion there are `changes.json`, byte by
//! byte as its runner signed it, `changes.json.sig`, `certificate.pem`, `changes.txt`, and of a rehearsal `console.txt`
//! and `screenshot.png`: `GET /servers/{id}/conversions/{job}/{document}`.

use axum::{Json, extract::Path, response::Response};
use domain::ids::{JobId, SourceServerId};
use serde_json::{Value, json};

use crate::{
    api::{ApiError, caller::Caller, date_time},
    documents::Document,
    entities::{conversion, source_server},
};

pub async fn get(
    caller: Caller,
    Path((id, job)): Path<(SourceServerId, JobId)>,
) -> Result<Json<Value>, ApiError> {
    let conversion = caller.store.conversion(&job, &id).await?;
    let lacks = || ApiError::not_found(format_args!("a conversion of source server {id} by job {job}"));
    let conversion = conversion.ok_or_else(lacks)?;
    let artifacts = caller.store.artifact_list(&job, &id).await?;
    let documents = Document::ALL
        .into_iter()
        .filter(|document| artifacts.contains(&document.artifact()))
        .map(Document::name);
    let mut shape = shape(&conversion);
    shape["documents"] = documents.collect();
    Ok(Json(shape))
}

pub async fn document(
    caller: Caller,
    Path((id, job, name)): Path<(SourceServerId, JobId, String)>,
) -> Result<Response, ApiError> {
    let lacks = || ApiError::not_found(format_args!("the document {name:?} of this conversion"));
    let document = Document::by_name(&name).ok_or_else(lacks)?;
    let contents = document.load(&caller.store, &job, &id).await?;
    Ok(document.answer(contents.ok_or_else(lacks)?))
}

pub fn readiness(server: &source_server::Model) -> Value {
    let seen = server.inspection.as_ref();
    json!({
        "state": server.readiness.0,
        "checkpoint": seen.map(|seen| seen.checkpoint),
        "at": seen.map(|seen| date_time(seen.at_ms)),
        "findings": seen.map(|seen| &seen.findings),
    })
}

pub fn shape(conversion: &conversion::Model) -> Value {
    json!({
        "job": conversion.job.0,
        "wanted": conversion.wanted,
        "order": conversion.order.0,
        "progress": conversion.state.0,
        "orderedAt": date_time(conversion.ordered_at),
        "endedAt": conversion.ended_at.map(date_time),
    })
}
