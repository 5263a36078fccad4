//! Files of sections: `NetworkManager`'s connections, and `.network` of systemd-networkd.

use super::Said;

/// `NetworkManager`'s keyfile.
pub fn parse_connection(path: &str, text: &str) -> Said {
    let mut said = Said::default();
    let mut name = file_name(path).to_owned();
    for (section, key, value) in entries(text) {
        match (section, key) {
            ("connection", "type") if value != "loopback" => said.interface(&name),
            ("connection", "interface-name") => {
                value.clone_into(&mut name);
                if let Some(first) = said.interfaces.first_mut() {
                    first.clone_from(&name);
                }
            }
            // `address1=10.0.0.5/24,10.0.0.1`, `addresses=…;`
            ("ipv4" | "ipv6", key) if key.starts_with("address") && key != "address-data" => {
                let address = value.split([',', ';']).next().unwrap_or_default();
                said.address(&name, address);
            }
            (_, "mac-address") => said.names_a_mac = true,
            _ => {}
        }
    }
    said
}

/// systemd.network(5).
pub fn parse_networkd(path: &str, text: &str) -> Said {
    let mut said = Said::default();
    let mut name = file_name(path).to_owned();
    for (section, key, value) in entries(text) {
        match (section, key) {
            ("Match", "Name") => value.clone_into(&mut name),
            ("Match", "MACAddress" | "PermanentMACAddress" | "Path") => said.names_a_mac = true,
            ("Network" | "Address", "Address") => said.address(&name, value),
            _ => {}
        }
    }
    if name != "lo" {
        said.interface(&name);
    }
    said
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Section, key and value of every line that has them.
fn entries(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some((section, key.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_tells_its_addresses_and_its_hardware() {
        let text = "[connection]\nid=wired\ntype=ethernet\ninterface-name=ens33\n\n[ethernet]\n\
                    mac-address=00:0C:29:00:00:01\n[ipv4]\naddress1=10.0.0.5/24,10.0.0.1\nmethod=manual\n\
                    [ipv6]\nmethod=auto\naddr-gen-mode=default\n";
        let said = parse_connection("/x/wired.nmconnection", text);
        assert_eq!(said.interfaces, ["ens33"]);
        assert_eq!(said.addresses, [("ens33".to_owned(), "10.0.0.5/24".to_owned())]);
        assert!(said.names_a_mac);
        let dhcp = parse_connection("/x/a", "[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\n");
        assert_eq!((dhcp.addresses.len(), dhcp.names_a_mac), (0, false));
    }

    #[test]
    fn networkd_tells_the_same_in_other_words() {
        let text = "[Match]\nName=eth0\n# MACAddress=1\n[Network]\nAddress=10.0.0.5/24\n[Address]\nAddress=10.0.0.6/24\n";
        let said = parse_networkd("/etc/systemd/network/10-eth0.network", text);
        assert_eq!(said.interfaces, ["eth0"]);
        assert_eq!(said.addresses.len(), 2);
        assert!(!said.names_a_mac);
        assert!(parse_networkd("a", "[Match]\nMACAddress=00:11\n[Network]\nDHCP=yes\n").names_a_mac);
    }
}
