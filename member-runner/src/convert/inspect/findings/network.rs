//! Findings about the network that a guest expects.

use domain::readiness::Finding;

use super::listed;
use crate::convert::inspect::{Facts, network::NetworkStack};

pub fn look(facts: &Facts, found: &mut Vec<Finding>) {
    let network = &facts.network;
    if network.stacks.is_empty() {
        found.push(Finding::warns(
            "network-unknown",
            "Nothing was found that configures its network: neither ifupdown, netplan, NetworkManager, systemd-networkd, network-scripts nor wicked.",
            "Find out what does, and check in a test launch that the instance can be reached.",
        ));
    }
    let is_alone = |stack| network.has(stack) && network.dhcp_client.is_none();
    let scripts = is_alone(NetworkStack::Ifcfg) && !network.has(NetworkStack::NetworkManager);
    if is_alone(NetworkStack::Ifupdown) || scripts {
        let stack = if scripts {
            NetworkStack::Ifcfg
        } else {
            NetworkStack::Ifupdown
        };
        found.push(Finding::warns(
            "dhcp-client-missing",
            format!("{} needs a DHCP client, and none is installed.", stack.name()),
            "Install isc-dhcp-client, dhcpcd or dhcp-client on the server, or launch with its private address kept.",
        ));
    }
    found.extend(addresses(facts));
    if !network.bound_to_hardware.is_empty() {
        found.push(Finding::informs(
            "network-bound-to-hardware",
            format!(
                "Interfaces are named by MAC addresses, which an instance does not have; conversion undoes it in {}.",
                listed(&network.bound_to_hardware)
            ),
        ));
    }
}

/// One address is replaced as the launch configuration says; of several only one has a place there.
fn addresses(facts: &Facts) -> Option<Finding> {
    let is_ipv4 = |address: &&str| address.contains('.');
    let mut all: Vec<&str> = facts
        .network
        .addresses
        .iter()
        .map(|address| address.address.as_str())
        .collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return None;
    }
    let written = listed(&all);
    Some(if all.iter().filter(|address| is_ipv4(address)).count() > 1 {
        Finding::warns(
            "static-addresses",
            format!(
                "Several addresses are written down: {written}. An instance starts with one, by DHCP or the one kept."
            ),
            "Add the other addresses to the network interface after the launch, and check what refers to them.",
        )
    } else {
        Finding::informs(
            "static-address",
            format!(
                "A fixed address is written down: {written}. It becomes DHCP, unless the launch configuration keeps the private address."
            ),
        )
    })
}
