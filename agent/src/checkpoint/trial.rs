//! `orglift-agent try-freeze`: freezes the file systems for a moment, as a checkpoint does, and says what came of
//! it. For whoever wants to know, before the first checkpoint, whether this server can be frozen and how long
//! its programs will wait.

use std::{
    fmt::Write as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use tracing::info;

use super::{
    freeze::{Freezer, thaw_on_panic},
    guard::GuardProgram,
    mounts::residents,
};
use crate::disks::{Roots, discover};

#[derive(Debug)]
pub struct Trial {
    /// All disks of this server if none is named.
    pub devices: Vec<PathBuf>,
    /// How long to stay frozen.
    pub hold: Duration,
    /// When the guard thaws.
    pub longest: Duration,
    pub mark: PathBuf,
}

impl Trial {
    /// The report.
    pub fn run(self) -> anyhow::Result<String> {
        thaw_on_panic();
        let roots = Roots::default();
        let disks = if self.devices.is_empty() {
            discover::physical(&roots)?
        } else {
            discover::named(&roots, &self.devices)?
        };
        let residents = residents(&roots, &disks);
        let freezer = Freezer::start(GuardProgram::this(), self.mark)?;
        let began = Instant::now();
        let frozen = freezer.freeze(&residents, self.longest)?;
        let writing_out = frozen.since().duration_since(began);
        let freezing = frozen.since().elapsed();
        info!("frozen");
        // Ends early if something wakes it, which does no harm.
        thread::park_timeout(self.hold);
        let not_frozen = frozen.not_frozen().to_vec();
        let thawing = Instant::now();
        let thawed = frozen.thaw();
        let thawing = thawing.elapsed();

        let mut report = String::new();
        for file_system in residents.file_systems.iter().filter(|fs| fs.writable) {
            writeln!(
                report,
                "{:<32} {:<8} {}",
                file_system.mount_point.display(),
                file_system.kind,
                file_system.device
            )?;
        }
        for name in &not_frozen {
            writeln!(report, "cannot be frozen, was written out: {name}")?;
        }
        for user in &residents.unseen {
            writeln!(report, "not brought to rest: {user}")?;
        }
        writeln!(
            report,
            "written out in {writing_out:.1?}, frozen in {freezing:.1?}, thawed in {thawing:.1?}; programs waited for \
             {:.1?}",
            thawed.held
        )?;
        thawed
            .unbroken
            .then_some(report)
            .context("the file systems were thawed by somebody else, or the time had passed")
    }
}
