//! Where each server of a wave is, and what speaks against cutting it over.

use domain::{readiness::Readiness, replication::Replication};

use crate::{
    entities::{application, source_server::Model},
    n, t,
    web::{
        badge::{self, Badge},
        servers, text,
    },
};

#[derive(Debug)]
pub struct NotReady {
    pub id: String,
    pub name: String,
    pub reasons: Vec<String>,
}

#[derive(Debug)]
pub struct Column {
    pub title: &'static str,
    pub count: usize,
    pub cards: Vec<Card>,
    pub more: usize,
}

#[derive(Debug)]
pub struct Card {
    pub id: String,
    pub name: String,
    pub application: String,
    pub replication: Badge,
    pub busy: bool,
    pub lag: String,
    pub lag_class: &'static str,
}

/// Of a column, as many as can be taken in at a glance.
const CARDS_MAX: usize = 30;

pub fn ready_text(servers: &[Model], not_ready: usize) -> String {
    let open = servers
        .iter()
        .filter(|server| !server.lifecycle.is_final())
        .count();
    match (open, not_ready) {
        (0, _) => t!("No server waits for its cutover.").into(),
        (open, 0) => n!(
            open as u64,
            "{n} server is ready for its cutover.",
            "All {n} servers are ready for their cutover."
        ),
        (open, not_ready) => t!(
            "{ready} of {open} servers are ready for their cutover.",
            ready = open - not_ready,
            open
        ),
    }
}

/// What speaks against cutting a server over now.
pub fn not_ready(server: &Model, now: i64) -> Option<NotReady> {
    let mut reasons = Vec::new();
    match server.lifecycle_name.as_str() {
        // It was launched; what is left is to look at it.
        "CUTTING_OVER" => return None,
        "READY_FOR_CUTOVER" => {}
        state => reasons.push(t!(
            "its life cycle is “{state}”; test it and mark it as ready for cutover",
            state = badge::lifecycle(state).label
        )),
    }
    if let Some(job) = &server.running_job {
        reasons.push(t!("job {job} works on it", job));
    }
    if matches!(
        server.replication.0,
        Replication::Stalled(_) | Replication::Paused | Replication::Stopped
    ) {
        reasons.push(t!(
            "its replication is “{state}”",
            state = badge::replication(&server.replication_name).label
        ));
    }
    let lag = server.lag_ms(now);
    if let Some(lag) = lag.filter(|_| !servers::lag_class(server, lag).is_empty()) {
        reasons.push(t!("its last checkpoint is {time} old", time = text::span(lag)));
    }
    if server.diverges {
        reasons.push(t!("more is written on it than gets through").into());
    }
    if server.readiness.0 == Readiness::Blocked {
        reasons.push(t!("by the last look at a checkpoint, it would not boot").into());
    }
    (!reasons.is_empty()).then(|| NotReady {
        id: server.id.to_string(),
        name: server.known_as().to_owned(),
        reasons,
    })
}

pub fn board(servers: &[Model], applications: &[application::Model], now: i64) -> Vec<Column> {
    let columns: [(&'static str, &[&str]); 6] = [
        (
            t!("Not ready"),
            &["DISCOVERED", "PENDING_INSTALLATION", "STOPPED", "NOT_READY"],
        ),
        (t!("Ready for test"), &["READY_FOR_TEST"]),
        (t!("Testing"), &["TESTING"]),
        (t!("Ready for cutover"), &["READY_FOR_CUTOVER"]),
        (t!("Cutting over"), &["CUTTING_OVER"]),
        (t!("Done"), &["CUTOVER", "DISCONNECTED"]),
    ];
    let card = |server: &Model| {
        let lag = server.lag_ms(now);
        let application = applications
            .iter()
            .find(|application| Some(&application.id) == server.application.as_ref());
        Card {
            id: server.id.to_string(),
            name: server.known_as().to_owned(),
            application: application.map(|one| one.name.clone()).unwrap_or_default(),
            replication: badge::replication(&server.replication_name),
            busy: server.running_job.is_some(),
            lag: lag.map_or_else(String::new, text::span),
            lag_class: servers::lag_class(server, lag),
        }
    };
    columns
        .into_iter()
        .map(|(title, states)| {
            let mut there = servers
                .iter()
                .filter(|server| states.contains(&server.lifecycle_name.as_str()));
            let cards: Vec<_> = there.by_ref().take(CARDS_MAX).map(card).collect();
            let more = there.count();
            Column {
                title,
                count: cards.len() + more,
                cards,
                more,
            }
        })
        .collect()
}
