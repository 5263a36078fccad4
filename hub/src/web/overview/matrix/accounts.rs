//! Accounts by life cycle. A few are all shown; of many, organizations and their units are, each a way down to its accounts.

use std::collections::BTreeMap;

use domain::account::Access;

use super::{super::is_silent, Counted, Group, Matrix, Place, Row, page, shown_states};
use crate::{
    entities::organization,
    store::accounts::AccountOverview,
    t,
    web::{
        badge::{self, Badge},
        text,
    },
};

/// More are not taken in at a glance, and are shown by what they belong to.
const AT_A_GLANCE: usize = 60;

pub fn matrix(
    place: &Place,
    organizations: &[organization::Model],
    all: &[AccountOverview],
    now: i64,
) -> Matrix {
    let sought = place.sought();
    let within: Vec<_> = all
        .iter()
        .filter(|row| {
            let account = &row.account;
            let named =
                account.name.to_lowercase().contains(&sought) || account.id.as_str().contains(&sought);
            place.covers(account) && named
        })
        .collect();
    let servers: Vec<_> = within.iter().map(|row| &row.servers).collect();
    let states = shown_states(&servers);
    let is_flat = within.len() <= AT_A_GLANCE || !sought.is_empty();
    let shown = Shown {
        place,
        organizations,
        states: &states,
        now,
    };
    let (groups, rows) = if is_flat {
        let page: Vec<_> = page(within.iter().copied(), place.page).collect();
        (shown.accounts(&page), within.len())
    } else if place.organization.is_empty() {
        (shown.organizations(&within), 0)
    } else {
        shown.units(&within)
    };
    let mut matrix = Matrix {
        groups,
        crumbs: crumbs(place, organizations),
        is_large: all.len() > AT_A_GLANCE,
        ..Matrix::new(place, &servers, t!("Account"))
    };
    matrix.turn(place, rows);
    matrix
}

/// The way back up.
fn crumbs(place: &Place, organizations: &[organization::Model]) -> Vec<(String, String)> {
    if place.organization.is_empty() {
        return Vec::new();
    }
    let at = |unit: &str| {
        Place {
            organization: place.organization.clone(),
            unit: unit.to_owned(),
            ..Place::default()
        }
        .address()
    };
    let organization = organizations
        .iter()
        .find(|organization| organization.id.as_str() == place.organization);
    let name = organization.map_or_else(|| place.organization.clone(), |known| known.name.clone());
    let mut crumbs = vec![(t!("Overview").to_owned(), "/".to_owned()), (name, at(""))];
    let mut path = String::new();
    for unit in place.unit.split('/').filter(|unit| !unit.is_empty()) {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(unit);
        crumbs.push((unit.to_owned(), at(&path)));
    }
    crumbs
}

struct Shown<'a> {
    place: &'a Place,
    organizations: &'a [organization::Model],
    states: &'a [&'static str],
    now: i64,
}

