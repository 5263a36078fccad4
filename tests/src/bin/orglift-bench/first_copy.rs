//! The first copy of a block device, against `nbdcopy --flush`.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, bail};

use crate::{
    disk::make_image,
    limits,
    machine::{LoopDevice, settle},
    nbd,
    report::{Report, Samples, Setup},
};

pub const DISK_BYTES: u64 = 4 << 30;
/// 0.9 GiB.
const DATA_BYTES: u64 = (9 << 30) / 10;

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let image = setup.dir.join("source.img");
    make_image(&image, DISK_BYTES, DATA_BYTES)?;
    let device = LoopDevice::over(&image)?;
    let tls = nbd::Certificates::make(setup.dir.join("certificates"))?;
    report.note(format_args!(
        "first copy: {} has 4 GiB, of which 0.9 GiB are data in scattered areas of 256 KiB, half of it compressible",
        device.path().display()
    ));
    report.note(
        "before each copy: its target removed, sync, the device's cache dropped; the device's image is in the page cache",
    );
    limits::measure(device.path(), &setup.dir, DISK_BYTES, DATA_BYTES, report)?;

    let target = setup.dir.join("target");
    let before_each = || {
        if target.is_dir() {
            fs::remove_dir_all(&target)?;
        } else if target.exists() {
            fs::remove_file(&target)?;
        }
        settle();
        device.forget_cache()
    };
    let (mut ours, mut ours_alone) = (Samples::default(), Samples::default());
    let (mut plain, mut under_tls) = (Samples::default(), Samples::default());
    for _ in 0..setup.repeat {
        before_each()?;
        let (whole, alone) = replicate(&setup.lab, device.path(), &target)?;
        ours.push(whole);
        ours_alone.push(alone);
        before_each()?;
        plain.push(nbd::copy(device.path(), &target, DISK_BYTES, None)?);
        before_each()?;
        under_tls.push(nbd::copy(device.path(), &target, DISK_BYTES, Some(&tls))?);
    }
    fs::remove_file(&target)?;

    report.note(format_args!("first copy by orglift, whole process, s: {ours}"));
    report.note(format_args!(
        "first copy by orglift, replication alone, s: {ours_alone}"
    ));
    report.note(format_args!(
        "first copy by nbdcopy --flush, whole process, s: {plain}"
    ));
    report.note(format_args!(
        "first copy by nbdcopy --flush under TLS, whole process, s: {under_tls}"
    ));
    report.note("whole processes are compared: the one of nbdcopy connects and ends, too, and its server runs already");
    report.figures("first copy, orglift, s", &ours);
    report.figures("first copy, orglift, replication alone, s", &ours_alone);
    report.figures("first copy, nbdcopy, s", &plain);
    report.figures("first copy, nbdcopy under TLS, s", &under_tls);
    let of_plain = ours.median() / plain.median();
    report.row(
        "first copy of 4 GiB with 0.9 GiB of data, time of that of plain nbdcopy",
        format_args!("{of_plain:.2} ×"),
        "≤ 0.7 ×",
        of_plain <= 0.7,
    );
    let faster = under_tls.median() / ours.median();
    report.row(
        "first copy of 4 GiB with 0.9 GiB of data, faster than nbdcopy under TLS",
        format_args!("{faster:.2} ×"),
        "≥ 3.5 ×",
        faster >= 3.5,
    );
    Ok(())
}

/// Seconds of the whole process, and of the replication within it.
fn replicate(lab: &Path, source: &Path, dir: &Path) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    let output = Command::new(lab)
        .arg("replicate")
        .arg("--source")
        .arg(source)
        .arg("--dir")
        .arg(dir)
        .output()
        .with_context(|| format!("cannot run {}", lab.display()))?;
    let whole = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "replication failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    // "replicated … bytes of 1 disks in 1.234 s; …"
    let alone = said
        .split_once(" in ")
        .and_then(|(_, rest)| rest.split_once(" s;"));
    let alone = alone.and_then(|(seconds, _)| seconds.parse().ok());
    Ok((
        whole,
        alone.with_context(|| format!("replication said {said:?}"))?,
    ))
}
