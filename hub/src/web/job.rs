//! The page of a job: each participant with its steps, and the log.

pub mod control;

use crate::{language::filters, n, t};
use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{
    ids::{JobId, SourceServerId},
    job::{InitiatedBy, LaunchStatus},
    replication::StepStatus,
};

use super::{
    Web,
    actions::{AskPage, removing},
    badge::{self, Badge},
    conversion,
    jobs::failed,
    orders,
    remedies::remedy,
    server::Step,
    session::Session,
    text::{self, Moment},
    visit::{Flash, PageError, Part, Section, Shell, Visit},
};
use crate::{
    actions::job_control::is_cancellable,
    clock::now_ms,
    entities::{
        job, job_event,
        saga::{self, Direction, SagaStatus},
        user::UserRole,
    },
    resources::removal::Removal,
    store::pages::Participant,
};

#[derive(Debug, Template)]
#[template(path = "job/page.html", blocks = ["live"])]
struct JobPage {
    shell: Shell,
    id: String,
    title: &'static str,
    status: Badge,
    started: String,
    took: String,
    /// How long such jobs take.
    usual: Option<Usual>,
    cancel: Option<String>,
    again: Option<String>,
    hasten: Option<String>,
    participants: Vec<Share>,
    events: Vec<Line>,
}

