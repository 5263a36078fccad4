//! Who is signed in, by the cookie of the browser.
//!
//! A page that refreshes itself is no visit: left open, it does not keep the session from ending.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{Extensions, HeaderMap, header, request::Parts},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use domain::ids::{AccountId, SourceServerId};

use super::{Web, visit::PageError};
use crate::{
    auth::{Actor, address_of},
    entities::{source_server::Model, user::UserRole},
    store::{Seen, StoreError},
};

#[derive(Debug)]
pub struct Session {
    pub actor: Actor,
    /// What the actor may see of the store: pages read nothing else.
    pub store: Seen,
    cookie: String,
}

/// What somebody may do in one account.
#[derive(Debug, Clone, Copy)]
pub struct Rights(Option<UserRole>);

impl Rights {
    pub fn may(self, role: UserRole) -> bool {
        self.0 >= Some(role)
    }

    pub fn require(self, role: UserRole) -> Result<(), PageError> {
        if self.may(role) {
            Ok(())
        } else {
            Err(PageError::Forbidden { need: role })
        }
    }
}

impl Session {
    /// The cookie's value.
    pub fn secret(&self) -> &str {
        &self.cookie
    }

    /// Whether the session still stands; for streams that outlast their request.
    pub async fn stands(&self, web: &Web) -> Result<bool, StoreError> {
        Ok(web.hub.session_seen(&self.cookie).await?.is_some())
    }

    /// An account that is not in sight does not exist.
    pub async fn rights_in(&self, account: &AccountId) -> Result<Rights, StoreError> {
        let account = self.store.account(account).await?;
        Ok(Rights(self.actor.role_in(&account)))
    }

    /// A source server in sight, for who has this role in its account.
    pub async fn server(&self, id: &SourceServerId, role: UserRole) -> Result<Model, PageError> {
        let server = self.store.server(id).await?;
        self.rights_in(&server.account).await?.require(role)?;
        Ok(server)
    }
}

impl OptionalFromRequestParts<Web> for Session {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Option<Self>, PageError> {
        let Ok(jar): Result<CookieJar, Infallible> = CookieJar::from_request_parts(parts, web).await;
        let Some(cookie) = jar.get(cookie_name(is_secure(&parts.extensions, &parts.headers))) else {
            return Ok(None);
        };
        let cookie = cookie.value().to_owned();
        let actor = if refreshes_itself(&parts.headers) {
            web.hub.session_seen(&cookie).await?
        } else {
            web.hub.session_actor(&cookie).await?
        };
        Ok(actor.map(|actor| Self {
            store: web.hub.store.seen_by(&actor),
            actor: actor.at(address_of(&parts.extensions)),
            cookie,
        }))
    }
}

impl FromRequestParts<Web> for Session {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, PageError> {
        let found = <Self as OptionalFromRequestParts<Web>>::from_request_parts(parts, web).await?;
        found.ok_or_else(|| PageError::SignInFirst {
            next: parts
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            refresh: parts.headers.contains_key("hx-request"),
        })
    }
}

/// In the extensions of every request that came over TLS.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// Whether the browser speaks TLS, with us or with a proxy before us.
pub fn is_secure(extensions: &Extensions, headers: &HeaderMap) -> bool {
    extensions.get::<OverTls>().is_some()
        || headers
            .get("x-forwarded-proto")
            .is_some_and(|proto| proto.as_bytes() == b"https")
}

fn refreshes_itself(headers: &HeaderMap) -> bool {
    headers
        .get("hx-trigger")
        .is_some_and(|trigger| trigger.as_bytes() == b"live")
        || headers
            .get(header::ACCEPT)
            .is_some_and(|accept| accept.as_bytes() == b"text/event-stream")
}

fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-sid" } else { "sid" }
}

/// The cookie that carries a session. It ends with the browser, or when the hub says so.
pub fn cookie(secure: bool, secret: String) -> Cookie<'static> {
    Cookie::build((cookie_name(secure), secret))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(secure)
        .build()
}

/// The cookie that takes it away.
pub fn no_cookie(secure: bool) -> Cookie<'static> {
    let mut gone = cookie(secure, String::new());
    gone.make_removal();
    gone
}
