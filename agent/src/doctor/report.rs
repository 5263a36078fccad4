//! What the doctor has to say: one line for each check, and what to do where something needs a hand.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    NeedsAHand,
    /// It could not be tested, or nothing depends on it; the detail says why.
    NotTested,
}

impl Verdict {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NeedsAHand => "NEEDS A HAND",
            Self::NotTested => "not tested",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub check: &'static str,
    pub verdict: Verdict,
    /// The address that this server sends from.
    pub from: Option<IpAddr>,
    pub to: Option<SocketAddr>,
    pub detail: String,
    /// Whose rule to change, and how.
    pub remedy: Option<String>,
    pub measured: Option<Measured>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    pub value: f64,
    pub unit: &'static str,
}

impl Check {
    pub fn new(check: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            from: None,
            to: None,
            detail: detail.into(),
            remedy: None,
            measured: None,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Report {
    /// As it was given.
    pub runner: String,
    pub checks: Vec<Check>,
}

impl Report {
    pub fn needing_a_hand(&self) -> usize {
        let needs = |check: &&Check| check.verdict == Verdict::NeedsAHand;
        self.checks.iter().filter(needs).count()
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let heading = ("check", "to", "verdict", "what was seen");
        let rows = self.checks.iter().map(|check| {
            let to = check.to.map_or_else(|| "-".to_owned(), |to| to.to_string());
            (check, to)
        });
        let rows: Vec<_> = rows.collect();
        let widest = rows.iter().map(|(_, to)| to.len()).max().unwrap_or(0);
        let (name, to, verdict, detail) = heading;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}  {to:<widest$}  {verdict:<12}  {detail}");
        for (check, to) in rows {
            let (name, verdict, detail) = (check.check, check.verdict.label(), &check.detail);
            let _ = writeln!(text, "{name:<12}  {to:<widest$}  {verdict:<12}  {detail}");
            if let Some(remedy) = &check.remedy {
                let _ = writeln!(text, "  what to do: {remedy}");
            }
        }
        text
    }
}
