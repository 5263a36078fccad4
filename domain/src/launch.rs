//! How a source server becomes an instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an instance is launched for; decides the subnet and what failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    Test,
    Cutover,
}

impl Purpose {
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Cutover => "cutover",
        }
    }
}

/// MGN's `LaunchDisposition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LaunchDisposition {
    Started,
    Stopped,
}

/// MGN's `BootMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BootMode {
    LegacyBios,
    Uefi,
    UseSource,
}

/// What an instance type is built on; decides which drivers a server needs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// Disks by NVMe, network by ENA.
    Nitro,
    /// Disks by xen-blkfront, network by xen-netfront.
    Xen,
}

impl Hypervisor {
    /// By EC2's list of Xen-based types, which does not grow: all newer ones, and bare metal, are Nitro.
    pub fn of(instance_type: &str) -> Self {
        const XEN: [&str; 28] = [
            "c1", "c3", "c4", "cc2", "cg1", "cr1", "d2", "f1", "g2", "g3", "g3s", "h1", "hs1", "i2", "i3",
            "m1", "m2", "m3", "m4", "p2", "p3", "r3", "r4", "t1", "t2", "x1", "x1e", "hi1",
        ];
        match instance_type.split_once('.') {
            Some((family, size)) if XEN.contains(&family) && !size.starts_with("metal") => Self::Xen,
            _ => Self::Nitro,
        }
    }
}

/// What must answer in a machine that came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub port: u16,
    pub expects: Expects,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expects {
    /// Something accepts a connection.
    Tcp,
    /// A request for `path` is answered with this status.
    Http { path: String, status: u16 },
}

/// A server's launch settings. Test and cutover differ in the subnet, and in nothing else, so that a
/// test proves something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchConfiguration {
    pub instance_type: String,
    pub test_subnet: String,
    pub target_subnet: String,
    pub disposition: LaunchDisposition,
    pub boot_mode: BootMode,
    /// Keep the source's primary private address; it must lie within the subnet.
    pub copy_private_ip: bool,
    pub copy_tags: bool,
    pub tags: BTreeMap<String, String>,
}

impl Default for LaunchConfiguration {
    fn default() -> Self {
        Self {
            instance_type: "m5.large".into(),
            test_subnet: "test".into(),
            target_subnet: "target".into(),
            disposition: LaunchDisposition::Started,
            boot_mode: BootMode::UseSource,
            copy_private_ip: false,
            copy_tags: true,
            tags: BTreeMap::new(),
        }
    }
}

impl LaunchConfiguration {
    pub fn subnet(&self, purpose: Purpose) -> &str {
        match purpose {
            Purpose::Test => &self.test_subnet,
            Purpose::Cutover => &self.target_subnet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_families_are_built_on_xen() {
        for xen in ["t2.micro", "m4.16xlarge", "x1e.32xlarge", "i3.large"] {
            assert_eq!(Hypervisor::of(xen), Hypervisor::Xen, "{xen}");
        }
        for nitro in [
            "m5.large",
            "t3.micro",
            "i3.metal",
            "p3dn.24xlarge",
            "i3en.large",
            "m9z.large",
            "",
        ] {
            assert_eq!(Hypervisor::of(nitro), Hypervisor::Nitro, "{nitro}");
        }
    }
}
