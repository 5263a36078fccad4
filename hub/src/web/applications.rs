//! Applications: the list, and one with its servers.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    response::Response,
};
use domain::{
    ids::{AccountId, ApplicationId, SourceServerId, WaveId},
    wave::Standing,
};
use serde::Deserialize;

use super::{
    Web,
    badge::{self, Badge},
    servers::{self, AccountLink, Choice, ListColumn, ServerRow},
    text::{self, Bar},
    visit::{Flash, PageError, Part, Section, Shell, Visit},
};
use crate::{
    actions::{
        ActionError, applications,
        naming::{Naming, Renaming},
        waves,
    },
    clock::now_ms,
    entities::{application, user::UserRole},
    language::filters,
    n,
    store::{
        servers::ServerFilter,
        waves::{ApplicationFilter, WaveFilter},
    },
    t,
};

/// How servers that belong together stand, as lists show it.
#[derive(Debug)]
pub struct Together {
    pub servers: String,
    pub health: Badge,
    pub progress: Badge,
    /// `None` without servers.
    pub done: Option<Bar>,
}

impl Together {
    pub fn of(standing: &Standing, name: &str) -> Self {
        let (done, total) = (standing.done(), standing.total());
        Self {
            servers: n!(total, "{n} server", "{n} servers"),
            health: badge::health(standing.health()),
            progress: badge::progress(standing.progress()),
            done: (total > 0).then(|| text::bar(done, total, "good", t!("{name} finalized", name))),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "applications/page.html", blocks = ["live"])]
struct ApplicationsPage {
    shell: Shell,
    query: String,
    archived: bool,
    rows: Vec<Row>,
    count: String,
    can_add: bool,
    filtered: bool,
}

#[derive(Debug)]
struct Row {
    id: String,
    name: String,
    description: String,
    account: AccountLink,
    wave: Option<(String, String)>,
    together: Together,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    q: String,
    archived: String,
}

pub async fn page(visit: Visit, Query(filter): Query<Filter>) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let archived = !filter.archived.is_empty();
    let all = ApplicationFilter {
        archived: Some(archived),
        ..ApplicationFilter::default()
    };
    let accounts = account_names(&visit).await?;
    let waves = wave_names(&visit).await?;
    let mut standings = store.standings(&ApplicationFilter::default()).await?;
    let sought = filter.q.trim().to_lowercase();
    let row = |application: application::Model| {
        let standing = standings.remove(&application.id.0).unwrap_or_default();
        Row {
            id: application.id.to_string(),
            together: Together::of(&standing, &application.name),
            account: AccountLink {
                id: application.account.to_string(),
                name: accounts.get(&application.account.0).cloned().unwrap_or_default(),
            },
            wave: application
                .wave
                .and_then(|wave| Some((wave.to_string(), waves.get(&wave.0)?.clone()))),
            name: application.name,
            description: application.description,
        }
    };
    let rows: Vec<_> = store
        .application_list(&all)
        .await?
        .into_iter()
        .map(row)
        .filter(|row| {
            [&row.name, &row.account.name, &row.account.id, &row.description]
                .into_iter()
                .chain(row.wave.as_ref().map(|(_, name)| name))
                .any(|text| text.to_lowercase().contains(&sought))
        })
        .collect();
    let page = ApplicationsPage {
        shell: visit.shell(t!("Applications"), Section::Applications, "/events"),
        count: n!(rows.len() as u64, "{n} application", "{n} applications"),
        rows,
        can_add: visit.session.actor.role_somewhere() >= Some(UserRole::Operator),
        filtered: archived || !sought.is_empty(),
        query: filter.q,
        archived,
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

async fn account_names(visit: &Visit) -> Result<HashMap<AccountId, String>, PageError> {
    let accounts = visit.session.store.account_list().await?;
    Ok(accounts.into_iter().map(|row| (row.id.0, row.name)).collect())
}

async fn wave_names(visit: &Visit) -> Result<HashMap<WaveId, String>, PageError> {
    let waves = visit.session.store.wave_list(&WaveFilter::default()).await?;
    Ok(waves.into_iter().map(|row| (row.id.0, row.name)).collect())
}

/// A form for what has a name: an application or a wave, new or known.
#[derive(Debug, Template)]
#[template(path = "applications/naming.html")]
pub struct NamingPage {
    pub shell: Shell,
    pub title: String,
    pub sub: &'static str,
    pub back: String,
    pub back_label: &'static str,
    pub action: String,
    /// Where it is; `None` once that is settled.
    pub accounts: Option<Vec<Choice>>,
    pub name: String,
    pub description: String,
    pub error: Option<String>,
    pub submit: &'static str,
}

#[derive(Debug, Default, Deserialize)]
pub struct Named {
    #[serde(default)]
    pub account: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
}

impl Named {
    pub fn naming(&self) -> Naming {
        Naming {
            name: self.name.trim().to_owned(),
            description: self.description.trim().to_owned(),
            ..Naming::default()
        }
    }

    pub fn renaming(&self) -> Renaming {
        let naming = self.naming();
        Renaming {
            name: Some(naming.name),
            description: Some(naming.description),
        }
    }
}

/// The accounts in which the reader has a role.
pub async fn accounts_to_choose(
    visit: &Visit,
    role: UserRole,
    chosen: &str,
) -> Result<Vec<Choice>, PageError> {
    let accounts = visit.session.store.account_list().await?;
    let may = accounts
        .iter()
        .filter(|account| visit.session.actor.role_in(account) >= Some(role));
    Ok(may
        .map(|account| Choice {
            value: account.id.to_string(),
            label: format!("{} ({})", account.name, account.id),
            selected: account.id.as_str() == chosen,
        })
        .collect())
}

/// A refusal that belongs into the form again.
pub fn correctable(error: ActionError) -> Result<String, PageError> {
    match error {
        ActionError::Invalid(why) | ActionError::Conflict(why) => Ok(why),
        error => Err(error.into()),
    }
}

async fn naming_page(
    visit: &Visit,
    known: Option<&application::Model>,
    named: Named,
    error: Option<String>,
) -> Result<Response, PageError> {
    let page = NamingPage {
        shell: visit.shell(t!("Application"), Section::Applications, "/events"),
        title: known.map_or_else(
            || t!("New application").into(),
            |known| t!("Edit {name}", name = known.name),
        ),
        sub: t!("Servers of one account that work together, and move together."),
        back: known.map_or_else(|| "/applications".into(), |known| href(&known.id)),
        back_label: t!("Applications"),
        action: known.map_or_else(
            || "/applications/add".into(),
            |known| format!("{}/edit", href(&known.id)),
        ),
        accounts: match known {
            Some(_) => None,
            None => Some(accounts_to_choose(visit, UserRole::Operator, &named.account).await?),
        },
        name: named.name,
        description: named.description,
        error,
        submit: if known.is_some() {
            t!("Save")
        } else {
            t!("Create application")
        },
    };
    visit.answer(page.render())
}

fn href(id: &ApplicationId) -> String {
    format!("/applications/{id}")
}

pub async fn ask_add(visit: Visit) -> Result<Response, PageError> {
    if visit.session.actor.role_somewhere() < Some(UserRole::Operator) {
        return Err(PageError::Forbidden {
            need: UserRole::Operator,
        });
    }
    naming_page(&visit, None, Named::default(), None).await
}

pub async fn add(
    State(web): State<Web>,
    visit: Visit,
    Form(named): Form<Named>,
) -> Result<Response, PageError> {
    let Ok(account) = named.account.parse() else {
        let error = t!("Choose the account of the application.").to_owned();
        return naming_page(&visit, None, named, Some(error)).await;
    };
    match applications::create(&web.hub, &visit.session.actor, &account, named.naming()).await {
        Ok(id) => Ok(Flash::good(t!("{name} is there.", name = named.name)).show_at(&href(&id))),
        Err(error) => naming_page(&visit, None, named, Some(correctable(error)?)).await,
    }
}

pub async fn ask_edit(visit: Visit, Path(id): Path<ApplicationId>) -> Result<Response, PageError> {
    let row = found(&visit, &id, UserRole::Operator).await?;
    let named = Named {
        account: String::new(),
        name: row.name.clone(),
        description: row.description.clone(),
    };
    naming_page(&visit, Some(&row), named, None).await
}

pub async fn edit(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<ApplicationId>,
    Form(named): Form<Named>,
) -> Result<Response, PageError> {
    let row = found(&visit, &id, UserRole::Operator).await?;
    match applications::update(&web.hub, &visit.session.actor, &id, named.renaming()).await {
        Ok(()) => Ok(Flash::good(t!("{name} is saved.", name = named.name)).show_at(&href(&id))),
        Err(error) => naming_page(&visit, Some(&row), named, Some(correctable(error)?)).await,
    }
}

/// An application in sight, for who has this role in its account.
async fn found(visit: &Visit, id: &ApplicationId, role: UserRole) -> Result<application::Model, PageError> {
    let row = visit.session.store.application(id).await?;
    visit.session.rights_in(&row.account).await?.require(role)?;
    Ok(row)
}

#[derive(Debug, Template)]
#[template(path = "application/page.html", blocks = ["live"])]
struct ApplicationPage {
    shell: Shell,
    id: String,
    name: String,
    description: String,
    account: AccountLink,
    wave: Option<(String, String)>,
    /// That it may be put into.
    waves: Vec<Choice>,
    archived: bool,
    together: Together,
    columns: Vec<ListColumn>,
    rows: Vec<ServerRow>,
    may: bool,
}

pub async fn one(visit: Visit, Path(id): Path<ApplicationId>) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let row = store.application(&id).await?;
    let may = visit
        .session
        .rights_in(&row.account)
        .await?
        .may(UserRole::Operator);
    let filter = ServerFilter {
        applications: vec![id.clone()],
        archived: Some(false),
        ..ServerFilter::default()
    };
    let servers = store.server_list(&filter).await?;
    let only = ApplicationFilter {
        ids: vec![id.clone()],
        ..ApplicationFilter::default()
    };
    let standing = store.standings(&only).await?.remove(&id).unwrap_or_default();
    let waves = store
        .wave_list(&WaveFilter {
            archived: Some(false),
            ..WaveFilter::default()
        })
        .await?;
    let now = now_ms();
    let page = ApplicationPage {
        shell: visit.shell(
            row.name.clone(),
            Section::Applications,
            format!("/events?account={}", row.account),
        ),
        together: Together::of(&standing, &row.name),
        wave: row.wave.as_ref().and_then(|wave| {
            let known = waves.iter().find(|known| known.id == *wave)?;
            Some((wave.to_string(), known.name.clone()))
        }),
        waves: waves
            .iter()
            .filter(|wave| wave.account.as_ref().is_none_or(|own| *own == row.account))
            .map(|wave| Choice {
                value: wave.id.to_string(),
                label: wave.name.clone(),
                selected: false,
            })
            .collect(),
        account: AccountLink {
            name: store.account(&row.account).await?.name,
            id: row.account.to_string(),
        },
        columns: servers::plain_columns(),
        rows: servers
            .iter()
            .map(|server| servers::row(server, None, now))
            .collect(),
        may,
        id: id.to_string(),
        name: row.name,
        description: row.description,
        archived: row.archived,
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

#[derive(Debug, Template)]
#[template(path = "application/servers.html")]
struct ChooseServersPage {
    shell: Shell,
    id: String,
    name: String,
    query: String,
    choices: Vec<(String, String, String, Badge)>,
    more: u64,
}

/// As many as are shown to choose from.
const CHOICES_MAX: usize = 200;

pub async fn ask_servers(
    visit: Visit,
    Path(id): Path<ApplicationId>,
    Query(filter): Query<Filter>,
) -> Result<Response, PageError> {
    let row = found(&visit, &id, UserRole::Operator).await?;
    let in_account = ServerFilter {
        accounts: vec![row.account.0.clone()],
        archived: Some(false),
        ..ServerFilter::default()
    };
    let servers = visit.session.store.server_list(&in_account).await?;
    let sought = filter.q.trim().to_lowercase();
    let free: Vec<_> = servers
        .iter()
        .filter(|server| server.application.is_none() && !server.lifecycle.is_final())
        .filter(|server| {
            [server.known_as(), &server.hostname, server.id.as_str()]
                .iter()
                .any(|text| text.to_lowercase().contains(&sought))
        })
        .collect();
    let page = ChooseServersPage {
        shell: visit.shell(row.name.clone(), Section::Applications, "/events"),
        choices: free
            .iter()
            .take(CHOICES_MAX)
            .map(|server| {
                (
                    server.id.to_string(),
                    server.known_as().to_owned(),
                    server.properties.os.clone(),
                    badge::lifecycle(&server.lifecycle_name),
                )
            })
            .collect(),
        more: free.len().saturating_sub(CHOICES_MAX) as u64,
        id: id.to_string(),
        name: row.name,
        query: filter.q,
    };
    visit.answer(page.render())
}

pub async fn add_servers(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<ApplicationId>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let servers = named_servers(&fields)?;
    let done = applications::associate(&web.hub, &visit.session.actor, &id, &servers).await;
    told(done, &href(&id), || {
        n!(
            servers.len() as u64,
            "{n} server was added.",
            "{n} servers were added."
        )
    })
}

pub async fn remove_servers(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<ApplicationId>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let servers = named_servers(&fields)?;
    let done = applications::disassociate(&web.hub, &visit.session.actor, &id, &servers).await;
    told(done, &href(&id), || {
        n!(
            servers.len() as u64,
            "{n} server was taken out.",
            "{n} servers were taken out."
        )
    })
}

fn named_servers(fields: &[(String, String)]) -> Result<Vec<SourceServerId>, PageError> {
    let named = fields.iter().filter(|(name, _)| name == "server");
    let servers: Result<Vec<_>, _> = named.map(|(_, id)| id.parse::<SourceServerId>()).collect();
    let servers = servers.map_err(|error| PageError::Invalid(error.to_string()))?;
    if servers.is_empty() {
        return Err(PageError::Invalid(t!("Tick the servers that it is for.").into()));
    }
    Ok(servers)
}

/// What is done to an application as a whole.
#[derive(Debug, Deserialize)]
pub struct Done {
    #[serde(default)]
    wave: String,
}

pub async fn carry_out(
    State(web): State<Web>,
    visit: Visit,
    Path((id, what)): Path<(ApplicationId, String)>,
    Form(done): Form<Done>,
) -> Result<Response, PageError> {
    let (hub, actor) = (&web.hub, &visit.session.actor);
    let row = found(&visit, &id, UserRole::Operator).await?;
    let one = std::slice::from_ref(&id);
    let wave = || -> Result<WaveId, PageError> {
        let known = row.wave.as_ref().map(ToString::to_string);
        let named = if done.wave.is_empty() {
            known
        } else {
            Some(done.wave.clone())
        };
        named
            .and_then(|wave| wave.parse().ok())
            .ok_or_else(|| PageError::Invalid(t!("Choose a wave.").into()))
    };
    let mut back = href(&id);
    let done = match what.as_str() {
        "archive" => applications::archive(hub, actor, &id, true).await,
        "unarchive" => applications::archive(hub, actor, &id, false).await,
        "delete" => {
            let deleted = applications::delete(hub, actor, &id).await;
            if deleted.is_ok() {
                back = "/applications".into();
            }
            deleted
        }
        "join" => waves::associate(hub, actor, &wave()?, one).await,
        "leave" => waves::disassociate(hub, actor, &wave()?, one).await,
        _ => return Err(PageError::NotFound(t!("The action “{slug}”", slug = what))),
    };
    told(done, &back, || t!("{name} is saved.", name = row.name))
}

/// A sentence about what was done, or why not.
pub fn told(
    done: Result<(), ActionError>,
    back: &str,
    good: impl FnOnce() -> String,
) -> Result<Response, PageError> {
    let flash = match done {
        Ok(()) => Flash::good(good()),
        Err(ActionError::Refused(refused)) => Flash::bad(t!(
            "Nothing was changed: {why}.",
            why = ActionError::Refused(refused)
        )),
        Err(error) => Flash::bad(t!("Nothing was changed: {why}.", why = correctable(error)?)),
    };
    Ok(flash.show_at(back))
}
