//! Waves and applications by life cycle: each wave a way down to its applications.

use std::collections::{BTreeMap, HashMap};

use domain::{ids::WaveId, wave::Standing};

use super::{By, Counted, Group, Matrix, Place, Row, page, shown_states};
use crate::{
    entities::{application, wave},
    n,
    store::{
        Seen, StoreError,
        accounts::AccountOverview,
        waves::{ApplicationFilter, WaveFilter},
    },
    t,
    web::{
        badge::{self, Badge},
        waves,
    },
};

/// As a place has it: of the applications that are in no wave.
const NONE: &str = "none";

/// More are searched.
const AT_A_GLANCE: usize = 20;

/// An application with its servers.
struct Part {
    application: application::Model,
    account: String,
    standing: Standing,
}

pub async fn matrix(
    place: &Place,
    store: &Seen,
    all: &[AccountOverview],
    now: i64,
) -> Result<Matrix, StoreError> {
    let within: Vec<_> = all.iter().filter(|row| place.covers(&row.account)).collect();
    let parts = parts(store, &within).await?;
    let living = WaveFilter {
        archived: Some(false),
        ..WaveFilter::default()
    };
    let waves = store.wave_list(&living).await?;
    Ok(match place.by {
        By::Application => by_application(place, &waves, parts, now),
        By::Account | By::Wave => by_wave(place, &waves, parts, &within, now),
    })
}

/// All in these accounts, by name.
async fn parts(store: &Seen, within: &[&AccountOverview]) -> Result<Vec<Part>, StoreError> {
    let living = ApplicationFilter {
        archived: Some(false),
        ..ApplicationFilter::default()
    };
    let accounts: HashMap<_, _> = within
        .iter()
        .map(|row| (&row.account.id, &row.account.name))
        .collect();
    let mut standings = store.standings(&ApplicationFilter::default()).await?;
    let found = store.application_list(&living).await?.into_iter();
    Ok(found
        .filter_map(|application| {
            Some(Part {
                account: (*accounts.get(&application.account)?).clone(),
                standing: standings.remove(&application.id.0).unwrap_or_default(),
                application,
            })
        })
        .collect())
}

fn by_wave(
    place: &Place,
    waves: &[wave::Model],
    parts: Vec<Part>,
    within: &[&AccountOverview],
    now: i64,
) -> Matrix {
    let is_whole = place.organization.is_empty();
    let mut of: HashMap<Option<WaveId>, (u64, Standing)> = HashMap::new();
    // What is in no application is counted by accounts alone.
    let mut rest: BTreeMap<String, u64> = BTreeMap::new();
    for (state, count) in within.iter().flat_map(|row| &row.servers) {
        *rest.entry(state.clone()).or_default() += count;
    }
    for part in parts {
        for (state, count) in &part.standing.servers {
            if let Some(left) = rest.get_mut(state) {
                *left = left.saturating_sub(*count);
            }
        }
        let wave = part.application.wave.map(|wave| wave.0);
        let (applications, standing) = of.entry(wave).or_default();
        *applications += 1;
        standing.add(&part.standing);
    }
    rest.retain(|_, count| *count > 0);
    let sought = place.sought();
    let mut counted: Vec<_> = waves
        .iter()
        .filter(|wave| wave.name.to_lowercase().contains(&sought))
        .filter_map(|wave| {
            let (applications, standing) = match of.remove(&Some(wave.id.0.clone())) {
                Some(found) => found,
                None if is_whole => (0, Standing::default()),
                None => return None,
            };
            Some(together(
                place,
                wave.id.as_str(),
                &wave.name,
                applications,
                standing,
            ))
        })
        .collect();
    if sought.is_empty() {
        if let Some((applications, standing)) = of.remove(&None) {
            counted.push(together(place, NONE, t!("In no wave"), applications, standing));
        }
        if !rest.is_empty() {
            counted.push(Counted {
                id: "no-application".into(),
                href: "/servers".into(),
                name: t!("In no application").into(),
                number: None,
                note: t!("Group them in applications, and those in waves.").into(),
                servers: rest,
                oldest_lag_basis: None,
                health: Vec::new(),
            });
        }
    }
    assemble(place, t!("Wave"), Vec::new(), counted, now)
}