/// A participating server.
#[derive(Debug)]
struct Share {
    server: String,
    name: String,
    account: String,
    status: Badge,
    error: Option<Failure>,
    left: Vec<String>,
    clean_up: Option<String>,
    instance: Option<String>,
    conversion: Option<String>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Failure {
    title: &'static str,
    /// As it was said.
    text: String,
    remedy: Option<&'static str>,
}

#[derive(Debug)]
struct Usual {
    text: String,
    class: &'static str,
}

/// So many earlier jobs say how long one takes.
const EARLIER_MAX: u64 = 100;

/// A line of the log.
#[derive(Debug)]
struct Line {
    sequence: i32,
    at: Moment,
    name: &'static str,
    label: &'static str,
    class: &'static str,
    server: String,
    detail: String,
    instance: Option<String>,
}

pub async fn page(visit: Visit, Path(id): Path<JobId>) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let job = store.job(&id).await?;
    let parts = store.participants(std::slice::from_ref(&id)).await?;
    let sagas = store.sagas_of_job(&id).await?;
    let events = store.job_events(&id, 0).await?;
    let conversions = store.conversions_by(&id).await?;
    let mut cleans = HashMap::new();
    for account in parts.iter().map(|part| &part.account.0) {
        if !cleans.contains_key(account) {
            let rights = visit.session.rights_in(account).await?;
            cleans.insert(account, rights.may(UserRole::Operator));
        }
    }
    let earlier = store.durations_of_jobs(job.initiated_by.0, EARLIER_MAX).await?;
    let may_cancel = may_cancel(&visit, &job, &parts, &sagas).await?;
    let now = now_ms();
    let title = badge::job_title(job.initiated_by.0);
    let names: HashMap<&str, &str> = parts
        .iter()
        .map(|part| (part.server.as_str(), part.name.as_str()))
        .collect();
    let page = JobPage {
        shell: visit.shell(title, Section::Jobs, format!("/events?job={id}")),
        id: id.to_string(),
        title,
        status: badge::job(job.status.0, failed(parts.iter().map(|part| &part.status.0))),
        started: t!(
            "started by {created_by} at {when}",
            created_by = job.created_by,
            when = text::moment(job.created_at).text
        ),
        took: match job.ended_at {
            Some(ended) => t!("took {time}", time = text::span(ended - job.created_at)),
            None => t!("running for {time}", time = text::span(now - job.created_at)),
        },
        usual: usual(earlier, job.ended_at.unwrap_or(now) - job.created_at),
        cancel: may_cancel.then(|| format!("/jobs/{id}/cancel")),
        again: control::again(job.initiated_by.0, &parts),
        hasten: sagas
            .iter()
            .any(|saga| saga.status.0 == SagaStatus::Running && saga.attempts > 0)
            .then(|| format!("/jobs/{id}/hasten")),
        participants: parts
            .iter()
            .map(|part| {
                let saga = sagas.iter().find(|saga| saga.server == part.server);
                let conversion = conversions.iter().find(|one| one.server == part.server);
                Share {
                    conversion: conversion.map(conversion::address),
                    ..participant(part, saga, cleans[&part.account.0])
                }
            })
            .collect(),
        events: events.iter().map(|event| line(event, &names)).collect(),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

/// Whether the visitor may cancel anything of it, and there is something to cancel.
async fn may_cancel(
    visit: &Visit,
    job: &job::Model,
    parts: &[Participant],
    sagas: &[saga::Model],
) -> Result<bool, PageError> {
    if !is_cancellable(job.initiated_by.0) {
        return Ok(false);
    }
    for saga in sagas {
        let goes_on = saga.status.0 == SagaStatus::Running
            && saga.direction.0 == Direction::Forward
            && saga.cancelled_by.is_none();
        let part = parts.iter().find(|part| goes_on && part.server == saga.server);
        if let Some(part) = part
            && visit
                .session
                .rights_in(&part.account)
                .await?
                .may(UserRole::Operator)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Against the median of earlier ones; more than twice as long is worth a look.
fn usual(mut earlier: Vec<i64>, took: i64) -> Option<Usual> {
    earlier.sort_unstable();
    let median = *earlier.get(earlier.len() / 2)?;
    Some(Usual {
        text: t!(
            "such jobs take {time} (median of {jobs})",
            time = text::span(median),
            jobs = n!(earlier.len() as u64, "{n} job", "{n} jobs")
        ),
        class: if took > 2 * median && took - median > 60_000 {
            "warn"
        } else {
            ""
        },
    })
}

fn participant(part: &Participant, saga: Option<&saga::Model>, may_clean: bool) -> Share {
    let (error, left, instance) = match &part.status.0 {
        LaunchStatus::Failed { error, left } => {
            let failure = Failure {
                title: t!("It failed, and what was begun was undone as far as possible"),
                text: error.clone(),
                remedy: remedy(error),
            };
            (Some(failure), left.clone(), None)
        }
        LaunchStatus::Launched { instance } => (None, Vec::new(), Some(instance.clone())),
        _ => (None, Vec::new(), None),
    };
    let cleans = !left.is_empty() && may_clean;
    Share {
        server: part.server.to_string(),
        name: part.name.clone(),
        account: part.account_name.clone(),
        status: badge::launch(&part.status, part.initiated_by.0),
        clean_up: cleans.then(|| format!("/jobs/{}/clean-up/{}", part.job, part.server)),
        error,
        left,
        instance,
        conversion: None,
        steps: saga
            .map(|saga| steps(part.initiated_by.0, saga))
            .unwrap_or_default(),
    }
}

/// The saga's steps as a checklist: what is done, what runs, what failed, what is undone.
fn steps(kind: InitiatedBy, saga: &saga::Model) -> Vec<Step> {
    let at = usize::try_from(saga.position).unwrap_or(0);
    let all = orders::steps(kind).into_iter().enumerate();
    all.map(|(index, label)| {
        let status = match (saga.status.0, saga.direction.0, index.cmp(&at)) {
            (SagaStatus::Succeeded, ..) | (_, Direction::Forward, std::cmp::Ordering::Less) => {
                StepStatus::Succeeded
            }
            (SagaStatus::Running, Direction::Forward, std::cmp::Ordering::Equal) => StepStatus::InProgress,
            (SagaStatus::Failed, Direction::Forward, std::cmp::Ordering::Equal) => StepStatus::Failed,
            (_, Direction::Forward, std::cmp::Ordering::Greater) => StepStatus::NotStarted,
            (_, Direction::Back, std::cmp::Ordering::Less) => StepStatus::Succeeded,
            (_, Direction::Back, _) => StepStatus::NotStarted,
        };
        let (class, mark, word) = badge::step_status(status);
        let runs = status == StepStatus::InProgress;
        Step {
            class,
            mark,
            label,
            status: match (saga.direction.0, status) {
                (Direction::Back, StepStatus::Succeeded) => t!("To be undone"),
                (Direction::Back, _) => t!("Undone, or not begun"),
                _ => word,
            },
            note: saga
                .last_error
                .as_ref()
                .filter(|_| runs)
                .map(|said| match saga.attempts {
                    // It waits.
                    0 => said.clone(),
                    attempts => t!(
                        "Attempt {attempts} failed and is repeated: {said}",
                        attempts,
                        said
                    ),
                }),
        }
    })
    .collect()
}

fn line(event: &job_event::Model, names: &HashMap<&str, &str>) -> Line {
    Line {
        sequence: event.sequence,
        at: text::moment(event.at),
        name: event.event.name(),
        label: badge::log_event(event.event.0),
        class: badge::log_event_class(event.event.0),
        server: event.server.as_ref().map_or_else(String::new, |server| {
            names
                .get(server.as_str())
                .map_or_else(|| server.to_string(), |name| (*name).to_owned())
        }),
        detail: event.detail.clone().unwrap_or_default(),
        instance: event.instance.clone(),
    }
}

pub async fn ask_clean_up(
    State(web): State<Web>,
    visit: Visit,
    Path((job, server)): Path<(JobId, SourceServerId)>,
) -> Result<Response, PageError> {
    let server = visit.session.server(&server, UserRole::Operator).await?;
    let title = t!("Clean up after {server}", server = server.known_as());
    let page = AskPage {
        shell: visit.shell(title.clone(), Section::Jobs, format!("/events?job={job}")),
        action: format!("/jobs/{job}/clean-up/{}", server.id),
        title,
        summary: t!("Removes what a failed job could not take away again.").into(),
        does: vec![
            t!("Every resource that the ledger still holds from failed jobs of this server is deleted.")
                .into(),
        ],
        keeps: vec![
            t!("Instances that a job launched successfully").into(),
            t!("The source server, its replication and its checkpoints").into(),
        ],
        caution: None,
        blocking: Vec::new(),
        foreseen: None,
        removal: Some(removing(&web, &visit, &server, Removal::CleanUp).await),
        accept_older: None,
        back: format!("/jobs/{job}"),
        confirm: t!("Clean up"),
        tone: "primary",
    };
    page.answer(&visit)
}

pub async fn clean_up(
    State(web): State<Web>,
    session: Session,
    Path((job, server)): Path<(JobId, SourceServerId)>,
) -> Result<Response, PageError> {
    let server = session.server(&server, UserRole::Operator).await?;
    let flash = match orders::clean_up(&web, &session, &server).await {
        Ok(()) => Flash::good(t!(
            "A job was started to clean up after {server}.",
            server = server.known_as()
        )),
        Err(refusal) => Flash::bad(refusal),
    };
    Ok(flash.show_at(&format!("/jobs/{job}")))
}
