//! What there is by life cycle: accounts and what they belong to, waves, or applications.

use std::collections::BTreeMap;

use domain::lifecycle::Lifecycle;
use serde::Deserialize;

use crate::{
    entities::account,
    store::{Seen, StoreError, accounts::AccountOverview},
    t,
    web::{
        badge::{self, Badge},
        text,
        visit::encode,
    },
};

mod accounts;
mod applications;

const PAGE_LEN: usize = 100;

/// Which part of the world is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Place {
    by: By,
    organization: String,
    /// `Root/Production`
    unit: String,
    /// Whose applications are looked at; `none` for those that are in none.
    wave: String,
    /// Part of a name, or of an account's number.
    q: String,
    page: usize,
}

/// What a row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    #[default]
    Account,
    Wave,
    Application,
}

#[derive(Debug)]
pub struct Matrix {
    pub by: By,
    /// The same part of the world by accounts, by waves and by applications.
    pub ways: Vec<Way>,
    /// What a row is called.
    pub label: &'static str,
    pub count: usize,
    pub columns: Vec<&'static str>,
    pub span: usize,
    pub groups: Vec<Group>,
    pub sums: Vec<String>,
    pub sum_total: String,
    /// From the whole down to what is shown.
    pub crumbs: Vec<(String, String)>,
    pub query: String,
    /// There are enough to be searched.
    pub is_large: bool,
    /// Where a search looks: the fields of its form.
    pub within: Vec<(&'static str, String)>,
    pub range: Option<String>,
    pub previous: Option<String>,
    pub next: Option<String>,
}

#[derive(Debug)]
pub struct Way {
    pub label: &'static str,
    pub href: String,
    pub is_current: bool,
}

#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub reach: &'static str,
    pub problem: Option<String>,
    pub rows: Vec<Row>,
}

#[derive(Debug)]
pub struct Row {
    pub id: String,
    pub href: String,
    pub name: String,
    pub number: Option<String>,
    pub note: String,
    pub cells: Vec<Cell>,
    pub total: String,
    pub lag: String,
    pub health: Vec<Badge>,
}

#[derive(Debug)]
pub struct Cell {
    pub count: String,
    pub href: Option<String>,
    pub label: String,
}

/// What a row is made of.
struct Counted {
    id: String,
    href: String,
    name: String,
    number: Option<String>,
    note: String,
    servers: BTreeMap<String, u64>,
    oldest_lag_basis: Option<i64>,
    health: Vec<Badge>,
}

impl Place {
    /// All that restricts or orders what is looked at, as an address has it.
    fn parts(&self) -> Vec<(&'static str, String)> {
        let by = match self.by {
            By::Account => "",
            By::Wave => "wave",
            By::Application => "application",
        };
        [
            ("by", by),
            ("organization", &self.organization),
            ("unit", &self.unit),
            ("wave", &self.wave),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
    }

    fn address(&self) -> String {
        let mut parts = self.parts();
        if !self.q.is_empty() {
            parts.push(("q", self.q.clone()));
        }
        if self.page > 0 {
            parts.push(("page", self.page.to_string()));
        }
        if parts.is_empty() {
            return "/".into();
        }
        let parts: Vec<_> = parts
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        format!("/?{}", parts.join("&"))
    }

    /// Whether an account is in this part of the world.
    fn covers(&self, account: &account::Model) -> bool {
        let within = self.organization.is_empty() || account.organization.as_str() == self.organization;
        let unit = self.unit.is_empty()
            || account.unit == self.unit
            || account
                .unit
                .strip_prefix(&self.unit)
                .is_some_and(|rest| rest.starts_with('/'));
        within && unit
    }

    fn sought(&self) -> String {
        self.q.trim().to_lowercase()
    }

    fn ways(&self) -> Vec<Way> {
        [
            (By::Account, t!("Accounts")),
            (By::Wave, t!("Waves")),
            (By::Application, t!("Applications")),
        ]
        .map(|(by, label)| Way {
            label,
            is_current: self.by == by,
            href: Self {
                by,
                organization: self.organization.clone(),
                unit: self.unit.clone(),
                ..Self::default()
            }
            .address(),
        })
        .into()
    }
}

impl Matrix {
    pub async fn of(
        place: &Place,
        store: &Seen,
        all: &[AccountOverview],
        now: i64,
    ) -> Result<Self, StoreError> {
        match place.by {
            By::Account => {
                let organizations = store.organization_list().await?;
                Ok(accounts::matrix(place, &organizations, all, now))
            }
            By::Wave | By::Application => applications::matrix(place, store, all, now).await,
        }
    }

