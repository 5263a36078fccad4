//! How a guest's own configuration of volumes would take to other disks, and what room there is to convert it.

use std::{collections::BTreeSet, ops::Range};

use super::{
    crypttab::CrypttabEntry,
    disks::{Content, DiskFacts},
    fstab::{FstabEntry, Spec, tagged},
    guest::Guest,
};

/// What lies between partitions and file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    Lvm,
    Md,
    Luks,
    Multipath,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSpace {
    pub mount_point: String,
    pub bytes: u64,
    /// `None` where inodes are made as needed.
    pub inodes: Option<u64>,
}

/// By what is on the disks, and by what the guest expects there.
pub fn layers(
    guest: &Guest,
    disks: &DiskFacts,
    fstab: &[FstabEntry],
    crypttab: &[CrypttabEntry],
) -> Vec<Layer> {
    let mounts = |is: fn(Spec) -> bool| fstab.iter().any(|entry| is(entry.spec()));
    // A name below /dev/mapper may as well be that of an entry of crypttab.
    let mounts_mapped = crypttab.is_empty() && mounts(|spec| matches!(spec, Spec::Mapped(_)));
    [
        (Layer::Lvm, disks.has(&Content::Lvm) || mounts_mapped),
        (
            Layer::Md,
            disks.has(&Content::Md) || mounts(|spec| matches!(spec, Spec::Md(_))),
        ),
        (Layer::Luks, disks.has(&Content::Luks) || !crypttab.is_empty()),
        (
            Layer::Multipath,
            guest.starts("multipathd.service") && guest.has("/etc/multipath.conf"),
        ),
    ]
    .into_iter()
    .filter(|(_, is_used)| *is_used)
    .map(|(layer, _)| layer)
    .collect()
}

/// What dracut has to be told of, on the kernel's command line, to have `/` and `/usr`: `rd.lvm.lv=vg/root`. Without it,
/// dracut puts no array together and activates no logical volume.
pub fn dracut_parameters(disks: &DiskFacts) -> Vec<String> {
    const ARRAY: &str = "/dev/disk/by-id/md-uuid-";
    let system = ["/", "/usr"]
        .into_iter()
        .filter_map(|path| disks.mounted_at(path));
    let mut parameters = BTreeSet::new();
    for volume in system {
        for name in volume
            .lasting_names()
            .iter()
            .filter_map(|name| name.strip_prefix("/dev/"))
        {
            let is_volume = matches!(tagged(&volume.device_name), Spec::Mapped(_));
            if is_volume && !name.starts_with("mapper/") && !name.starts_with("disk/") {
                parameters.insert(format!("rd.lvm.lv={name}"));
            }
        }
        for array in disks.arrays_below(volume) {
            let names = array.lasting_names();
            let uuids = names.iter().filter_map(|name| name.strip_prefix(ARRAY));
            parameters
                .extend(uuids.map(|uuid| format!("rd.md.uuid={}", uuid.split('-').next().unwrap_or(uuid))));
        }
    }
    parameters.into_iter().collect()
}

/// Of every file system that is mounted in the tree.
pub fn free(guest: &Guest, disks: &DiskFacts) -> Vec<FreeSpace> {
    let mut found: Vec<FreeSpace> = disks
        .volumes()
        .filter_map(|volume| volume.mounted_at.clone())
        .filter_map(|mount_point| {
            let free = guest.free(&mount_point)?;
            Some(FreeSpace {
                mount_point,
                bytes: free.bytes,
                inodes: free.inodes,
            })
        })
        .collect();
    found.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    found
}

/// The setting of `/etc/lvm/lvm.conf` that looks for physical volumes by names which other hardware does not give.
pub fn lvm_filter(guest: &Guest) -> Option<String> {
    let text = guest.text("/etc/lvm/lvm.conf")?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let first = filters_by_name(&text).into_iter().next()?;
    Some(lines[first].join(" "))
}

/// Whether it has names of disks which other hardware does not give.
pub fn is_by_hardware(text: &str) -> bool {
    const NAMES: [&str; 5] = ["/dev/sd", "/dev/vd", "/dev/hd", "/dev/xvd", "/dev/disk/by-"];
    NAMES.iter().any(|name| text.contains(name))
}

/// The lines, counted from 0, of each such setting.
pub fn filters_by_name(text: &str) -> Vec<Range<usize>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(line) = lines.get(next) {
        let start = next;
        next += 1;
        if !matches!(
            line.split(['=', ' ', '\t']).next(),
            Some("filter" | "global_filter")
        ) {
            continue;
        }
        // Brackets are in patterns, too, which are between quotes.
        let ends = |line: &&str| line.rsplit('"').next().is_some_and(|end| end.contains(']'));
        let len = lines[start..].iter().position(ends).unwrap_or(0);
        next = start + len + 1;
        if lines[start..next].iter().any(|line| is_by_hardware(line)) {
            found.push(start..next);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::recorded::Recorded;

    #[test]
    fn dracut_is_told_of_the_volumes_below_the_root() {
        let told = |disks: &str| dracut_parameters(&Recorded::unpack(disks).disks);
        let array = "/dev/disk/by-id/md-uuid-1:2:3:4";
        let plain = "== disk /dev/sda gpt boot\n== volume /dev/sda1 ext4 at=/\n== disk /dev/md0\n";
        assert_eq!(
            told(&format!("{plain}== volume /dev/md0 ext4 also={array} at=/srv\n")),
            Vec::<String>::new()
        );
        let on_array = format!("== disk /dev/md0\n== volume /dev/md0p1 ext4 also={array}-part1 at=/\n");
        assert_eq!(told(&on_array), ["rd.md.uuid=1:2:3:4"]);
        let lvm = "== disk /dev/mapper/vg-root\n== volume /dev/mapper/vg-root xfs also=/dev/vg/root also=/dev/disk/by-id/dm-name-vg-root at=/\n";
        assert_eq!(told(lvm), ["rd.lvm.lv=vg/root"]);
        assert_eq!(
            told(&format!(
                "== disk /dev/md0\n== volume /dev/md0 lvm also={array}\n{lvm}"
            )),
            ["rd.lvm.lv=vg/root", "rd.md.uuid=1:2:3:4"]
        );
    }

    #[test]
    fn filters_by_device_names_are_found() {
        let lines = |text: &str| filters_by_name(text).into_iter().flatten().collect::<Vec<_>>();
        let one = "devices {\n\t# filter = [ \"a|/dev/sda|\" ]\n\tglobal_filter = [ \"a|^/dev/sda2$|\", \"r|.*|\" ]\n}\n";
        assert_eq!(lines(one), [2]);
        let two = "filter = [\n\"a|/dev/vd[a-c]|\",\n\"r|.*|\" ] # all\nother = 1\nfilter=\"a|/dev/sda|\"\nlast = 1\n";
        assert_eq!(lines(two), [0, 1, 2, 4]);
        for none in ["filter = [ \"a|.*|\" ]\n", "filtered = [ \"/dev/sda\" ]\n"] {
            assert!(lines(none).is_empty(), "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,300}") {
            filters_by_name(&text);
        }
    }
}
