//! Who may sign in, and what they may do where: for those who administer everything.

use crate::{language::filters, t};
use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};
use domain::scope::Scope;
use serde::Deserialize;

use super::{
    Web,
    actions::AskPage,
    badge::{self, Badge},
    scopes,
    servers::Choice,
    session::Session,
    text::{self, Moment},
    visit::{Flash, PageError, Section, Shell, Visit, encode},
};
use crate::{
    actions::people::{self, Measure},
    auth::{Grant, keys},
    clock::now_ms,
    entities::{
        api_key::Model as Key,
        user::{Model as User, UserRole},
    },
};

const ROLES: [UserRole; 4] = [
    UserRole::Viewer,
    UserRole::Operator,
    UserRole::Approver,
    UserRole::Administrator,
];

#[derive(Debug, Template)]
#[template(path = "people/page.html", blocks = ["live"])]
struct PeoplePage {
    shell: Shell,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    href: String,
    grants: Vec<String>,
    badges: Vec<Badge>,
    by: &'static str,
    second_factor: &'static str,
    signed_in: Option<Moment>,
}

#[derive(Debug, Template)]
#[template(path = "people/person.html")]
struct PersonPage {
    shell: Shell,
    name: String,
    href: String,
    badges: Vec<Badge>,
    by: String,
    added: Moment,
    signed_in: Option<Moment>,
    second_factor: &'static str,
    grants: Vec<GrantRow>,
    /// The identity provider says what this user may do.
    theirs: bool,
    roles: Vec<Choice>,
    scopes: Vec<Choice>,
    sessions: usize,
    keys: Vec<KeyRow>,
    local: bool,
    measures: Vec<(String, &'static str, &'static str)>,
}

#[derive(Debug)]
struct GrantRow {
    role: &'static str,
    scope: String,
    /// As people know it.
    place: String,
    take_back: String,
}

#[derive(Debug)]
pub struct KeyRow {
    pub id: String,
    pub name: String,
    pub made: Moment,
    pub ends: Option<Moment>,
    pub used: Option<Moment>,
    pub is_over: bool,
}

pub fn key_rows(keys: &[Key], now: i64) -> Vec<KeyRow> {
    let row = |key: &Key| KeyRow {
        id: keys::id(key).to_owned(),
        name: key.name.clone(),
        made: text::moment(key.created_at),
        ends: key.expires_at.map(text::moment),
        used: key.used_at.map(text::moment),
        is_over: key.expires_at.is_some_and(|end| end <= now),
    };
    keys.iter().map(row).collect()
}

/// Who everything is of.
fn administers(session: &Session) -> Result<(), PageError> {
    match session.actor.role_everywhere() {
        Some(UserRole::Administrator) => Ok(()),
        _ => Err(PageError::Forbidden {
            need: UserRole::Administrator,
        }),
    }
}

fn badges(user: &User, now: i64) -> Vec<Badge> {
    let badge = |class, label: &'static str, name| Badge {
        class,
        label: label.into(),
        name,
    };
    let mut badges = Vec::new();
    if user.disabled_at.is_some() {
        badges.push(badge("idle", t!("Disabled"), "DISABLED"));
    }
    if user.locked_until.is_some_and(|until| now < until) {
        badges.push(badge("bad", t!("Locked out"), "LOCKED_OUT"));
    }
    if user.break_glass {
        badges.push(badge("warn", t!("Break-glass"), "BREAK_GLASS"));
    }
    if user.one_time {
        badges.push(badge("open", t!("One-time password"), "ONE_TIME"));
    }
    badges
}

fn second_factor(user: &User) -> &'static str {
    match (user.subject.is_some(), user.totp.is_some()) {
        (true, _) => t!("at the identity provider"),
        (false, true) => t!("authenticator app"),
        (false, false) => t!("none"),
    }
}

fn href(name: &str) -> String {
    format!("/people/{}", encode(name))
}

