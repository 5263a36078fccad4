//! `orglift-bench`: measures what the program promises; `tests/bench` builds and runs it.
//!
//! Every figure is a ratio of things measured in one run, one at a time, in interleaved order: first each candidate
//! once, then each again, so that a machine that gets slower meanwhile is slower for all. The programs measured are
//! the release builds; what they are measured against is installed by `tests/bench`.

#![expect(
    clippy::cast_precision_loss,
    reason = "52 bits are enough for a figure of three digits"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "nothing else runs in this program while it waits"
)]

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

mod checkpoints;
mod conversion;
mod disk;
mod fan_out;
mod first_copy;
mod freeze;
mod hub;
mod limits;
mod machine;
mod memory;
mod nbd;
mod probe;
mod replica;
mod report;
mod tracker;

#[derive(Debug, Parser)]
struct Bench {
    name: Name,
    /// Write all raw figures there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where images and copies go: an empty folder on a disk, with some 15 GB of room.
    #[arg(long)]
    dir: PathBuf,
    /// The program under test: `orglift-lab`, a release build.
    #[arg(long)]
    lab: PathBuf,
    /// How often each candidate runs; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Replication,
    Tracker,
    Conversion,
    Fanout,
    Hub,
}

fn main() -> ExitCode {
    match Bench::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("could not measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}
