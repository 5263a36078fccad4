//! Settings for every account from one place.

use askama::Template;
use axum::response::Response;

use super::{
    servers::Choice,
    visit::{PageError, Section, Shell, Visit},
};
use crate::{entities::user::UserRole, language::filters, t};

pub mod targets;
pub mod templates;

#[derive(Debug, Template)]
#[template(path = "settings/page.html")]
struct SettingsPage {
    shell: Shell,
    templates: Vec<templates::Row>,
    scopes: Vec<Choice>,
    /// Notification targets are for who administers everything.
    everywhere: bool,
}

pub async fn page(visit: Visit) -> Result<Response, PageError> {
    let actor = &visit.session.actor;
    if actor.role_somewhere() < Some(UserRole::Administrator) {
        return Err(PageError::Forbidden {
            need: UserRole::Administrator,
        });
    }
    let page = SettingsPage {
        shell: visit.shell(t!("Settings"), Section::Settings, "/events"),
        templates: templates::rows(&visit).await?,
        scopes: templates::choices(&visit).await?,
        everywhere: actor.role_everywhere() == Some(UserRole::Administrator),
    };
    visit.answer(page.render())
}
