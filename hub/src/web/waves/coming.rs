//! The windows of today and of the next seven days, for the overview.

use std::collections::HashMap;

use domain::{
    ids::WaveId,
    wave::{Standing, Window},
};

use super::{href, run, window_text};
use crate::{
    actions::waves,
    n,
    store::waves::{ApplicationFilter, WaveFilter},
    t,
    web::{
        Web,
        badge::{self, Badge},
        visit::{PageError, Visit},
    },
};

const DAY_MS: i64 = 86_400_000;
const AHEAD_MS: i64 = 7 * DAY_MS;
/// More are on the page of waves.
const WAVES_MAX: usize = 10;

#[derive(Debug)]
pub struct Coming {
    pub href: String,
    pub name: String,
    pub when: &'static str,
    pub window: String,
    pub servers: String,
    pub state: Badge,
}

/// The next ones, which are still to be cut over.
pub async fn coming(web: &Web, visit: &Visit, now: i64) -> Result<Vec<Coming>, PageError> {
    let store = &visit.session.store;
    let waves = store
        .wave_list(&WaveFilter {
            archived: Some(false),
            ..WaveFilter::default()
        })
        .await?;
    let mut planned: Vec<_> = waves
        .into_iter()
        .filter_map(|wave| Some((wave.plan.window?, wave)))
        .filter(|(window, _)| window.to > now && window.from < now + AHEAD_MS)
        .collect();
    planned.sort_by_key(|(window, _)| (window.from, window.to));
    planned.truncate(WAVES_MAX);
    if planned.is_empty() {
        return Ok(Vec::new());
    }
    let within = ApplicationFilter {
        waves: planned.iter().map(|(_, wave)| wave.id.0.clone()).collect(),
        ..ApplicationFilter::default()
    };
    let standings = store.standings(&within).await?;
    let mut of_waves: HashMap<WaveId, Standing> = HashMap::new();
    for application in store.application_list(&within).await? {
        if let (Some(wave), Some(standing)) = (application.wave, standings.get(&application.id.0)) {
            of_waves.entry(wave.0).or_default().add(standing);
        }
    }
    let mut coming = Vec::with_capacity(planned.len());
    for (window, wave) in planned {
        let standing = of_waves.remove(&wave.id.0).unwrap_or_default();
        let stage = waves::stage(&web.hub, &wave).await?;
        let under_way = wave.run.as_ref().filter(|_| run::is_under_way(&wave));
        coming.push(Coming {
            href: href(&wave.id),
            when: when(window, now),
            window: window_text(window),
            servers: t!(
                "{done} of {servers} cut over",
                done = standing.done(),
                servers = n!(standing.total(), "{n} server", "{n} servers")
            ),
            state: under_way.map_or_else(|| badge::stage(stage), |run| badge::run(&run.state)),
            name: wave.name,
        });
    }
    Ok(coming)
}

fn when(window: Window, now: i64) -> &'static str {
    let day = |at: i64| at.div_euclid(DAY_MS);
    if window.from <= now {
        t!("now")
    } else if day(window.from) == day(now) {
        t!("today")
    } else {
        t!("this week")
    }
}