    /// One without rows, with the sums of what its rows are to count.
    fn new(place: &Place, servers: &[&BTreeMap<String, u64>], label: &'static str) -> Self {
        let states = shown_states(servers);
        let sum = |state: &str| servers.iter().filter_map(|servers| servers.get(state)).sum();
        Self {
            by: place.by,
            ways: place.ways(),
            label,
            count: servers.len(),
            columns: states.iter().map(|state| short(state)).collect(),
            span: states.len() + 4,
            groups: Vec::new(),
            sums: states.iter().map(|state| text::grouped(sum(state))).collect(),
            sum_total: text::grouped(servers.iter().flat_map(|servers| servers.values()).sum()),
            crumbs: Vec::new(),
            query: place.q.clone(),
            is_large: false,
            within: place.parts(),
            range: None,
            previous: None,
            next: None,
        }
    }

    /// Says which of so many rows these are, and where the others.
    fn turn(&mut self, place: &Place, rows: usize) {
        let from = place.page.saturating_mul(PAGE_LEN);
        let turned = |page: usize| {
            Place {
                page,
                ..place.clone()
            }
            .address()
        };
        self.range = (rows > PAGE_LEN).then(|| {
            t!(
                "{from}–{to} of {total}",
                from = text::grouped(from as u64 + 1),
                to = text::grouped((from + PAGE_LEN).min(rows) as u64),
                total = text::grouped(rows as u64)
            )
        });
        self.previous = (place.page > 0).then(|| turned(place.page - 1));
        self.next = (from + PAGE_LEN < rows).then(|| turned(place.page + 1));
    }
}

impl Row {
    /// `at`: where the servers of a state are.
    fn new(states: &[&'static str], now: i64, of: Counted, at: impl Fn(&str) -> String) -> Self {
        let cell = |state: &&'static str| {
            let count = of.servers.get(*state).copied().unwrap_or(0);
            Cell {
                count: text::grouped(count),
                href: (count > 0).then(|| at(state)),
                label: t!(
                    "{count} {label} in {account}",
                    count,
                    label = badge::lifecycle(state).label,
                    account = of.name
                ),
            }
        };
        Self {
            cells: states.iter().map(cell).collect(),
            total: text::grouped(of.servers.values().sum()),
            lag: of
                .oldest_lag_basis
                .map_or_else(|| "–".into(), |basis| text::span(now - basis)),
            id: of.id,
            href: of.href,
            name: of.name,
            number: of.number,
            note: of.note,
            health: of.health,
        }
    }
}

fn page<T>(rows: impl IntoIterator<Item = T>, page: usize) -> impl Iterator<Item = T> {
    rows.into_iter()
        .skip(page.saturating_mul(PAGE_LEN))
        .take(PAGE_LEN)
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
fn shown_states(servers: &[&BTreeMap<String, u64>]) -> Vec<&'static str> {
    Lifecycle::NAMES
        .into_iter()
        .filter(|state| {
            let beside = matches!(
                *state,
                "DISCOVERED" | "PENDING_INSTALLATION" | "STOPPED" | "DISCONNECTED"
            );
            !beside || servers.iter().any(|servers| servers.contains_key(*state))
        })
        .collect()
}
