//! A group as lvm2 of Debian 12 wrote it, whole and damaged.

use std::{fs, os::unix::fs::FileExt};

use proptest::prelude::*;

use super::{label::checksum, *};

/// The last text of `vgcreate vg-0`, `lvcreate -n root -l 5`, `lvcreate -n swap_1 -l 2`, `lvextend -l +4 vg-0/root` on
/// the second disk, and `lvcreate -n data -i 2 -I 64k -l 6`; without the zero at its end.
const GROUP: &str = include_str!("group.txt");
/// The beginnings of the sector of the first disk's label, and of that of its area.
const LABEL: &str = "4c4142454c4f4e450100000000000000a8022cec200000004c564d322030303179376c7a6b62384a724c3177596666494c76384235766c33\
                     5064427272773767000000040000000000001000000000000000000000000000000000000000000000000000000000000010000000000000\
                     00f00f0000000000000000000000000000000000000000000200000001";
const AREA: &str = "1962bf38204c564d3220785b35412572304e2a3e01000000001000000000000000f00f0000000000001a0000000000008d07000000000000\
                    5884deb4";
const TEXT_AT: u64 = 0x1a00;
const FIRST: &str = "y7lzkb8JrL1wYffILv8B5vl3PdBrrw7g";
const SECOND: &str = "gVDPQuWVN45azDrxBz7LInQFoXVI07UK";

const AREA_AT: u64 = 4096;
const AREA_BYTES: u64 = (1 << 20) - 4096;
const MIB: u64 = 1 << 20;
const EXTENT: u64 = 4 * MIB;
/// Of each disk, and where the physical volume is on it.
const BYTES: u64 = 128 * MIB;
const START: u64 = 2 * MIB;

