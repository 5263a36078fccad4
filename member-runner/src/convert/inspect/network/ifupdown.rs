//! interfaces(5) of ifupdown.

use super::Said;

pub fn parse(_name: &str, text: &str) -> Said {
    let mut said = Said::default();
    // The interface whose stanza this is, and whether its address is written down.
    let mut stanza: Option<(&str, bool)> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("iface"), Some(name), _, method) => {
                stanza = (name != "lo").then_some((name, method == Some("static")));
                if name != "lo" {
                    said.interface(name);
                }
            }
            (Some("address"), Some(address), ..) => {
                if let Some((name, true)) = stanza {
                    said.address(name, address);
                }
            }
            (Some("hwaddress"), ..) => said.names_a_mac |= stanza.is_some(),
            (Some("mapping" | "rename"), ..) => stanza = None,
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_stanzas_are_told_from_others() {
        let text = "auto lo eth0\niface lo inet loopback\n\n# iface eth9 inet static\niface eth0 inet static\n\
                    \taddress 10.0.0.5/24\n\tgateway 10.0.0.1\n\thwaddress ether 00:50:56:00:00:01\n\
                    iface eth0 inet6 auto\niface eth1 inet dhcp\n    address 10.9.9.9\n";
        let said = parse("", text);
        assert_eq!(said.interfaces, ["eth0", "eth1"]);
        assert_eq!(said.addresses, [("eth0".to_owned(), "10.0.0.5/24".to_owned())]);
        assert!(said.names_a_mac);
        assert_eq!(parse("", "auto lo\niface lo inet loopback\n"), Said::default());
    }
}
