//! The page of a source server: where it stands, what to do next, and everything that is known of it.

use crate::{language::filters, t};
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use domain::{
    checkpoint::{CheckpointKind, Consistency},
    disk::DiskId,
    ids::SourceServerId,
    launch::Purpose,
    lifecycle::Lifecycle,
    replication::{Replication, StepStatus},
};
use serde::Deserialize;

use super::{
    Web,
    action::Action,
    badge::{self, Badge},
    conversion,
    holdings::{self, Holding},
    orders,
    overview::{Fact, fact},
    servers,
    session::Rights,
    text::{self, Bar, Moment},
    visit::{PageError, Part, Section, Shell, Visit},
};
use crate::{
    clock::now_ms,
    entities::{
        checkpoint, ledger,
        source_server::{Launch, Model, is_untracked},
        user::UserRole,
    },
    resources::prices::Prices,
    store::pages::Participant,
};

mod charts;
mod details;
mod flow;
mod journey;
mod readiness;
mod settings;

pub use details::Pair;
pub use journey::next_in_short;
pub use readiness::blocking;

const JOBS_MAX: u64 = 20;

/// Characters of a device name; `/dev/mapper/vg0-root` has 20.
const DEVICE_SHOWN: usize = 24;

#[derive(Debug, Template)]
#[template(path = "server/page.html", blocks = ["live"])]
struct ServerPage {
    shell: Shell,
    id: String,
    name: String,
    os: String,
    user_provided_id: Option<String>,
    account_id: String,
    account_name: String,
    lifecycle: Badge,
    replication: Badge,
    stall: Option<StallNotice>,
    journey: Vec<journey::Stage>,
    next: journey::NextStep,
    menu: Vec<ActionLink>,
    facts: Vec<Fact>,
    flow: Vec<Fact>,
    outlook: Option<flow::Outlook>,
    charts: Option<charts::Charts>,
    initiation: Vec<Step>,
    disks: Vec<DiskRow>,
    no_disks_title: &'static str,
    no_disks_text: &'static str,
    checkpoints: Vec<CheckpointRow>,
    no_checkpoints_title: &'static str,
    no_checkpoints_text: &'static str,
    readiness: Option<readiness::Card>,
    conversion: Option<conversion::Summary>,
    instances: Vec<InstanceRow>,
    resources: Vec<ResourceRow>,
    holdings: Vec<Holding>,
    holdings_title: &'static str,
    check_holdings: Option<String>,
    jobs: Vec<JobRow>,
    settings: [settings::Card; 2],
    properties: Vec<Pair>,
    interfaces: Vec<details::Interface>,
}

#[derive(Debug)]
struct StallNotice {
    title: &'static str,
    error: &'static str,
    detail: String,
    remedy: Option<&'static str>,
}

#[derive(Debug)]
pub struct ActionLink {
    pub href: String,
    pub label: &'static str,
    /// Of the item: whether a line sets it apart.
    pub class: &'static str,
    pub tone: &'static str,
}

/// A line of a checklist.
#[derive(Debug)]
pub struct Step {
    pub class: &'static str,
    pub mark: &'static str,
    pub label: String,
    pub status: &'static str,
    pub note: Option<String>,
}

#[derive(Debug)]
struct DiskRow {
    id: String,
    /// Shortened; `device_name` is all of it.
    device: String,
    device_name: String,
    is_boot: bool,
    bar: Bar,
    done: String,
    size: String,
    backlog: String,
    rescanned: String,
    found: flow::Found,
}

#[derive(Debug)]
struct CheckpointRow {
    number: i64,
    kind: Badge,
    /// Why it cannot be launched, though it once could.
    damage: Option<String>,
    consistency: Badge,
    frozen: Option<String>,
    taken: Moment,
    age: String,
    size: String,
    received: String,
    pinned_by: Option<String>,
    disks: Vec<CheckpointDisk>,
}

#[derive(Debug)]
struct CheckpointDisk {
    device: String,
    size: String,
    root: String,
}

#[derive(Debug)]
struct InstanceRow {
    id: String,
    /// As addresses have it.
    purpose: &'static str,
    made_for: &'static str,
    at: Moment,
    /// Its number, and how consistent it is.
    checkpoint: String,
    checkpoint_age: String,
    job: String,
}

