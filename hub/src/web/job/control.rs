//! A job is cancelled, begun again, or its next attempt made at once.

use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{
    ids::JobId,
    job::{InitiatedBy, LaunchStatus},
};

use crate::{
    actions::{ActionError, job_control},
    n,
    store::pages::Participant,
    t,
    web::{
        Web,
        action::Action,
        actions::AskPage,
        badge,
        session::Session,
        visit::{Flash, PageError, Section, Visit},
    },
};

/// The preview of the same for those who failed; nothing for what has no such action.
pub fn again(kind: InitiatedBy, parts: &[Participant]) -> Option<String> {
    let action = match kind {
        InitiatedBy::StartTest => Action::StartTest,
        InitiatedBy::StartCutover => Action::StartCutover,
        InitiatedBy::Terminate => Action::Terminate,
        InitiatedBy::FinalizeCutover => Action::Finalize,
        InitiatedBy::Disconnect => Action::Disconnect,
        InitiatedBy::CleanUp => return None,
    };
    let failed: Vec<_> = parts
        .iter()
        .filter(|part| matches!(part.status.0, LaunchStatus::Failed { .. }))
        .map(|part| format!("&server={}", part.server))
        .collect();
    (!failed.is_empty()).then(|| format!("/bulk?action={}{}", action.slug(), failed.concat()))
}

pub async fn ask_cancel(visit: Visit, Path(id): Path<JobId>) -> Result<Response, PageError> {
    let job = visit.session.store.job(&id).await?;
    let title = t!("Cancel “{job}”", job = badge::job_title(job.initiated_by.0));
    let page = AskPage {
        shell: visit.shell(title.clone(), Section::Jobs, format!("/events?job={id}")),
        action: format!("/jobs/{id}/cancel"),
        title,
        summary: t!("Ends the job for every server that it still works on, where you may.").into(),
        does: vec![
            t!("What was begun for these servers is undone, as after a failure.").into(),
            t!("Each goes back to the state of before.").into(),
        ],
        keeps: vec![
            t!("Servers that are launched already").into(),
            t!("Replication and checkpoints").into(),
        ],
        caution: Some(
            t!("An instance of an earlier test that was removed already does not come back.").into(),
        ),
        blocking: Vec::new(),
        foreseen: None,
        removal: None,
        accept_older: None,
        back: format!("/jobs/{id}"),
        confirm: t!("Cancel the job"),
        tone: "danger",
    };
    page.answer(&visit)
}

pub async fn cancel(
    State(web): State<Web>,
    session: Session,
    Path(id): Path<JobId>,
) -> Result<Response, PageError> {
    let cancelled = job_control::cancel(&web.hub, &session.actor, &id).await;
    let said = cancelled.map(|count| {
        n!(
            count,
            "The job is cancelled for {n} server; what was begun is being undone.",
            "The job is cancelled for {n} servers; what was begun is being undone."
        )
    });
    back_to(&id, said)
}

pub async fn hasten(
    State(web): State<Web>,
    session: Session,
    Path(id): Path<JobId>,
) -> Result<Response, PageError> {
    let hastened = job_control::hasten(&web.hub, &session.actor, &id).await;
    back_to(
        &id,
        hastened.map(|_| t!("The next attempt is being made.").into()),
    )
}

fn back_to(job: &JobId, said: Result<String, ActionError>) -> Result<Response, PageError> {
    let flash = match said {
        Ok(said) => Flash::good(said),
        // The job may have ended while somebody read.
        Err(ActionError::Conflict(why)) => Flash::bad(why),
        Err(error) => return Err(error.into()),
    };
    Ok(flash.show_at(&format!("/jobs/{job}")))
}
