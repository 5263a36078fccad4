//! What ties a guest to hardware that stays behind: names of interfaces by hardware address, and lists of disks.

use super::{texts, with_suffix};
use crate::convert::{
    editor::{EditError, Editor},
    plan::Plan,
};

const RULES: &str = "/etc/udev/rules.d";
const LINKS: &str = "/etc/systemd/network";
/// Lists of disks that LVM and blkid make anew. With the first, LVM looks at no disk that is not in it.
const DISKS: [&str; 5] = [
    "/etc/lvm/devices/system.devices",
    "/etc/lvm/cache/.cache",
    "/etc/blkid.tab",
    "/etc/blkid.tab.old",
    "/etc/blkid/blkid.tab",
];

pub fn edit(editor: &mut Editor, _plan: &Plan) -> Result<(), EditError> {
    let why = "it names interfaces by hardware addresses that the instance does not have";
    for (path, text) in texts(editor.tree(), RULES, with_suffix(".rules"))? {
        if path.ends_with("-persistent-net.rules") {
            editor.remove(&path, why)?;
        } else {
            let rules = text.split_inclusive('\n').filter(|rule| !names_hardware(rule));
            editor.write(&path, rules.collect::<String>().as_bytes(), why)?;
        }
    }
    for (path, text) in texts(editor.tree(), LINKS, with_suffix(".link"))? {
        if text
            .lines()
            .any(|line| line.trim_start().starts_with("MACAddress="))
        {
            editor.remove(&path, why)?;
        }
    }
    for path in DISKS {
        editor.remove(path, "it lists disks of the source; the system makes it anew")?;
    }
    Ok(())
}

/// A udev rule that gives a name to an interface with a certain address.
fn names_hardware(rule: &str) -> bool {
    let rule: String = rule.chars().filter(|c| !c.is_whitespace()).collect();
    !rule.starts_with('#')
        && rule.contains("SUBSYSTEM==\"net\"")
        && rule.contains("ATTR{address}==")
        && rule.contains("NAME=\"")
}
