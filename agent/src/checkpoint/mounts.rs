//! What lives on the disks: file systems that can be frozen, swap, and users that cannot be brought to rest.
//!
//! A file system belongs to a disk if any of its data is there: on the whole disk, in a partition, in a volume
//! or an array that has a part there, or in an image file on another file system that belongs to it. One that
//! is mounted several times, or of which several parts are mounted, is one file system.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{stack::Stack, users};
use crate::disks::{
    LocalDisk, Roots,
    mountinfo::{self, Mount},
};

/// The first page of a swap area says that it is one, and stays as it is while the area is in use. No
/// processor of ours has larger pages than this.
const SWAP_HEADER_LEN: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Where it was mounted first, for people.
    pub mount_point: PathBuf,
    /// As it was given to mount, `/dev/sda1`.
    pub device: String,
    /// `ext4`.
    pub kind: String,
    pub writable: bool,
    /// Every place where it is mounted. Any of them leads to it, unless another mount covers it.
    pub places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Tells a mount from what else may be mounted at this path by the time it is opened.
    pub mount_id: u64,
    pub path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Residents {
    /// Each comes after those that it lies upon.
    pub file_systems: Vec<FileSystem>,
    /// Areas of active swap partitions, as the index of the disk and bytes on it, without their headers.
    /// Nothing in them is of any use after a restart.
    pub swap: Vec<(usize, Range<u64>)>,
    /// What else writes to the disks, or may: programs with a partition open for writing, file systems that
    /// are mounted in other name spaces only, and whatever could not be found out.
    pub unseen: Vec<String>,
}

impl Residents {
    /// Who is here now and was not at an `earlier` look, and so was not asked to stand still since.
    pub fn newcomers(&self, earlier: &Self) -> Vec<String> {
        let was_there = |one: &FileSystem| {
            let is_it = |other: &FileSystem| {
                other.writable
                    && (&one.device, &one.kind) == (&other.device, &other.kind)
                    && one.places.iter().any(|place| other.places.contains(place))
            };
            earlier.file_systems.iter().any(is_it)
        };
        let mounted = self
            .file_systems
            .iter()
            .filter(|one| one.writable && !was_there(one));
        let mounted = mounted.map(|one| {
            format!(
                "{}, {}, was mounted at {} meanwhile",
                one.device,
                one.kind,
                one.mount_point.display()
            )
        });
        let unseen = self.unseen.iter().filter(|one| !earlier.unseen.contains(one));
        mounted.chain(unseen.cloned()).collect()
    }
}

/// Looks at everything on `disks`.
pub fn residents(roots: &Roots, disks: &[LocalDisk]) -> Residents {
    let mut residents = Residents::default();
    let mounts = match read_mounts(&roots.proc.join("self/mountinfo")) {
        Ok(mounts) => mounts,
        Err(trouble) => {
            // Nobody knows what is mounted, which is not to say that nothing is.
            residents.unseen.push(trouble);
            return residents;
        }
    };
    let stack = Stack::new(roots, disks, &mounts);
    residents.file_systems = file_systems(&stack, &mounts);
    residents.swap = swap(roots, &stack);
    residents.unseen = users::unseen(roots, &stack, &mounts);
    residents
}

/// The same super block has the same number wherever it is mounted.
pub(super) fn super_block(mount: &Mount) -> (&str, &str) {
    (&mount.number, &mount.kind)
}

pub(super) fn read_mounts(path: &Path) -> Result<Vec<Mount>, String> {
    let table = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(mountinfo::parse(&String::from_utf8_lossy(&table)))
}

fn file_systems(stack: &Stack<'_>, mounts: &[Mount]) -> Vec<FileSystem> {
    let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut elsewhere: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut found: Vec<(u32, FileSystem)> = Vec::new();
    for mount in mounts {
        let key = super_block(mount);
        let place = Place {
            mount_id: mount.id,
            path: mount.point.clone(),
        };
        if let Some(&at) = known.get(&key) {
            found[at].1.places.push(place);
            continue;
        }
        if elsewhere.contains(&key) {
            continue;
        }
        let below = stack.below_mount(mount);
        if below.disks.is_empty() {
            elsewhere.insert(key);
            continue;
        }
        known.insert(key, found.len());
        let file_system = FileSystem {
            mount_point: mount.point.clone(),
            device: mount.source.clone(),
            kind: mount.kind.clone(),
            writable: mount.is_writable(),
            places: vec![place],
        };
        found.push((below.file_systems, file_system));
    }
    // In the order of mounting, unless one that was mounted anew carries an older one.
    found.sort_by_key(|(file_systems_below, _)| *file_systems_below);
    found.into_iter().map(|(_, file_system)| file_system).collect()
}