pub async fn page(visit: Visit) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let now = now_ms();
    let store = &visit.session.store;
    let all = store.grant_list().await?;
    let users = store.user_list().await?;
    let row = |user: User| Row {
        href: href(&user.name),
        grants: all
            .iter()
            .filter(|grant| grant.user == user.name)
            .map(|grant| Grant::from(grant.clone()).to_string())
            .collect(),
        badges: badges(&user, now),
        by: if user.subject.is_some() {
            t!("identity provider")
        } else {
            "password"
        },
        second_factor: second_factor(&user),
        signed_in: user.signed_in_at.map(text::moment),
        name: user.name,
    };
    let page = PeoplePage {
        shell: visit.shell(t!("People"), Section::People, "/events"),
        rows: users.into_iter().map(row).collect(),
    };
    visit.answer(page.render())
}

/// Everything that a role can be given for.
async fn scope_choices(session: &Session) -> Result<Vec<Choice>, PageError> {
    let choice = |(scope, label): (Scope, String)| Choice {
        value: scope.to_string(),
        label,
        selected: false,
    };
    Ok(scopes::all(&session.store)
        .await?
        .into_iter()
        .map(choice)
        .collect())
}

fn roles() -> Vec<Choice> {
    let choice = |role: UserRole| Choice {
        value: role.name().into(),
        label: match role {
            UserRole::Viewer => t!("Viewer: looks"),
            UserRole::Operator => t!("Operator: replicates and tests"),
            UserRole::Approver => t!("Approver: cuts over, finalizes, disconnects"),
            UserRole::Administrator => t!("Administrator: lets machines and people in"),
        }
        .into(),
        selected: role == UserRole::Viewer,
    };
    ROLES.into_iter().map(choice).collect()
}

pub async fn person(
    State(web): State<Web>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let store = &visit.session.store;
    let user = known(&visit, &name).await?;
    let now = now_ms();
    let scopes = scope_choices(&visit.session).await?;
    let place = |scope: &Scope| {
        let text = scope.to_string();
        let known = scopes.iter().find(|choice| choice.value == text);
        known.map_or_else(|| text.clone(), |choice| choice.label.clone())
    };
    let grants = store.grants_of(&user.name).await?;
    let sessions = store.sessions_of(&user.name).await?;
    let is_locked = user.locked_until.is_some_and(|until| now < until);
    let measures = [
        (Measure::Unlock, t!("Unlock"), "", is_locked),
        (
            Measure::RemoveSecondFactor,
            t!("Remove second factor"),
            "",
            user.totp.is_some(),
        ),
        (
            Measure::EndSessions,
            t!("End all sessions"),
            "",
            !sessions.is_empty(),
        ),
        (
            Measure::Enable,
            t!("Enable"),
            "primary",
            user.disabled_at.is_some(),
        ),
        (Measure::Disable, t!("Disable"), "", user.disabled_at.is_none()),
        (Measure::Remove, t!("Remove user"), "danger", true),
    ];
    let href = href(&user.name);
    let page = PersonPage {
        shell: visit.shell(user.name.clone(), Section::People, "/events"),
        badges: badges(&user, now),
        by: user
            .subject
            .clone()
            .unwrap_or_else(|| t!("a password").to_owned()),
        added: text::moment(user.created_at),
        signed_in: user.signed_in_at.map(text::moment),
        second_factor: second_factor(&user),
        grants: grants
            .iter()
            .map(|grant| GrantRow {
                role: badge::role(grant.role.0),
                scope: grant.scope.to_string(),
                take_back: t!(
                    "Take back {role} for {place}",
                    role = badge::role(grant.role.0),
                    place = place(&grant.scope)
                ),
                place: place(&grant.scope),
            })
            .collect(),
        theirs: people::grants_are_theirs(&web.hub, &user),
        roles: roles(),
        scopes,
        sessions: sessions
            .iter()
            .filter(|row| now < row.ends_at.min(row.idle_until))
            .count(),
        keys: key_rows(&store.api_keys_of(&user.name).await?, now),
        local: user.subject.is_none(),
        measures: measures
            .into_iter()
            .filter(|(_, _, _, is)| *is)
            .map(|(measure, label, tone, _)| (format!("{href}/measures/{}", measure.slug()), label, tone))
            .collect(),
        name: user.name,
        href,
    };
    visit.answer(page.render())
}

async fn known(visit: &Visit, name: &str) -> Result<User, PageError> {
    let found = visit.session.store.user(name).await?;
    found.ok_or_else(|| PageError::NotFound(t!("User {name}", name)))
}

