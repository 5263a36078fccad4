//! Findings about kernels, their drivers, and what packs these into an initramfs.

use domain::{
    launch::Hypervisor,
    readiness::{Class, Finding},
};

use super::{listed, of_class};
use crate::convert::inspect::{
    Facts,
    disks::{Content, DiskFacts},
    initramfs::InitramfsGenerator,
    kernels::{BuiltAs, Driver, Kernel},
};

pub fn look(facts: &Facts, disks: &DiskFacts, target: Hypervisor, found: &mut Vec<Finding>) {
    if facts.kernels.is_empty() {
        found.push(Finding::blocks(
            "kernel-missing",
            "There is no kernel in /boot.",
            "Check that the disk with /boot is replicated, and that a kernel package is installed on the server.",
        ));
        return;
    }
    if facts.kernels.iter().all(Kernel::is_for_xen_only) {
        found.push(Finding::blocks(
            "kernel-for-xen-only",
            format!(
                "Every kernel is for paravirtual Xen: {}.",
                listed(&versions(&facts.kernels))
            ),
            "Install the distribution's default kernel beside it on the server.",
        ));
        return;
    }
    let root = root_file_system(disks);
    let (disk, card) = match target {
        Hypervisor::Nitro => (Driver::Nvme, Driver::Ena),
        Hypervisor::Xen => (Driver::XenBlkfront, Driver::XenNetfront),
    };
    found.extend(lacking(
        facts,
        disk,
        "storage-driver-missing",
        "the instance would not find its disks",
    ));
    found.extend(lacking(
        facts,
        card,
        "network-driver-missing",
        "the instance would have no network",
    ));
    found.extend(root.and_then(|driver| {
        lacking(
            facts,
            driver,
            "root-file-system-driver-missing",
            "the instance could not mount its root file system",
        )
    }));
    found.extend(without_modules(facts));
    let needed: Vec<Driver> = [disk].into_iter().chain(root).collect();
    found.extend(generator(facts, &needed));
}

fn versions<'a>(kernels: impl IntoIterator<Item = &'a Kernel>) -> Vec<&'a str> {
    let kernels = kernels.into_iter();
    kernels.map(|kernel| kernel.version.as_str()).collect()
}

/// The driver of the root file system. That of ext4 serves ext2 and ext3 too, where they have none of their own.
fn root_file_system(disks: &DiskFacts) -> Option<Driver> {
    match &disks.mounted_at("/")?.content {
        Content::FileSystem(kind) => match kind.as_str() {
            "ext4" => Some(Driver::Ext4),
            "xfs" => Some(Driver::Xfs),
            "btrfs" => Some(Driver::Btrfs),
            _ => None,
        },
        _ => None,
    }
}

/// Blocks where no kernel has the driver, and warns where some have it: those can be booted.
fn lacking(facts: &Facts, driver: Driver, code: &str, consequence: &str) -> Option<Finding> {
    // A kernel without modules has a finding of its own, which says more.
    let (whole, left_over): (Vec<_>, Vec<_>) = facts.kernels.iter().partition(|kernel| kernel.has_modules);
    let kernels = if whole.is_empty() { left_over } else { whole };
    let count = kernels.len();
    let without: Vec<&Kernel> = kernels.into_iter().filter(|kernel| !kernel.has(driver)).collect();
    let name = driver.module();
    let (class, text) = match without.len() {
        0 => return None,
        all if all == count => (
            Class::Blocks,
            format!("No kernel has the driver {name}: {consequence}."),
        ),
        _ => {
            let without = listed(&versions(without));
            (
                Class::Warns,
                format!("Kernel {without} lacks the driver {name}: started by it, {consequence}."),
            )
        }
    };
    let elsewhere = match driver {
        Driver::Ena => " (it came with Linux 4.9), or launch an instance type built on Xen, as t2.large",
        Driver::XenBlkfront | Driver::XenNetfront => {
            ", or launch an instance type built on Nitro, as m5.large"
        }
        _ => "",
    };
    Some(of_class(
        class,
        code,
        text,
        format!("Install a kernel, or the package of its other modules, that has {name}{elsewhere}."),
    ))
}

fn without_modules(facts: &Facts) -> Option<Finding> {
    let without = versions(facts.kernels.iter().filter(|kernel| !kernel.has_modules));
    (!without.is_empty()).then(|| {
        Finding::warns(
            "kernel-without-modules",
            format!("Kernel {} has no folder in /lib/modules.", listed(&without)),
            "Remove the kernel that is left over from the server, or install its package again.",
        )
    })
}

/// A driver that is a module is found only if it gets into the initramfs.
fn generator(facts: &Facts, needed: &[Driver]) -> Option<Finding> {
    let has_module = |kernel: &Kernel| {
        needed
            .iter()
            .any(|driver| kernel.built(*driver) == BuiltAs::Module)
    };
    if !facts.kernels.iter().any(has_module) {
        return None;
    }
    let names: Vec<&str> = needed.iter().map(|driver| driver.module()).collect();
    let what = format!(
        "The initramfs has to be made anew, with the drivers {}",
        names.join(" and ")
    );
    match facts.initramfs {
        Some(
            InitramfsGenerator::InitramfsTools | InitramfsGenerator::Dracut | InitramfsGenerator::Mkinitrd,
        ) => None,
        Some(other) => Some(Finding::blocks(
            "initramfs-generator-unsupported",
            format!("{what}, and {} is not known here.", other.name()),
            "Install dracut on the server, and inspect the next checkpoint.",
        )),
        None => Some(Finding::blocks(
            "initramfs-generator-missing",
            format!("{what}, and no program that makes it is installed."),
            "Install initramfs-tools or dracut on the server, and inspect the next checkpoint.",
        )),
    }
}
