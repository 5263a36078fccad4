//! `orglift-agent verify`: is what the runner holds what is on the disks?
//!
//! Compares every block with a committed checkpoint, over a connection of its own; replication goes on meanwhile. The
//! server works on as well, so a block that was written after the checkpoint differs, and rightly so.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    ops::Range,
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use domain::{checkpoint::CheckpointNumber, disk::Disk};

use crate::{
    disks::{LocalDisk, Roots, reader::DiskReader},
    layout::Layout,
    run,
    session::{
        Agent, Pace,
        inspect::{Inspection, digests_now, parts},
        roster::Roster,
    },
};

/// Ranges of differing blocks that are named, per disk.
const NAMED_MAX: usize = 20;

#[derive(Debug)]
pub struct Verify {
    /// The newest that can be launched, if none is named.
    pub checkpoint: Option<CheckpointNumber>,
    /// All disks of the checkpoint, if none is named.
    pub disks: Vec<std::path::PathBuf>,
}

impl Verify {
    /// Prints what it finds. `true` if all is equal.
    pub async fn run(self, layout: Layout) -> anyhow::Result<bool> {
        let (agent, mut config) = run::load(layout, Roots::default(), Pace::default(), None)?;
        let here = Roster::examine(&agent.roots, &mut config, &agent.layout)?;
        let here = here.present().map_err(anyhow::Error::msg)?;
        let asked = Inspection::open(&agent.credentials, &config, &agent.server, self.checkpoint).await?;
        let mut inspection = asked.with_context(|| self.no_checkpoint(&agent))?;
        let checkpoint = inspection.checkpoint.clone();
        let taken = chrono::DateTime::from_timestamp_millis(checkpoint.taken_at_ms);
        println!(
            "Checkpoint {} ({}), taken {}",
            checkpoint.number,
            checkpoint.consistency.name(),
            taken.map_or_else(
                || "at an unknown time".into(),
                |at| at.format("%F %T UTC").to_string()
            ),
        );
        let mut equal = true;
        for (number, disk) in (0_u16..).zip(&checkpoint.disks) {
            if !self.is_wanted(disk) {
                continue;
            }
            let local = here.iter().find(|local| local.disk.id == disk.id);
            let local =
                local.with_context(|| format!("disk {} ({}) is not here", disk.device_name, disk.id))?;
            let differing = compare(&mut inspection, number, local).await?;
            equal &= differing.is_empty() && local.disk.bytes == disk.bytes;
            println!("{}", verdict(disk, local, &differing));
        }
        if !equal {
            println!(
                "Blocks that were written after the checkpoint differ, too: to be sure, stop the applications, take"
            );
            println!("a checkpoint, and verify again.");
        }
        Ok(equal)
    }

    fn is_wanted(&self, disk: &Disk) -> bool {
        self.disks.is_empty() || self.disks.iter().any(|path| path == Path::new(&disk.device_name))
    }

    fn no_checkpoint(&self, agent: &Agent) -> String {
        match self.checkpoint {
            Some(number) => format!("the runner has no checkpoint {number} of this server"),
            None => format!(
                "the runner has no checkpoint of {} that can be launched yet",
                agent.server
            ),
        }
    }
}

/// The blocks that differ, as ranges.
async fn compare(
    inspection: &mut Inspection,
    number: u16,
    local: &LocalDisk,
) -> anyhow::Result<Vec<Range<u64>>> {
    let bytes = inspection.checkpoint.disks[usize::from(number)]
        .bytes
        .min(local.disk.bytes);
    let reader = Arc::new(DiskReader::open(&local.path, bytes)?);
    let mut differing: Vec<Range<u64>> = Vec::new();
    for blocks in parts(bytes) {
        let theirs = inspection.digests(number, &blocks).await?;
        let ours = digests_now(&reader, blocks.clone()).await?;
        let pairs = blocks.clone().zip(ours.iter().zip(&theirs));
        for (block, _) in pairs.filter(|(_, (ours, theirs))| ours != theirs) {
            match differing.last_mut() {
                Some(last) if last.end == block => last.end += 1,
                _ => differing.push(block..block + 1),
            }
        }
        show_progress(&local.disk, blocks.end, bytes);
    }
    Ok(differing)
}

fn show_progress(disk: &Disk, blocks: u64, bytes: u64) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let percent = 100 * blocks / domain::disk::block_count(bytes).max(1);
        // A terminal that is gone is no reason to stop.
        let _shown = write!(terminal, "\r{} {percent} % ", disk.device_name).and_then(|()| terminal.flush());
    }
}

fn verdict(disk: &Disk, local: &LocalDisk, differing: &[Range<u64>]) -> String {
    if local.disk.bytes != disk.bytes {
        let (here, there) = (local.disk.bytes, disk.bytes);
        return format!(
            "{}: it has {here} bytes, {there} in the checkpoint",
            disk.device_name
        );
    }
    if differing.is_empty() {
        return format!("{}: equal", disk.device_name);
    }
    let count: u64 = differing.iter().map(|run| run.end - run.start).sum();
    let mut text = format!("{}: {count} blocks of 512 KiB differ:", disk.device_name);
    for run in differing.iter().take(NAMED_MAX) {
        // Writing to a String cannot fail.
        let _ = match run.end - run.start {
            1 => write!(text, " {}", run.start),
            _ => write!(text, " {}-{}", run.start, run.end - 1),
        };
    }
    if differing.len() > NAMED_MAX {
        text.push_str(" …");
    }
    text
}
