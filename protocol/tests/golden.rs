//! Every control message of every version, byte for byte.
//!
//! A red snapshot here means that a deployed peer would read something else than it did. Add members
//! that older peers may ignore; for anything else raise `SESSION_VERSIONS` and keep the old reader.

// A test may end where it finds something else than it expects.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use domain::{
    bandwidth::{Bandwidth, Window},
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    conversion::{
        Conversion, ConversionOrder, ConversionState, Converted, ConvertedDisk, Inspection, Network,
        Rehearsal, RehearsalOrder,
    },
    digest::Digest,
    disk::{Disk, DiskProgress, Tracking},
    flow::{Flow, Forecast, Hop},
    ids::{JobId, RunnerId, SourceServerId},
    launch::{BootMode, Expects, Hypervisor, Probe, instance_type::Architecture},
    readiness::Finding,
    replication::{Initiation, InitiationStep, Replication, ReplicationError, Stall},
    source_server::{NetworkInterface, ReplicationIntent, SourceProperties},
};
use protocol::{
    enrol::{AgentEnrolment, EnrolledAgent, EnrolledRunner, Problem, RunnerEnrolment},
    exchange::{
        Desired, DesiredServer, Observed, ObservedAgent, ObservedCheckpoint, ObservedServer,
        ObservedSnapshot, TurnedAway,
    },
    session::{
        AgentMessage, AgentStatus, CheckpointOffer, DiskPlan, DiskStart, Fault, Goodbye, Hello, Inspected,
        Orders, Phase, Refusal, RunnerMessage, SentBefore, SessionId, Trouble, TroubleKind, Welcome, control,
        read_control,
    },
};
use serde::{Deserialize, Serialize};

fn server() -> SourceServerId {
    SourceServerId::from_entropy(0x5e)
}

fn disk() -> Disk {
    Disk {
        id: "wwn-0x5000c500a0b1c2d3".parse().unwrap(),
        device_name: "/dev/sda".into(),
        bytes: 8 << 30,
        is_boot: true,
    }
}

fn progress() -> DiskProgress {
    DiskProgress {
        id: disk().id,
        device_name: disk().device_name,
        total_bytes: 8 << 30,
        replicated_bytes: 4 << 30,
        rescanned_bytes: 0,
        backlogged_bytes: 4096,
        tracking: Some(Tracking::Tracker { chunk_bytes: 4096 }),
    }
}

fn properties() -> SourceProperties {
    SourceProperties {
        hostname: "web-1".into(),
        fqdn: "web-1.example.org".into(),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0-25-amd64".into(),
        architecture: Architecture::X86_64,
        boot_mode: BootMode::LegacyBios,
        cpus: 2,
        ram_bytes: 4 << 30,
        network_interfaces: vec![NetworkInterface {
            name: "eth0".into(),
            mac_address: "52:54:00:12:34:56".into(),
            ips: vec!["192.0.2.10".into()],
            is_primary: true,
        }],
        disks: vec![disk()],
    }
}

fn bandwidth() -> Bandwidth {
    Bandwidth {
        mbit_s: None,
        windows: vec![Window {
            from: 480,
            until: 1080,
            mbit_s: Some(50),
        }],
        utc_offset_min: 540,
    }
}

fn flow() -> Flow {
    Flow {
        written_bytes_s: 4_250_000,
        copied_bytes_s: 4_000_000,
        wire_bytes_s: 2_000_000,
        backlog_bytes: 4096,
        limit_mbit_s: Some(50),
        bottleneck: Some(Hop::Link),
        forecast: Some(Forecast::Diverges { needed_mbit_s: 34 }),
    }
}

fn orders() -> Orders {
    Orders {
        replication: ReplicationIntent::Run,
        checkpoint_request: 3,
        checkpoint_interval_s: 600,
        bandwidth: bandwidth(),
    }
}

/// One line per message, so that a review sees which one changed.
fn lines<M: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(messages: &[M]) -> String {
    let mut lines = String::new();
    for message in messages {
        let frame = control(message);
        assert_eq!(read_control::<M>(&frame).unwrap(), *message);
        lines.push_str(std::str::from_utf8(&frame.payload).unwrap());
        lines.push('\n');
    }
    lines
}

