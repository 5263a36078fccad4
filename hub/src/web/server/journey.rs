//! The life cycle as a line of stages, and the one next step.

use crate::t;
use domain::{lifecycle::Lifecycle, replication::Replication};

use super::{ActionLink, action_href};
use crate::{
    entities::source_server::Model,
    web::{action::Action, badge, session::Rights},
};

/// A stage of the journey.
#[derive(Debug, PartialEq, Eq)]
pub struct Stage {
    pub label: String,
    pub class: &'static str,
    pub now: bool,
}

#[derive(Debug)]
pub struct NextStep {
    pub title: &'static str,
    pub text: String,
    pub job: Option<String>,
    pub primary: Option<ActionLink>,
    /// What `primary` does, or would do for somebody who may.
    pub action: Option<Action>,
}

const STAGES: [&str; 6] = [
    "NOT_READY",
    "READY_FOR_TEST",
    "TESTING",
    "READY_FOR_CUTOVER",
    "CUTTING_OVER",
    "CUTOVER",
];

/// The stages, and beside them the state that is none, when the server is in it.
pub fn stages(lifecycle: &Lifecycle) -> Vec<Stage> {
    let stage = |name: &str, class, now| Stage {
        label: badge::lifecycle(name).label.into_owned(),
        class,
        now,
    };
    let Some(at) = STAGES.iter().position(|name| *name == lifecycle.name()) else {
        let beside = stage(lifecycle.name(), "end now", true);
        let ahead = STAGES.iter().map(|name| stage(name, "", false));
        return match lifecycle {
            Lifecycle::Disconnected { .. } => vec![beside],
            _ => std::iter::once(beside).chain(ahead).collect(),
        };
    };
    let arrived = matches!(lifecycle, Lifecycle::Cutover { .. });
    let class = |index: usize| match index.cmp(&at) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal if arrived => "done now",
        std::cmp::Ordering::Equal => "now",
        std::cmp::Ordering::Greater => "",
    };
    let all = STAGES.iter().enumerate();
    all.map(|(index, name)| stage(name, class(index), index == at))
        .collect()
}

/// What to do next, for somebody who looks at one server.
pub fn next_step(server: &Model, rights: Rights) -> NextStep {
    let (title, text, action) = advice(server);
    let primary = action.filter(|action| rights.may(action.needs()) && action.is_possible(server));
    let text = match (action, primary) {
        (Some(action), None) if !rights.may(action.needs()) => {
            t!(
                "{text} It needs the role “{role}”.",
                text,
                role = badge::role(action.needs())
            )
        }
        _ => text,
    };
    NextStep {
        title,
        text,
        job: server.running_job.as_ref().map(|job| format!("/jobs/{job}")),
        primary: primary.map(|action| ActionLink {
            href: action_href(&server.id, action),
            label: action.label(),
            class: "",
            tone: "",
        }),
        action,
    }
}

/// The next step in a word or two, for lists.
pub fn next_in_short(server: &Model) -> String {
    match advice(server) {
        (_, _, Some(Action::Archive)) => String::new(),
        (_, _, Some(action)) => action.label().to_owned(),
        (title, _, None) => title.trim_end_matches('.').to_owned(),
    }
}

fn advice(server: &Model) -> (&'static str, String, Option<Action>) {
    if server.running_job.is_some() {
        return (
            t!("A job is running."),
            t!("It works on this server and can be watched; other orders wait until it has ended.").into(),
            None,
        );
    }
    match (&server.lifecycle.0, &server.replication.0) {
        (Lifecycle::Cutover { archived: true } | Lifecycle::Disconnected { archived: true }, _) => {
            (t!("Archived."), t!("Nothing is left to do.").into(), None)
        }
        (Lifecycle::Cutover { .. }, _) => (
            t!("The migration is done."),
            t!("The cutover instance is production. Archive the server when you no longer need to see it.").into(),
            Some(Action::Archive),
        ),
        (Lifecycle::Disconnected { .. }, _) => (
            t!("Disconnected."),
            t!("Nothing of it is replicated any more. Archive the server when you no longer need to see it.").into(),
            Some(Action::Archive),
        ),
        (Lifecycle::Discovered | Lifecycle::PendingInstallation, _) => (
            t!("Install the agent."),
            t!("Create an enrolment token on the page of its account.").into(),
            None,
        ),
        (Lifecycle::Stopped, _) => (
            t!("Replication is switched off."),
            t!("Start it to copy the disks.").into(),
            Some(Action::StartReplication),
        ),
        (Lifecycle::NotReady, Replication::Stalled(_)) => (
            t!("Replication is stalled."),
            t!("See above what to do about it. It is tried again by itself, and at once when you ask for it.").into(),
            Some(Action::RetryReplication),
        ),
        (_, Replication::Paused) if !matches!(server.lifecycle.0, Lifecycle::CuttingOver { .. }) => (
            t!("Replication is paused."),
            t!("Resume it, so that the next launch is not of an old checkpoint.").into(),
            Some(Action::ResumeReplication),
        ),
        (Lifecycle::NotReady, _) => (
            t!("Wait for the first copy."),
            t!("When all disks are copied, the first launchable checkpoint is made and a test can be launched.").into(),
            None,
        ),
        (Lifecycle::ReadyForTest, _) => (
            t!("Test it."),
            t!("Launch an instance from a fresh checkpoint; the source is not touched.").into(),
            Some(Action::StartTest),
        ),
        (Lifecycle::Testing { .. }, _) => (
            t!("Look at the test instance."),
            t!("When it does what it should, mark the server as ready for cutover.").into(),
            Some(Action::MarkReadyForCutover),
        ),
        (Lifecycle::ReadyForCutover, _) => (
            t!("Cut over."),
            t!("Stop the applications on the source, then launch the cutover instance.").into(),
            Some(Action::StartCutover),
        ),
        (Lifecycle::CuttingOver { .. }, _) => (
            t!("Look at the cutover instance."),
            t!("When it has taken over, finalize: replication ends and what was only needed on the way is deleted.").into(),
            Some(Action::Finalize),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_is_done_and_what_lies_ahead_is_not() {
        let classes = |lifecycle: Lifecycle| -> Vec<_> {
            stages(&lifecycle).into_iter().map(|stage| stage.class).collect()
        };
        assert_eq!(classes(Lifecycle::ReadyForTest), ["done", "now", "", "", "", ""]);
        let arrived = classes(Lifecycle::Cutover { archived: false });
        assert_eq!(arrived, ["done", "done", "done", "done", "done", "done now"]);
        assert_eq!(classes(Lifecycle::Disconnected { archived: false }), ["end now"]);
        assert_eq!(classes(Lifecycle::Stopped).len(), STAGES.len() + 1);
    }
}
