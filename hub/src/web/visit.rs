//! What every page needs: who visits, which part of the page is asked for, the frame around it, and
//! answers for what went wrong.

use crate::t;
use std::convert::Infallible;

use askama::Template;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use tracing::error;

use super::{Web, badge, session::Session, text};
use crate::{actions::ActionError, auth::Actor, entities::user::UserRole, store::StoreError};

/// The part of a page that a request asks for: htmx says which element the answer is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Page,
    Live,
    Dialog,
    /// What the palette found.
    Found,
}

impl Part {
    fn of(headers: &HeaderMap) -> Self {
        match headers.get("hx-target").map(HeaderValue::as_bytes) {
            Some(b"live") => Self::Live,
            Some(b"dialog") => Self::Dialog,
            Some(b"found") => Self::Found,
            _ => Self::Page,
        }
    }
}

/// The part of the console that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Overview,
    Servers,
    Applications,
    Waves,
    Inventory,
    Jobs,
    Audit,
    People,
    Profile,
    Search,
    Settings,
}

#[derive(Debug, Clone, Copy)]
pub struct NavItem {
    pub label: &'static str,
    pub href: &'static str,
    /// After `g`.
    pub key: char,
    pub current: bool,
}

/// The frame around a page.
#[derive(Debug)]
pub struct Shell {
    pub title: String,
    pub nav: Vec<NavItem>,
    pub user: String,
    pub role: String,
    /// The address of the event stream of this page.
    pub events: String,
    /// The glass was broken for this session.
    pub emergency: bool,
    /// Single keys do something.
    pub keys: bool,
    pub flash: Option<Flash>,
}

/// A sentence that the next page shows once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flash {
    pub class: String,
    pub message: String,
}

const FLASH: &str = "flash";

/// A request for a page by somebody who is signed in.
#[derive(Debug)]
pub struct Visit {
    pub session: Session,
    pub part: Part,
    flash: Option<Flash>,
}

impl FromRequestParts<Web> for Visit {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, PageError> {
        let session = <Session as FromRequestParts<Web>>::from_request_parts(parts, web).await?;
        let Ok(jar): Result<CookieJar, Infallible> = CookieJar::from_request_parts(parts, web).await;
        let part = Part::of(&parts.headers);
        let flash = match part {
            Part::Page => jar.get(FLASH).and_then(|cookie| Flash::read(cookie.value())),
            Part::Live | Part::Dialog | Part::Found => None,
        };
        Ok(Self { session, part, flash })
    }
}

impl Visit {
    pub fn shell(&self, title: impl Into<String>, section: Section, events: impl Into<String>) -> Shell {
        Shell {
            emergency: !self.session.row.reason.is_empty(),
            keys: !self.session.user.preferences.no_keys,
            title: title.into(),
            nav: self.nav(section),
            user: self.session.actor.name.clone(),
            role: role_of(&self.session.actor),
            events: events.into(),
            flash: self.flash.clone(),
        }
    }

    pub fn nav(&self, section: Section) -> Vec<NavItem> {
        let item = |label, href, key, of| NavItem {
            label,
            href,
            key,
            current: of == section,
        };
        let mut nav = vec![
            item(t!("Overview"), "/", 'o', Section::Overview),
            item(t!("Source servers"), "/servers", 's', Section::Servers),
            item(t!("Applications"), "/applications", 'a', Section::Applications),
            item(t!("Waves"), "/waves", 'w', Section::Waves),
            item(t!("Jobs"), "/jobs", 'j', Section::Jobs),
            item(t!("Import and export"), "/inventory", 'i', Section::Inventory),
            item(t!("Audit log"), "/audit", 'l', Section::Audit),
        ];
        if self.session.actor.role_everywhere() == Some(UserRole::Administrator) {
            nav.push(item(t!("People"), "/people", 'p', Section::People));
        }
        if self.session.actor.role_somewhere() == Some(UserRole::Administrator) {
            nav.push(item(t!("Settings"), "/settings", 't', Section::Settings));
        }
        nav
    }

    pub fn answer(&self, page: askama::Result<String>) -> Result<Response, PageError> {
        let mut response = Html(page?).into_response();
        if self.flash.is_some() {
            let mut gone = Cookie::build((FLASH, "")).path("/").build();
            gone.make_removal();
            append_cookie(&mut response, &gone);
        }
        Ok(response)
    }
}

/// What the frame says of who is signed in.
fn role_of(actor: &Actor) -> String {
    match (actor.role_everywhere(), actor.role_somewhere()) {
        (_, None) => t!("no role").into(),
        (everywhere, Some(role)) if everywhere == Some(role) => badge::role(role).into(),
        (_, Some(role)) => t!("{role} in part", role = badge::role(role)),
    }
}

