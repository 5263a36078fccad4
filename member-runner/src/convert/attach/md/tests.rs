//! Arrays as mdadm and the kernel of Debian 12 wrote them, whole, degraded and damaged.

use std::{fs, os::unix::fs::FileExt};

use proptest::prelude::*;

use super::{superblock::checksum, *};
use crate::convert::attach::mapping::{self, Mapped, Segment, Stretch, Stripe};

const MIB: u64 = 1 << 20;
const BYTES: u64 = 16 * MIB;
/// Where a member is on its disk.
const START: u64 = MIB;
const NAMES: [&str; 4] = ["/dev/sda1", "/dev/sdb1", "/dev/sdc1", "/dev/sdd1"];
const SPARE: u16 = 0xffff;
const FAILED: u16 = 0xfffe;

fn member(parts: &[(u64, &[u8])]) -> fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(START + BYTES).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, START + at).unwrap();
    }
    file
}

/// What mdadm 4.2 and Linux 6.1 wrote on disks of 16 MiB, without zeros: a mirror of version 1.2 (a, b), one of 0.90 (c, d)
/// and one of 1.0 (e, f), and stripes of two copies (g to j). `b` and `d` failed, and much was written after that.
const WRITTEN: &str = include_str!("written.txt");

#[test]
fn arrays_are_as_mdadm_has_them() {
    let disks: Vec<(&str, fs::File)> = WRITTEN
        .split("== ")
        .skip(1)
        .map(|disk| {
            let (name, lines) = disk.split_once('\n').unwrap();
            let parts = lines.lines().map(|line| {
                let (at, hex) = line.split_once(' ').unwrap();
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
                (at.parse().unwrap(), bytes)
            });
            let parts: Vec<(u64, Vec<u8>)> = parts.collect();
            let parts: Vec<(u64, &[u8])> = parts.iter().map(|(at, bytes)| (*at, &**bytes)).collect();
            (name, member(&parts))
        })
        .collect();
    let places = disks.iter().enumerate().map(|(at, (name, file))| Place {
        device_name: name,
        file,
        disk: at,
        start: START,
        bytes: BYTES,
    });
    let found = find(&places.collect::<Vec<_>>()).unwrap();
    let mut lines: Vec<String> = found.closed.iter().map(ToString::to_string).collect();
    lines.extend(found.degraded.iter().map(ToString::to_string));
    for array in &found.opened {
        let segment = &array.mapped.segments[0];
        let stripes = segment.stripes.iter().map(|Stripe(copies)| {
            let copies = copies.iter();
            let words: Vec<String> = copies
                .map(|copy| format!("{}+{}", disks[copy.disk].0, copy.start - START))
                .collect();
            words.join(" ")
        });
        let stripes: Vec<String> = stripes.collect();
        lines.push(array.names.join(" "));
        lines.push(format!(
            "    {} of {} on {}",
            segment.bytes,
            segment.chunk,
            stripes.join(", ")
        ));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

fn found(members: &[fs::File]) -> Found {
    let places = members.iter().enumerate().map(|(at, file)| Place {
        device_name: NAMES[at],
        file,
        disk: at,
        start: START,
        bytes: BYTES,
    });
    find(&places.collect::<Vec<_>>()).unwrap()
}

/// A superblock of version 1.2, as a member of a mirror has it that has all changes, or lacks the last ones.
pub fn superblock(array: u8, member: u32, data_bytes: u64, lacks: u64) -> Vec<u8> {
    let mut written = Written::mirror(member);
    written.array = array;
    written.data_sectors = data_bytes / 512;
    written.events -= lacks;
    written.bytes()
}

/// A superblock of version 1.2, as one member of an array of two has it.
#[derive(Clone)]
struct Written {
    array: u8,
    features: u32,
    level: i32,
    layout: u32,
    chunk_sectors: u32,
    members: u32,
    number: u32,
    flags: u8,
    events: u64,
    roles: Vec<u16>,
    data_sectors: u64,
}

const DATA_AT: u64 = 2048;
const DATA_SECTORS: u64 = 8192;

impl Written {
    fn mirror(number: u32) -> Self {
        Self {
            array: 0,
            features: 0,
            level: 1,
            layout: 0,
            chunk_sectors: 0,
            members: 2,
            number,
            flags: 0,
            events: 40,
            roles: vec![0, 1, SPARE],
            data_sectors: DATA_SECTORS,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[16..32].copy_from_slice(&[7 + self.array; 16]);
        bytes[32..37].copy_from_slice(b"old:0");
        bytes[36] += self.array;
        bytes[184] = self.flags;
        let words = [
            (0, 0xa92b_4efc),
            (4, 1),
            (8, self.features),
            (72, self.level.cast_unsigned()),
            (76, self.layout),
            (88, self.chunk_sectors),
            (92, self.members),
            (160, self.number),
            (220, u32::try_from(self.roles.len()).unwrap()),
        ];
        for (at, number) in words {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let longs = [
            (80, self.data_sectors),
            (128, DATA_AT),
            (136, self.data_sectors),
            (144, 8),
            (200, self.events),
        ];
        for (at, number) in longs {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        for (role, to) in self.roles.iter().zip(bytes[256..].chunks_exact_mut(2)) {
            to.copy_from_slice(&role.to_le_bytes());
        }
        let sum = checksum(&bytes[..256 + 2 * self.roles.len()], 216);
        bytes[216..220].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn file(&self) -> fs::File {
        member(&[(4096, &self.bytes())])
    }
}

/// Both members, after a change to each.
fn pair(change: [fn(&mut Written); 2]) -> Found {
    let members = [0, 1].map(|at| {
        let mut written = Written::mirror(at);
        change[at as usize](&mut written);
        written.file()
    });
    found(&members)
}

/// The disks of the only array, in the order in which its copies are read and written; or why there are none.
fn copies(found: &Found) -> Result<Vec<usize>, String> {
    match &*found.opened {
        [array] => Ok(array.mapped.segments[0]
            .stretches()
            .map(|copy| copy.disk)
            .collect()),
        _ => Err(found.closed.iter().map(ToString::to_string).collect()),
    }
}

fn lacks(found: &Found) -> Vec<String> {
    found.degraded.iter().map(ToString::to_string).collect()
}

#[test]
fn a_mirror_is_read_from_its_first_member_and_written_to_all() {
    let found = pair([|_| (), |_| ()]);
    let at = |disk| Stretch {
        disk,
        start: START + DATA_AT * 512,
    };
    let bytes = DATA_SECTORS * 512;
    let mapped = Mapped {
        segments: vec![Segment {
            bytes,
            chunk: bytes,
            stripes: vec![Stripe(vec![at(0), at(1)])],
        }],
    };
    let names = [
        "/dev/md0",
        "/dev/md/0",
        "/dev/disk/by-id/md-name-old:0",
        "/dev/disk/by-id/md-uuid-07070707:07070707:07070707:07070707",
    ];
    let names = names.map(str::to_owned).to_vec();
    assert_eq!(found.opened, [Opened { names, mapped }]);
    assert_eq!((found.closed, found.degraded), (Vec::new(), Vec::new()));
}

#[test]
fn only_what_is_as_new_as_any_is_read() {
    let degraded = |found: Found| (copies(&found).unwrap(), lacks(&found).concat());
    let alone = "/dev/md0: member 0 is on no replicated disk";
    assert_eq!(
        degraded(found(&[Written::mirror(1).file()])),
        (vec![0], alone.to_owned())
    );
    let older = "/dev/md0: /dev/sda1 is older than the others".to_owned();
    // The kernel lets one change pass.
    assert_eq!(
        degraded(pair([|a| a.events = 39, |_| ()])),
        (vec![0, 1], String::new())
    );
    assert_eq!(
        degraded(pair([|a| a.events = 38, |_| ()])),
        (vec![1, 0], older.clone())
    );
    // Not where the newer one says that the other failed.
    let failed = |b: &mut Written| b.roles[0] = FAILED;
    assert_eq!(
        degraded(pair([|a| a.events = 39, failed])),
        (vec![1, 0], older.clone())
    );
    // Nor where it has another length.
    let longer = |b: &mut Written| b.data_sectors += 8;
    assert_eq!(degraded(pair([|a| a.events = 38, longer])), (vec![1], older));
    let filling = "/dev/md0: /dev/sda1 is not filled yet".to_owned();
    assert_eq!(
        degraded(pair([|a| a.features = 2, |_| ()])),
        (vec![1, 0], filling)
    );
    for last_choice in [|a: &mut Written| a.flags = 1, |a: &mut Written| a.features = 8] {
        assert_eq!(degraded(pair([last_choice, |_| ()])), (vec![1, 0], String::new()));
    }
}

#[test]
fn spares_and_what_failed_are_left_alone() {
    let mut spare = Written::mirror(2);
    let members = [Written::mirror(0).file(), spare.file(), Written::mirror(1).file()];
    assert_eq!(copies(&found(&members)).unwrap(), [0, 2]);
    // One that replaced another, which is still there.
    let replaced = [1, 2].map(|number| {
        let mut written = Written::mirror(number);
        written.roles = vec![0, FAILED, 1];
        written.events = 50;
        written
    });
    spare = replaced[1].clone();
    let mut first = replaced[0].clone();
    first.number = 0;
    let members = [first.file(), Written::mirror(1).file(), spare.file()];
    let found = found(&members);
    assert_eq!(
        (copies(&found).unwrap(), lacks(&found)),
        (vec![0, 2, 1], Vec::new())
    );
}

#[test]
fn what_cannot_be_opened_says_why() {
    let both = |change: fn(&mut Written)| copies(&pair([change, change])).unwrap_err();
    assert_eq!(
        both(|written| (written.level, written.members) = (5, 3)),
        "/dev/md0: it is RAID5, and only RAID0, RAID1 and RAID10 can be opened"
    );
    for (features, why) in [
        (4, "it is being reshaped"),
        (64, "it is being reshaped"),
        (512, "it has a journal"),
        (1024, "it has a partial parity log"),
        (256, "it belongs to a cluster"),
        (1 << 20, "it has features of a newer md (0x100000)"),
    ] {
        let members = [0, 1].map(|number| {
            let mut written = Written::mirror(number);
            written.features = features;
            written.file()
        });
        assert_eq!(copies(&found(&members)).unwrap_err(), format!("/dev/md0: {why}"));
    }
    assert_eq!(
        copies(&pair([|a| a.number = 1, |_| ()])).unwrap_err(),
        "/dev/md0: /dev/sda1 and /dev/sdb1 are the same member of it"
    );
    assert_eq!(
        copies(&pair([
            |a| (a.events, a.roles[1]) = (90, FAILED),
            |b| b.roles[0] = FAILED
        ]))
        .unwrap_err(),
        "/dev/md0: /dev/sdb1 and /dev/sda1 were changed without each other, and nobody knows which counts"
    );
    let missing = "/dev/md0: a part of it is on no replicated disk, or only on members that are out of date";
    assert_eq!(copies(&found(&[Written::mirror(2).file()])).unwrap_err(), missing);
    assert_eq!(both(|written| written.features = 2), missing);
    let nonsense = "/dev/md0: its superblocks make no sense";
    assert_eq!(both(|written| written.members = 0), nonsense);
    assert_eq!(both(|written| written.members = u32::MAX), nonsense);
    assert_eq!(both(|written| written.data_sectors = 0), nonsense);
    assert_eq!(
        both(|written| written.data_sectors = 1 << 40),
        "/dev/sda1: its md superblock is damaged/dev/sdb1: its md superblock is damaged"
    );
}

#[test]
fn stripes_and_stripes_of_copies_are_where_md_has_them() {
    let shape = |level: i32, layout: u32, members: u32| {
        let files = (0..members).map(|number| {
            let mut written = Written::mirror(number);
            (written.level, written.layout, written.members) = (level, layout, members);
            written.chunk_sectors = 128;
            written.data_sectors += 100;
            written.roles = (0..4).collect();
            written.file()
        });
        let found = found(&files.collect::<Vec<_>>());
        let array = found.opened.first();
        let array = array
            .map(|array| array.mapped.segments[0].clone())
            .ok_or_else(|| found.closed[0].why.clone())?;
        let disks = |stripe: &Stripe| stripe.0.iter().map(|copy| copy.disk).collect::<Vec<_>>();
        Ok::<_, String>((
            array.bytes / (64 << 10),
            array.chunk,
            array.stripes.iter().map(disks).collect::<Vec<_>>(),
        ))
    };
    assert_eq!(shape(0, 0, 2), Ok((128, 64 << 10, vec![vec![0], vec![1]])));
    assert_eq!(
        shape(10, 0x102, 4),
        Ok((128, 64 << 10, vec![vec![0, 1], vec![2, 3]]))
    );
    for (layout, members) in [(0x201, 4), (0x102, 3), (0x100, 4), (0x10102, 4)] {
        let why = "its copies are not near each other on an even number of members";
        assert_eq!(shape(10, layout, members), Err(why.to_owned()));
    }
}

#[test]
fn an_array_has_the_names_that_are_its_own() {
    let named = |name: &[u8]| {
        let name = Name::Text(String::from_utf8_lossy(name).into_owned());
        let array = Array {
            name,
            uuid: [7; 16],
            level: 1,
            layout: 0,
            chunk: 0,
            members: 2,
            bytes: 512,
            unsupported: None,
        };
        let other = Array {
            uuid: [8; 16],
            ..array.clone()
        };
        (array, other)
    };
    let first = |name: &[u8]| names([named(name).0].iter())[0].clone();
    assert_eq!(first(b"old:17")[..2], ["/dev/md17", "/dev/md/17"]);
    assert_eq!(
        first(b"old:root")[..3],
        ["/dev/md/root", "/dev/disk/by-id/md-name-old:root", "/dev/md127"]
    );
    let uuid = "/dev/disk/by-id/md-uuid-07070707:07070707:07070707:07070707";
    for strange in [&b"old:../x"[..], b"", b"old:a b", b"\xff", b".."] {
        assert_eq!(first(strange), ["/dev/md127", uuid], "{strange:?}");
    }
    assert_eq!(first(b"old:007")[0], "/dev/md/007");
    assert_eq!(first(b"old:99999999")[0], "/dev/md/99999999");
    let (array, other) = named(b"old:0");
    assert_eq!(names([array, other].iter())[0], [uuid]);
}

proptest! {
    /// A superblock that was changed and has the checksum of the change.
    #[test]
    fn any_superblock_is_survived(
        changes in proptest::collection::vec((0..64_usize, any::<u32>()), 1..6), both in any::<bool>(),
    ) {
        let mut changed = Written::mirror(0).bytes();
        for (word, number) in changes {
            changed[word * 4..][..4].copy_from_slice(&number.to_le_bytes());
        }
        let numbers = u32::from_le_bytes(*changed[220..].first_chunk().unwrap()) as usize;
        if let Some(written) = changed.get(..256_usize.saturating_add(numbers.saturating_mul(2))) {
            let sum = checksum(written, 216);
            changed[216..220].copy_from_slice(&sum.to_le_bytes());
        }
        let changed = member(&[(4096, &changed)]);
        let mut members = vec![changed];
        members.extend(both.then(|| Written::mirror(1).file()));
        let maps: Vec<Mapped> = found(&members).opened.into_iter().map(|array| array.mapped).collect();
        let disks = vec![START + BYTES; members.len()];
        prop_assert_eq!(mapping::check(&maps, &[], &disks), Ok(()));
    }

    #[test]
    fn any_superblock_of_version_0_90_is_survived(words in proptest::collection::vec(any::<u32>(), 70)) {
        let mut bytes = vec![0; 4096];
        for (to, word) in bytes.chunks_exact_mut(4).zip(&words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes[..12].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90, 0, 0, 0]);
        // One member that is in its place, of any array.
        for (word, number) in [(132, 6), (7, words[7] % 3), (10, 1)] {
            bytes[word * 4..][..4].copy_from_slice(&u32::to_le_bytes(number));
        }
        let sum = checksum(&bytes, 38 * 4);
        bytes[38 * 4..][..4].copy_from_slice(&sum.to_le_bytes());
        let maps = found(&[member(&[(BYTES - (64 << 10), &bytes)])]).opened;
        let maps: Vec<Mapped> = maps.into_iter().map(|array| array.mapped).collect();
        prop_assert_eq!(mapping::check(&maps, &[], &[START + BYTES]), Ok(()));
    }
}
