//! The global view: every account of every organization by life cycle, and whatever wants a hand.

use crate::{language::filters, n, t};
use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use domain::{
    account::Access,
    job::{JobStatus, LaunchStatus},
    lifecycle::Lifecycle,
    replication::Replication,
};

use super::{
    badge::{self, Badge},
    server, silence, text,
    visit::{PageError, Part, Section, Shell, Visit},
};
use crate::{
    clock::now_ms,
    entities::{organization, runner, source_server},
    store::{Seen, accounts::AccountOverview, jobs::JobFilter, pages::Participant},
};

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
    running: Vec<RunningJob>,
    account_count: usize,
    columns: Vec<&'static str>,
    span: usize,
    groups: Vec<Group>,
    sums: Vec<String>,
    sum_total: String,
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

#[derive(Debug)]
struct Group {
    name: String,
    reach: &'static str,
    problem: Option<String>,
    accounts: Vec<AccountRow>,
}

#[derive(Debug)]
struct AccountRow {
    id: String,
    name: String,
    region: String,
    cells: Vec<Cell>,
    total: String,
    lag: String,
    lag_class: &'static str,
    health: Vec<Badge>,
}

#[derive(Debug)]
struct Cell {
    count: String,
    href: Option<String>,
    label: String,
}

pub async fn page(visit: Visit) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let now = now_ms();
    let organizations = store.organization_list().await?;
    let accounts = store.account_overview().await?;
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
    let replicated = store.replicated_bytes().await?;

    let states = shown_states(&accounts);
    let sum = |state: &str| {
        accounts
            .iter()
            .filter_map(|row| row.servers.get(state))
            .sum::<u64>()
    };
    let total: u64 = accounts.iter().flat_map(|row| row.servers.values()).sum();
    let page = OverviewPage {
        shell: visit.shell(t!("Overview"), Section::Overview, "/events"),
        totals: totals(&accounts, total, replicated, now),
        hands_more: (hands_count > hands.len()).then(|| {
            t!(
                "and {count} more",
                count = text::grouped((hands_count - hands.len()) as u64)
            )
        }),
        hands,
        hands_count,
        running: running
            .iter()
            .map(|job| {
                let parts: Vec<_> = participants.iter().filter(|part| part.job == job.id).collect();
                running_job(job, &parts, now)
            })
            .collect(),
        account_count: accounts.len(),
        columns: states.iter().map(|state| short(state)).collect(),
        span: states.len() + 4,
        sums: states.iter().map(|state| text::grouped(sum(state))).collect(),
        sum_total: text::grouped(total),
        groups: groups(&organizations, &accounts, &states, now),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

/// Column heads say no more than they must.
fn short(state: &'static str) -> &'static str {
    match state {
        "PENDING_INSTALLATION" => t!("Pending install"),
        "READY_FOR_TEST" => t!("Ready for test"),
        "READY_FOR_CUTOVER" => t!("Ready for cutover"),
        "DISCOVERED" => t!("Discovered"),
        "STOPPED" => t!("Stopped"),
        "NOT_READY" => t!("Not ready"),
        "TESTING" => t!("Testing"),
        "CUTTING_OVER" => t!("Cutting over"),
        "CUTOVER" => t!("Cutover"),
        _ => t!("Disconnected"),
    }
}

/// The states of the journey, and those beside it while a server is in one.
fn shown_states(accounts: &[AccountOverview]) -> Vec<&'static str> {
    Lifecycle::NAMES
        .into_iter()
        .filter(|state| {
            let beside = matches!(
                *state,
                "DISCOVERED" | "PENDING_INSTALLATION" | "STOPPED" | "DISCONNECTED"
            );
            !beside || accounts.iter().any(|row| row.servers.contains_key(*state))
        })
        .collect()
}

fn totals(accounts: &[AccountOverview], total: u64, replicated: u64, now: i64) -> Vec<Fact> {
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

fn groups(
    organizations: &[organization::Model],
    accounts: &[AccountOverview],
    states: &[&'static str],
    now: i64,
) -> Vec<Group> {
    let mut of: BTreeMap<&str, Vec<AccountRow>> = BTreeMap::new();
    for overview in accounts {
        of.entry(overview.account.organization.as_str())
            .or_default()
            .push(account_row(overview, states, now));
    }
    let group = |organization: &organization::Model| Group {
        name: organization.name.clone(),
        reach: badge::reach(organization.reach.0),
        problem: badge::access_problem(&organization.listing)
            .map(|(what, remedy)| format!("{what}: {remedy}")),
        accounts: of.remove(organization.id.as_str()).unwrap_or_default(),
    };
    organizations.iter().map(group).collect()
}

fn account_row(overview: &AccountOverview, states: &[&'static str], now: i64) -> AccountRow {
    let id = overview.account.id.to_string();
    let cell = |state: &&'static str| {
        let count = overview.servers.get(*state).copied().unwrap_or(0);
        let label = badge::lifecycle(state).label;
        Cell {
            count: text::grouped(count),
            href: (count > 0).then(|| format!("/servers?account={id}&state={state}")),
            label: t!(
                "{count} {label} in {account}",
                count,
                label,
                account = overview.account.name
            ),
        }
    };
    let lag = overview.oldest_lag_basis.map(|basis| now - basis);
    AccountRow {
        cells: states.iter().map(cell).collect(),
        total: text::grouped(overview.servers.values().sum()),
        lag: lag.map_or_else(|| "–".into(), text::span),
        lag_class: "",
        health: health(overview, now),
        name: overview.account.name.clone(),
        region: overview.account.region.clone(),
        id,
    }
}

/// What is wrong in the account, or that nothing is.
fn health(overview: &AccountOverview, now: i64) -> Vec<Badge> {
    let access = &overview.account.access.0;
    if matches!(access, Access::LeftAlone { .. }) {
        return vec![badge::access(access)];
    }
    let of = |state: &str| overview.replication.get(state).copied().unwrap_or(0);
    let mut badges = Vec::new();
    if badge::access_problem(access).is_some() {
        badges.push(badge::access(access));
    }
    if overview.network_findings > 0 {
        badges.push(badge::network_findings(overview.network_findings));
    }
    if overview.runners.is_empty() {
        badges.push(badge::no_runner());
    } else if overview.runners.iter().any(|runner| is_silent(runner, now)) {
        badges.push(badge::runner(false, false));
    }
    for (count, name, word, class) in [
        (of("STALLED"), "STALLED", t!("stalled"), "bad"),
        (of("PAUSED"), "PAUSED", t!("paused"), "warn"),
        (
            of("INITIAL_SYNC") + of("INITIATING"),
            "INITIAL_SYNC",
            t!("syncing"),
            "busy",
        ),
        (of("STOPPED"), "STOPPED", t!("stopped"), "idle"),
        (
            overview.diverging,
            "WILL_NOT_CONVERGE",
            t!("will not converge"),
            "warn",
        ),
        (overview.untracked, "NOT_TRACKED", t!("not tracked"), "warn"),
    ] {
        if count > 0 {
            badges.push(badge::counting(count, name, word, class));
        }
    }
    if badges.is_empty() {
        badges.push(badge::healthy(overview.servers.is_empty()));
    }
    badges
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