impl Flash {
    pub fn good(message: impl Into<String>) -> Self {
        Self {
            class: "good".into(),
            message: message.into(),
        }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self {
            class: "bad".into(),
            message: message.into(),
        }
    }

    /// Sends the browser to `address`, where the sentence is shown.
    pub fn show_at(&self, address: &str) -> Response {
        let mut response = Redirect::to(address).into_response();
        let message: String = self.message.chars().take(600).collect();
        let value = text::hex(format!("{}|{message}", self.class).as_bytes());
        let cookie = Cookie::build((FLASH, value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .build();
        append_cookie(&mut response, &cookie);
        response
    }

    fn read(hex: &str) -> Option<Self> {
        if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
            return None;
        }
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
            .collect::<Option<Vec<u8>>>()?;
        let text = String::from_utf8(bytes).ok()?;
        let (class, message) = text.split_once('|')?;
        Some(Self {
            class: if class == "good" { "good" } else { "bad" }.into(),
            message: message.to_owned(),
        })
    }
}

fn append_cookie(response: &mut Response, cookie: &Cookie<'_>) {
    match HeaderValue::from_str(&cookie.to_string()) {
        Ok(value) => {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        Err(error) => error!(%error, "a cookie could not be written"),
    }
}

/// Why there is no page to show.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("sign in first")]
    SignInFirst {
        next: String,
        /// The request came from a page that refreshes itself.
        refresh: bool,
    },
    #[error("something else has to be done first")]
    First {
        /// The page where it is done.
        at: &'static str,
        refresh: bool,
    },
    #[error("this needs the role of {}", need.name())]
    Forbidden { need: UserRole },
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    #[error("the hub's own certificate cannot be read")]
    Identity(#[from] identity::IdentityError),
    #[error("cannot write a page")]
    Render(#[from] askama::Error),
}

impl From<ActionError> for PageError {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Forbidden { needed, .. } => Self::Forbidden { need: needed },
            ActionError::NotFound { what } => Self::NotFound(what),
            ActionError::Store(error) => Self::Store(error),
            ActionError::Refused(_) | ActionError::Invalid(_) | ActionError::Conflict(_) => {
                Self::Invalid(error.to_string())
            }
            ActionError::Identity(error) => Self::Identity(error),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "lost/page.html")]
struct LostPage {
    title: &'static str,
    message: String,
    back: &'static str,
    back_label: &'static str,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, title, message) = match self {
            Self::SignInFirst { next, refresh: false } => {
                return Redirect::to(&format!("/sign-in?next={}", encode(&next))).into_response();
            }
            Self::SignInFirst { refresh: true, .. } => {
                return (StatusCode::UNAUTHORIZED, [("hx-redirect", "/sign-in")]).into_response();
            }
            Self::First { at, refresh: false } => return Redirect::to(at).into_response(),
            Self::First { at, refresh: true } => {
                return (StatusCode::UNAUTHORIZED, [("hx-redirect", at)]).into_response();
            }
            Self::Forbidden { need } => (
                StatusCode::FORBIDDEN,
                t!("You may not do this"),
                t!(
                    "It needs the role “{role}” or a higher one. Ask an administrator to change your role, or to do it for you. Nothing was changed.",
                    role = badge::role(need)
                ),
            ),
            Self::NotFound(what) | Self::Store(StoreError::NotFound { what }) => (
                StatusCode::NOT_FOUND,
                t!("There is no such page"),
                t!(
                    "{what}: it may have been removed, or the address is incomplete.",
                    what
                ),
            ),
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, t!("This cannot be done"), message),
            Self::Store(_) | Self::Identity(_) | Self::Render(_) => {
                error!(error = &self as &dyn std::error::Error, "a page failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    t!("The console failed"),
                    t!("Nothing was changed. Try again; if it fails again, look into the hub's log.")
                        .to_owned(),
                )
            }
        };
        let page = LostPage {
            title,
            message,
            back: "/",
            back_label: t!("Back to the overview"),
        };
        match page.render() {
            Ok(page) => (status, Html(page)).into_response(),
            Err(_) => status.into_response(),
        }
    }
}

/// Percent-encodes a part of an address.
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flash_survives_its_cookie_and_nothing_else_is_shown() {
        let shown = Flash::good("“web-1” is “ready for test”").show_at("/servers");
        let cookie = shown.headers()[header::SET_COOKIE].to_str().unwrap();
        let value = cookie.split(['=', ';']).nth(1).unwrap();
        assert_eq!(
            Flash::read(value),
            Some(Flash::good("“web-1” is “ready for test”"))
        );
        for broken in ["", "zz", "6", "ff", "6162"] {
            assert_eq!(Flash::read(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(encode("/servers?q=a b&c=ü"), "/servers%3Fq%3Da%20b%26c%3D%C3%BC");
    }
}
