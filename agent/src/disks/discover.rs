//! Finds the disks of this machine in `/sys/block`, and looks at those that somebody named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use domain::disk::{Disk, DiskId};

use super::{DiskError, DiskKind, LocalDisk, Roots, boot, identity};

/// Kernel names of physical disks: SCSI, SATA and USB; virtio; Xen; IDE; NVMe. All else in `/sys/block`
/// either is made of these (`dm`, `md`), lives in memory (`ram`, `zram`), has no disk (`sr`, `fd`) or
/// shows a file (`loop`, `nbd`).
const PHYSICAL: [&str; 5] = ["sd", "vd", "xvd", "hd", "nvme"];

/// Sizes in sysfs are in sectors of this many bytes, whatever the disk's own sectors are.
const SECTOR_LEN: u64 = 512;

/// The physical disks, in the order of their names. Empty and removable ones are left out: a stick that
/// somebody plugs in is no part of the server.
pub fn physical(roots: &Roots) -> Result<Vec<LocalDisk>, DiskError> {
    let folder = roots.sys.join("block");
    let list_failed = |source| DiskError::List {
        path: folder.clone(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(list_failed)? {
        let name = entry
            .map_err(list_failed)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if is_physical(&name) {
            names.push(name);
        }
    }
    // `sdb` before `sdaa`.
    names.sort_by_key(|name| (name.len(), name.clone()));

    let boot = boot::boot_disks(roots);
    let flag = |name: &str, attribute: &str| {
        fs::read_to_string(folder.join(name).join(attribute)).is_ok_and(|text| text.trim() == "1")
    };
    let mut found = Vec::new();
    for name in names {
        if flag(&name, "removable") || flag(&name, "hidden") {
            continue;
        }
        match block_device(roots, &name, roots.dev.join(&name), &boot) {
            Ok(disk) => found.push(disk),
            // Gone between the listing and now, or a reader without a medium.
            Err(DiskError::Attribute { .. } | DiskError::Empty { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(with_distinct_ids(roots, found))
}

fn is_physical(name: &str) -> bool {
    PHYSICAL.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    })
}

/// The block devices and image files at `paths`. If the machine does not start from any of them, the
/// first counts as the one to start from.
pub fn named(roots: &Roots, paths: &[PathBuf]) -> Result<Vec<LocalDisk>, DiskError> {
    let boot = boot::boot_disks(roots);
    let mut found: Vec<LocalDisk> = Vec::new();
    for path in paths {
        let disk = look_at(roots, path, &boot)?;
        if let Some(first) = found.iter().find(|other| other.disk.id == disk.disk.id) {
            return Err(DiskError::Twice {
                first: first.path.clone(),
                second: disk.path,
            });
        }
        found.push(disk);
    }
    if !found.iter().any(|disk| disk.disk.is_boot)
        && let Some(first) = found.first_mut()
    {
        first.disk.is_boot = true;
    }
    Ok(found)
}

/// The disk at `path`, which somebody named. It counts as a boot disk if the machine starts from it.
pub fn look_at(roots: &Roots, path: &Path, boot: &BTreeSet<String>) -> Result<LocalDisk, DiskError> {
    let missing = |source| DiskError::Missing {
        path: path.to_owned(),
        source,
    };
    let real = fs::canonicalize(path).map_err(missing)?;
    let metadata = fs::metadata(&real).map_err(missing)?;
    if metadata.file_type().is_block_device() {
        let name = real
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(disk) = boot::disk_of_partition(roots, &name) {
            return Err(DiskError::Partition {
                path: path.to_owned(),
                disk: roots.dev.join(disk).display().to_string(),
            });
        }
        return block_device(roots, &name, path.to_owned(), boot);
    }
    if !metadata.is_file() {
        return Err(DiskError::NotADisk {
            path: path.to_owned(),
        });
    }
    if metadata.len() == 0 {
        return Err(DiskError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(LocalDisk {
        disk: Disk {
            id: identity::of_path(&real),
            device_name: path.display().to_string(),
            bytes: metadata.len(),
            is_boot: false,
        },
        path: real,
        kind: DiskKind::File,
    })
}

fn block_device(
    roots: &Roots,
    name: &str,
    path: PathBuf,
    boot: &BTreeSet<String>,
) -> Result<LocalDisk, DiskError> {
    let folder = roots.sys.join("block").join(name);
    // The kernel keeps this equal to what the BLKGETSIZE64 ioctl says, and it needs no right to open.
    let size_file = folder.join("size");
    let attribute_failed = |source| DiskError::Attribute {
        path: size_file.clone(),
        source,
    };
    let text = fs::read_to_string(&size_file).map_err(attribute_failed)?;
    let sectors: u64 = text
        .trim()
        .parse()
        .map_err(|_| attribute_failed(std::io::ErrorKind::InvalidData.into()))?;
    if sectors == 0 {
        return Err(DiskError::Empty { path });
    }
    let id = identity::of_block_device(&folder).unwrap_or_else(|| place_of(&folder));
    Ok(LocalDisk {
        disk: Disk {
            id,
            device_name: path.display().to_string(),
            bytes: sectors * SECTOR_LEN,
            is_boot: boot.contains(name),
        },
        path,
        kind: DiskKind::Block {
            kernel_names: vec![name.to_owned()],
        },
    })
}

/// A disk that says nothing of itself is known by where it is: a loop device by its file, another by
/// the bus and slot it is attached at.
fn place_of(folder: &Path) -> DiskId {
    if let Ok(backing) = fs::read_to_string(folder.join("loop/backing_file")) {
        return identity::of_path(Path::new(backing.trim_end()));
    }
    let attached = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    identity::of_path(&attached)
}

/// Several paths to one disk become one entry. Disks that merely claim the same serial number, as
/// virtual ones do when somebody copied their definition, are told apart by their place.
fn with_distinct_ids(roots: &Roots, found: Vec<LocalDisk>) -> Vec<LocalDisk> {
    let mut claims: BTreeMap<DiskId, usize> = BTreeMap::new();
    for disk in &found {
        *claims.entry(disk.disk.id.clone()).or_default() += 1;
    }
    let mut distinct: Vec<LocalDisk> = Vec::new();
    for mut disk in found {
        if claims[&disk.disk.id] > 1 {
            let DiskKind::Block { kernel_names } = &disk.kind else {
                continue;
            };
            if disk.disk.id.as_str().starts_with("serial-") {
                disk.disk.id = place_of(&roots.sys.join("block").join(&kernel_names[0]));
            } else if let Some(same) = distinct.iter_mut().find(|other| other.disk.id == disk.disk.id) {
                same.disk.is_boot |= disk.disk.is_boot;
                if let DiskKind::Block { kernel_names: known } = &mut same.kind {
                    known.extend(kernel_names.iter().cloned());
                }
                continue;
            }
        }
        distinct.push(disk);
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::fake_tree::FakeTree;

    #[test]
    fn only_physical_disks_are_found_and_the_boot_disk_is_marked() {
        let tree = FakeTree::new();
        for (name, number) in [
            ("sdaa", "65:160"),
            ("sdb", "8:16"),
            ("vda", "252:0"),
            ("xvdf", "202:80"),
            ("nvme0n1", "259:0"),
            ("loop0", "7:0"),
            ("ram0", "1:0"),
            ("zram0", "254:0"),
            ("sr0", "11:0"),
            ("fd0", "2:0"),
            ("md127", "9:127"),
        ] {
            tree.disk(name, 4096, number);
        }
        tree.disk("sdc", 0, "8:32").disk("sdd", 64, "8:48");
        tree.attribute("sdd", "removable", "1");
        tree.partition("vda", "vda1", "252:1");
        tree.mounts("21 1 252:1 / / rw - ext4 /dev/vda1 rw\n");

        let found = physical(&tree.roots()).unwrap();
        let names: Vec<_> = found.iter().map(|d| d.path.file_name().unwrap()).collect();
        assert_eq!(names, ["sdb", "vda", "sdaa", "xvdf", "nvme0n1"]);
        let boot: Vec<_> = found.iter().filter(|d| d.disk.is_boot).collect();
        assert_eq!(boot.len(), 1);
        assert!(boot[0].path.ends_with("vda"));
        assert_eq!(found[0].disk.bytes, 4096 * 512);
        assert!(found.iter().all(|d| d.disk.id.as_str().starts_with("path-")));
    }

    #[test]
    fn two_paths_to_a_disk_are_one_disk_and_one_serial_on_two_disks_is_two() {
        let tree = FakeTree::new();
        tree.disk("sda", 64, "8:0")
            .attribute("sda", "device/wwid", "naa.5000c500a0b1c2d3");
        tree.disk("sdb", 64, "8:16")
            .attribute("sdb", "device/wwid", "naa.5000c500a0b1c2d3");
        tree.disk("vda", 64, "252:0").attribute("vda", "serial", "copied");
        tree.disk("vdb", 64, "252:16")
            .attribute("vdb", "serial", "copied");

        let found = physical(&tree.roots()).unwrap();
        assert_eq!(found.len(), 3);
        let DiskKind::Block { kernel_names } = &found[0].kind else {
            panic!("{found:?}")
        };
        assert_eq!(kernel_names, &["sda", "sdb"]);
        assert_ne!(found[1].disk.id, found[2].disk.id);
    }

    #[test]
    fn image_files_are_disks_when_named() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("root.raw"), folder.path().join("data.raw"));
        fs::write(&one, [1; 700]).unwrap();
        fs::write(&two, [2; 600]).unwrap();
        let tree = FakeTree::new();
        let found = named(&tree.roots(), &[one.clone(), two.clone()]).unwrap();
        assert_eq!(found[0].disk.bytes, 700);
        assert!(found[0].disk.is_boot && !found[1].disk.is_boot);
        assert_ne!(found[0].disk.id, found[1].disk.id);

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let twice = named(&tree.roots(), &[one, link]);
        assert!(matches!(twice, Err(DiskError::Twice { .. })), "{twice:?}");
        let none = named(&tree.roots(), &[folder.path().join("none")]);
        assert!(matches!(none, Err(DiskError::Missing { .. })), "{none:?}");
        let dir = named(&tree.roots(), &[folder.path().to_owned()]);
        assert!(matches!(dir, Err(DiskError::NotADisk { .. })), "{dir:?}");
    }
}
