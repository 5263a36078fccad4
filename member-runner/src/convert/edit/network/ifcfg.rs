//! `ifcfg-` files, of the RHEL family and of SUSE's wicked: shell assignments, one file to an interface.

use super::{FIRST, rename, why};
use crate::convert::{
    edit::{assignments::Assignments, texts},
    editor::{EditError, Editor},
    tree::{Kind, Tree},
};
use domain::conversion::Network;

const RED_HAT: &str = "/etc/sysconfig/network-scripts";
const SUSE: &str = "/etc/sysconfig/network";
/// Files that tell of one interface, and have its name at their end.
const ITS_FILES: [&str; 5] = ["ifcfg", "route", "route6", "rule", "ifroute"];
/// They tie the file to hardware that stays behind.
const HARDWARE: [&str; 4] = ["HWADDR", "MACADDR", "LLADDR", "SUBCHANNELS"];
/// With a number behind, as `IPADDR0` and `DNS2`, as well. `DOMAIN` stays: programs ask for short names.
const TOLD_BY_DHCP: [&str; 9] = [
    "IPADDR",
    "PREFIX",
    "PREFIXLEN",
    "NETMASK",
    "NETWORK",
    "BROADCAST",
    "GATEWAY",
    "REMOTE_IPADDR",
    "DNS",
];

/// They come before those that DHCP tells.
const SUSE_NAME_SERVERS: &str = "NETCONFIG_DNS_STATIC_SERVERS";

struct Interface {
    folder: &'static str,
    name: String,
    file: Assignments,
}

pub fn edit(editor: &mut Editor, network: Network) -> Result<(), EditError> {
    let Some(primary) = primary(editor.tree())? else {
        return Ok(());
    };
    for kind in ITS_FILES {
        edit_file(editor, &primary, kind, network)?;
    }
    if network == Network::Dhcp {
        editor.amend(&format!("{SUSE}/routes"), why(network), without_default_route)?;
        editor.amend(&format!("{SUSE}/config"), why(network), |text| {
            let mut file = Assignments::parse(text);
            if file.get(SUSE_NAME_SERVERS).is_some() {
                file.set(SUSE_NAME_SERVERS, "");
            }
            file.text_or(text)
        })?;
    }
    // On SUSE, the same path is a folder.
    if primary.folder == RED_HAT {
        editor.amend("/etc/sysconfig/network", why(network), |text| {
            let mut file = Assignments::parse(text);
            file.remove(|key| key == "GATEWAYDEV" || key == "GATEWAY" && network == Network::Dhcp);
            file.text_or(text)
        })?;
    }
    Ok(())
}

pub fn is_used(tree: &Tree) -> Result<bool, EditError> {
    Ok(primary(tree)?.is_some())
}

/// The interface of the default route: it has a gateway, or asks DHCP for one, or is the first there is.
fn primary(tree: &Tree) -> Result<Option<Interface>, EditError> {
    let mut interfaces = Vec::new();
    for folder in [RED_HAT, SUSE] {
        // The RHEL family has a file where SUSE has a folder.
        if tree.kind(folder)? != Some(Kind::Folder) {
            continue;
        }
        let is_interface = |name: &str| {
            let name = name.strip_prefix("ifcfg-");
            name.is_some_and(|name| name != "lo" && !name.contains(['.', ':', '~']))
        };
        for (path, text) in texts(tree, folder, is_interface)? {
            interfaces.push(Interface {
                folder,
                name: path.rsplit("/ifcfg-").next().unwrap_or_default().to_owned(),
                file: Assignments::parse(&text),
            });
        }
    }
    interfaces.retain(Interface::is_hardware);
    let rank = |interface: &Interface| {
        let get = |key| interface.file.get(key);
        let has_gateway = get("GATEWAY").or(get("GATEWAY0")).is_some();
        let by_dhcp = get("BOOTPROTO").is_some_and(|how| how.starts_with("dhcp"));
        let starts = get("ONBOOT") == Some("yes") || get("STARTMODE") == Some("auto");
        (has_gateway, by_dhcp && interface.name == FIRST, by_dhcp, starts)
    };
    // Of those alike, the first by name.
    interfaces.reverse();
    Ok(interfaces.into_iter().max_by_key(rank))
}

impl Interface {
    fn is_hardware(&self) -> bool {
        match self.file.get("TYPE") {
            Some(found) => found.eq_ignore_ascii_case("ethernet"),
            // biosdevname calls a card p1p1, as its slot and its port.
            None => self.name.starts_with('e') || self.file.get("HWADDR").is_some(),
        }
    }
}

/// Gives a file of the interface the name `eth0`. One that has it already tells of an interface that stays behind.
fn edit_file(
    editor: &mut Editor,
    primary: &Interface,
    kind: &str,
    network: Network,
) -> Result<(), EditError> {
    let path = format!("{}/{kind}-{}", primary.folder, primary.name);
    let first = format!("{}/{kind}-{FIRST}", primary.folder);
    if let Some(text) = editor.tree().read_text(&path)? {
        let renamed = text
            .split_inclusive('\n')
            .map(|line| rename(line, &primary.name))
            .collect::<String>();
        let converted = if kind == "ifcfg" {
            convert(&renamed, network)
        } else {
            renamed
        };
        editor.write(&first, converted.as_bytes(), why(network))?;
    } else {
        editor.remove(&first, why(network))?;
    }
    if path == first {
        Ok(())
    } else {
        editor.remove(&path, why(network))
    }
}

fn convert(text: &str, network: Network) -> String {
    let mut file = Assignments::parse(text);
    file.remove(|key| HARDWARE.contains(&key));
    if file.get("DEVICE").is_some() {
        file.set("DEVICE", FIRST);
    }
    // The port of a bond or bridge has no address of its own.
    let is_port = ["MASTER", "TEAM_MASTER", "BRIDGE"]
        .iter()
        .any(|key| file.get(key).is_some());
    if network == Network::Dhcp && !is_port {
        file.remove(|key| {
            let key = key.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
            TOLD_BY_DHCP.contains(&key)
        });
        if !file.get("BOOTPROTO").is_some_and(|how| how.starts_with("dhcp")) {
            file.set("BOOTPROTO", "dhcp");
        }
    }
    file.text_or(text)
}

fn without_default_route(text: &str) -> String {
    let is_default = |line: &str| matches!(line.split_whitespace().next(), Some("default" | "0.0.0.0/0"));
    text.split_inclusive('\n')
        .filter(|line| !is_default(line))
        .collect()
}
