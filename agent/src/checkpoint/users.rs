//! Who else uses the disks: what `/proc` shows of other processes.
//!
//! Only looks. Opening a device exclusively would tell more, users within the kernel for instance, but for that
//! moment nobody could mount it.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    mounts::{read_mounts, super_block},
    stack::Stack,
};
use crate::disks::{Roots, mountinfo::Mount};

/// More would not help anybody to find the cause.
const NAMED_MAX: usize = 32;

/// Programs that have a device on the disks open for writing, and file systems on them that are mounted in
/// other name spaces and not in ours.
pub fn unseen(roots: &Roots, stack: &Stack<'_>, mounts: &[Mount]) -> Vec<String> {
    let mut found = Vec::new();
    let mut known: BTreeSet<(String, String)> = mounts.iter().map(super_block).map(owned).collect();
    let mut name_spaces: BTreeSet<_> = fs::read_link(roots.proc.join("self/ns/mnt"))
        .into_iter()
        .collect();
    for (pid, folder) in processes(roots) {
        let comm = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let process = format!("{} (process {pid})", comm.trim_end());
        for device in devices_open_for_writing(stack, &folder) {
            found.push(format!("{device} is open for writing by {process}"));
        }
        // Processes end while we look at them.
        let name_space = fs::read_link(folder.join("ns/mnt")).ok();
        if !name_space.is_some_and(|name_space| name_spaces.insert(name_space)) {
            continue;
        }
        for mount in read_mounts(&folder.join("mountinfo")).unwrap_or_default() {
            if mount.is_writable()
                && known.insert(owned(super_block(&mount)))
                && !stack.below_mount(&mount).disks.is_empty()
            {
                found.push(format!(
                    "{}, {}, is mounted at {} in the name space of {process}",
                    mount.source,
                    mount.kind,
                    mount.point.display()
                ));
            }
        }
        if found.len() >= NAMED_MAX {
            break;
        }
    }
    found.truncate(NAMED_MAX);
    found
}

fn owned((number, kind): (&str, &str)) -> (String, String) {
    (number.to_owned(), kind.to_owned())
}

/// All processes but this one, by their number.
fn processes(roots: &Roots) -> Vec<(u32, std::path::PathBuf)> {
    let mut processes: Vec<(u32, _)> = fs::read_dir(&roots.proc)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (pid != std::process::id()).then(|| (pid, entry.path()))
        })
        .collect();
    processes.sort_unstable();
    processes
}

/// Each device once.
fn devices_open_for_writing(stack: &Stack<'_>, process: &Path) -> BTreeSet<String> {
    let mut devices = BTreeSet::new();
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        // The link alone is read: asking for the file itself may wait for a server that is gone.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let Some(folder) = stack.folder_of(&target) else {
            continue;
        };
        if !devices.contains(&*target.to_string_lossy())
            && is_open_for_writing(&process.join("fdinfo").join(entry.file_name()))
            && !stack.below_device(&folder).disks.is_empty()
        {
            devices.insert(target.display().to_string());
        }
    }
    devices
}

fn is_open_for_writing(fdinfo: &Path) -> bool {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    // `O_ACCMODE`, of which `O_RDONLY` is zero.
    flags.is_some_and(|flags| flags & 3 != 0)
}