#[test]
fn messages_of_an_agent() {
    let messages = [
        AgentMessage::Hello(Hello {
            versions: (2, 2),
            agent_version: "0.1.0".into(),
            server: server(),
            boot_id: "6f1d2a3b-0000-4000-8000-000000000001".into(),
            kept_session: Some(SessionId("c0ffee".into())),
            properties: properties(),
            disks: vec![disk()],
        }),
        AgentMessage::SessionKept,
        AgentMessage::DigestsWanted {
            disk: 0,
            first_block: 8192,
            count: 8192,
            after: SentBefore(vec![7, 0]),
        },
        AgentMessage::Status(AgentStatus {
            phase: Phase::FirstCopy,
            disks: vec![progress()],
            trouble: Some(Trouble {
                kind: TroubleKind::Disks,
                detail: "/dev/sdb vanished".into(),
            }),
            flow: flow(),
        }),
        AgentMessage::Checkpoint(CheckpointOffer {
            kind: CheckpointKind::Launchable,
            consistency: Consistency::Crash,
            taken_at_ms: 1_793_000_000_000,
            request: 3,
            frozen_ms: 120,
            after: SentBefore(vec![7, 1]),
        }),
        AgentMessage::Goodbye {
            reason: Goodbye::DisksChanged,
        },
        AgentMessage::Join {
            server: server(),
            session: SessionId("c0ffee".into()),
            lane: 1,
        },
        AgentMessage::Inspect {
            server: server(),
            checkpoint: Some(CheckpointNumber(12)),
        },
        AgentMessage::KeepAlive,
    ];
    insta::assert_snapshot!(lines(&messages));
}

#[test]
fn messages_of_a_runner() {
    let refusals = [
        Refusal::Version {
            lowest: 1,
            highest: 1,
        },
        Refusal::UnknownServer { server: server() },
        Refusal::NotYourIdentity { server: server() },
        Refusal::ClonedIdentity {
            server: server(),
            other: "web-1 at 192.0.2.10".into(),
        },
        Refusal::StagingFull {
            free_bytes: 1 << 20,
            needed_bytes: 64 << 20,
        },
        Refusal::Disks {
            reason: "two disks are both wwn-1".into(),
        },
        Refusal::NotWanted,
        Refusal::NoSession {
            session: "c0ffee".into(),
        },
        Refusal::NoCheckpoint { server: server() },
    ];
    let faults = [
        Fault::StagingFull,
        Fault::Store {
            detail: "cannot write".into(),
        },
        Fault::Protocol {
            detail: "digests of a disk that was not offered".into(),
        },
        Fault::Stopping,
    ];
    let starts = [
        DiskStart::Full,
        DiskStart::Delta {
            since: CheckpointNumber(7),
        },
        DiskStart::Rescan,
    ];
    let plan = |start| DiskPlan { id: disk().id, start };
    let mut messages = vec![
        RunnerMessage::Welcome(Welcome {
            version: 2,
            session: SessionId("c0ffee".into()),
            disks: starts.into_iter().map(plan).collect(),
            orders: orders(),
            lanes: 4,
        }),
        RunnerMessage::Orders(orders()),
        RunnerMessage::Durable {
            number: CheckpointNumber(8),
        },
        RunnerMessage::Committed {
            number: CheckpointNumber(8),
            roots: vec![Digest([0xab; 32])],
        },
        RunnerMessage::Joined,
        RunnerMessage::Inspected(Inspected {
            number: CheckpointNumber(8),
            consistency: Consistency::Filesystem,
            taken_at_ms: 1_793_000_000_000,
            disks: vec![disk()],
        }),
        RunnerMessage::KeepAlive,
    ];
    messages.extend(refusals.into_iter().map(RunnerMessage::Refused));
    messages.extend(faults.into_iter().map(|fault| RunnerMessage::Fault { fault }));
    insta::assert_snapshot!(lines(&messages));
}

#[test]
fn enrolment() {
    let agent = AgentEnrolment {
        token_secret: "t".repeat(43),
        csr_pem: "csr".into(),
        properties: properties(),
        user_provided_id: Some("cmdb-42".into()),
        tags: BTreeMap::from([("env".into(), "prod".into())]),
        replicate: true,
    };
    let enrolled = EnrolledAgent {
        server: server(),
        certificate_pem: "certificate".into(),
        ca_pem: "ca".into(),
        active_servers: 2,
    };
    let runner = RunnerEnrolment {
        token_secret: "t".repeat(43),
        csr_pem: "csr".into(),
        runner_version: "0.1.0".into(),
        address: "10.0.0.5".into(),
        data_port: 1500,
        enrol_port: 443,
    };
    let enrolled_runner = EnrolledRunner {
        runner: RunnerId::from_entropy(0xa),
        account: "111122223333".parse().unwrap(),
        region: "ap-northeast-1".into(),
        certificate_pem: "certificate".into(),
        ca_pem: "ca".into(),
    };
    let problem = Problem {
        code: "token_expired".into(),
        message: "the token has expired".into(),
    };
    let text = [
        lines(&[agent]),
        lines(&[enrolled]),
        lines(&[runner]),
        lines(&[enrolled_runner]),
        lines(&[problem]),
    ];
    insta::assert_snapshot!(text.concat());
}

