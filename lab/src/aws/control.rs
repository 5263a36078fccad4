//! `/_lab/…`: what tests order and ask while clients run.
//!
//! | | |
//! |---|---|
//! | `GET`, `PUT` `/_lab/faults` | the list of faults, see [`super::faults`] |
//! | `GET`, `DELETE` `/_lab/calls` | the log of calls |
//! | `GET`, `PUT` `/_lab/settings` | quotas and times of EBS direct, see [`super::ebs::settings`] |

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use super::front::Front;

/// A list of a thousand faults is shorter.
const BODY_MAX: usize = 1 << 20;

pub(super) async fn answer(front: &Front, request: Request) -> Response {
    let (request, body) = request.into_parts();
    match (request.method.as_str(), request.uri.path()) {
        ("GET", "/_lab/faults") => Json(front.faults.list()).into_response(),
        ("PUT", "/_lab/faults") => set(body, |faults| front.faults.set(faults)).await,
        ("GET", "/_lab/calls") => Json(front.calls.list()).into_response(),
        ("DELETE", "/_lab/calls") => {
            front.calls.forget();
            StatusCode::NO_CONTENT.into_response()
        }
        ("GET", "/_lab/settings") => Json(front.ebs.settings()).into_response(),
        ("PUT", "/_lab/settings") => set(body, |settings| front.ebs.set(settings)).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn set<T: DeserializeOwned>(body: Body, set: impl FnOnce(T)) -> Response {
    let Ok(text) = to_bytes(body, BODY_MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match serde_json::from_slice(&text) {
        Ok(value) => {
            set(value);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
