//! Enrolment: a one-time token and a signing request become a certificate.
//!
//! A token is used up by the first machine that shows it. The same machine, known by its key, may show
//! it again until it expires: its first answer may have been lost on the way.

use axum::http::StatusCode;
use domain::{
    bandwidth::Bandwidth,
    digest::Digest,
    flow::Flow,
    ids::{RunnerId, SourceServerId},
    launch::LaunchConfiguration,
    lifecycle::Lifecycle,
    readiness::Readiness,
    replication::{Initiation, InitiationStep, Replication},
    source_server::ReplicationIntent,
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
        Doc, Word, account, runner,
        source_server::{self, Milestones},
        token::{self, TokenPurpose},
    },
    secrets::sha256_hex,
    store::{Write, servers::ServerFilter},
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
    let id = again
        .clone()
        .unwrap_or_else(|| SourceServerId::from_entropy(rand::random()));
    let signed = sign(hub, &mut tx, &request.csr_pem, &Role::Agent(id.clone())).await?;
    if again.is_none() {
        tx.server_insert(new_server(hub, &id, &via, request)).await?;
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
    let lifecycle = if request.replicate {
        Lifecycle::NotReady
    } else {
        Lifecycle::Stopped
    };
    let (replication, intent) = if request.replicate {
        let step = InitiationStep::Wait;
        (
            Replication::Initiating(Initiation { step }),
            ReplicationIntent::Run,
        )
    } else {
        (Replication::Stopped, ReplicationIntent::Stopped)
    };
    source_server::Model {
        id: Word(id.clone()),
        account: via.account.clone(),
        runner: via.id.clone(),
        application: None,
        generation: 0,
        lifecycle_name: lifecycle.name().to_owned(),
        lifecycle: Doc(lifecycle),
        milestones: Doc(Milestones::default()),
        replication_name: replication.name().to_owned(),
        replication: Doc(replication),
        intent: Word(intent),
        forgotten: false,
        hostname: request.properties.hostname.clone(),
        properties: Doc(request.properties),
        tags: Doc(request.tags),
        user_provided_id: request.user_provided_id,
        launch_configuration: Doc(LaunchConfiguration::default()),
        checkpoint_request: 0,
        checkpoint_interval_s: i32::try_from(hub.settings.checkpoint_interval.as_secs()).unwrap_or(i32::MAX),
        retry_request: 0,
        lag_basis: None,
        disks: Doc(Vec::new()),
        bandwidth: Doc(Bandwidth::default()),
        flow: Doc(Flow::default()),
        diverges: false,
        untracked: false,
        inspection: Doc(None),
        readiness: Word(Readiness::NotInspected),
        agent_address: None,
        agent_version: None,
        last_seen: None,
        first_byte_at: None,
        created_at: now_ms(),
        running_job: None,
        test_launch: Doc(None),
        cutover_launch: Doc(None),
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
