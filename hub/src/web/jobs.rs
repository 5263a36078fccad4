//! The list of jobs, newest first.

use crate::{language::filters, n, t};
use askama::Template;
use axum::{extract::Query, response::Response};
use domain::job::LaunchStatus;
use serde::Deserialize;

use super::{
    badge::{self, Badge},
    overview::names,
    text::{self, Moment},
    visit::{PageError, Part, Section, Shell, Visit},
};
use crate::{clock::now_ms, entities::job, store::pages::Participant};

const PAGE_LEN: u64 = 50;

#[derive(Debug, Template)]
#[template(path = "jobs/page.html", blocks = ["live"])]
struct JobsPage {
    shell: Shell,
    rows: Vec<JobRow>,
    range: String,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Debug)]
struct JobRow {
    id: String,
    title: &'static str,
    status: Badge,
    failed: Option<String>,
    servers: String,
    at: Moment,
    took: String,
    by: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Paging {
    page: u64,
}

pub async fn page(visit: Visit, Query(paging): Query<Paging>) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let at = paging.page.saturating_mul(PAGE_LEN);
    let found = store.job_page(at, PAGE_LEN).await?;
    let ids: Vec<_> = found.rows.iter().map(|job| job.id.0.clone()).collect();
    let participants = store.participants(&ids).await?;
    let now = now_ms();
    let shown = at + found.rows.len() as u64;
    let address = |page: u64| format!("/jobs?page={page}");
    let page = JobsPage {
        shell: visit.shell(t!("Jobs"), Section::Jobs, "/events"),
        range: t!(
            "{from}–{to} of {total}",
            from = text::grouped(at + 1),
            to = text::grouped(shown),
            total = n!(found.total, "{n} job", "{n} jobs")
        ),
        previous: (paging.page > 0).then(|| address(paging.page - 1)),
        next: (shown < found.total).then(|| address(paging.page + 1)),
        rows: found
            .rows
            .iter()
            .map(|job| {
                let parts: Vec<_> = participants.iter().filter(|part| part.job == job.id).collect();
                row(job, &parts, now)
            })
            .collect(),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

fn row(job: &job::Model, parts: &[&Participant], now: i64) -> JobRow {
    let failed = failed(parts.iter().map(|part| &part.status.0));
    JobRow {
        id: job.id.to_string(),
        title: badge::job_title(job.initiated_by.0),
        status: badge::job(job.status.0, failed),
        failed: (failed > 0).then(|| t!("{failed} of {count} failed", failed, count = parts.len())),
        servers: names(parts.iter().map(|part| part.name.as_str()), 4),
        at: text::moment(job.created_at),
        took: text::span(job.ended_at.unwrap_or(now) - job.created_at),
        by: job.created_by.clone(),
    }
}

pub fn failed<'a>(statuses: impl Iterator<Item = &'a LaunchStatus>) -> u64 {
    statuses
        .filter(|status| matches!(status, LaunchStatus::Failed { .. }))
        .count() as u64
}
