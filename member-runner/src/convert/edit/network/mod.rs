//! The network of the instance: one interface, which has another name and another hardware address than the
//! source's, and its address by DHCP or as it was.
//!
//! Where a file can say "whatever interface there is", it does: netplan, NetworkManager's keyfiles and
//! systemd-networkd. The others, ifupdown and ifcfg files, go by names, so the kernel is told to call the first
//! interface `eth0`. Which of several interfaces is the instance's: the one with the default route. The others
//! stay as they are, as far as they hold up no start.

mod ifcfg;
mod ifupdown;
mod keyfiles;
mod netplan;
mod networkd;
mod yaml;

use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
    tree::Tree,
};
use domain::conversion::Network;

/// What the kernel calls the first interface where udev does not rename it.
const FIRST: &str = "eth0";

pub fn edit(editor: &mut Editor, plan: &Plan) -> Result<(), EditError> {
    for edit in [
        ifupdown::edit,
        ifcfg::edit,
        netplan::edit,
        keyfiles::edit,
        networkd::edit,
    ] {
        edit(editor, plan.network)?;
    }
    Ok(())
}

/// Whether the network depends on what the kernel calls its interface.
pub fn goes_by_names(tree: &Tree) -> Result<bool, EditError> {
    Ok(ifupdown::is_used(tree)? || ifcfg::is_used(tree)?)
}

fn why(network: Network) -> &'static str {
    match network {
        Network::Dhcp => "the instance has another interface, and its address by DHCP",
        Network::Keep => "the instance has another interface, with the same address",
    }
}

/// A line in which an interface is called `eth0`, and what was `eth0` as that was called.
fn rename(line: &str, interface: &str) -> String {
    if interface == FIRST || line.trim_start().starts_with('#') {
        return line.to_owned();
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut renamed = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        renamed.push_str(match word {
            _ if word == interface => FIRST,
            FIRST => interface,
            _ => word,
        });
        let next = after.find(is_part).unwrap_or(after.len());
        renamed.push_str(&after[..next]);
        rest = &after[next..];
    }
    renamed
}