#[derive(Debug, Template)]
#[template(path = "people/add.html")]
struct AddPage {
    shell: Shell,
    name: String,
    roles: Vec<Choice>,
    scopes: Vec<Choice>,
    error: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "people/secret.html")]
struct SecretPage {
    shell: Shell,
    name: String,
    href: String,
    secret: String,
}

#[derive(Debug, Deserialize)]
pub struct NewPerson {
    name: String,
    role: String,
    scope: String,
}

#[derive(Debug, Deserialize)]
pub struct Given {
    #[serde(default)]
    role: String,
    scope: String,
}

fn grant_of(role: &str, scope: &str) -> Result<Grant, PageError> {
    let role = ROLES.into_iter().find(|known| known.name() == role);
    match (role, scope.parse()) {
        (Some(role), Ok(scope)) => Ok(Grant { role, scope }),
        _ => Err(PageError::Invalid(t!("There is no such role or scope.").into())),
    }
}

async fn add_page(visit: &Visit, name: String, error: Option<String>) -> Result<Response, PageError> {
    let page = AddPage {
        shell: visit.shell(t!("Add a user"), Section::People, "/events"),
        name,
        roles: roles(),
        scopes: scope_choices(&visit.session).await?,
        error,
    };
    visit.answer(page.render())
}

pub async fn ask_add(visit: Visit) -> Result<Response, PageError> {
    administers(&visit.session)?;
    add_page(&visit, String::new(), None).await
}

pub async fn add(
    State(web): State<Web>,
    visit: Visit,
    Form(given): Form<NewPerson>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let grant = grant_of(&given.role, &given.scope)?;
    let name = given.name.trim();
    match people::add(&web.hub, &visit.session.actor, name, vec![grant]).await {
        Ok(secret) => secret_page(&visit, name, secret),
        Err(crate::actions::ActionError::Invalid(why)) => {
            let error = t!("Nobody was added: {why}.", why);
            add_page(&visit, name.to_owned(), Some(error)).await
        }
        Err(error) => Err(error.into()),
    }
}

fn secret_page(visit: &Visit, name: &str, secret: String) -> Result<Response, PageError> {
    let page = SecretPage {
        shell: visit.shell(t!("Password of {name}", name), Section::People, "/events"),
        name: name.to_owned(),
        href: href(name),
        secret,
    };
    visit.answer(page.render())
}

/// Shows at the user's page what came of something.
fn shown(
    name: &str,
    done: Result<(), crate::actions::ActionError>,
    good: String,
) -> Result<Response, PageError> {
    match done {
        Ok(()) => Ok(Flash::good(good).show_at(&href(name))),
        Err(crate::actions::ActionError::Invalid(why)) => {
            Ok(Flash::bad(t!("Nothing was changed: {why}.", why)).show_at(&href(name)))
        }
        Err(error) => Err(error.into()),
    }
}

pub async fn grant(
    State(web): State<Web>,
    visit: Visit,
    Path(name): Path<String>,
    Form(given): Form<Given>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let grant = grant_of(&given.role, &given.scope)?;
    let good = t!("{name} is {grant}.", name, grant);
    let done = people::grant(&web.hub, &visit.session.actor, &name, grant).await;
    shown(&name, done, good)
}

pub async fn revoke(
    State(web): State<Web>,
    visit: Visit,
    Path(name): Path<String>,
    Form(given): Form<Given>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let scope = given
        .scope
        .parse()
        .map_err(|_| PageError::Invalid(t!("There is no such scope.").into()))?;
    let done = people::revoke(&web.hub, &visit.session.actor, &name, &scope).await;
    shown(
        &name,
        done,
        t!("{name} may do nothing more by the role for {scope}.", name, scope),
    )
}

pub async fn remove_key(
    State(web): State<Web>,
    visit: Visit,
    Path((name, key)): Path<(String, String)>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let done = people::remove_key(&web.hub, &visit.session.actor, &name, &key).await;
    shown(&name, done, t!("The key is removed: it counts no more.").into())
}

