//! netplan's YAML, as far as addresses go: keys by their indentation, lists in either style. It does not claim to
//! read all of YAML; what it misses, conversion reads again.

use super::Said;

/// An interface is three keys deep: `network`, `ethernets`, its name.
const INTERFACE_DEPTH: usize = 3;
const KINDS: [&str; 7] = [
    "ethernets",
    "bonds",
    "bridges",
    "vlans",
    "wifis",
    "dummy-devices",
    "tunnels",
];

pub fn parse(_path: &str, text: &str) -> Said {
    let mut said = Said::default();
    // The keys that this line is below, with their indentation.
    let mut above: Vec<(usize, &str)> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.len() - content.len();
        if let Some(item) = content.strip_prefix("- ") {
            // A list may stand as deep as its key.
            above.retain(|(depth, key)| *depth < indent || (*depth == indent && *key == "addresses"));
            take(&mut said, &above, item);
            continue;
        }
        above.retain(|(depth, _)| *depth < indent);
        let Some((key, value)) = content.split_once(':') else {
            continue;
        };
        above.push((indent, key.trim().trim_matches(['"', '\''])));
        if above.len() == INTERFACE_DEPTH && KINDS.contains(&above[1].1) {
            said.interface(above[2].1);
        }
        let list = value
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next());
        for item in list.into_iter().flat_map(|list| list.split(',')) {
            take(&mut said, &above, item);
        }
        if above.len() > INTERFACE_DEPTH && matches!(above.last(), Some((_, "macaddress"))) {
            said.names_a_mac = true;
        }
        said.names_a_mac |= above.len() >= INTERFACE_DEPTH && value.contains("macaddress:");
    }
    said
}

/// Notes the address if the keys above say that it is one of an interface, and not that of a name server.
fn take(said: &mut Said, above: &[(usize, &str)], item: &str) {
    let [_, (_, kind), (_, interface), (_, "addresses")] = above else {
        return;
    };
    let address = item.split(" #").next().unwrap_or_default().trim();
    // An address with options is a key: `10.0.0.5/24:`.
    let address = address.strip_suffix(':').unwrap_or(address);
    let address = address.trim_matches(['"', '\'']);
    if KINDS.contains(kind) && !address.is_empty() {
        said.address(interface, address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(said: &Said) -> Vec<&str> {
        said.addresses
            .iter()
            .map(|(_, address)| address.as_str())
            .collect()
    }

    #[test]
    fn addresses_are_told_from_name_servers() {
        let text = "# installer\nnetwork:\n  version: 2\n  ethernets:\n    ens160:\n      addresses:\n        - 10.0.0.5/24\n\
                    \x20       - \"2001:db8::5/64\"\n      nameservers:\n        addresses: [10.0.0.2, 10.0.0.3]\n\
                    \x20     routes:\n      - to: default\n        via: 10.0.0.1\n    ens192:\n      dhcp4: true\n";
        let said = parse("", text);
        assert_eq!(said.interfaces, ["ens160", "ens192"]);
        assert_eq!(addresses(&said), ["10.0.0.5/24", "2001:db8::5/64"]);
        assert!(!said.names_a_mac);
    }

    #[test]
    fn lists_may_stand_on_one_line_or_as_deep_as_their_key() {
        let text = "network:\n    ethernets:\n        eth0:\n            addresses: [10.0.0.5/24, '10.0.0.6/24']\n\
                    \x20       eth1:\n            addresses:\n            - 10.1.0.5/24:\n                label: x\n\
                    \x20           match: {macaddress: \"00:50:56:00:00:01\"}\n";
        let said = parse("", text);
        assert_eq!(addresses(&said), ["10.0.0.5/24", "10.0.0.6/24", "10.1.0.5/24"]);
        assert!(said.names_a_mac);
        let below =
            "network:\n  ethernets:\n    eth0:\n      match:\n        macaddress: 00:50:56:00:00:01\n";
        assert!(parse("", below).names_a_mac);
    }
}
