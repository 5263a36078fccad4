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

use super::{Web, profile, visit::PageError};
use crate::{
    auth::{
        Actor, address_of,
        sessions::{Browser, First},
    },
    entities::{
        session,
        source_server::Model,
        user::{Model as User, UserRole},
    },
    language::Language,
    store::{Seen, StoreError},
};

#[derive(Debug)]
pub struct Session {
    pub actor: Actor,
    /// What the actor may see of the store: pages read nothing else.
    pub store: Seen,
    pub user: User,
    pub row: session::Model,
    /// What has to be done before anything else.
    first: Option<First>,
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
        let secure = is_secure(&parts.extensions, &parts.headers);
        let Some(cookie) = Carries::Session.read(secure, &jar) else {
            return Ok(None);
        };
        let visitor = if refreshes_itself(&parts.headers) {
            web.hub.session_seen(&cookie).await?
        } else {
            web.hub.session_actor(&cookie).await?
        };
        let preferred = visitor
            .as_ref()
            .and_then(|visitor| Language::by_tag(&visitor.user.language));
        if let Some(language) = preferred {
            language.speak();
        }
        Ok(visitor.map(|visitor| Self {
            first: visitor.has_first(web.hub.settings.sign_in.second_factor),
            store: web.hub.store.seen_by(&visitor.actor),
            actor: visitor.actor.at(address_of(&parts.extensions)),
            user: visitor.user,
            row: visitor.session,
            cookie,
        }))
    }
}

impl FromRequestParts<Web> for Session {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, PageError> {
        let found = <Self as OptionalFromRequestParts<Web>>::from_request_parts(parts, web).await?;
        let refresh = parts.headers.contains_key("hx-request");
        let session = found.ok_or_else(|| PageError::SignInFirst {
            next: parts
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            refresh,
        })?;
        match session.first {
            // That something changed may be told to everybody.
            Some(first) if !parts.uri.path().starts_with(profile::PATH) && parts.uri.path() != "/events" => {
                let at = profile::where_to(first);
                Err(PageError::First { at, refresh })
            }
            _ => Ok(session),
        }
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

/// What the cookies of the console carry. They end with the browser, or when the hub says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    Session,
    /// A sign-in that waits for a second factor.
    Waiting,
    /// A visit at the identity provider.
    Visit,
}

impl Carries {
    fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Session, true) => "__Host-sid",
            (Self::Session, false) => "sid",
            (Self::Waiting, true) => "__Host-waiting",
            (Self::Waiting, false) => "waiting",
            (Self::Visit, true) => "__Host-visit",
            (Self::Visit, false) => "visit",
        }
    }

    pub fn cookie(self, secure: bool, secret: String) -> Cookie<'static> {
        Cookie::build((self.name(secure), secret))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(secure)
            .build()
    }

    /// The cookie that takes it away.
    pub fn none(self, secure: bool) -> Cookie<'static> {
        let mut gone = self.cookie(secure, String::new());
        gone.make_removal();
        gone
    }

    pub fn read(self, secure: bool, jar: &CookieJar) -> Option<String> {
        let cookie = jar.get(self.name(secure))?;
        Some(cookie.value().to_owned())
    }
}

/// Who calls, before it is known who that is.
pub fn browser(extensions: &Extensions, headers: &HeaderMap) -> Browser {
    let name = headers
        .get(header::USER_AGENT)
        .and_then(|name| name.to_str().ok());
    Browser {
        address: address_of(extensions),
        name: name.unwrap_or_default().to_owned(),
    }
}
