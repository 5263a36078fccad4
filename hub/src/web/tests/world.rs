//! A console with something on every page: two organizations, and a server in every state.

use cloud::control::{ClientToken, Place, ResourceKind};
use domain::{
    account::{Access, ListedAccount, Reach},
    bandwidth::{Bandwidth, Window},
    changes::{Change, ChangeList, Diff, State, What},
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    conversion::{
        ConversionOrder, ConversionState, Converted, Inspection, Network, Rehearsal, RehearsalOrder,
    },
    digest::Digest,
    disk::{Disk, DiskProgress, Tracking},
    flow::{Flow, Forecast, Hop},
    ids::{AccountId, ApplicationId, JobId, OrganizationId, RunnerId, SourceServerId, WaveId},
    job::{InitiatedBy, JobLogEvent, JobStatus, LaunchStatus},
    launch::{BootMode, Hypervisor},
    lifecycle::Lifecycle,
    network,
    readiness::{Finding, Readiness},
    replication::{Initiation, InitiationStep, Replication, ReplicationError, Stall},
    source_server::{NetworkInterface, ReplicationIntent},
    trend::Point,
    wave::Plan,
};
use protocol::{
    artifacts::{Artifact, SignedChangeList},
    exchange::{ObservedCheckpoint, ObservedSnapshot, TurnedAway},
};

use sea_orm::ActiveValue::Set;

use crate::{
    Hub,
    clock::now_ms,
    entities::{
        Doc, Word, application, job, job_server,
        ledger::{self, LedgerState},
        organization, runner,
        saga::{self, Direction, SagaStatus},
        source_server::{self, Launch},
        user::UserRole,
        wave,
    },
    fixtures,
    readiness::{Named, Outcome, Report, drift::Drift},
    store::{Write, jobs::LogLine},
};

pub const PASSWORD: &str = "correct horse";
/// Where the accounts are in their organizations.
const UNITS: [&str; 4] = ["Root/Production", "Root/Production/Data", "Root/Production2", ""];
pub const ACCOUNTS: [(&str, &str); 4] = [
    ("111122223333", "prod-web"),
    ("222233334444", "prod-data"),
    ("333344445555", "analytics"),
    ("999900001111", "tenant-gov"),
];

const GIB: u64 = 1 << 30;

pub fn server_id(number: u128) -> SourceServerId {
    SourceServerId::from_entropy(0x5e00 + number)
}

pub fn failed_job() -> JobId {
    JobId::from_entropy(0x10b2)
}

pub fn running_job() -> JobId {
    JobId::from_entropy(0x10b1)
}

/// The names of users are those of their roles.
pub async fn fill(hub: &Hub) {
    for role in [
        UserRole::Viewer,
        UserRole::Operator,
        UserRole::Approver,
        UserRole::Administrator,
    ] {
        fixtures::add_user(hub, role.name(), role, PASSWORD).await;
    }
    let mut tx = hub.store.begin().await.unwrap();
    let runners = accounts(&mut tx).await;
    report_on_a_network(&mut tx).await;
    servers(&mut tx, &runners).await;
    waves(&mut tx).await;
    jobs(&mut tx).await;
    conversions(&mut tx).await;
    let clone = TurnedAway {
        address: "10.1.0.77".into(),
        server: Some(server_id(1)),
        reason: "source server is replicated by another machine with the same identity; install the agent anew here, or retire the other machine".into(),
        at_ms: now_ms() - 90_000,
    };
    tx.turned_away_add(&runners[0].id, vec![clone]).await.unwrap();
    tx.commit().await.unwrap();
}

pub fn application_id(account: usize) -> ApplicationId {
    ApplicationId::from_entropy(0xa0 + account as u128)
}

pub fn wave_id(account: usize) -> WaveId {
    WaveId::from_entropy(0xb0 + account as u128)
}