/// Areas of `/proc/swaps` that lie in one piece on a disk. Swap files, and volumes of a volume manager, do not.
fn swap(roots: &Roots, stack: &Stack<'_>) -> Vec<(usize, Range<u64>)> {
    let table = fs::read_to_string(roots.proc.join("swaps")).unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let device = mountinfo::unescape(fields.next()?);
            if fields.next()? != "partition" {
                return None;
            }
            let (disk, area) = stack.area(&stack.folder_of(&device)?)?;
            let content = area.start + SWAP_HEADER_LEN..area.end;
            (!content.is_empty()).then_some((disk, content))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::{discover, fake_tree::FakeTree};

    fn tree() -> FakeTree {
        let tree = FakeTree::new();
        tree.disk("sda", 1 << 20, "8:0")
            .partition("sda", "sda1", "8:1")
            .partition("sda", "sda2", "8:2");
        tree.disk("sdb", 1 << 20, "8:16");
        tree
    }

    fn look(tree: &FakeTree) -> Residents {
        let disks = discover::physical(&tree.roots()).unwrap();
        residents(&tree.roots(), &disks)
    }

    fn points(residents: &Residents) -> Vec<&str> {
        let file_systems = residents.file_systems.iter();
        file_systems.map(|fs| fs.mount_point.to_str().unwrap()).collect()
    }

    #[test]
    fn a_file_system_is_one_however_often_it_is_mounted() {
        let tree = tree();
        tree.mounts(
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             22 21 0:5 / /proc rw - proc proc rw\n\
             23 21 8:2 / /my\\040data ro - xfs /dev/sda2 rw\n\
             24 21 8:1 /srv /mnt rw - ext4 /dev/sda1 rw\n\
             25 21 7:3 / /elsewhere rw - ext4 /dev/loop3 rw\n\
             26 21 8:16 / /cd ro - squashfs /dev/sdb ro\n",
        );
        let found = look(&tree);
        assert_eq!(points(&found), ["/", "/my data", "/cd"]);
        assert_eq!(found.file_systems[0].places.len(), 2);
        assert_eq!(found.file_systems[0].places[1].mount_id, 24);
        // A mount that is read-only does not make the file system so.
        assert!(found.file_systems[1].writable && !found.file_systems[2].writable);
        assert_eq!((found.swap.len(), found.unseen.len()), (0, 0), "{found:?}");
    }

    #[test]
    fn volumes_and_arrays_are_followed_to_their_disks() {
        let tree = tree();
        tree.disk("usb0", 1 << 20, "189:0");
        tree.mapped("md0", "9:0", &["sda2", "sdb"])
            .mapped("dm-0", "253:0", &["md0"])
            .mapped("dm-1", "253:1", &["usb0"]);
        tree.mounts(
            "21 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n\
             22 21 253:1 / /usb rw - ext4 /dev/mapper/usb rw\n",
        );
        assert_eq!(points(&look(&tree)), ["/"]);
    }

    #[test]
    fn btrfs_lies_on_all_its_devices_and_xfs_on_its_log() {
        let tree = tree();
        tree.disk("usb0", 1 << 20, "189:0").disk("usb1", 1 << 20, "189:1");
        tree.put("sys/fs/btrfs/7c5e/devices/usb1/size", "1")
            .put("sys/fs/btrfs/7c5e/devices/sdb/size", "1");
        tree.mounts(
            "21 1 0:33 /@ / rw - btrfs /dev/sda1 rw,subvol=/@\n\
             22 21 0:33 /@home /home rw - btrfs /dev/sda1 rw,subvol=/@home\n\
             23 21 0:34 / /two rw - btrfs /dev/usb1 rw\n\
             24 21 189:0 / /logged rw - xfs /dev/usb0 rw,logdev=/dev/sda2\n\
             25 21 0:35 / /work rw - btrfs /dev/usb0 rw\n",
        );
        assert_eq!(points(&look(&tree)), ["/", "/two", "/logged"]);
    }

    #[test]
    fn an_image_comes_after_the_file_system_that_holds_it() {
        let tree = tree();
        tree.looped("loop0", "7:0", "/data/images/a.img", 0)
            .looped("loop1", "7:1", "/tmp/b.img", 0);
        // The file system with the image was mounted again, and stands after what is in it.
        tree.mounts(
            "20 1 0:2 / / rw - rootfs rootfs rw\n\
             21 20 7:0 / /a rw - ext4 /dev/loop0 rw\n\
             22 20 8:1 / /data rw - ext4 /dev/sda1 rw\n\
             23 20 0:40 / /tmp rw - tmpfs tmpfs rw\n\
             24 20 7:1 / /b rw - ext4 /dev/loop1 rw\n",
        );
        assert_eq!(points(&look(&tree)), ["/data", "/a"]);
    }

    #[test]
    fn a_disk_that_is_an_image_has_the_file_systems_of_its_loop_devices() {
        let tree = tree();
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.raw");
        fs::write(&image, [0; 4096]).unwrap();
        tree.looped("loop0", "7:0", image.to_str().unwrap(), 1 << 20);
        tree.mounts("21 1 7:0 / /mnt rw - ext4 /dev/loop0 rw\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        let disks = discover::named(&tree.roots(), &[image]).unwrap();
        assert_eq!(points(&residents(&tree.roots(), &disks)), ["/mnt"]);
    }

    #[test]
    fn who_comes_between_two_looks_is_named() {
        let tree = tree();
        let root = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let looks = |earlier: &str, now: &str| {
            tree.mounts(earlier);
            let earlier = look(&tree);
            tree.mounts(now);
            look(&tree).newcomers(&earlier)
        };
        assert_eq!(looks(root, root), [""; 0]);
        let came = format!("{root}22 21 8:16 / /data rw - xfs /dev/sdb rw\n");
        let named = ["/dev/sdb, xfs, was mounted at /data meanwhile"];
        assert_eq!(looks(root, &came), named);
        assert_eq!(looks(&came, root), [""; 0]);
        // Only to be read; then to be written to.
        let read_only = came.replace("xfs /dev/sdb rw", "xfs /dev/sdb ro");
        assert_eq!(looks(root, &read_only), [""; 0]);
        assert_eq!(looks(&read_only, &came), named);
        // One more place of the same, and another at its place.
        let bound = format!("{came}23 21 8:16 / /again rw - xfs /dev/sdb rw\n");
        assert_eq!(looks(&came, &bound), [""; 0]);
        let other = came.replace(
            "8:16 / /data rw - xfs /dev/sdb",
            "8:2 / /data rw - ext4 /dev/sda2",
        );
        assert_eq!(
            looks(&came, &other),
            ["/dev/sda2, ext4, was mounted at /data meanwhile"]
        );
    }

    #[test]
    fn swap_is_found_where_it_lies_in_one_piece() {
        let tree = tree();
        tree.put("sys/class/block/sda2/start", "2048")
            .put("sys/class/block/sda2/size", "4096");
        tree.mapped("dm-0", "253:0", &["sdb"]);
        tree.put(
            "proc/swaps",
            "Filename Type Size Used Priority\n\
             /dev/sda2 partition 2044 0 -2\n\
             /dev/sdb partition 1 0 -3\n\
             /dev/dm-0 partition 1 0 -3\n\
             /swap\\040file file 524284 0 -4\n\
             /dev/zram0 partition 9 0 100",
        );
        tree.mounts("");
        let mib = 1 << 20;
        assert_eq!(
            look(&tree).swap,
            [
                (0, mib + SWAP_HEADER_LEN..3 * mib),
                (1, SWAP_HEADER_LEN..(1 << 20) * 512)
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let found = look(&tree());
        assert!(found.unseen[0].contains("mountinfo"), "{found:?}");
    }

    #[test]
    fn raw_writers_and_mounts_of_other_name_spaces_are_named() {
        let tree = tree();
        let own = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        tree.mounts(own).link("mnt:[1]", "proc/self/ns/mnt");
        let process = |pid: &str, name: &str, name_space: &str, table: &str| {
            tree.put(&format!("proc/{pid}/comm"), name)
                .put(&format!("proc/{pid}/mountinfo"), table)
                .link(name_space, &format!("proc/{pid}/ns/mnt"));
        };
        let opens = |pid: &str, fd: &str, what: &str, flags: &str| {
            tree.link(what, &format!("proc/{pid}/fd/{fd}")).put(
                &format!("proc/{pid}/fdinfo/{fd}"),
                &format!("pos:\t0\nflags:\t{flags}"),
            );
        };
        process("10", "init", "mnt:[1]", own);
        process("11", "oracle", "mnt:[1]", own);
        opens("11", "3", "/dev/sda2", "0100002");
        opens("11", "4", "/dev/sda2", "02");
        opens("11", "5", "/dev/null", "02");
        process("12", "blkid", "mnt:[1]", own);
        opens("12", "3", "/dev/sdb", "0100000");
        let other = "41 1 8:1 / / rw - ext4 /dev/sda1 rw\n42 41 8:16 / /vol rw - xfs /dev/sdb rw\n";
        process("13", "pod", "mnt:[2]", other);
        process("14", "pod", "mnt:[2]", other);
        assert_eq!(
            look(&tree).unseen,
            [
                "/dev/sda2 is open for writing by oracle (process 11)",
                "/dev/sdb, xfs, is mounted at /vol in the name space of pod (process 13)"
            ]
        );
    }
}
