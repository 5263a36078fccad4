//! How a guest's own configuration of volumes would take to other disks, and what room there is to convert it.

use super::{
    crypttab::CrypttabEntry,
    disks::{Content, DiskFacts},
    fstab::{FstabEntry, Spec},
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

/// The line of `/etc/lvm/lvm.conf` that looks for physical volumes by names which other hardware does not give.
pub fn lvm_filter(guest: &Guest) -> Option<String> {
    filter_by_name(&guest.text("/etc/lvm/lvm.conf")?)
}

fn filter_by_name(text: &str) -> Option<String> {
    text.lines().map(str::trim).find_map(|line| {
        let key = line.split(['=', ' ']).next()?;
        let by_name = ["/dev/sd", "/dev/vd", "/dev/hd", "/dev/xvd", "/dev/disk/by-"];
        (matches!(key, "filter" | "global_filter") && by_name.iter().any(|name| line.contains(name)))
            .then(|| line.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_filter_by_device_names_is_found() {
        let text = "devices {\n\t# filter = [ \"a|/dev/sda|\" ]\n\tglobal_filter = [ \"a|^/dev/sda2$|\", \"r|.*|\" ]\n}\n";
        assert_eq!(
            filter_by_name(text).as_deref(),
            Some("global_filter = [ \"a|^/dev/sda2$|\", \"r|.*|\" ]")
        );
        assert_eq!(filter_by_name("filter = [ \"a|.*|\" ]\n"), None);
        assert_eq!(filter_by_name("filtered = [ \"/dev/sda\" ]\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,300}") {
            filter_by_name(&text);
        }
    }
}
