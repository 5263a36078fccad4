//! LVM's logical volumes, found on disks without LVM or device-mapper.
//!
//! ```text
//! physical volumes: label ─▶ areas ─▶ texts      the newest text of each group counts
//! group: physical volumes, logical volumes ─▶ a map for each that is a row of extents, or why there is none
//! ```
//!
//! Nothing is written, and a group that is incomplete is not repaired. All of it was written by strangers.

mod group;
mod label;
mod text;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use self::group::{Group, Logical};
use super::{
    mapping::{self, Mapped, Opened, Segment, Stretch, Stripe},
    place::Place,
};
use crate::convert::inspect::disks::{Closed, Content};

/// Of all volumes that are opened: more make no map that could be given.
const SEGMENTS_MAX: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub opened: Vec<Opened>,
    pub closed: Vec<Closed>,
}

/// Looks for logical volumes on all the physical volumes there are. Fails if one cannot be read.
pub fn find(volumes: &[Place]) -> io::Result<Found> {
    let mut found = Found::default();
    let mut places: BTreeMap<String, Vec<&Place>> = BTreeMap::new();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut unread = Vec::new();
    for place in volumes {
        let Some(label) = place.label()? else {
            found.close(
                vec![place.device_name.to_owned()],
                "its label is damaged".to_owned(),
            );
            continue;
        };
        for text in place.texts(&label)? {
            let group = text.map_err(|damaged| damaged.to_string()).and_then(|text| {
                Group::parse(&text).map_err(|error| format!("its metadata cannot be used: {error}"))
            });
            match group {
                Ok(group) => {
                    let known = groups.get(&group.uuid);
                    if known.is_none_or(|known| known.sequence < group.sequence) {
                        groups.insert(group.uuid.clone(), group);
                    }
                }
                Err(why) => unread.push((place.device_name, label.uuid.clone(), why)),
            }
        }
        places.entry(label.uuid).or_default().push(place);
    }
    let physical = groups.values().flat_map(|group| group.physical.values());
    let known: BTreeSet<&str> = physical.map(|volume| volume.uuid.as_str()).collect();
    // What one copy of the metadata does not say, another may.
    unread.retain(|(_, uuid, _)| !known.contains(uuid.as_str()));
    for (device_name, _, why) in unread {
        found.close(vec![device_name.to_owned()], why);
    }
    for group in groups.values() {
        for volume in &group.logical {
            let names = names(group, volume);
            match extents(group, volume, &places) {
                Ok(mapped) => found.opened.push(Opened { names, mapped }),
                Err(why) => found.close(names, why),
            }
        }
    }
    found.close_what_is_ambiguous();
    Ok(found)
}

impl Found {
    fn close(&mut self, names: Vec<String>, why: String) {
        self.closed.push(Closed {
            content: Content::Lvm,
            names,
            why,
        });
    }

    /// Volumes that share a name or an extent, and those that are too many.
    fn close_what_is_ambiguous(&mut self) {
        let mut named: BTreeMap<String, usize> = BTreeMap::new();
        for volume in &self.opened {
            *named.entry(volume.names[0].clone()).or_default() += 1;
        }
        let shared = mapping::shared(self.opened.iter().map(|volume| &volume.mapped));
        let mut segments = 0;
        for (at, volume) in std::mem::take(&mut self.opened).into_iter().enumerate() {
            let all = volume.mapped.segments.iter();
            segments += all.map(|segment| segment.stretches().count()).sum::<usize>();
            if named[&volume.names[0]] > 1 {
                self.close(volume.names, "several logical volumes have this name".to_owned());
            } else if shared.contains(&at) {
                self.close(
                    volume.names,
                    "a part of it is in another logical volume, too".to_owned(),
                );
            } else if segments > SEGMENTS_MAX {
                self.close(
                    volume.names,
                    "it and the others have too many segments".to_owned(),
                );
            } else {
                self.opened.push(volume);
            }
        }
    }
}

/// Those of device-mapper, of LVM, and of udev.
fn names(group: &Group, volume: &Logical) -> Vec<String> {
    let doubled = |name: &str| name.replace('-', "--");
    let mapper = format!("{}-{}", doubled(&group.name), doubled(&volume.name));
    vec![
        format!("/dev/mapper/{mapper}"),
        format!("/dev/{}/{}", group.name, volume.name),
        format!("/dev/disk/by-id/dm-name-{mapper}"),
        format!("/dev/disk/by-id/dm-uuid-LVM-{}{}", group.uuid, volume.uuid),
    ]
}

/// Where the volume is on the disks.
fn extents(
    group: &Group,
    volume: &Logical,
    places: &BTreeMap<String, Vec<&Place>>,
) -> Result<Mapped, String> {
    let nonsense = || group::Unsupported::Nonsense.to_string();
    let mut mapped = Mapped::default();
    for segment in volume.segments.as_ref().map_err(ToString::to_string)? {
        let bytes = segment
            .extents
            .checked_mul(group.extent_bytes)
            .ok_or_else(nonsense)?;
        let each = segment.extents / segment.stripes.len() as u64;
        let stripes = segment.stripes.iter().map(|(name, first)| {
            let physical = group
                .physical
                .get(name)
                .ok_or_else(|| format!("a part of it is on {name}, which is no physical volume"))?;
            let place = match places.get(&physical.uuid).map(Vec::as_slice) {
                _ if physical.is_missing => Err(format!(
                    "physical volume {} was missing when the group was changed",
                    dashed(&physical.uuid)
                )),
                None => Err(format!(
                    "physical volume {} is on no replicated disk",
                    dashed(&physical.uuid)
                )),
                Some([place]) => Ok(place),
                Some(several) => {
                    let names: Vec<&str> = several.iter().map(|place| place.device_name).collect();
                    Err(format!(
                        "physical volume {} is there more than once, at {}",
                        dashed(&physical.uuid),
                        names.join(" and ")
                    ))
                }
            }?;
            let start = first
                .checked_mul(group.extent_bytes)
                .and_then(|at| at.checked_add(physical.start));
            let end = each
                .checked_mul(group.extent_bytes)
                .and_then(|len| len.checked_add(start?));
            let is_there = first.checked_add(each).is_some_and(|end| end <= physical.extents)
                && end.is_some_and(|end| end <= place.bytes);
            let start = start
                .filter(|_| is_there)
                .ok_or_else(|| format!("a part of it is beyond the end of {}", place.device_name))?;
            Ok(Stripe::from(Stretch {
                disk: place.disk,
                start: place.start + start,
            }))
        });
        mapped.segments.push(Segment {
            bytes,
            chunk: segment.chunk.unwrap_or(bytes),
            stripes: stripes.collect::<Result<_, String>>()?,
        });
    }
    if mapped.segments.iter().all(Segment::is_even) {
        Ok(mapped)
    } else {
        Err(nonsense())
    }
}

/// As LVM writes a UUID for people. It has 32 characters of ASCII.
fn dashed(uuid: &str) -> String {
    let ends = [0, 6, 10, 14, 18, 22, 26, 32];
    let parts: Vec<&str> = ends.windows(2).map(|range| &uuid[range[0]..range[1]]).collect();
    parts.join("-")
}
