//! A plan as QEMU's command line. Nothing that a guest or its owner chose is on it but numbers.

use std::{
    fmt::Write,
    fs::File,
    os::fd::{AsRawFd, RawFd},
};

use super::{
    Accelerator, Bus, Card, Firmware, Network, Outbound, Plan, UserNetwork, Writes, files::MachineFiles,
};

/// The network card's name in the monitor.
pub const CARD: &str = "card0";
/// Where QEMU finds the open file for screenshots. Sets of disks and firmware have the numbers from 1 on.
pub const SCREEN: &str = "/dev/fdset/0";

const NAME_MAX: usize = 64;

pub fn of(
    plan: &Plan,
    accelerator: Accelerator,
    files: &MachineFiles,
    monitor: &impl AsRawFd,
) -> Vec<String> {
    let mut line = Line::default();
    line.add("-name", format!("guest={}", plain(&plan.name)));
    for flag in ["-nodefaults", "-no-user-config", "-S"] {
        line.0.push(flag.into());
    }
    // QEMU may neither start programs nor become another user; it has no reason to do either.
    line.add(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    // Without graphics the BIOS and what it starts speak on the serial port; the screen is there all the same.
    line.add("-machine", "pc,graphics=off");
    line.add("-accel", accelerator.argument());
    line.add("-cpu", "max");
    line.add("-smp", plan.cpus.to_string());
    line.add("-m", format!("{}M", plan.memory_mib));
    line.add("-display", "none");
    line.add("-device", "VGA");
    line.add("-rtc", "base=utc");
    line.add("-chardev", "stdio,id=console,signal=off");
    line.add("-serial", "chardev:console");
    line.add(
        "-chardev",
        format!("socket,id=monitor,fd={}", monitor.as_raw_fd()),
    );
    line.add("-mon", "chardev=monitor,mode=control");
    line.give(0, &files.screen.drawn);
    line.firmware(plan.firmware, files);
    for (index, (disk, file)) in plan.disks.iter().zip(&files.disks).enumerate() {
        line.disk(index, disk.bus, disk.writes, file);
    }
    line.network(&plan.network);
    line.0
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }

    /// An open file becomes `/dev/fdset/<set>`.
    fn give(&mut self, set: usize, file: &File) {
        let fd: RawFd = file.as_raw_fd();
        self.add("-add-fd", format!("fd={fd},set={set}"));
    }

    fn firmware(&mut self, firmware: Firmware, files: &MachineFiles) {
        let (Firmware::Uefi, Some(uefi)) = (firmware, &files.uefi) else {
            return;
        };
        let first = files.disks.len() + 1;
        self.give(first, &uefi.code);
        self.give(first + 1, &uefi.variables);
        let access = ["readonly=on", "readonly=off,auto-read-only=off"];
        for (unit, access) in access.into_iter().enumerate() {
            let set = first + unit;
            self.add(
                "-drive",
                format!("if=pflash,unit={unit},format=raw,file=/dev/fdset/{set},{access}"),
            );
        }
    }

    fn disk(&mut self, index: usize, bus: Bus, writes: Writes, file: &File) {
        let set = index + 1;
        self.give(set, file);
        let writes = match writes {
            // Otherwise QEMU opens it for reading first, which a file that is open for both does not count for.
            Writes::Kept => "snapshot=off,cache=writeback,auto-read-only=off",
            // Nobody will miss what is lost.
            Writes::Dropped => "snapshot=on,cache=unsafe",
        };
        self.add(
            "-drive",
            format!("if=none,id=disk{index},format=raw,file=/dev/fdset/{set},{writes}"),
        );
        let device = match bus {
            Bus::Ide => format!("ide-hd,bus=ide.{},unit={}", index / 2, index % 2),
            Bus::Nvme => format!("nvme,serial=disk{index}"),
            Bus::VirtioBlk => "virtio-blk-pci".into(),
        };
        self.add("-device", format!("{device},drive=disk{index},bootindex={index}"));
    }

    fn network(&mut self, network: &Network) {
        match network {
            Network::None => {}
            Network::NoLink(card) => {
                // A card on no net at all would be warned of.
                self.add("-netdev", "hubport,id=net0,hubid=0");
                self.card(*card);
            }
            Network::User(user) => {
                self.add("-netdev", user_network(user));
                self.card(user.card);
            }
        }
    }

    fn card(&mut self, card: Card) {
        let device = match card {
            Card::VirtioNet => "virtio-net-pci",
            Card::E1000 => "e1000",
        };
        // No boot from the network: its menu would wait for minutes.
        self.add("-device", format!("{device},id={CARD},netdev=net0,romfile="));
    }
}

fn user_network(user: &UserNetwork) -> String {
    let [a, b, c, _] = user.address.octets();
    let restrict = match user.outbound {
        Outbound::Refused => "on",
        Outbound::Allowed => "off",
    };
    let mut netdev = format!(
        "user,id=net0,ipv6=off,restrict={restrict},net={a}.{b}.{c}.0/24,host={a}.{b}.{c}.1,dns={a}.{b}.{c}.2,dhcpstart={}",
        user.address
    );
    for forward in &user.forwards {
        let (host, guest) = (forward.host, forward.guest);
        write!(netdev, ",hostfwd=tcp:127.0.0.1:{host}-{}:{guest}", user.address)
            .expect("a string takes what is written to it");
    }
    netdev
}

/// A comma would begin another option.
fn plain(name: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    name.chars().filter(kept).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::machine::{Disk, Forward};

    fn line_of(plan: &Plan) -> String {
        let files = MachineFiles::open(plan).unwrap();
        of(plan, Accelerator::Tcg, &files, &files.screen.seen).join(" ")
    }

    fn plan(disk: &std::path::Path, writes: Writes) -> Plan {
        Plan {
            name: "web,1 file=/etc/shadow".into(),
            cpus: 2,
            memory_mib: 512,
            firmware: Firmware::Bios,
            disks: vec![Disk {
                file: disk.to_owned(),
                bus: Bus::Nvme,
                writes,
            }],
            network: Network::User(UserNetwork {
                card: Card::VirtioNet,
                address: Ipv4Addr::new(10, 0, 1, 5),
                outbound: Outbound::Refused,
                forwards: vec![Forward {
                    host: 40001,
                    guest: 80,
                }],
            }),
        }
    }

    #[test]
    fn names_and_paths_of_others_are_not_on_the_command_line() {
        let disk = tempfile::NamedTempFile::with_suffix(",readonly=off").unwrap();
        let line = line_of(&plan(disk.path(), Writes::Dropped));
        assert!(line.contains("guest=web1fileetcshadow "), "{line}");
        assert!(!line.contains("readonly=off"), "{line}");
        assert!(line.contains("file=/dev/fdset/1,snapshot=on"), "{line}");
    }

    #[test]
    fn forwarded_ports_are_the_loopbacks_and_the_rest_of_the_world_is_out_of_reach() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        let line = line_of(&plan(disk.path(), Writes::Kept));
        assert!(line.contains("restrict=on"), "{line}");
        assert!(line.contains("hostfwd=tcp:127.0.0.1:40001-10.0.1.5:80"), "{line}");
        assert!(line.contains("dhcpstart=10.0.1.5"), "{line}");
    }
}
