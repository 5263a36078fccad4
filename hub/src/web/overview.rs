//! The global view: every account of every organization by life cycle, and whatever wants a hand.

use crate::{language::filters, n, t};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use domain::{
    account::Access,
    job::{JobStatus, LaunchStatus},
    replication::Replication,
};

use self::matrix::{By, Matrix, Place};
use super::{
    Web,
    badge::{self, Badge},
    server, silence, text,
    visit::{PageError, Part, Section, Shell, Visit},
    waves::coming::{Coming, coming},
};
use crate::{
    clock::now_ms,
    entities::{runner, source_server},
    store::{Seen, accounts::AccountOverview, jobs::JobFilter, pages::Participant},
};

mod matrix;

/// A runner reports every two seconds; silent for this long, it wants a look.
pub const RUNNER_SILENCE_MS: i64 = 20_000;

/// The list is for reading; the rest is counted.
const HANDS_MAX: usize = 10;

/// Turned-away agents are shown for an hour: they try again by themselves, and are named again.
const TURNED_AWAY_MS: i64 = 3600 * 1000;

const RUNNING_MAX: u64 = 20;

#[derive(Debug, Template)]
#[template(path = "overview/page.html", blocks = ["live"])]
struct OverviewPage {
    shell: Shell,
    totals: Vec<Fact>,
    hands: Vec<Hand>,
    hands_count: usize,
    hands_more: Option<String>,
    coming: Vec<Coming>,
    running: Vec<RunningJob>,
    matrix: Matrix,
}

/// A number with a name.
#[derive(Debug, Clone)]
pub struct Fact {
    pub label: &'static str,
    pub value: String,
    pub note: Option<String>,
    pub class: &'static str,
}

pub fn fact(label: &'static str, value: impl Into<String>) -> Fact {
    Fact {
        label,
        value: value.into(),
        note: None,
        class: "",
    }
}

#[derive(Debug)]
struct Hand {
    what: String,
    href: Option<String>,
    place: String,
    why: String,
    badge: Badge,
}

#[derive(Debug)]
struct RunningJob {
    href: String,
    title: &'static str,
    servers: String,
    progress: String,
    since: String,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Query(place): Query<Place>,
) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let now = now_ms();
    let accounts = web.hub.account_overview(&visit.session.actor).await?;
    let running = store
        .job_list(&JobFilter {
            running: true,
            limit: Some(RUNNING_MAX),
            ..JobFilter::default()
        })
        .await?;
    let ids: Vec<_> = running.iter().map(|job| job.id.0.clone()).collect();
    let participants = store.participants(&ids).await?;
    let (hands, hands_count) = hands(store, &accounts, now).await?;
    let matrix = Matrix::of(&place, store, &accounts, now).await?;
    let page = OverviewPage {
        shell: visit.shell(t!("Overview"), Section::Overview, "/events"),
        totals: totals(&accounts, now),
        hands_more: (hands_count > hands.len()).then(|| {
            t!(
                "and {count} more",
                count = text::grouped((hands_count - hands.len()) as u64)
            )
        }),
        hands,
        hands_count,
        coming: coming(&web, &visit, now).await?,
        running: running
            .iter()
            .map(|job| {
                let parts: Vec<_> = participants.iter().filter(|part| part.job == job.id).collect();
                running_job(job, &parts, now)
            })
            .collect(),
        matrix,
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

fn totals(accounts: &[AccountOverview], now: i64) -> Vec<Fact> {
    let total: u64 = accounts.iter().flat_map(|row| row.servers.values()).sum();
    let replicated = accounts.iter().map(|row| row.replicated_bytes).sum();
    let of = |names: &[&str]| -> u64 {
        let counts = accounts.iter().flat_map(|row| row.replication.iter());
        counts
            .filter(|(state, _)| names.contains(&state.as_str()))
            .map(|(_, count)| count)
            .sum()
    };
    let done: u64 = accounts.iter().filter_map(|row| row.servers.get("CUTOVER")).sum();
    let worst = accounts.iter().filter_map(|row| row.oldest_lag_basis).min();
    let (stalled, paused) = (of(&["STALLED"]), of(&["PAUSED"]));
    vec![
        fact(t!("Source servers"), text::grouped(total)),
        fact(t!("Cutovers done"), text::grouped(done)),
        fact(
            t!("Healthy"),
            text::grouped(of(&["CONTINUOUS", "BACKLOG", "CREATING_SNAPSHOT", "RESCAN"])),
        ),
        fact(t!("Syncing"), text::grouped(of(&["INITIATING", "INITIAL_SYNC"]))),
        Fact {
            class: if stalled > 0 { "bad" } else { "" },
            ..fact(t!("Stalled"), text::grouped(stalled))
        },
        Fact {
            class: if paused > 0 { "warn" } else { "" },
            ..fact(t!("Paused"), text::grouped(paused))
        },
        fact(
            t!("Worst lag"),
            worst.map_or_else(|| "–".into(), |basis| text::span(now - basis)),
        ),
        fact(t!("Data replicated"), text::bytes(replicated)),
    ]
}

fn running_job(job: &crate::entities::job::Model, parts: &[&Participant], now: i64) -> RunningJob {
    let ended = parts.iter().filter(|part| part.status.is_ended()).count();
    let failed = parts
        .iter()
        .filter(|part| matches!(part.status.0, LaunchStatus::Failed { .. }))
        .count();
    let mut progress = t!("{ended} of {count} done", ended, count = parts.len());
    if failed > 0 {
        progress = t!("{progress}, {failed} failed", progress, failed);
    }
    if job.status.0 == JobStatus::Pending {
        progress = t!("Waiting to start").into();
    }
    RunningJob {
        href: format!("/jobs/{}", job.id),
        title: badge::job_title(job.initiated_by.0),
        servers: names(parts.iter().map(|part| part.name.as_str()), 3),
        progress,
        since: t!("for {time}", time = text::span(now - job.created_at)),
    }
}

/// `web-1, web-2 and 4 more`
pub fn names<'a>(all: impl ExactSizeIterator<Item = &'a str>, shown: usize) -> String {
    let rest = all.len().saturating_sub(shown);
    let listed = all.take(shown).collect::<Vec<_>>().join(", ");
    match rest {
        0 => listed,
        rest => t!("{listed} and {rest} more", listed, rest),
    }
}

