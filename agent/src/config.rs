//! What `install` decided and `run` goes by: `agent.json`.

use std::collections::{BTreeMap, BTreeSet};

use domain::disk::{Disk, DiskId};
use protocol::session::SessionId;
use serde::{Deserialize, Serialize};

use crate::layout::{FileError, Layout, read_if_there, write_durably};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub runner_host: String,
    pub data_port: u16,
    pub choice: DiskChoice,
    /// The disks to replicate as they were last seen. One that vanished is missed, not forgotten.
    pub disks: Vec<ChosenDisk>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskChoice {
    /// Every physical disk, and those that are added later.
    All,
    /// Those in the list and no other.
    Named,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenDisk {
    #[serde(flatten)]
    pub disk: Disk,
    /// For image files and loop devices, which are never found by themselves: where it is.
    pub named: Option<std::path::PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot understand {path}")]
    Json {
        path: std::path::PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Config {
    /// `None` if no agent is installed in this folder.
    pub fn load(layout: &Layout) -> Result<Option<Self>, ConfigError> {
        load(&layout.config())
    }

    pub fn save(&self, layout: &Layout) -> Result<(), ConfigError> {
        save(&layout.config(), self)
    }
}

pub fn load_session(layout: &Layout) -> Result<Option<SessionId>, ConfigError> {
    load(&layout.session())
}

/// Must return before the session is confirmed to the runner.
pub fn save_session(layout: &Layout, session: &SessionId) -> Result<(), ConfigError> {
    save(&layout.session(), session)
}

/// The disks that are known to have been copied once, for progress only.
pub fn load_copied(layout: &Layout) -> Result<BTreeSet<DiskId>, ConfigError> {
    Ok(load(&layout.copied())?.unwrap_or_default())
}

pub fn save_copied(layout: &Layout, disks: &BTreeSet<DiskId>) -> Result<(), ConfigError> {
    save(&layout.copied(), disks)
}

fn load<T: for<'de> Deserialize<'de>>(path: &std::path::Path) -> Result<Option<T>, ConfigError> {
    let Some(bytes) = read_if_there(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| ConfigError::Json {
            path: path.to_owned(),
            source,
        })
}

fn save<T: Serialize>(path: &std::path::Path, value: &T) -> Result<(), ConfigError> {
    let json = serde_json::to_vec_pretty(value).map_err(|source| ConfigError::Json {
        path: path.to_owned(),
        source,
    })?;
    Ok(write_durably(path, &json)?)
}
