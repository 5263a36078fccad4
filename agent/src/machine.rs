//! What the agent tells of the server it runs on.

use std::{fs, path::Path};

use domain::{
    disk::Disk,
    launch::{BootMode, instance_type::Architecture},
    source_server::{NetworkInterface, SourceProperties},
};

use crate::disks::Roots;

mod addresses;

/// The properties of this server, with the `disks` that were found.
pub fn properties(roots: &Roots, disks: Vec<Disk>) -> SourceProperties {
    let uname = rustix::system::uname();
    let hostname = read(&roots.proc.join("sys/kernel/hostname"))
        .unwrap_or_else(|| uname.nodename().to_string_lossy().into_owned());
    SourceProperties {
        fqdn: fqdn(&hostname),
        os: os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        kernel: read(&roots.proc.join("sys/kernel/osrelease"))
            .unwrap_or_else(|| uname.release().to_string_lossy().into_owned()),
        architecture: Architecture::own(),
        boot_mode: if roots.sys.join("firmware/efi").exists() {
            BootMode::Uefi
        } else {
            BootMode::LegacyBios
        },
        cpus: cpus(&fs::read_to_string(roots.proc.join("cpuinfo")).unwrap_or_default()),
        ram_bytes: ram_bytes(&fs::read_to_string(roots.proc.join("meminfo")).unwrap_or_default()),
        network_interfaces: interfaces(roots, &addresses::all()),
        disks,
        hostname,
    }
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The first longer name that `/etc/hosts` gives this host. The name service is not asked.
fn fqdn(hostname: &str) -> String {
    if hostname.contains('.') {
        return hostname.to_owned();
    }
    fs::read_to_string("/etc/hosts")
        .unwrap_or_default()
        .lines()
        .flat_map(|line| {
            line.split('#')
                .next()
                .unwrap_or("")
                .split_ascii_whitespace()
                .skip(1)
        })
        .find(|name| {
            name.strip_prefix(hostname)
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
        })
        .unwrap_or(hostname)
        .to_owned()
}

/// `PRETTY_NAME` of os-release(5).
fn os_name(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or("Linux", |name| name.trim_matches(|c| c == '"' || c == '\''))
        .to_owned()
}

fn cpus(cpuinfo: &str) -> u32 {
    let listed = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    u32::try_from(listed).unwrap_or(u32::MAX).max(1)
}

fn ram_bytes(meminfo: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The interfaces that have an address or a cable, without loopback.
fn interfaces(roots: &Roots, addresses: &[addresses::Address]) -> Vec<NetworkInterface> {
    let folder = roots.sys.join("class/net");
    let primary =
        default_route_interface(&fs::read_to_string(roots.proc.join("net/route")).unwrap_or_default());
    let mut names: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name != "lo")
        .collect();
    names.sort();
    let mut found: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            let index: u32 = read(&folder.join(&name).join("ifindex"))?.parse().ok()?;
            let ips: Vec<String> = addresses
                .iter()
                .filter(|address| address.interface == index)
                .map(|address| address.ip.to_string())
                .collect();
            let is_device = folder.join(&name).join("device").exists();
            (is_device || !ips.is_empty()).then(|| NetworkInterface {
                mac_address: read(&folder.join(&name).join("address")).unwrap_or_default(),
                is_primary: primary.as_deref() == Some(name.as_str()),
                ips,
                name,
            })
        })
        .collect();
    if !found.iter().any(|interface| interface.is_primary)
        && let Some(first) = found.iter_mut().find(|interface| !interface.ips.is_empty())
    {
        first.is_primary = true;
    }
    found
}

/// The interface of the IPv4 default route with the least metric, from `/proc/net/route`.
fn default_route_interface(routes: &str) -> Option<String> {
    routes
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let &[name, "00000000", _, _, _, _, metric, "00000000", ..] = fields.as_slice() else {
                return None;
            };
            Some((metric.parse::<u32>().ok()?, name.to_owned()))
        })
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_understood() {
        assert_eq!(
            os_name("NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_name(""), "Linux");
        assert_eq!(cpus("processor\t: 0\nmodel\nprocessor\t: 1\n"), 2);
        assert_eq!(ram_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\n\
                      eth1 00000000 0100000A 0003 0 0 200 00000000 0\n\
                      eth0 00000000 0100000A 0003 0 0 100 00000000 0\n\
                      eth2 0000000A 00000000 0001 0 0 0 000000FF 0\n";
        assert_eq!(default_route_interface(routes).as_deref(), Some("eth0"));
    }

    #[test]
    fn this_machine_describes_itself() {
        let properties = properties(&Roots::default(), Vec::new());
        assert!(!properties.hostname.is_empty() && !properties.kernel.is_empty());
        assert!(properties.ram_bytes > 0 && properties.cpus > 0);
    }
}
