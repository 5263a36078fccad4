//! What the hub knows: an organization with a tree of units, its accounts with a runner each, and their servers.

use std::path::Path;

use domain::{
    account::{Access, ListedAccount, Reach},
    disk::{DiskId, DiskProgress},
    ids::{AccountId, OrganizationId, RunnerId, SourceServerId},
    launch::{BootMode, instance_type::Architecture},
    lifecycle::Lifecycle,
    replication::Replication,
    replication_configuration::ReplicationConfiguration,
    source_server::{NetworkInterface, SourceProperties},
};
use hub::{
    changes::Changes,
    clock::now_ms,
    entities::{Doc, Word, organization, runner, source_server},
    pki::Pki,
    store::{Database, Store, Write},
};
use identity::{Credentials, NewKey, Role};

pub const ACCOUNTS: usize = 5000;
pub const PER_ACCOUNT: usize = 40;
const REGION: &str = "eu-central-1";
const REPORTING: usize = 8;
const GIB: u64 = 1 << 30;

pub struct World {
    pub organization: OrganizationId,
    pub accounts: Vec<AccountId>,
    /// Those of the first accounts.
    pub servers: Vec<SourceServerId>,
    /// Of the first accounts, each with its servers.
    pub runners: Vec<(Credentials, Vec<SourceServerId>)>,
}

impl World {
    pub async fn make(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let store = Store::open(&Database::in_folder(dir), Changes::default()).await?;
        let pki = Pki::open(&dir.join("ca"))?;
        let organization = organization::Model {
            id: Word(OrganizationId::from_entropy(1)),
            name: "Northwind".into(),
            reach: Word(Reach::Roster),
            region: REGION.into(),
            route: Doc::default(),
            listing: Doc(Access::Ok),
            listed_at: Some(now_ms()),
            created_at: now_ms(),
        };
        let mut tx = store.begin().await?;
        tx.organization_insert(organization.clone()).await?;
        tx.commit().await?;
        let mut world = Self {
            organization: organization.id.0.clone(),
            accounts: Vec::new(),
            servers: Vec::new(),
            runners: Vec::new(),
        };
        // A transaction for some accounts at a time: neither one for each row nor one for all.
        for first in (0..ACCOUNTS).step_by(100) {
            let mut tx = store.begin().await?;
            for number in first..first + 100 {
                world.add_account(&mut tx, &pki, &organization, number).await?;
            }
            tx.commit().await?;
        }
        store.close().await;
        Ok(world)
    }

    async fn add_account(
        &mut self,
        tx: &mut Write,
        pki: &Pki,
        organization: &organization::Model,
        number: usize,
    ) -> anyhow::Result<()> {
        let id: AccountId = format!("{:012}", 210_000_000_000 + number).parse()?;
        let listed = ListedAccount {
            id: id.clone(),
            name: format!("account-{number}"),
            unit: format!("Root/Unit-{}/Team-{}", number % 10, number / 10 % 10),
            suspended: false,
        };
        tx.account_listed(organization, listed, REGION).await?;
        tx.account_checked(&id, Access::Ok).await?;
        let mut runner = runner_of(number, &id);
        let credentials = if number < REPORTING {
            let key = NewKey::generate()?;
            let role = Role::Runner(runner.id.0.clone());
            let signed = pki.authority.sign(&key.csr_pem()?, &role)?;
            tx.certificate_insert(&signed.serial, role.uri()).await?;
            runner.certificate_serial = signed.serial;
            let ca = pki.authority.certificate_pem().to_owned();
            Some(key.certified(signed.certificate_pem, ca))
        } else {
            None
        };
        tx.runner_insert(runner.clone()).await?;
        let mut servers = Vec::new();
        for index in 0..PER_ACCOUNT {
            let server = server_of(number, index, &id, &runner);
            servers.push(server.id.0.clone());
            tx.server_insert(server).await?;
        }
        self.accounts.push(id);
        if self.servers.len() < 1000 {
            self.servers.extend(servers.iter().cloned());
        }
        if let Some(credentials) = credentials {
            self.runners.push((credentials, servers));
        }
        Ok(())
    }
}

fn runner_of(number: usize, account: &AccountId) -> runner::Model {
    runner::Model {
        id: Word(RunnerId::from_entropy(number as u128 + 1)),
        account: Word(account.clone()),
        region: REGION.into(),
        address: format!("10.{}.{}.10", number / 250, number % 250),
        hub_address: None,
        data_port: 1500,
        enrol_port: 443,
        version: "0.1.0".into(),
        certificate_serial: format!("{number:032x}"),
        last_seen: Some(now_ms()),
        staging_free: Some(1 << 40),
        desired_generation: 1,
        observed_generation: 1,
        created_at: now_ms(),
    }
}

fn server_of(account: usize, index: usize, id: &AccountId, runner: &runner::Model) -> source_server::Model {
    let number = account * PER_ACCOUNT + index;
    let kind = ["web", "app", "db", "mail"][index % 4];
    let hostname = format!("{kind}-{account}-{index}");
    let (lifecycle, replication) = match index % 10 {
        0 => (Lifecycle::NotReady, Replication::InitialSync),
        1..=4 => (Lifecycle::ReadyForTest, Replication::Continuous),
        5 | 6 => (Lifecycle::ReadyForCutover, Replication::Continuous),
        _ => (Lifecycle::Cutover { archived: false }, Replication::Disconnected),
    };
    let now = now_ms();
    let properties = SourceProperties {
        fqdn: format!("{hostname}.example.com"),
        hostname,
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0-28-amd64".into(),
        architecture: Architecture::default(),
        boot_mode: BootMode::Uefi,
        cpus: 4,
        ram_bytes: 16 * GIB,
        network_interfaces: vec![NetworkInterface {
            name: "ens3".into(),
            mac_address: "02:42:ac:11:00:02".into(),
            ips: vec![format!(
                "10.{}.{}.{}",
                number / 62_500 % 250,
                number / 250 % 250,
                number % 250
            )],
            is_primary: true,
        }],
        disks: Vec::new(),
    };
    source_server::Model {
        runner: Some(runner.id.clone()),
        tags: Doc([("Owner".to_owned(), format!("team-{}", number % 400))].into()),
        lag_basis: Some(now - i64::try_from(number % 600).unwrap_or(0) * 1000),
        disks: Doc(disks(0)),
        last_seen: Some(now),
        ..source_server::Model::new(
            SourceServerId::from_entropy(number as u128 + 1),
            id.clone(),
            lifecycle,
            replication,
            properties,
            &ReplicationConfiguration::default(),
        )
    }
}

pub fn disks(round: u64) -> Vec<DiskProgress> {
    let disk = |name: &str, gib: u64| DiskProgress {
        id: name.parse::<DiskId>().expect("it is a disk's name"),
        device_name: format!("/dev/{name}"),
        total_bytes: gib * GIB,
        replicated_bytes: gib * GIB,
        rescanned_bytes: 0,
        backlogged_bytes: round,
        tracking: None,
    };
    vec![disk("sda", 40), disk("sdb", 200)]
}