/// In each account with servers an application with the first two, in a wave of that account alone.
async fn waves(tx: &mut Write) {
    for (index, servers) in [(0, [1, 2]), (1, [5, 6]), (3, [10, 11])] {
        let (id, name) = ACCOUNTS[index];
        let account: AccountId = id.parse().unwrap();
        tx.wave_insert(wave::Model {
            id: Word(wave_id(index)),
            account: Some(Word(account.clone())),
            name: format!("{name}-first"),
            description: format!("{name}, CHG-{index}"),
            tags: Doc::default(),
            archived: false,
            plan: Doc(Plan {
                window: Some(domain::wave::Window {
                    from: now_ms() + 3_600_000,
                    to: now_ms() + 9_000_000,
                }),
                ticket: format!("CHG-{index}"),
                ..Plan::default()
            }),
            run: Doc(None),
            run_state: String::new(),
            created_by: "operator".into(),
            created_at: now_ms(),
            modified_at: now_ms(),
        })
        .await
        .unwrap();
        tx.application_insert(application::Model {
            id: Word(application_id(index)),
            account: Word(account),
            name: format!("{name}-shop"),
            description: String::new(),
            tags: Doc::default(),
            archived: false,
            wave: Some(Word(wave_id(index))),
            created_at: now_ms(),
            modified_at: now_ms(),
        })
        .await
        .unwrap();
        for server in servers {
            let server = tx.server(&server_id(server)).await.unwrap();
            let application = Some(Word(application_id(index)));
            tx.server_update(&server, |row| row.application = Set(application))
                .await
                .unwrap();
        }
    }
}

async fn report_on_a_network(tx: &mut Write) {
    let place = Place::direct(ACCOUNTS[0].0.parse().unwrap(), fixtures::REGION);
    let range = "192.168.0.0/16".parse().unwrap();
    let report = Report {
        sources: vec![range],
        hub: None,
        outcome: Outcome::Checked {
            findings: vec![network::Finding {
                rule: network::Rule::RunnerAdmitsSources,
                resource: "sg-0123456789abcdef0".into(),
                text: "the runner's security group has no inbound rule for TCP 1500 from 192.168.0.0/16 (source servers)".into(),
                change: "Add an inbound rule: TCP 1500 from 192.168.0.0/16.".into(),
            }],
        },
        drift: Drift::default(),
    };
    let named = Named {
        sources: vec![range],
        hub: None,
    };
    tx.readiness_checked(&place, named, report).await.unwrap();
}

async fn accounts(tx: &mut Write) -> Vec<runner::Model> {
    let organization = |number, name: &str, reach| organization::Model {
        id: Word(OrganizationId::from_entropy(number)),
        name: name.into(),
        reach: Word(reach),
        region: fixtures::REGION.into(),
        route: Doc::default(),
        listing: Doc(Access::Ok),
        listed_at: Some(now_ms()),
        created_at: now_ms(),
    };
    let own = organization(1, "Northwind", Reach::DelegatedAdministrator);
    let roster = organization(2, "Government tenant", Reach::Roster);
    tx.organization_insert(own.clone()).await.unwrap();
    tx.organization_insert(roster.clone()).await.unwrap();
    let mut runners = Vec::new();
    for (index, (id, name)) in ACCOUNTS.into_iter().enumerate() {
        let account: AccountId = id.parse().unwrap();
        let listed = ListedAccount {
            id: account.clone(),
            name: name.into(),
            unit: UNITS[index].into(),
            suspended: false,
        };
        let of = if index == 3 { &roster } else { &own };
        tx.account_listed(of, listed, fixtures::REGION).await.unwrap();
        let access = match index {
            2 => Access::Denied {
                call: "sts:AssumeRole".into(),
                remedy: "The administrator of account 333344445555 must deploy the member role, or add this hub to its trust policy.".into(),
            },
            _ => Access::Ok,
        };
        tx.account_checked(&account, access).await.unwrap();
        let number = index as u128 + 1;
        let row = runner::Model {
            address: format!("10.{number}.0.10"),
            last_seen: Some(now_ms() - if index == 3 { 400_000 } else { 1_000 }),
            staging_free: Some(812 << 30),
            ..fixtures::runner(RunnerId::from_entropy(number), &account)
        };
        if index != 2 {
            tx.runner_insert(row.clone()).await.unwrap();
            tx.certificate_insert(
                &format!("{:032x}", 0xabc0 + number),
                format!("orglift://runner/{}", row.id),
            )
            .await
            .unwrap();
        }
        runners.push(row);
    }
    runners
}

/// Name, runner, life cycle, replication, copied thousandths, GiB of each disk, lag in seconds.
type Given = (
    &'static str,
    usize,
    Lifecycle,
    Replication,
    u64,
    &'static [u64],
    Option<i64>,
);

