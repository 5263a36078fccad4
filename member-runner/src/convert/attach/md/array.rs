//! Which members of an array count, and where its data are on them.
//!
//! A member is read if it is as new as any, by the count of changes that each of them carries; like the kernel, this lets
//! one that misses the last change pass. What is written goes to all members that have a place in the array, the older
//! ones too: the kernel may take such a one back and copy only what it has noted as changed since, and of what is written
//! here it notes nothing. Spares, and members that say of themselves that they failed, are left alone.

use super::{
    super::{
        mapping::{Mapped, Segment, Stretch, Stripe},
        place::Place,
    },
    superblock::{Array, Superblock, Unsupported},
};

/// As many as version 1 has room for.
const MEMBERS_MAX: u32 = 1920;

#[derive(Debug, Clone)]
pub struct Member<'a> {
    pub place: &'a Place<'a>,
    pub superblock: Superblock,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    pub mapped: Mapped,
    /// For each member that it does without, why: "/dev/sdb1 is older than the others".
    pub lacks: Vec<String>,
}

/// Why an array is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is {0}, and only RAID0, RAID1 and RAID10 can be opened")]
    Level(String),
    #[error("its copies are not near each other on an even number of members")]
    Layout,
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
    #[error("{0} and {1} are the same member of it")]
    Twice(String, String),
    #[error("{0} and {1} were changed without each other, and nobody knows which counts")]
    Apart(String, String),
    #[error("a part of it is on no replicated disk, or only on members that are out of date")]
    Missing,
    #[error("its superblocks make no sense")]
    Nonsense,
}

impl Member<'_> {
    fn role(&self) -> Option<u32> {
        self.superblock.role()
    }

    fn name(&self) -> String {
        self.place.device_name.to_owned()
    }

    /// Whether it has all that `newest` has, but for what it has not been filled with.
    fn is_as_new_as(&self, newest: &Superblock) -> bool {
        let own = &self.superblock;
        own.array == newest.array
            && own.events.saturating_add(1) >= newest.events
            && newest.roles.get(own.number) == Some(&own.role())
    }
}

/// Puts an array together from all members of it that there are.
pub fn assemble(members: &[Member]) -> Result<Assembled, Refused> {
    let with_role = members.iter().filter(|member| member.role().is_some());
    let members: Vec<&Member> = with_role.collect();
    let newest = members.iter().max_by_key(|member| member.superblock.events);
    let newest = newest.ok_or(Refused::Missing)?;
    let array = &newest.superblock.array;
    if let Some(unsupported) = array.unsupported {
        return Err(unsupported.into());
    }
    let copies = copies(array)?;
    for (at, member) in members.iter().enumerate() {
        let number = member.superblock.number;
        let mut others = members[at + 1..].iter();
        if let Some(other) = others.find(|other| other.superblock.number == number) {
            return Err(Refused::Twice(member.name(), other.name()));
        }
        if !member.superblock.roles.contains(&newest.role()) {
            return Err(Refused::Apart(member.name(), newest.name()));
        }
    }
    let is_read = |member: &Member| member.is_as_new_as(&newest.superblock) && !member.superblock.is_filling;
    let stripes = (0..array.members).step_by(copies as usize).map(|first| {
        let same = (first..first + copies).flat_map(|role| {
            let members = members.iter().copied();
            members.filter(move |member| member.role() == Some(role))
        });
        let mut same: Vec<&Member> = same.filter(|member| member.superblock.array == *array).collect();
        // The others in the order of their places, in which the kernel makes them alike after a crash.
        same.sort_by_key(|member| (!is_read(member), member.superblock.is_last_choice));
        same.first()
            .filter(|member| is_read(member))
            .ok_or(Refused::Missing)?;
        let stretches = same.iter().map(|member| Stretch {
            disk: member.place.disk,
            start: member.place.start + member.superblock.start,
        });
        Ok(Stripe(stretches.collect()))
    });
    let stripes: Vec<Stripe> = stripes.collect::<Result<_, Refused>>()?;
    let bytes = array
        .bytes
        .checked_mul(stripes.len() as u64)
        .ok_or(Refused::Nonsense)?;
    let segment = Segment {
        bytes,
        chunk: if array.level == 1 { bytes } else { array.chunk },
        stripes,
    };
    if !segment.is_even() {
        return Err(Refused::Nonsense);
    }
    let lacks = (0..array.members).filter_map(|role| {
        let mut of_role = members.iter().filter(|member| member.role() == Some(role));
        if of_role.clone().any(|member| is_read(member)) {
            return None;
        }
        Some(match of_role.next() {
            Some(member) if member.is_as_new_as(&newest.superblock) => {
                format!("{} is not filled yet", member.name())
            }
            Some(member) => format!("{} is older than the others", member.name()),
            None => format!("member {role} is on no replicated disk"),
        })
    });
    Ok(Assembled {
        lacks: lacks.collect(),
        mapped: Mapped {
            segments: vec![segment],
        },
    })
}

/// How many members have the same.
fn copies(array: &Array) -> Result<u32, Refused> {
    if !(1..=MEMBERS_MAX).contains(&array.members) {
        return Err(Refused::Nonsense);
    }
    match array.level {
        0 => Ok(1),
        1 => Ok(array.members),
        // The lowest byte is the number of near copies, the next that of far ones.
        10 => match array.layout & 0xff {
            copies if copies > 0 && array.layout >> 8 == 1 && array.members.is_multiple_of(copies) => {
                Ok(copies)
            }
            _ => Err(Refused::Layout),
        },
        -1 => Err(Refused::Level("linear".to_owned())),
        level => Err(Refused::Level(format!("RAID{level}"))),
    }
}
