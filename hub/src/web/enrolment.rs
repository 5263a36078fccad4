//! Adding runners and source servers: a one-time token, shown once with the command that takes it.

use crate::{language::filters, t};
use std::time::Duration;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
    response::Response,
};
use domain::ids::AccountId;

use super::{
    Web,
    actions::AskPage,
    overview::is_silent,
    text,
    visit::{PageError, Section, Shell, Visit},
};
use crate::{
    actions::machines,
    clock::now_ms,
    entities::{account, runner, token::TokenPurpose, user::UserRole},
};

/// Long enough to walk to the machine.
const TTL: Duration = Duration::from_hours(24);

#[derive(Debug, Template)]
#[template(path = "enrolment/page.html")]
struct TokenPage {
    shell: Shell,
    account: String,
    account_name: String,
    title: String,
    summary: &'static str,
    expires: String,
    commands: Vec<Command>,
}

#[derive(Debug)]
struct Command {
    title: &'static str,
    text: String,
    code: String,
}

fn purpose(word: &str) -> Result<TokenPurpose, PageError> {
    match word {
        "agent" => Ok(TokenPurpose::Agent),
        "runner" => Ok(TokenPurpose::Runner),
        other => Err(PageError::NotFound(t!("Enrolment of “{other}”", other))),
    }
}

/// The account, for who administers it.
async fn administered(
    session: &super::session::Session,
    id: &AccountId,
) -> Result<account::Model, PageError> {
    session.rights_in(id).await?.require(UserRole::Administrator)?;
    Ok(session.store.account(id).await?)
}

pub async fn ask(
    visit: Visit,
    Path((account, word)): Path<(AccountId, String)>,
) -> Result<Response, PageError> {
    let row = administered(&visit.session, &account).await?;
    let purpose = purpose(&word)?;
    if purpose == TokenPurpose::Agent {
        let runners = visit.session.store.runners_in(&account).await?;
        if runners.is_empty() {
            return Err(PageError::Invalid(t!(
                "{name} has no runner yet, and an agent enrols through one. Add a runner first.",
                name = row.name
            )));
        }
    }
    let (title, summary, does) = match purpose {
        TokenPurpose::Agent => (
            t!("Add a source server to {name}", name = row.name),
            t!("Makes a token that one machine can enrol with, and shows the command that takes it."),
            t!("Whoever has the token can add one source server to this account."),
        ),
        TokenPurpose::Runner => (
            t!("Add a runner to {name}", name = row.name),
            t!("Makes a token that one runner can enrol with, and shows the command that takes it."),
            t!(
                "Whoever has the token can become a runner of this account, and receive the disks of its servers."
            ),
        ),
    };
    let page = AskPage {
        shell: visit.shell(
            title.clone(),
            Section::Overview,
            format!("/events?account={account}"),
        ),
        action: format!("/accounts/{account}/enrol/{word}"),
        title,
        summary: summary.into(),
        does: vec![
            does.into(),
            t!(
                "It works once, and expires after {time}.",
                time = text::span(i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX))
            ),
        ],
        keeps: Vec::new(),
        caution: None,
        blocking: Vec::new(),
        foreseen: None,
        removal: None,
        accept_older: None,
        back: format!("/accounts/{account}"),
        confirm: t!("Create token"),
        tone: "primary",
    };
    page.answer(&visit)
}

pub async fn create(
    State(web): State<Web>,
    visit: Visit,
    headers: HeaderMap,
    Path((account, word)): Path<(AccountId, String)>,
) -> Result<Response, PageError> {
    let row = administered(&visit.session, &account).await?;
    let purpose = purpose(&word)?;
    let runners = visit.session.store.runners_in(&account).await?;
    let token = machines::create_token(&web.hub, &visit.session.actor, &account, purpose, TTL)
        .await
        .map_err(|error| PageError::Invalid(error.to_string()))?;
    let now = now_ms();
    let token = token.reveal();
    let (title, summary, commands) = match purpose {
        TokenPurpose::Agent => (
            t!("Add a source server to {name}", name = row.name),
            t!(
                "Run this as root on the machine that you want to move. It finds the disks, asks which to replicate, and says each step."
            ),
            agent_commands(runners, &token, now),
        ),
        TokenPurpose::Runner => (
            t!("Add a runner to {name}", name = row.name),
            t!("Run this on the machine in the staging subnet that is to receive the disks."),
            runner_commands(&headers, &token),
        ),
    };
    let expires = now + i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
    let page = TokenPage {
        shell: visit.shell(
            title.clone(),
            Section::Overview,
            format!("/events?account={account}"),
        ),
        account: account.to_string(),
        account_name: row.name,
        title,
        summary,
        expires: t!("at {when}", when = text::moment(expires).text),
        commands,
    };
    visit.answer(page.render())
}

/// One command per runner that is there, any of which will do.
fn agent_commands(mut runners: Vec<runner::Model>, token: &str, now: i64) -> Vec<Command> {
    runners.sort_by_key(|runner| is_silent(runner, now));
    let command = |runner: runner::Model| {
        let address = match runner.enrol_port {
            443 => runner.address.clone(),
            port => authority(&runner.address, port),
        };
        Command {
            title: t!("Install the agent"),
            text: t!(
                "The machine reaches the runner at {address} on TCP {enrol_port} to enrol, and on TCP {data_port} to replicate; nothing else must be open.",
                address = runner.address,
                enrol_port = runner.enrol_port,
                data_port = runner.data_port
            ),
            code: format!("sudo orglift-agent install --runner {address} --token {token}"),
        }
    };
    runners.into_iter().take(1).map(command).collect()
}

fn runner_commands(headers: &HeaderMap, token: &str) -> Vec<Command> {
    // The machine port is this hub's, whose name the reader's browser knows.
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .map_or("HUB", host_of);
    vec![
        Command {
            title: t!("1. Keep the token in a file"),
            text: t!("So that it is in no list of processes. The runner reads it at its first start only.").into(),
            code: format!("(umask 077; echo '{token}' > runner.token)"),
        },
        Command {
            title: t!("2. Start the runner"),
            text: t!("It reaches the hub on TCP 8443, or the port that the hub was started with. ADDRESS is where agents reach this runner; it must stay the same when the runner is replaced.").into(),
            code: format!(
                "orglift-runner run --hub {} --token-file runner.token --store layers:/var/lib/orglift/staging --address ADDRESS",
                authority(host, 8443)
            ),
        },
    ]
}

/// The host of a `Host` header.
fn host_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']')
        }
        _ => host.trim_start_matches('[').trim_end_matches(']'),
    }
}

fn authority(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_and_addresses_of_version_6_their_brackets() {
        for (given, host) in [
            ("hub.example:8080", "hub.example"),
            ("hub.example", "hub.example"),
            ("[::1]:8080", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(host_of(given), host, "{given}");
        }
        assert_eq!(authority("::1", 8443), "[::1]:8443");
    }
}
