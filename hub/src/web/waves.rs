//! Waves: the list with its calendar, and what makes and plans one. [`one`] shows it.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    response::Response,
};
use chrono::NaiveDateTime;
use domain::{
    ids::{ApplicationId, WaveId},
    launch::Purpose,
    wave::{Standing, Window},
};
use serde::Deserialize;

use self::calendar::Calendar;
use super::{
    Web,
    applications::{Named, NamingPage, Together, accounts_to_choose, correctable, told},
    badge::{self, Badge},
    servers::Choice,
    visit::{Flash, PageError, Part, Section, Shell, Visit},
};
use crate::{
    actions::waves::{self, run},
    clock::now_ms,
    entities::{user::UserRole, wave},
    language::filters,
    n,
    store::{
        StoreError,
        waves::{ApplicationFilter, WaveFilter},
    },
    t,
};

mod board;
mod calendar;
pub mod coming;
pub mod launch;
mod next;
pub mod one;
pub mod report;

#[derive(Debug, Template)]
#[template(path = "waves/page.html", blocks = ["live"])]
struct WavesPage {
    shell: Shell,
    archived: bool,
    rows: Vec<Row>,
    count: String,
    calendar: Option<Calendar>,
    can_add: bool,
}

#[derive(Debug)]
struct Row {
    id: String,
    name: String,
    place: String,
    window: String,
    stage: Badge,
    run: Option<Badge>,
    applications: usize,
    together: Together,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    archived: String,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Query(filter): Query<Filter>,
) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let archived = !filter.archived.is_empty();
    let waves = store
        .wave_list(&WaveFilter {
            archived: Some(archived),
            ..WaveFilter::default()
        })
        .await?;
    let mut of_waves: HashMap<WaveId, (usize, Standing)> = HashMap::new();
    let standings = store.standings(&ApplicationFilter::default()).await?;
    for application in store.application_list(&ApplicationFilter::default()).await? {
        let Some(wave) = application.wave else {
            continue;
        };
        let (applications, standing) = of_waves.entry(wave.0).or_default();
        *applications += 1;
        if let Some(one) = standings.get(&application.id.0) {
            standing.add(one);
        }
    }
    let calendar = Calendar::of(&waves, now_ms());
    let mut rows = Vec::with_capacity(waves.len());
    for wave in waves {
        let (applications, standing) = of_waves.remove(&wave.id.0).unwrap_or_default();
        rows.push(Row {
            id: wave.id.to_string(),
            place: place(&wave),
            window: wave
                .plan
                .window
                .map_or_else(|| t!("not planned").into(), window_text),
            stage: badge::stage(waves::stage(&web.hub, &wave).await?),
            run: wave
                .run
                .as_ref()
                .filter(|_| run::is_under_way(&wave))
                .map(|run| badge::run(&run.state)),
            together: Together::of(&standing, &wave.name),
            applications,
            name: wave.name,
        });
    }
    let page = WavesPage {
        shell: visit.shell(t!("Waves"), Section::Waves, "/events"),
        count: n!(rows.len() as u64, "{n} wave", "{n} waves"),
        rows,
        calendar,
        archived,
        can_add: visit.session.actor.role_somewhere() >= Some(UserRole::Operator),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

fn place(wave: &wave::Model) -> String {
    match &wave.account {
        Some(account) => t!("account {account}", account),
        None => t!("all accounts").into(),
    }
}

/// `2026-11-21 20:00 – 23:30 UTC`
fn window_text(window: Window) -> String {
    let minutes = |ms: i64| {
        chrono::DateTime::from_timestamp_millis(ms)
            .unwrap_or_default()
            .format("%Y-%m-%d %H:%M")
            .to_string()
    };
    let (from, to) = (minutes(window.from), minutes(window.to));
    match (from.split_once(' '), to.split_once(' ')) {
        (Some((day, _)), Some((same, time))) if day == same => format!("{from} – {time} UTC"),
        _ => format!("{from} – {to} UTC"),
    }
}

pub fn href(id: &WaveId) -> String {
    format!("/waves/{id}")
}

/// Stands for every account in the form of a new wave.
const EVERYWHERE: &str = "everywhere";

async fn naming_page(
    visit: &Visit,
    known: Option<&wave::Model>,
    named: Named,
    error: Option<String>,
) -> Result<Response, PageError> {
    let accounts = if known.is_some() {
        None
    } else {
        let everywhere = Choice {
            value: EVERYWHERE.into(),
            label: t!("All accounts").into(),
            selected: named.account == EVERYWHERE,
        };
        let may = visit.session.actor.role_everywhere() >= Some(UserRole::Operator);
        let each = accounts_to_choose(visit, UserRole::Operator, &named.account).await?;
        Some(may.then_some(everywhere).into_iter().chain(each).collect())
    };
    let page = NamingPage {
        shell: visit.shell(t!("Wave"), Section::Waves, "/events"),
        title: known.map_or_else(
            || t!("New wave").into(),
            |known| t!("Edit {name}", name = known.name),
        ),
        sub: t!("Applications that are cut over together."),
        back: known.map_or_else(|| "/waves".into(), |known| href(&known.id)),
        back_label: t!("Waves"),
        action: known.map_or_else(
            || "/waves/add".into(),
            |known| format!("{}/edit", href(&known.id)),
        ),
        accounts,
        name: named.name,
        description: named.description,
        error,
        submit: if known.is_some() {
            t!("Save")
        } else {
            t!("Create wave")
        },
    };
    visit.answer(page.render())
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
    let account = match named.account.as_str() {
        EVERYWHERE => Ok(None),
        account => account.parse().map(Some),
    };
    let Ok(account) = account else {
        let error = t!("Choose the accounts of the wave.").to_owned();
        return naming_page(&visit, None, named, Some(error)).await;
    };
    let naming = named.naming();
    match waves::create(&web.hub, &visit.session.actor, account.as_ref(), naming).await {
        Ok(id) => Ok(Flash::good(t!("{name} is there.", name = named.name)).show_at(&href(&id))),
        Err(error) => naming_page(&visit, None, named, Some(correctable(error)?)).await,
    }
}

/// A wave in sight, and whether the reader has this role for it.
async fn found(visit: &Visit, id: &WaveId, role: UserRole) -> Result<wave::Model, PageError> {
    let row = visit.session.store.wave(id).await?;
    if role_of(visit, &row).await? < Some(role) {
        return Err(PageError::Forbidden { need: role });
    }
    Ok(row)
}

async fn role_of(visit: &Visit, wave: &wave::Model) -> Result<Option<UserRole>, PageError> {
    match waves::role_for(&visit.session.store, &visit.session.actor, wave).await {
        // Who sees a part of a wave need not see the account that it is of.
        Err(StoreError::NotFound { .. }) => Ok(None),
        role => Ok(role?),
    }
}

pub async fn ask_edit(visit: Visit, Path(id): Path<WaveId>) -> Result<Response, PageError> {
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
    Path(id): Path<WaveId>,
    Form(named): Form<Named>,
) -> Result<Response, PageError> {
    let row = found(&visit, &id, UserRole::Operator).await?;
    match waves::update(&web.hub, &visit.session.actor, &id, named.renaming()).await {
        Ok(()) => Ok(Flash::good(t!("{name} is saved.", name = named.name)).show_at(&href(&id))),
        Err(error) => naming_page(&visit, Some(&row), named, Some(correctable(error)?)).await,
    }
}

#[derive(Debug, Template)]
#[template(path = "wave/plan.html")]
struct PlanPage {
    shell: Shell,
    id: String,
    name: String,
    from: String,
    to: String,
    ticket: String,
    error: Option<String>,
    /// An approval that a change would end.
    approved: bool,
}

#[derive(Debug, Default, Deserialize)]
pub struct Planned {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    ticket: String,
}

/// What a browser's field for a date and a time holds.
const LOCAL: &str = "%Y-%m-%dT%H:%M";

fn local(ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format(LOCAL).to_string()
}

fn read_local(text: &str) -> Option<i64> {
    let text = text.get(..16).unwrap_or(text);
    let at = NaiveDateTime::parse_from_str(text, LOCAL).ok()?;
    Some(at.and_utc().timestamp_millis())
}

impl Planned {
    fn window(&self) -> Result<Option<Window>, String> {
        if self.from.is_empty() && self.to.is_empty() {
            return Ok(None);
        }
        match (read_local(&self.from), read_local(&self.to)) {
            (Some(from), Some(to)) => Ok(Some(Window { from, to })),
            _ => Err(t!("A window needs a beginning and an end, each with date and time.").into()),
        }
    }
}

fn plan_page(
    visit: &Visit,
    row: &wave::Model,
    planned: Planned,
    error: Option<String>,
) -> Result<Response, PageError> {
    let page = PlanPage {
        shell: visit.shell(t!("Plan of {name}", name = row.name), Section::Waves, "/events"),
        id: row.id.to_string(),
        name: row.name.clone(),
        from: planned.from,
        to: planned.to,
        ticket: planned.ticket,
        error,
        approved: row.plan.approved.is_some(),
    };
    visit.answer(page.render())
}

pub async fn ask_plan(visit: Visit, Path(id): Path<WaveId>) -> Result<Response, PageError> {
    let row = found(&visit, &id, UserRole::Operator).await?;
    let window = row.plan.window;
    let planned = Planned {
        from: window.map(|window| local(window.from)).unwrap_or_default(),
        to: window.map(|window| local(window.to)).unwrap_or_default(),
        ticket: row.plan.ticket.clone(),
    };
    plan_page(&visit, &row, planned, None)
}

pub async fn plan(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<WaveId>,
    Form(planned): Form<Planned>,
) -> Result<Response, PageError> {
    let row = found(&visit, &id, UserRole::Operator).await?;
    let window = match planned.window() {
        Ok(window) => window,
        Err(error) => return plan_page(&visit, &row, planned, Some(error)),
    };
    match waves::plan(&web.hub, &visit.session.actor, &id, window, &planned.ticket).await {
        Ok(()) => Ok(Flash::good(t!("The plan of {name} is saved.", name = row.name)).show_at(&href(&id))),
        Err(error) => plan_page(&visit, &row, planned, Some(correctable(error)?)),
    }
}

/// What is done to a wave as a whole.
#[derive(Debug, Deserialize)]
pub struct Done {
    #[serde(default)]
    application: String,
    #[serde(default)]
    at_once: Option<u32>,
    #[serde(default)]
    failures_allowed: Option<u32>,
}

pub async fn carry_out(
    State(web): State<Web>,
    visit: Visit,
    Path((id, what)): Path<(WaveId, String)>,
    Form(done): Form<Done>,
) -> Result<Response, PageError> {
    let (hub, actor) = (&web.hub, &visit.session.actor);
    let row = found(&visit, &id, UserRole::Operator).await?;
    let application = || -> Result<[ApplicationId; 1], PageError> {
        let named = done.application.parse();
        named
            .map(|one| [one])
            .map_err(|_| PageError::Invalid(t!("Choose an application.").into()))
    };
    let usual = run::Pace::default();
    let pace = run::Pace {
        at_once: done.at_once.unwrap_or(usual.at_once),
        failures_allowed: done.failures_allowed.unwrap_or(usual.failures_allowed),
    };
    let mut back = href(&id);
    let done = match what.as_str() {
        "archive" => waves::archive(hub, actor, &id, true).await,
        "unarchive" => waves::archive(hub, actor, &id, false).await,
        "delete" => {
            let deleted = waves::delete(hub, actor, &id).await;
            if deleted.is_ok() {
                back = "/waves".into();
            }
            deleted
        }
        "add" => waves::associate(hub, actor, &id, &application()?).await,
        "remove" => waves::disassociate(hub, actor, &id, &application()?).await,
        "submit" => waves::submit(hub, actor, &id).await,
        "approve" => waves::approve(hub, actor, &id).await,
        "withdraw" => waves::withdraw(hub, actor, &id).await,
        "start-test" => run::start(hub, actor, &id, Purpose::Test, pace).await,
        "start-cutover" => run::start(hub, actor, &id, Purpose::Cutover, pace).await,
        "hold" => run::hold(hub, actor, &id).await,
        "resume" => run::resume(hub, actor, &id).await,
        "end" => run::end(hub, actor, &id).await,
        _ => return Err(PageError::NotFound(t!("The action “{slug}”", slug = what))),
    };
    told(done, &back, || match what.as_str() {
        "submit" => t!("The plan of {name} waits for approval.", name = row.name),
        "approve" => t!("The plan of {name} is approved.", name = row.name),
        "withdraw" => t!("The plan of {name} is a draft again.", name = row.name),
        "start-test" | "start-cutover" | "resume" => {
            t!("The servers of {name} are being launched.", name = row.name)
        }
        "hold" => t!(
            "No more servers of {name} are launched until somebody goes on.",
            name = row.name
        ),
        "end" => t!("No more servers of {name} are launched.", name = row.name),
        _ => t!("{name} is saved.", name = row.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_form_are_read_as_they_are_written() {
        let at = 1_790_000_000_000 - 1_790_000_000_000 % 60_000;
        assert_eq!(read_local(&local(at)), Some(at));
        assert_eq!(read_local(&format!("{}:30", local(at))), Some(at));
        for broken in ["", "2026-13-01T00:00", "2026-11-23", "ääääääääää"] {
            assert_eq!(read_local(broken), None, "{broken}");
        }
        let hour = 3_600_000;
        let window = |from, to| Window { from, to };
        assert_eq!(window_text(window(0, hour)), "1970-01-01 00:00 – 01:00 UTC");
        assert_eq!(
            window_text(window(0, 24 * hour)),
            "1970-01-01 00:00 – 1970-01-02 00:00 UTC"
        );
    }
}
