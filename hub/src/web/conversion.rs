//! The page of a conversion: where it stands, what it changed and why, and what became of its rehearsal.

use crate::{
    language::{filters, translated_static},
    mark, n, t,
};
use askama::Template;
use axum::{extract::Path, response::Response};
use domain::{
    changes::{Change, Diff, State as Found},
    conversion::{ConversionState, Network, Rehearsal},
    ids::{JobId, SourceServerId},
    launch::Hypervisor,
};
use protocol::artifacts::{Artifact, SignedChangeList};

use super::{
    badge::{self, Badge},
    server::Pair,
    session::Session,
    text::{self, Moment},
    visit::{PageError, Part, Section, Shell, Visit},
};
use crate::{documents::Document, entities::conversion::Model};

/// A longer change list is downloaded, and not made a page of.
const SHOWN_LEN_MAX: usize = 2 << 20;

/// The end of a console says what happened last.
pub const CONSOLE_SHOWN: usize = 128 << 10;

#[derive(Debug, Template)]
#[template(path = "conversion/page.html", blocks = ["live"])]
struct ConversionPage {
    shell: Shell,
    server: String,
    name: String,
    subject: String,
    job: String,
    summary: Summary,
    facts: Vec<Pair>,
    rehearsal: Option<RehearsalShown>,
    console: Option<Console>,
    screenshot: Option<String>,
    changes: Vec<ChangeRow>,
    /// Why there is no list on the page.
    no_changes: Option<&'static str>,
    files: Vec<File>,
}

/// Where a conversion stands, for the page of its server too.
#[derive(Debug)]
pub struct Summary {
    pub href: String,
    pub job: String,
    pub checkpoint: String,
    pub badge: Badge,
    pub ordered: Moment,
    /// What it is at, or what it came to, in a sentence.
    pub words: String,
    pub failure: Option<String>,
}

#[derive(Debug)]
struct RehearsalShown {
    badge: Badge,
    verdict: String,
    took: String,
}

#[derive(Debug)]
struct Console {
    text: String,
    is_cut: bool,
    href: String,
}

#[derive(Debug)]
struct ChangeRow {
    what: Badge,
    path: String,
    why: String,
    step: String,
    before: Option<String>,
    after: Option<String>,
    diff: Vec<DiffLine>,
    /// Instead of a diff.
    left_out: Option<String>,
}

#[derive(Debug)]
struct DiffLine {
    class: &'static str,
    text: String,
}

#[derive(Debug)]
struct File {
    href: String,
    name: &'static str,
    what: &'static str,
}