/// A line of the ledger.
#[derive(Debug)]
pub struct ResourceRow {
    pub id: String,
    pub kind: &'static str,
    pub state: Badge,
    pub month: Option<String>,
    pub job: String,
    pub purpose: String,
    pub since: Moment,
}

#[derive(Debug)]
struct JobRow {
    id: String,
    title: &'static str,
    status: Badge,
    at: Moment,
    by: String,
}

/// Which part of the trend is drawn: `day` or `month`.
#[derive(Debug, Deserialize)]
pub struct Shown {
    #[serde(default)]
    trend: String,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<SourceServerId>,
    Query(shown): Query<Shown>,
) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let server = store.server(&id).await?;
    let account = store.account(&server.account).await?;
    let checkpoints = store.checkpoint_list(&id).await?;
    let ledger = store.ledger_of_server(&id).await?;
    let jobs = store.participations(&id, JOBS_MAX).await?;
    let conversion = store.conversion_of(&id).await?;
    let now = now_ms();
    let holdings = holdings::of_account(&web.hub.prices, store, &account.id, Some(&id), now).await?;
    let rights = visit.session.rights_in(&account.id).await?;
    let next = journey::next_step(&server, rights);
    let (no_checkpoints_title, no_checkpoints_text) = no_checkpoints(&server);
    let (no_disks_title, no_disks_text) = no_disks(&server);
    let may_edit = rights.may(UserRole::Operator) && !server.lifecycle.is_final();
    let page = ServerPage {
        shell: visit.shell(
            server.known_as(),
            Section::Servers,
            format!("/events?server={id}"),
        ),
        menu: menu(&server, rights, next.action),
        next,
        journey: journey::stages(&server.lifecycle),
        account_id: account.id.to_string(),
        account_name: account.name.clone(),
        os: server.properties.os.clone(),
        user_provided_id: server.user_provided_id.clone(),
        lifecycle: badge::lifecycle(&server.lifecycle_name),
        replication: badge::replication(&server.replication_name),
        stall: match &server.replication.0 {
            Replication::Stalled(stall) if !server.lifecycle.is_final() => Some(StallNotice {
                title: badge::replication_error(stall.error),
                error: stall.error.name(),
                detail: stall.detail.clone(),
                remedy: badge::replication_remedy(stall.error),
            }),
            _ => None,
        },
        facts: facts(&server, &checkpoints, now),
        flow: server.flow_at(now).map(flow::facts).unwrap_or_default(),
        outlook: server.flow_at(now).and_then(flow::outlook),
        charts: charts::charts(store.trend(&id).await?.points(), shown.trend == "month", now),
        initiation: initiation(&server.replication),
        disks: disks(&server),
        no_disks_title,
        no_disks_text,
        checkpoints: checkpoints
            .iter()
            .rev()
            .map(|row| checkpoint_row(row, now))
            .collect(),
        no_checkpoints_title,
        no_checkpoints_text,
        readiness: readiness::card(&server, now),
        conversion: conversion.as_ref().map(conversion::summary),
        instances: instances(&server),
        resources: ledger
            .iter()
            .rev()
            .map(|row| resource_row(row, &holdings, &web.hub.prices))
            .collect(),
        holdings,
        holdings_title: t!("What the account has of this server"),
        check_holdings: rights
            .may(UserRole::Operator)
            .then(|| format!("/servers/{id}/resources/check")),
        jobs: jobs.iter().map(job_row).collect(),
        settings: settings::cards(store, &server, &account, may_edit).await?,
        properties: details::properties(&server, now),
        interfaces: details::interfaces(&server.properties),
        name: server.known_as().to_owned(),
        id: id.to_string(),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

/// Where an action on a server is asked for.
pub fn action_href(server: &SourceServerId, action: Action) -> String {
    format!("/servers/{server}/actions/{}", action.slug())
}

/// The actions that are possible beside the next step, those that take something away last and apart.
fn menu(server: &Model, rights: Rights, next: Option<Action>) -> Vec<ActionLink> {
    let allowed =
        |action: &Action| Some(*action) != next && rights.may(action.needs()) && action.is_possible(server);
    let (harmless, destructive): (Vec<_>, Vec<_>) = Action::ALL
        .into_iter()
        .filter(allowed)
        .partition(|action| !action.is_destructive());
    let has_both = !harmless.is_empty();
    let link = |action: Action, apart: bool| ActionLink {
        href: action_href(&server.id, action),
        label: action.label(),
        class: if apart { "apart" } else { "" },
        tone: if action.is_destructive() { "danger" } else { "" },
    };
    let last = destructive
        .into_iter()
        .enumerate()
        .map(|(index, action)| link(action, index == 0 && has_both));
    harmless
        .into_iter()
        .map(|action| link(action, false))
        .chain(last)
        .collect()
}

fn facts(server: &Model, checkpoints: &[checkpoint::Model], now: i64) -> Vec<Fact> {
    if server.lifecycle.is_final() {
        return Vec::new();
    }
    let (done, whole) = servers::progress(&server.disks);
    let sum = |of: fn(&domain::disk::DiskProgress) -> u64| server.disks.iter().map(of).sum::<u64>();
    let lag = server.lag_ms(now);
    // What is written while nobody looks at the disks one by one is in the flow alone.
    let waiting = server.flow_at(now).map_or(0, |flow| flow.backlog_bytes);
    let last = checkpoints
        .iter()
        .rev()
        .find(|row| row.kind.0 == CheckpointKind::Launchable && row.damage.is_none());
    vec![
        Fact {
            class: servers::lag_class(server, lag),
            ..fact(t!("Lag"), lag.map_or_else(|| "–".into(), text::span))
        },
        fact(t!("Replicated"), text::bar(done, whole, "", "").percent),
        Fact {
            note: Some(t!("of {size}", size = text::bytes(whole))),
            ..fact(t!("Held by the runner"), text::bytes(done))
        },
        fact(
            t!("Backlog"),
            text::bytes(sum(|disk| disk.backlogged_bytes).max(waiting)),
        ),
        fact(
            t!("Last launchable checkpoint"),
            last.map_or_else(|| t!("none yet").into(), |row| text::ago(row.taken_at, now)),
        ),
    ]
}

/// What a person could change about how a server replicates, and why they should.
pub fn concern_in_words(server: &Model) -> String {
    if let Some(outlook) = flow::outlook(&server.flow).filter(|_| server.diverges) {
        return format!("{} {}", outlook.title, outlook.text);
    }
    let untracked = server
        .disks
        .iter()
        .filter(|disk| is_untracked(std::slice::from_ref(disk)));
    let each: Vec<_> = untracked
        .map(|disk| {
            let found = flow::found(disk.tracking.as_ref());
            t!(
                "{disk} is compared for each checkpoint. {note}.",
                disk = disk.device_name,
                note = found.note
            )
        })
        .collect();
    each.join(" ")
}

/// The steps of the initiation, while they matter.
fn initiation(replication: &Replication) -> Vec<Step> {
    let begins = match replication {
        Replication::Initiating(_) => true,
        Replication::Stalled(stall) => stall.step.is_some(),
        _ => false,
    };
    if !begins {
        return Vec::new();
    }
    let steps = replication.initiation().into_iter();
    steps
        .filter(|(_, status)| *status != StepStatus::Skipped)
        .map(|(step, status)| {
            let (class, mark, status) = badge::step_status(status);
            Step {
                class,
                mark,
                label: badge::initiation_step(step).into(),
                status,
                note: None,
            }
        })
        .collect()
}

fn disks(server: &Model) -> Vec<DiskRow> {
    let is_boot = |id: &DiskId| {
        server
            .properties
            .disks
            .iter()
            .any(|disk| disk.id == *id && disk.is_boot)
    };
    let rescans = matches!(server.replication.0, Replication::Rescan);
    server
        .disks
        .iter()
        .map(|disk| DiskRow {
            bar: servers::disk_bar(
                server,
                disk.replicated_bytes,
                disk.total_bytes,
                &t!("{disk} replicated", disk = disk.device_name),
            ),
            id: disk.id.to_string(),
            device: text::tail(&disk.device_name, DEVICE_SHOWN),
            device_name: disk.device_name.clone(),
            is_boot: is_boot(&disk.id),
            done: text::bytes(disk.replicated_bytes),
            size: text::bytes(disk.total_bytes),
            backlog: match disk.backlogged_bytes {
                0 => "–".into(),
                bytes => text::bytes(bytes),
            },
            rescanned: if rescans {
                text::bytes(disk.rescanned_bytes)
            } else {
                "–".into()
            },
            found: flow::found(disk.tracking.as_ref()),
        })
        .collect()
}

fn checkpoint_row(row: &checkpoint::Model, now: i64) -> CheckpointRow {
    CheckpointRow {
        number: row.number,
        kind: match row.damage {
            Some(_) => badge::damaged(),
            None => badge::kind(row.kind.0),
        },
        damage: row.damage.clone(),
        consistency: badge::consistency(row.consistency.0),
        frozen: (row.consistency.0 == Consistency::Filesystem).then(|| {
            t!(
                "for {time} ms",
                time = text::grouped(row.frozen_ms.max(0).cast_unsigned().into())
            )
        }),
        taken: text::moment(row.taken_at),
        age: text::ago(row.taken_at, now),
        size: text::bytes(row.disks.iter().map(|disk| disk.bytes).sum()),
        received: text::bytes(row.received_bytes.max(0).cast_unsigned()),
        pinned_by: row.pinned_by.as_ref().map(ToString::to_string),
        disks: row
            .disks
            .iter()
            .map(|disk| CheckpointDisk {
                device: text::tail(&disk.device_name, DEVICE_SHOWN / 2),
                size: text::bytes(disk.bytes),
                root: disk.root.to_string(),
            })
            .collect(),
    }
}

fn no_disks(server: &Model) -> (&'static str, &'static str) {
    match server.lifecycle.0 {
        Lifecycle::Cutover { .. } | Lifecycle::Disconnected { .. } => (
            t!("Replication is over"),
            t!(
                "The agent has removed itself from the source, and the runner holds nothing of its disks any more."
            ),
        ),
        _ => (
            t!("No disks reported yet"),
            t!(
                "The agent names its disks when it connects to the runner. If this lasts, check that the path from the source to the runner's data port is open, TCP 1500 unless it was started with another."
            ),
        ),
    }
}

fn no_checkpoints(server: &Model) -> (&'static str, &'static str) {
    match server.lifecycle.0 {
        Lifecycle::Cutover { .. } | Lifecycle::Disconnected { .. } => (
            t!("No checkpoints are kept"),
            t!(
                "Replication is over, and the checkpoints were deleted with everything else that was only needed on the way."
            ),
        ),
        _ => (
            t!("No checkpoint yet"),
            t!(
                "The first one is made when all disks are copied. From then on one is made on schedule, and whenever a launch asks for one; the newest are kept."
            ),
        ),
    }
}

fn instances(server: &Model) -> Vec<InstanceRow> {
    let row = |purpose: Purpose, launch: &Launch| InstanceRow {
        id: launch.instance.clone(),
        purpose: purpose.name(),
        made_for: badge::purpose(purpose),
        at: text::moment(launch.at),
        checkpoint: t!(
            "No. {number}, {consistency}",
            number = launch.checkpoint,
            consistency = badge::consistency(launch.consistency).label.to_lowercase()
        ),
        checkpoint_age: t!(
            "taken {time} before the launch",
            time = text::span(launch.at - launch.taken_at)
        ),
        job: launch.job.to_string(),
    };
    let test = server.test_launch.iter().map(|launch| row(Purpose::Test, launch));
    let cutover = server
        .cutover_launch
        .iter()
        .map(|launch| row(Purpose::Cutover, launch));
    test.chain(cutover).collect()
}

pub fn resource_row(row: &ledger::Model, holdings: &[Holding], prices: &Prices) -> ResourceRow {
    ResourceRow {
        month: holdings::month_of(row, holdings, prices),
        id: row.resource.clone().unwrap_or_else(|| t!("not known yet").into()),
        kind: badge::resource(*row.kind),
        state: badge::ledger(row.state.0),
        job: row.job.to_string(),
        purpose: orders::words(&row.step),
        since: text::moment(row.ended_at.or(row.present_at).unwrap_or(row.wanted_at)),
    }
}

fn job_row(part: &Participant) -> JobRow {
    JobRow {
        id: part.job.to_string(),
        title: badge::job_title(part.initiated_by.0),
        status: badge::launch(&part.status, part.initiated_by.0),
        at: text::moment(part.created_at),
        by: part.created_by.clone(),
    }
}
