//! systemd-networkd's `.network` files, and `.link` files that give a name to one piece of hardware.

use super::why;
use crate::convert::{
    edit::{ini::Ini, texts, with_suffix},
    editor::{EditError, Editor},
    tree::Tree,
};
use domain::conversion::Network;

const FOLDER: &str = "/etc/systemd/network";
/// Every name that udev or the kernel gives to an Ethernet interface.
const ANY_INTERFACE: &str = "en* eth*";

struct Interface {
    path: String,
    file: Ini,
    text: String,
}

pub fn edit(editor: &mut Editor, network: Network) -> Result<(), EditError> {
    let mut interfaces = read(editor.tree())?;
    let made = names_made(editor.tree())?;
    // Looked for first: which has the default route is not seen any more in one that asks DHCP.
    let hardware = (0..interfaces.len())
        .filter(|at| interfaces[*at].is_hardware(&made))
        .min_by_key(|at| interfaces[*at].rank());
    if network == Network::Dhcp
        && let Some(routed) = interfaces
            .iter_mut()
            .find(|interface| interface.has_default_route())
    {
        ask_dhcp(&mut routed.file);
    }
    if let Some(at) = hardware {
        fit_any_interface(&mut interfaces[at].file);
    }
    for Interface { path, file, text } in &interfaces {
        editor.write(path, file.text_or(text).as_bytes(), why(network))?;
    }
    Ok(())
}

fn read(tree: &Tree) -> Result<Vec<Interface>, EditError> {
    let files = texts(tree, FOLDER, with_suffix(".network"))?;
    Ok(files
        .into_iter()
        .map(|(path, text)| Interface {
            path,
            file: Ini::parse(&text),
            text,
        })
        .collect())
}

/// Bridges, bonds and the like, by the files that make them.
fn names_made(tree: &Tree) -> Result<Vec<String>, EditError> {
    let files = texts(tree, FOLDER, with_suffix(".netdev"))?;
    let name = |text: &str| Ini::parse(text).get("NetDev", "Name").map(str::to_owned);
    Ok(files.iter().filter_map(|(_, text)| name(text)).collect())
}

impl Interface {
    /// A `.link` file or a rule of udev may have given any name to it. One that has a way out, and that no file makes, is
    /// taken for hardware.
    fn is_hardware(&self, made: &[String]) -> bool {
        let get = |key| self.file.get("Match", key);
        match get("Name") {
            Some(name) if self.has_default_route() || self.by_dhcp() => !made.iter().any(|made| made == name),
            Some(name) => name.starts_with('e'),
            None => get("MACAddress").or(get("PermanentMACAddress")).is_some(),
        }
    }

    fn has_default_route(&self) -> bool {
        let gateway = self.file.get("Network", "Gateway");
        gateway.or(self.file.get("Route", "Gateway")).is_some()
    }

    fn by_dhcp(&self) -> bool {
        matches!(self.file.get("Network", "DHCP"), Some("yes" | "true" | "ipv4"))
    }

    /// The least comes first: the default route, and what was chosen before.
    fn rank(&self) -> u8 {
        match self.file.get("Match", "Name") {
            _ if self.has_default_route() => 0,
            Some(ANY_INTERFACE) => 1,
            _ if self.by_dhcp() => 2,
            _ => 3,
        }
    }
}

fn fit_any_interface(file: &mut Ini) {
    file.set("Match", "Name", ANY_INTERFACE);
    file.remove("Match", |key| key != "Name");
    file.remove("Link", |key| key == "MACAddress");
}

fn ask_dhcp(file: &mut Ini) {
    file.remove("Network", |key| ["Address", "Gateway", "DNS"].contains(&key));
    file.remove_section("Address");
    file.remove_section("Route");
    file.set("Network", "DHCP", "yes");
}

#[cfg(test)]
mod tests {
    use domain::{changes::ChangeList, checkpoint::CheckpointNumber};

    use super::*;

    /// What becomes of the files in networkd's folder.
    fn convert(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER.trim_start_matches('/'));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        let mut list = ChangeList::new("s-00000000000000001".parse().unwrap(), CheckpointNumber(7));
        edit(&mut Editor::new(&tree, &mut list, "network"), Network::Dhcp).unwrap();
        let read = |(name, _): &(&str, &str)| std::fs::read_to_string(folder.join(name)).unwrap();
        files.iter().map(read).collect()
    }

    #[test]
    fn an_interface_with_a_name_of_its_own_becomes_any() {
        let lan = "[Match]\nName=lan0\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.1\n";
        assert_eq!(
            convert(&[("lan.network", lan)]),
            ["[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n"]
        );
    }

    #[test]
    fn a_bridge_stays_what_it_is_and_its_port_becomes_any() {
        let bridge = "[NetDev]\nName=lan0\nKind=bridge\n";
        let lan = "[Match]\nName=lan0\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.1\n";
        let port = "[Match]\nName=ens3\n\n[Network]\nBridge=lan0\n";
        assert_eq!(
            convert(&[
                ("lan.netdev", bridge),
                ("lan.network", lan),
                ("port.network", port)
            ]),
            [
                bridge,
                "[Match]\nName=lan0\n\n[Network]\nDHCP=yes\n",
                "[Match]\nName=en* eth*\n\n[Network]\nBridge=lan0\n",
            ]
        );
    }
}