pub async fn ask_password(visit: Visit, Path(name): Path<String>) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let user = known(&visit, &name).await?;
    let title = t!("Give {name} a one-time password", name = user.name);
    let page = AskPage {
        title: title.clone(),
        summary: t!("It is shown once, for you to hand over, and has to be changed at the first sign-in.")
            .into(),
        does: vec![
            t!("The password of now is good no more.").into(),
            t!("All sessions of this user end.").into(),
        ],
        keeps: vec![t!("The second factor, roles and API keys").into()],
        confirm: t!("Make the password"),
        tone: "primary",
        ..AskPage::plain(
            visit.shell(title, Section::People, "/events"),
            format!("{}/password", href(&name)),
            href(&name),
        )
    };
    page.answer(&visit)
}

pub async fn reset_password(
    State(web): State<Web>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let secret = people::reset_password(&web.hub, &visit.session.actor, &name).await?;
    secret_page(&visit, &name, secret)
}

fn measure(slug: &str) -> Result<Measure, PageError> {
    let known = Measure::ALL.into_iter().find(|measure| measure.slug() == slug);
    known.ok_or_else(|| PageError::NotFound(t!("The action “{slug}”", slug)))
}

/// What a measure is called, what it does, what stays, and what its button says.
fn words(measure: Measure, name: &str) -> (String, Vec<String>, Vec<String>, &'static str) {
    let log = t!("What the audit log has of this user").to_owned();
    match measure {
        Measure::Unlock => (
            t!("Unlock {name}", name),
            vec![t!("This user may try to sign in again at once.").into()],
            Vec::new(),
            t!("Unlock"),
        ),
        Measure::RemoveSecondFactor => (
            t!("Remove the second factor of {name}", name),
            vec![
                t!("The password alone lets this user in, until another second factor is set up.").into(),
                t!("All recovery codes are good no more.").into(),
            ],
            vec![t!("The password, roles and API keys").into()],
            t!("Remove second factor"),
        ),
        Measure::EndSessions => (
            t!("End all sessions of {name}", name),
            vec![t!("Every browser in which this user is signed in has to sign in again.").into()],
            vec![t!("API keys").into()],
            t!("End all sessions"),
        ),
        Measure::Disable => (
            t!("Disable {name}", name),
            vec![
                t!("This user may not sign in, and all sessions end.").into(),
                t!("API keys of this user are refused.").into(),
            ],
            vec![
                t!("The user with all roles and keys, to be enabled again").into(),
                log,
            ],
            t!("Disable user"),
        ),
        Measure::Enable => (
            t!("Enable {name}", name),
            vec![t!("This user may sign in again, and API keys of this user count again.").into()],
            Vec::new(),
            t!("Enable user"),
        ),
        Measure::Remove => (
            t!("Remove {name}", name),
            vec![
                t!("This user may not sign in, and all sessions end.").into(),
                t!("API keys of this user are gone.").into(),
                t!("Roles of this user are gone.").into(),
            ],
            vec![log],
            t!("Remove user"),
        ),
    }
}

pub async fn ask_measure(
    visit: Visit,
    Path((name, slug)): Path<(String, String)>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let measure = measure(&slug)?;
    let user = known(&visit, &name).await?;
    let (title, does, keeps, confirm) = words(measure, &user.name);
    let page = AskPage {
        title: title.clone(),
        summary: if user.name == visit.session.user.name {
            t!("This is you.").into()
        } else {
            String::new()
        },
        does,
        keeps,
        confirm,
        tone: match measure {
            Measure::Unlock | Measure::Enable => "primary",
            _ => "danger",
        },
        ..AskPage::plain(
            visit.shell(title, Section::People, "/events"),
            format!("{}/measures/{slug}", href(&name)),
            href(&name),
        )
    };
    page.answer(&visit)
}

pub async fn carry_out(
    State(web): State<Web>,
    visit: Visit,
    Path((name, slug)): Path<(String, String)>,
) -> Result<Response, PageError> {
    administers(&visit.session)?;
    let measure = measure(&slug)?;
    let done = people::carry_out(&web.hub, &visit.session.actor, &name, measure).await;
    if measure == Measure::Remove && done.is_ok() {
        return Ok(Flash::good(t!("{name} is removed.", name)).show_at("/people"));
    }
    let (title, _, _, _) = words(measure, &name);
    shown(&name, done, t!("Done: {title}.", title))
}
