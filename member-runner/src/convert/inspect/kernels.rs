//! The kernels that a guest can boot, and the drivers each of them has.

use std::collections::{BTreeMap, BTreeSet};

use super::guest::Guest;

/// A guest with more kernels than that is not one.
const KERNELS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub version: String,
    pub image: String,
    pub initrd: Option<String>,
    /// Whether `/lib/modules/VERSION` is there.
    pub has_modules: bool,
    pub drivers: BTreeMap<Driver, BuiltAs>,
}

impl Kernel {
    pub fn built(&self, driver: Driver) -> BuiltAs {
        self.drivers.get(&driver).copied().unwrap_or(BuiltAs::Absent)
    }

    pub fn has(&self, driver: Driver) -> bool {
        self.built(driver) != BuiltAs::Absent
    }

    /// A kernel of before 2012, built for paravirtual Xen alone.
    pub fn is_for_xen_only(&self) -> bool {
        self.version.ends_with("-xen") || self.version.ends_with("xen0") || self.version.ends_with("el5xen")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltAs {
    In,
    Module,
    Absent,
}

/// What a guest may need to find its disks and its network where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Driver {
    Nvme,
    Ena,
    VirtioPci,
    VirtioBlk,
    VirtioScsi,
    VirtioNet,
    XenBlkfront,
    XenNetfront,
    Ext4,
    Xfs,
    Btrfs,
    Raid1,
}

impl Driver {
    pub const ALL: [Self; 12] = [
        Self::Nvme,
        Self::Ena,
        Self::VirtioPci,
        Self::VirtioBlk,
        Self::VirtioScsi,
        Self::VirtioNet,
        Self::XenBlkfront,
        Self::XenNetfront,
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Raid1,
    ];

    /// The module's name, as modprobe writes it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Ena => "ena",
            Self::VirtioPci => "virtio_pci",
            Self::VirtioBlk => "virtio_blk",
            Self::VirtioScsi => "virtio_scsi",
            Self::VirtioNet => "virtio_net",
            Self::XenBlkfront => "xen-blkfront",
            Self::XenNetfront => "xen-netfront",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Raid1 => "raid1",
        }
    }

    /// The option of the kernel's configuration.
    fn option(self) -> &'static str {
        match self {
            Self::Nvme => "CONFIG_BLK_DEV_NVME",
            Self::Ena => "CONFIG_ENA_ETHERNET",
            Self::VirtioPci => "CONFIG_VIRTIO_PCI",
            Self::VirtioBlk => "CONFIG_VIRTIO_BLK",
            Self::VirtioScsi => "CONFIG_SCSI_VIRTIO",
            Self::VirtioNet => "CONFIG_VIRTIO_NET",
            Self::XenBlkfront => "CONFIG_XEN_BLKDEV_FRONTEND",
            Self::XenNetfront => "CONFIG_XEN_NETDEV_FRONTEND",
            Self::Ext4 => "CONFIG_EXT4_FS",
            Self::Xfs => "CONFIG_XFS_FS",
            Self::Btrfs => "CONFIG_BTRFS_FS",
            Self::Raid1 => "CONFIG_MD_RAID1",
        }
    }
}

/// Every kernel with an image in `/boot`, sorted by name. Rescue and crash kernels are left out: a guest boots them
/// only to repair what we do not break, and their initramfs are made by other programs.
pub fn kernels(guest: &Guest) -> Vec<Kernel> {
    let boot = guest.names("/boot");
    boot.iter()
        .filter_map(|image| Some((image, version_of(image)?)))
        .take(KERNELS_MAX)
        .map(|(image, version)| kernel(guest, &boot, image, version))
        .collect()
}

