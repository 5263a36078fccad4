//! What has come of the move so far: `move.json` in the lab's folder. A run that was interrupted goes on with it, and
//! `--json` gets a copy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use domain::{
    conversion::Converted,
    ids::{AccountId, SourceServerId},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    demo::report::Left,
    world::{AccountPlan, api::Readiness, read_json, write_json},
};

const FILE: &str = "move.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub folder: PathBuf,
    pub stages: Vec<Stage>,
    /// The server is launched for a test in one account…
    pub test: Leg,
    /// …and moves into another for good.
    pub cutover: Leg,
    /// The test's checkpoint, as it was before its conversion, on the test's hardware.
    pub unconverted: Option<Boot>,
    /// What the hub showed of it before anything was launched.
    pub readiness: Option<Readiness>,
    pub trouble: Option<String>,
    /// In all accounts, beside the cutover instance and its volumes. `None` before the end.
    pub left: Option<Vec<Left>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub seconds: f64,
}

/// The way into one account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leg {
    pub account: AccountId,
    pub account_name: String,
    pub server: Option<SourceServerId>,
    /// The last row that was committed when the launch, and with it its checkpoint, was asked for.
    pub committed_before: Option<u64>,
    pub launched: Option<Launched>,
    pub converted: Option<Evidence>,
    pub arrived: Option<Arrived>,
    /// The source server was disconnected, or its cutover finalized.
    pub ended: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launched {
    pub job: String,
    pub instance: String,
    pub checkpoint: u64,
    /// How old the checkpoint was at the launch.
    pub checkpoint_age_s: f64,
}

/// What the conversion came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evidence {
    pub converted: Converted,
    /// The change list, signed and for a reader; console text and screenshot of the rehearsal.
    pub documents: Vec<PathBuf>,
}

/// What an instance showed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Arrived {
    /// Of those that were committed before, how many its database holds.
    pub rows_of_before: u64,
    pub rows: u64,
    pub last_row: u64,
    /// The last row that it showed by HTTP: one that it committed itself.
    pub shown_by_http: u64,
    /// On the loopback, while the lab runs.
    pub http: String,
    pub console: PathBuf,
    pub screenshot: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Boot {
    pub came_up: bool,
    pub verdict: String,
    pub seconds: f64,
    pub console: PathBuf,
    pub screenshot: Option<PathBuf>,
}

impl Record {
    /// What the folder holds, or a beginning.
    pub fn open(folder: &Path, accounts: &[AccountPlan]) -> anyhow::Result<Self> {
        if let Some(held) = read_json(&folder.join(FILE))? {
            return Ok(held);
        }
        let [test, cutover] = accounts else {
            bail!("a server moves by one account into another");
        };
        Ok(Self {
            folder: folder.to_owned(),
            stages: Vec::new(),
            test: Leg::into(test),
            cutover: Leg::into(cutover),
            unconverted: None,
            readiness: None,
            trouble: None,
            left: None,
        })
    }

    /// Whether a folder holds one.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    pub fn save(&self) -> anyhow::Result<()> {
        write_json(&self.folder.join(FILE), self)
    }

    /// Adds to a stage what it took this time: one that was interrupted takes several turns.
    pub fn took(&mut self, name: &str, seconds: f64) {
        match self.stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.seconds += seconds,
            None => self.stages.push(Stage {
                name: name.to_owned(),
                seconds,
            }),
        }
    }

    /// What programs want to know: whether it is good, and all that led to it.
    pub fn report(&self) -> anyhow::Result<Value> {
        let mut report = serde_json::to_value(self).context("cannot write the report")?;
        report["good"] = self.is_good().into();
        Ok(report)
    }

    /// The server works in both accounts with every row, its disks without conversion do not, and nothing is left.
    pub fn is_good(&self) -> bool {
        let failed = self.unconverted.as_ref().is_some_and(|boot| !boot.came_up);
        let is_clean = self.left.as_ref().is_some_and(Vec::is_empty);
        self.test.is_good() && self.cutover.is_good() && failed && is_clean && self.trouble.is_none()
    }
}

impl Leg {
    fn into(account: &AccountPlan) -> Self {
        Self {
            account: account.id.clone(),
            account_name: account.name.clone(),
            server: None,
            committed_before: None,
            launched: None,
            converted: None,
            arrived: None,
            ended: false,
        }
    }

    fn is_good(&self) -> bool {
        let rehearsed = self
            .converted
            .as_ref()
            .and_then(|one| one.converted.rehearsal.as_ref());
        let came_up = rehearsed.is_some_and(|rehearsal| rehearsal.came_up);
        let arrived = self.arrived.as_ref().zip(self.committed_before);
        self.ended && came_up && arrived.is_some_and(|(arrived, before)| arrived.is_complete(before))
    }
}

impl Arrived {
    /// Every row of before is there, and none is missing among those after.
    pub fn is_complete(&self, before: u64) -> bool {
        self.rows_of_before == before && self.rows == self.last_row && self.shown_by_http > before
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{:8.1} s  {}", stage.seconds, stage.name)?;
        }
        if let Some(readiness) = &self.readiness {
            let findings = readiness.findings.as_ref().map_or(0, Vec::len);
            writeln!(f, "boot readiness: {}, {findings} findings", readiness.state)?;
        }
        for (what, leg) in [("test", &self.test), ("cutover", &self.cutover)] {
            if let Some(Evidence { converted, .. }) = &leg.converted {
                let rehearsal = converted.rehearsal.as_ref();
                let verdict = rehearsal.map_or("it was not rehearsed", |one| &one.verdict);
                writeln!(f, "{what}: {} changes; rehearsal: {verdict}", converted.changes)?;
            }
            let (Some(arrived), Some(before)) = (&leg.arrived, leg.committed_before) else {
                continue;
            };
            writeln!(
                f,
                "{what} in {}: {} of {before} rows that were committed before the checkpoint; {} rows up to number {}; \
                 shows {} by HTTP",
                leg.account_name,
                arrived.rows_of_before,
                arrived.rows,
                arrived.last_row,
                arrived.shown_by_http
            )?;
        }
        if let Some(boot) = &self.unconverted {
            writeln!(f, "without conversion: {}", boot.verdict)?;
        }
        for left in self.left.iter().flatten() {
            writeln!(f, "left in {}: {} {}", left.account, left.kind.name(), left.id)?;
        }
        if let Some(trouble) = &self.trouble {
            writeln!(f, "{trouble}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_is_noticed_wherever_it_is() {
        let arrived = |rows_of_before, rows, last_row, shown_by_http| Arrived {
            rows_of_before,
            rows,
            last_row,
            shown_by_http,
            http: String::new(),
            console: PathBuf::new(),
            screenshot: PathBuf::new(),
        };
        assert!(arrived(100, 120, 120, 118).is_complete(100));
        for wrong in [
            arrived(99, 119, 120, 118),
            arrived(100, 119, 120, 118),
            arrived(100, 120, 120, 100),
        ] {
            assert!(!wrong.is_complete(100), "{wrong:?}");
        }
    }
}
