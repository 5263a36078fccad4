//! Asking for an action on a source server, and carrying it out.

use crate::{
    language::{filters, translated_static},
    mark, t,
};
use std::time::Duration;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};
use domain::{ids::SourceServerId, launch::Purpose};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    Web,
    action::Action,
    badge, orders, server,
    servers::Choice,
    session::Session,
    text,
    visit::{Flash, PageError, Part, Section, Shell, Visit},
};
use crate::{
    actions::{
        launch_check::{Foreseen, launch_check},
        removal_check::removal_check,
    },
    clock::now_ms,
    entities::source_server::Model,
    resources::{lines, removal::Removal},
};

/// A confirmation, as a page of its own or as a dialog.
#[derive(Debug, Template)]
#[template(path = "actions/page.html", blocks = ["ask"])]
pub struct AskPage {
    pub shell: Shell,
    pub action: String,
    pub title: String,
    pub summary: String,
    pub does: Vec<String>,
    pub keeps: Vec<String>,
    pub caution: Option<String>,
    /// What would keep a launched instance from booting, by the last look at a checkpoint.
    pub blocking: Vec<String>,
    /// What the account says of a launch as it would be now.
    pub foreseen: Option<Foreseen>,
    /// What the account has that would be removed.
    pub removal: Option<Removing>,
    /// For launches that may be of an old checkpoint.
    pub accept_older: Option<AcceptOlder>,
    pub back: String,
    pub confirm: &'static str,
    pub tone: &'static str,
}

/// What to do when no fresh checkpoint comes in time.
#[derive(Debug)]
pub struct AcceptOlder {
    pub hint: String,
    pub choices: Vec<Choice>,
}

/// What an ending will remove, by the account's own word.
#[derive(Debug)]
pub enum Removing {
    Known {
        removed: Vec<String>,
        kept: Vec<String>,
        left_alone: Vec<String>,
    },
    /// The account could not be asked.
    Unknown(String),
}

impl AskPage {
    /// One of a few words, to be filled in.
    pub fn plain(shell: Shell, action: String, back: String) -> Self {
        Self {
            shell,
            action,
            title: String::new(),
            summary: String::new(),
            does: Vec::new(),
            keeps: Vec::new(),
            caution: None,
            blocking: Vec::new(),
            foreseen: None,
            removal: None,
            accept_older: None,
            back,
            confirm: "",
            tone: "danger",
        }
    }

