//! Conversion: a checkpoint's disks become those of an instance. What a launch asks of it, and what came of it.
//!
//! ```text
//! Waiting ─▶ Running ─▶ Done
//!    └──────────┴─────▶ Failed        the checkpoint is as it was
//! ```

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    checkpoint::CheckpointNumber,
    disk::{DISKS_MAX, DiskId},
    ids::JobId,
    launch::{BootMode, Hypervisor, Probe},
    readiness::{FINDINGS_MAX, Finding},
};

/// The longest texts, in characters. A longer one is cut when it is read.
const WORD_CHARS_MAX: usize = 128;
const DETAIL_CHARS_MAX: usize = 8192;

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
        #[serde(deserialize_with = "clean::<WORD_CHARS_MAX, _>")]
        step: String,
    },
    Done(Converted),
    Failed {
        #[serde(deserialize_with = "clean::<WORD_CHARS_MAX, _>")]
        step: String,
        /// Why, with what a program said.
        #[serde(deserialize_with = "clean::<DETAIL_CHARS_MAX, _>")]
        detail: String,
        /// Where it was booted, and did not come up.
        #[serde(default)]
        rehearsal: Option<Rehearsal>,
    },
}

impl ConversionState {
    /// Whether it stays as it is.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// All disks of the checkpoint. One of which nothing was changed keeps its snapshot.
    #[serde(deserialize_with = "at_most_all_disks")]
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
    #[serde(deserialize_with = "clean::<WORD_CHARS_MAX, _>")]
    pub snapshot: String,
}

/// What came of a boot away from everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    pub came_up: bool,
    /// By what one sees it, in words.
    #[serde(deserialize_with = "clean::<DETAIL_CHARS_MAX, _>")]
    pub verdict: String,
    pub milliseconds: u64,
    /// What the machine ran on: `kvm`, or `tcg` where every instruction is translated.
    #[serde(deserialize_with = "clean::<WORD_CHARS_MAX, _>")]
    pub accelerator: String,
}

/// What a look at a checkpoint found out about booting elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub checkpoint: CheckpointNumber,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// The gravest, if there are more than anybody reads.
    #[serde(deserialize_with = "gravest")]
    pub findings: Vec<Finding>,
}

/// Without control characters but the ends of lines, and cut.
fn clean<'de, const CHARS_MAX: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let printable = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    Ok(text.chars().take(CHARS_MAX).map(printable).collect())
}

fn at_most_all_disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ConvertedDisk>, D::Error> {
    let mut disks = Vec::deserialize(deserializer)?;
    disks.truncate(DISKS_MAX);
    Ok(disks)
}

fn gravest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Finding>, D::Error> {
    let mut findings: Vec<Finding> = Vec::deserialize(deserializer)?;
    if findings.len() > FINDINGS_MAX {
        findings.sort_by_key(|finding| finding.class);
        findings.truncate(FINDINGS_MAX);
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::readiness::Readiness;

    #[test]
    fn the_words_of_a_runner_are_cut_and_cleaned() {
        let told = json!({
            "job": JobId::from_entropy(1),
            "state": "failed",
            "step": "s".repeat(WORD_CHARS_MAX + 1),
            "detail": format!("one\ntwo\u{1b}[2J{}", "x".repeat(DETAIL_CHARS_MAX)),
        });
        let read: Conversion = serde_json::from_value(told).unwrap();
        let ConversionState::Failed { step, detail, .. } = read.state else {
            panic!("it failed")
        };
        assert_eq!(step.len(), WORD_CHARS_MAX);
        assert!(detail.starts_with("one\ntwo\u{fffd}[2Jxx"), "{detail}");
        assert_eq!(detail.chars().count(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn of_too_many_findings_the_gravest_stay() {
        let mut findings = vec![Finding::informs("a", "x"); FINDINGS_MAX];
        findings.push(Finding::blocks("b", "x", "y"));
        let told = json!({ "checkpoint": 1, "at_ms": 0, "findings": findings });
        let read: Inspection = serde_json::from_value(told).unwrap();
        assert_eq!(read.findings.len(), FINDINGS_MAX);
        assert_eq!(Readiness::of(Some(&read.findings)), Readiness::Blocked);
    }
}