// A table, for the most part.
#[allow(clippy::too_many_lines)]
async fn servers(tx: &mut Write, runners: &[runner::Model]) {
    use {Lifecycle as L, Replication as R};
    let stalled = R::Stalled(Stall {
        error: ReplicationError::FailedToConnectAgentToReplicationServer,
        detail: "No connection from 10.4.3.20 to the runner at 10.4.0.10 on TCP 1500. Open it in the firewall of the source network.".into(),
        step: Some(InitiationStep::ConnectAgentToReplicationServer),
    });
    let starts = R::Initiating(Initiation {
        step: InitiationStep::CreateStagingDisks,
    });
    let job = running_job();
    let given: [Given; 12] = [
        ("web-1", 0, L::ReadyForTest, R::Continuous, 1000, &[40], Some(42)),
        (
            "web-2",
            0,
            L::Testing {
                job: JobId::from_entropy(7),
            },
            R::Backlog,
            1000,
            &[40, 200],
            Some(95),
        ),
        ("web-3", 0, L::NotReady, R::InitialSync, 437, &[40, 200], None),
        (
            "app-with-a-very-long-host-name-01",
            0,
            L::NotReady,
            starts,
            0,
            &[80],
            None,
        ),
        (
            "db-1",
            1,
            L::CuttingOver {
                job: JobId::from_entropy(8),
            },
            R::Continuous,
            1000,
            &[60, 1800],
            Some(17),
        ),
        (
            "db-2",
            1,
            L::ReadyForCutover,
            R::Rescan,
            1000,
            &[60, 1800],
            Some(4210),
        ),
        (
            "queue-1",
            1,
            L::ReadyForTest,
            R::Paused,
            1000,
            &[120],
            Some(86_000),
        ),
        (
            "cache-1",
            1,
            L::Cutover { archived: false },
            R::Disconnected,
            0,
            &[],
            None,
        ),
        (
            "cache-2",
            1,
            L::Cutover { archived: false },
            R::Disconnected,
            0,
            &[],
            None,
        ),
        ("ledger-1", 3, L::NotReady, stalled, 120, &[500], None),
        ("ledger-2", 3, L::Stopped, R::Stopped, 0, &[500], None),
        (
            "old-1",
            3,
            L::Disconnected { archived: false },
            R::Disconnected,
            0,
            &[],
            None,
        ),
    ];
    for (number, server) in given.into_iter().enumerate() {
        let (hostname, runner, lifecycle, replication, copied, gib, lag) = server;
        let id = server_id(number as u128 + 1);
        let now = now_ms();
        let disks: Vec<_> = gib
            .iter()
            .enumerate()
            .map(|(at, gib)| progress(at, gib * GIB, copied))
            .collect();
        let mut properties = fixtures::properties(hostname);
        properties.disks = disks.iter().map(disk).collect();
        properties.os = "Debian GNU/Linux 12 (bookworm)".into();
        properties.kernel = "6.1.0-28-amd64".into();
        properties.network_interfaces = vec![NetworkInterface {
            name: "ens3".into(),
            mac_address: "02:42:ac:11:00:02".into(),
            ips: vec![
                format!("10.{}.3.{}", runner + 1, number + 11),
                "fd00:10::5".into(),
            ],
            is_primary: true,
        }];
        let launch = |purpose_job: u128| Launch {
            job: JobId::from_entropy(purpose_job),
            instance: format!("i-0{purpose_job:016x}"),
            at: now - 1_500_000,
            checkpoint: CheckpointNumber(5),
            taken_at: now - 1_530_000,
            consistency: Consistency::Filesystem,
            roots: vec![],
        };
        let flow = flow_of(hostname);
        let inspection = inspection_of(hostname, now);
        let row = source_server::Model {
            // Every other one is known by its tag.
            hostname: if number % 2 == 0 {
                hostname.into()
            } else {
                format!("vm-{number}")
            },
            tags: Doc([("Name".to_owned(), hostname.to_owned())].into()),
            lifecycle_name: lifecycle.name().into(),
            test_launch: Doc(matches!(lifecycle, L::Testing { .. }).then(|| launch(7))),
            cutover_launch: Doc(
                matches!(lifecycle, L::CuttingOver { .. } | L::Cutover { .. }).then(|| launch(8))
            ),
            intent: Word(match replication {
                R::Paused => ReplicationIntent::Paused,
                R::Stopped => ReplicationIntent::Stopped,
                R::Disconnected => ReplicationIntent::Disconnected,
                _ => ReplicationIntent::Run,
            }),
            lifecycle: Doc(lifecycle),
            replication_name: replication.name().into(),
            replication: Doc(replication),
            properties: Doc(properties),
            disks: Doc(disks.clone()),
            untracked: source_server::is_untracked(&disks),
            diverges: source_server::diverges(&flow),
            flow: Doc(flow),
            readiness: Word(Readiness::of(
                inspection.as_ref().map(|seen| seen.findings.as_slice()),
            )),
            inspection: Doc(inspection),
            bandwidth: Doc(if number == 1 {
                office_hours()
            } else {
                Bandwidth::default()
            }),
            lag_basis: lag.map(|lag| now - lag * 1000),
            agent_address: Some(format!("10.{}.3.{}", runner + 1, number + 11)),
            agent_version: Some("0.1.0".into()),
            last_seen: Some(now - 2_000),
            running_job: (number == 5).then(|| Word(job.clone())),
            created_at: now - 90_000_000,
            ..fixtures::server(id.clone(), &runners[runner])
        };
        tx.server_insert(row).await.unwrap();
        let point = |ago| Point {
            at_s: now / 1000 - ago,
            lag_s: lag.and_then(|lag| u32::try_from(lag).ok()),
            written_kib_s: 512,
            sent_kib_s: 2048,
        };
        for ago in [600, 0] {
            tx.trends_add(&[(id.clone(), point(ago))], now).await.unwrap();
        }
        tx.certificate_insert(
            &format!("{:032x}", 0xdef0 + number),
            format!("orglift://agent/{id}"),
        )
        .await
        .unwrap();
        if let Some(lag) = lag {
            checkpoints(tx, &id, &disks, now - lag * 1000).await;
        }
    }
}