fn job() -> JobId {
    JobId::from_entropy(0x70b)
}

fn conversion_order() -> ConversionOrder {
    ConversionOrder {
        job: job(),
        checkpoint: CheckpointNumber(8),
        network: Network::Dhcp,
        hypervisor: Hypervisor::Nitro,
        boot_mode: BootMode::LegacyBios,
        rehearsal: Some(RehearsalOrder {
            cpus: 2,
            memory_mib: 2048,
            time_limit_s: 300,
            probe: Some(Probe {
                port: 80,
                expects: Expects::Http {
                    path: "/health".into(),
                    status: 200,
                },
            }),
        }),
    }
}

fn conversion() -> Conversion {
    Conversion {
        job: job(),
        state: ConversionState::Done(Converted {
            disks: vec![ConvertedDisk {
                disk: disk().id,
                snapshot: "snap-1".into(),
            }],
            changes: 12,
            bytes_read: 100 << 20,
            bytes_written: 40 << 20,
            milliseconds: 23_456,
            rehearsal: Some(Rehearsal {
                came_up: true,
                verdict: "a login prompt".into(),
                milliseconds: 31_000,
                accelerator: "tcg".into(),
            }),
        }),
    }
}

#[test]
fn exchange() {
    let desired = Desired {
        generation: 12,
        servers: vec![DesiredServer {
            id: server(),
            replication: ReplicationIntent::Run,
            checkpoint_request: 3,
            checkpoint_interval_s: 600,
            checkpoints_kept: 12,
            bandwidth: bandwidth(),
            retry_request: 1,
            pinned: vec![CheckpointNumber(8)],
            conversion: Some(conversion_order()),
        }],
        revoked_serials: vec!["40a1".into()],
    };
    let checkpoint = ObservedCheckpoint {
        number: CheckpointNumber(8),
        kind: CheckpointKind::Launchable,
        consistency: Consistency::Crash,
        taken_at_ms: 1_793_000_000_000,
        request: 3,
        frozen_ms: 120,
        received_bytes: 1 << 20,
        damage: None,
        disks: vec![ObservedSnapshot {
            disk: disk().id,
            device_name: "/dev/sda".into(),
            is_boot: true,
            bytes: 8 << 30,
            snapshot: "snap-00000000000000001".into(),
            root: Digest([0xab; 32]),
        }],
    };
    let agent = ObservedAgent {
        address: "192.0.2.10:50000".into(),
        agent_version: "0.1.0".into(),
        properties: properties(),
    };
    let stall = Stall {
        error: ReplicationError::AgentNotSeen,
        detail: "silent for 20 s".into(),
        step: Some(InitiationStep::ConnectAgentToReplicationServer),
    };
    let states = [
        Replication::Continuous,
        Replication::Initiating(Initiation {
            step: InitiationStep::StartDataTransfer,
        }),
        Replication::Stalled(stall),
    ];
    let observe = |replication| ObservedServer {
        id: server(),
        replication,
        agent: Some(agent.clone()),
        disks: vec![progress()],
        flow: flow(),
        durable_request: 3,
        checkpoints: vec![checkpoint.clone()],
        inspection: Some(Inspection {
            checkpoint: CheckpointNumber(8),
            at_ms: 1_760_000_000_500,
            findings: vec![Finding::blocks(
                "grub-legacy",
                "It boots by GRUB 0.97.",
                "Install GRUB 2.",
            )],
        }),
        conversion: Some(conversion()),
        forgotten: false,
    };
    let observed = Observed {
        generation: 12,
        runner_version: "0.1.0".into(),
        staging_free_bytes: Some(1 << 40),
        index_behind: None,
        servers: states.into_iter().map(observe).collect(),
        turned_away: vec![TurnedAway {
            address: "192.0.2.66:50001".into(),
            server: Some(server()),
            reason: "cloned identity".into(),
            at_ms: 1_793_000_000_000,
        }],
    };
    insta::assert_snapshot!([lines(&[desired]), lines(&[observed])].concat());
}

#[test]
fn members_of_a_newer_peer_are_ignored() {
    let frame = control(&serde_json::json!({
        "type": "orders", "replication": "RUN", "checkpoint_request": 1, "checkpoint_interval_s": 60,
        "bandwidth_mbit_s": 34,
    }));
    let read = read_control::<RunnerMessage>(&frame).unwrap();
    assert!(matches!(read, RunnerMessage::Orders(_)));
}
