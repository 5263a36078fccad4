//! Search over everything, as a page and within the palette that Ctrl-K opens.

use askama::Template;
use axum::{extract::Query, response::Response};
use serde::Deserialize;

use super::{
    badge,
    visit::{PageError, Part, Section, Shell, Visit},
};
use crate::{language::filters, store::search::Found, t};

/// Of each kind: more are for the lists, which filter.
const EACH_MAX: u64 = 8;

#[derive(Debug, Deserialize)]
pub struct Sought {
    #[serde(default)]
    q: String,
}

#[derive(Debug, Template)]
#[template(path = "search/page.html", blocks = ["found"])]
struct SearchPage {
    shell: Shell,
    query: String,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    title: &'static str,
    hits: Vec<Hit>,
}

#[derive(Debug)]
struct Hit {
    href: String,
    label: String,
    detail: String,
    id: String,
}

pub async fn page(visit: Visit, Query(sought): Query<Sought>) -> Result<Response, PageError> {
    let query = sought.q.trim().to_owned();
    let mut groups = vec![places(&visit, &query)];
    if query.chars().count() > 1 {
        let found = visit.session.store.find_everywhere(&query, EACH_MAX).await?;
        groups.extend(groups_of(found, &query));
    }
    groups.retain(|group| !group.hits.is_empty());
    let page = SearchPage {
        shell: visit.shell(t!("Search"), Section::Search, "/events"),
        query,
        groups,
    };
    visit.answer(match visit.part {
        Part::Found => page.as_found().render(),
        _ => page.render(),
    })
}

/// Pages, and filters that somebody saved.
fn places(visit: &Visit, query: &str) -> Group {
    let query = query.to_lowercase();
    let pages = visit.nav(Section::Search).into_iter().map(|item| Hit {
        href: item.href.into(),
        label: item.label.into(),
        detail: String::new(),
        id: String::new(),
    });
    let profile = Hit {
        href: super::profile::PATH.into(),
        label: t!("Profile").into(),
        detail: String::new(),
        id: String::new(),
    };
    let filters = visit.session.user.preferences.filters.iter().map(|filter| Hit {
        href: format!("/servers?{}", filter.query),
        label: filter.name.clone(),
        detail: t!("Saved filter").into(),
        id: String::new(),
    });
    let hits = filters.chain(pages).chain([profile]);
    Group {
        title: t!("Go to"),
        hits: hits
            .filter(|hit| hit.label.to_lowercase().contains(&query))
            .collect(),
    }
}

fn groups_of(found: Found, query: &str) -> Vec<Group> {
    let mut servers: Vec<_> = found
        .servers
        .rows
        .iter()
        .map(|server| Hit {
            href: format!("/servers/{}", server.id),
            label: server.known_as().into(),
            detail: badge::lifecycle(&server.lifecycle_name).label.into_owned(),
            id: server.id.to_string(),
        })
        .collect();
    if found.servers.total > servers.len() as u64 {
        servers.push(Hit {
            href: format!("/servers?q={}", super::visit::encode(query)),
            label: t!("All source servers with “{text}”", text = query),
            detail: String::new(),
            id: String::new(),
        });
    }
    let accounts = found.accounts.into_iter().map(|account| Hit {
        href: format!("/accounts/{}", account.id),
        label: account.name,
        detail: account.region,
        id: account.id.to_string(),
    });
    let applications = found.applications.into_iter().map(|application| Hit {
        href: format!("/applications/{}", application.id),
        label: application.name,
        detail: application.account.to_string(),
        id: application.id.to_string(),
    });
    let waves = found.waves.into_iter().map(|wave| Hit {
        href: format!("/waves/{}", wave.id),
        label: wave.name,
        detail: String::new(),
        id: wave.id.to_string(),
    });
    let jobs = found.jobs.into_iter().map(|job| Hit {
        href: format!("/jobs/{}", job.id),
        label: badge::job_title(job.initiated_by.0).into(),
        detail: super::text::moment(job.created_at).text,
        id: job.id.to_string(),
    });
    let resources = found.resources.into_iter().map(|row| Hit {
        href: format!("/servers/{}", row.server),
        label: badge::resource(*row.kind).into(),
        detail: t!("in account {account}", account = row.account),
        id: row.resource.unwrap_or_default(),
    });
    let group = |title, hits| Group { title, hits };
    vec![
        group(t!("Source servers"), servers),
        group(t!("Accounts"), accounts.collect()),
        group(t!("Applications"), applications.collect()),
        group(t!("Waves"), waves.collect()),
        group(t!("Jobs"), jobs.collect()),
        group(t!("Resources"), resources.collect()),
    ]
}
