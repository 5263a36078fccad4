//! The API on the UI listener.
//!
//! - [`mgn`]: operations in the shape of AWS MGN's, for automation that exists.
//! - [`v1`]: what MGN has no words for: organizations, tokens, runners, checkpoints, the ledger.
//! - [`caller`]: who asks.
//!
//! Members that are not known are ignored, as clients of newer MGN versions send some.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequest, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use self::caller::Caller;
use crate::{Hub, actions::ActionError, store::StoreError};

pub mod caller;
pub mod mgn;
#[cfg(test)]
mod tests;
pub mod v1;

/// A request names at most two hundred servers and fifty tags.
const BODY_MAX: usize = 256 << 10;

pub fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .merge(mgn::routes())
        .nest("/api/v1", v1::routes())
        .route("/metrics", get(metrics))
        .with_state(hub)
}

/// For a scraper that has an API key of its own, of a viewer of everything.
async fn metrics(caller: Caller, State(hub): State<Arc<Hub>>) -> Result<impl IntoResponse, ApiError> {
    if caller.actor.role_everywhere().is_none() {
        let why = "metrics are of all accounts: use the API key of somebody who may see everything";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", why));
    }
    let text = crate::metrics::render(&hub, &caller.actor).await?;
    Ok(([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text))
}

/// An answer that is not a success, in the shape of an AWS `rest-json` error.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    /// MGN's exception.
    kind: &'static str,
    message: String,
    /// MGN's `ErrorDetails`: one per server that could not take part.
    errors: Vec<serde_json::Value>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            errors: Vec::new(),
        }
    }

    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        let message = format!("{what} does not exist");
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request to the API failed");
        let message = "the hub could not use its own state; nothing was done";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerException",
            message,
        )
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what } => Self::not_found(what),
            StoreError::Illegal(illegal) => Self::validation(illegal.to_string()),
            StoreError::Database(_) => Self::internal(&error),
        }
    }
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        let message = error.to_string();
        match error {
            ActionError::Forbidden { .. } => {
                Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
            }
            ActionError::NotFound { what } => Self::not_found(what),
            ActionError::Invalid(_) => Self::validation(message),
            ActionError::Conflict(_) => Self::new(StatusCode::CONFLICT, "ConflictException", message),
            ActionError::Refused(refused) => {
                let details = refused.into_iter().map(|refused| {
                    json!({
                        "message": refused.reason,
                        "resourceId": refused.server,
                        "resourceType": "SourceServer",
                    })
                });
                Self {
                    errors: details.collect(),
                    ..Self::new(StatusCode::CONFLICT, "ConflictException", message)
                }
            }
            ActionError::Store(_) | ActionError::Identity(_) => Self::internal(&error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "code": self.kind, "message": self.message });
        if !self.errors.is_empty() {
            body["errors"] = self.errors.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let header = HeaderValue::from_static(self.kind);
        response.headers_mut().insert("x-amzn-errortype", header);
        response
    }
}

/// A request's JSON body. None at all stands for one without members, as AWS clients send it.
#[derive(Debug)]
pub struct Ask<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Ask<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = axum::body::to_bytes(request.into_body(), BODY_MAX)
            .await
            .map_err(|_| ApiError::validation(format!("the request is longer than {BODY_MAX} bytes")))?;
        let body = if body.is_empty() { &b"{}"[..] } else { &body[..] };
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| ApiError::validation(format!("the request cannot be read: {error}")))
    }
}

/// A time as MGN writes it.
fn date_time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
