//! Rows that tests start from.

use std::collections::BTreeMap;

use domain::{
    disk::Disk,
    ids::{AccountId, RunnerId, SourceServerId},
    launch::{BootMode, LaunchConfiguration},
    lifecycle::Lifecycle,
    replication::{Initiation, InitiationStep, Replication},
    source_server::{ReplicationIntent, SourceProperties},
};

use crate::{
    clock::now_ms,
    entities::{
        Doc, Word, runner,
        source_server::{self, Milestones},
    },
};

pub fn runner(id: RunnerId, account: &AccountId) -> runner::Model {
    runner::Model {
        id: Word(id),
        account: Word(account.clone()),
        region: "eu-central-1".into(),
        address: "192.0.2.1".into(),
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
    let lifecycle = Lifecycle::NotReady;
    let replication = Replication::Initiating(Initiation {
        step: InitiationStep::Wait,
    });
    source_server::Model {
        id: Word(id),
        account: runner.account.clone(),
        runner: runner.id.clone(),
        generation: 0,
        lifecycle_name: lifecycle.name().to_owned(),
        lifecycle: Doc(lifecycle),
        milestones: Doc(Milestones::default()),
        replication_name: replication.name().to_owned(),
        replication: Doc(replication),
        intent: Word(ReplicationIntent::Run),
        forgotten: false,
        hostname: "web-1".into(),
        properties: Doc(properties("web-1")),
        tags: Doc(BTreeMap::new()),
        user_provided_id: None,
        launch_configuration: Doc(LaunchConfiguration::default()),
        checkpoint_request: 0,
        checkpoint_interval_s: 600,
        retry_request: 0,
        lag_basis: None,
        disks: Doc(vec![]),
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
