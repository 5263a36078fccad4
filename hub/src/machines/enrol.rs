//! Enrolment: a one-time token and a signing request become a certificate.
//!
//! A token is used up by the first machine that shows it. The same machine, known by its key, may show
//! it again until it expires: its first answer may have been lost on the way.

use axum::http::StatusCode;
use domain::{
    digest::Digest,
    ids::{RunnerId, SourceServerId},
    lifecycle::{Event, Lifecycle},
    replication::{Initiation, InitiationStep, Replication},
};
use identity::{Role, authority::Signed};
use protocol::enrol::{AgentEnrolment, Applicant, EnrolledAgent, EnrolledRunner, RunnerEnrolment};
use sea_orm::ActiveValue::Set;

use super::{ArrivedAt, Refusal};
use crate::{
    Hub,
    changes::Change,
    clock::now_ms,
    entities::{
        Doc, Word, account, runner, source_server,
        token::{self, TokenPurpose},
    },
    secrets::sha256_hex,
    store::{StoreError, Write, servers::ServerFilter},
};

/// MGN takes no longer texts either.
const USER_PROVIDED_ID_MAX: usize = 256;
const TAGS_MAX: usize = 50;

pub async fn runner(
    hub: &Hub,
    at: Option<ArrivedAt>,
    request: RunnerEnrolment,
) -> Result<EnrolledRunner, Refusal> {
    let mut tx = hub.store.begin().await?;
    let admitted = admit(&tx, TokenPurpose::Runner, &request.token_secret, &request.csr_pem).await?;
    let account = tx.account(&admitted.token.account).await?;
    let again: Option<RunnerId> = admitted.used_by();
    let applicant = Applicant {
        csr_pem: request.csr_pem,
        runner_version: request.runner_version,
        address: request.address,
        data_port: request.data_port,
        enrol_port: request.enrol_port,
    };
    let enrolled = certify(hub, &mut tx, &account, again, &applicant, at).await?;
    let id = &enrolled.runner;
    tx.token_used(&admitted.token.sha256, id.to_string(), admitted.key_sha256)
        .await?;
    tx.audit_done(
        admitted.token.created_by.as_str(),
        "enrol runner",
        id.as_str(),
        "",
    )
    .await?;
    tx.commit().await?;
    tracing::info!(runner.id = %id, account = %account.id, "runner {id} enrolled in account {}", account.id);
    Ok(enrolled)
}

/// Signs the key of an account's runner: of the one that there is, which then has no other certificate, or of a new one.
pub async fn certify(
    hub: &Hub,
    tx: &mut Write,
    account: &account::Model,
    again: Option<RunnerId>,
    applicant: &Applicant,
    at: Option<ArrivedAt>,
) -> Result<EnrolledRunner, Refusal> {
    let hub_address = at.map(|ArrivedAt(at)| at.to_string());
    let is_new = again.is_none();
    let id = again.unwrap_or_else(|| RunnerId::from_entropy(rand::random()));
    let role = Role::Runner(id.clone());
    // Whoever has an older key is the machine that this one comes in place of.
    tx.certificates_revoke(&role.uri(), "enrolled anew").await?;
    let signed = sign(hub, tx, &applicant.csr_pem, &role).await?;
    if is_new {
        tx.runner_insert(runner::Model {
            id: Word(id.clone()),
            account: account.id.clone(),
            region: account.region.clone(),
            address: applicant.address.clone(),
            hub_address,
            data_port: i32::from(applicant.data_port),
            enrol_port: i32::from(applicant.enrol_port),
            version: applicant.runner_version.clone(),
            certificate_serial: signed.serial,
            last_seen: None,
            staging_free: None,
            desired_generation: 1,
            observed_generation: 0,
            created_at: now_ms(),
        })
        .await?;
    } else {
        let row = runner::ActiveModel {
            id: Set(Word(id.clone())),
            version: Set(applicant.runner_version.clone()),
            address: Set(applicant.address.clone()),
            hub_address: Set(hub_address),
            data_port: Set(i32::from(applicant.data_port)),
            enrol_port: Set(i32::from(applicant.enrol_port)),
            certificate_serial: Set(signed.serial),
            ..Default::default()
        };
        let change = Change::Runner {
            runner: id.clone(),
            account: account.id.0.clone(),
        };
        tx.runner_update(row, change).await?;
    }
    Ok(EnrolledRunner {
        runner: id,
        account: account.id.0.clone(),
        region: account.region.clone(),
        certificate_pem: signed.certificate_pem,
        ca_pem: hub.pki.authority.certificate_pem().to_owned(),
    })
}

