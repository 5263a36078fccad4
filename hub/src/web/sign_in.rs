//! Signing in and out.

use std::{net::IpAddr, time::Instant};

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
    session::{Session, cookie, is_secure, no_cookie},
    text,
    visit::PageError,
};
use crate::{
    audit::By,
    auth::{AuthError, address_of},
};

#[derive(Debug, Template)]
#[template(path = "sign_in/page.html")]
struct SignInPage {
    name: String,
    next: String,
    error: Option<String>,
    notice: Option<&'static str>,
}

#[derive(Debug, Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
    #[serde(default)]
    left: bool,
}

#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

pub async fn page(session: Option<Session>, Query(query): Query<Next>) -> Result<Response, PageError> {
    let next = own_page(&query.next);
    if session.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    let page = SignInPage {
        name: String::new(),
        next,
        error: None,
        notice: query.left.then_some("You are signed out."),
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
    let address = address_of(&extensions);
    let next = own_page(&given.next);
    let refuse = |status, error: String| {
        let page = SignInPage {
            name: given.name.chars().take(200).collect(),
            next: next.clone(),
            error: Some(error),
            notice: None,
        };
        Ok((status, Html(page.render()?)).into_response())
    };
    if let Some(left) = web.throttle.closed_for(&given.name, address, Instant::now()) {
        let wait = i64::try_from(left.as_millis()).unwrap_or(i64::MAX) + 999;
        let error = format!("Too many attempts. Try again in {}.", text::span(wait));
        return refuse(StatusCode::TOO_MANY_REQUESTS, error);
    }
    let secret = match web.hub.sign_in(&given.name, &given.password, address).await {
        Ok(secret) => secret,
        Err(AuthError::Store(error)) => return Err(error.into()),
        Err(_) => {
            web.throttle.failed(&given.name, address, Instant::now());
            note_failure(&web, &given.name, address).await?;
            return refuse(
                StatusCode::UNAUTHORIZED,
                "The name or the password is wrong. Check both and try again.".into(),
            );
        }
    };
    web.throttle.succeeded(&given.name, address);
    info!(user = %given.name, "signed in");
    let cookie = cookie(is_secure(&extensions, &headers), secret);
    Ok((jar.add(cookie), Redirect::to(&next)).into_response())
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
    web.hub.sign_out(session.secret()).await?;
    let gone = no_cookie(is_secure(&extensions, &headers));
    Ok((jar.add(gone), Redirect::to("/sign-in?left=true")).into_response())
}

async fn note_failure(web: &Web, name: &str, address: Option<IpAddr>) -> Result<(), PageError> {
    let name: String = name.chars().take(200).collect();
    warn!(user = %name, ?address, "a sign-in failed");
    let mut write = web.hub.store.begin().await?;
    let by = By { name: &name, address };
    let why = "the name or the password is wrong";
    write.audit_refused(by, "sign in", &name, why).await?;
    write.commit().await?;
    Ok(())
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
