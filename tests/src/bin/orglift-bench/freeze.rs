//! How long writers stand still for a checkpoint, and whether they ever stand for good.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use rand::RngExt;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    disk::make_image,
    machine::{Background, LoopDevice, Mount, run, thaw},
    probe::Probe,
    replica::Replica,
    report::{Report, Samples, Setup},
    tracker::writes_per_second,
};

const DISK_BYTES: u64 = 4 << 30;
const CHECKPOINTS: u32 = 10;
const KILLS: u32 = 10;

/// Promised: whoever was frozen by an agent that died is thawed within a second. Another, for a machine that is busy.
const THAWED_AFTER: Duration = Duration::from_secs(2);

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let image = setup.dir.join("ext4.img");
    make_image(&image, DISK_BYTES, 0)?;
    run("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), image.as_os_str()])?;
    let device = LoopDevice::over(&image)?;
    let mount = Mount::new(&[device.path().as_os_str()], &setup.dir.join("ext4"))?;
    let load = Load::start(mount.path())?;
    let probe = Probe::start(&mount.path().join("probe"))?;
    report.note(
        "freeze: ext4 on a loop device of 4 GiB, fio with 5,000 random 4 KiB writes/s, direct, 16 in flight",
    );

    std::thread::sleep(Duration::from_secs(2));
    probe.longest();
    std::thread::sleep(Duration::from_secs(10));
    let undisturbed = probe.longest();

    let dir = setup.dir.join("replica-frozen");
    let mut replica = Replica::start(&setup.lab, device.path(), &dir, None)?;
    replica.answer()?;
    let (mut seconds, mut felt, mut told) = (Samples::default(), Samples::default(), Samples::default());
    let mut consistency = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..CHECKPOINTS {
        std::thread::sleep(Duration::from_secs(2));
        probe.longest();
        let answer = replica.checkpoint()?;
        felt.push(probe.longest());
        seconds.push(answer.seconds);
        if let Some(freeze) = answer.told.get("frozen_seconds").and_then(Value::as_f64) {
            told.push(freeze);
        }
        let name = answer
            .told
            .get("consistency")
            .and_then(Value::as_str)
            .unwrap_or("?");
        *consistency.entry(name.to_owned()).or_default() += 1;
    }
    replica.end()?;

    let frozen = kill_in_the_middle(setup, &device, &mount, &probe, seconds.median())?;
    probe.stop()?;
    let rate = load.end()?;

    report.note(format_args!(
        "checkpoints: {consistency:?}; s from asking to durable: {seconds}"
    ));
    report.note(format_args!(
        "writes/s reached over the whole run, kills included: {rate:.0}"
    ));
    report.note(format_args!(
        "longest write + fsync that a probe felt, s: {undisturbed:.3} in 10 s without replication; during checkpoints \
         {felt}"
    ));
    report.note(format_args!(
        "file systems stood still, as the agent tells it, s: {told}"
    ));
    report.figures("freeze, felt by a probe, s", &felt);
    report.figures("freeze, felt by a probe without replication, s", undisturbed);
    report.figures("freeze, told by the agent, s", &told);
    report.figures("freeze, checkpoint, s", &seconds);
    report.figures("freeze, writes/s", rate);
    // What the agent tells must not be better than what its neighbours feel, so the latter counts.
    let longest = felt.max();
    report.row(
        "longest standstill of a writer during a checkpoint, at 5,000 random writes/s",
        format_args!("{longest:.3} s"),
        "≤ 1 s",
        longest <= 1.0 && rate >= 4_500.0,
    );
    report.row(
        &format!("file systems left frozen by {KILLS} kills of the agent during checkpoints"),
        frozen,
        "0",
        frozen == 0,
    );
    Ok(())
}

/// Kills the agent at random moments of checkpoints that take about `seconds`; returns how many times the file
/// system stayed frozen.
fn kill_in_the_middle(
    setup: &Setup,
    device: &LoopDevice,
    mount: &Mount,
    probe: &Probe,
    seconds: f64,
) -> anyhow::Result<u32> {
    let dir = setup.dir.join("replica-killed");
    let mut frozen = 0;
    for _ in 0..KILLS {
        let mut replica = Replica::start(&setup.lab, device.path(), &dir, None)?;
        replica.answer()?;
        replica.ask()?;
        std::thread::sleep(Duration::from_secs_f64(rand::rng().random_range(0.0..seconds)));
        replica.signal_agent(Signal::KILL)?;
        std::thread::sleep(THAWED_AFTER);
        if probe.waiting() >= THAWED_AFTER {
            frozen += 1;
            thaw(mount.path()).context("a file system takes no writes, and is not frozen")?;
        }
    }
    Ok(frozen)
}

/// fio, writing at its pace until it is told to end.
#[derive(Debug)]
struct Load {
    fio: Background,
    output: std::path::PathBuf,
}

impl Load {
    fn start(mountpoint: &Path) -> anyhow::Result<Self> {
        let file = format!("--filename={}", mountpoint.join("load").display());
        run(
            "fio",
            [
                "--name=lay-out",
                "--rw=write",
                "--bs=1m",
                "--size=1g",
                "--end_fsync=1",
                &file,
            ],
        )?;
        let output = mountpoint.with_extension("fio.json");
        let fio = Background::start(
            "fio",
            [
                "--name=load",
                "--ioengine=libaio",
                "--rw=randwrite",
                "--bs=4k",
                "--direct=1",
                "--iodepth=16",
                "--rate_iops=5000",
                "--size=1g",
                "--time_based",
                "--runtime=1h",
                "--output-format=json",
                &format!("--output={}", output.display()),
                &file,
            ],
        )?;
        Ok(Self { fio, output })
    }

    /// Writes per second, on average.
    fn end(mut self) -> anyhow::Result<f64> {
        run("kill", ["-INT".to_owned(), self.fio.0.id().to_string()])?;
        let status = self.fio.0.wait()?;
        let said = fs::read_to_string(&self.output)?;
        // After an interruption there may be a line before the JSON.
        match said.find('{') {
            Some(json) => writes_per_second(&said[json..]),
            None => bail!("fio ended, {status}, and said nothing"),
        }
    }
}
