//! Arrays of md (software RAID), found on disks without the kernel's driver.
//!
//! ```text
//! members: superblocks ─▶ arrays, by UUID ─▶ which members count ─▶ a map, or why there is none
//! ```
//!
//! Nothing is repaired, and no superblock is written. All of it was written by strangers.

mod array;
mod superblock;

#[cfg(test)]
pub(super) mod tests;

use std::{collections::BTreeMap, io};

use domain::digest::hex;

use self::{
    array::{Assembled, Member},
    superblock::{Array, Name, Superblock},
};
use super::{mapping::Opened, place::Place};
use crate::convert::inspect::disks::{Closed, Content, Degraded};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub opened: Vec<Opened>,
    pub closed: Vec<Closed>,
    pub degraded: Vec<Degraded>,
}

/// Puts together the arrays of all the members there are. Fails if one cannot be read.
pub fn find(volumes: &[Place]) -> io::Result<Found> {
    let mut found = Found::default();
    let mut arrays: BTreeMap<[u8; 16], Vec<Member>> = BTreeMap::new();
    for place in volumes {
        match Superblock::read(place)? {
            Some(superblock) => {
                let members = arrays.entry(superblock.array.uuid).or_default();
                members.push(Member { place, superblock });
            }
            None => found.closed.push(Closed {
                content: Content::Md,
                names: vec![place.device_name.to_owned()],
                why: "its md superblock is damaged".to_owned(),
            }),
        }
    }
    let names = names(arrays.values().map(|members| &members[0].superblock.array));
    for (members, names) in arrays.values().zip(names) {
        match array::assemble(members) {
            Ok(Assembled { mapped, lacks }) => {
                if !lacks.is_empty() {
                    let array = names[0].clone();
                    found.degraded.push(Degraded { array, lacks });
                }
                found.opened.push(Opened { names, mapped });
            }
            Err(refused) => found.closed.push(Closed {
                content: Content::Md,
                names,
                why: refused.to_string(),
            }),
        }
    }
    Ok(found)
}

/// What each array is called by the kernel, mdadm and udev: none of them as another is.
fn names<'a>(arrays: impl Iterator<Item = &'a Array> + Clone) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = arrays.clone().map(own_names).collect();
    // The one that mdadm gives a number of its own begins at the end.
    let mut unnumbered = arrays
        .zip(&mut all)
        .filter(|(array, _)| number(&array.name).is_none());
    if let (Some((_, names)), None) = (unnumbered.next(), unnumbered.next()) {
        names.insert(names.len() - 1, "/dev/md127".to_owned());
    }
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for name in all.iter().flatten() {
        *given.entry(name.clone()).or_default() += 1;
    }
    for names in &mut all {
        names.retain(|name| given[name] == 1);
    }
    all
}

/// The last carries the UUID, which no other array has.
fn own_names(array: &Array) -> Vec<String> {
    let mut names = match number(&array.name) {
        Some(number) => vec![format!("/dev/md{number}"), format!("/dev/md/{number}")],
        None => Vec::new(),
    };
    if let Name::Text(full) = &array.name {
        let short = short(full);
        if number(&array.name).is_none() && is_part_of_path(short) {
            names.push(format!("/dev/md/{short}"));
        }
        if is_part_of_path(full) {
            names.push(format!("/dev/disk/by-id/md-name-{full}"));
        }
    }
    let uuid = hex(&array.uuid);
    let parts: Vec<&str> = (0..4).map(|part| &uuid[part * 8..][..8]).collect();
    names.push(format!("/dev/disk/by-id/md-uuid-{}", parts.join(":")));
    names
}

/// Without the name of the host.
fn short(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, short)| short)
}

/// Of the kernel's device, where the name says it, as it does where the array was made as `/dev/md0`.
fn number(name: &Name) -> Option<u32> {
    /// Linux has twenty bits for it.
    const NUMBER_MAX: u32 = (1 << 20) - 1;
    let number = match name {
        Name::Minor(number) => *number,
        Name::Text(name) => short(name)
            .parse()
            .ok()
            .filter(|number: &u32| number.to_string() == short(name))?,
    };
    (number <= NUMBER_MAX).then_some(number)
}

fn is_part_of_path(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.:-".contains(&byte);
    !["", ".", ".."].contains(&name) && name.bytes().all(is_part)
}