pub async fn page(
    visit: Visit,
    Path((id, job)): Path<(SourceServerId, JobId)>,
) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let server = store.server(&id).await?;
    let conversion = found(store.conversion(&job, &id).await?, &job)?;
    let artifacts = store.artifact_list(&job, &id).await?;
    let console = store.artifact(&job, &id, Artifact::Console).await?;
    let list = store.artifact(&job, &id, Artifact::ChangeList).await?;
    let href = |document: Document| format!("{}/{}", address(&conversion), document.name());
    let (changes, no_changes) = match list {
        None => (
            Vec::new(),
            Some(t!("The list comes when the runner has converted the disks.")),
        ),
        Some(list) => rows(&list),
    };
    let page = ConversionPage {
        shell: visit.shell(
            t!("Conversion of {server}", server = server.known_as()),
            Section::Servers,
            format!("/events?server={id}"),
        ),
        server: id.to_string(),
        name: server.known_as().to_owned(),
        subject: t!(
            "Checkpoint {number} of {server}, made fit to boot as an instance",
            number = conversion.order.checkpoint,
            server = server.known_as()
        ),
        job: job.to_string(),
        summary: summary(&conversion),
        facts: facts(&conversion),
        rehearsal: rehearsal(conversion.state.as_ref()).map(|rehearsal| RehearsalShown {
            badge: badge::rehearsal(rehearsal.came_up),
            verdict: rehearsal.verdict.clone(),
            took: t!(
                "{time} on {accelerator}",
                time = text::span(i64::try_from(rehearsal.milliseconds).unwrap_or(i64::MAX)),
                accelerator = rehearsal.accelerator
            ),
        }),
        console: console.map(|console| Console {
            is_cut: console.len() > CONSOLE_SHOWN,
            text: end_of(&console),
            href: href(Document::Console),
        }),
        screenshot: artifacts
            .contains(&Artifact::Screenshot)
            .then(|| href(Document::Screenshot)),
        changes,
        no_changes,
        files: FILES
            .into_iter()
            .filter(|(document, _)| artifacts.contains(&document.artifact()))
            .map(|(document, what)| File {
                href: href(document),
                name: document.name(),
                what: translated_static(what),
            })
            .collect(),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

const FILES: [(Document, &str); 4] = [
    (Document::Text, mark!("the list, to be read")),
    (Document::Changes, mark!("the list as the runner signed it")),
    (Document::Signature, mark!("the signature over that")),
    (Document::Certificate, mark!("the runner's certificate")),
];

/// A document of a conversion, as it is.
pub async fn document(
    session: Session,
    Path((id, job, name)): Path<(SourceServerId, JobId, String)>,
) -> Result<Response, PageError> {
    let lacks = || PageError::NotFound(t!("The document “{name}”", name));
    let document = Document::by_name(&name).ok_or_else(lacks)?;
    let contents = document.load(&session.store, &job, &id).await?;
    Ok(document.answer(contents.ok_or_else(lacks)?))
}

fn found(conversion: Option<Model>, job: &JobId) -> Result<Model, PageError> {
    conversion.ok_or_else(|| PageError::NotFound(t!("A conversion by job {job}", job)))
}

pub fn address(conversion: &Model) -> String {
    format!("/servers/{}/conversions/{}", conversion.server, conversion.job)
}

pub fn summary(conversion: &Model) -> Summary {
    let (words, failure) = match conversion.state.as_ref() {
        Some(ConversionState::Done(converted)) => {
            let changes = n!(u64::from(converted.changes), "{n} change", "{n} changes");
            let took = text::span(i64::try_from(converted.milliseconds).unwrap_or(i64::MAX));
            (t!("{changes} in {took}.", changes, took), None)
        }
        Some(ConversionState::Failed { step, detail, .. }) => (
            t!("It failed at “{step}”. The checkpoint is as it was.", step),
            Some(detail.clone()),
        ),
        _ if !conversion.wanted => (t!("The job ended before the runner was done.").into(), None),
        Some(ConversionState::Running { step }) => (t!("The runner is at “{step}”.", step), None),
        Some(ConversionState::Waiting) => (t!("The runner converts others first.").into(), None),
        None => (t!("The runner has not taken it up yet.").into(), None),
    };
    Summary {
        href: address(conversion),
        job: conversion.job.to_string(),
        checkpoint: conversion.order.checkpoint.to_string(),
        badge: badge::conversion(conversion.state.as_ref(), conversion.wanted),
        ordered: text::moment(conversion.ordered_at),
        words,
        failure,
    }
}

fn facts(conversion: &Model) -> Vec<Pair> {
    let pair = |label, value: String| Pair { label, value };
    let order = &conversion.order;
    let mut facts = vec![
        pair(
            t!("Checkpoint"),
            t!("No. {checkpoint}", checkpoint = order.checkpoint),
        ),
        pair(t!("Ordered"), text::moment(conversion.ordered_at).text),
        pair(t!("Boots by"), badge::boot_mode(order.boot_mode).1.into()),
        pair(
            t!("Drivers for"),
            match order.hypervisor {
                Hypervisor::Nitro => t!("Nitro: NVMe and ENA").into(),
                Hypervisor::Xen => t!("Xen").into(),
            },
        ),
        pair(
            t!("Network"),
            match order.network {
                Network::Dhcp => t!("by DHCP").into(),
                Network::Keep => t!("the source's addresses").into(),
            },
        ),
    ];
    if let Some(ended) = conversion.ended_at {
        facts.push(pair(t!("Ended"), text::moment(ended).text));
    }
    if let Some(ConversionState::Done(converted)) = conversion.state.as_ref() {
        facts.push(pair(t!("Read"), text::bytes(converted.bytes_read)));
        facts.push(pair(t!("Written"), text::bytes(converted.bytes_written)));
    }
    facts
}

fn rehearsal(state: Option<&ConversionState>) -> Option<&Rehearsal> {
    match state? {
        ConversionState::Done(converted) => converted.rehearsal.as_ref(),
        ConversionState::Failed { rehearsal, .. } => rehearsal.as_ref(),
        ConversionState::Waiting | ConversionState::Running { .. } => None,
    }
}

fn rows(artifact: &[u8]) -> (Vec<ChangeRow>, Option<&'static str>) {
    if artifact.len() > SHOWN_LEN_MAX {
        let long = t!("The list is too long for a page. Download it to read it.");
        return (Vec::new(), Some(long));
    }
    let signed = serde_json::from_slice::<SignedChangeList>(artifact);
    match signed.and_then(|signed| signed.list()) {
        Ok(list) if list.changes.is_empty() => (
            Vec::new(),
            Some(t!("Nothing had to be changed: the disks boot as they are.")),
        ),
        Ok(list) => (list.changes.into_iter().map(row).collect(), None),
        Err(_) => (
            Vec::new(),
            Some(t!("This hub cannot read the list. Download it to read it.")),
        ),
    }
}

fn row(change: Change) -> ChangeRow {
    let (before, after) = change.what.states();
    let (before, after) = (before.map(Found::to_string), after.map(Found::to_string));
    let (diff, left_out) = match &change.diff {
        Some(Diff::Text { unified }) => (unified.lines().map(line).collect(), None),
        Some(Diff::LeftOut { because }) => (Vec::new(), Some(because.clone())),
        None => (Vec::new(), None),
    };
    ChangeRow {
        what: badge::change(change.what.name()),
        before,
        after,
        diff,
        left_out,
        path: change.path,
        why: change.why,
        step: change.step,
    }
}

fn line(text: &str) -> DiffLine {
    let class = match text.as_bytes().first() {
        Some(b'+') => "added",
        Some(b'-') => "removed",
        Some(b'@') => "place",
        _ => "",
    };
    DiffLine {
        class,
        text: text.to_owned(),
    }
}

/// Terminals of machines speak of more than text, and only that is kept.
pub fn end_of(console: &[u8]) -> String {
    let start = console.len().saturating_sub(CONSOLE_SHOWN);
    let text = String::from_utf8_lossy(&console[start..]);
    let is_shown = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(is_shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_console_is_text() {
        assert_eq!(end_of(b"a\r\n\x1b[2Jb\xff\tc"), "a\n[2Jb\u{fffd}\tc");
        let long = [vec![b'a'; CONSOLE_SHOWN], b"end".to_vec()].concat();
        let shown = end_of(&long);
        assert_eq!(shown.len(), CONSOLE_SHOWN);
        assert!(shown.ends_with("aend"));
    }
}
