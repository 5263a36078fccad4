//! A volume group, as its metadata has it.

use std::collections::BTreeMap;

use super::text::{Section, SyntaxError, Value};

const SECTOR: u64 = 512;
/// LVM's own limit for names, those of a group and of a volume together.
const NAME_LEN_MAX: usize = 127;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// 32 characters, without the dashes that are written for people. So are those of volumes.
    pub uuid: String,
    /// Counts the changes.
    pub sequence: u64,
    pub extent_bytes: u64,
    /// By their names in this text.
    pub physical: BTreeMap<String, Physical>,
    /// Those that are seen; others are parts of them.
    pub logical: Vec<Logical>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Physical {
    pub uuid: String,
    /// In bytes: where the first extent is.
    pub start: u64,
    pub extents: u64,
    /// The group was changed without it.
    pub is_missing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logical {
    pub name: String,
    pub uuid: String,
    /// Or why there are none.
    pub segments: Result<Vec<Segment>, Unsupported>,
}

/// Extents of a logical volume, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub extents: u64,
    /// In bytes; `None` where there is one stripe.
    pub chunk: Option<u64>,
    /// The name of a physical volume, and the first extent there.
    pub stripes: Vec<(String, u64)>,
}

/// Why a logical volume is not a row of extents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("it has a segment of LVM's type {0}, and only linear and striped ones can be opened")]
    Type(String),
    #[error("it has snapshots, which would be damaged")]
    Origin,
    #[error("it is a snapshot")]
    Snapshot,
    #[error("its segments make no sense")]
    Nonsense,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error("it has no usable {0}")]
    Lacks(&'static str),
    #[error("{0:?} is not a name of LVM")]
    Name(String),
}

impl Group {
    pub fn parse(text: &str) -> Result<Self, GroupError> {
        let text = Section::parse(text)?;
        let (name, group) = text.sections().next().ok_or(GroupError::Lacks("group"))?;
        let none = Section::default();
        let logical = group.section("logical_volumes").unwrap_or(&none);
        let snapshots = Snapshots::of(logical);
        let volumes = logical
            .sections()
            .filter(|(_, volume)| volume.has_flag("status", "VISIBLE"))
            .map(|(name, volume)| {
                Ok(Logical {
                    name: checked_name(name)?,
                    uuid: uuid(volume)?,
                    segments: snapshots.refuse(name).and_then(|()| segments(volume)),
                })
            });
        let physical = group.section("physical_volumes").unwrap_or(&none);
        let physical = physical.sections().map(|(name, volume)| {
            let start = volume
                .number("pe_start")
                .and_then(|start| start.checked_mul(SECTOR));
            let physical = Physical {
                uuid: uuid(volume)?,
                start: start.ok_or(GroupError::Lacks("pe_start"))?,
                extents: volume.number("pe_count").ok_or(GroupError::Lacks("pe_count"))?,
                is_missing: volume.has_flag("flags", "MISSING"),
            };
            Ok((name.to_owned(), physical))
        });
        let extent = group
            .number("extent_size")
            .and_then(|size| size.checked_mul(SECTOR));
        Ok(Self {
            name: checked_name(name)?,
            uuid: uuid(group)?,
            sequence: group.number("seqno").ok_or(GroupError::Lacks("seqno"))?,
            extent_bytes: extent
                .filter(|bytes| *bytes > 0)
                .ok_or(GroupError::Lacks("extent_size"))?,
            physical: physical.collect::<Result<_, GroupError>>()?,
            logical: volumes.collect::<Result<_, GroupError>>()?,
        })
    }
}

fn uuid(section: &Section) -> Result<String, GroupError> {
    let uuid = section.text("id").unwrap_or_default().replace('-', "");
    let is_uuid = uuid.len() == 32
        && uuid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#".contains(&byte));
    is_uuid.then_some(uuid).ok_or(GroupError::Lacks("id"))
}

/// It becomes the name of a file.
fn checked_name(name: &str) -> Result<String, GroupError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    let is_name = name.bytes().all(is_part) && name.len() <= NAME_LEN_MAX && !["", ".", ".."].contains(&name);
    is_name
        .then(|| name.to_owned())
        .ok_or_else(|| GroupError::Name(name.chars().take(NAME_LEN_MAX).collect()))
}

/// Names of logical volumes between which blocks are copied when they are written.
#[derive(Default)]
struct Snapshots<'a> {
    origins: Vec<&'a str>,
    stores: Vec<&'a str>,
}

impl<'a> Snapshots<'a> {
    /// A hidden volume for each pair says so.
    fn of(logical: &Section<'a>) -> Self {
        let mut found = Self::default();
        for (_, volume) in logical.sections() {
            for (_, segment) in volume
                .sections()
                .filter(|(_, segment)| segment.text("type") == Some("snapshot"))
            {
                found.origins.extend(segment.text("origin"));
                found.stores.extend(
                    ["cow_store", "merging_store"]
                        .iter()
                        .filter_map(|key| segment.text(key)),
                );
            }
        }
        found
    }

    fn refuse(&self, name: &str) -> Result<(), Unsupported> {
        if self.origins.contains(&name) {
            Err(Unsupported::Origin)
        } else if self.stores.contains(&name) {
            Err(Unsupported::Snapshot)
        } else {
            Ok(())
        }
    }
}

/// One after the other, without a gap, as many as announced.
fn segments(volume: &Section) -> Result<Vec<Segment>, Unsupported> {
    let mut found = Vec::new();
    for (_, section) in volume.sections() {
        let start = section.number("start_extent").ok_or(Unsupported::Nonsense)?;
        found.push((start, segment(section)?));
    }
    found.sort_by_key(|(start, _)| *start);
    let mut next = 0_u64;
    for (start, segment) in &found {
        if *start != next {
            return Err(Unsupported::Nonsense);
        }
        next = next.checked_add(segment.extents).ok_or(Unsupported::Nonsense)?;
    }
    if found.is_empty() || volume.number("segment_count") != Some(found.len() as u64) {
        return Err(Unsupported::Nonsense);
    }
    Ok(found.into_iter().map(|(_, segment)| segment).collect())
}

fn segment(section: &Section) -> Result<Segment, Unsupported> {
    let kind = section.text("type").ok_or(Unsupported::Nonsense)?;
    // Flags that old programs must not overlook are written behind it: `striped+…`.
    if !["striped", "linear"].contains(&kind) {
        return Err(Unsupported::Type(kind.chars().take(NAME_LEN_MAX).collect()));
    }
    let read = || {
        let stripes = section.list("stripes")?.chunks(2).map(|pair| match pair {
            [Value::Text(name), Value::Number(extent)] => Some(((*name).to_owned(), *extent)),
            _ => None,
        });
        let stripes: Vec<_> = stripes.collect::<Option<_>>()?;
        let chunk = match stripes.len() {
            0 => return None,
            1 => None,
            _ => Some(section.number("stripe_size")?.checked_mul(SECTOR)?),
        };
        let is_whole = section.number("stripe_count") == Some(stripes.len() as u64);
        is_whole.then_some(())?;
        Some(Segment {
            extents: section.number("extent_count")?,
            chunk,
            stripes,
        })
    };
    read().ok_or(Unsupported::Nonsense)
}
