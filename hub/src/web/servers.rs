//! The list of source servers, filtered, sorted and paged; and its rows, which account pages show too.

pub mod list;

use crate::{language::filters, n, t};
use std::collections::HashMap;

use askama::Template;
use axum::{extract::Query, response::Response};
use domain::{
    disk::DiskProgress,
    ids::AccountId,
    lifecycle::Lifecycle,
    readiness::Readiness,
    replication::{Replication, Stall},
};
use serde::Deserialize;

use super::{
    badge::{self, Badge},
    server,
    text::{self, Bar},
    visit::{PageError, Part, Section, Shell, Visit, encode},
};
use crate::{
    clock::now_ms,
    entities::{
        source_server::Model,
        user::{Preferences, SavedFilter},
    },
    store::pages::{ServerSearch, ServerSort, Slice},
};

const PAGE_LEN: u64 = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    q: String,
    account: String,
    state: String,
    replication: String,
    readiness: String,
    /// A column's name, after `-` when descending.
    sort: String,
    page: u64,
}

#[derive(Debug, Template)]
#[template(path = "servers/page.html", blocks = ["live"])]
struct ServersPage {
    shell: Shell,
    query: String,
    sort: String,
    account: String,
    states: Vec<Choice>,
    replications: Vec<Choice>,
    readinesses: Vec<Choice>,
    filters: Vec<SavedFilter>,
    column_choices: Vec<Choice>,
    /// Of this list, to come back to it.
    here: String,
    columns: Vec<ListColumn>,
    rows: Vec<ServerRow>,
    range: String,
    previous: Option<String>,
    next: Option<String>,
    empty_title: &'static str,
    empty_text: &'static str,
    empty_href: Option<&'static str>,
    empty_link: &'static str,
}

/// An option of a `<select>`.
#[derive(Debug)]
pub struct Choice {
    pub value: String,
    pub label: String,
    pub selected: bool,
}

#[derive(Debug)]
pub struct ListColumn {
    pub name: &'static str,
    pub label: &'static str,
    pub class: &'static str,
    pub href: Option<String>,
    pub current: bool,
    pub direction: &'static str,
    pub arrow: &'static str,
}

#[derive(Debug)]
pub struct ServerRow {
    pub id: String,
    pub name: String,
    /// `None` on the page of the account itself.
    pub account: Option<AccountLink>,
    pub lifecycle: Badge,
    /// Once somebody looked, and while it matters.
    pub readiness: Option<Badge>,
    pub next: String,
    pub replication: Badge,
    /// What a person could change, so that it replicates better.
    pub concerns: Vec<Badge>,
    pub detail: String,
    /// `None` while there is nothing to copy.
    pub bar: Option<Bar>,
    pub size: String,
    pub lag: String,
    pub lag_class: &'static str,
    pub os: String,
    pub address: String,
    pub application: Option<ApplicationLink>,
    pub instance: String,
    pub machine: String,
    pub tags: String,
    pub own: String,
    pub seen: String,
}

#[derive(Debug)]
pub struct AccountLink {
    pub id: String,
    pub name: String,
}

#[derive(Debug)]
pub struct ApplicationLink {
    pub id: String,
    pub name: String,
}