    pub fn answer(&self, visit: &Visit) -> Result<Response, PageError> {
        visit.answer(match visit.part {
            Part::Dialog => self.as_ask().render(),
            _ => self.render(),
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Choices {
    /// Seconds; 0 to refuse.
    #[serde(default)]
    accept_older_than: u64,
}

pub async fn ask(
    State(web): State<Web>,
    visit: Visit,
    Path((id, slug)): Path<(SourceServerId, String)>,
) -> Result<Response, PageError> {
    let action = known(&slug)?;
    let server = visit.session.server(&id, action.needs()).await?;
    check(action, &server)?;
    let words = action.words(&server);
    let page = AskPage {
        shell: visit.shell(
            words.title.clone(),
            Section::Servers,
            format!("/events?server={id}"),
        ),
        action: server::action_href(&id, action),
        title: words.title,
        summary: words.summary,
        does: words.does,
        keeps: words.keeps,
        caution: words.caution,
        blocking: if matches!(action, Action::StartTest | Action::StartCutover) {
            server::blocking(&server)
        } else {
            Vec::new()
        },
        foreseen: foreseen(&web, &visit, &server, action).await,
        removal: match action {
            Action::Terminate => Some(removing(&web, &visit, &server, Removal::TerminateInstances).await),
            Action::Finalize => Some(removing(&web, &visit, &server, Removal::FinalizeCutover).await),
            Action::Disconnect => Some(removing(&web, &visit, &server, Removal::Disconnect).await),
            _ => None,
        },
        accept_older: accept_older(action, &server),
        back: format!("/servers/{id}"),
        confirm: action.label(),
        tone: if action.is_destructive() {
            "danger"
        } else {
            "primary"
        },
    };
    page.answer(&visit)
}

pub async fn carry_out(
    State(web): State<Web>,
    session: Session,
    Path((id, slug)): Path<(SourceServerId, String)>,
    Form(choices): Form<Choices>,
) -> Result<Response, PageError> {
    let action = known(&slug)?;
    let server = session.server(&id, action.needs()).await?;
    let back = format!("/servers/{id}");
    let accepted = Some(Duration::from_secs(choices.accept_older_than)).filter(|age| !age.is_zero());
    let flash = match orders::give(&web, &session, &server, action, accepted).await {
        Ok(()) => Flash::good(action.done(server.known_as())),
        Err(refusal) => Flash::bad(refusal),
    };
    Ok(flash.show_at(&back))
}

fn known(slug: &str) -> Result<Action, PageError> {
    Action::by_slug(slug).ok_or_else(|| PageError::NotFound(t!("The action “{slug}”", slug)))
}

fn check(action: Action, server: &Model) -> Result<(), PageError> {
    if action.is_possible(server) {
        return Ok(());
    }
    Err(PageError::Invalid(t!(
        "“{action}” is not possible for {server} now: it may have moved on meanwhile. Its page shows what is possible.",
        action = action.label(),
        server = server.known_as()
    )))
}

/// Nobody waits longer for a page.
const FORESEEN_WITHIN: Duration = Duration::from_secs(6);

async fn foreseen(web: &Web, visit: &Visit, server: &Model, action: Action) -> Option<Foreseen> {
    let purpose = match action {
        Action::StartTest => Purpose::Test,
        Action::StartCutover => Purpose::Cutover,
        _ => return None,
    };
    let check = launch_check(&web.hub, &visit.session.actor, server, purpose);
    Some(match timeout(FORESEEN_WITHIN, check).await {
        Ok(Ok(foreseen)) => foreseen,
        Ok(Err(error)) => Foreseen::Unknown(error.to_string()),
        Err(_) => Foreseen::Unknown(too_late()),
    })
}

pub async fn removing(web: &Web, visit: &Visit, server: &Model, removal: Removal) -> Removing {
    let check = removal_check(&web.hub, &visit.session.actor, server, removal);
    match timeout(FORESEEN_WITHIN, check).await {
        Ok(Ok(Ok(foreseen))) => Removing::Known {
            removed: lines(&foreseen.removed),
            kept: lines(&foreseen.kept),
            left_alone: foreseen
                .left_alone
                .iter()
                .map(|item| {
                    let remedy = item.standing.remedy().unwrap_or_default();
                    format!("{} {}: {remedy}", badge::resource(item.kind), item.id)
                })
                .collect(),
        },
        Ok(Ok(Err(why))) => Removing::Unknown(why),
        Ok(Err(error)) => Removing::Unknown(error.to_string()),
        Err(_) => Removing::Unknown(too_late()),
    }
}

fn too_late() -> String {
    t!(
        "it did not answer within {seconds} s",
        seconds = FORESEEN_WITHIN.as_secs()
    )
}

/// Ages that an operator may accept, in seconds.
const ACCEPTED: [(u64, &str); 5] = [
    (0, mark!("Refuse to launch")),
    (900, mark!("Use one of at most 15 minutes")),
    (3600, mark!("Use one of at most 1 hour")),
    (6 * 3600, mark!("Use one of at most 6 hours")),
    (24 * 3600, mark!("Use one of at most 24 hours")),
];

fn accept_older(action: Action, server: &Model) -> Option<AcceptOlder> {
    if action != Action::StartCutover {
        return None;
    }
    let age = server.lag_ms(now_ms())?;
    Some(AcceptOlder {
        hint: t!("The last one is {time} old.", time = text::span(age)),
        choices: accepted_ages(),
    })
}

pub fn accepted_ages() -> Vec<Choice> {
    ACCEPTED
        .map(|(seconds, label)| Choice {
            value: seconds.to_string(),
            label: translated_static(label).into(),
            selected: seconds == 0,
        })
        .into()
}
