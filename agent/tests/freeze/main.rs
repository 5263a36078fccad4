//! Freezing real file systems, on loop devices.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers, too"
)]

mod deaths;
mod order;
mod volume;
mod whole;

use std::path::PathBuf;

use agent::checkpoint::{freeze::Freezer, guard::GuardProgram};

const PROGRAM: &str = env!("CARGO_BIN_EXE_orglift-agent");

/// A freezer in this process.
struct World {
    folder: tempfile::TempDir,
    freezer: Freezer,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("frozen-file-systems");
        let freezer = Freezer::start(GuardProgram::at(PROGRAM), mark).unwrap();
        Self { folder, freezer }
    }

    fn mark(&self) -> PathBuf {
        self.folder.path().join("frozen-file-systems")
    }
}
