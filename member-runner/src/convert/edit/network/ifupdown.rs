//! Debian's `/etc/network/interfaces` and what it reads from `interfaces.d`.

use super::{FIRST, rename, why};
use crate::convert::{
    edit::texts,
    editor::{EditError, Editor},
    tree::Tree,
};
use domain::conversion::Network;

const MAIN: &str = "/etc/network/interfaces";
const DROP_INS: &str = "/etc/network/interfaces.d";
/// What DHCP tells. Search domains stay: programs ask for short names.
const TOLD_BY_DHCP: [&str; 9] = [
    "address",
    "netmask",
    "broadcast",
    "network",
    "gateway",
    "pointopoint",
    "scope",
    "dns-nameservers",
    "dns-nameserver",
];

/// An `iface`, and what belongs to it.
struct Stanza<'a> {
    name: &'a str,
    family: &'a str,
    method: &'a str,
    options: Vec<(&'a str, &'a str)>,
}

/// The interface with the default route.
#[derive(Debug, PartialEq, Eq)]
struct Primary {
    /// Which has the address: a bridge, maybe.
    name: String,
    /// The hardware below it.
    port: String,
}

pub fn edit(editor: &mut Editor, network: Network) -> Result<(), EditError> {
    let files = files(editor.tree())?;
    let Some(primary) = primary(&files) else {
        return Ok(());
    };
    for (path, text) in &files {
        editor.write(path, convert(text, &primary, network).as_bytes(), why(network))?;
    }
    Ok(())
}

pub fn is_used(tree: &Tree) -> Result<bool, EditError> {
    Ok(primary(&files(tree)?).is_some())
}

fn files(tree: &Tree) -> Result<Vec<(String, String)>, EditError> {
    let main = tree.read_text(MAIN)?.map(|text| (MAIN.to_owned(), text));
    let drop_ins = texts(tree, DROP_INS, |_| true)?;
    Ok(main.into_iter().chain(drop_ins).collect())
}

fn primary(files: &[(String, String)]) -> Option<Primary> {
    let stanzas: Vec<Stanza> = files.iter().flat_map(|(_, text)| stanzas(text)).collect();
    let ipv4 = || {
        stanzas
            .iter()
            .filter(|stanza| stanza.family == "inet" && stanza.name != "lo")
    };
    let by_dhcp = || ipv4().filter(|stanza| stanza.method == "dhcp");
    let found = ipv4()
        .find(|stanza| stanza.option(&["gateway"]).is_some())
        .or_else(|| by_dhcp().find(|stanza| stanza.name == FIRST))
        .or_else(|| by_dhcp().next())
        .or_else(|| ipv4().find(|stanza| stanza.method == "static"))?;
    let below = |name: &str| {
        let stanza = stanzas.iter().find(|stanza| stanza.name == name)?;
        let slave = || {
            let is_slave = |other: &&Stanza| other.option(&["bond-master"]) == Some(name);
            stanzas.iter().find(is_slave).map(|slave| slave.name)
        };
        let ports = stanza
            .option(&[
                "bridge_ports",
                "bridge-ports",
                "bond-slaves",
                "slaves",
                "vlan-raw-device",
            ])
            .and_then(|ports| ports.split_whitespace().next());
        match ports {
            Some("none") | None => slave().or_else(|| name.split_once('.').map(|(raw, _)| raw)),
            port => port,
        }
        .map(str::to_owned)
    };
    let mut port = found.name.split(':').next()?.to_owned();
    // A VLAN on a bond on a port is as deep as it gets.
    for _ in 0..3 {
        match below(&port) {
            Some(next) => port = next,
            None => break,
        }
    }
    Some(Primary {
        name: found.name.to_owned(),
        port,
    })
}

fn convert(text: &str, primary: &Primary, network: Network) -> String {
    let renamed: String = text
        .split_inclusive('\n')
        .map(|line| rename(line, &primary.port))
        .collect();
    let name = if primary.name == primary.port {
        FIRST
    } else {
        &primary.name
    };
    let mut converted = String::new();
    // Of the interface whose address DHCP tells.
    let mut is_told = false;
    for line in renamed.split_inclusive('\n') {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first().is_some_and(|word| begins_stanza(word)) {
            is_told = false;
        }
        match words[..] {
            ["iface", found, family @ ("inet" | "inet6"), "static"]
                if found == name && network == Network::Dhcp =>
            {
                is_told = true;
                let method = if family == "inet" { "dhcp" } else { "auto" };
                converted.push_str(&line.replacen("static", method, 1));
            }
            // Whatever hardware address the instance gets is the right one.
            ["hwaddress", ..] => {}
            [option, ..] if is_told && TOLD_BY_DHCP.contains(&option) => {}
            ["auto", ..] => converted.push_str(&wait_for_no_absent(line, &words[1..])),
            _ => converted.push_str(line),
        }
    }
    converted
}