pub async fn agent(hub: &Hub, via: &RunnerId, request: AgentEnrolment) -> Result<EnrolledAgent, Refusal> {
    check(&request)?;
    let mut tx = hub.store.begin().await?;
    let via = tx.runner(via).await?;
    let admitted = admit(&tx, TokenPurpose::Agent, &request.token_secret, &request.csr_pem).await?;
    if admitted.token.account != via.account {
        let message = format!(
            "the token is for account {}, and this runner belongs to account {}: use the address of a runner \
             there, or a token for this account",
            admitted.token.account, via.account
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, "token_account", message));
    }
    let again: Option<SourceServerId> = admitted.used_by();
    let awaited = if again.is_none() {
        awaited(&tx, &via, &request).await?
    } else {
        None
    };
    let id = again
        .clone()
        .or_else(|| awaited.as_ref().map(|server| server.id.0.clone()))
        .unwrap_or_else(|| SourceServerId::from_entropy(rand::random()));
    let signed = sign(hub, &mut tx, &request.csr_pem, &Role::Agent(id.clone())).await?;
    if again.is_none() {
        let templates = tx.inherited_by(&via.account).await?;
        let server = templates.configure(new_server(hub, &id, &via, request));
        match awaited {
            Some(awaited) => arrive(&mut tx, &awaited, server).await?,
            None => tx.server_insert(server).await?,
        }
        tx.runner_touch(&via.id).await?;
    }
    tx.token_used(&admitted.token.sha256, id.to_string(), admitted.key_sha256)
        .await?;
    tx.audit_done(admitted.token.created_by.as_str(), "enrol agent", id.as_str(), "")
        .await?;
    let accounts = vec![via.account.0.clone()];
    let servers = tx
        .server_list(&ServerFilter {
            accounts,
            ..ServerFilter::default()
        })
        .await?;
    tx.commit().await?;
    tracing::info!(server.id = %id, account = %via.account, "source server {id} enrolled");
    Ok(EnrolledAgent {
        server: id,
        certificate_pem: signed.certificate_pem,
        ca_pem: hub.pki.authority.certificate_pem().to_owned(),
        active_servers: servers
            .iter()
            .filter(|server| !server.lifecycle.is_final())
            .count() as u64,
    })
}

/// The server that an import named before its agent was installed: by the ID that people gave it, or else by name.
async fn awaited(
    tx: &Write,
    via: &runner::Model,
    request: &AgentEnrolment,
) -> Result<Option<source_server::Model>, StoreError> {
    let filter = ServerFilter {
        accounts: vec![via.account.0.clone()],
        lifecycles: vec![Lifecycle::PendingInstallation.name().to_owned()],
        ..ServerFilter::default()
    };
    let mut waiting = tx.server_list(&filter).await?;
    let names = [&request.properties.fqdn, &request.properties.hostname];
    let by_name = |server: &source_server::Model| {
        let own = [
            &server.properties.fqdn,
            &server.hostname,
            server.user_provided_id.as_ref().unwrap_or(&server.hostname),
        ];
        names
            .iter()
            .any(|name| !name.is_empty() && own.iter().any(|own| own.eq_ignore_ascii_case(name)))
    };
    let is_awaited = |server: &source_server::Model| match &request.user_provided_id {
        Some(given) => server.user_provided_id.as_ref() == Some(given),
        None => by_name(server),
    };
    let at = waiting.iter().position(is_awaited);
    Ok(at.map(|at| waiting.swap_remove(at)))
}

