//! An old server: its disks, made by `tests/old-server/disks` for one test, and machines that boot them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use domain::launch::Expects;
use member_runner::{
    machine::{Bus, Card, Disk, Firmware, Forward, Network, Outbound, Plan, UserNetwork, Writes},
    rehearse::{self, Outcome, probe::Probe},
};
use tempfile::TempDir;

use crate::combinations::Combination;

/// It accepts connections here once everything has started.
const READY_PORT: u16 = 80;
/// How the source is attached, and what its address is.
pub const OLD: Hardware = Hardware {
    bus: Bus::Ide,
    card: Card::E1000,
    address: [10, 0, 2, 15],
};
/// As on an instance. Its network gives another address than the source had.
pub const INSTANCE: Hardware = Hardware {
    bus: Bus::Nvme,
    card: Card::VirtioNet,
    address: [10, 0, 2, 77],
};

#[derive(Debug, Clone, Copy)]
pub struct Hardware {
    bus: Bus,
    card: Card,
    address: [u8; 4],
}

pub struct OldServer {
    folder: TempDir,
    pub combination: Combination,
}

impl OldServer {
    /// What to say on one line where it cannot be made here.
    pub fn make(combination: Combination) -> Result<Self, String> {
        // Not in memory: several are made at once.
        let folder = tempfile::tempdir_in("/var/tmp").map_err(|error| error.to_string())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("old-server/disks");
        let made = Command::new(script)
            .arg(folder.path())
            .args(combination.words())
            .output()
            .map_err(|error| error.to_string())?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            let last = said.lines().next_back().unwrap_or_default();
            return Err(format!("{combination}: {last}"));
        }
        Ok(Self { folder, combination })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As the server calls them, and in that order.
    pub fn disks(&self) -> Vec<PathBuf> {
        let disks = ["sda.raw", "sdb.raw"].map(|name| self.path(name));
        disks.into_iter().filter(|disk| disk.exists()).collect()
    }

    /// Boots disks as this server's, until its network answers. What the machine writes is dropped.
    pub async fn boot(&self, disks: &[PathBuf], hardware: Hardware, time_limit: Duration) -> Outcome {
        let forward = Forward {
            host: free_port(),
            guest: READY_PORT,
        };
        let plan = Plan {
            name: self.combination.to_string(),
            cpus: 2,
            memory_mib: 1024,
            firmware: if self.combination.firmware == "gpt-uefi" {
                Firmware::Uefi
            } else {
                Firmware::Bios
            },
            disks: disks
                .iter()
                .map(|file| Disk {
                    file: file.clone(),
                    bus: hardware.bus,
                    writes: Writes::Dropped,
                })
                .collect(),
            network: Network::User(UserNetwork {
                card: hardware.card,
                address: hardware.address.into(),
                outbound: Outbound::Refused,
                forwards: vec![forward],
            }),
        };
        let answers = Probe {
            forward,
            expects: Expects::Tcp,
        };
        rehearse::rehearse(&plan, Some(&answers), time_limit, self.folder.path())
            .await
            .unwrap()
    }
}

/// Nobody listens there now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
