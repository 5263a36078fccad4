//! `ifcfg-*` of Red Hat's network scripts and of SUSE's wicked.

use super::Said;
use crate::convert::inspect::distribution::unquoted;

/// The interface that `…/ifcfg-eth0` configures; `None` for loopback and for copies that nothing reads.
pub fn interface(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?.strip_prefix("ifcfg-")?;
    let is_copy = [".bak", ".orig", ".old", ".rpmnew", ".rpmsave", ".template", "~"]
        .iter()
        .any(|ending| name.ends_with(ending));
    (name != "lo" && !name.is_empty() && !is_copy).then_some(name)
}

pub fn parse(path: &str, text: &str) -> Said {
    let Some(name) = interface(path) else {
        return Said::default();
    };
    let mut said = Said {
        interfaces: vec![name.to_owned()],
        ..Said::default()
    };
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else {
            continue;
        };
        let value = unquoted(value);
        match key {
            _ if value.is_empty() => {}
            "HWADDR" | "LLADDR" | "MACADDR" => said.names_a_mac = true,
            // IPADDR, IPADDR0, IPADDR_1, IPV6ADDR.
            key if (key.starts_with("IPADDR") || key == "IPV6ADDR") && !key.contains("START") => {
                said.address(name, &value);
            }
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_found() {
        let text = "# HWADDR=1\nDEVICE=ens192\nBOOTPROTO=none\nIPADDR=\"10.1.2.3\"\nPREFIX=24\nIPADDR1=10.1.2.4\n\
                    HWADDR=00:50:56:aa:bb:cc\n";
        let said = parse("/etc/sysconfig/network-scripts/ifcfg-ens192", text);
        assert_eq!(said.interfaces, ["ens192"]);
        let addresses: Vec<&str> = said
            .addresses
            .iter()
            .map(|(_, address)| address.as_str())
            .collect();
        assert_eq!(addresses, ["10.1.2.3", "10.1.2.4"]);
        assert!(said.names_a_mac);
        let suse = parse(
            "ifcfg-eth0",
            "BOOTPROTO='static'\nIPADDR='192.168.1.9/24'\nLLADDR=''\n",
        );
        assert_eq!(suse.addresses, [("eth0".to_owned(), "192.168.1.9/24".to_owned())]);
        assert!(!suse.names_a_mac);
    }

    #[test]
    fn loopback_and_copies_configure_nothing() {
        for name in [
            "ifcfg-lo",
            "ifcfg-eth0.bak",
            "ifcfg-",
            "route-eth0",
            "ifcfg.template",
        ] {
            assert_eq!(interface(name), None, "{name}");
        }
    }
}