/// `vmlinuz-VERSION` on x86, `Image-VERSION` with SUSE on arm64.
fn version_of(image: &str) -> Option<&str> {
    let version = ["vmlinuz-", "Image-"]
        .iter()
        .find_map(|start| image.strip_prefix(start))?;
    let is_aside = version.starts_with("0-rescue")
        || version.contains("kdump")
        || [".old", ".bak", ".hmac", ".signed", ".sig"]
            .iter()
            .any(|ending| version.ends_with(ending));
    (!is_aside && version.starts_with(|c: char| c.is_ascii_digit())).then_some(version)
}

fn kernel(guest: &Guest, boot: &[String], image: &str, version: &str) -> Kernel {
    let initrd = [
        format!("initrd.img-{version}"),
        format!("initramfs-{version}.img"),
        format!("initrd-{version}"),
        format!("initrd-{version}.img"),
    ]
    .into_iter()
    .find(|name| boot.contains(name));
    let folder = format!("/lib/modules/{version}");
    let has_modules = guest.has_folder(&folder);
    let said = Said {
        builtin: guest.text(&format!("{folder}/modules.builtin")),
        dep: guest.text(&format!("{folder}/modules.dep")),
        config: guest
            .text(&format!("/boot/config-{version}"))
            .or_else(|| guest.text(&format!("{folder}/config"))),
    };
    Kernel {
        version: version.to_owned(),
        image: format!("/boot/{image}"),
        initrd: initrd.map(|name| format!("/boot/{name}")),
        has_modules,
        drivers: said.drivers(has_modules),
    }
}

/// What a kernel's files say of its drivers.
struct Said {
    builtin: Option<String>,
    dep: Option<String>,
    config: Option<String>,
}

impl Said {
    fn drivers(&self, has_modules: bool) -> BTreeMap<Driver, BuiltAs> {
        let builtin = self.builtin.as_deref().map(|text| drivers_in(text.lines()));
        let dep = self.dep.as_deref().map(|text| {
            let paths = text.lines().filter_map(|line| line.split(':').next());
            drivers_in(paths)
        });
        let configured = |driver: Driver| {
            let option = driver.option();
            self.config.as_deref()?.lines().find_map(|line| {
                match line.trim().strip_prefix(option)?.strip_prefix('=')? {
                    "y" => Some(BuiltAs::In),
                    "m" => Some(BuiltAs::Module),
                    _ => None,
                }
            })
        };
        let built = |driver: Driver| {
            let lists = |list: &Option<BTreeSet<Driver>>| list.as_ref().map(|found| found.contains(&driver));
            match (lists(&builtin), lists(&dep)) {
                (Some(true), _) => BuiltAs::In,
                (_, Some(true)) => BuiltAs::Module,
                (Some(false), Some(false)) => BuiltAs::Absent,
                _ => match configured(driver) {
                    // Configured as a module and not among them: it is in a package that is not installed, as
                    // Ubuntu's linux-modules-extra.
                    Some(BuiltAs::Module) if lists(&dep).is_some() || !has_modules => BuiltAs::Absent,
                    // Kernels before 2.6.33 have no modules.builtin.
                    Some(BuiltAs::In) if lists(&builtin).is_some() => BuiltAs::Absent,
                    configured => configured.unwrap_or(BuiltAs::Absent),
                },
            }
        };
        Driver::ALL
            .into_iter()
            .map(|driver| (driver, built(driver)))
            .collect()
    }
}

/// The drivers among modules, by their paths: `kernel/drivers/block/xen-blkfront.ko.xz`.
fn drivers_in<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<Driver> {
    paths
        .filter_map(|path| {
            let (name, _) = path.trim().rsplit('/').next()?.split_once(".ko")?;
            Driver::ALL
                .into_iter()
                .find(|driver| is_same_module(driver.module(), name))
        })
        .collect()
}