pub fn is_silent(runner: &runner::Model, now: i64) -> bool {
    runner.last_seen.is_none_or(|seen| now - seen > RUNNER_SILENCE_MS)
}

/// What wants a hand, worst first, and how many there are in all.
async fn hands(
    store: &Seen,
    accounts: &[AccountOverview],
    now: i64,
) -> Result<(Vec<Hand>, usize), PageError> {
    let limit = HANDS_MAX as u64;
    let stalled = store.servers_in_replication("STALLED", limit).await?;
    let concerning = store.servers_of_concern(limit).await?;
    let failed = store.participants_failed(limit).await?;
    let turned_away = store.turned_away_list(limit).await?;
    let account_name = |id: &str| {
        let found = accounts.iter().find(|row| row.account.id.as_str() == id);
        found.map_or_else(|| id.to_owned(), |row| row.account.name.clone())
    };
    let mut hands = Vec::new();
    for row in accounts {
        let account = &row.account;
        let is_left_alone = matches!(account.access.0, Access::LeftAlone { .. });
        if let Some((what, remedy)) = badge::access_problem(&account.access)
            && !is_left_alone
        {
            hands.push(Hand {
                what: account.name.clone(),
                href: Some(format!("/accounts/{}", account.id)),
                place: account.id.to_string(),
                why: format!("{what}. {remedy}"),
                badge: badge::access(&account.access),
            });
        }
        if row.network_findings > 0 {
            let what = n!(row.network_findings, "{n} thing", "{n} things");
            hands.push(Hand {
                what: account.name.clone(),
                href: Some(format!("/accounts/{}#network-card", account.id)),
                place: account.id.to_string(),
                why: t!(
                    "{what} in its network to change before servers can be replicated",
                    what
                ),
                badge: badge::network_findings(row.network_findings),
            });
        }
        for runner in row.runners.iter().filter(|runner| is_silent(runner, now)) {
            hands.push(Hand {
                what: t!("Runner {address}", address = runner.address),
                href: Some(format!("/accounts/{}", account.id)),
                place: account.name.clone(),
                why: silence::of_runner(runner),
                badge: badge::runner(false, false),
            });
        }
    }
    let of_server = |server| server_hand(server, account_name(server.account.as_str()));
    hands.extend(stalled.rows.iter().map(of_server));
    for participant in &failed {
        if let LaunchStatus::Failed { error, .. } = &participant.status.0 {
            hands.push(Hand {
                what: format!(
                    "{}: {}",
                    badge::job_title(participant.initiated_by.0),
                    participant.name
                ),
                href: Some(format!("/jobs/{}", participant.job)),
                place: participant.account_name.clone(),
                why: error.clone(),
                badge: badge::launch(&participant.status, participant.initiated_by.0),
            });
        }
    }
    for agent in turned_away.iter().filter(|agent| now - agent.at < TURNED_AWAY_MS) {
        hands.push(Hand {
            what: t!("Agent at {address}", address = agent.address),
            href: agent.server.as_ref().map(|server| format!("/servers/{server}")),
            place: text::ago(agent.at, now),
            why: agent.reason.clone(),
            badge: badge::turned_away(),
        });
    }
    hands.extend(concerning.rows.iter().map(of_server));
    let unread = [&stalled, &concerning]
        .map(|slice| usize::try_from(slice.total).unwrap_or(usize::MAX) - slice.rows.len())
        .iter()
        .sum::<usize>();
    let count = hands.len() + unread;
    hands.truncate(HANDS_MAX);
    Ok((hands, count))
}

/// A server that is stalled, or replicates worse than it could.
fn server_hand(server: &source_server::Model, place: String) -> Hand {
    let (badge, why) = match &server.replication.0 {
        Replication::Stalled(stall) => (
            badge::replication("STALLED"),
            format!("{}: {}", stall.error.name(), stall.detail),
        ),
        _ if server.diverges => (badge::diverges(), server::concern_in_words(server)),
        _ => (badge::untracked(), server::concern_in_words(server)),
    };
    Hand {
        what: server.known_as().to_owned(),
        href: Some(format!("/servers/{}", server.id)),
        place,
        why,
        badge,
    }
}
