//! What was measured: rows for people, figures for programs.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::{Bench, Name, checkpoints, conversion, fan_out, first_copy, freeze, hub, memory, tracker};

/// What the parts of a benchmark share.
#[derive(Debug)]
pub struct Setup {
    /// Empty at first.
    pub dir: PathBuf,
    pub lab: PathBuf,
    pub repeat: u32,
}

#[derive(Debug, Default)]
pub struct Report {
    figures: Map<String, Value>,
    rows: Vec<Value>,
}

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        let setup = Setup {
            dir: std::path::absolute(&self.dir)?,
            lab: std::path::absolute(&self.lab)?,
            repeat: self.repeat,
        };
        let mut report = Report::default();
        match self.name {
            Name::Replication => {
                first_copy::measure(&setup, &mut report)?;
                checkpoints::measure(&setup, &mut report)?;
                memory::measure(&setup, &mut report)?;
            }
            Name::Tracker => {
                tracker::measure(&setup, &mut report)?;
                freeze::measure(&setup, &mut report)?;
            }
            Name::Conversion => conversion::measure(&setup, &mut report)?,
            Name::Fanout => fan_out::measure(&setup, &mut report)?,
            Name::Hub => hub::measure(&setup, &mut report)?,
        }
        self.json.map_or(Ok(()), |file| report.write(&file))
    }
}

impl Report {
    /// Something to know about the rows that follow.
    #[expect(
        clippy::unused_self,
        reason = "what is said belongs to the report, even if only people read it"
    )]
    pub fn note(&self, text: impl fmt::Display) {
        println!("# {text}");
    }

    pub fn row(&mut self, row: &str, measured: impl fmt::Display, target: &str, reached: bool) {
        let verdict = if reached { "ok" } else { "short" };
        println!("{row} | {measured} | {target} | {verdict}");
        let measured = measured.to_string();
        self.rows
            .push(json!({ "row": row, "measured": measured, "target": target, "verdict": verdict }));
    }

    /// Raw figures, for `--json` alone.
    pub fn figures(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    fn write(&self, file: &Path) -> anyhow::Result<()> {
        let all = json!({ "rows": self.rows, "figures": self.figures });
        std::fs::write(file, format!("{all:#}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The same thing measured several times.
#[derive(Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let upper = sorted.len() / 2;
        let lower = (sorted.len().max(1) - 1) / 2;
        match (sorted.get(lower), sorted.get(upper)) {
            (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
            _ => f64::NAN,
        }
    }

    /// So many in a hundred are no greater.
    pub fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    pub fn min(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    pub fn max(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl From<&Samples> for Value {
    fn from(samples: &Samples) -> Self {
        samples.0.clone().into()
    }
}

/// Median and spread, in the unit of the samples.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, min, max) = (self.median(), self.min(), self.max());
        write!(f, "{median:.2} ({min:.2} to {max:.2})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert!((Samples(vec![4.0, 1.0, 3.0, 2.0]).median() - 2.5).abs() < 1e-9);
        assert!((Samples(vec![9.0, 1.0, 3.0]).median() - 3.0).abs() < 1e-9);
        assert!(Samples::default().median().is_nan());
        let hundred = Samples((1..=100).map(f64::from).collect());
        assert!((hundred.percentile(95) - 95.0).abs() < 1e-9);
    }
}
