//! Signing in and out.

use crate::{language::filters, t};
use std::time::Instant;

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::{Extensions, HeaderMap, StatusCode},
    response::{Html, IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::CookieJar;
use serde::Deserialize;
use tracing::{info, warn};

use super::{
    Web,
    session::{Carries, Session, browser, is_secure},
    text,
    visit::{PageError, encode},
};
use crate::auth::{
    AuthError,
    oidc::{OidcError, Return},
    sessions::{Needs, SignIn},
};

#[derive(Debug, Template)]
#[template(path = "sign_in/page.html")]
struct SignInPage {
    name: String,
    next: String,
    error: Option<String>,
    notice: Option<&'static str>,
    /// Whether anybody signs in with a password.
    local: bool,
    /// The label and the address of the identity provider's button.
    provider: Option<(String, String)>,
    /// Whether to offer to sign out there, too.
    leaves: bool,
}

#[derive(Debug, Template)]
#[template(path = "sign_in/further.html")]
struct FurtherPage {
    next: String,
    needs: Needs,
    reason: String,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    next: String,
    #[serde(default)]
    left: bool,
    /// A session at the identity provider goes on.
    #[serde(default)]
    provider: bool,
    /// For the break-glass account, where nobody else has a password.
    #[serde(default)]
    local: bool,
}

#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub struct Further {
    #[serde(default)]
    code: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    next: String,
}

impl SignInPage {
    fn new(web: &Web, next: String) -> Self {
        let settings = &web.hub.settings;
        let provider = settings.oidc.as_ref().map(|oidc| {
            let begin = format!("/sign-in/oidc/begin?next={}", encode(&next));
            (oidc.label.clone(), begin)
        });
        Self {
            name: String::new(),
            next,
            error: None,
            notice: None,
            local: settings.sign_in.local,
            provider,
            leaves: false,
        }
    }

    fn refuse(self, status: StatusCode, error: String) -> Result<Response, PageError> {
        let page = Self {
            error: Some(error),
            ..self
        };
        Ok((status, Html(page.render()?)).into_response())
    }
}

pub async fn page(
    State(web): State<Web>,
    session: Option<Session>,
    Query(query): Query<Asked>,
) -> Result<Response, PageError> {
    let next = own_page(&query.next);
    if session.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    let page = SignInPage::new(&web, next);
    let page = SignInPage {
        notice: query.left.then_some(t!("You are signed out.")),
        local: page.local || query.local,
        leaves: query.provider,
        ..page
    };
    Ok(Html(page.render()?).into_response())
}

pub async fn sign_in(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    jar: CookieJar,
    Form(given): Form<Credentials>,
) -> Result<Response, PageError> {
    let browser = browser(&extensions, &headers);
    let next = own_page(&given.next);
    let page = SignInPage {
        name: given.name.chars().take(200).collect(),
        local: true,
        ..SignInPage::new(&web, next.clone())
    };
    if let Some(left) = web
        .throttle
        .closed_for(&given.name, browser.address, Instant::now())
    {
        let wait = i64::try_from(left.as_millis()).unwrap_or(i64::MAX) + 999;
        let error = t!("Too many attempts. Try again in {time}.", time = text::span(wait));
        return page.refuse(StatusCode::TOO_MANY_REQUESTS, error);
    }
    let signed_in = match web.hub.sign_in(&given.name, &given.password, &browser).await {
        Ok(signed_in) => signed_in,
        Err(AuthError::Store(error)) => return Err(error.into()),
        Err(_) => {
            web.throttle.failed(&given.name, browser.address, Instant::now());
            return page.refuse(
                StatusCode::UNAUTHORIZED,
                t!("The name or the password is wrong, or too many attempts have locked the user out. Check both; after \
                 a quarter of an hour, or when an administrator has unlocked the user, try again.")
                    .into(),
            );
        }
    };
    web.throttle.succeeded(&given.name, browser.address);
    let secure = is_secure(&extensions, &headers);
    Ok(match signed_in {
        SignIn::Open(secret) => {
            info!(user = %given.name, "signed in");
            let jar = jar.add(Carries::Session.cookie(secure, secret));
            (jar, Redirect::to(&next)).into_response()
        }
        SignIn::Waiting(secret) => {
            let jar = jar.add(Carries::Waiting.cookie(secure, secret));
            let further = format!("/sign-in/further?next={}", encode(&next));
            (jar, Redirect::to(&further)).into_response()
        }
    })
}

