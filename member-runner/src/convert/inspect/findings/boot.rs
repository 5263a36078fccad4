//! Findings about the way from the firmware to the kernel.

use domain::{
    launch::{BootMode, Hypervisor},
    readiness::Finding,
};

use crate::convert::inspect::{
    Facts,
    architecture::Architecture,
    boot::BootLoader,
    disks::{DiskFacts, PartitionTable, Role},
    distribution::Family,
};

pub fn look(facts: &Facts, disks: &DiskFacts, target: Hypervisor, found: &mut Vec<Finding>) {
    found.extend(unreadable(facts));
    found.extend(architecture(facts.architecture));
    found.extend(distribution(facts));
    found.extend(loader(&facts.boot.loader));
    match facts.boot.mode {
        BootMode::Uefi => uefi(facts, disks, target, found),
        BootMode::LegacyBios | BootMode::UseSource => found.extend(bios(facts, disks)),
    }
}

/// Conversion would stop at such a file.
fn unreadable(facts: &Facts) -> Option<Finding> {
    let (_, why) = facts.unreadable.first()?;
    let more = match facts.unreadable.len() {
        1 => String::new(),
        count => format!(" {} more files cannot be read either.", count - 1),
    };
    Some(Finding::blocks(
        "unreadable-files",
        format!("A file of the server cannot be read: {why}.{more}"),
        "Look at the file on the server. If it is a plain file there, check its file system (fsck), and inspect the next checkpoint.",
    ))
}

fn architecture(architecture: Option<Architecture>) -> Option<Finding> {
    match architecture {
        Some(Architecture::X86_64) => None,
        Some(Architecture::Aarch64) => Some(Finding::informs(
            "architecture-arm64",
            "Its programs are for arm64: it needs an instance type with a Graviton processor.",
        )),
        Some(Architecture::X86) => Some(Finding::blocks(
            "architecture-32-bit",
            "Its programs are for 32-bit x86, which no current instance type boots.",
            "Install the 64-bit edition of its distribution, and move the application there.",
        )),
        Some(other @ Architecture::Other(_)) => Some(Finding::blocks(
            "architecture-unsupported",
            format!("Its programs are for another processor ({other})."),
            "Only x86_64 and arm64 can be launched. Rebuild the server for one of them.",
        )),
        None => Some(Finding::warns(
            "architecture-unknown",
            "Neither its shell nor its loader is a program that says what processor it is for.",
            "Check that /bin/sh of the server is there and that its root disk is replicated.",
        )),
    }
}

fn distribution(facts: &Facts) -> Option<Finding> {
    let name = facts.distribution.as_ref().map(|it| it.pretty_name.as_str());
    match (name, facts.family) {
        (Some(_), Family::Debian | Family::RedHat | Family::Suse) => None,
        (name, _) => Some(Finding::warns(
            "distribution-unknown",
            format!(
                "The distribution is {}; what has to be changed is told by the programs that were found.",
                name.unwrap_or("unknown")
            ),
            "Test the launch, and read the console text, before the cutover.",
        )),
    }
}

fn loader(loader: &BootLoader) -> Option<Finding> {
    let install = "Install GRUB 2 on the server, let it boot by it once, and inspect the next checkpoint.";
    match loader {
        BootLoader::Grub2 { .. } => None,
        BootLoader::GrubLegacy { configuration } => Some(Finding::blocks(
            "grub-legacy",
            format!("It boots by GRUB 0.97 ({configuration}), which is not converted."),
            install,
        )),
        BootLoader::Other { name, trace } => Some(Finding::blocks(
            "boot-loader-unsupported",
            format!("It boots by {name} ({trace}), which is not converted."),
            install,
        )),
        BootLoader::Missing => Some(Finding::blocks(
            "boot-loader-missing",
            "There is no configuration of GRUB 2 below /boot or on an EFI system partition.",
            "Check that the disk with /boot is replicated. If the server boots from the network, install GRUB 2 on its disk.",
        )),
    }
}

fn uefi(facts: &Facts, disks: &DiskFacts, target: Hypervisor, found: &mut Vec<Finding>) {
    if target == Hypervisor::Xen {
        found.push(Finding::blocks(
            "uefi-on-xen",
            "It boots by UEFI, and the instance type of its launch configuration is built on Xen, which knows the BIOS only.",
            "Choose an instance type built on Nitro, as m5.large.",
        ));
    }
    let has_partition = disks.volumes().any(|volume| volume.role == Role::EfiSystem);
    let Some(efi) = &facts.boot.efi else {
        let what = if has_partition {
            "has no program to start, or is not mounted by the server's fstab"
        } else {
            "is not on the replicated disks"
        };
        found.push(Finding::blocks(
            "efi-system-partition-missing",
            format!("It boots by UEFI, and its EFI system partition {what}."),
            "Replicate the disk with the EFI system partition, and mount it at /boot/efi by fstab.",
        ));
        return;
    };
    if !efi.has_fallback() {
        found.push(Finding::informs(
            "efi-fallback-missing",
            "The entry in its firmware that starts it does not move along; EFI/BOOT is filled during conversion.",
        ));
    }
    if efi.has_shim() {
        found.push(Finding::informs(
            "secure-boot",
            "It is prepared for Secure Boot. Keys in its firmware do not move along: the instance boots without Secure Boot.",
        ));
    }
}

fn bios(facts: &Facts, disks: &DiskFacts) -> Option<Finding> {
    let is_grub = matches!(facts.boot.loader, BootLoader::Grub2 { .. });
    if is_grub && facts.boot.bios_trace.is_none() && facts.boot.efi.is_some() {
        return Some(Finding::warns(
            "bios-boot-unproven",
            "The server was started by a BIOS, and there is no GRUB for a BIOS in /boot.",
            "Run grub-install on the server's boot disk, or launch it with boot mode UEFI.",
        ));
    }
    let boot_disk = disks.disks.iter().find(|disk| disk.is_boot)?;
    let has_room = boot_disk
        .volumes
        .iter()
        .any(|volume| volume.role == Role::BiosBoot);
    (boot_disk.table == Some(PartitionTable::Gpt) && !has_room).then(|| {
        Finding::warns(
            "bios-boot-partition-missing",
            format!(
                "{} has a GPT and no BIOS boot partition: GRUB is where a file system may move it.",
                boot_disk.device_name
            ),
            "Make a BIOS boot partition of 1 MiB on the server, and run grub-install.",
        )
    })
}
