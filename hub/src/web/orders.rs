//! The orders that the console gives, by the actions that the API gives them by too.

use crate::t;
use std::time::Duration;

use domain::{bandwidth::Bandwidth, job::InitiatedBy, launch::LaunchConfiguration};

use super::{Web, action::Action, session::Session};
use crate::{
    actions::{ActionError, jobs, lifecycle, replication},
    entities::source_server::Model,
    sagas::engine::step_names,
};

/// Carries an action out, or says in a sentence why not. `accept_older_than` is for cutovers.
pub async fn give(
    web: &Web,
    session: &Session,
    server: &Model,
    action: Action,
    accept_older_than: Option<Duration>,
) -> Result<(), String> {
    let (hub, actor, id) = (&web.hub, &session.actor, &server.id.0);
    let one = std::slice::from_ref(id);
    let given = match action {
        Action::StartTest => jobs::start_test(hub, actor, one).await.map(drop),
        Action::StartCutover => jobs::start_cutover(hub, actor, one, accept_older_than)
            .await
            .map(drop),
        Action::Finalize => jobs::finalize(hub, actor, one).await.map(drop),
        Action::Terminate => jobs::terminate(hub, actor, one).await.map(drop),
        Action::Disconnect => jobs::disconnect(hub, actor, one).await.map(drop),
        Action::MarkReadyForCutover => lifecycle::mark_ready_for_cutover(hub, actor, id).await,
        Action::RevertToReadyForTest => lifecycle::revert_to_ready_for_test(hub, actor, id).await,
        Action::RevertToReadyForCutover => lifecycle::revert_to_ready_for_cutover(hub, actor, id).await,
        Action::Archive => lifecycle::archive(hub, actor, id).await,
        Action::StartReplication => replication::start_replication(hub, actor, id).await,
        Action::ResumeReplication => replication::resume_replication(hub, actor, id).await,
        Action::RetryReplication => replication::retry_data_replication(hub, actor, id).await,
        Action::PauseReplication => replication::pause_replication(hub, actor, id).await,
        Action::StopReplication => replication::stop_replication(hub, actor, id).await,
    };
    given.map_err(|error| sentence(&error, server))
}

pub async fn clean_up(web: &Web, session: &Session, server: &Model) -> Result<(), String> {
    let one = std::slice::from_ref(&server.id.0);
    let given = jobs::clean_up(&web.hub, &session.actor, one).await;
    given.map(drop).map_err(|error| sentence(&error, server))
}

pub async fn configure_launch(
    web: &Web,
    session: &Session,
    server: &Model,
    to: LaunchConfiguration,
) -> Result<(), String> {
    let given =
        lifecycle::update_launch_configuration(&web.hub, &session.actor, &server.id, |kept| *kept = to).await;
    given.map(drop).map_err(|error| sentence(&error, server))
}

pub async fn limit_bandwidth(
    web: &Web,
    session: &Session,
    server: &Model,
    to: Bandwidth,
) -> Result<(), String> {
    let given = replication::update_bandwidth(&web.hub, &session.actor, &server.id, |kept| *kept = to).await;
    given.map(drop).map_err(|error| sentence(&error, server))
}

/// A refusal for the page that follows; the page speaks of one server only.
fn sentence(error: &ActionError, server: &Model) -> String {
    let why = match error {
        ActionError::Refused(refused) => {
            let reasons: Vec<_> = refused.iter().map(|refused| refused.reason.as_str()).collect();
            reasons.join("; ")
        }
        other => {
            if matches!(other, ActionError::Store(_) | ActionError::Identity(_)) {
                tracing::error!(error = other as &dyn std::error::Error, "an order failed");
            }
            other.to_string()
        }
    };
    t!(
        "Nothing was changed for {server}: {why}.",
        server = server.known_as(),
        why
    )
}

/// What the steps of a job are called, in order.
pub fn steps(kind: InitiatedBy) -> Vec<String> {
    step_names(kind).iter().map(|name| words(name)).collect()
}

/// `RegisterImage` as people read it: `Register image`.
pub fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
            words.extend(letter.to_lowercase());
        } else {
            words.push(letter);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_steps_that_read_as_words() {
        assert_eq!(words("AwaitStatusChecks"), "Await status checks");
        for kind in [
            InitiatedBy::StartTest,
            InitiatedBy::Terminate,
            InitiatedBy::FinalizeCutover,
            InitiatedBy::CleanUp,
        ] {
            assert!(!steps(kind).is_empty());
        }
    }
}
