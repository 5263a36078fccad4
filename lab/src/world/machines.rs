//! Instances that boot: a machine of QEMU for every instance in the world's accounts.
//!
//! The cloud records what is launched and terminated; this looks, starts and ends machines after it, and notes how
//! they fare. A machine's console text and screenshot are in the instance's folder. It dies with the lab, and a lab
//! that goes on boots it again.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Context, bail};
use cloud::{
    control::Place,
    folder::{
        FolderCloud,
        machines::{ForwardedPort, Instances, MachineRecord, MachineState},
        place::PlaceFolder,
        records::InstanceRecord,
    },
};
use domain::launch::{BootMode, LaunchDisposition};
use member_runner::{
    machine::{
        Accelerator, Bus, Card, Disk, Firmware, Forward, Machine, MachineError, Network, Outbound, Plan,
        UserNetwork, Writes,
    },
    rehearse::{self, verdict::Verdict},
};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::instance_type::Size;
use crate::network::free_ports;

const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Without KVM a server with a database takes a minute; five where others compile.
const BOOT_MAX: Duration = Duration::from_mins(15);
/// What an operating system gets to shut down in when the lab ends.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(20);
/// Of the instance: SSH and HTTP.
const FORWARDED: [u16; 2] = [22, 80];

/// The machines of a cloud, until they are stopped.
#[derive(Debug)]
pub struct Machines {
    cloud: FolderCloud,
    watch: JoinHandle<()>,
    stop: CancellationToken,
}

impl Machines {
    /// From now on, instances in these places boot; an error says why none can.
    pub async fn start(cloud: &FolderCloud, places: Vec<Place>) -> Result<Self, MachineError> {
        Accelerator::best().await?;
        let changed = cloud.set_instances(Instances::Booted);
        changed.map_err(|source| MachineError::File {
            verb: "write into",
            path: cloud.root().to_owned(),
            source,
        })?;
        let stop = CancellationToken::new();
        let folders = places.iter().map(|place| cloud.place(place)).collect();
        Ok(Self {
            cloud: cloud.clone(),
            watch: tokio::spawn(watch(folders, stop.clone())),
            stop,
        })
    }

    /// Shuts all machines down.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.watch
            .await
            .context("the machines of instances are not watched any more")?;
        self.cloud
            .set_instances(Instances::Recorded)
            .context("cannot note that instances do not boot any more")
    }
}

/// Has a machine for every instance that is there, and for no other.
async fn watch(folders: Vec<PlaceFolder>, stop: CancellationToken) {
    let mut running: BTreeMap<String, CancellationToken> = BTreeMap::new();
    let mut machines = JoinSet::new();
    while !stop.is_cancelled() {
        for folder in &folders {
            // A cloud that cannot be read now can be the next time.
            let Ok(records) = folder.instance_records() else {
                continue;
            };
            for record in records {
                let wanted = !record.terminated && record.spec.disposition == LaunchDisposition::Started;
                match running.get(&record.id) {
                    Some(end) if !wanted => end.cancel(),
                    None if wanted => {
                        let end = CancellationToken::new();
                        running.insert(record.id.clone(), end.clone());
                        machines.spawn(attend(folder.clone(), record, end, stop.clone()));
                    }
                    _ => {}
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
    machines.join_all().await;
}

/// From an instance's start to its end. What went wrong is in its record.
async fn attend(
    folder: PlaceFolder,
    record: InstanceRecord,
    terminated: CancellationToken,
    stop: CancellationToken,
) {
    let mut noted = MachineRecord {
        state: MachineState::Starting,
        detail: "the machine starts".into(),
        forwards: Vec::new(),
    };
    let lived = live(&folder, &record, &mut noted, &terminated, &stop).await;
    if let Err(error) = lived
        && !terminated.is_cancelled()
    {
        noted.state = MachineState::Failed;
        noted.detail = format!("{error:#}");
        // Nobody can be told if the folder cannot be written; the checks do not pass then either.
        drop(folder.set_machine(&record.id, &noted));
    }
}

async fn live(
    folder: &PlaceFolder,
    record: &InstanceRecord,
    noted: &mut MachineRecord,
    terminated: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let note = |noted: &MachineRecord| {
        folder
            .set_machine(&record.id, noted)
            .with_context(|| format!("cannot note the machine of {}", record.id))
    };
    noted.forwards = free_ports::<{ FORWARDED.len() }>()?
        .into_iter()
        .zip(FORWARDED)
        .map(|(loopback, instance)| ForwardedPort { loopback, instance })
        .collect();
    note(noted)?;
    let own = folder.instance_folder(&record.id);
    let mut machine = Machine::start(&plan(folder, record, &noted.forwards)?, &own).await?;
    let boot = rehearse::observe(&mut machine, None, BOOT_MAX, &own);
    tokio::select! {
        outcome = boot => {
            let verdict = outcome?.verdict;
            noted.state = match verdict {
                Verdict::CameUp(_) => MachineState::CameUp,
                Verdict::Failed(_) => MachineState::Failed,
            };
            verdict.text().clone_into(&mut noted.detail);
            note(noted)?;
        }
        () = terminated.cancelled() => {}
        () = stop.cancelled() => {}
    }
    tokio::select! {
        () = terminated.cancelled() => machine.kill().await?,
        () = stop.cancelled() => {
            machine.stop(SHUTDOWN_WAIT).await?;
        }
    }
    Ok(())
}

/// The machine that an instance's record asks for, as EC2 builds them: disks on NVMe, in order.
fn plan(folder: &PlaceFolder, record: &InstanceRecord, forwards: &[ForwardedPort]) -> anyhow::Result<Plan> {
    let size = Size::of(&record.spec.launch.instance_type).with_context(|| {
        format!(
            "the lab knows no instance type {}",
            record.spec.launch.instance_type
        )
    })?;
    let IpAddr::V4(address) = record.private_ip else {
        bail!("the lab's subnets have IPv4 addresses only");
    };
    let disks = record.volumes.iter().map(|volume| Disk {
        file: folder.volume(&record.id, &volume.id),
        bus: Bus::Nvme,
        writes: Writes::Kept,
    });
    Ok(Plan {
        name: record.id.clone(),
        cpus: size.cpus,
        memory_mib: size.memory_mib,
        firmware: match record.boot_mode {
            BootMode::Uefi => Firmware::Uefi,
            BootMode::LegacyBios | BootMode::UseSource => Firmware::Bios,
        },
        disks: disks.collect(),
        network: Network::User(UserNetwork {
            card: Card::VirtioNet,
            address,
            outbound: Outbound::Refused,
            forwards: forwards
                .iter()
                .map(|port| Forward {
                    host: port.loopback,
                    guest: port.instance,
                })
                .collect(),
        }),
    })
}
