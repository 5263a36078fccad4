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
    if network == Network::Dhcp
        && let Some(routed) = interfaces
            .iter_mut()
            .find(|interface| interface.has_default_route())
    {
        ask_dhcp(&mut routed.file);
    }
    let hardware = interfaces
        .iter_mut()
        .filter(|interface| interface.is_hardware())
        .min_by_key(|interface| interface.rank());
    if let Some(hardware) = hardware {
        fit_any_interface(&mut hardware.file);
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

impl Interface {
    fn is_hardware(&self) -> bool {
        let get = |key| self.file.get("Match", key);
        match get("Name") {
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
