//! Old Debian servers of every kind, which become instances.
//!
//! - [`combinations`]: which there are, and which of them every run boots.
//! - [`server`]: the disks of one, and machines that boot them.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod combinations;
mod server;

use std::time::Duration;

use member_runner::{
    machine::Accelerator,
    rehearse::verdict::{Failure, Sign, Verdict},
};

use self::{
    combinations::{Combination, SELECTION},
    server::{INSTANCE, OLD, OldServer},
};

/// Half a minute without KVM, on a machine that has nothing else to do.
const BOOT_MAX: Duration = Duration::from_mins(10);

/// `None`, and why, where this machine cannot have it.
async fn old_server(combination: Combination) -> Option<OldServer> {
    let reason = if let Err(error) = Accelerator::best().await {
        error.to_string()
    } else if !rustix::process::geteuid().is_root() {
        "only root makes the disks of old servers".to_owned()
    } else {
        match OldServer::make(combination) {
            Ok(server) => return Some(server),
            Err(reason) => reason,
        }
    };
    eprintln!("cannot run here: the matrix of servers: {reason}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
    None
}

#[tokio::test]
async fn an_old_server_comes_up_where_it_was_installed_and_not_as_an_instance() {
    let Some(server) = old_server(SELECTION[0]).await else {
        return;
    };
    let disks = server.disks();
    let there = server.boot(&disks, OLD, BOOT_MAX).await;
    assert_eq!(there.verdict, Verdict::CameUp(Sign::Probe));
    // It does not say why: it has no serial console either.
    let twice_as_long = 2 * Duration::from_millis(there.milliseconds);
    let as_instance = server.boot(&disks, INSTANCE, twice_as_long).await;
    assert_eq!(as_instance.verdict, Verdict::Failed(Failure::TimeLimit));
}

#[tokio::test]
async fn new_firmware_does_not_find_an_old_server() {
    let uefi = SELECTION
        .iter()
        .find(|server| server.firmware == "gpt-uefi")
        .unwrap();
    let Some(server) = old_server(*uefi).await else {
        return;
    };
    let outcome = server.boot(&server.disks(), INSTANCE, BOOT_MAX).await;
    assert_eq!(outcome.verdict, Verdict::Failed(Failure::NoBootableDevice));
}
