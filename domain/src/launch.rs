//! How a source server becomes an instance.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

pub mod instance_type;
pub mod quota;
pub mod volume;

use self::volume::Volumes;

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

impl BootMode {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::LegacyBios => "legacy BIOS",
            Self::Uefi => "UEFI",
            Self::UseSource => "the source's boot mode",
        }
    }
}

/// MGN's `TargetInstanceTypeRightSizingMethod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RightSizing {
    /// The type that the settings name.
    #[default]
    None,
    /// The smallest that the source fits in.
    Basic,
}

/// EC2's `Tenancy`: on whose hardware an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenancy {
    #[default]
    Default,
    Dedicated,
    Host,
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
    /// Where the size is not chosen by that of the source.
    pub instance_type: String,
    #[serde(default)]
    pub right_sizing: RightSizing,
    /// Of instance types, that a size may be chosen from; none stands for the usual ones.
    #[serde(default)]
    pub families: Vec<String>,
    pub test_subnet: String,
    pub target_subnet: String,
    /// None stands for the default one of the subnet's VPC.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// By its name or ARN.
    #[serde(default)]
    pub instance_profile: Option<String>,
    #[serde(default)]
    pub tenancy: Tenancy,
    #[serde(default)]
    pub volumes: Volumes,
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
            right_sizing: RightSizing::None,
            families: Vec::new(),
            test_subnet: "test".into(),
            target_subnet: "target".into(),
            security_groups: Vec::new(),
            instance_profile: None,
            tenancy: Tenancy::Default,
            volumes: Volumes::default(),
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

/// EC2's limit on the security groups of an interface, where an account has not raised it: 5. Raised: 16.
const SECURITY_GROUPS_MAX: usize = 16;
/// More families than EC2 has for a processor and a purpose.
const FAMILIES_MAX: usize = 50;
/// EC2's limit on the tags of a resource.
const TAGS_MAX: usize = 50;

impl LaunchConfiguration {
    /// What is wrong with them, in words.
    pub fn check(&self) -> Result<(), String> {
        let is_text = |text: &String| !text.is_empty() && text.len() <= 255;
        let mut texts = vec![&self.instance_type, &self.test_subnet, &self.target_subnet];
        texts.extend(&self.families);
        texts.extend(&self.security_groups);
        if !texts.into_iter().all(is_text) {
            return Err(
                "instance types, families, subnets and security groups have 1 to 255 characters".into(),
            );
        }
        // An ARN has a path of 512 characters.
        if self
            .instance_profile
            .as_ref()
            .is_some_and(|profile| profile.is_empty() || profile.len() > 1024)
        {
            return Err("an instance profile is given by its name or its ARN".into());
        }
        if self.families.len() > FAMILIES_MAX {
            return Err(format!("at most {FAMILIES_MAX} families can be allowed"));
        }
        if self.security_groups.len() > SECURITY_GROUPS_MAX {
            return Err(format!(
                "an instance has at most {SECURITY_GROUPS_MAX} security groups"
            ));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(format!("an instance has at most {TAGS_MAX} tags"));
        }
        self.volumes.check()?;
        match &self.rehearsal {
            Some(rehearsal) => rehearsal.check().map_err(str::to_owned),
            None => Ok(()),
        }
    }

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
    fn settings_of_an_older_hub_are_read() {
        let mut stored = serde_json::to_value(LaunchConfiguration::default()).unwrap();
        for member in [
            "convert",
            "rehearsal",
            "right_sizing",
            "families",
            "security_groups",
            "instance_profile",
            "tenancy",
            "volumes",
        ] {
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
