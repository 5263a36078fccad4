//! What it costs to make a Debian server's boot disk fit to boot as an instance.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use lab::debian::disk::Debian;
use member_runner::machine::Accelerator;
use serde_json::Value;

use crate::{
    machine::run,
    report::{Report, Samples, Setup},
};

/// virt-v2v boots a machine of its own, whose every instruction is translated where there is no KVM.
const PEER_MAX: Duration = Duration::from_mins(10);

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    // It boots from an IDE disk, and its initramfs has drivers for nothing else.
    let disk = Debian::WITH_A_DATABASE.disk(|step| eprintln!("{step}"))?.disk;
    let data = fs::metadata(&disk)?.blocks() * 512;
    report.note(format!(
        "conversion: Debian 12 with a database on ext4 with an MBR, {} MiB of data",
        data >> 20
    ));
    let replica = setup.dir.join("replica");
    run(
        setup.lab.to_str().context("the path of the program is no text")?,
        [
            "replicate".as_ref(),
            "--source".as_ref(),
            disk.as_os_str(),
            "--dir".as_ref(),
            replica.as_os_str(),
        ],
    )?;
    let (mut seconds, mut read, mut written) = (Samples::default(), 0, 0);
    for _ in 0..setup.repeat {
        let told = convert(&setup.lab, &replica)?;
        let number = |name: &str| told[name].as_u64().with_context(|| format!("no {name}"));
        seconds.push(told["seconds"].as_f64().context("no seconds")?);
        (read, written) = (number("bytes_read")?, number("bytes_written")?);
    }
    let share = 100.0 * read as f64 / data as f64;
    report.figures("data_bytes", data);
    report.figures("bytes_read", read);
    report.figures("bytes_written", written);
    report.figures("seconds", seconds.median());
    report.row(
        "conversion, read of the data",
        format_args!("{share:.1} % ({} MiB)", read >> 20),
        "≤ 25 %",
        share <= 25.0,
    );
    report.row(
        "conversion, written",
        format_args!("{} MiB", written >> 20),
        "≤ 150 MiB",
        written <= 150 << 20,
    );
    report.row(
        "conversion, time",
        format_args!("{:.1} s", seconds.median()),
        "≤ 60 s",
        seconds.median() <= 60.0,
    );
    beside(&disk, seconds.median(), setup, report)
}

fn convert(lab: &Path, replica: &Path) -> anyhow::Result<Value> {
    let kept: Value = serde_json::from_slice(&fs::read(replica.join("replicate.json"))?)?;
    let server = kept["server"].as_str().context("the replica has no server")?;
    let output = Command::new(lab)
        .args([
            "runner",
            "convert",
            "--dry-run",
            "--json",
            "--server",
            server,
            "--dir",
        ])
        .arg(replica.join("runner"))
        .arg("--store")
        .arg(format!("layers:{}", replica.join("snapshots").display()))
        .output()
        .context("cannot run the conversion")?;
    if !output.status.success() {
        bail!(
            "the conversion failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The same disk by virt-v2v, which changes it in place and so gets a copy.
fn beside(disk: &Path, own_seconds: f64, setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let accelerator = tokio::runtime::Runtime::new()?.block_on(Accelerator::best())?;
    // It would take a KVM that does not work, too.
    let settings = match accelerator {
        Accelerator::Kvm => "",
        Accelerator::Tcg => "force_tcg",
    };
    let copy = setup.dir.join("peer.raw");
    run(
        "cp",
        ["--sparse=always".as_ref(), disk.as_os_str(), copy.as_os_str()],
    )?;
    let began = Instant::now();
    let output = Command::new("timeout")
        .args(["--kill-after=10", &PEER_MAX.as_secs().to_string()])
        .args(["virt-v2v-in-place", "-i", "disk"])
        .arg(&copy)
        .env("LIBGUESTFS_BACKEND", "direct")
        .env("LIBGUESTFS_BACKEND_SETTINGS", settings)
        .output();
    let seconds = began.elapsed().as_secs_f64();
    match output {
        Ok(output) if output.status.success() => {
            report.note(format!(
                "virt-v2v-in-place on the same disk: {seconds:.1} s in a machine by {}, {:.0} times as long",
                accelerator.name(),
                seconds / own_seconds
            ));
            report.figures("peer_seconds", seconds);
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let error = said.lines().find(|line| line.contains("error: "));
            let error = error.or(said.lines().next_back()).unwrap_or_default();
            report.note(format!(
                "virt-v2v-in-place does not convert it here, after {seconds:.1} s: {} {error}",
                output.status
            ));
        }
        Err(error) => report.note(format!("virt-v2v-in-place is not here: {error}")),
    }
    fs::remove_file(copy).context("cannot remove a copy")
}
