//! Conversion: a checkpoint's disks become those of an instance. What a launch asks of it, and what came of it.
//!
//! ```text
//! Waiting ─▶ Running ─▶ Done
//!    └──────────┴─────▶ Failed        the checkpoint is as it was
//! ```

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::CheckpointNumber,
    disk::DiskId,
    ids::JobId,
    launch::{BootMode, Hypervisor, Probe},
    readiness::Finding,
};

/// How the instance gets its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// By DHCP, as every subnet offers it.
    #[default]
    Dhcp,
    /// Those of the source: the launch copies its private address, and the subnet fits.
    Keep,
}

/// What a job wants of a checkpoint. The same wish is granted once, however often it is heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversionOrder {
    pub job: JobId,
    pub checkpoint: CheckpointNumber,
    pub network: Network,
    pub hypervisor: Hypervisor,
    /// How the instance is started. Never [`BootMode::UseSource`].
    pub boot_mode: BootMode,
    #[serde(default)]
    pub rehearsal: Option<RehearsalOrder>,
}

/// The converted disks are to be booted away from everything, before anything is launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalOrder {
    pub cpus: u32,
    pub memory_mib: u64,
    pub time_limit_s: u32,
    /// What has to answer; without it, the machine's own words decide.
    #[serde(default)]
    pub probe: Option<Probe>,
}

/// Where a conversion that was ordered stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    pub job: JobId,
    #[serde(flatten)]
    pub state: ConversionState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ConversionState {
    /// Others come first.
    Waiting,
    Running {
        step: String,
    },
    Done(Converted),
    Failed {
        step: String,
        /// Why, with what a program said.
        detail: String,
        /// Where it was booted, and did not come up.
        #[serde(default)]
        rehearsal: Option<Rehearsal>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// All disks of the checkpoint. One of which nothing was changed keeps its snapshot.
    pub disks: Vec<ConvertedDisk>,
    /// How many entries the change list has.
    pub changes: u32,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub milliseconds: u64,
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvertedDisk {
    pub disk: DiskId,
    pub snapshot: String,
}

/// What came of a boot away from everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    pub came_up: bool,
    /// By what one sees it, in words.
    pub verdict: String,
    pub milliseconds: u64,
    /// What the machine ran on: `kvm`, or `tcg` where every instruction is translated.
    pub accelerator: String,
}

/// What a look at a checkpoint found out about booting elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub checkpoint: CheckpointNumber,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    pub findings: Vec<Finding>,
}
