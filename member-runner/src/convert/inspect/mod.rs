//! What a guest is, and what of it would keep it from booting as an instance.
//!
//! ```text
//! Tree, DiskFacts ──▶ inspect ──▶ Facts ──▶ findings ──▶ blocks, warns, informs
//!                                   └─────▶ the steps of a conversion
//! ```
//!
//! It reads and decides. It writes nothing and runs none of the guest's programs, so that it can look at every
//! checkpoint, days before a cutover. Whatever the guest's files are, it comes to an end and to an answer.

pub mod architecture;
pub mod boot;
pub mod crypttab;
pub mod disks;
pub mod distribution;
pub mod findings;
pub mod fstab;
mod guest;
pub mod initramfs;
pub mod kernels;
pub mod network;
pub mod software;
pub mod storage;
pub mod table;
#[cfg(test)]
mod tests;

use domain::{launch::Hypervisor, readiness::Finding};

use self::{
    architecture::Architecture,
    boot::Boot,
    crypttab::CrypttabEntry,
    disks::{DiskFacts, Volume},
    distribution::{Distribution, Family},
    fstab::FstabEntry,
    guest::Guest,
    initramfs::InitramfsGenerator,
    kernels::Kernel,
    network::Network,
    software::{CloudInit, HypervisorTools, Selinux},
    storage::{FreeSpace, Layer},
    table::BadLine,
};
use super::tree::Tree;

/// What conversion has to know of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub architecture: Option<Architecture>,
    pub distribution: Option<Distribution>,
    pub family: Family,
    pub boot: Boot,
    pub kernels: Vec<Kernel>,
    pub initramfs: Option<InitramfsGenerator>,
    pub fstab: Vec<FstabEntry>,
    pub fstab_bad_lines: Vec<BadLine>,
    pub crypttab: Vec<CrypttabEntry>,
    pub crypttab_bad_lines: Vec<BadLine>,
    pub layers: Vec<Layer>,
    pub lvm_filter: Option<String>,
    /// The list of physical volumes that LVM keeps to, by their hardware: `/etc/lvm/devices/system.devices`.
    pub lvm_devices_file: Option<String>,
    pub has_mdadm: bool,
    /// What dracut finds the system's arrays and logical volumes by.
    pub dracut_parameters: Vec<String>,
    pub free: Vec<FreeSpace>,
    pub network: Network,
    pub cloud_init: Option<CloudInit>,
    pub selinux: Option<Selinux>,
    pub hypervisor_tools: Vec<HypervisorTools>,
    /// A file of our agent.
    pub agent: Option<String>,
    /// What could not be read, and why.
    pub unreadable: Vec<(String, String)>,
}

impl Facts {
    pub fn uses(&self, layer: Layer) -> bool {
        self.layers.contains(&layer)
    }

    /// What an entry mounts. A name of hardware is known where the same name is mounted: SUSE mounts many subvolumes
    /// by one.
    pub fn volume<'a>(&self, entry: &FstabEntry, disks: &'a DiskFacts) -> Option<&'a Volume> {
        disks.volume(entry.spec()).or_else(|| {
            let same = self.fstab.iter().filter(|other| other.spec == entry.spec);
            same.into_iter()
                .find_map(|other| disks.mounted_at(&other.mount_point))
        })
    }
}

/// Looks at a guest that is to run on `target`.
pub fn inspect(tree: &Tree, disks: &DiskFacts, target: Hypervisor) -> (Facts, Vec<Finding>) {
    let facts = facts(tree, disks);
    let findings = findings::findings(&facts, disks, target);
    (facts, findings)
}

fn facts(tree: &Tree, disks: &DiskFacts) -> Facts {
    let guest = Guest::new(tree);
    let architecture = architecture::architecture(&guest);
    let distribution = distribution::distribution(&guest);
    let family = distribution::family(&guest, distribution.as_ref());
    let parsed = |path| guest.text(path).unwrap_or_default();
    let (fstab, fstab_bad_lines) = fstab::parse(&parsed("/etc/fstab"));
    let (crypttab, crypttab_bad_lines) = crypttab::parse(&parsed("/etc/crypttab"));
    Facts {
        architecture,
        boot: boot::boot(&guest, disks.reported_boot_mode, architecture),
        kernels: kernels::kernels(&guest),
        initramfs: initramfs::generator(&guest, family),
        layers: storage::layers(&guest, disks, &fstab, &crypttab),
        fstab,
        fstab_bad_lines,
        crypttab,
        crypttab_bad_lines,
        lvm_filter: storage::lvm_filter(&guest),
        lvm_devices_file: guest.first_of(&["/etc/lvm/devices/system.devices"]),
        has_mdadm: guest.first_of(&["/sbin/mdadm", "/usr/sbin/mdadm"]).is_some(),
        dracut_parameters: storage::dracut_parameters(disks),
        free: storage::free(&guest, disks),
        network: network::network(&guest),
        cloud_init: software::cloud_init(&guest),
        selinux: software::selinux(&guest),
        hypervisor_tools: software::hypervisor_tools(&guest),
        agent: software::agent(&guest),
        distribution,
        family,
        unreadable: guest.into_unreadable().into_iter().collect(),
    }
}
