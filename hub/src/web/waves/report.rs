//! What came of a wave, for whoever has to file it: a page to print, and a table for spreadsheets.

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use domain::ids::WaveId;

use super::{place, window_text};
use crate::{
    actions::waves,
    clock::now_ms,
    entities::{
        source_server::{Launch, Model},
        wave,
    },
    language::filters,
    spreadsheet,
    store::{servers::ServerFilter, waves::ApplicationFilter},
    t,
    web::{
        Web,
        badge::{self, Badge},
        text::{self, Moment},
        visit::{PageError, Section, Shell, Visit},
    },
};

#[derive(Debug, Template)]
#[template(path = "wave/report.html")]
struct ReportPage {
    shell: Shell,
    id: String,
    name: String,
    description: String,
    stage: Badge,
    facts: Vec<(&'static str, String)>,
    at: Moment,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    application: String,
    account: String,
    name: String,
    id: String,
    lifecycle: Badge,
    tested: String,
    cut_over: String,
    checkpoint: String,
    instance: String,
    finalized: String,
}

async fn rows(visit: &Visit, id: &WaveId) -> Result<Vec<Row>, PageError> {
    let store = &visit.session.store;
    let filter = ServerFilter {
        wave: Some(id.clone()),
        ..ServerFilter::default()
    };
    let of_wave = ApplicationFilter {
        waves: vec![id.clone()],
        ..ApplicationFilter::default()
    };
    let applications: HashMap<_, _> = store
        .application_list(&of_wave)
        .await?
        .into_iter()
        .map(|application| (application.id.0, application.name))
        .collect();
    let mut rows: Vec<_> = store
        .server_list(&filter)
        .await?
        .iter()
        .map(|server| row(server, &applications))
        .collect();
    rows.sort_by(|a, b| (&a.application, &a.name, &a.id).cmp(&(&b.application, &b.name, &b.id)));
    Ok(rows)
}

fn row(server: &Model, applications: &HashMap<domain::ids::ApplicationId, String>) -> Row {
    let time = |at: Option<i64>| at.map(|at| text::moment(at).text).unwrap_or_default();
    let launch: Option<&Launch> = server.cutover_launch.as_ref().or(server.test_launch.as_ref());
    let application = server.application.as_ref().and_then(|id| applications.get(&id.0));
    Row {
        application: application.cloned().unwrap_or_default(),
        account: server.account.to_string(),
        name: server.known_as().to_owned(),
        id: server.id.to_string(),
        lifecycle: badge::lifecycle(&server.lifecycle_name),
        tested: time(server.milestones.test.initiated_at),
        cut_over: time(server.milestones.cutover.initiated_at),
        checkpoint: time(launch.map(|launch| launch.taken_at)),
        instance: launch.map(|launch| launch.instance.clone()).unwrap_or_default(),
        finalized: time(server.milestones.cutover.finalized_at),
    }
}

fn facts(wave: &wave::Model) -> Vec<(&'static str, String)> {
    let signed = |signature: &Option<domain::wave::Signature>| {
        signature.as_ref().map_or_else(
            || t!("by nobody").to_owned(),
            |signature| {
                t!(
                    "by {name}, {time}",
                    name = signature.by,
                    time = text::moment(signature.at).text
                )
            },
        )
    };
    vec![
        (t!("Accounts"), place(wave)),
        (
            t!("Cutover window"),
            wave.plan
                .window
                .map_or_else(|| t!("not planned").into(), window_text),
        ),
        (t!("Change ticket"), wave.plan.ticket.clone()),
        (t!("Approval asked for"), signed(&wave.plan.submitted)),
        (t!("Approved"), signed(&wave.plan.approved)),
    ]
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<WaveId>,
) -> Result<Response, PageError> {
    let wave = visit.session.store.wave(&id).await?;
    let stage = waves::stage(&web.hub, &wave).await?;
    let rows = rows(&visit, &id).await?;
    let page = ReportPage {
        shell: visit.shell(
            t!("Report of {name}", name = wave.name),
            Section::Waves,
            "/events",
        ),
        id: id.to_string(),
        facts: facts(&wave),
        stage: badge::stage(stage),
        at: text::moment(now_ms()),
        rows,
        name: wave.name,
        description: wave.description,
    };
    visit.answer(page.render())
}

pub async fn table(visit: Visit, Path(id): Path<WaveId>) -> Result<Response, PageError> {
    let wave = visit.session.store.wave(&id).await?;
    let mut csv = String::from(spreadsheet::BYTE_ORDER_MARK);
    csv += &spreadsheet::row([
        t!("Wave"),
        t!("Application"),
        t!("Account"),
        t!("Server"),
        t!("Server ID"),
        t!("Life cycle"),
        t!("Test launched"),
        t!("Cutover launched"),
        t!("Checkpoint"),
        t!("Instance"),
        t!("Finalized"),
    ]);
    for row in rows(&visit, &id).await? {
        csv += &spreadsheet::row([
            &wave.name,
            &row.application,
            &row.account,
            &row.name,
            &row.id,
            row.lifecycle.name,
            &row.tested,
            &row.cut_over,
            &row.checkpoint,
            &row.instance,
            &row.finalized,
        ]);
    }
    let file = format!("attachment; filename=\"{id}.csv\"");
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, csv).into_response())
}
