//! netplan's interfaces. One that is matched by pattern fits whatever the instance has; others refer to it by its
//! key, which stays.

use std::ops::Range;

use super::{
    why,
    yaml::{Block, children},
};
use crate::convert::{
    edit::{texts, with_suffix},
    editor::{EditError, Editor},
    tree::Tree,
};
use domain::conversion::Network;

const FOLDER: &str = "/etc/netplan";
/// Every name that udev or the kernel gives to an Ethernet interface.
const ANY_INTERFACE: &str = "\"e*\"";
/// Kinds of interfaces that can have the default route.
const KINDS: [&str; 4] = ["ethernets", "bonds", "bridges", "vlans"];

struct File {
    path: String,
    lines: Vec<String>,
}

struct Interface {
    file: usize,
    is_hardware: bool,
    lines: Range<usize>,
    block: Block,
}

pub fn edit(editor: &mut Editor, network: Network) -> Result<(), EditError> {
    let mut files = read(editor.tree())?;
    let mut interfaces = interfaces(&files)?;
    let routed = interfaces
        .iter()
        .position(|found| has_default_route(&found.block));
    let first = |fits: &dyn Fn(&Block) -> bool| {
        interfaces
            .iter()
            .position(|found| found.is_hardware && fits(&found.block))
    };
    let primary = routed
        .filter(|at| interfaces[*at].is_hardware)
        .or_else(|| first(&fits_any_interface))
        .or_else(|| first(&asks_dhcp))
        .or_else(|| first(&|_| true));
    for (at, interface) in interfaces.iter_mut().enumerate() {
        let block = &mut interface.block;
        if Some(at) == primary {
            fit_any_interface(block);
        } else if interface.is_hardware {
            // Nothing waits for an interface that stays behind.
            block.set("optional", &["true".to_owned()]);
        }
        if Some(at) == routed && network == Network::Dhcp {
            ask_dhcp(block);
        }
    }
    // From the last to the first, so that the lines of those before stay where they were found.
    for interface in interfaces.into_iter().rev() {
        files[interface.file]
            .lines
            .splice(interface.lines, interface.block.into_lines());
    }
    for File { path, lines } in &files {
        editor.write(path, lines.concat().as_bytes(), why(network))?;
    }
    Ok(())
}

fn read(tree: &Tree) -> Result<Vec<File>, EditError> {
    let files = texts(tree, FOLDER, with_suffix(".yaml"))?;
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect();
    Ok(files
        .into_iter()
        .map(|(path, text)| File {
            path,
            lines: lines(&text),
        })
        .collect())
}

/// In the order in which they stand.
fn interfaces(files: &[File]) -> Result<Vec<Interface>, EditError> {
    let mut interfaces = Vec::new();
    for (file, File { path, lines }) in files.iter().enumerate() {
        let refused = |problem| EditError::NotUnderstood {
            path: path.clone(),
            problem,
        };
        for network in children(lines, 0..lines.len()).map_err(refused)? {
            if network.key != "network" {
                continue;
            }
            for kind in children(lines, network.below).map_err(refused)? {
                if !KINDS.contains(&kind.key.as_str()) {
                    continue;
                }
                for interface in children(lines, kind.below).map_err(refused)? {
                    interfaces.push(Interface {
                        file,
                        is_hardware: kind.key == "ethernets",
                        block: Block::new(&lines[interface.lines.clone()]),
                        lines: interface.lines,
                    });
                }
            }
        }
    }
    interfaces.sort_by_key(|interface| (interface.file, interface.lines.start));
    Ok(interfaces)
}

fn has_default_route(block: &Block) -> bool {
    let text: String = block.get("routes").replace(['"', '\''], "");
    !block.get("gateway4").is_empty() || text.contains("to: default") || text.contains("to: 0.0.0.0/0")
}

fn asks_dhcp(block: &Block) -> bool {
    let answer = block.get("dhcp4");
    ["true", "yes", "on"].iter().any(|yes| answer.contains(yes))
}

fn fits_any_interface(block: &Block) -> bool {
    block.get("match").contains(ANY_INTERFACE)
}

fn fit_any_interface(block: &mut Block) {
    block.remove("set-name");
    block.remove("macaddress");
    block.set("match", &[format!("name: {ANY_INTERFACE}")]);
}

/// Search domains go with the name servers: they stand in one block, and DHCP tells both.
fn ask_dhcp(block: &mut Block) {
    for told in ["addresses", "gateway4", "gateway6", "routes", "nameservers"] {
        block.remove(told);
    }
    block.set("dhcp4", &["true".to_owned()]);
}