fn together(place: &Place, id: &str, name: &str, applications: u64, standing: Standing) -> Counted {
    let down = Place {
        by: By::Application,
        wave: id.to_owned(),
        q: String::new(),
        page: 0,
        ..place.clone()
    };
    Counted {
        id: format!("wave-{id}"),
        href: down.address(),
        name: name.to_owned(),
        number: None,
        note: n!(applications, "{n} application", "{n} applications"),
        health: health(&standing),
        oldest_lag_basis: standing.oldest_lag_basis,
        servers: standing.servers,
    }
}

fn by_application(place: &Place, waves: &[wave::Model], parts: Vec<Part>, now: i64) -> Matrix {
    let names: HashMap<_, _> = waves.iter().map(|wave| (&wave.id, wave.name.as_str())).collect();
    let is_of = |application: &application::Model| match (place.wave.as_str(), &application.wave) {
        ("", _) => true,
        (NONE, wave) => wave.is_none(),
        (sought, wave) => wave.as_ref().is_some_and(|wave| wave.as_str() == sought),
    };
    let sought = place.sought();
    let counted: Vec<_> = parts
        .into_iter()
        .filter(|part| is_of(&part.application))
        .filter(|part| {
            [&part.application.name, &part.account]
                .iter()
                .any(|text| text.to_lowercase().contains(&sought))
        })
        .map(|part| {
            let wave = part.application.wave.as_ref();
            let wave = wave.and_then(|wave| names.get(wave)).copied();
            Counted {
                id: format!("application-{}", part.application.id),
                href: format!("/applications/{}", part.application.id),
                note: match wave {
                    Some(wave) if place.wave.is_empty() => format!("{} · {wave}", part.account),
                    _ => part.account,
                },
                number: None,
                health: health(&part.standing),
                oldest_lag_basis: part.standing.oldest_lag_basis,
                servers: part.standing.servers,
                name: part.application.name,
            }
        })
        .collect();
    let crumbs = match place.wave.as_str() {
        "" => Vec::new(),
        id => {
            let known = waves.iter().find(|wave| wave.id.as_str() == id);
            let up = Place {
                by: By::Wave,
                wave: String::new(),
                q: String::new(),
                page: 0,
                ..place.clone()
            };
            let here = match known {
                Some(wave) => (wave.name.clone(), waves::href(&wave.id)),
                None => (t!("In no wave").to_owned(), place.address()),
            };
            vec![(t!("Waves").to_owned(), up.address()), here]
        }
    };
    assemble(place, t!("Application"), crumbs, counted, now)
}

fn assemble(
    place: &Place,
    label: &'static str,
    crumbs: Vec<(String, String)>,
    rows: Vec<Counted>,
    now: i64,
) -> Matrix {
    let servers: Vec<_> = rows.iter().map(|row| &row.servers).collect();
    let states = shown_states(&servers);
    let count = rows.len();
    let mut matrix = Matrix {
        crumbs,
        is_large: count > AT_A_GLANCE || !place.q.is_empty(),
        ..Matrix::new(place, &servers, label)
    };
    matrix.turn(place, count);
    if count > 0 {
        let rows = page(rows, place.page);
        matrix.groups = vec![Group {
            name: String::new(),
            reach: "",
            problem: None,
            rows: rows
                .map(|row| {
                    let down = row.href.clone();
                    Row::new(&states, now, row, |_| down.clone())
                })
                .collect(),
        }];
    }
    matrix
}

/// What is wrong with servers that belong together, or that nothing is.
fn health(standing: &Standing) -> Vec<Badge> {
    let mut badges = Vec::new();
    for (count, name, word, class) in [
        (standing.stalled, "STALLED", t!("stalled"), "bad"),
        (standing.lagging, "LAGGING", t!("lagging"), "warn"),
    ] {
        if count > 0 {
            badges.push(badge::counting(count, name, word, class));
        }
    }
    if badges.is_empty() {
        badges.push(badge::healthy(standing.total() == 0));
    }
    badges
}
