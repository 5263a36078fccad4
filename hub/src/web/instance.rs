//! What a launched instance shows of itself: its serial console and its screen.

use crate::{language::filters, t};
use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{ids::SourceServerId, launch::Purpose};

use super::{
    Web, badge,
    conversion::{CONSOLE_SHOWN, end_of},
    session::Session,
    visit::{PageError, Section, Shell, Visit},
};
use crate::launched::{self, Shown};

#[derive(Debug, Template)]
#[template(path = "instance/page.html")]
struct InstancePage {
    shell: Shell,
    server: String,
    name: String,
    instance: String,
    purpose: &'static str,
    subject: String,
    /// That there is a picture of it, or why there is none.
    screen: Result<(), String>,
    /// Or why there is none.
    console: Result<String, String>,
    is_cut: bool,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Path((id, purpose)): Path<(SourceServerId, Purpose)>,
) -> Result<Response, PageError> {
    let server = visit.session.store.server(&id).await?;
    let Some(launch) = server.launch(purpose) else {
        return Err(PageError::NotFound(t!(
            "A {purpose} instance of {server}",
            purpose = badge::purpose(purpose),
            server = server.known_as()
        )));
    };
    let actor = &visit.session.actor;
    let (screen, console) = tokio::join!(
        launched::screenshot(&web.hub, actor, &server, purpose),
        launched::console_text(&web.hub, actor, &server, purpose),
    );
    let page = InstancePage {
        shell: visit.shell(
            t!("Instance {instance}", instance = launch.instance),
            Section::Servers,
            format!("/events?server={id}"),
        ),
        server: id.to_string(),
        name: server.known_as().to_owned(),
        instance: launch.instance.clone(),
        purpose: purpose.name(),
        subject: match purpose {
            Purpose::Test => t!(
                "The test instance of {server}, as it shows itself now.",
                server = server.known_as()
            ),
            Purpose::Cutover => t!(
                "The cutover instance of {server}, as it shows itself now.",
                server = server.known_as()
            ),
        },
        screen: match screen {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                Err(t!("It has no screen: a stopped instance has none, and some types have none.").into())
            }
            Err(error) => Err(t!("It cannot be read: {error}.", error)),
        },
        is_cut: console.as_ref().is_ok_and(|text| text.len() > CONSOLE_SHOWN),
        console: match console {
            Ok(text) if text.is_empty() => Err(t!("It has said nothing yet.").into()),
            Ok(text) => Ok(end_of(text.as_bytes())),
            Err(error) => Err(t!("It cannot be read: {error}.", error)),
        },
    };
    visit.answer(page.render())
}

pub async fn shown(
    State(web): State<Web>,
    session: Session,
    Path((id, purpose, what)): Path<(SourceServerId, Purpose, Shown)>,
) -> Result<Response, PageError> {
    let server = session.store.server(&id).await?;
    let shown = launched::show(&web.hub, &session.actor, &server, purpose, what).await;
    shown.map_err(|error| PageError::NotFound(error.to_string()))
}
