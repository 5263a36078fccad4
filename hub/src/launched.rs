//! What a launched instance shows of itself: asked of its account each time, and kept nowhere.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use cloud::{
    control::{Place, Screenshot},
    route::Errand,
};
use domain::launch::Purpose;
use serde::Deserialize;

use crate::{Hub, actions::ActionError, auth::Actor, documents::file, entities::source_server};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Shown {
    #[serde(rename = "console.txt")]
    Console,
    #[serde(rename = "screenshot")]
    Screenshot,
}

/// The text of its serial console.
pub async fn console_text(
    hub: &Hub,
    actor: &Actor,
    server: &source_server::Model,
    purpose: Purpose,
) -> Result<String, ActionError> {
    let (place, instance) = launched(hub, actor, server, purpose).await?;
    let text = hub.cloud.console_text(&place, &instance).await;
    text.map_err(|error| ActionError::Invalid(error.to_string()))
}

/// What its screen shows, if it has one.
pub async fn screenshot(
    hub: &Hub,
    actor: &Actor,
    server: &source_server::Model,
    purpose: Purpose,
) -> Result<Option<Screenshot>, ActionError> {
    let (place, instance) = launched(hub, actor, server, purpose).await?;
    let screen = hub.cloud.screenshot(&place, &instance).await;
    screen.map_err(|error| ActionError::Invalid(error.to_string()))
}

/// As a file.
pub async fn show(
    hub: &Hub,
    actor: &Actor,
    server: &source_server::Model,
    purpose: Purpose,
    what: Shown,
) -> Result<Response, ActionError> {
    let (kind, saved_as, contents) = match what {
        Shown::Console => {
            let text = console_text(hub, actor, server, purpose).await?;
            (
                "text/plain; charset=utf-8",
                Some("console.txt"),
                text.into_bytes(),
            )
        }
        Shown::Screenshot => {
            let screen = screenshot(hub, actor, server, purpose).await?;
            let screen = screen.ok_or_else(|| ActionError::NotFound {
                what: "a picture of the instance's screen".into(),
            })?;
            (screen.media_type, None, screen.bytes)
        }
    };
    // It is another one a moment later.
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, file(kind, saved_as, contents)).into_response())
}

async fn launched(
    hub: &Hub,
    actor: &Actor,
    server: &source_server::Model,
    purpose: Purpose,
) -> Result<(Place, String), ActionError> {
    let launch = server.launch(purpose).ok_or_else(|| ActionError::NotFound {
        what: format!("a {} instance of source server {}", purpose.name(), server.id),
    })?;
    let errand = Errand {
        who: actor.name.clone(),
        why: format!("look at {}", launch.instance),
    };
    let place = hub.store.seen_by(actor).place(&server.account, errand).await?;
    Ok((place, launch.instance.clone()))
}
