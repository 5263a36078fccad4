//! A rehearsal: a disk is booted away from everything, to see whether it would come up.
//!
//! What counts is what the machine says ([`verdict`]) or what answers ([`Probe`]), within a time limit. Nothing that the
//! machine writes is kept, and console text and screenshot stay in a folder, whatever the verdict.

pub mod probe;
pub mod verdict;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use self::{
    probe::Probe,
    verdict::{Failure, Scene, Verdict},
};
use crate::machine::{Accelerator, CONSOLE_FILE, Machine, MachineError, Plan};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without KVM and on a busy machine, its first words come after three seconds.
const FIRMWARE_MAX: Duration = Duration::from_mins(1);

/// What came of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub verdict: Verdict,
    pub milliseconds: u64,
    pub accelerator: Accelerator,
    pub console: PathBuf,
    /// Not every QEMU can draw one.
    pub screenshot: Option<PathBuf>,
}

/// Boots the machine, decides, and ends it.
pub async fn rehearse(
    plan: &Plan,
    probe: Option<&Probe>,
    time_limit: Duration,
    folder: &Path,
) -> Result<Outcome, MachineError> {
    let (mut machine, outcome) = boot(plan, probe, time_limit, folder).await?;
    machine.kill().await?;
    Ok(outcome)
}

/// Boots the machine, decides, and lets it run.
pub async fn boot(
    plan: &Plan,
    probe: Option<&Probe>,
    time_limit: Duration,
    folder: &Path,
) -> Result<(Machine, Outcome), MachineError> {
    let mut machine = Machine::start(plan, folder).await?;
    let mut outcome = observe(&mut machine, probe, time_limit, folder).await?;
    // Seen once without KVM: the firmware runs in circles before its first word. Another start is cheap.
    if outcome.verdict == Verdict::Failed(Failure::Silent) {
        machine.kill().await?;
        machine = Machine::start(plan, folder).await?;
        outcome = observe(&mut machine, probe, time_limit, folder).await?;
    }
    Ok((machine, outcome))
}

/// Watches a machine that was just started until there is a verdict, and lets it run.
pub async fn observe(
    machine: &mut Machine,
    probe: Option<&Probe>,
    time_limit: Duration,
    folder: &Path,
) -> Result<Outcome, MachineError> {
    let began = Instant::now();
    let verdict = loop {
        let probed = match probe {
            Some(probe) => Some(probe.answers(machine).await),
            None => None,
        };
        let has_ended = machine.ended()?.is_some();
        // Read last, so that the words of a machine that ended are all in it.
        let console = machine.recent_console();
        let scene = Scene {
            console: &console,
            probed,
            has_ended,
            firmware_is_late: began.elapsed() >= FIRMWARE_MAX,
            time_is_over: began.elapsed() >= time_limit,
        };
        if let Some(verdict) = verdict::judge(&scene) {
            break verdict;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    // A machine that ended has no screen; and without a picture the verdict stands all the same.
    let screenshot = match verdict {
        Verdict::Failed(Failure::Ended) => None,
        _ => match machine.screenshot().await {
            Ok(path) => Some(path),
            Err(error) => {
                tracing::warn!("no screenshot of a rehearsal: {error}");
                None
            }
        },
    };
    Ok(Outcome {
        verdict,
        milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        accelerator: machine.accelerator(),
        console: folder.join(CONSOLE_FILE),
        screenshot,
    })
}
