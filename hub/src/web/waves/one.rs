//! A wave: what was agreed on, whether its servers are ready, how its launch goes, and where each server is.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{
    ids::{SourceServerId, WaveId},
    job::LaunchStatus,
    launch::Purpose,
    wave::{RunState, Signature, Stage, Standing},
};

use super::{
    board::{Column, NotReady, board, not_ready, ready_text},
    next::{Next, next, steps},
    place, role_of, window_text,
};
use crate::{
    actions::waves::{self, run},
    clock::now_ms,
    entities::{source_server::Model, user::UserRole, wave},
    language::filters,
    store::{servers::ServerFilter, waves::ApplicationFilter},
    t,
    web::{
        Web,
        applications::Together,
        badge::{self, Badge},
        servers::Choice,
        text::{self, Moment},
        visit::{PageError, Part, Section, Shell, Visit},
    },
};

#[derive(Debug, Template)]
#[template(path = "wave/page.html", blocks = ["live"])]
struct WavePage {
    shell: Shell,
    id: String,
    name: String,
    description: String,
    place: String,
    archived: bool,
    stage: Badge,
    together: Together,
    next: Next,
    window: String,
    ticket: String,
    submitted: Option<Signed>,
    approved: Option<Signed>,
    may: May,
    run: Option<RunView>,
    ready: Vec<NotReady>,
    ready_text: String,
    board: Vec<Column>,
    applications: Vec<ApplicationRow>,
    free: Vec<Choice>,
    steps: Vec<(&'static str, &'static str)>,
}

/// What the reader can do now: a page shows a button for each.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug)]
pub struct May {
    pub operate: bool,
    pub approve: bool,
    pub submit: bool,
    pub withdraw: bool,
    pub launch: bool,
}

#[derive(Debug)]
struct Signed {
    by: String,
    at: Moment,
}

impl Signed {
    fn of(signature: &Signature) -> Self {
        Self {
            by: signature.by.clone(),
            at: text::moment(signature.at),
        }
    }
}

