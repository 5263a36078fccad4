//! How far a wave is, and the one thing to do next.

use domain::wave::{RunState, Stage, Standing};

use super::{board::NotReady, href, one::May};
use crate::{actions::waves::run, entities::wave, n, t};

/// The one thing to do next.
#[derive(Debug)]
pub struct Next {
    pub text: String,
    /// Label, address; to be posted if it is not only a page.
    pub action: Option<(&'static str, String, bool)>,
}

/// Each step's class and name.
pub fn steps(wave: &wave::Model, stage: Stage, standing: &Standing) -> Vec<(&'static str, &'static str)> {
    let in_states = |states: &[&str]| -> u64 {
        states
            .iter()
            .filter_map(|state| standing.servers.get(*state))
            .sum()
    };
    let total = standing.total();
    let launched = in_states(&["CUTTING_OVER", "CUTOVER"]);
    let over = standing.done();
    let done = [
        total > 0 && in_states(&["READY_FOR_CUTOVER", "CUTTING_OVER", "CUTOVER", "DISCONNECTED"]) == total,
        total > 0 && wave.plan.window.is_some(),
        stage == Stage::Approved || (total > 0 && over == total),
        total > 0 && launched + in_states(&["DISCONNECTED"]) == total && !run::is_under_way(wave),
        total > 0 && over == total,
    ];
    let names = [
        t!("Test"),
        t!("Plan"),
        t!("Approve"),
        t!("Launch and verify"),
        t!("Finalize"),
    ];
    let now = done.iter().position(|done| !done).unwrap_or(done.len());
    names
        .into_iter()
        .zip(done)
        .enumerate()
        .map(|(index, (name, done))| {
            let class = match (done, index == now) {
                (true, _) => "done",
                (false, true) => "now",
                (false, false) => "",
            };
            (class, name)
        })
        .collect()
}

pub fn next(wave: &wave::Model, stage: Stage, standing: &Standing, ready: &[NotReady], may: &May) -> Next {
    let page = |path: &str| format!("{}/{path}", href(&wave.id));
    let bulk = |action: &str| format!("/bulk?action={action}&wave={}", wave.id);
    let say = |text: String, action| Next { text, action };
    let [to_test, testing, launched] = ["READY_FOR_TEST", "TESTING", "CUTTING_OVER"]
        .map(|state| standing.servers.get(state).copied().unwrap_or(0));
    if let Some(run) = wave.run.as_ref().filter(|_| run::is_under_way(wave)) {
        return match run.state {
            RunState::Held { .. } => say(
                t!("The launch is held. Look into it below, then go on or end it.").into(),
                None,
            ),
            _ => say(t!("The servers are being launched.").into(), None),
        };
    }
    if standing.total() == 0 {
        return say(
            t!("Put applications with their servers into the wave, below.").into(),
            None,
        );
    }
    if standing.done() == standing.total() {
        return say(
            t!("Every server of the wave is finalized or disconnected.").into(),
            Some((t!("See the report"), page("report"), false)),
        );
    }
    if launched > 0 {
        return say(
            n!(
                launched,
                "{n} server was launched for its cutover. Look at its instance, then finalize the cutover or roll it back.",
                "{n} servers were launched for their cutover. Look at their instances, then finalize the cutovers or roll them back."
            ),
            Some((t!("Finalize the cutovers"), bulk("finalize-cutover"), false)),
        );
    }
    if to_test > 0 {
        return say(
            n!(to_test, "{n} server can be tested.", "{n} servers can be tested."),
            Some((t!("Launch the tests"), page("launch/test"), false)),
        );
    }
    if testing > 0 {
        return say(
            n!(
                testing,
                "{n} server is being tested. Look at its instance, then mark it as ready for cutover.",
                "{n} servers are being tested. Look at their instances, then mark them as ready for cutover."
            ),
            Some((
                t!("Mark as ready for cutover"),
                bulk("mark-ready-for-cutover"),
                false,
            )),
        );
    }
    if wave.plan.window.is_none() || wave.plan.ticket.is_empty() {
        return say(
            t!("Plan when the cutover is, and by which ticket it is tracked.").into(),
            Some((t!("Plan the cutover"), page("plan"), false)),
        );
    }
    match stage {
        Stage::Draft => say(
            t!("The plan is to be approved by a second person.").into(),
            may.submit
                .then(|| (t!("Ask for approval"), page("actions/submit"), true)),
        ),
        Stage::Submitted => say(
            t!("The plan waits for the approval of a second person.").into(),
            may.approve
                .then(|| (t!("Approve"), page("actions/approve"), true)),
        ),
        Stage::Approved if ready.is_empty() => say(
            t!("The plan is approved, and every server is ready.").into(),
            Some((t!("Launch the cutovers"), page("launch/cutover"), false)),
        ),
        Stage::Approved => say(
            t!("The plan is approved. Some servers are not ready yet, see below.").into(),
            Some((t!("Launch the cutovers"), page("launch/cutover"), false)),
        ),
    }
}
