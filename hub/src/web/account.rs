//! The page of an account: access to it, its runners, servers, resources and certificates.

use crate::{language::filters, t};
use std::collections::HashSet;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::ids::{AccountId, RunnerId, SourceServerId};
use identity::Role;

use super::{
    Web,
    actions::AskPage,
    badge::{self, Badge},
    holdings,
    overview::is_silent,
    readiness,
    server::{ResourceRow, resource_row},
    servers::{self, ListColumn, ServerRow},
    session::Session,
    settings::templates,
    silence,
    text::{self, Moment},
    visit::{Flash, PageError, Part, Section, Shell, Visit},
};
use crate::{
    actions::{ActionError, machines},
    clock::now_ms,
    entities::{runner, user::UserRole},
    store::pages::{HeldCertificate, ServerSearch},
};

/// Longer lists are for the page of source servers, which filters and sorts.
const SERVERS_MAX: u64 = 100;
const RESOURCES_MAX: u64 = 200;

#[derive(Debug, Template)]
#[template(path = "account/page.html", blocks = ["live"])]
struct AccountPage {
    shell: Shell,
    id: String,
    name: String,
    region: String,
    organization: String,
    reach: String,
    checked: String,
    access: Badge,
    problem: Option<Problem>,
    silences: Vec<String>,
    networks: Vec<readiness::Network>,
    check_network: Option<String>,
    holdings: Vec<holdings::Holding>,
    holdings_title: &'static str,
    check_holdings: Option<String>,
    enrol: Option<String>,
    server_count: u64,
    more_servers: Option<String>,
    columns: Vec<ListColumn>,
    rows: Vec<ServerRow>,
    runners: Vec<RunnerRow>,
    templates: [templates::Source; 2],
    resources: Vec<ResourceRow>,
    certificates: Vec<CertificateRow>,
}

#[derive(Debug)]
struct Problem {
    title: String,
    remedy: String,
}

#[derive(Debug)]
struct RunnerRow {
    id: String,
    state: Badge,
    address: String,
    ports: String,
    seen: String,
    room: String,
    version: String,
}

