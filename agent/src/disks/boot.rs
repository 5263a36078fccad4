//! Which disk the machine starts from: the one that holds `/boot`, or `/` where that is not apart.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Roots,
    mountinfo::{self, Mount},
};

/// Names in `/sys/block` of the disks under `/boot`, or under `/`. Several where a volume manager
/// spreads it; none where the root is not on a disk, as in a container.
pub fn boot_disks(roots: &Roots) -> BTreeSet<String> {
    let table = fs::read_to_string(roots.proc.join("self/mountinfo")).unwrap_or_default();
    let mounts = mountinfo::parse(&table);
    ["/boot", "/"]
        .into_iter()
        .map(|mount_point| disks_under_mount(roots, &mounts, mount_point))
        .find(|disks| !disks.is_empty())
        .unwrap_or_default()
}

fn disks_under_mount(roots: &Roots, mounts: &[Mount], mount_point: &str) -> BTreeSet<String> {
    let mut disks = BTreeSet::new();
    // The last line for a mount point is the mount on top.
    let on_top = mounts
        .iter()
        .rev()
        .find(|mount| mount.point == Path::new(mount_point));
    let Some(mount) = on_top else {
        return disks;
    };
    let by_number = roots.sys.join("dev/block").join(&mount.number);
    // A btrfs has a device number of its own; what it was mounted from says where it lies.
    let by_source = Path::new(&mount.source)
        .file_name()
        .map(|name| roots.sys.join("class/block").join(name));
    if let Some(folder) = [Some(by_number), by_source]
        .into_iter()
        .flatten()
        .find_map(|path| fs::canonicalize(path).ok())
    {
        collect_disks(&folder, &mut disks, 0);
    }
    disks
}

/// Stacks of volume managers are a few layers high; more would be a loop.
pub(crate) const LAYERS_MAX: u32 = 16;

fn collect_disks(folder: &Path, disks: &mut BTreeSet<String>, layer: u32) {
    if layer > LAYERS_MAX {
        return;
    }
    let lower = lower_devices(folder);
    if lower.is_empty()
        && let Some(name) = folder.file_name()
    {
        disks.insert(name.to_string_lossy().into_owned());
    }
    for folder in lower {
        collect_disks(&folder, disks, layer + 1);
    }
}

/// What a block device is made of, as folders in sysfs: a partition's disk, the members of a mapped device
/// or an array. Nothing below means that it is a disk.
pub(crate) fn lower_devices(folder: &Path) -> Vec<PathBuf> {
    let members: Vec<PathBuf> = fs::read_dir(folder.join("slaves"))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok())
        .collect();
    if members.is_empty() && folder.join("partition").exists() {
        return folder.parent().map(Path::to_owned).into_iter().collect();
    }
    members
}

/// Which disk the partition `name` belongs to, if it is one.
pub(super) fn disk_of_partition(roots: &Roots, name: &str) -> Option<String> {
    let folder = fs::canonicalize(roots.sys.join("class/block").join(name)).ok()?;
    folder
        .join("partition")
        .exists()
        .then(|| Some(folder.parent()?.file_name()?.to_string_lossy().into_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::fake_tree::FakeTree;

    fn names(tree: &FakeTree) -> Vec<String> {
        boot_disks(&tree.roots()).into_iter().collect()
    }

    #[test]
    fn the_disk_of_boot_comes_before_the_disk_of_root() {
        let tree = FakeTree::new();
        tree.disk("vda", 2048, "252:0").partition("vda", "vda1", "252:1");
        tree.disk("vdb", 2048, "252:16")
            .partition("vdb", "vdb1", "252:17");
        tree.mounts("21 1 252:17 / / rw - ext4 /dev/vdb1 rw\n");
        assert_eq!(names(&tree), ["vdb"]);
        tree.mounts("21 1 252:17 / / rw - ext4 /dev/vdb1 rw\n22 21 252:1 / /boot rw - ext4 /dev/vda1 rw\n");
        assert_eq!(names(&tree), ["vda"]);
    }

    #[test]
    fn a_volume_group_is_followed_to_its_disks() {
        let tree = FakeTree::new();
        tree.disk("sda", 2048, "8:0").partition("sda", "sda2", "8:2");
        tree.disk("sdb", 2048, "8:16");
        tree.mapped("dm-0", "253:0", &["sda2", "sdb"]);
        tree.mounts("21 1 253:0 / / rw,relatime shared:1 - xfs /dev/mapper/root rw\n");
        assert_eq!(names(&tree), ["sda", "sdb"]);
    }

    #[test]
    fn btrfs_is_found_by_its_source_and_a_container_has_no_boot_disk() {
        let tree = FakeTree::new();
        tree.disk("nvme0n1", 2048, "259:0")
            .partition("nvme0n1", "nvme0n1p2", "259:2");
        tree.mounts("21 1 0:33 /root / rw - btrfs /dev/nvme0n1p2 rw\n");
        assert_eq!(names(&tree), ["nvme0n1"]);
        tree.mounts("21 1 0:33 / / rw - overlay overlay rw\n");
        assert!(names(&tree).is_empty());
    }
}