impl Shown<'_> {
    /// Each account, by organization.
    fn accounts(&self, rows: &[&AccountOverview]) -> Vec<Group> {
        let mut of: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let row = (row.account.organization.as_str(), self.account(row));
            of.entry(row.0).or_default().push(row.1);
        }
        let is_whole = *self.place == Place::default();
        self.organizations
            .iter()
            .map(|organization| Group {
                name: organization.name.clone(),
                reach: badge::reach(organization.reach.0),
                problem: problem(organization),
                rows: of.remove(organization.id.as_str()).unwrap_or_default(),
            })
            .filter(|group| is_whole || !group.rows.is_empty())
            .collect()
    }

    fn organizations(&self, rows: &[&AccountOverview]) -> Vec<Group> {
        let row = |organization: &organization::Model| {
            let id = &organization.id;
            let of: Vec<_> = rows
                .iter()
                .filter(|row| row.account.organization == *id)
                .copied()
                .collect();
            let down = Place {
                organization: id.to_string(),
                ..Place::default()
            };
            let mut row = self.several(id.as_str(), &organization.name, &down, &of);
            if let Some(problem) = problem(organization) {
                row.note = format!("{}; {problem}", row.note);
            }
            row
        };
        vec![Group {
            name: t!("Organizations").into(),
            reach: "",
            problem: None,
            rows: self.organizations.iter().map(row).collect(),
        }]
    }

    /// The units right below, and the accounts that are in none of them; and how many those are.
    fn units(&self, rows: &[&AccountOverview]) -> (Vec<Group>, usize) {
        let mut below: BTreeMap<&str, Vec<&AccountOverview>> = BTreeMap::new();
        let mut here = Vec::new();
        for row in rows {
            let rest = row
                .account
                .unit
                .strip_prefix(&self.place.unit)
                .unwrap_or_default();
            let next = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
            if next.is_empty() {
                here.push(*row);
            } else {
                below.entry(next).or_default().push(row);
            }
        }
        let mut groups = Vec::new();
        if !below.is_empty() && self.place.page == 0 {
            let row = |(name, rows): (&str, Vec<&AccountOverview>)| {
                let unit = match self.place.unit.as_str() {
                    "" => name.to_owned(),
                    above => format!("{above}/{name}"),
                };
                let down = Place {
                    unit: unit.clone(),
                    ..self.place.clone()
                };
                self.several(&text::hex(unit.as_bytes()), name, &down, &rows)
            };
            groups.push(Group {
                name: t!("Organizational units").into(),
                reach: "",
                problem: None,
                rows: below.into_iter().map(row).collect(),
            });
        }
        if !here.is_empty() {
            groups.push(Group {
                name: t!("Accounts").into(),
                reach: "",
                problem: None,
                rows: page(here.iter().copied(), self.place.page)
                    .map(|row| self.account(row))
                    .collect(),
            });
        }
        (groups, here.len())
    }

    fn account(&self, row: &AccountOverview) -> Row {
        let id = row.account.id.to_string();
        let counted = Counted {
            id: format!("account-{id}"),
            href: format!("/accounts/{id}"),
            name: row.account.name.clone(),
            number: Some(id.clone()),
            note: row.account.region.clone(),
            servers: row.servers.clone(),
            oldest_lag_basis: row.oldest_lag_basis,
            health: self.health(&[row]),
        };
        Row::new(self.states, self.now, counted, |state| {
            format!("/servers?account={id}&state={state}")
        })
    }

    fn several(&self, id: &str, name: &str, down: &Place, rows: &[&AccountOverview]) -> Row {
        let mut servers: BTreeMap<String, u64> = BTreeMap::new();
        for (state, count) in rows.iter().flat_map(|row| &row.servers) {
            *servers.entry(state.clone()).or_default() += count;
        }
        let counted = Counted {
            id: format!("part-{id}"),
            href: down.address(),
            name: name.to_owned(),
            number: None,
            note: crate::n!(rows.len() as u64, "{n} account", "{n} accounts"),
            servers,
            oldest_lag_basis: rows.iter().filter_map(|row| row.oldest_lag_basis).min(),
            health: self.health(rows),
        };
        Row::new(self.states, self.now, counted, |_| down.address())
    }

    /// What is wrong in the accounts, or that nothing is.
    fn health(&self, rows: &[&AccountOverview]) -> Vec<Badge> {
        if let [only] = rows
            && matches!(only.account.access.0, Access::LeftAlone { .. })
        {
            return vec![badge::access(&only.account.access)];
        }
        let mut badges = Vec::new();
        let unreachable: Vec<_> = rows
            .iter()
            .map(|row| &row.account.access.0)
            .filter(|access| {
                !matches!(access, Access::LeftAlone { .. }) && badge::access_problem(access).is_some()
            })
            .collect();
        match (&unreachable[..], rows.len()) {
            ([], _) => {}
            ([only], 1) => badges.push(badge::access(only)),
            (several, _) => badges.push(badge::counting(
                several.len() as u64,
                "NOT_REACHED",
                t!("not reached"),
                "bad",
            )),
        }
        let findings = rows.iter().map(|row| row.network_findings).sum();
        if findings > 0 {
            badges.push(badge::network_findings(findings));
        }
        if let [only] = rows
            && only.runners.is_empty()
        {
            badges.push(badge::no_runner());
        }
        let silent = rows
            .iter()
            .filter(|row| row.runners.iter().any(|runner| is_silent(runner, self.now)))
            .count();
        match (silent, rows.len()) {
            (0, _) => {}
            (_, 1) => badges.push(badge::runner(false, false)),
            (silent, _) => badges.push(badge::counting(
                silent as u64,
                "RUNNER_SILENT",
                t!("with silent runners"),
                "warn",
            )),
        }
        let of = |state: &str| {
            rows.iter()
                .filter_map(|row| row.replication.get(state))
                .sum::<u64>()
        };
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
                rows.iter().map(|row| row.diverging).sum(),
                "WILL_NOT_CONVERGE",
                t!("will not converge"),
                "warn",
            ),
            (
                rows.iter().map(|row| row.untracked).sum(),
                "NOT_TRACKED",
                t!("not tracked"),
                "warn",
            ),
        ] {
            if count > 0 {
                badges.push(badge::counting(count, name, word, class));
            }
        }
        if badges.is_empty() {
            badges.push(badge::healthy(rows.iter().all(|row| row.servers.is_empty())));
        }
        badges
    }
}

