//! NetworkManager's keyfiles. A connection that names no interface fits any.

use super::why;
use crate::convert::{
    edit::{ini::Ini, texts},
    editor::{EditError, Editor},
    tree::Tree,
};
use domain::conversion::Network;

const FOLDER: &str = "/etc/NetworkManager/system-connections";

struct Connection {
    path: String,
    file: Ini,
    text: String,
}

pub fn edit(editor: &mut Editor, network: Network) -> Result<(), EditError> {
    let mut connections = read(editor.tree())?;
    let has_default_route = |connection: &Connection| connection.has_default_route();
    if let Some(routed) = connections
        .iter_mut()
        .find(|connection| has_default_route(connection))
        && network == Network::Dhcp
    {
        ask_dhcp(&mut routed.file);
    }
    let hardware = connections
        .iter_mut()
        .filter(|connection| connection.is_hardware())
        .min_by_key(|connection| connection.rank());
    if let Some(hardware) = hardware {
        fit_any_interface(&mut hardware.file);
    }
    for Connection { path, file, text } in &connections {
        editor.write_private(path, file.text_or(text).as_bytes(), why(network))?;
    }
    Ok(())
}

fn read(tree: &Tree) -> Result<Vec<Connection>, EditError> {
    let files = texts(tree, FOLDER, |_| true)?;
    Ok(files
        .into_iter()
        .map(|(path, text)| Connection {
            path,
            file: Ini::parse(&text),
            text,
        })
        .collect())
}

impl Connection {
    fn is_hardware(&self) -> bool {
        matches!(
            self.file.get("connection", "type"),
            Some("ethernet" | "802-3-ethernet")
        )
    }

    /// `address1=10.0.0.5/24,10.0.0.1` has a gateway behind the comma.
    fn has_default_route(&self) -> bool {
        let get = |key| self.file.get("ipv4", key);
        let address = get("address1").or_else(|| get("addresses1"));
        get("gateway").is_some() || address.is_some_and(|address| address.contains(','))
    }

    /// The least comes first: the default route, what was chosen before, DHCP, what is a port of something else.
    fn rank(&self) -> u8 {
        let is_port = ["master", "controller"]
            .iter()
            .any(|key| self.file.get("connection", key).is_some());
        match self.file.get("ipv4", "method") {
            _ if self.has_default_route() => 0,
            Some("auto") if self.file.get("connection", "interface-name").is_none() => 1,
            Some("auto") => 2,
            _ if is_port => 3,
            _ => 4,
        }
    }
}

fn fit_any_interface(file: &mut Ini) {
    file.remove("connection", |key| key == "interface-name");
    for section in ["ethernet", "802-3-ethernet"] {
        file.remove(section, |key| key == "mac-address" || key == "cloned-mac-address");
    }
    file.remove("match", |key| key == "interface-name" || key == "path");
}

fn ask_dhcp(file: &mut Ini) {
    let is_told = |key: &str| {
        let key = key.trim_end_matches(|c: char| c.is_ascii_digit());
        ["address", "addresses", "gateway", "dns"].contains(&key)
    };
    for section in ["ipv4", "ipv6"] {
        if file.get(section, "method") == Some("manual") {
            file.set(section, "method", "auto");
            file.remove(section, is_told);
        }
    }
}
