//! How a source server becomes an instance.

use std::{collections::BTreeMap, ops::RangeInclusive};

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

/// How long a rehearsal may take, in seconds.
pub const REHEARSAL_S: RangeInclusive<u32> = 30..=3600;

/// The longest path that a probe asks for, in bytes.
const PROBE_PATH_MAX: usize = 1024;

/// That the converted disks are booted away from everything, before anything is launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalSettings {
    pub time_limit_s: u32,
    /// What has to answer; without it, the machine's own words decide.
    #[serde(default)]
    pub probe: Option<Probe>,
}

impl Default for RehearsalSettings {
    fn default() -> Self {
        Self {
            time_limit_s: 300,
            probe: None,
        }
    }
}

impl RehearsalSettings {
    /// What is wrong with them, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        if !REHEARSAL_S.contains(&self.time_limit_s) {
            return Err("a rehearsal may take 30 to 3600 seconds");
        }
        match &self.probe {
            Some(probe) => probe.check(),
            None => Ok(()),
        }
    }
}

impl Probe {
    fn check(&self) -> Result<(), &'static str> {
        if self.port == 0 {
            return Err("a probe's port is 1 to 65535");
        }
        let Expects::Http { path, status } = &self.expects else {
            return Ok(());
        };
        let is_visible = |b: u8| b.is_ascii_graphic();
        if !path.starts_with('/') || path.len() > PROBE_PATH_MAX || !path.bytes().all(is_visible) {
            return Err("the path of a probe begins with / and has at most 1024 visible ASCII characters");
        }
        if !(100..=599).contains(status) {
            return Err("an HTTP status is 100 to 599");
        }
        Ok(())
    }
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
    /// Whether the disks are made fit to boot as an instance. Disks without an operating system are launched as
    /// they are.
    #[serde(default = "yes")]
    pub convert: bool,
    #[serde(default)]
    pub rehearsal: Option<RehearsalSettings>,
}

fn yes() -> bool {
    true
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
            convert: true,
            rehearsal: None,
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
    fn what_cannot_be_rehearsed_is_refused() {
        let settings = |time_limit_s, port, path: &str, status| RehearsalSettings {
            time_limit_s,
            probe: Some(Probe {
                port,
                expects: Expects::Http {
                    path: path.into(),
                    status,
                },
            }),
        };
        assert_eq!(RehearsalSettings::default().check(), Ok(()));
        assert_eq!(settings(300, 80, "/", 200).check(), Ok(()));
        for wrong in [
            settings(29, 80, "/", 200),
            settings(3601, 80, "/", 200),
            settings(300, 0, "/", 200),
            settings(300, 80, "", 200),
            settings(300, 80, "/a b", 200),
            settings(300, 80, "/\r\nHost:", 200),
            settings(300, 80, &format!("/{}", "a".repeat(1024)), 200),
            settings(300, 80, "/", 99),
            settings(300, 80, "/", 600),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn settings_of_an_older_hub_convert() {
        let mut stored = serde_json::to_value(LaunchConfiguration::default()).unwrap();
        for member in ["convert", "rehearsal"] {
            stored.as_object_mut().unwrap().remove(member);
        }
        let read: LaunchConfiguration = serde_json::from_value(stored).unwrap();
        assert_eq!(read, LaunchConfiguration::default());
    }

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