/// `web-2` is sparing with a limit that is too low, `web-3` is on its first copy.
fn flow_of(hostname: &str) -> Flow {
    let measured = |written_bytes_s, copied_bytes_s, backlog_bytes| Flow {
        written_bytes_s,
        copied_bytes_s,
        wire_bytes_s: copied_bytes_s / 2,
        backlog_bytes,
        limit_mbit_s: None,
        bottleneck: Some(Hop::Link),
        forecast: Forecast::of(backlog_bytes, written_bytes_s, copied_bytes_s),
    };
    match hostname {
        "web-2" => Flow {
            wire_bytes_s: 1_240_000,
            limit_mbit_s: Some(10),
            ..measured(4_250_000, 2_400_000, 48 << 20)
        },
        "web-3" => measured(12_000, 48_000_000, 137 * GIB),
        _ => Flow::default(),
    }
}

fn inspection_of(hostname: &str, now: i64) -> Option<Inspection> {
    let warns = Finding::warns(
        "fstab-network-mount",
        "/srv/share is mounted from 10.1.0.7:/export.",
        "Let the target subnet reach it, or remove it from /etc/fstab on the source.",
    );
    let informs = Finding::informs("cloud-init-missing", "cloud-init is not installed.");
    let blocks = Finding::blocks(
        "system-encrypted",
        "The root file system is encrypted: <dm-0>.",
        "Decrypt it on the source.",
    );
    let findings = match hostname {
        "web-1" => vec![informs, warns],
        "web-2" | "db-2" => vec![warns, blocks],
        "queue-1" => vec![],
        _ => return None,
    };
    Some(Inspection {
        checkpoint: CheckpointNumber(4),
        at_ms: now - 300_000,
        findings,
    })
}

/// The job that failed had converted its server; the one that runs is about to.
async fn conversions(tx: &mut Write) {
    let server = tx.server(&server_id(1)).await.unwrap();
    tx.conversion_order(&server, order(failed_job())).await.unwrap();
    let conversion = tx.conversion(&failed_job(), &server.id).await.unwrap().unwrap();
    let done = ConversionState::Done(Converted {
        disks: vec![],
        changes: 3,
        bytes_read: 412 << 20,
        bytes_written: 37 << 20,
        milliseconds: 21_400,
        rehearsal: Some(Rehearsal {
            came_up: true,
            verdict: "port 80 answered / with 200".into(),
            milliseconds: 34_000,
            accelerator: "tcg".into(),
        }),
    });
    tx.conversion_stands(&server, &conversion, done).await.unwrap();
    let signed = SignedChangeList {
        json: serde_json::to_string_pretty(&change_list(&server.id)).unwrap(),
        signature: b"signature".to_vec(),
        certificate_pem: "-----BEGIN CERTIFICATE-----\n".into(),
    };
    let console = (0..60).fold(String::from("\u{1b}[0mBooting <Debian>\r\n"), |text, line| {
        text + &format!("[    {line}.000000] systemd[1]: Started unit {line}.\r\n")
    });
    for (artifact, contents) in [
        (Artifact::ChangeList, serde_json::to_vec(&signed).unwrap()),
        (Artifact::Console, console.into_bytes()),
        (Artifact::Screenshot, b"\x89PNG\r\n\x1a\n".to_vec()),
    ] {
        tx.artifact_put(&conversion, artifact, contents).await.unwrap();
    }
    tx.conversion_end(&failed_job(), &server).await.unwrap();

    let server = tx.server(&server_id(6)).await.unwrap();
    tx.conversion_order(&server, order(running_job())).await.unwrap();
    let conversion = tx.conversion(&running_job(), &server.id).await.unwrap().unwrap();
    let running = ConversionState::Running {
        step: "initramfs".into(),
    };
    tx.conversion_stands(&server, &conversion, running).await.unwrap();
}

