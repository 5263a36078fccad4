//! Machines of QEMU: an old Debian server boots on the hardware that it knows, and on no other; instances boot.
//!
//! Without KVM a boot takes half a minute; the disk is made once, in two or three minutes.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod instances;

use std::{path::Path, time::Duration};

use domain::launch::Expects;
use lab::{
    debian::{
        disk::{Debian, Made},
        source::{Source, committed},
    },
    network::free_ports,
    wait::{Look, eventually},
};
use member_runner::{
    machine::{
        Accelerator, Bus, Card, Disk, Ending, Firmware, Forward, Machine, MachineError, Network, Outbound,
        Plan, UserNetwork, Writes,
    },
    rehearse::{
        self, Outcome,
        probe::Probe,
        verdict::{Failure, Sign, Verdict},
    },
};

/// With initramfs-tools' own half a minute of patience, on a machine where others compile.
const BOOT_MAX: Duration = Duration::from_mins(12);

/// Says why a test ends here.
fn cannot_run(reason: &str) {
    eprintln!("cannot run here: {reason}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
}

async fn can_boot() -> bool {
    let missing = Accelerator::best().await.err();
    if let Some(error) = &missing {
        cannot_run(&error.to_string());
    }
    missing.is_none()
}

/// `None` where this machine lacks something.
async fn server() -> Option<Made> {
    if !can_boot().await {
        return None;
    }
    if let Some(reason) = Debian::is_impossible() {
        cannot_run(&reason);
        return None;
    }
    let made = tokio::task::spawn_blocking(|| Debian::WITH_A_DATABASE.disk(|_| {}));
    Some(made.await.unwrap().unwrap())
}

fn plan(disk: &Path, bus: Bus, network: Network) -> Plan {
    Plan {
        name: "old-debian".into(),
        cpus: 2,
        memory_mib: 1024,
        firmware: Firmware::Bios,
        disks: vec![Disk {
            file: disk.to_owned(),
            bus,
            writes: Writes::Dropped,
        }],
        network,
    }
}

fn said(outcome: &Outcome) -> String {
    std::fs::read_to_string(&outcome.console).unwrap()
}

fn is_png(outcome: &Outcome) -> bool {
    let picture = std::fs::read(outcome.screenshot.as_ref().unwrap()).unwrap();
    picture.starts_with(b"\x89PNG\r\n")
}

#[tokio::test]
async fn an_old_server_comes_up_on_the_hardware_that_it_knows() {
    let Some(Made { disk, .. }) = server().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [ssh, nobody] = free_ports().unwrap();
    let ssh = Forward { host: ssh, guest: 22 };
    let nobody = Forward {
        host: nobody,
        guest: 23,
    };
    let network = UserNetwork {
        card: Card::E1000,
        address: [10, 0, 2, 15].into(),
        outbound: Outbound::Refused,
        forwards: vec![ssh, nobody],
    };
    let old = plan(&disk, Bus::Ide, Network::User(network));
    let mut machine = Machine::start(&old, folder.path()).await.unwrap();
    let seen = rehearse::observe(&mut machine, None, BOOT_MAX, folder.path())
        .await
        .unwrap();
    assert!(matches!(seen.verdict, Verdict::CameUp(_)), "{}", said(&seen));
    assert!(is_png(&seen));

    let answers = |forward| Probe {
        forward,
        expects: Expects::Tcp,
    };
    let probed = rehearse::observe(&mut machine, Some(&answers(ssh)), BOOT_MAX, folder.path()).await;
    assert_eq!(probed.unwrap().verdict, Verdict::CameUp(Sign::Probe));
    assert!(!answers(nobody).answers(&mut machine).await);
    // systemd has started the prompt before it says that everything is started; it may appear after that.
    let prompt = || async {
        let console = machine.recent_console();
        Ok(Look::when(console.contains("old-debian login: "), console))
    };
    eventually("there is a login prompt", BOOT_MAX, prompt)
        .await
        .unwrap();
    assert_eq!(machine.stop(BOOT_MAX).await.unwrap(), Ending::PoweredOff);
}

#[tokio::test]
async fn a_source_server_shows_what_it_has_committed_and_its_operator_logs_in() {
    let Some(made) = server().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = Source::start(&made, folder.path()).await.unwrap();
    let before = committed(source.http).await.unwrap();
    let goes_on = || async {
        let now = committed(source.http).await?;
        Ok(Look::when(now > before, now))
    };
    eventually("rows are committed", BOOT_MAX, goes_on).await.unwrap();
    let count = "runuser -u postgres -- psql -qAtc 'select count(*), max(number) from entry'";
    let counted = source.ssh.run(count).await.unwrap();
    let (rows, last) = counted.trim().split_once('|').unwrap();
    assert_eq!(rows, last);
    assert!(last.parse::<u64>().unwrap() > before);
    let refused = source.ssh.run("echo why >&2; exit 3").await.unwrap_err();
    assert!(refused.to_string().ends_with("exit status: 3: why"), "{refused}");
    source.stop().await.unwrap();
}

#[tokio::test]
async fn an_old_server_does_not_find_its_root_on_nvme() {
    let Some(Made { disk, .. }) = server().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let instance = plan(&disk, Bus::Nvme, Network::NoLink(Card::VirtioNet));
    let outcome = rehearse::rehearse(&instance, None, BOOT_MAX, folder.path())
        .await
        .unwrap();
    assert_eq!(
        outcome.verdict,
        Verdict::Failed(Failure::NoRoot),
        "{}",
        said(&outcome)
    );
    assert!(said(&outcome).contains("Linux version 6."), "{}", said(&outcome));
    assert!(is_png(&outcome));
}

#[tokio::test]
async fn uefi_finds_nothing_to_boot_on_an_empty_disk() {
    if !can_boot().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let mut empty = plan(&disk, Bus::Nvme, Network::None);
    empty.firmware = Firmware::Uefi;
    match rehearse::rehearse(&empty, None, BOOT_MAX, folder.path()).await {
        Err(missing @ MachineError::NoUefi) => cannot_run(&missing.to_string()),
        outcome => {
            let outcome = outcome.unwrap();
            assert_eq!(
                outcome.verdict,
                Verdict::Failed(Failure::NoBootableDevice),
                "{}",
                said(&outcome)
            );
        }
    }
}

#[tokio::test]
async fn why_qemu_does_not_start_a_machine_is_in_the_error() {
    if !can_boot().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let network = UserNetwork {
        card: Card::VirtioNet,
        address: [10, 0, 2, 15].into(),
        outbound: Outbound::Refused,
        forwards: vec![Forward {
            host: taken.local_addr().unwrap().port(),
            guest: 22,
        }],
    };
    let refused = Machine::start(
        &plan(&disk, Bus::VirtioBlk, Network::User(network)),
        folder.path(),
    )
    .await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("Could not set up host forwarding rule"), "{error}");
}
