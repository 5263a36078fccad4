//! Findings about what is mounted, what lies between partitions and file systems, and room.

use std::fmt::Write;

use domain::readiness::{Class, Finding};

use super::{listed, of_class};
use crate::convert::inspect::{
    Facts,
    disks::{Closed, Content, DiskFacts, Volume},
    fstab::{FstabEntry, Spec},
    storage::{FreeSpace, Layer},
    table::BadLine,
};

/// Where the files are that conversion changes, and without which nothing boots.
const SYSTEM: [&str; 6] = ["/", "/usr", "/var", "/boot", "/boot/efi", "/efi"];

/// What virt-v2v asks for: room for one more initramfs, and for files that are written anew.
const BOOT_BYTES_MIN: u64 = 50 << 20;
const ROOT_BYTES_MIN: u64 = 100 << 20;
const OTHER_BYTES_MIN: u64 = 10 << 20;
const INODES_MIN: u64 = 100;

pub fn look(facts: &Facts, disks: &DiskFacts, found: &mut Vec<Finding>) {
    found.extend(root(disks));
    found.extend(bad_lines("fstab-bad-lines", "/etc/fstab", &facts.fstab_bad_lines));
    found.extend(bad_lines(
        "crypttab-bad-lines",
        "/etc/crypttab",
        &facts.crypttab_bad_lines,
    ));
    mounts(facts, disks, found);
    closed_volumes(facts, disks, found);
    found.extend(twice(disks));
    found.extend(without_mdadm(facts, disks));
    found.extend(degraded(disks));
    found.extend(passphrase(facts));
    found.extend(lvm_configuration(facts));
    found.extend(multipath(facts));
    found.extend(room(&facts.free));
}

/// What is to be said where no root file system could be mounted, and there is nothing more to look at.
pub fn without_root(disks: &DiskFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    for content in [Content::Lvm, Content::Md, Content::Luks] {
        found.extend(closed(&content, &disks.closed_by(&content)));
    }
    if found.is_empty() {
        found.push(Finding::blocks(
            "root-missing",
            "No replicated disk has a root file system of Linux: /etc, /bin, /sbin and /boot.",
            "Check that the server's boot disk is replicated.",
        ));
    }
    found
}

fn root(disks: &DiskFacts) -> Option<Finding> {
    let Content::FileSystem(kind) = &disks.mounted_at("/")?.content else {
        return None;
    };
    (!["ext2", "ext3", "ext4", "xfs", "btrfs"].contains(&kind.as_str())).then(|| {
        Finding::blocks(
            "root-file-system-unsupported",
            format!("The root file system is {kind}, which is not converted."),
            "Only ext2, ext3, ext4, xfs and btrfs can be converted. Move the system to one of them.",
        )
    })
}

fn bad_lines(code: &str, path: &str, bad: &[BadLine]) -> Option<Finding> {
    let first = bad.first()?;
    let numbers: Vec<String> = bad.iter().map(|bad| bad.line.to_string()).collect();
    Some(Finding::warns(
        code,
        format!(
            "{path} has lines that cannot be used, and that are left as they are: {} ({}).",
            listed(&numbers),
            first.problem
        ),
        format!("Correct or remove the lines in {path} on the server."),
    ))
}

/// What a launch makes of an entry of fstab.
#[derive(PartialEq, Eq)]
enum Fate {
    Stays,
    /// Its name is replaced by the UUID of what is there.
    Renamed,
    /// Nothing that is replicated has this name.
    Absent,
    /// Only the source's hardware gives the name a meaning.
    Unresolved,
    Network,
}

fn fate(entry: &FstabEntry, facts: &Facts, disks: &DiskFacts) -> Fate {
    let is_here = facts.volume(entry, disks).is_some();
    match entry.spec() {
        Spec::NoDisk => Fate::Stays,
        Spec::Network(_) => Fate::Network,
        Spec::Hardware(_) | Spec::Kernel(_) if is_here => Fate::Renamed,
        Spec::Hardware(_) => Fate::Unresolved,
        Spec::Kernel(_) => Fate::Absent,
        // It may be within what could not be opened.
        _ if is_here || !disks.closed.is_empty() => Fate::Stays,
        _ => Fate::Absent,
    }
}

fn is_system(entry: &FstabEntry) -> bool {
    SYSTEM.contains(&entry.mount_point.as_str())
}