/// `auto` fails the service of the network where hardware is absent; `allow-hotplug` does not.
fn wait_for_no_absent(line: &str, names: &[&str]) -> String {
    let is_hardware = |name: &str| {
        (name.starts_with("en") || name.starts_with("eth")) && !name.contains(['.', ':', '*', '/'])
    };
    let (absent, there): (Vec<&str>, Vec<&str>) = names
        .iter()
        .partition(|name| is_hardware(name) && **name != FIRST);
    if absent.is_empty() {
        return line.to_owned();
    }
    let line = |keyword: &str, names: &[&str]| format!("{keyword} {}\n", names.join(" "));
    let auto = if there.is_empty() {
        String::new()
    } else {
        line("auto", &there)
    };
    auto + &line("allow-hotplug", &absent)
}

fn stanzas(text: &str) -> Vec<Stanza<'_>> {
    let mut stanzas: Vec<Stanza> = Vec::new();
    let mut is_open = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if begins_stanza(word) {
            let words: Vec<&str> = rest.split_whitespace().collect();
            is_open = false;
            if let ("iface", [name, family, method]) = (word, &words[..]) {
                is_open = true;
                stanzas.push(Stanza {
                    name,
                    family,
                    method,
                    options: Vec::new(),
                });
            }
        } else if let Some(stanza) = stanzas.last_mut().filter(|_| is_open) {
            stanza.options.push((word, rest.trim()));
        }
    }
    stanzas
}

fn begins_stanza(word: &str) -> bool {
    word.starts_with("allow-")
        || [
            "iface",
            "auto",
            "mapping",
            "source",
            "source-directory",
            "rename",
            "template",
            "no-auto-down",
            "no-scripts",
        ]
        .contains(&word)
}

impl<'a> Stanza<'a> {
    fn option(&self, keys: &[&str]) -> Option<&'a str> {
        self.options
            .iter()
            .find_map(|(key, value)| keys.contains(key).then_some(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(text: &str, network: Network) -> String {
        let primary = primary(&[(MAIN.to_owned(), text.to_owned())]).unwrap();
        convert(text, &primary, network)
    }

    #[test]
    fn an_address_is_kept_on_an_interface_with_another_name() {
        let text = "auto lo ens192 ens224\niface ens192 inet static\n\taddress 10.0.0.5/24\n\tgateway 10.0.0.1\n\
                    \thwaddress ether 00:50:56:00:00:01\n\tup ip route add 10.9.0.0/16 dev ens192\n\
                    # ens192 is the first\niface ens192:1 inet static\n\taddress 10.0.0.6/24\n";
        insta::assert_snapshot!(converted(text, Network::Keep), @r"
        auto lo eth0
        allow-hotplug ens224
        iface eth0 inet static
        	address 10.0.0.5/24
        	gateway 10.0.0.1
        	up ip route add 10.9.0.0/16 dev eth0
        # ens192 is the first
        iface eth0:1 inet static
        	address 10.0.0.6/24
        ");
    }

    #[test]
    fn the_port_of_a_bridge_is_renamed_and_the_bridge_asks_dhcp() {
        let text = "auto br0\niface br0 inet static\n  address 10.0.0.5\n  netmask 255.255.255.0\n  gateway 10.0.0.1\n\
                    \x20 dns-nameservers 10.0.0.2\n  dns-search example.org\n  bridge_ports eth1 eth0\n\
                    iface br0 inet6 static\n  address fd00::5/64\n";
        insta::assert_snapshot!(converted(text, Network::Dhcp), @r"
        auto br0
        iface br0 inet dhcp
          dns-search example.org
          bridge_ports eth0 eth1
        iface br0 inet6 auto
        ");
    }

    #[test]
    fn what_is_converted_stays() {
        let text =
            "iface eth1 inet dhcp\niface ens3 inet static\n  address 10.0.0.5/24\n  gateway 10.0.0.1\n";
        for network in [Network::Dhcp, Network::Keep] {
            let once = converted(text, network);
            assert_eq!(converted(&once, network), once);
        }
    }
}