fn order(job: JobId) -> ConversionOrder {
    ConversionOrder {
        job,
        checkpoint: CheckpointNumber(5),
        network: Network::Dhcp,
        hypervisor: Hypervisor::Nitro,
        boot_mode: BootMode::LegacyBios,
        rehearsal: Some(RehearsalOrder {
            cpus: 2,
            memory_mib: 2048,
            time_limit_s: 300,
            probe: None,
        }),
    }
}

fn change_list(server: &SourceServerId) -> ChangeList {
    let change = |path: &str, step: &str, why: &str, what, diff| Change {
        path: path.into(),
        step: step.into(),
        why: why.into(),
        what,
        diff,
    };
    let unified = "@@ -1,2 +1,2 @@\n # <file system> <mount point>\n-/dev/sda1 / ext4 errors=remount-ro 0 1\n+UUID=9a2f / ext4 errors=remount-ro 0 1\n";
    let changes = vec![
        change(
            "/etc/fstab",
            "fstab",
            "disks have other names on an instance",
            What::Changed {
                before: State::of(b"old"),
                after: State::of(b"new"),
            },
            Some(Diff::Text {
                unified: unified.into(),
            }),
        ),
        change(
            "/boot/initrd.img-6.1.0-28-amd64",
            "initramfs",
            "the instance's disks need nvme",
            What::Changed {
                before: State::of(b"old"),
                after: State::of(b"new"),
            },
            Some(Diff::LeftOut {
                because: "too long".into(),
            }),
        ),
        change(
            "/etc/<script>alert(1)</script>",
            "hypervisor tools",
            "they look for another hypervisor",
            What::Removed {
                before: State::Link {
                    target: "/lib/systemd/system/open-vm-tools.service".into(),
                },
            },
            None,
        ),
    ];
    ChangeList {
        changes,
        ..ChangeList::new(server.clone(), CheckpointNumber(5))
    }
}

fn office_hours() -> Bandwidth {
    let day = |n: u16| Window {
        from: n * 1440 + 480,
        until: n * 1440 + 1080,
        mbit_s: Some(10),
    };
    Bandwidth {
        mbit_s: Some(400),
        windows: (0..5).map(day).collect(),
        utc_offset_min: 60,
    }
}

/// The first disk is tracked, a second one cannot be, and the first of `db-1` is in doubt.
fn tracking(at: usize, bytes: u64) -> Tracking {
    match (at, bytes / GIB) {
        (0, 60) => Tracking::Suspect {
            doubt: "17 events were lost at 12:04:31".into(),
        },
        (0, _) => Tracking::Tracker { chunk_bytes: 4096 },
        _ => Tracking::Rescan {
            reason: "the kernel is locked down in confidentiality mode and takes no eBPF program".into(),
            remedy: Some("boot it with lockdown=integrity or without".into()),
        },
    }
}

fn progress(at: usize, bytes: u64, copied: u64) -> DiskProgress {
    DiskProgress {
        id: format!("wwn-0x5000c500a{at:03}").parse().unwrap(),
        device_name: format!("/dev/sd{}", ["a", "b"][at]),
        total_bytes: bytes,
        replicated_bytes: bytes / 1000 * copied + if copied == 1000 { bytes % 1000 } else { 0 },
        rescanned_bytes: bytes / 3,
        tracking: Some(tracking(at, bytes)),
        backlogged_bytes: if copied == 1000 { 0 } else { 48 << 20 },
    }
}

fn disk(progress: &DiskProgress) -> Disk {
    Disk {
        id: progress.id.clone(),
        device_name: progress.device_name.clone(),
        bytes: progress.total_bytes,
        is_boot: progress.device_name == "/dev/sda",
    }
}