#[derive(Debug)]
struct CertificateRow {
    machine: String,
    subject: String,
    state: Badge,
    issued: Moment,
    serial: String,
    revoke: Option<String>,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<AccountId>,
) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let account = store.account(&id).await?;
    let organization = store.organization(&account.organization).await?;
    let search = ServerSearch {
        account: Some(id.clone()),
        ..ServerSearch::default()
    };
    let servers = store.server_search(&search, 0, SERVERS_MAX).await?;
    let runners = store.runners_in(&id).await?;
    let certificates = store.certificates_in(&id).await?;
    let networks = store.readiness_of(&id).await?;
    let resources = store.ledger_in(&id, RESOURCES_MAX).await?;
    let now = now_ms();
    let holdings = holdings::of_account(&web.hub.prices, store, &id, None, now).await?;
    let resources = resources
        .iter()
        .map(|row| resource_row(row, &holdings, &web.hub.prices))
        .collect();
    let rights = visit.session.rights_in(&id).await?;
    let operates = rights.may(UserRole::Operator);
    let revoked: HashSet<&str> = certificates
        .iter()
        .filter(|held| held.revoked_at.is_some())
        .map(|held| held.serial.as_str())
        .collect();
    let administers = rights.may(UserRole::Administrator);
    let page = AccountPage {
        shell: visit.shell(&account.name, Section::Overview, format!("/events?account={id}")),
        reach: format!("{}, {}", organization.name, badge::reach(organization.reach.0)),
        organization: organization.name,
        checked: match account.checked_at {
            Some(at) => t!("access checked {ago}", ago = text::ago(at, now)),
            None => t!("access not checked yet").into(),
        },
        access: badge::access(&account.access),
        problem: badge::access_problem(&account.access).map(|(title, remedy)| Problem { title, remedy }),
        silences: silence::all(&runners, &servers.rows, now),
        networks: networks
            .into_iter()
            .map(|row| readiness::network(row, now))
            .collect(),
        check_network: operates.then(|| format!("/accounts/{id}/network/check")),
        holdings,
        holdings_title: t!("What the account has of ours"),
        check_holdings: operates.then(|| format!("/accounts/{id}/resources/check")),
        enrol: administers.then(|| format!("/accounts/{id}/enrol")),
        server_count: servers.total,
        more_servers: (servers.total > 1).then(|| format!("/servers?account={id}")),
        columns: servers::plain_columns(),
        rows: servers
            .rows
            .iter()
            .map(|server| servers::row(server, None, now))
            .collect(),
        runners: runners
            .iter()
            .map(|runner| runner_row(runner, revoked.contains(runner.certificate_serial.as_str()), now))
            .collect(),
        templates: templates::of_account(&visit, &account).await?,
        resources,
        certificates: certificates
            .iter()
            .map(|held| certificate_row(held, &id, administers))
            .collect(),
        name: account.name,
        region: account.region,
        id: id.to_string(),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

fn runner_row(runner: &runner::Model, revoked: bool, now: i64) -> RunnerRow {
    RunnerRow {
        id: runner.id.to_string(),
        state: badge::runner(!is_silent(runner, now), revoked),
        address: runner.address.clone(),
        ports: t!(
            "data {data_port}, enrolment {enrol_port}",
            data_port = runner.data_port,
            enrol_port = runner.enrol_port
        ),
        seen: runner
            .last_seen
            .map_or_else(|| t!("never").into(), |seen| text::ago(seen, now)),
        room: runner.staging_free.map_or_else(
            || t!("unbounded").into(),
            |free| text::bytes(free.max(0).cast_unsigned()),
        ),
        version: runner.version.clone(),
    }
}

fn certificate_row(held: &HeldCertificate, account: &AccountId, administers: bool) -> CertificateRow {
    let machine = held.subject.rsplit('/').next().unwrap_or_default();
    let is_valid = held.revoked_at.is_none();
    CertificateRow {
        machine: held.name.clone().unwrap_or_else(|| t!("Runner").into()),
        subject: machine.to_owned(),
        state: badge::certificate(!is_valid),
        issued: text::moment(held.issued_at),
        serial: held.serial.clone(),
        revoke: (is_valid && administers).then(|| format!("/accounts/{account}/revoke/{machine}")),
    }
}

/// A machine of the account that holds certificates.
struct Machine {
    role: Role,
    name: String,
    consequence: &'static str,
}

/// For who administers the account.
async fn machine(session: &Session, account: &AccountId, id: &str) -> Result<Machine, PageError> {
    session
        .rights_in(account)
        .await?
        .require(UserRole::Administrator)?;
    let store = &session.store;
    let not_here = || PageError::NotFound(t!("Machine {id} in account {account}", id, account));
    if let Ok(server) = id.parse::<SourceServerId>() {
        let server = store.server(&server).await?;
        if server.account.0 != *account {
            return Err(not_here());
        }
        return Ok(Machine {
            name: t!("the agent on {server}", server = server.known_as()),
            role: Role::Agent(server.id.0),
            consequence: t!(
                "Its connection to the runner ends within seconds, and it cannot replicate any more."
            ),
        });
    }
    let runner: RunnerId = id.parse().map_err(|_| not_here())?;
    let runner = store.runner(&runner).await?;
    if runner.account.0 != *account {
        return Err(not_here());
    }
    Ok(Machine {
        name: t!("the runner at {address}", address = runner.address),
        role: Role::Runner(runner.id.0),
        consequence: t!(
            "It cannot report to the hub any more, and replication through it cannot be steered."
        ),
    })
}

pub async fn ask_revoke(
    visit: Visit,
    Path((account, id)): Path<(AccountId, String)>,
) -> Result<Response, PageError> {
    let machine = machine(&visit.session, &account, &id).await?;
    let title = t!("Revoke the certificate of {name}", name = machine.name);
    let page = AskPage {
        shell: visit.shell(
            title.clone(),
            Section::Overview,
            format!("/events?account={account}"),
        ),
        action: format!("/accounts/{account}/revoke/{id}"),
        title,
        summary: t!("Do this when the machine's key may be in other hands, or the machine is gone.").into(),
        does: vec![machine.consequence.into()],
        keeps: vec![
            t!("The source server and its disks").into(),
            t!("Checkpoints made so far, which can be launched").into(),
        ],
        caution: Some(
            t!("It cannot be taken back: to go on, enrol the machine anew with a new token.").into(),
        ),
        blocking: Vec::new(),
        foreseen: None,
        removal: None,
        accept_older: None,
        back: format!("/accounts/{account}"),
        confirm: t!("Revoke certificate"),
        tone: "danger",
    };
    page.answer(&visit)
}

pub async fn revoke(
    State(web): State<Web>,
    session: Session,
    Path((account, id)): Path<(AccountId, String)>,
) -> Result<Response, PageError> {
    let machine = machine(&session, &account, &id).await?;
    let revoked = match &machine.role {
        Role::Agent(server) => machines::revoke_server(&web.hub, &session.actor, server).await,
        Role::Runner(runner) => machines::revoke_runner(&web.hub, &session.actor, runner).await,
        Role::Hub => Err(ActionError::Invalid(
            t!("the hub's own certificate is not revoked here").into(),
        )),
    };
    let flash = match revoked {
        Ok(()) => Flash::good(t!("The certificate of {name} is revoked.", name = machine.name)),
        Err(error) => Flash::bad(t!("Nothing was revoked: {error}.", error)),
    };
    Ok(flash.show_at(&format!("/accounts/{account}")))
}
