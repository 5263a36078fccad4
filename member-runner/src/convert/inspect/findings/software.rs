//! Findings about programs that belong to where a guest was, and to where it goes.

use domain::readiness::Finding;

use super::listed;
use crate::convert::inspect::{Facts, software::Selinux};

pub fn look(facts: &Facts, found: &mut Vec<Finding>) {
    if !facts.hypervisor_tools.is_empty() {
        let names: Vec<&str> = facts.hypervisor_tools.iter().map(|tools| tools.name()).collect();
        found.push(Finding::informs(
            "hypervisor-tools",
            format!(
                "{} will be switched off: its hypervisor stays behind.",
                listed(&names)
            ),
        ));
    }
    if matches!(facts.selinux, Some(Selinux::Enforcing | Selinux::Permissive)) {
        found.push(Finding::informs(
            "selinux-relabel",
            "SELinux is on. Files that conversion writes keep their labels; if any is in doubt the first start labels all anew, and takes longer.",
        ));
    }
    match &facts.cloud_init {
        None => found.push(Finding::informs(
            "cloud-init-missing",
            "cloud-init is not installed: the instance keeps its users and keys, and takes none from its launch.",
        )),
        Some(cloud_init) => {
            if let Some(path) = &cloud_init.disabled_by {
                found.push(Finding::informs(
                    "cloud-init-disabled",
                    format!("cloud-init is switched off by {path}, and will be switched on."),
                ));
            }
        }
    }
    if facts.lvm_devices_file.is_some() {
        found.push(Finding::informs(
            "lvm-devices-file",
            "LVM keeps a list of its disks by their hardware; conversion removes it, so that LVM looks at all.",
        ));
    }
}