#[derive(Debug)]
struct RunView {
    title: &'static str,
    state: Badge,
    held: Option<String>,
    by: String,
    at: Moment,
    facts: Vec<(&'static str, String)>,
    jobs: Vec<String>,
    refused: Vec<(String, String, String)>,
    can_hold: bool,
    can_resume: bool,
    can_end: bool,
}

#[derive(Debug)]
struct ApplicationRow {
    id: String,
    name: String,
    account: String,
    together: Together,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<WaveId>,
) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let wave = store.wave(&id).await?;
    let role = role_of(&visit, &wave).await?;
    let stage = waves::stage(&web.hub, &wave).await?;
    let servers = store
        .server_list(&ServerFilter {
            wave: Some(id.clone()),
            archived: Some(false),
            ..ServerFilter::default()
        })
        .await?;
    let of_wave = ApplicationFilter {
        waves: vec![id.clone()],
        ..ApplicationFilter::default()
    };
    let applications = store.application_list(&of_wave).await?;
    let standings = store.standings(&of_wave).await?;
    let mut standing = Standing::default();
    for one in standings.values() {
        standing.add(one);
    }
    let now = now_ms();
    let ready: Vec<_> = servers
        .iter()
        .filter(|server| !server.lifecycle.is_final())
        .filter_map(|server| not_ready(server, now))
        .collect();
    let operate = role >= Some(UserRole::Operator);
    let approve = role >= Some(UserRole::Approver);
    let under_way = run::is_under_way(&wave);
    let own = wave
        .plan
        .submitted
        .as_ref()
        .map(|signature| signature.by.as_str());
    let may = May {
        operate,
        submit: operate && stage == Stage::Draft && !servers.is_empty(),
        approve: approve && stage == Stage::Submitted && own != Some(visit.session.actor.name.as_str()),
        withdraw: operate && stage != Stage::Draft && !under_way,
        launch: operate && !under_way && !servers.is_empty(),
    };
    let page = WavePage {
        shell: visit.shell(wave.name.clone(), Section::Waves, "/events"),
        next: next(&wave, stage, &standing, &ready, &may),
        steps: steps(&wave, stage, &standing),
        run: run_view(&visit, &wave, &servers, operate, approve).await?,
        ready_text: ready_text(&servers, ready.len()),
        ready,
        board: board(&servers, &applications, now),
        free: free(&visit, &wave).await?,
        applications: applications
            .iter()
            .map(|application| ApplicationRow {
                id: application.id.to_string(),
                name: application.name.clone(),
                account: application.account.to_string(),
                together: Together::of(
                    standings.get(&application.id.0).unwrap_or(&Standing::default()),
                    &application.name,
                ),
            })
            .collect(),
        together: Together::of(&standing, &wave.name),
        place: place(&wave),
        stage: badge::stage(stage),
        window: wave
            .plan
            .window
            .map_or_else(|| t!("not planned").into(), window_text),
        ticket: wave.plan.ticket.clone(),
        submitted: wave
            .plan
            .submitted
            .as_ref()
            .filter(|_| stage != Stage::Draft)
            .map(Signed::of),
        approved: wave
            .plan
            .approved
            .as_ref()
            .filter(|_| stage == Stage::Approved)
            .map(Signed::of),
        may,
        id: id.to_string(),
        name: wave.name,
        description: wave.description,
        archived: wave.archived,
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

async fn run_view(
    visit: &Visit,
    wave: &wave::Model,
    servers: &[Model],
    operate: bool,
    approve: bool,
) -> Result<Option<RunView>, PageError> {
    let Some(run) = &wave.run.0 else {
        return Ok(None);
    };
    let parts = visit.session.store.participants(&run.jobs).await?;
    let name = |id: &SourceServerId| {
        let known = servers.iter().find(|server| server.id.0 == *id);
        known.map(|server| server.known_as().to_owned())
    };
    // Of servers that the reader may not see, nothing is said.
    let waiting = run.waiting.iter().filter(|(_, id)| name(id).is_some()).count();
    let count = |is: fn(&LaunchStatus) -> bool| parts.iter().filter(|part| is(&part.status.0)).count() as u64;
    let facts = vec![
        (t!("Waiting"), text::grouped(waiting as u64)),
        (
            t!("Under way"),
            text::grouped(count(|status| {
                matches!(status, LaunchStatus::Pending | LaunchStatus::InProgress)
            })),
        ),
        (
            t!("Launched"),
            text::grouped(count(|status| matches!(status, LaunchStatus::Launched { .. }))),
        ),
        (
            t!("Failed"),
            text::grouped(count(|status| matches!(status, LaunchStatus::Failed { .. }))),
        ),
        (t!("At once in an account"), run.at_once.to_string()),
    ];
    let mut jobs: Vec<_> = parts.iter().map(|part| part.job.to_string()).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let may_go_on = match run.purpose {
        Purpose::Test => operate,
        Purpose::Cutover => approve,
    };
    Ok(Some(RunView {
        title: match run.purpose {
            Purpose::Test => t!("Launch of the tests"),
            Purpose::Cutover => t!("Launch of the cutovers"),
        },
        state: badge::run(&run.state),
        held: match &run.state {
            RunState::Held { why } => Some(why.clone()),
            _ => None,
        },
        by: run.by.clone(),
        at: text::moment(run.at),
        facts,
        jobs,
        refused: run
            .refused
            .iter()
            .filter_map(|(id, why)| Some((id.to_string(), name(id)?, why.clone())))
            .collect(),
        can_hold: operate && run.state == RunState::Running,
        can_resume: may_go_on && matches!(run.state, RunState::Held { .. }),
        can_end: operate && !matches!(run.state, RunState::Ended { .. }),
    }))
}

/// Applications that could be put into the wave.
async fn free(visit: &Visit, wave: &wave::Model) -> Result<Vec<Choice>, PageError> {
    let filter = ApplicationFilter {
        accounts: wave.account.iter().map(|account| account.0.clone()).collect(),
        archived: Some(false),
        ..ApplicationFilter::default()
    };
    let all = visit.session.store.application_list(&filter).await?;
    Ok(all
        .into_iter()
        .filter(|application| application.wave.is_none())
        .map(|application| Choice {
            value: application.id.to_string(),
            label: format!("{} ({})", application.name, application.account),
            selected: false,
        })
        .collect())
}
