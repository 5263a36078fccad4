//! The orders that the console gives, by the actions that the API gives them by too.

use crate::t;
use std::{collections::BTreeMap, time::Duration};

use domain::{
    ids::SourceServerId,
    job::InitiatedBy,
    launch::{LaunchConfiguration, Purpose},
    replication_configuration::ReplicationConfiguration,
};

use super::{Web, action::Action, session::Session};
use crate::{
    actions::{
        ActionError, Refused,
        jobs::{self, Kind},
        lifecycle, replication, templates,
    },
    entities::source_server::Model,
    sagas::{engine::step_names, retire::Ending},
};

/// Carries an action out, or says in a sentence why not. `accept_older_than` is for cutovers.
pub async fn give(
    web: &Web,
    session: &Session,
    server: &Model,
    action: Action,
    accept_older_than: Option<Duration>,
) -> Result<(), String> {
    let one = std::slice::from_ref(&server.id.0);
    let given = give_all(web, session, one, action, accept_older_than).await;
    given.map(drop).map_err(|error| sentence(&error, server))
}

/// Carries an action out on many servers, and says who could not take part. If nobody could, it is an error.
pub async fn give_all(
    web: &Web,
    session: &Session,
    servers: &[SourceServerId],
    action: Action,
    accept_older_than: Option<Duration>,
) -> Result<Vec<Refused>, ActionError> {
    let (hub, actor) = (&web.hub, &session.actor);
    let kind = match action {
        Action::StartTest => Kind::Launch(Purpose::Test, None),
        Action::StartCutover => Kind::Launch(Purpose::Cutover, accept_older_than),
        Action::Finalize => Kind::Retire(Ending::Finalize),
        Action::Terminate => Kind::Terminate,
        Action::Disconnect => Kind::Retire(Ending::Disconnect),
        _ => return give_each(web, session, servers, action).await,
    };
    let (mut refused, mut ordered) = (Vec::new(), false);
    for servers in servers.chunks(jobs::SERVERS_MAX) {
        match jobs::order(hub, actor, servers, kind, BTreeMap::new()).await {
            Ok(order) => {
                ordered = true;
                refused.extend(order.skipped);
            }
            Err(ActionError::Refused(all)) => refused.extend(all),
            Err(error) => return Err(error),
        }
    }
    if ordered {
        Ok(refused)
    } else {
        Err(ActionError::Refused(refused))
    }
}

async fn give_each(
    web: &Web,
    session: &Session,
    servers: &[SourceServerId],
    action: Action,
) -> Result<Vec<Refused>, ActionError> {
    let (hub, actor) = (&web.hub, &session.actor);
    let mut refused = Vec::new();
    for id in servers {
        let given = match action {
            Action::MarkReadyForCutover => lifecycle::mark_ready_for_cutover(hub, actor, id).await,
            Action::RevertToReadyForTest => lifecycle::revert_to_ready_for_test(hub, actor, id).await,
            Action::RevertToReadyForCutover => lifecycle::revert_to_ready_for_cutover(hub, actor, id).await,
            Action::Archive => lifecycle::archive(hub, actor, id).await,
            Action::ApplyTemplates => templates::apply(hub, actor, id).await,
            Action::StartReplication => replication::start_replication(hub, actor, id).await,
            Action::ResumeReplication => replication::resume_replication(hub, actor, id).await,
            Action::RetryReplication => replication::retry_data_replication(hub, actor, id).await,
            Action::PauseReplication => replication::pause_replication(hub, actor, id).await,
            Action::StopReplication => replication::stop_replication(hub, actor, id).await,
            Action::StartTest
            | Action::StartCutover
            | Action::Finalize
            | Action::Terminate
            | Action::Disconnect => unreachable!("these become jobs"),
        };
        match given {
            Ok(()) => {}
            Err(ActionError::Refused(one)) => refused.extend(one),
            Err(error) if servers.len() > 1 && !is_failure(&error) => refused.push(Refused {
                server: id.clone(),
                reason: error.to_string(),
            }),
            Err(error) => return Err(error),
        }
    }
    if refused.len() < servers.len() {
        Ok(refused)
    } else {
        Err(ActionError::Refused(refused))
    }
}

/// Of the hub, rather than of what was asked for.
fn is_failure(error: &ActionError) -> bool {
    matches!(error, ActionError::Store(_) | ActionError::Identity(_))
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

pub async fn configure_replication(
    web: &Web,
    session: &Session,
    server: &Model,
    to: ReplicationConfiguration,
) -> Result<(), String> {
    let (hub, actor) = (&web.hub, &session.actor);
    let given =
        replication::update_replication_configuration(hub, actor, &server.id, |kept| *kept = to).await;
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
            if is_failure(other) {
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
