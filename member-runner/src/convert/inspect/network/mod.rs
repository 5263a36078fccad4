//! Who configures a guest's network, which addresses are written down, and what is bound to hardware.

mod ifcfg;
mod ifupdown;
mod ini;
mod netplan;

use super::guest::Guest;

/// The most interfaces, and addresses, that one file is believed.
const ENTRIES_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Those with a configuration that is used.
    pub stacks: Vec<NetworkStack>,
    pub addresses: Vec<StaticAddress>,
    /// Files that name interfaces by MAC address or by slot, none of which the target has.
    pub bound_to_hardware: Vec<String>,
    /// A program that stacks without one of their own need for DHCP.
    pub dhcp_client: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkStack {
    Ifupdown,
    Netplan,
    NetworkManager,
    Networkd,
    /// `/etc/sysconfig/network-scripts`, whether its scripts or `NetworkManager` read it.
    Ifcfg,
    /// `/etc/sysconfig/network`.
    Wicked,
}

impl NetworkStack {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ifupdown => "ifupdown",
            Self::Netplan => "netplan",
            Self::NetworkManager => "NetworkManager",
            Self::Networkd => "systemd-networkd",
            Self::Ifcfg => "network-scripts",
            Self::Wicked => "wicked",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddress {
    pub interface: String,
    /// As written, with or without a prefix.
    pub address: String,
    pub file: String,
}

/// What one file says of the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Said {
    /// Interfaces other than loopback that it configures.
    interfaces: Vec<String>,
    /// Interface and address.
    addresses: Vec<(String, String)>,
    names_a_mac: bool,
}

impl Said {
    fn interface(&mut self, name: &str) {
        if self.interfaces.len() < ENTRIES_MAX && !self.interfaces.iter().any(|known| known == name) {
            self.interfaces.push(name.to_owned());
        }
    }

    fn address(&mut self, interface: &str, address: &str) {
        if self.addresses.len() < ENTRIES_MAX {
            self.addresses.push((interface.to_owned(), address.to_owned()));
        }
    }
}

/// A file's text, and its name for files that are called after their interface.
type Parser = fn(name: &str, text: &str) -> Said;

pub fn network(guest: &Guest) -> Network {
    let mut network = Network {
        dhcp_client: guest.first_of(&[
            "/sbin/dhclient",
            "/usr/sbin/dhclient",
            "/usr/sbin/dhcpcd",
            "/sbin/dhcpcd",
            "/sbin/udhcpc",
            "/usr/sbin/udhcpc",
            "/usr/sbin/pump",
        ]),
        ..Network::default()
    };
    for (stack, folder, ending, parser) in [
        (
            NetworkStack::Ifupdown,
            "/etc/network/interfaces.d",
            "",
            ifupdown::parse as Parser,
        ),
        (NetworkStack::Netplan, "/etc/netplan", ".yaml", netplan::parse),
        (NetworkStack::Netplan, "/usr/lib/netplan", ".yaml", netplan::parse),
        (
            NetworkStack::NetworkManager,
            "/etc/NetworkManager/system-connections",
            "",
            ini::parse_connection,
        ),
        (
            NetworkStack::Networkd,
            "/etc/systemd/network",
            ".network",
            ini::parse_networkd,
        ),
        (
            NetworkStack::Ifcfg,
            "/etc/sysconfig/network-scripts",
            "",
            ifcfg::parse,
        ),
        (NetworkStack::Wicked, "/etc/sysconfig/network", "", ifcfg::parse),
    ] {
        let mut files = guest.files(folder, ending);
        match stack {
            NetworkStack::Ifupdown => files.insert(0, "/etc/network/interfaces".into()),
            NetworkStack::Ifcfg | NetworkStack::Wicked => {
                files.retain(|path| ifcfg::interface(path).is_some());
            }
            // Files for it are often left behind by images that use something else.
            NetworkStack::Networkd if !guest.starts("systemd-networkd.service") => continue,
            _ => {}
        }
        for path in files {
            if let Some(text) = guest.text(&path) {
                network.take(stack, &path, parser(&path, &text));
            }
        }
    }
    // Without a connection written down, it asks for an address on every wire.
    if guest.starts("NetworkManager.service") {
        network.uses(NetworkStack::NetworkManager);
    }
    for rules in [
        "/etc/udev/rules.d/70-persistent-net.rules",
        "/etc/udev/rules.d/70-persistent-net-cd.rules",
        "/etc/udev/rules.d/75-persistent-net-generator.rules",
        "/etc/iftab",
        "/etc/mactab",
    ] {
        if guest.text(rules).is_some_and(|text| has_a_line(&text)) {
            network.bound_to_hardware.push(rules.into());
        }
    }
    for path in guest.files("/etc/systemd/network", ".link") {
        let text = guest.text(&path).unwrap_or_default();
        if text.contains("MACAddress=") || text.contains("Path=") {
            network.bound_to_hardware.push(path);
        }
    }
    network
}

impl Network {
    pub fn has(&self, stack: NetworkStack) -> bool {
        self.stacks.contains(&stack)
    }

    fn uses(&mut self, stack: NetworkStack) {
        if !self.has(stack) {
            self.stacks.push(stack);
        }
    }

    fn take(&mut self, stack: NetworkStack, path: &str, said: Said) {
        if !said.interfaces.is_empty() {
            self.uses(stack);
        }
        if said.names_a_mac {
            self.bound_to_hardware.push(path.to_owned());
        }
        let addresses = said.addresses.into_iter();
        self.addresses
            .extend(addresses.map(|(interface, address)| StaticAddress {
                interface,
                address,
                file: path.to_owned(),
            }));
    }
}

fn has_a_line(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .any(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_that_are_all_comments_bind_nothing() {
        assert!(!has_a_line("# written by a generator\n\n"));
        assert!(has_a_line("#\nSUBSYSTEM==\"net\", NAME=\"eth0\"\n"));
    }

    #[test]
    fn a_file_of_nothing_but_interfaces_is_believed_up_to_a_limit() {
        let stanza = |number| format!("iface eth{number} inet static\n address 10.0.0.{number}\n");
        let said = ifupdown::parse("", &(0..1000).map(stanza).collect::<String>());
        assert_eq!(
            (said.interfaces.len(), said.addresses.len()),
            (ENTRIES_MAX, ENTRIES_MAX)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(name in "\\PC{0,40}", text in "(?s)[\\PC\\s:=\\[\\]{}#\"',-]{0,300}") {
            for parse in [
                ifupdown::parse as Parser,
                netplan::parse,
                ini::parse_connection,
                ini::parse_networkd,
                ifcfg::parse,
            ] {
                parse(&name, &text);
            }
        }
    }
}
