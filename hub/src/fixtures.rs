//! What tests start from: a hub in a place of its own over a cloud of folders, and rows for its store.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use cloud::folder::{
    FolderCloud,
    organization::{Organization, Trust},
};
use domain::{
    account::{Access, ListedAccount, Reach},
    checkpoint::CheckpointNumber,
    conversion::{ConversionOrder, Network},
    disk::Disk,
    ids::{AccountId, JobId, OrganizationId, RunnerId, SourceServerId},
    job::{InitiatedBy, JobStatus, LaunchStatus},
    launch::{BootMode, Hypervisor, instance_type::Architecture},
    lifecycle::Lifecycle,
    replication::{Initiation, InitiationStep, Replication},
    replication_configuration::ReplicationConfiguration,
    source_server::SourceProperties,
};

mod place;

use self::place::Place;
use crate::{
    Hub, Settings,
    actions::profile,
    audit::COMMAND_LINE,
    auth::{
        Actor, Grant,
        people::{self, NewUser},
    },
    clock::now_ms,
    entities::{Doc, Word, conversion, job, job_server, organization, runner, source_server, user::UserRole},
};

pub const MEMBER: &str = "111122223333";
pub const REGION: &str = "eu-central-1";

/// A hub and where it lives.
pub struct TestHub {
    pub hub: Arc<Hub>,
    pub cloud: FolderCloud,
    pub place: Arc<Place>,
}

impl Deref for TestHub {
    type Target = Arc<Hub>;

    fn deref(&self) -> &Arc<Hub> {
        &self.hub
    }
}

/// Deadlines that a test can wait for.
pub fn settings() -> Settings {
    Settings {
        checkpoint_interval: Duration::from_mins(10),
        checkpoint_deadline: Duration::from_millis(300),
        conversion_deadline: Duration::from_secs(10),
        step_deadline: Duration::from_secs(10),
        settle: Duration::ZERO,
        ..Settings::default()
    }
}

/// A hub with nothing in it, over a cloud whose organization has the account [`MEMBER`].
pub async fn hub() -> TestHub {
    identity::install_crypto_provider();
    let place = Arc::new(Place::make().await);
    let cloud = FolderCloud::open(place.path().join("cloud"));
    let member = ListedAccount {
        id: MEMBER.parse().unwrap(),
        name: "prod".into(),
        unit: String::new(),
        suspended: false,
    };
    Organization {
        accounts: vec![member],
    }
    .save(cloud.root())
    .unwrap();
    Trust::default().save(cloud.root()).unwrap();
    reopen(place, cloud).await
}

/// The same hub after a restart.
pub async fn reopen(place: Arc<Place>, cloud: FolderCloud) -> TestHub {
    let (folder, database) = (place.path().join("hub"), place.database());
    let hub = Hub::open(&folder, &database, Arc::new(cloud.clone()), settings())
        .await
        .unwrap();
    TestHub {
        hub: Arc::new(hub),
        cloud,
        place,
    }
}

/// Adds an organization with the account [`MEMBER`] and a runner there.
pub async fn with_runner(hub: &Hub) -> runner::Model {
    let account: AccountId = MEMBER.parse().unwrap();
    let mut tx = hub.store.begin().await.unwrap();
    let org = organization::Model {
        id: Word(OrganizationId::from_entropy(1)),
        name: "one".into(),
        reach: Word(Reach::ManagementAccount),
        region: REGION.into(),
        route: Doc::default(),
        listing: Doc(Access::NotAttempted),
        listed_at: None,
        created_at: now_ms(),
    };
    tx.organization_insert(org.clone()).await.unwrap();
    let listed = ListedAccount {
        id: account.clone(),
        name: "prod".into(),
        unit: String::new(),
        suspended: false,
    };
    tx.account_listed(&org, listed, REGION).await.unwrap();
    let runner = runner(RunnerId::from_entropy(1), &account);
    tx.runner_insert(runner.clone()).await.unwrap();
    tx.commit().await.unwrap();
    runner
}

