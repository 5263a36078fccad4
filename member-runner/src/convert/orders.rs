//! What a worker is told, and what it answers.

use domain::{
    changes::ChangeList,
    checkpoint::CheckpointNumber,
    conversion::{Network, Rehearsal, RehearsalOrder},
    ids::SourceServerId,
    launch::{BootMode, Hypervisor},
    readiness::Finding,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Inspect(Inspect),
    Convert(Convert),
    Rehearse(Rehearse),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspect {
    /// How the server was started when its agent last looked.
    pub boot_mode: Option<BootMode>,
    pub hypervisor: Hypervisor,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convert {
    pub server: SourceServerId,
    pub checkpoint: CheckpointNumber,
    /// How the instance is started; `None`: as the disks look.
    pub boot_mode: Option<BootMode>,
    pub hypervisor: Hypervisor,
    pub network: Network,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearse {
    pub boot_mode: BootMode,
    pub machine: RehearsalOrder,
}

/// The last word of a worker that could do its work, whatever came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    Inspected(Vec<Finding>),
    Converted(Edited),
    Rehearsed(Rehearsal),
    Failed { step: String, detail: String },
}

/// The disks are changed, and nothing of them is in use any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    pub findings: Vec<Finding>,
    /// How the instance is started.
    pub boot_mode: BootMode,
    pub changes: ChangeList,
}
