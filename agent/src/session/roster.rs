//! The chosen disks: where each is now, and which are missing.
//!
//! A disk that vanished keeps its place in the list as it was last seen: a server is never replicated
//! with a disk less than it had, and the runner's numbering must not move.

use std::{collections::BTreeSet, path::Path};

use domain::disk::Disk;
use tracing::warn;

use crate::{
    config::{ChosenDisk, Config, DiskChoice},
    disks::{DiskKind, LocalDisk, Roots, boot, discover},
    layout::Layout,
};

use super::SessionError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    entries: Vec<Entry>,
    /// Disks of the machine that are not replicated.
    others: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    disk: Disk,
    here: Result<LocalDisk, String>,
}

impl Roster {
    /// Looks for all chosen disks, and enters into `config` what changed.
    pub fn examine(roots: &Roots, config: &mut Config, layout: &Layout) -> Result<Self, SessionError> {
        let before = config.disks.clone();
        let roster = Self::look(roots, config);
        if config.disks != before {
            config.save(layout)?;
        }
        Ok(roster)
    }

    fn look(roots: &Roots, config: &mut Config) -> Self {
        let mut physical = discover::physical(roots).unwrap_or_else(|error| {
            warn!("{}", crate::cli::chain(&error));
            Vec::new()
        });
        let boot = boot::boot_disks(roots);
        let mut entries: Vec<Entry> = config
            .disks
            .iter_mut()
            .map(|chosen| find(roots, chosen, &mut physical, &boot))
            .collect();
        if config.choice == DiskChoice::All {
            for new in physical.drain(..) {
                config.disks.push(ChosenDisk {
                    disk: new.disk.clone(),
                    named: None,
                });
                entries.push(Entry {
                    disk: new.disk.clone(),
                    here: Ok(new),
                });
            }
        }
        Self {
            entries,
            others: physical.into_iter().map(|other| other.disk).collect(),
        }
    }

    /// The disks to replicate, in the order that numbers them.
    pub fn disks(&self) -> Vec<Disk> {
        self.entries.iter().map(|entry| entry.disk.clone()).collect()
    }

    /// All disks of the machine.
    pub fn all_disks(&self) -> Vec<Disk> {
        self.disks()
            .into_iter()
            .chain(self.others.iter().cloned())
            .collect()
    }

    /// Where the disks are, or what is wrong with the first that is not there.
    pub fn present(&self) -> Result<Vec<LocalDisk>, String> {
        self.entries.iter().map(|entry| entry.here.clone()).collect()
    }

    /// Whether a session about `self` is also about `other`: the same disks of the same sizes.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.disks() == other.disks()
    }
}

/// Finds one chosen disk, and takes it out of `physical`.
fn find(
    roots: &Roots,
    chosen: &mut ChosenDisk,
    physical: &mut Vec<LocalDisk>,
    boot: &BTreeSet<String>,
) -> Entry {
    let found = match &chosen.named {
        Some(path) => find_named(roots, path, &chosen.disk, boot),
        None => match physical.iter().position(|disk| disk.disk.id == chosen.disk.id) {
            Some(at) => Ok(physical.remove(at)),
            None => Err(format!(
                "disk {} ({}) is gone; nothing is replicated until it is back",
                chosen.disk.device_name, chosen.disk.id
            )),
        },
    };
    if let Ok(local) = &found {
        // Which disk boots was settled when it was chosen; its name and size may have changed since.
        chosen.disk = Disk {
            is_boot: chosen.disk.is_boot,
            ..local.disk.clone()
        };
    }
    Entry {
        disk: chosen.disk.clone(),
        here: found.map(|local| LocalDisk {
            disk: chosen.disk.clone(),
            ..local
        }),
    }
}

fn find_named(
    roots: &Roots,
    path: &Path,
    chosen: &Disk,
    boot: &BTreeSet<String>,
) -> Result<LocalDisk, String> {
    let local = discover::look_at(roots, path, boot).map_err(|error| {
        format!(
            "disk {} is gone ({}); nothing is replicated until it is back",
            chosen.device_name,
            crate::cli::chain(&error)
        )
    })?;
    if local.disk.id != chosen.id {
        return Err(format!(
            "{} is another disk now: it was {}, it is {}; nothing is replicated until the old one is back",
            chosen.device_name, chosen.id, local.disk.id
        ));
    }
    Ok(local)
}

/// How a disk is written down when it is chosen.
pub fn chosen(local: &LocalDisk) -> ChosenDisk {
    let found_by_itself = match &local.kind {
        DiskKind::File => false,
        DiskKind::Block { kernel_names } => !kernel_names.iter().any(|name| name.starts_with("loop")),
    };
    ChosenDisk {
        disk: local.disk.clone(),
        named: (!found_by_itself).then(|| local.path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::fake_tree::FakeTree;

    fn config(choice: DiskChoice, disks: &[LocalDisk]) -> Config {
        Config {
            runner_host: "10.0.0.7".into(),
            data_port: 1500,
            choice,
            disks: disks.iter().map(chosen).collect(),
            tags: std::collections::BTreeMap::default(),
        }
    }

    #[test]
    fn a_vanished_disk_keeps_its_place_and_stops_replication() {
        let tree = FakeTree::new();
        tree.disk("sda", 64, "8:0").attribute("sda", "serial", "A");
        tree.disk("sdb", 128, "8:16").attribute("sdb", "serial", "B");
        let mut config = config(DiskChoice::All, &discover::physical(&tree.roots()).unwrap());
        let whole = Roster::look(&tree.roots(), &mut config);
        assert_eq!(whole.present().unwrap().len(), 2);

        tree.remove("sda");
        let less = Roster::look(&tree.roots(), &mut config);
        assert!(less.is_about_the_same(&whole));
        let trouble = less.present().unwrap_err();
        assert!(trouble.contains("sda") && trouble.contains("gone"), "{trouble}");
    }

    #[test]
    fn growth_and_new_disks_make_another_roster() {
        let tree = FakeTree::new();
        tree.disk("sda", 64, "8:0").attribute("sda", "serial", "A");
        let found = discover::physical(&tree.roots()).unwrap();
        let (mut all, mut named) = (config(DiskChoice::All, &found), config(DiskChoice::Named, &found));
        let before = Roster::look(&tree.roots(), &mut all);

        tree.disk("sdb", 128, "8:16");
        assert!(!Roster::look(&tree.roots(), &mut all).is_about_the_same(&before));
        assert_eq!(all.disks.len(), 2);
        let chosen = Roster::look(&tree.roots(), &mut named);
        assert!(chosen.is_about_the_same(&before));
        assert_eq!((chosen.disks().len(), chosen.all_disks().len()), (1, 2));

        tree.attribute("sda", "size", "96");
        assert!(!Roster::look(&tree.roots(), &mut named).is_about_the_same(&before));
        assert_eq!(named.disks[0].disk.bytes, 96 * 512);
    }

    #[test]
    fn a_disk_that_gets_another_name_is_the_same_disk() {
        let tree = FakeTree::new();
        tree.disk("sda", 64, "8:0").attribute("sda", "serial", "A");
        let mut config = config(DiskChoice::All, &discover::physical(&tree.roots()).unwrap());
        tree.remove("sda");
        tree.disk("sdc", 64, "8:32").attribute("sdc", "serial", "A");
        let roster = Roster::look(&tree.roots(), &mut config);
        assert_eq!(roster.disks().len(), 1);
        assert!(roster.present().unwrap()[0].path.ends_with("sdc"));
    }
}