fn mounts(facts: &Facts, disks: &DiskFacts, found: &mut Vec<Finding>) {
    let of = |wanted: Fate| -> Vec<&FstabEntry> {
        let entries = facts.fstab.iter();
        entries
            .filter(|entry| fate(entry, facts, disks) == wanted && !entry.has("noauto"))
            .collect()
    };
    let absent = of(Fate::Absent);
    if !absent.is_empty() {
        let is_needed = absent
            .iter()
            .any(|entry| is_system(entry) && !entry.is_optional());
        let (class, fate) = if is_needed {
            (Class::Blocks, "the instance would not start without it")
        } else {
            (
                Class::Warns,
                "the instance starts without it (nofail), and without its data",
            )
        };
        found.push(of_class(
            class,
            "volume-absent",
            format!(
                "fstab mounts what is on no replicated disk: {}; {fate}.",
                listed(&words(&absent))
            ),
            "Add the disk to the replicated ones, or remove the entry from /etc/fstab on the server.",
        ));
    }
    let unresolved = of(Fate::Unresolved);
    if !unresolved.is_empty() {
        let is_needed = unresolved
            .iter()
            .any(|entry| !entry.is_optional() && !entry.is_swap());
        found.push(of_class(
            if is_needed { Class::Blocks } else { Class::Warns },
            "fstab-hardware-name",
            format!(
                "fstab names disks by hardware that stays behind, so that the instance would not mount them: {}.",
                listed(&words(&unresolved))
            ),
            "Write UUID=… in its place on the server (`findmnt -no UUID MOUNTPOINT`), or give the entry the option nofail.",
        ));
    }
    let renamed = of(Fate::Renamed);
    if !renamed.is_empty() {
        found.push(Finding::informs(
            "fstab-device-name",
            format!(
                "fstab names devices that are called differently on an instance, and is rewritten to UUIDs: {}.",
                listed(&words(&renamed))
            ),
        ));
    }
    let network: Vec<&FstabEntry> = of(Fate::Network)
        .into_iter()
        .filter(|entry| !entry.is_optional())
        .collect();
    if !network.is_empty() {
        found.push(Finding::warns(
            "network-mount",
            format!("fstab mounts over the network: {}.", listed(&words(&network))),
            "Let the subnets of the test and of the cutover reach it, or give the entry the option nofail, so that the start does not wait for it.",
        ));
    }
}

/// `/dev/sdb1 at /data`.
fn words(entries: &[&FstabEntry]) -> Vec<String> {
    let words = |entry: &&FstabEntry| {
        if entry.is_swap() {
            format!("{} as swap", entry.spec)
        } else {
            format!("{} at {}", entry.spec, entry.mount_point)
        }
    };
    entries.iter().map(words).collect()
}

/// What cannot be opened matters where it holds the system; as a data disk it stays as it is.
fn closed_volumes(facts: &Facts, disks: &DiskFacts, found: &mut Vec<Finding>) {
    let missing: Vec<Spec> = facts
        .fstab
        .iter()
        .filter(|entry| {
            is_system(entry)
                && disks.mounted_at(&entry.mount_point).is_none()
                && disks.volume(entry.spec()).is_none()
        })
        .map(FstabEntry::spec)
        .collect();
    for content in [Content::Lvm, Content::Md, Content::Luks] {
        let mut by = disks.closed_by(&content);
        by.retain(|closed| missing.iter().any(|spec| may_be(*spec, closed)));
        found.extend(self::closed(&content, &by));
    }
}

/// Whether what cannot be opened may be what an entry mounts.
fn may_be(spec: Spec, closed: &Closed) -> bool {
    match spec {
        // Of what is in it, nothing is known.
        Spec::Uuid(_) | Spec::Label(_) => true,
        Spec::Mapped(name) => closed.is_called(name) || closed.may_hold_others(),
        Spec::Md(_) => closed.content == Content::Md,
        _ => false,
    }
}

/// What is said of volumes that cannot be opened for one reason.
fn closed(content: &Content, by: &[&Closed]) -> Option<Finding> {
    if by.is_empty() {
        return None;
    }
    let names: Vec<String> = by.iter().map(ToString::to_string).collect();
    Some(match content {
        Content::Luks => encrypted(),
        Content::Md => Finding::blocks(
            "md-closed",
            format!(
                "The system is on a software RAID, and a part of it cannot be used ({}).",
                listed(&names)
            ),
            "Replicate all disks of the array, repair it (`mdadm --detail`), or move the system to RAID1 or to a disk without RAID.",
        ),
        _ => Finding::blocks(
            "lvm-closed",
            format!(
                "The system is on LVM, and a part of it cannot be used ({}).",
                listed(&names)
            ),
            "Replicate all disks of the volume group, remove snapshots, and move the system to linear logical volumes (`pvmove`, `lvconvert`).",
        ),
    })
}

