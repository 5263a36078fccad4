//! Programs of a guest that have to do with where it runs: cloud-init, hypervisor tools, SELinux, our agent.

use super::{distribution::unquoted, guest::Guest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInit {
    /// The file that switches it off: `/etc/cloud/cloud-init.disabled`.
    pub disabled_by: Option<String>,
    /// The files that choose data sources.
    pub data_sources_in: Vec<String>,
    /// A file that leaves the network to others.
    pub network_disabled_by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selinux {
    Enforcing,
    Permissive,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HypervisorTools {
    /// As distributions package them.
    OpenVmTools,
    /// As `VMware`'s own installer leaves them.
    VmwareTools,
    VirtualBox,
    Xen,
    HyperV,
    AzureAgent,
    Qemu,
    Parallels,
}

impl HypervisorTools {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenVmTools => "open-vm-tools",
            Self::VmwareTools => "VMware Tools",
            Self::VirtualBox => "VirtualBox Guest Additions",
            Self::Xen => "Xen guest tools",
            Self::HyperV => "Hyper-V daemons",
            Self::AzureAgent => "Azure agent",
            Self::Qemu => "QEMU guest agent",
            Self::Parallels => "Parallels Tools",
        }
    }
}

const TOOLS: [(HypervisorTools, &[&str]); 8] = [
    (HypervisorTools::OpenVmTools, &["/usr/bin/vmtoolsd"]),
    (
        HypervisorTools::VmwareTools,
        &["/usr/bin/vmware-uninstall-tools.pl", "/usr/sbin/vmtoolsd"],
    ),
    (
        HypervisorTools::VirtualBox,
        &[
            "/usr/sbin/VBoxService",
            "/usr/bin/VBoxService",
            "/sbin/VBoxService",
        ],
    ),
    (
        HypervisorTools::Xen,
        &[
            "/usr/sbin/xe-daemon",
            "/usr/sbin/xe-linux-distribution",
            "/usr/bin/xenstore-read-guest",
        ],
    ),
    (
        HypervisorTools::HyperV,
        &[
            "/usr/sbin/hv_kvp_daemon",
            "/usr/sbin/hypervkvpd",
            "/usr/lib/hyper-v/bin/hv_kvp_daemon",
        ],
    ),
    (
        HypervisorTools::AzureAgent,
        &["/usr/sbin/waagent", "/usr/bin/waagent"],
    ),
    (HypervisorTools::Qemu, &["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"]),
    (
        HypervisorTools::Parallels,
        &["/usr/bin/prltoolsd", "/usr/sbin/prltoolsd"],
    ),
];

pub fn hypervisor_tools(guest: &Guest) -> Vec<HypervisorTools> {
    TOOLS
        .iter()
        .filter(|(_, paths)| guest.first_of(paths).is_some())
        .map(|(tools, _)| *tools)
        .collect()
}

pub fn cloud_init(guest: &Guest) -> Option<CloudInit> {
    guest.first_of(&["/usr/bin/cloud-init", "/etc/cloud/cloud.cfg"])?;
    let snippets = guest.files("/etc/cloud/cloud.cfg.d", ".cfg");
    let mut data_sources_in = Vec::new();
    let mut network_disabled_by = None;
    for path in std::iter::once("/etc/cloud/cloud.cfg".to_owned()).chain(snippets) {
        let text = guest.text(&path).unwrap_or_default();
        if chooses_data_sources(&text) {
            data_sources_in.push(path.clone());
        }
        if leaves_network(&text) {
            network_disabled_by = Some(path);
        }
    }
    let units = [
        "/etc/cloud/cloud-init.disabled",
        "/etc/systemd/system/cloud-init.service",
    ];
    let disabled_by = guest
        .first_of(&units[..1])
        .or_else(|| guest.is_masked(units[1]).then(|| units[1].to_owned()));
    Some(CloudInit {
        disabled_by,
        data_sources_in,
        network_disabled_by,
    })
}

fn chooses_data_sources(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("datasource_list:"))
}

/// `network: {config: disabled}`, on one line or on two.
fn leaves_network(text: &str) -> bool {
    let mut in_network = false;
    text.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        if !line.starts_with([' ', '\t']) && !line.is_empty() {
            in_network = line.starts_with("network:");
        }
        in_network && line.contains("config:") && line.contains("disabled")
    })
}

/// `None` where SELinux is not installed.
pub fn selinux(guest: &Guest) -> Option<Selinux> {
    mode_of_selinux(&guest.text("/etc/selinux/config")?)
}

fn mode_of_selinux(text: &str) -> Option<Selinux> {
    let mut values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SELINUX="));
    match unquoted(values.next_back()?).to_ascii_lowercase().as_str() {
        "enforcing" => Some(Selinux::Enforcing),
        "permissive" => Some(Selinux::Permissive),
        _ => Some(Selinux::Disabled),
    }
}

/// The unit file of our agent, which the target has no use for.
pub fn agent(guest: &Guest) -> Option<String> {
    guest.first_of(&[
        "/etc/systemd/system/orglift-agent.service",
        "/var/lib/orglift/agent",
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mode_of_selinux_is_the_last_that_is_set() {
        assert_eq!(
            mode_of_selinux("# SELINUX=disabled\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"),
            Some(Selinux::Enforcing)
        );
        assert_eq!(
            mode_of_selinux("SELINUX=enforcing\nSELINUX=\"Permissive\""),
            Some(Selinux::Permissive)
        );
        assert_eq!(mode_of_selinux("SELINUX=disabled"), Some(Selinux::Disabled));
        assert_eq!(mode_of_selinux(""), None);
    }

    #[test]
    fn cloud_init_may_leave_the_network_alone() {
        assert!(leaves_network("network: {config: disabled}\n"));
        assert!(leaves_network("network:\n  config: disabled\n"));
        assert!(!leaves_network("# network: {config: disabled}\n"));
        assert!(!leaves_network(
            "network:\n  version: 2\nother:\n  config: disabled\n"
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,300}") {
            mode_of_selinux(&text);
            leaves_network(&text);
            chooses_data_sources(&text);
        }
    }
}
