//! An old server: its disks, made by `tests/old-server/disks` for one test, and machines that boot them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use domain::launch::Expects;
use lab::network::free_ports;
use member_runner::{
    machine::{Bus, Card, Disk, Firmware, Forward, Network, Outbound, Plan, UserNetwork, Writes},
    rehearse::probe::Probe,
};
use tempfile::TempDir;

use crate::combinations::Combination;

/// Half a minute without KVM, on a machine that has nothing else to do.
pub const BOOT_MAX: Duration = Duration::from_mins(10);
/// It accepts connections here once everything has started.
const READY_PORT: u16 = 80;
/// How the source is attached, and what its address is.
pub const OLD: Hardware = Hardware {
    bus: Bus::Ide,
    card: Card::E1000,
    address: [10, 0, 2, 15],
};
/// As on an instance. DHCP gives another address than the source had.
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

/// Disks, in the order of the server's names for them.
pub struct Disks {
    pub folder: TempDir,
    pub files: Vec<PathBuf>,
    pub combination: Combination,
}

impl Disks {
    /// What to say on one line where they cannot be made here.
    pub fn make(combination: Combination) -> Result<Self, String> {
        let Combination { suite, generator, .. } = combination;
        let tree = script("tree").args([suite, generator]).output();
        let tree = tree.map_err(|error| error.to_string())?;
        if !tree.status.success() {
            let said = String::from_utf8_lossy(&tree.stderr);
            return Err(said.lines().next_back().unwrap_or_default().to_owned());
        }
        let folder = new_folder();
        let disks = script("disks")
            .arg(folder.path())
            .args(combination.words())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&disks.stderr);
        assert!(disks.status.success(), "{combination}: {said}");
        Ok(Self::of(folder, "raw", combination))
    }

    /// Those whose names end so.
    pub fn of(folder: TempDir, extension: &str, combination: Combination) -> Self {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|found| found == extension));
        files.sort();
        Self {
            folder,
            files,
            combination,
        }
    }

    /// A machine that drops what it writes, and how to see that it is ready.
    pub fn plan(&self, hardware: Hardware) -> (Plan, Probe) {
        let [port] = free_ports().unwrap();
        let forward = Forward {
            host: port,
            guest: READY_PORT,
        };
        let disk = |file: &PathBuf| Disk {
            file: file.clone(),
            bus: hardware.bus,
            writes: Writes::Dropped,
        };
        let plan = Plan {
            name: self.combination.words().join("-"),
            cpus: 2,
            memory_mib: 1024,
            firmware: if self.combination.has_uefi() {
                Firmware::Uefi
            } else {
                Firmware::Bios
            },
            disks: self.files.iter().map(disk).collect(),
            network: Network::User(UserNetwork {
                card: hardware.card,
                address: hardware.address.into(),
                outbound: Outbound::Refused,
                forwards: vec![forward],
            }),
        };
        let expects = Expects::Tcp;
        (plan, Probe { forward, expects })
    }
}

fn script(name: &str) -> Command {
    Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("old-server")
            .join(name),
    )
}

/// Not in memory, as `/tmp` may be: several servers are made at once.
pub fn new_folder() -> TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}