/// The agent of a server that was awaited is there. What was planned for the server stays.
async fn arrive(
    tx: &mut Write,
    awaited: &source_server::Model,
    server: source_server::Model,
) -> Result<(), StoreError> {
    let event = match server.lifecycle.0 {
        Lifecycle::Stopped => Event::AgentInstalledWithoutReplication,
        _ => Event::AgentInstalled,
    };
    tx.server_on(&awaited.id, event).await?;
    let mut tags = server.tags.0;
    tags.extend(awaited.tags.0.clone());
    tx.server_update(awaited, |row| {
        row.runner = Set(server.runner);
        row.replication = Set(server.replication);
        row.replication_name = Set(server.replication_name);
        row.intent = Set(server.intent);
        row.forgotten = Set(false);
        row.hostname = Set(server.hostname);
        row.properties = Set(server.properties);
        row.tags = Set(Doc(tags));
    })
    .await
}

fn check(request: &AgentEnrolment) -> Result<(), Refusal> {
    let invalid = |message| {
        Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "enrolment_invalid",
            message,
        ))
    };
    if request
        .user_provided_id
        .as_ref()
        .is_some_and(|id| id.len() > USER_PROVIDED_ID_MAX)
    {
        return invalid("the user-provided ID is longer than 256 characters");
    }
    if request.tags.len() > TAGS_MAX {
        return invalid("a source server has at most 50 tags");
    }
    if request.properties.hostname.is_empty() {
        return invalid("the machine has no host name");
    }
    Ok(())
}

fn new_server(
    hub: &Hub,
    id: &SourceServerId,
    via: &runner::Model,
    request: AgentEnrolment,
) -> source_server::Model {
    let (lifecycle, replication) = if request.replicate {
        let step = InitiationStep::Wait;
        (Lifecycle::NotReady, Replication::Initiating(Initiation { step }))
    } else {
        (Lifecycle::Stopped, Replication::Stopped)
    };
    source_server::Model {
        runner: Some(via.id.clone()),
        tags: Doc(request.tags),
        user_provided_id: request.user_provided_id,
        ..source_server::Model::new(
            id.clone(),
            via.account.0.clone(),
            lifecycle,
            replication,
            request.properties,
            &hub.usual_replication(),
        )
    }
}

/// A token that may be used now.
struct Admitted {
    token: token::Model,
    key_sha256: String,
}

impl Admitted {
    /// Who used it before, if it was this very machine.
    fn used_by<I: std::str::FromStr>(&self) -> Option<I> {
        self.token.used_by.as_ref()?.parse().ok()
    }
}

async fn admit(tx: &Write, purpose: TokenPurpose, secret: &str, csr_pem: &str) -> Result<Admitted, Refusal> {
    let refuse = |code, message: &str| Err(Refusal::new(StatusCode::UNAUTHORIZED, code, message));
    let Some(token) = tx.token(&sha256_hex(secret.as_bytes())).await? else {
        let message =
            "this hub did not issue the token, or it was withdrawn: copy it whole, or make a new one";
        return refuse("token_unknown", message);
    };
    if token.purpose.0 != purpose {
        let message = match purpose {
            TokenPurpose::Agent => "the token is for a runner; an agent needs one of its own kind",
            TokenPurpose::Runner => "the token is for an agent; a runner needs one of its own kind",
        };
        return refuse("token_purpose", message);
    }
    if now_ms() >= token.expires_at {
        return refuse(
            "token_expired",
            "the token has expired: make a new one in the console",
        );
    }
    let key = identity::authority::requested_key(csr_pem).map_err(|error| unreadable(&error))?;
    let key_sha256 = Digest(key).to_string();
    if token
        .used_key_sha256
        .as_ref()
        .is_some_and(|used| *used != key_sha256)
    {
        let message = "the token was used by another machine already: each machine needs one of its own";
        return refuse("token_used", message);
    }
    Ok(Admitted { token, key_sha256 })
}

async fn sign(hub: &Hub, tx: &mut Write, csr_pem: &str, role: &Role) -> Result<Signed, Refusal> {
    let signed = hub
        .pki
        .authority
        .sign(csr_pem, role)
        .map_err(|error| unreadable(&error))?;
    tx.certificate_insert(&signed.serial, role.uri()).await?;
    Ok(signed)
}

pub fn unreadable(error: &identity::IdentityError) -> Refusal {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "a signing request was refused"
    );
    let message = "the certificate signing request cannot be read";
    Refusal::new(StatusCode::BAD_REQUEST, "request_unreadable", message)
}
