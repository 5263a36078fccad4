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
