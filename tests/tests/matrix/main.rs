//! Old Debian servers of every kind become instances: replicated, converted and booted where they never were.
//!
//! - [`combinations`]: which kinds there are, and which of them every run boots.
//! - [`server`]: the disks of one, and machines that boot them.
//! - [`replica`]: a checkpoint of them, and its conversion.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod combinations;
mod replica;
mod server;

use std::time::Duration;

use member_runner::{
    machine::Accelerator,
    rehearse::{
        self, Outcome,
        verdict::{Failure, Sign, Verdict},
    },
};
use rand::seq::SliceRandom;
use tokio::{task::JoinSet, time::Instant};

use self::{
    combinations::{Combination, ON_LVM, ON_RAID, SELECTION, the_rest},
    replica::Replica,
    server::{BOOT_MAX, Disks, INSTANCE, OLD},
};

/// For how many minutes `the_rest_become_instances` begins with another one.
const MINUTES: &str = "ORGLIFT_MATRIX_MINUTES";

/// `None`, and why, where this machine cannot have it.
async fn old_server(combination: Combination) -> Option<Disks> {
    let reason = if let Err(error) = Accelerator::best().await {
        error.to_string()
    } else if !rustix::process::geteuid().is_root() {
        "only root makes the disks of old servers".to_owned()
    } else {
        match Disks::make(combination) {
            Ok(disks) => return Some(disks),
            Err(reason) => reason,
        }
    };
    eprintln!("cannot run here: the matrix of servers: {reason}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
    None
}

#[tokio::test]
async fn an_old_server_comes_up_where_it_was_installed_and_not_as_an_instance() {
    let Some(disks) = old_server(SELECTION[0]).await else {
        return;
    };
    let folder = disks.folder.path();
    let (old, ready) = disks.plan(OLD);
    let there = rehearse::rehearse(&old, Some(&ready), BOOT_MAX, folder).await;
    let there = there.unwrap();
    assert_eq!(there.verdict, Verdict::CameUp(Sign::Probe));

    // It does not say why: it has no serial console either.
    let twice_as_long = 2 * Duration::from_millis(there.milliseconds);
    let (instance, ready) = disks.plan(INSTANCE);
    let as_instance = rehearse::rehearse(&instance, Some(&ready), twice_as_long, folder).await;
    assert_eq!(as_instance.unwrap().verdict, Verdict::Failed(Failure::TimeLimit));
}

#[tokio::test]
async fn new_firmware_does_not_find_an_old_server() {
    let uefi = SELECTION.iter().find(|combination| combination.has_uefi());
    let Some(disks) = old_server(*uefi.unwrap()).await else {
        return;
    };
    let (instance, _) = disks.plan(INSTANCE);
    let outcome = rehearse::rehearse(&instance, None, BOOT_MAX, disks.folder.path()).await;
    let nothing_there = Verdict::Failed(Failure::NoBootableDevice);
    assert_eq!(outcome.unwrap().verdict, nothing_there);
}

/// Disks are dropped as soon as they are used up: each has half a gigabyte.
async fn becomes_an_instance(combination: Combination) {
    let Some(disks) = old_server(combination).await else {
        return;
    };
    let began = Instant::now();
    let log = |done: &str| eprintln!("{combination}: {done} after {} s", began.elapsed().as_secs());
    let replica = Replica::of(&disks);
    drop(disks);
    log("replicated");
    let instance = replica.convert();
    drop(replica);
    log("converted");
    comes_up(&instance).await;
    log("up");
    let once_more = Replica::of(&instance).changes();
    assert_eq!(once_more, Vec::<String>::new(), "{combination}");
    log("with nothing left to convert");
}

/// It asks for a login on the serial console, and has the address that DHCP gave.
async fn comes_up(instance: &Disks) {
    let (plan, ready) = instance.plan(INSTANCE);
    let combination = instance.combination;
    let boot = async || {
        let boot = rehearse::boot(&plan, None, BOOT_MAX, instance.folder.path()).await;
        boot.unwrap()
    };
    let (mut machine, mut outcome) = boot().await;
    if is_fault_of_emulation(&outcome) {
        eprintln!("{combination}: QEMU let a processor run into a change of code; booting once more");
        machine.kill().await.unwrap();
        (machine, outcome) = boot().await;
    }
    let said = || std::fs::read_to_string(&outcome.console).unwrap();
    assert!(
        matches!(outcome.verdict, Verdict::CameUp(_)),
        "{combination}: {:?}\n{}",
        outcome.verdict,
        said()
    );
    let end = Instant::now() + BOOT_MAX;
    while !ready.answers(&mut machine).await {
        assert!(Instant::now() < end, "{combination} has no network\n{}", said());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    machine.kill().await.unwrap();
}

/// Without KVM, and with several processors, one may meet the breakpoint that Linux puts where it changes its own code,
/// after it has been taken away: a panic long before there are disks.
fn is_fault_of_emulation(outcome: &Outcome) -> bool {
    let said = || std::fs::read_to_string(&outcome.console).unwrap();
    outcome.verdict == Verdict::Failed(Failure::KernelPanic) && said().contains("Oops: int3")
}

/// A test of each, so that they run beside each other.
macro_rules! become_instances {
    ($($name:ident: $number:literal,)*) => {$(
        #[tokio::test]
        async fn $name() {
            becomes_an_instance(SELECTION[$number]).await;
        }
    )*

    #[test]
    fn all_of_the_selection_become_instances() {
        assert_eq!([$($number),*], std::array::from_fn::<usize, { SELECTION.len() }, _>(|number| number));
    }
    };
}

become_instances! {
    server_1_becomes_an_instance: 0,
    server_2_becomes_an_instance: 1,
    server_3_becomes_an_instance: 2,
    server_4_becomes_an_instance: 3,
    server_5_becomes_an_instance: 4,
    server_6_becomes_an_instance: 5,
    server_7_becomes_an_instance: 6,
    server_8_becomes_an_instance: 7,
    server_9_becomes_an_instance: 8,
    server_10_becomes_an_instance: 9,
    server_11_becomes_an_instance: 10,
    server_12_becomes_an_instance: 11,
}

#[tokio::test]
async fn a_server_on_lvm_becomes_an_instance() {
    becomes_an_instance(ON_LVM).await;
}

#[tokio::test]
async fn a_server_on_raid_becomes_an_instance() {
    becomes_an_instance(ON_RAID).await;
}

/// In another order each time, so that runs with a limit get to all of them in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_become_instances() {
    let limit = std::env::var(MINUTES).map_or(u64::MAX, |minutes| minutes.parse().unwrap());
    let mut waiting = the_rest();
    waiting.shuffle(&mut rand::rng());
    let (all, began) = (waiting.len(), Instant::now());
    let (mut done, mut failed, mut running) = (0, Vec::new(), JoinSet::new());
    loop {
        let is_late = began.elapsed().as_secs() / 60 >= limit;
        while running.len() < 2
            && !is_late
            && let Some(combination) = waiting.pop()
        {
            running.spawn(async move {
                let boots = tokio::spawn(becomes_an_instance(combination)).await;
                (combination, boots)
            });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (combination, boots) = ended.unwrap();
        done += 1;
        let verdict = if boots.is_ok() { "ok" } else { "FAILED" };
        eprintln!("{done} of {all}: {combination}: {verdict}");
        if boots.is_err() {
            failed.push(combination.to_string());
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}