pub async fn page(visit: Visit, Query(filter): Query<Filter>) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let search = filter.search();
    let at = filter.page.saturating_mul(PAGE_LEN);
    let found = store.server_search(&search, at, PAGE_LEN).await?;
    let preferences = &visit.session.user.preferences;
    let columns: Vec<_> = list::chosen(preferences).collect();
    let rows = rows(&visit, &found.rows, &columns).await?;
    let shown = at + found.rows.len() as u64;
    let filtered = [
        &filter.q,
        &filter.account,
        &filter.state,
        &filter.replication,
        &filter.readiness,
    ]
    .iter()
    .any(|set| !set.is_empty());
    let page = ServersPage {
        shell: visit.shell(t!("Source servers"), Section::Servers, "/events"),
        states: state_choices(&filter.state),
        replications: replication_choices(&filter.replication),
        readinesses: readiness_choices(&filter.readiness),
        filters: preferences.filters.clone(),
        column_choices: list::column_choices(preferences),
        here: filter.query(filter.page, &filter.sort),
        columns: columns
            .into_iter()
            .map(|column| column.head(order_of(&filter.sort), |sort| filter.address(0, sort)))
            .collect(),
        rows,
        range: t!(
            "{from}–{to} of {total}",
            from = text::grouped(at + 1),
            to = text::grouped(shown),
            total = total_of(&found)
        ),
        previous: (filter.page > 0).then(|| filter.address(filter.page - 1, &filter.sort)),
        next: (shown < found.total || found.is_more && !found.rows.is_empty())
            .then(|| filter.address(filter.page + 1, &filter.sort)),
        empty_title: if filtered {
            t!("No server matches")
        } else {
            t!("No source servers yet")
        },
        empty_text: if filtered {
            t!("Change or clear the filter to see more.")
        } else {
            t!(
                "Open an account, choose “Add source server”, and run the command it shows on the machine that you want to move."
            )
        },
        empty_href: Some(if filtered { "/servers" } else { "/" }),
        empty_link: if filtered {
            t!("Clear the filter")
        } else {
            t!("See the accounts")
        },
        account: filter.account,
        query: filter.q,
        sort: filter.sort,
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

async fn rows(
    visit: &Visit,
    servers: &[Model],
    columns: &[list::Column],
) -> Result<Vec<ServerRow>, PageError> {
    let store = &visit.session.store;
    let accounts = store
        .account_names(servers.iter().map(|server| &server.account.0))
        .await?;
    let mut applications = HashMap::new();
    if columns.iter().any(|column| column.name == "application") {
        let ids = servers.iter().filter_map(|server| server.application.clone());
        applications = store.application_names(ids.map(|id| id.0).collect()).await?;
    }
    let now = now_ms();
    let row_of = |server: &Model| {
        let account = server.account.to_string();
        let account = AccountLink {
            name: accounts.get(&account).cloned().unwrap_or_default(),
            id: account,
        };
        let application = server.application.as_ref().and_then(|id| {
            Some(ApplicationLink {
                id: id.to_string(),
                name: applications.get(id.as_str())?.clone(),
            })
        });
        ServerRow {
            application,
            ..row(server, Some(account), now)
        }
    };
    Ok(servers.iter().map(row_of).collect())
}

/// Not a state of its own, and yet what people filter by.
const ARCHIVED: &str = "ARCHIVED";

impl Filter {
    fn search(&self) -> ServerSearch {
        let (sort, descending) = sort_of(&self.sort);
        let account = self.account.trim().parse::<AccountId>();
        let archived = self.state == ARCHIVED;
        ServerSearch {
            account_text: match account {
                Ok(_) => String::new(),
                Err(_) => self.account.clone(),
            },
            account: account.ok(),
            lifecycle: if archived {
                String::new()
            } else {
                self.state.clone()
            },
            replication: self.replication.clone(),
            readiness: self.readiness.clone(),
            text: self.q.clone(),
            archived,
            sort,
            descending,
        }
    }

    fn address(&self, page: u64, sort: &str) -> String {
        match self.query(page, sort) {
            query if query.is_empty() => "/servers".into(),
            query => format!("/servers?{query}"),
        }
    }

    fn query(&self, page: u64, sort: &str) -> String {
        let fields = [
            ("q", self.q.as_str()),
            ("account", &self.account),
            ("state", &self.state),
            ("replication", &self.replication),
            ("readiness", &self.readiness),
            ("sort", sort),
        ];
        let mut parts: Vec<_> = fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        if page > 0 {
            parts.push(format!("page={page}"));
        }
        parts.join("&")
    }
}

/// The name of a column, and whether the list is sorted by it from its end.
fn order_of(sort: &str) -> (&str, bool) {
    match sort.strip_prefix('-') {
        Some(by) => (by, true),
        None if sort.is_empty() => ("name", false),
        None => (sort, false),
    }
}

fn sort_of(text: &str) -> (ServerSort, bool) {
    let (name, descending) = order_of(text);
    let sort = match name {
        "account" => ServerSort::Account,
        "state" => ServerSort::Lifecycle,
        "replication" => ServerSort::Replication,
        "lag" => ServerSort::Lag,
        _ => ServerSort::Name,
    };
    (sort, descending)
}

/// The columns of a list that is neither sorted nor spans accounts.
pub fn plain_columns() -> Vec<ListColumn> {
    let usual = Preferences::default();
    let shown = list::chosen(&usual).filter(|column| column.name != "account");
    shown.map(list::Column::plain).collect()
}

fn total_of(found: &Slice<Model>) -> String {
    if found.is_more {
        return n!(found.total, "more than {n} server", "more than {n} servers");
    }
    n!(found.total, "{n} server", "{n} servers")
}

fn state_choices(chosen: &str) -> Vec<Choice> {
    let states = Lifecycle::NAMES.map(|name| (name, badge::lifecycle(name).label.into_owned()));
    let all = [("", t!("Any life cycle state").to_owned())]
        .into_iter()
        .chain(states)
        .chain([(ARCHIVED, t!("Archived").to_owned())]);
    choices(all, chosen)
}

fn replication_choices(chosen: &str) -> Vec<Choice> {
    let states = badge::REPLICATION_NAMES.map(|name| (name, badge::replication(name).label.into_owned()));
    let all = [("", t!("Any replication state").to_owned())]
        .into_iter()
        .chain(states);
    choices(all, chosen)
}

fn readiness_choices(chosen: &str) -> Vec<Choice> {
    let states = Readiness::ALL.map(|one| (one.name(), badge::readiness(one).label.into_owned()));
    let all = [("", t!("Any boot readiness").to_owned())]
        .into_iter()
        .chain(states);
    choices(all, chosen)
}

fn choices(all: impl Iterator<Item = (&'static str, String)>, chosen: &str) -> Vec<Choice> {
    all.map(|(value, label)| Choice {
        value: value.into(),
        label,
        selected: value == chosen,
    })
    .collect()
}

pub fn row(server: &Model, account: Option<AccountLink>, now: i64) -> ServerRow {
    let (done, whole) = progress(&server.disks);
    let lag = server.lag_ms(now);
    ServerRow {
        id: server.id.to_string(),
        name: server.known_as().to_owned(),
        account,
        lifecycle: badge::lifecycle(&server.lifecycle_name),
        readiness: (server.readiness.0 != Readiness::NotInspected && !server.lifecycle.is_final())
            .then(|| badge::readiness(server.readiness.0)),
        next: server::next_in_short(server),
        replication: badge::replication(&server.replication_name),
        concerns: concerns(server),
        detail: match &server.replication.0 {
            Replication::Stalled(Stall { error, .. }) => badge::replication_error(*error).into(),
            Replication::Initiating(at) => badge::initiation_step(at.step).into(),
            _ => backlog(&server.disks),
        },
        bar: (whole > 0).then(|| {
            disk_bar(
                server,
                done,
                whole,
                &t!("{server} replicated", server = server.known_as()),
            )
        }),
        size: text::bytes(whole),
        lag: lag.map_or_else(|| "–".into(), text::span),
        lag_class: lag_class(server, lag),
        os: server.properties.os.clone(),
        address: server.agent_address.clone().unwrap_or_default(),
        application: None,
        instance: server.launch_configuration.instance_type.clone(),
        machine: machine_of(server),
        tags: tags_of(server),
        own: server.user_provided_id.clone().unwrap_or_default(),
        seen: server
            .last_seen
            .map_or_else(|| "–".into(), |seen| text::ago(seen, now)),
    }
}

fn machine_of(server: &Model) -> String {
    let properties = &server.properties;
    if properties.cpus == 0 {
        return "–".into();
    }
    format!("{} × {}", properties.cpus, text::bytes(properties.ram_bytes))
}

fn tags_of(server: &Model) -> String {
    let tags = server.tags.iter().filter(|(key, _)| *key != "Name");
    let each: Vec<_> = tags.map(|(key, value)| format!("{key}={value}")).collect();
    each.join(", ")
}

pub fn concerns(server: &Model) -> Vec<Badge> {
    let diverges = server.diverges.then(badge::diverges);
    let untracked = server.untracked.then(badge::untracked);
    diverges.into_iter().chain(untracked).collect()
}

/// Bytes that the runner holds, and bytes in all.
pub fn progress(disks: &[DiskProgress]) -> (u64, u64) {
    disks.iter().fold((0, 0), |(done, whole), disk| {
        (
            done + disk.replicated_bytes.min(disk.total_bytes),
            whole + disk.total_bytes,
        )
    })
}

pub fn disk_bar(server: &Model, done: u64, whole: u64, label: &str) -> Bar {
    let class = match (&server.replication.0, done >= whole && whole > 0) {
        (Replication::Stalled(_), _) => "bad",
        (Replication::Paused | Replication::Stopped | Replication::Disconnected, _) => "idle",
        (_, true) => "good",
        (_, false) => "",
    };
    text::bar(done, whole, class, label)
}

fn backlog(disks: &[DiskProgress]) -> String {
    match disks.iter().map(|disk| disk.backlogged_bytes).sum() {
        0 => String::new(),
        bytes => t!("{size} to send", size = text::bytes(bytes)),
    }
}

/// Three missed checkpoints want a look.
pub fn lag_class(server: &Model, lag: Option<i64>) -> &'static str {
    let interval = i64::from(server.checkpoint_interval_s) * 1000;
    match lag {
        Some(lag) if lag > (interval * 3).max(60_000) => "warn",
        _ => "",
    }
}
