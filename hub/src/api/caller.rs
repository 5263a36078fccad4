//! Who asks the API: the one place where a request's credentials are read.
//!
//! Today that is `Authorization: Bearer <API key>`. Requests that are signed in AWS's manner belong here.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
};

use super::ApiError;
use crate::{
    Hub,
    auth::{Actor, address_of},
    store::Seen,
};

#[derive(Debug)]
pub struct Caller {
    pub actor: Actor,
    /// What the actor may see of the store: the API reads nothing else.
    pub store: Seen,
}

impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, ApiError> {
        let refuse = |kind, message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, kind, message));
        let Some(key) = bearer(&parts.headers) else {
            let message = "an API key is needed: Authorization: Bearer …; `orglift-hub key add` makes one";
            return refuse("MissingAuthenticationTokenException", message);
        };
        match hub.key_actor(key).await? {
            Some(actor) => Ok(Self {
                store: hub.store.seen_by(&actor),
                actor: actor.at(address_of(&parts.extensions)),
            }),
            None => refuse(
                "UnrecognizedClientException",
                "this hub does not know the API key",
            ),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
