//! What the agent takes up, with a terabyte of disks.

use std::{
    fs::{self, File},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    machine::LoopDevice,
    replica::Replica,
    report::{Report, Setup},
};

const DISK_BYTES: u64 = 1 << 40;
const WATCHED: Duration = Duration::from_mins(1);
const MIB: f64 = (1 << 20) as f64;

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let image = setup.dir.join("terabyte.img");
    File::create_new(&image)?.set_len(DISK_BYTES)?;
    let device = LoopDevice::over(&image)?;
    let replica = Replica::start(&setup.lab, device.path(), &setup.dir.join("replica-1t"), None)?;
    let began = Instant::now();
    let (mut resident, mut kernel) = (0, 0);
    while began.elapsed() < WATCHED {
        if let Some(agent) = replica.agent()? {
            resident = resident.max(peak_resident(agent)?);
            kernel = kernel.max(kernel_objects(agent)?);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    report.note(format_args!(
        "memory: the agent's process during the first {} s of the first copy of an empty disk of 1 TiB: {:.1} MiB \
         resident at most, {:.1} MiB of BPF objects",
        WATCHED.as_secs(),
        resident as f64 / MIB,
        kernel as f64 / MIB,
    ));
    report.figures("agent memory, resident bytes", resident);
    report.figures("agent memory, bytes of BPF objects", kernel);
    let all = (resident + kernel) as f64 / MIB;
    report.row(
        "agent memory with 1 TiB of disks, kernel maps included",
        format_args!("{all:.0} MiB"),
        "≤ 128 MiB",
        all <= 128.0,
    );
    Ok(())
}

fn peak_resident(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the agent ended")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.trim().parse().ok()).context("no VmHWM")?;
    Ok(kib << 10)
}

/// The memory of the BPF maps and programs that a process holds open.
pub fn kernel_objects(process: u32) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))
        .context("the agent ended")?
        .flatten()
    {
        // One may be closed while they are listed.
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let charged = info.lines().find_map(|line| line.strip_prefix("memlock:"));
        bytes += charged
            .and_then(|bytes| bytes.trim().parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(bytes)
}
