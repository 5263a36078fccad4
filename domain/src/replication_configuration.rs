//! How a source server is replicated: as fast as what, how often it gets a checkpoint, and how many of them stay.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::bandwidth::Bandwidth;

/// In seconds. A checkpoint of a busy server takes seconds itself; a day is as long as MGN's longest.
pub const CHECKPOINT_INTERVAL_S: RangeInclusive<u32> = 1..=86_400;

/// Each checkpoint that stays costs what was written since the one before.
pub const CHECKPOINTS_KEPT: RangeInclusive<u16> = 1..=100;

/// MGN keeps five to seven.
pub const CHECKPOINTS_KEPT_USUALLY: u16 = 6;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationConfiguration {
    pub bandwidth: Bandwidth,
    /// Seconds between the scheduled checkpoints.
    pub checkpoint_interval_s: u32,
    /// So many launchable checkpoints stay.
    pub checkpoints_kept: u16,
}

impl Default for ReplicationConfiguration {
    fn default() -> Self {
        Self {
            bandwidth: Bandwidth::default(),
            checkpoint_interval_s: 600,
            checkpoints_kept: CHECKPOINTS_KEPT_USUALLY,
        }
    }
}

impl ReplicationConfiguration {
    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<(), String> {
        if !CHECKPOINT_INTERVAL_S.contains(&self.checkpoint_interval_s) {
            return Err("checkpoints are 1 to 86400 seconds apart".into());
        }
        if !CHECKPOINTS_KEPT.contains(&self.checkpoints_kept) {
            return Err("1 to 100 checkpoints can be kept".into());
        }
        self.bandwidth.check().map_err(|invalid| invalid.to_string())
    }
}
