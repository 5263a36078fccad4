//! What an agent tells of the machine it runs on. MGN's `SourceProperties`.

use serde::{Deserialize, Serialize};

use crate::{
    disk::Disk,
    launch::{BootMode, instance_type::Architecture},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProperties {
    pub hostname: String,
    pub fqdn: String,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    pub kernel: String,
    #[serde(default)]
    pub architecture: Architecture,
    pub boot_mode: BootMode,
    pub cpus: u32,
    pub ram_bytes: u64,
    pub network_interfaces: Vec<NetworkInterface>,
    pub disks: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    pub name: String,
    pub mac_address: String,
    pub ips: Vec<String>,
    pub is_primary: bool,
}

/// What the operator wants of a server's replication. The runner strives for it; what is reached is
/// the replication state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplicationIntent {
    Run,
    Paused,
    Stopped,
    /// The agent removes itself; the runner forgets the server and deletes what it holds.
    Disconnected,
}

impl ReplicationIntent {
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "RUN",
            Self::Paused => "PAUSED",
            Self::Stopped => "STOPPED",
            Self::Disconnected => "DISCONNECTED",
        }
    }
}