async fn checkpoints(tx: &mut Write, server: &SourceServerId, disks: &[DiskProgress], newest: i64) {
    let reported: Vec<_> = (1..=5_u64)
        .map(|number| ObservedCheckpoint {
            frozen_ms: 210,
            received_bytes: number << 24,
            damage: (number == 2).then(|| "block 1031 of /dev/sda does not match its digest".into()),
            number: CheckpointNumber(number),
            kind: if number == 1 {
                CheckpointKind::Partial
            } else {
                CheckpointKind::Launchable
            },
            consistency: if number == 3 {
                Consistency::Crash
            } else {
                Consistency::Filesystem
            },
            taken_at_ms: newest - (5 - number.cast_signed()) * 600_000,
            request: 0,
            disks: disks
                .iter()
                .map(|disk| ObservedSnapshot {
                    disk: disk.id.clone(),
                    device_name: disk.device_name.clone(),
                    is_boot: disk.device_name == "/dev/sda",
                    bytes: disk.total_bytes,
                    snapshot: format!("snap-{number}"),
                    root: Digest([u8::try_from(number).unwrap() * 17; 32]),
                })
                .collect(),
        })
        .collect();
    tx.checkpoints_replace(server, &[], &reported).await.unwrap();
}

// A table, for the most part.
#[allow(clippy::too_many_lines)]
async fn jobs(tx: &mut Write) {
    let failed = LaunchStatus::Failed {
        error: "RunInstances in account 111122223333 was rejected: the subnet “test” has no free address"
            .into(),
        left: vec!["ami-0123456789abcdef0".into()],
    };
    let given = [
        (
            failed_job(),
            InitiatedBy::StartTest,
            JobStatus::Completed,
            1,
            failed,
            SagaStatus::Failed,
            Direction::Back,
            1,
        ),
        (
            running_job(),
            InitiatedBy::StartCutover,
            JobStatus::Started,
            6,
            LaunchStatus::InProgress,
            SagaStatus::Running,
            Direction::Forward,
            2,
        ),
    ];
    for (id, kind, status, server, launch, saga_status, direction, position) in given {
        let now = now_ms();
        let server = server_id(server);
        let account = tx.server(&server).await.unwrap().account;
        tx.job_insert(
            job::Model {
                id: Word(id.clone()),
                initiated_by: Word(kind),
                status: Word(status),
                tags: Doc(std::collections::BTreeMap::default()),
                created_by: "operator".into(),
                created_at: now - 200_000,
                ended_at: (status == JobStatus::Completed).then_some(now - 100_000),
            },
            vec![job_server::Model {
                job: Word(id.clone()),
                server: Word(server.clone()),
                account: account.clone(),
                status: Doc(launch),
            }],
        )
        .await
        .unwrap();
        tx.sagas_insert(vec![saga::Model {
            id: format!("{id}/{server}"),
            kind: Word(kind),
            job: Word(id.clone()),
            server: Word(server.clone()),
            state: Doc(serde_json::json!({})),
            position,
            direction: Word(direction),
            status: Word(saga_status),
            attempts: 2,
            step_since: now - 60_000,
            run_after: now,
            last_error: Some("RegisterImage was throttled".into()),
            failure: None,
            left: Doc(vec![]),
            cancelled_by: None,
        }])
        .await
        .unwrap();
        tx.job_log(&id, LogLine::of_job(JobLogEvent::JobStart))
            .await
            .unwrap();
        let lines = [
            LogLine::of_server(JobLogEvent::SnapshotStart, &server),
            LogLine::of_server(JobLogEvent::SnapshotEnd, &server).with_detail("checkpoint 5, taken 3 s ago"),
            LogLine::of_server(JobLogEvent::LaunchFailed, &server)
                .with_detail("the subnet “test” has no free address; widen it or choose another in the launch configuration"),
        ];
        let shown = if status == JobStatus::Completed { 3 } else { 2 };
        for line in lines.into_iter().take(shown) {
            tx.job_log(&id, line).await.unwrap();
        }
        for (at, state) in [(0, LedgerState::Gone), (1, LedgerState::Present)] {
            tx.ledger_want(ledger::Model {
                token: Word(ClientToken(format!("{id}-{at}"))),
                account: account.clone(),
                region: fixtures::REGION.into(),
                kind: Word(ResourceKind::Image),
                resource: Some(format!("ami-0123456789abcde{at}")),
                state: Word(state),
                server: Word(server.clone()),
                job: Word(id.clone()),
                step: "register image".into(),
                wanted_at: now - 100_000,
                present_at: Some(now - 90_000),
                ended_at: None,
            })
            .await
            .unwrap();
        }
    }
}
