//! What is one's own: language, password, second factor, sessions, API keys.

use crate::{
    language::{Language, filters},
    t,
};
use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use domain::scope::Scope;
use serde::Deserialize;

use super::{
    Web, badge, language_of,
    people::{KeyRow, key_rows},
    servers::Choice,
    text::{self, Moment},
    visit::{Flash, PageError, Section, Shell, Visit},
};
use crate::{
    actions::profile,
    auth::{
        AuthError, Grant,
        second_factor::{Offer, new_totp_secret},
        sessions::First,
    },
    clock::now_ms,
};

/// Pages that somebody sees who has to do something first.
pub const PATH: &str = "/profile";

pub fn where_to(first: First) -> &'static str {
    match first {
        First::NewPassword => "/profile/password",
        First::SecondFactor => "/profile/second-factor",
    }
}

#[derive(Debug, Template)]
#[template(path = "profile/page.html")]
struct ProfilePage {
    shell: Shell,
    name: String,
    grants: Vec<(String, Scope)>,
    by_provider: bool,
    languages: Vec<Choice>,
    second_factor: bool,
    codes_left: u64,
    sessions: Vec<SessionRow>,
    keys: Vec<KeyRow>,
    key_days: [Choice; 4],
}

#[derive(Debug)]
struct SessionRow {
    id: String,
    is_this: bool,
    address: String,
    browser: String,
    began: Moment,
    ends: Moment,
}

pub async fn page(visit: Visit) -> Result<Response, PageError> {
    let user = &visit.session.user;
    let store = &visit.session.store;
    let now = now_ms();
    let sessions = store.sessions_of(&user.name).await?;
    let choice = |value: &str, label: &str, chosen: bool| Choice {
        value: value.into(),
        label: label.into(),
        selected: chosen,
    };
    let grants = visit.session.actor.grants.iter();
    let page = ProfilePage {
        shell: visit.shell(t!("Profile"), Section::Profile, "/events"),
        name: user.name.clone(),
        grants: grants
            .map(|Grant { role, scope }| (badge::role(*role).to_owned(), scope.clone()))
            .collect(),
        by_provider: user.subject.is_some(),
        languages: languages(&user.language),
        second_factor: user.totp.is_some(),
        codes_left: store.recovery_codes_left(&user.name).await?,
        sessions: sessions
            .iter()
            .filter(|row| now < row.ends_at.min(row.idle_until))
            .map(|row| SessionRow {
                id: profile::session_id(row).to_owned(),
                is_this: row.sha256 == visit.session.row.sha256,
                address: row.address.clone(),
                browser: row.browser.clone(),
                began: text::moment(row.created_at),
                ends: text::moment(row.ends_at.min(row.idle_until)),
            })
            .collect(),
        keys: key_rows(&store.api_keys_of(&user.name).await?, now),
        key_days: [
            ("30", t!("30 days")),
            ("90", t!("90 days")),
            ("365", t!("a year")),
            ("", t!("no end")),
        ]
        .map(|(value, label)| choice(value, label, value == "90")),
    };
    visit.answer(page.render())
}

/// Each by its own name, so that it is found in whatever language the page is.
fn languages(chosen: &str) -> Vec<Choice> {
    [
        ("", t!("As the browser asks for")),
        ("en", "English"),
        ("ja", "日本語"),
    ]
    .map(|(value, label)| Choice {
        value: value.into(),
        label: label.into(),
        selected: value == chosen,
    })
    .into()
}

#[derive(Debug, Deserialize)]
pub struct Preferences {
    language: String,
    /// A box that is not ticked is not sent.
    keys: Option<String>,
}

pub async fn save(
    State(web): State<Web>,
    visit: Visit,
    headers: HeaderMap,
    Form(given): Form<Preferences>,
) -> Result<Response, PageError> {
    let known = Language::by_tag(&given.language);
    if known.is_none() && !given.language.is_empty() {
        return Err(PageError::Invalid(t!("There is no such language.").into()));
    }
    profile::set_language(&web.hub, &visit.session.actor, known).await?;
    profile::set_keys(&web.hub, &visit.session.actor, given.keys.is_some()).await?;
    known.unwrap_or_else(|| language_of(&headers)).speak();
    Ok(Flash::good(t!("Saved.")).show_at(PATH))
}

#[derive(Debug, Template)]
#[template(path = "profile/password.html")]
struct PasswordPage {
    shell: Shell,
    /// It has to be done before anything else.
    first: bool,
    error: Option<String>,
}

#[derive(Deserialize)]
pub struct Passwords {
    now: String,
    new: String,
    again: String,
}

fn password_page(visit: &Visit, error: Option<String>) -> Result<Response, PageError> {
    if visit.session.user.subject.is_some() {
        return Err(PageError::Invalid(
            AuthError::NotLocal(visit.session.user.name.clone()).to_string(),
        ));
    }
    let page = PasswordPage {
        shell: visit.shell(t!("Password"), Section::Profile, "/events"),
        first: visit.session.user.one_time,
        error,
    };
    visit.answer(page.render())
}

pub async fn ask_password(visit: Visit) -> Result<Response, PageError> {
    password_page(&visit, None)
}

pub async fn set_password(
    State(web): State<Web>,
    visit: Visit,
    Form(given): Form<Passwords>,
) -> Result<Response, PageError> {
    if given.new != given.again {
        return password_page(
            &visit,
            Some(t!("The new password is not the same both times.").into()),
        );
    }
    let session = &visit.session;
    match profile::set_password(&web.hub, &session.actor, &session.row, &given.now, &given.new).await {
        Ok(()) => Ok(Flash::good(t!(
            "The password is changed, and all your other sessions are over."
        ))
        .show_at(PATH)),
        Err(AuthError::Store(error)) => Err(error.into()),
        Err(AuthError::Wrong) => password_page(&visit, Some(t!("The password of now is wrong.").into())),
        Err(error) => password_page(&visit, Some(t!("Nothing was changed: {error}.", error))),
    }
}

