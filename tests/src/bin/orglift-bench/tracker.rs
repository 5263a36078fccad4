//! What the tracker costs those who write.

use std::{fs::File, path::Path};

use anyhow::Context;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    machine::{LoopDevice, Mount, run, settle},
    memory::kernel_objects,
    replica::Replica,
    report::{Report, Samples, Setup},
};

const DISK_BYTES: u64 = 512 << 20;
const SECONDS: u32 = 10;

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let memory = Mount::new(
        &["-t", "tmpfs", "-o", "size=1g", "none"].map(AsRef::as_ref),
        &setup.dir.join("memory"),
    )?;
    let image = memory.path().join("disk.img");
    File::create_new(&image)?.set_len(DISK_BYTES)?;
    let device = LoopDevice::over(&image)?;
    report.note(
        "tracker: fio, 4 KiB random writes, direct, 16 in flight, 10 s, on a loop device over memory: the faster the \
         disk, the more a tracker costs. With it: an agent that replicated the device and is stopped, so that only \
         its tracker runs. For comparison: the agent goes on, and sends what is written to a runner on this machine.",
    );
    let (mut without, mut with, mut ratio) = (Samples::default(), Samples::default(), Samples::default());
    let mut sending = Samples::default();
    let mut attached = true;
    // Fills the image, which the first run would have to do otherwise.
    random_writes(device.path(), 2)?;
    for _ in 0..setup.repeat {
        settle();
        let free = random_writes(device.path(), SECONDS)?;
        let mut replica = Replica::start(
            &setup.lab,
            device.path(),
            &setup.dir.join("replica-tracked"),
            None,
        )?;
        replica.answer()?;
        settle();
        replica.signal_agent(Signal::STOP)?;
        let tracked = random_writes(device.path(), SECONDS)?;
        replica.signal_agent(Signal::CONT)?;
        let agent = replica.agent()?.context("no agent runs")?;
        attached &= kernel_objects(agent)? > 0;
        sending.push(random_writes(device.path(), SECONDS)?);
        replica.end()?;
        without.push(free);
        with.push(tracked);
        ratio.push(100.0 * tracked / free);
    }
    report.note(format_args!("random writes/s without the tracker: {without}"));
    report.note(format_args!("random writes/s with the tracker: {with}"));
    report.note(format_args!("percent, of each pair: {ratio}"));
    report.note(format_args!(
        "random writes/s while the agent sends them: {sending}"
    ));
    report.figures("random writes/s without the tracker", &without);
    report.figures("random writes/s with the tracker", &with);
    report.figures("random writes/s while the agent sends", &sending);
    // Of pairs that ran one after the other: this machine's own rate changes by more than a tracker costs.
    let kept = ratio.median();
    let row = "4 KiB random writes with the tracker, of those without";
    if attached {
        report.row(row, format_args!("{kept:.1} %"), "≥ 97 %", kept >= 97.0);
    } else {
        report.row(row, "the agent held no tracker", "≥ 97 %", false);
    }
    Ok(())
}

/// Writes per second.
fn random_writes(device: &Path, seconds: u32) -> anyhow::Result<f64> {
    let said = run(
        "fio",
        [
            "--name=random-writes",
            "--ioengine=libaio",
            "--rw=randwrite",
            "--bs=4k",
            "--direct=1",
            "--iodepth=16",
            "--time_based",
            "--output-format=json",
            &format!("--runtime={seconds}"),
            &format!("--filename={}", device.display()),
        ],
    )?;
    writes_per_second(&said)
}

/// From what fio says.
pub fn writes_per_second(said: &str) -> anyhow::Result<f64> {
    let said: Value = serde_json::from_str(said).context("fio said no JSON")?;
    let rate = said.pointer("/jobs/0/write/iops").and_then(Value::as_f64);
    rate.context("fio did not say how much it wrote")
}