/// Hyphens and underscores are the same in the names of modules.
fn is_same_module(a: &str, b: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(plain).eq(b.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(builtin: Option<&str>, dep: Option<&str>, config: Option<&str>) -> Said {
        Said {
            builtin: builtin.map(str::to_owned),
            dep: dep.map(str::to_owned),
            config: config.map(str::to_owned),
        }
    }

    #[test]
    fn modules_are_found_however_they_are_compressed() {
        let dep = "kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko\n\
                   kernel/drivers/net/ethernet/amazon/ena/ena.ko.xz:\n\
                   kernel/drivers/block/virtio_blk.ko.zst:\n\
                   kernel/drivers/block/xen-blkfront.ko.gz:\n";
        let drivers = said(Some("kernel/fs/ext4/ext4.ko\n"), Some(dep), None).drivers(true);
        for driver in [Driver::Nvme, Driver::Ena, Driver::VirtioBlk, Driver::XenBlkfront] {
            assert_eq!(drivers[&driver], BuiltAs::Module, "{driver:?}");
        }
        assert_eq!(drivers[&Driver::Ext4], BuiltAs::In);
        assert_eq!(drivers[&Driver::Xfs], BuiltAs::Absent);
    }

    #[test]
    fn a_module_that_another_needs_is_not_there_for_that() {
        let dep = "kernel/a/a.ko: kernel/drivers/nvme/host/nvme.ko\n";
        let drivers = said(Some(""), Some(dep), None).drivers(true);
        assert_eq!(drivers[&Driver::Nvme], BuiltAs::Absent);
    }

    #[test]
    fn the_configuration_counts_where_lists_are_missing() {
        let config = "# CONFIG_XFS_FS is not set\nCONFIG_EXT4_FS=y\nCONFIG_ENA_ETHERNET=m\nCONFIG_EXT4_FS_SECURITY=y\n";
        let without_lists = said(None, None, Some(config));
        let drivers = without_lists.drivers(true);
        assert_eq!(drivers[&Driver::Ext4], BuiltAs::In);
        assert_eq!(drivers[&Driver::Ena], BuiltAs::Module);
        assert_eq!(drivers[&Driver::Xfs], BuiltAs::Absent);
        assert_eq!(
            without_lists.drivers(false)[&Driver::Ena],
            BuiltAs::Absent,
            "its modules are gone"
        );
    }

    #[test]
    fn a_module_whose_package_is_not_installed_is_absent() {
        let config = "CONFIG_ENA_ETHERNET=m\nCONFIG_BLK_DEV_NVME=y\n";
        let drivers = said(Some("kernel/drivers/nvme/host/nvme.ko\n"), Some(""), Some(config)).drivers(true);
        assert_eq!(drivers[&Driver::Ena], BuiltAs::Absent);
        assert_eq!(drivers[&Driver::Nvme], BuiltAs::In);
        let before_2_6_33 = said(None, Some(""), Some(config)).drivers(true);
        assert_eq!(before_2_6_33[&Driver::Ena], BuiltAs::Absent);
        assert_eq!(before_2_6_33[&Driver::Nvme], BuiltAs::In);
    }

    #[test]
    fn rescue_and_crash_kernels_are_not_booted() {
        assert_eq!(version_of("vmlinuz-6.1.0-18-amd64"), Some("6.1.0-18-amd64"));
        assert_eq!(
            version_of("Image-6.4.0-150600-default"),
            Some("6.4.0-150600-default")
        );
        for other in [
            "vmlinuz",
            "vmlinuz.old",
            "vmlinuz-6.1.0.old",
            "vmlinuz-0-rescue-0123456789abcdef",
            "vmlinuz-5.14.0-kdump",
            "initrd.img-6.1.0",
            ".vmlinuz-5.14.0.hmac",
        ] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(builtin in "(?s).{0,200}", dep in "(?s).{0,200}", config in "(?s).{0,200}", name: String) {
            let every = said(Some(&builtin), Some(&dep), Some(&config)).drivers(true);
            prop_assert_eq!(every.len(), Driver::ALL.len());
            version_of(&name);
        }
    }
}