fn disk(parts: &[(u64, &[u8])]) -> fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(BYTES).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, START + at).unwrap();
    }
    file
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// As LVM writes one, with one area.
fn label(uuid: &str) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..8].copy_from_slice(b"LABELONE");
    sector[8] = 1;
    sector[20] = 32;
    sector[24..32].copy_from_slice(b"LVM2 001");
    sector[32..64].copy_from_slice(uuid.as_bytes());
    for (at, number) in [(72, MIB), (104, AREA_AT), (112, AREA_BYTES)] {
        sector[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(&sector[20..]);
    sector[16..20].copy_from_slice(&sum.to_le_bytes());
    sector
}

/// The header of an area, whose text is at `at`.
fn area(at: u64, text: &[u8]) -> [u8; 512] {
    let mut header = [0; 512];
    header[4..20].copy_from_slice(b" LVM2 x[5A%r0N*>");
    header[20] = 1;
    for (to, number) in [(24, AREA_AT), (32, AREA_BYTES), (40, at), (48, text.len() as u64)] {
        header[to..to + 8].copy_from_slice(&number.to_le_bytes());
    }
    header[56..60].copy_from_slice(&checksum(text).to_le_bytes());
    let sum = checksum(&header[4..]);
    header[..4].copy_from_slice(&sum.to_le_bytes());
    header
}

fn with_text(uuid: &str, text: &str) -> fs::File {
    let text = text.as_bytes();
    disk(&[
        (512, &label(uuid)),
        (AREA_AT, &area(4096, text)),
        (AREA_AT + 4096, text),
    ])
}

fn without_text(uuid: &str) -> fs::File {
    disk(&[(512, &label(uuid)), (AREA_AT, &area(0, b""))])
}

fn found(disks: &[&fs::File]) -> Found {
    let names = ["/dev/sda2", "/dev/sdb", "/dev/sdc"];
    let volumes = disks.iter().enumerate().map(|(at, file)| Place {
        device_name: names[at],
        file,
        disk: at,
        start: START,
        bytes: BYTES - START,
    });
    find(&volumes.collect::<Vec<_>>()).unwrap()
}

/// Both disks, with this text in place of LVM's.
fn with_group(text: &str) -> Found {
    found(&[&with_text(FIRST, text), &without_text(SECOND)])
}

fn opened(found: &Found) -> Vec<&str> {
    found
        .opened
        .iter()
        .map(|volume| volume.names[0].as_str())
        .collect()
}

fn closed(found: &Found) -> Vec<String> {
    found.closed.iter().map(ToString::to_string).collect()
}

fn linear(extents: u64, disk: usize, first: u64) -> Segment {
    let start = START + MIB + first * EXTENT;
    Segment {
        bytes: extents * EXTENT,
        chunk: extents * EXTENT,
        stripes: vec![Stretch { disk, start }.into()],
    }
}

#[test]
fn the_volumes_of_a_group_are_where_lvm_has_them() {
    let first = disk(&[
        (512, &unhex(LABEL)),
        (AREA_AT, &unhex(AREA)),
        (AREA_AT + TEXT_AT, GROUP.as_bytes()),
    ]);
    let found = found(&[&first, &without_text(SECOND)]);
    assert_eq!(found.closed, []);
    let maps: Vec<_> = found
        .opened
        .iter()
        .map(|volume| (volume.names[0].as_str(), &*volume.mapped.segments))
        .collect();
    let striped = Segment {
        chunk: 64 << 10,
        stripes: [linear(3, 0, 7).stripes, linear(3, 1, 4).stripes].concat(),
        ..linear(6, 0, 7)
    };
    assert_eq!(
        maps,
        [
            ("/dev/mapper/vg--0-root", &[linear(5, 0, 0), linear(4, 1, 0)][..]),
            ("/dev/mapper/vg--0-swap_1", &[linear(2, 0, 5)]),
            ("/dev/mapper/vg--0-data", &[striped]),
        ]
    );
    let ids: Vec<String> = ["vg-0 {", "root {"]
        .iter()
        .map(|section| {
            let (_, behind) = GROUP.split_once(&format!("{section}\nid = \"")).unwrap();
            behind[..38].replace('-', "")
        })
        .collect();
    assert_eq!(
        found.opened[0].names,
        [
            "/dev/mapper/vg--0-root".to_owned(),
            "/dev/vg-0/root".to_owned(),
            "/dev/disk/by-id/dm-name-vg--0-root".to_owned(),
            format!("/dev/disk/by-id/dm-uuid-LVM-{}", ids.concat()),
        ]
    );
}

#[test]
fn a_text_goes_on_at_the_beginning_of_its_area() {
    let text = GROUP.as_bytes();
    let at = AREA_BYTES - 512;
    let first = disk(&[
        (512, &label(FIRST)),
        (AREA_AT, &area(at, text)),
        (AREA_AT + at, &text[..512]),
        (AREA_AT + 512, &text[512..]),
    ]);
    assert_eq!(opened(&found(&[&first, &without_text(SECOND)])).len(), 3);
}

#[test]
fn the_newest_text_counts() {
    let newer = GROUP
        .replace("seqno = 5", "seqno = 6")
        .replace("swap_1", "swap_2");
    let disks = [with_text(FIRST, GROUP), with_text(SECOND, &newer)];
    assert!(opened(&found(&[&disks[0], &disks[1]])).contains(&"/dev/mapper/vg--0-swap_2"));
    let disks = [with_text(FIRST, &newer), with_text(SECOND, GROUP)];
    assert!(opened(&found(&[&disks[0], &disks[1]])).contains(&"/dev/mapper/vg--0-swap_2"));
}

#[test]
fn what_is_on_a_missing_disk_alone_is_closed() {
    let first = with_text(FIRST, GROUP);
    let alone = found(&[&first]);
    assert_eq!(opened(&alone), ["/dev/mapper/vg--0-swap_1"]);
    assert_eq!(
        closed(&alone),
        [
            "/dev/mapper/vg--0-root: physical volume gVDPQu-WVN4-5azD-rxBz-7LIn-QFoX-VI07UK is on no replicated disk",
            "/dev/mapper/vg--0-data: physical volume gVDPQu-WVN4-5azD-rxBz-7LIn-QFoX-VI07UK is on no replicated disk",
        ]
    );
    let (second, again) = (without_text(SECOND), without_text(SECOND));
    let twice = found(&[&first, &second, &again]);
    assert_eq!(opened(&twice), ["/dev/mapper/vg--0-swap_1"]);
    assert!(closed(&twice)[0].ends_with("is there more than once, at /dev/sdb and /dev/sdc"));
}

#[test]
fn what_is_no_row_of_extents_is_closed_and_says_why() {
    let of_root = |from: &str, to: &str| {
        let (before, root) = GROUP.split_once("root {").unwrap();
        format!("{before}root {{{}", root.replacen(from, to, 1))
    };
    let snapshot = "logical_volumes {\nsnapshot0 {\nid = \"x\"\nstatus = [\"READ\"]\nsegment_count = 1\nsegment1 {\n\
                    type = \"snapshot\"\norigin = \"root\"\ncow_store = \"swap_1\"\n}\n}\n";
    let hidden = GROUP.replacen("\"VISIBLE\"", "\"HIDDEN\"", 1);
    let every = u64::MAX.to_string();
    let cases = [
        ("a thin volume", of_root("\"striped\"", "\"thin\"")),
        ("a flag of a newer LVM", of_root("\"striped\"", "\"striped+NEW\"")),
        ("a snapshot", GROUP.replace("logical_volumes {", snapshot)),
        (
            "a disk that was missing",
            GROUP.replacen("flags = []\ndev_size", "flags = [\"MISSING\"]\ndev_size", 1),
        ),
        (
            "segments announced",
            of_root("segment_count = 2", "segment_count = 1000000000"),
        ),
        (
            "extents without end",
            of_root("extent_count = 5", &format!("extent_count = {every}")),
        ),
        ("a gap", of_root("start_extent = 5", "start_extent = 6")),
        (
            "segments in one place",
            of_root("start_extent = 5", "start_extent = 0"),
        ),
        ("behind the last extent", of_root("\"pv0\", 0", "\"pv0\", 11")),
        ("extents of another", of_root("\"pv0\", 0", "\"pv0\", 5")),
        ("an unknown disk", of_root("\"pv0\", 0", "\"pv9\", 0")),
        ("no extent", of_root("\"pv0\", 0", "\"pv0\"")),
        ("a volume on itself", of_root("\"pv0\", 0", "\"root\", 0")),
        (
            "stripes announced",
            of_root("stripe_count = 1", "stripe_count = 2"),
        ),
        (
            "chunks of nothing",
            GROUP.replace("stripe_size = 128", "stripe_size = 0"),
        ),
        (
            "chunks cut off",
            GROUP.replace("stripe_size = 128", "stripe_size = 127"),
        ),
        ("a name twice", GROUP.replace("swap_1 {", "root {")),
        ("a volume that is not seen", hidden),
        ("a name that is a path", GROUP.replace("swap_1 {", "../x {")),
        ("a group that is a folder", GROUP.replace("vg-0 {", ".. {")),
        (
            "extents of nothing",
            GROUP.replace("extent_size = 8192", "extent_size = 0"),
        ),
        (
            "extents of everything",
            GROUP.replace("extent_size = 8192", &format!("extent_size = {every}")),
        ),
        (
            "extents behind the disk",
            GROUP.replace("pe_start = 2048", "pe_start = 250000"),
        ),
        ("no number", GROUP.replace("seqno = 5", "seqno = \"5\"")),
        ("half a text", GROUP[..1000].to_owned()),
        ("no text", String::new()),
    ];
    let said = cases.iter().map(|(what, text)| {
        let found = with_group(text);
        let mut lines = vec![format!("{what}: {} open", opened(&found).len())];
        lines.extend(closed(&found).iter().map(|why| format!("    {why}")));
        lines.join("\n")
    });
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_was_damaged_is_closed() {
    let damaged = |at: u64| {
        let first = with_text(FIRST, GROUP);
        first.write_all_at(b"~", START + at).unwrap();
        found(&[&first, &without_text(SECOND)])
    };
    assert_eq!(closed(&damaged(512 + 300)), ["/dev/sda2: its label is damaged"]);
    for at in [AREA_AT + 200, AREA_AT + 4096 + 7] {
        assert_eq!(closed(&damaged(at)), ["/dev/sda2: its metadata is damaged"]);
    }
    // Another copy is enough.
    let first = with_text(FIRST, GROUP);
    first.write_all_at(b"~", START + AREA_AT).unwrap();
    let found = found(&[&first, &with_text(SECOND, GROUP)]);
    assert_eq!((opened(&found).len(), closed(&found).len()), (3, 0));
}

#[test]
fn a_text_is_not_longer_than_its_area() {
    for (at, bytes) in [
        (4096, u64::MAX),
        (4096, AREA_BYTES),
        (u64::MAX, 10),
        (100, 10),
        (AREA_BYTES, 10),
    ] {
        let mut header = area(at, b"");
        header[48..56].copy_from_slice(&bytes.to_le_bytes());
        let sum = checksum(&header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        let file = disk(&[(512, &label(FIRST)), (AREA_AT, &header)]);
        assert_eq!(
            closed(&found(&[&file])),
            ["/dev/sda2: its metadata is damaged"],
            "{at} {bytes}"
        );
    }
}

#[test]
fn a_volume_that_no_group_uses_is_nothing() {
    assert_eq!(found(&[&without_text(FIRST)]), Found::default());
}

proptest! {
    /// A text that was changed at one place.
    #[test]
    fn any_group_is_survived(at in 0..GROUP.len(), take in 0..40_usize, put in "[0-9a-z\"{}\\[\\],= ]{0,20}") {
        let end = (at + take).min(GROUP.len());
        let text = format!("{}{put}{}", &GROUP[..at], &GROUP[end..]);
        let found = with_group(&text);
        let maps: Vec<Mapped> = found.opened.into_iter().map(|volume| volume.mapped).collect();
        prop_assert_eq!(mapping::check(&maps, &[], &[BYTES, BYTES]), Ok(()));
    }

    #[test]
    fn any_label_is_survived(bytes in proptest::collection::vec(any::<u8>(), 480), at in any::<u32>()) {
        let mut sector = label(FIRST);
        sector[32..].copy_from_slice(&bytes);
        sector[20..24].copy_from_slice(&at.to_le_bytes());
        let sum = checksum(&sector[20..]);
        sector[16..20].copy_from_slice(&sum.to_le_bytes());
        found(&[&disk(&[(512, &sector)])]);
    }

    #[test]
    fn any_area_is_survived(bytes in proptest::collection::vec(any::<u8>(), 24)) {
        let mut header = area(4096, GROUP.as_bytes());
        header[40..64].copy_from_slice(&bytes);
        let sum = checksum(&header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        found(&[&disk(&[(512, &label(FIRST)), (AREA_AT, &header)])]);
    }
}
