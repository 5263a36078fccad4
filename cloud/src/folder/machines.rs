//! Instances that boot. This cloud runs nothing by itself: who does says so here, runs a machine for every instance,
//! and notes how it fares; only a machine that came up passes the instance's checks.
//!
//! ```text
//! ROOT/boots.json                    while it is there, instances boot
//! …/instances/i-…/machine.json      how the instance's machine fares
//! ```

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{FolderCloud, place::PlaceFolder};
use crate::files::write_json;

pub(super) const BOOTS_FILE: &str = "boots.json";
pub(super) const MACHINE_FILE: &str = "machine.json";

/// Whether somebody runs the machines of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instances {
    /// They are records and volumes, and pass their checks.
    Recorded,
    Booted,
}

/// `machine.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    pub state: MachineState,
    /// For people.
    pub detail: String,
    /// Ports of the loopback that lead into it, by the port there.
    pub forwards: Vec<ForwardedPort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    Starting,
    CameUp,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardedPort {
    pub loopback: u16,
    pub instance: u16,
}

impl FolderCloud {
    pub fn set_instances(&self, instances: Instances) -> io::Result<()> {
        let file = self.root().join(BOOTS_FILE);
        match instances {
            Instances::Booted => write_json(&file, &true),
            Instances::Recorded => match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }
}

impl PlaceFolder {
    pub fn set_machine(&self, instance: &str, machine: &MachineRecord) -> io::Result<()> {
        write_json(&self.instance_folder(instance).join(MACHINE_FILE), machine)
    }

    /// `None` before anybody has tried to start one.
    pub fn machine(&self, instance: &str) -> io::Result<Option<MachineRecord>> {
        read(&self.instance_folder(instance))
    }

    pub(super) fn instances(&self) -> Instances {
        if self.boots_file().exists() {
            Instances::Booted
        } else {
            Instances::Recorded
        }
    }
}

fn read(folder: &Path) -> io::Result<Option<MachineRecord>> {
    match fs::read(folder.join(MACHINE_FILE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}
