//! A rehearsal in a worker: the clones are booted as they are, and nothing that the machine writes is kept.

use std::{net::TcpListener, path::PathBuf, time::Duration};

use domain::{conversion::Rehearsal, launch::BootMode};
use std::net::Ipv4Addr;

use super::{
    conversion::{Failed, begin},
    orders::{Rehearse, Report},
    worker::inside::Inside,
};
use crate::{
    machine::{Bus, Card, Disk, Firmware, Forward, Network, Outbound, Plan, UserNetwork, Writes},
    rehearse::{self, probe::Probe},
};

/// Of the machine, where it has a network: documentation's own, so that it is nobody's.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Console text and screenshot are in the work folder.
pub(super) fn rehearse(inside: &Inside, order: &Rehearse) -> Result<Report, Failed> {
    let step = begin(inside, "rehearse");
    // A client of HTTP asks for it, although nothing here is encrypted.
    identity::install_crypto_provider();
    let probe = match &order.machine.probe {
        Some(probe) => Some(Probe {
            forward: Forward {
                host: free_port().map_err(Failed::at(step))?,
                guest: probe.port,
            },
            expects: probe.expects.clone(),
        }),
        None => None,
    };
    let plan = plan(inside, order, probe.as_ref());
    let limit = Duration::from_secs(u64::from(order.machine.time_limit_s));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failed::at(step))?;
    let outcome = runtime
        .block_on(rehearse::rehearse(&plan, probe.as_ref(), limit, &inside.work))
        .map_err(Failed::at(step))?;
    Ok(Report::Rehearsed(Rehearsal {
        came_up: outcome.verdict.came_up(),
        verdict: outcome.verdict.text().to_owned(),
        milliseconds: outcome.milliseconds,
        accelerator: outcome.accelerator.name().to_owned(),
    }))
}

/// The disk that is booted comes first, as on an instance.
fn plan(inside: &Inside, order: &Rehearse, probe: Option<&Probe>) -> Plan {
    let mut disks: Vec<(bool, PathBuf)> = Vec::new();
    for (place, disk) in inside.disks.iter().enumerate() {
        disks.push((!disk.is_boot, inside.files().join(place.to_string())));
    }
    disks.sort_by_key(|(later, _)| *later);
    let disks = disks.into_iter().map(|(_, file)| Disk {
        file,
        bus: Bus::Nvme,
        writes: Writes::Dropped,
    });
    Plan {
        name: "rehearsal".into(),
        cpus: order.machine.cpus,
        memory_mib: order.machine.memory_mib,
        firmware: match order.boot_mode {
            BootMode::Uefi => Firmware::Uefi,
            BootMode::LegacyBios | BootMode::UseSource => Firmware::Bios,
        },
        disks: disks.collect(),
        network: match probe {
            None => Network::NoLink(Card::VirtioNet),
            Some(probe) => Network::User(UserNetwork {
                card: Card::VirtioNet,
                address: ADDRESS,
                outbound: Outbound::Refused,
                forwards: vec![probe.forward],
            }),
        },
    }
}

/// One that nobody listens on now. QEMU says so if it is taken before it gets there.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
