//! What a guest calls its disks, where they were replicated under names that no guest uses: those of image files.
//!
//! The kernel names disks in the order in which it finds them, and so they are taken: `/dev/sda`, `/dev/hda` or
//! `/dev/nvme0n1` is the first. Where an agent ran in the guest, nothing is guessed.

use super::{Attached, Disk};
use crate::convert::inspect::fstab::{FstabEntry, Spec, tagged};

/// Renames the disks by the first name in fstab that the kernel gave, unless one of them has such a name already.
pub fn rename(attached: &mut Attached, fstab: &[FstabEntry]) {
    let is_kernels = |disk: &Disk| matches!(tagged(&disk.file.device_name), Spec::Kernel(_));
    if attached.disks.iter().any(is_kernels) {
        return;
    }
    let kind = fstab.iter().find_map(|entry| match entry.spec() {
        Spec::Kernel(name) => Kind::of(name),
        _ => None,
    });
    let Some(kind) = kind else { return };
    let disks = attached.disks.iter_mut();
    for (at, disk) in disks.filter(|disk| !is_logical(disk)).enumerate() {
        let Some(name) = kind.name(at) else { return };
        for volume in &mut disk.volumes {
            let partition = volume.facts.device_name.strip_prefix(&disk.file.device_name);
            let number = partition.unwrap_or_default().trim_start_matches('p');
            volume.facts.device_name = match number {
                "" => name.clone(),
                number => format!("{name}{}{number}", kind.before_number()),
            };
        }
        disk.file.device_name = name;
    }
}

fn is_logical(disk: &Disk) -> bool {
    disk.volumes.iter().any(|volume| volume.facts.is_logical())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `/dev/sda1`, by its driver.
    Lettered(&'static str),
    /// `/dev/nvme0n1p1`.
    Nvme,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        let name = name.strip_prefix("/dev/")?;
        if name.starts_with("nvme") {
            return Some(Self::Nvme);
        }
        let drivers = ["xvd", "sd", "hd", "vd"];
        let driver = drivers.into_iter().find(|driver| name.starts_with(driver))?;
        Some(Self::Lettered(driver))
    }

    /// `None` beyond the 26th: then the letters go on with two.
    fn name(self, at: usize) -> Option<String> {
        match self {
            Self::Lettered(driver) => {
                let letter = ('a'..='z').nth(at)?;
                Some(format!("/dev/{driver}{letter}"))
            }
            Self::Nvme => Some(format!("/dev/nvme{at}n1")),
        }
    }

    fn before_number(self) -> &'static str {
        match self {
            Self::Lettered(_) => "",
            Self::Nvme => "p",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{
        super::{DiskFile, partitions::Volume},
        *,
    };
    use crate::convert::inspect::{disks, fstab};

    fn volume(name: &str) -> Volume {
        Volume {
            facts: disks::Volume {
                device_name: name.to_owned(),
                ..disks::Volume::default()
            },
            kind: None,
            start: 0,
            bytes: 512,
        }
    }

    fn renamed(disks: &[(&str, &[&str])], fstab: &str) -> Vec<String> {
        let disk = |(name, volumes): &(&str, &[&str])| Disk {
            file: DiskFile {
                device_name: (*name).to_owned(),
                is_boot: false,
                bytes: 512,
            },
            table: None,
            volumes: volumes.iter().copied().map(volume).collect(),
        };
        let mut attached = Attached {
            disks: disks.iter().map(disk).collect(),
            closed: Vec::new(),
            degraded: Vec::new(),
            devices: Vec::new(),
            files: PathBuf::new(),
        };
        rename(&mut attached, &fstab::parse(fstab).0);
        let volumes = attached.volumes();
        volumes
            .map(|(_, volume)| volume.facts.device_name.clone())
            .collect()
    }

    #[test]
    fn logical_volumes_keep_their_names() {
        let with_root = [
            IMAGES[0],
            ("/dev/mapper/vg-root", &["/dev/mapper/vg-root"]),
            IMAGES[1],
        ];
        assert_eq!(
            renamed(&with_root, "/dev/vg/root / ext4\n/dev/sda1 /boot ext4\n"),
            ["/dev/sda1", "/dev/sda2", "/dev/mapper/vg-root", "/dev/sdb1"]
        );
    }

    const IMAGES: [(&str, &[&str]); 2] = [
        ("/images/boot.raw", &["/images/boot.raw1", "/images/boot.raw2"]),
        ("/images/data7", &["/images/data7p1"]),
    ];

    #[test]
    fn image_files_are_taken_in_their_order() {
        assert_eq!(
            renamed(&IMAGES, "/dev/sda1 / ext4\n/dev/sdb1 /srv xfs\n"),
            ["/dev/sda1", "/dev/sda2", "/dev/sdb1"]
        );
        assert_eq!(
            renamed(&IMAGES, "UUID=1 / ext4\n/dev/nvme1n1p1 /srv xfs\n"),
            ["/dev/nvme0n1p1", "/dev/nvme0n1p2", "/dev/nvme1n1p1"]
        );
    }

    #[test]
    fn names_that_a_kernel_gave_stay() {
        let known: [(&str, &[&str]); 2] = [("/dev/sdb", &["/dev/sdb1"]), ("/dev/sda", &["/dev/sda"])];
        assert_eq!(
            renamed(&known, "UUID=1 / ext4\n/dev/sdc1 /srv xfs\n"),
            ["/dev/sdb1", "/dev/sda"]
        );
        assert_eq!(renamed(&IMAGES[1..], "UUID=1 / ext4\n"), ["/images/data7p1"]);
    }
}
