//! What would make the installation fail, found before anything is asked or used up. All findings are
//! told at once, each with its remedy.

use std::{fs, path::Path};

use domain::disk::BLOCK_LEN;

use super::Wishes;
use crate::{
    disks::{
        LocalDisk,
        reader::{BlockBuffer, DiskReader},
    },
    layout::Layout,
    session::connect,
};

pub async fn check(layout: &Layout, disks: &[LocalDisk], wishes: &Wishes) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    findings.extend(disks.iter().filter_map(unreadable));
    findings.extend(unwritable(layout));
    for (port, what) in [
        (wishes.enrol_port, "enrolment"),
        (wishes.data_port, "replication"),
    ] {
        if let Err(error) = connect::connect(&wishes.runner_host, port).await {
            findings.push(format!(
                "{what}: {}; `orglift-agent doctor` with the same --runner says whose rule to change",
                crate::cli::chain(&error)
            ));
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "this server cannot be replicated yet:\n  - {}",
        findings.join("\n  - ")
    )
}

fn unreadable(disk: &LocalDisk) -> Option<String> {
    let read = || {
        let reader = DiskReader::open(&disk.path, disk.disk.bytes)?;
        let first = 0..disk.disk.bytes.min(BLOCK_LEN as u64);
        reader.read(first, &mut BlockBuffer::new()).map(drop)
    };
    let error = read().err()?;
    let remedy = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "; run the installation as root, or as a user who may read the disk"
    };
    Some(format!("{}{remedy}", crate::cli::chain(&error)))
}

/// Whether the agent's folder, or the one above it that exists, can be written to.
fn unwritable(layout: &Layout) -> Option<String> {
    let existing = layout.dir().ancestors().find(|folder| folder.exists())?;
    let probe = existing.join(".orglift-agent-probe");
    let outcome = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
    outcome.err().map(|error| not_writable(existing, &error))
}

fn not_writable(folder: &Path, error: &std::io::Error) -> String {
    format!(
        "cannot write to {}: {error}; run the installation as root, or choose a folder of your own with --dir",
        folder.display()
    )
}