pub fn runner(id: RunnerId, account: &AccountId) -> runner::Model {
    runner::Model {
        id: Word(id),
        account: Word(account.clone()),
        region: "eu-central-1".into(),
        address: "192.0.2.1".into(),
        hub_address: Some("198.51.100.4:8443".into()),
        data_port: 1500,
        enrol_port: 443,
        version: "0.1.0".into(),
        certificate_serial: "00".into(),
        last_seen: None,
        staging_free: None,
        desired_generation: 1,
        observed_generation: 0,
        created_at: now_ms(),
    }
}

pub fn properties(hostname: &str) -> SourceProperties {
    SourceProperties {
        hostname: hostname.to_owned(),
        fqdn: format!("{hostname}.example.com"),
        os: "Debian GNU/Linux 12".into(),
        kernel: "6.1.0".into(),
        architecture: Architecture::X86_64,
        boot_mode: BootMode::LegacyBios,
        cpus: 2,
        ram_bytes: 1 << 30,
        network_interfaces: vec![],
        disks: vec![Disk {
            id: "serial-1".parse().unwrap(),
            device_name: "/dev/sda".into(),
            bytes: 64 << 20,
            is_boot: true,
        }],
    }
}

/// A server that replicates and has no checkpoint yet.
pub fn server(id: SourceServerId, runner: &runner::Model) -> source_server::Model {
    let step = InitiationStep::Wait;
    source_server::Model {
        runner: Some(runner.id.clone()),
        ..source_server::Model::new(
            id,
            runner.account.0.clone(),
            Lifecycle::NotReady,
            Replication::Initiating(Initiation { step }),
            properties("web-1"),
            &ReplicationConfiguration::default(),
        )
    }
}

/// A job that wants checkpoint 7 of the server converted.
pub async fn order_conversion(hub: &Hub, server: &SourceServerId) -> conversion::Model {
    let job = JobId::from_entropy(7);
    let mut tx = hub.store.begin().await.unwrap();
    let row = tx.server(server).await.unwrap();
    tx.job_insert(
        job::Model {
            id: Word(job.clone()),
            initiated_by: Word(InitiatedBy::StartTest),
            status: Word(JobStatus::Started),
            tags: Doc(BTreeMap::new()),
            created_by: "ada".into(),
            created_at: 0,
            ended_at: None,
        },
        vec![job_server::Model {
            job: Word(job.clone()),
            server: Word(server.clone()),
            account: row.account.clone(),
            status: Doc(LaunchStatus::InProgress),
        }],
    )
    .await
    .unwrap();
    let order = ConversionOrder {
        job: job.clone(),
        checkpoint: CheckpointNumber(7),
        network: Network::Dhcp,
        hypervisor: Hypervisor::Nitro,
        boot_mode: BootMode::LegacyBios,
        rehearsal: None,
    };
    tx.conversion_order(&row, order).await.unwrap();
    let conversion = tx.conversion(&job, server).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    conversion
}

/// Somebody with a role everywhere, and a password.
pub async fn add_user(hub: &Hub, name: &str, role: UserRole, password: &str) -> Actor {
    let grants = vec![Grant::everywhere(role)];
    add_person(hub, name, grants.clone(), password).await;
    Actor::new(name, grants)
}

pub async fn add_person(hub: &Hub, name: &str, grants: Vec<Grant>, password: &str) {
    let new = NewUser {
        name: name.into(),
        grants,
        password: password.into(),
        one_time: false,
        break_glass: false,
    };
    let new = new.prepare().await.unwrap();
    let mut tx = hub.store.begin().await.unwrap();
    people::put(&mut tx, COMMAND_LINE, new).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn add_key(hub: &Hub, user: &str) -> String {
    let actor = Actor::new(user, []);
    profile::add_key(hub, &actor, "tests", None).await.unwrap()
}