pub async fn ask_further(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    jar: CookieJar,
    Query(query): Query<Asked>,
) -> Result<Response, PageError> {
    let secure = is_secure(&extensions, &headers);
    let waiting = Carries::Waiting.read(secure, &jar).unwrap_or_default();
    let Some(needs) = web.hub.sign_in_needs(&waiting).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let page = FurtherPage {
        next: own_page(&query.next),
        needs,
        reason: String::new(),
        error: None,
    };
    Ok(Html(page.render()?).into_response())
}

pub async fn further(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    jar: CookieJar,
    Form(given): Form<Further>,
) -> Result<Response, PageError> {
    let secure = is_secure(&extensions, &headers);
    let waiting = Carries::Waiting.read(secure, &jar).unwrap_or_default();
    let next = own_page(&given.next);
    let browser = browser(&extensions, &headers);
    let error = match web
        .hub
        .sign_in_further(&waiting, &given.code, &given.reason, &browser)
        .await
    {
        Ok(secret) => {
            let jar = jar
                .add(Carries::Waiting.none(secure))
                .add(Carries::Session.cookie(secure, secret));
            return Ok((jar, Redirect::to(&next)).into_response());
        }
        Err(AuthError::Store(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let Some(needs) = web.hub.sign_in_needs(&waiting).await? else {
        let page = SignInPage::new(&web, next);
        return page.refuse(
            StatusCode::UNAUTHORIZED,
            t!("The sign-in took too long, or there were too many wrong codes. Begin again.").into(),
        );
    };
    let page = FurtherPage {
        next,
        needs,
        reason: given.reason.chars().take(500).collect(),
        error: Some(sentence(&error)),
    };
    Ok((StatusCode::UNAUTHORIZED, Html(page.render()?)).into_response())
}

/// Sends the browser to the identity provider.
pub async fn to_provider(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    jar: CookieJar,
    Query(query): Query<Asked>,
) -> Result<Response, PageError> {
    let next = own_page(&query.next);
    match web.hub.oidc_begin(&next).await {
        Ok(departure) => {
            let secure = is_secure(&extensions, &headers);
            let jar = jar.add(Carries::Visit.cookie(secure, departure.cookie));
            Ok((jar, Redirect::to(&departure.url)).into_response())
        }
        Err(error) => provider_failed(&web, next, &error),
    }
}

/// Takes it back from there.
pub async fn from_provider(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    jar: CookieJar,
    Query(back): Query<Return>,
) -> Result<Response, PageError> {
    let secure = is_secure(&extensions, &headers);
    let visit = Carries::Visit.read(secure, &jar).unwrap_or_default();
    let browser = browser(&extensions, &headers);
    match web.hub.oidc_finish(&visit, back, &browser).await {
        Ok((secret, next)) => {
            let jar = jar
                .add(Carries::Visit.none(secure))
                .add(Carries::Session.cookie(secure, secret));
            Ok((jar, Redirect::to(&own_page(&next))).into_response())
        }
        Err(error) => provider_failed(&web, "/".into(), &error),
    }
}

/// Sends the browser to where its session at the identity provider ends.
pub async fn leave_provider(State(web): State<Web>) -> Result<Response, PageError> {
    match web.hub.oidc_end().await {
        Ok(url) => Ok(Redirect::to(&url).into_response()),
        Err(error) => provider_failed(&web, "/".into(), &error),
    }
}

fn provider_failed(web: &Web, next: String, error: &OidcError) -> Result<Response, PageError> {
    let said = std::error::Error::source(error).map(|source| format!(": {source}"));
    warn!(%error, source = said, "the identity provider was asked in vain");
    let page = SignInPage::new(web, next);
    page.refuse(StatusCode::UNAUTHORIZED, sentence(error))
}

/// What went wrong, as a sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(characters).chain(['.']).collect()
}

pub async fn sign_out(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    session: Option<Session>,
    jar: CookieJar,
) -> Result<Response, PageError> {
    let Some(session) = session else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    web.hub.sign_out(&session.actor, &session.row).await?;
    let gone = Carries::Session.none(is_secure(&extensions, &headers));
    // A form may not lead to another site: that takes a click of its own.
    let left = if session.user.subject.is_some() {
        "/sign-in?left=true&provider=true"
    } else {
        "/sign-in?left=true"
    };
    Ok((jar.add(gone), Redirect::to(left)).into_response())
}

/// Where to go after signing in: a page of ours, whatever the address says.
fn own_page(next: &str) -> String {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.starts_with("/sign-")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if ours { next.to_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::own_page;

    #[test]
    fn nobody_is_sent_elsewhere_after_signing_in() {
        assert_eq!(own_page("/servers?q=web"), "/servers?q=web");
        for elsewhere in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\r\nb",
            "/sign-in",
        ] {
            assert_eq!(own_page(elsewhere), "/", "{elsewhere:?}");
        }
    }
}