/// Mirrors of controllers, and of md below partitions, look like this from outside, and so do disks that were copied. Only
/// one of both would be converted.
fn twice(disks: &DiskFacts) -> Option<Finding> {
    // Copies of an EFI system partition are a custom, and do no harm.
    let system = SYSTEM.iter().filter(|path| !path.ends_with("efi"));
    let mounted = system.filter_map(|path| disks.mounted_at(path));
    let pairs: Vec<String> = mounted
        .flat_map(|volume| {
            let is_copy = |other: &&Volume| {
                other.uuid.is_some()
                    && (&other.uuid, &other.content) == (&volume.uuid, &volume.content)
                    && other.device_name != volume.device_name
            };
            let copies = disks.volumes().filter(is_copy);
            copies.map(|copy| format!("{} and {}", volume.device_name, copy.device_name))
        })
        .collect();
    (!pairs.is_empty()).then(|| {
        Finding::blocks(
            "volume-twice",
            format!(
                "File systems of the system are there twice, with the same UUID, and the instance might start from either: {}.",
                listed(&pairs)
            ),
            "If they are halves of a mirror, replicate one of its disks only; if one is an old copy, wipe it on the server (`wipefs`).",
        )
    })
}

fn without_mdadm(facts: &Facts, disks: &DiskFacts) -> Option<Finding> {
    let mut system = SYSTEM.iter().filter_map(|path| disks.mounted_at(path));
    (!facts.has_mdadm && system.any(|volume| !disks.arrays_below(volume).is_empty())).then(|| {
        Finding::blocks(
            "mdadm-missing",
            "The system is on a software RAID, and mdadm, which puts it together at the start, is not installed.",
            "Install mdadm on the server.",
        )
    })
}

fn degraded(disks: &DiskFacts) -> Option<Finding> {
    let words: Vec<String> = disks.degraded.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| {
        Finding::warns(
            "md-degraded",
            format!(
                "An array of the software RAID has lost members, and the instance starts without them: {}.",
                listed(&words)
            ),
            "Replace or add the members on the server (`mdadm --add`), or do so on the target.",
        )
    })
}

fn encrypted() -> Finding {
    Finding::blocks(
        "system-encrypted",
        "The system is encrypted with LUKS, and the runner has no key to it.",
        "Decrypt it on the server (`cryptsetup reencrypt --decrypt`); the target's volumes can be encrypted by EBS instead.",
    )
}

fn passphrase(facts: &Facts) -> Option<Finding> {
    let asking: Vec<&str> = facts
        .crypttab
        .iter()
        .filter(|entry| entry.asks())
        .map(|entry| entry.name.as_str())
        .collect();
    (!asking.is_empty()).then(|| {
        Finding::warns(
            "crypttab-passphrase",
            format!(
                "The start waits until somebody types the passphrase of {}.",
                listed(&asking)
            ),
            "Type it on the EC2 serial console, or add a key file or the option nofail to /etc/crypttab on the server.",
        )
    })
}

fn lvm_configuration(facts: &Facts) -> Option<Finding> {
    let filter = facts.lvm_filter.as_ref().filter(|_| facts.uses(Layer::Lvm))?;
    Some(Finding::informs(
        "lvm-filter",
        format!(
            "LVM looks for its disks by names that an instance does not have; conversion makes it look at all: {filter}"
        ),
    ))
}

fn multipath(facts: &Facts) -> Option<Finding> {
    facts.uses(Layer::Multipath).then(|| {
        Finding::warns(
            "multipath",
            "It reaches disks by multipath, which an instance has none of.",
            "Name disks by UUID, not /dev/mapper/mpath…, and switch multipathd off on the target.",
        )
    })
}

fn room(free: &[FreeSpace]) -> Option<Finding> {
    let needed = |mount_point: &str| match mount_point {
        "/" => ROOT_BYTES_MIN,
        "/boot" => BOOT_BYTES_MIN,
        _ => OTHER_BYTES_MIN,
    };
    let full: Vec<&FreeSpace> = free
        .iter()
        .filter(|at| at.bytes < needed(&at.mount_point) || at.inodes.is_some_and(|left| left < INODES_MIN))
        .collect();
    if full.is_empty() {
        return None;
    }
    let is_system = |at: &&FreeSpace| SYSTEM.contains(&at.mount_point.as_str());
    let class = if full.iter().any(is_system) {
        Class::Blocks
    } else {
        Class::Warns
    };
    let words: Vec<String> = full
        .iter()
        .map(|at| {
            let mut words = format!(
                "{} has {} MiB of the {} MiB needed",
                at.mount_point,
                at.bytes >> 20,
                needed(&at.mount_point) >> 20
            );
            if let Some(inodes) = at.inodes.filter(|left| *left < INODES_MIN) {
                // Writing to a string does not fail.
                let _ = write!(words, " and {inodes} of {INODES_MIN} inodes");
            }
            words
        })
        .collect();
    Some(of_class(
        class,
        "no-free-space",
        format!("There is too little room left: {}.", listed(&words)),
        "Make room on the server: old kernels (`apt autoremove --purge`, `dnf remove --oldinstallonly`), logs, caches of packages.",
    ))
}