#[derive(Debug, Template)]
#[template(path = "profile/second_factor.html")]
struct SecondFactorPage {
    shell: Shell,
    first: bool,
    offer: Offer,
    /// The secret, for the way to the browser and back.
    sealed: String,
    error: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "profile/codes.html")]
struct CodesPage {
    shell: Shell,
    codes: Vec<String>,
}

#[derive(Deserialize)]
pub struct Offered {
    sealed: String,
    code: String,
}

fn offer_place(user: &str) -> String {
    format!("offer of a second factor to {user}")
}

fn second_factor_page(
    web: &Web,
    visit: &Visit,
    secret: &str,
    error: Option<String>,
) -> Result<Response, PageError> {
    let user = &visit.session.user;
    if user.subject.is_some() {
        return Err(PageError::Invalid(
            AuthError::NotLocal(user.name.clone()).to_string(),
        ));
    }
    let offer = Offer::new(&user.name, secret).map_err(|error| PageError::Invalid(error.to_string()))?;
    let page = SecondFactorPage {
        shell: visit.shell(t!("Second factor"), Section::Profile, "/events"),
        first: user.totp.is_none()
            && web.hub.settings.sign_in.second_factor != crate::configuration::SecondFactor::Optional,
        sealed: web.hub.pki.seal.seal(&offer_place(&user.name), secret.as_bytes()),
        offer,
        error,
    };
    visit.answer(page.render())
}

pub async fn ask_second_factor(State(web): State<Web>, visit: Visit) -> Result<Response, PageError> {
    second_factor_page(&web, &visit, &new_totp_secret(), None)
}

pub async fn set_second_factor(
    State(web): State<Web>,
    visit: Visit,
    Form(given): Form<Offered>,
) -> Result<Response, PageError> {
    let actor = &visit.session.actor;
    let place = offer_place(&actor.name);
    let secret = web.hub.pki.seal.open(&place, &given.sealed).ok();
    let secret = secret.and_then(|secret| String::from_utf8(secret).ok());
    let Some(secret) = secret else {
        let error = t!("The code belongs to another picture. Scan this one.").into();
        return second_factor_page(&web, &visit, &new_totp_secret(), Some(error));
    };
    match profile::set_second_factor(&web.hub, actor, &secret, &given.code).await {
        Ok(codes) => codes_page(&visit, codes),
        Err(AuthError::Store(error)) => Err(error.into()),
        Err(_) => {
            let error = t!(
                "This is not the code of now. Look at the app again; if it goes on, compare the clocks of \
                         your telephone and of this hub."
            )
            .into();
            second_factor_page(&web, &visit, &secret, Some(error))
        }
    }
}

fn codes_page(visit: &Visit, codes: Vec<String>) -> Result<Response, PageError> {
    let page = CodesPage {
        shell: visit.shell(t!("Recovery codes"), Section::Profile, "/events"),
        codes,
    };
    visit.answer(page.render())
}

#[derive(Deserialize)]
pub struct Code {
    code: String,
}

fn wrong(error: AuthError) -> Result<Response, PageError> {
    match error {
        AuthError::Store(error) => Err(error.into()),
        AuthError::WrongCode => {
            Ok(Flash::bad(t!("Nothing was changed: the code is wrong, or was used before.")).show_at(PATH))
        }
        error => Ok(Flash::bad(t!("Nothing was changed: {error}.", error)).show_at(PATH)),
    }
}

pub async fn remove_second_factor(
    State(web): State<Web>,
    visit: Visit,
    Form(given): Form<Code>,
) -> Result<Response, PageError> {
    match profile::remove_second_factor(&web.hub, &visit.session.actor, &given.code).await {
        Ok(()) => Ok(Flash::good(t!("The second factor is removed.")).show_at(PATH)),
        Err(error) => wrong(error),
    }
}

pub async fn renew_recovery_codes(
    State(web): State<Web>,
    visit: Visit,
    Form(given): Form<Code>,
) -> Result<Response, PageError> {
    match profile::renew_recovery_codes(&web.hub, &visit.session.actor, &given.code).await {
        Ok(codes) => codes_page(&visit, codes),
        Err(error) => wrong(error),
    }
}

pub async fn end_session(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    profile::end_session(&web.hub, &visit.session.actor, &id).await?;
    Ok(Flash::good(t!("The session is over.")).show_at(PATH))
}

#[derive(Debug, Deserialize)]
pub struct NewKey {
    name: String,
    /// Empty for a key without end.
    days: String,
}

#[derive(Debug, Template)]
#[template(path = "profile/key.html")]
struct KeyPage {
    shell: Shell,
    name: String,
    secret: String,
}

pub async fn add_key(
    State(web): State<Web>,
    visit: Visit,
    Form(given): Form<NewKey>,
) -> Result<Response, PageError> {
    let days = match given.days.as_str() {
        "" => None,
        days => Some(days.parse().unwrap_or(0)),
    };
    let secret = profile::add_key(&web.hub, &visit.session.actor, &given.name, days).await?;
    let page = KeyPage {
        shell: visit.shell(t!("API key"), Section::Profile, "/events"),
        name: given.name,
        secret,
    };
    visit.answer(page.render())
}

pub async fn remove_key(
    State(web): State<Web>,
    visit: Visit,
    Path(key): Path<String>,
) -> Result<Response, PageError> {
    profile::remove_key(&web.hub, &visit.session.actor, &key).await?;
    Ok(Flash::good(t!("The key is removed: it counts no more.")).show_at(PATH))
}