fn problem(organization: &organization::Model) -> Option<String> {
    badge::access_problem(&organization.listing).map(|(what, remedy)| format!("{what}: {remedy}"))
}

#[cfg(test)]
mod tests {
    use domain::{
        account::Reach,
        ids::{AccountId, OrganizationId},
    };

    use super::*;
    use crate::entities::{Doc, Word, account};

    fn organization(number: u128) -> organization::Model {
        organization::Model {
            id: Word(OrganizationId::from_entropy(number)),
            name: format!("organization {number}"),
            reach: Word(Reach::Roster),
            region: "eu-central-1".into(),
            route: Doc::default(),
            listing: Doc(Access::Ok),
            listed_at: None,
            created_at: 0,
        }
    }

    fn account(number: u64, organization: u128, unit: &str) -> AccountOverview {
        let id: AccountId = format!("{number:012}").parse().unwrap();
        AccountOverview {
            account: account::Model {
                id: Word(id),
                organization: Word(OrganizationId::from_entropy(organization)),
                name: format!("account-{number}"),
                unit: unit.into(),
                region: "eu-central-1".into(),
                access: Doc(Access::Ok),
                checked_at: None,
                suspended: false,
                created_at: 0,
            },
            servers: BTreeMap::from([("READY_FOR_TEST".to_owned(), 2), ("CUTOVER".to_owned(), 1)]),
            replication: BTreeMap::from([("STALLED".to_owned(), 1)]),
            diverging: 0,
            untracked: 0,
            oldest_lag_basis: Some(0),
            in_jobs: 0,
            runners: Vec::new(),
            network_findings: 0,
            replicated_bytes: 0,
        }
    }

    fn looked(place: &Place, all: &[AccountOverview]) -> (Vec<(String, String)>, Matrix) {
        let matrix = matrix(place, &[organization(1), organization(2)], all, 1000);
        let rows = matrix.groups.iter().flat_map(|group| &group.rows);
        (
            rows.map(|row| (row.name.clone(), row.total.clone())).collect(),
            matrix,
        )
    }

    #[test]
    fn a_few_accounts_are_all_there_and_many_by_what_they_belong_to() {
        let few: Vec<_> = (0..5).map(|number| account(number, 1, "Root")).collect();
        assert_eq!(looked(&Place::default(), &few).0.len(), 5);
        let many: Vec<_> = (0..400)
            .map(|number| {
                account(
                    number,
                    1,
                    if number < 150 {
                        "Root/Test"
                    } else {
                        "Root/Production"
                    },
                )
            })
            .chain((400..450).map(|number| account(number, 2, "")))
            .collect();
        let (rows, matrix) = looked(&Place::default(), &many);
        assert_eq!(
            rows,
            [
                ("organization 1".to_owned(), "1\u{202f}200".to_owned()),
                ("organization 2".to_owned(), "150".to_owned())
            ]
        );
        assert_eq!(matrix.sum_total, "1\u{202f}350");
        let within = |unit: &str, page| Place {
            organization: OrganizationId::from_entropy(1).to_string(),
            unit: unit.into(),
            page,
            ..Place::default()
        };
        let (rows, _) = looked(&within("Root", 0), &many);
        assert_eq!(
            rows,
            [
                ("Production".to_owned(), "750".to_owned()),
                ("Test".to_owned(), "450".to_owned())
            ]
        );
        let (rows, matrix) = looked(&within("Root/Test", 0), &many);
        assert_eq!(
            (rows.len(), matrix.next.is_some(), matrix.previous.is_some()),
            (100, true, false)
        );
        let (rows, matrix) = looked(&within("Root/Test", 1), &many);
        assert_eq!(
            (rows.len(), matrix.next.is_some(), matrix.previous.is_some()),
            (50, false, true)
        );
        let names: Vec<_> = matrix.crumbs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Overview", "organization 1", "Root", "Test"]);
        let sought = Place {
            q: "Account-44".into(),
            ..Place::default()
        };
        assert_eq!(looked(&sought, &many).0.len(), 11);
        assert!(
            looked(&within("Roo", 0), &many).0.is_empty(),
            "no unit begins like that"
        );
    }
}
