//! A checkpoint after random writes: what it costs on a small and on a large disk, against `rsync --inplace`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, ensure};
use lab::network::free_ports;

use crate::{
    disk::{PAGE, make_image, write_random_pages},
    first_copy::DISK_BYTES,
    machine::{Background, LoopDevice, run, settle},
    replica::{Answer, Replica},
    report::{Report, Samples, Setup},
};

const LARGE_DISK_BYTES: u64 = 64 << 30;
const PAGES: usize = 16_384;

/// A disk under replication.
struct Disk {
    bytes: u64,
    device: LoopDevice,
    replica: Replica,
    seconds: Samples,
    launchable_seconds: Samples,
    wire_ratio: Samples,
}

impl Disk {
    /// Its first checkpoint is taken.
    fn replicated(setup: &Setup, image: &Path, bytes: u64, export: Option<&Path>) -> anyhow::Result<Self> {
        let device = LoopDevice::over(image)?;
        let dir = setup.dir.join(format!("replica-{bytes}"));
        let mut replica = Replica::start(&setup.lab, device.path(), &dir, export)?;
        replica.answer()?;
        Ok(Self {
            bytes,
            device,
            replica,
            seconds: Samples::default(),
            launchable_seconds: Samples::default(),
            wire_ratio: Samples::default(),
        })
    }

    fn write(&self) -> anyhow::Result<()> {
        write_random_pages(self.device.path(), self.bytes, PAGES)?;
        settle();
        Ok(())
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        let Answer {
            seconds,
            launchable_seconds,
            wire_bytes,
            ..
        } = self.replica.checkpoint()?;
        self.seconds.push(seconds);
        self.launchable_seconds.push(launchable_seconds);
        self.wire_ratio.push(wire_bytes as f64 / (PAGES * PAGE) as f64);
        Ok(())
    }
}

pub fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let image = setup.dir.join("source.img");
    let large_image = setup.dir.join("large.img");
    make_image(&large_image, LARGE_DISK_BYTES, 0)?;
    let exported = setup.dir.join("exported.img");
    let mut small = Disk::replicated(setup, &image, DISK_BYTES, Some(&exported))?;
    let mut large = Disk::replicated(setup, &large_image, LARGE_DISK_BYTES, None)?;
    let rsync = Rsync::serve(setup, &image)?;
    report.note(
        "checkpoints: 16,384 random writes of 4 KiB to the device, flush, sync; then one checkpoint of it, or rsync \
         --inplace of its image; images are in the page cache, and rsync does not fsync",
    );
    let mut rsync_seconds = Samples::default();
    for _ in 0..setup.repeat {
        small.write()?;
        small.checkpoint()?;
        settle();
        rsync_seconds.push(rsync.copy()?);
        large.write()?;
        large.checkpoint()?;
    }
    small.replica.end()?;
    run("cmp", [&image, &exported]).context("the replica does not equal its source")?;
    large.replica.end()?;
    for file in [exported, large_image] {
        fs::remove_file(file)?;
    }

    for (name, samples) in [
        ("checkpoint on 4 GiB until durable, s", &small.seconds),
        ("checkpoint on 64 GiB until durable, s", &large.seconds),
        (
            "checkpoint on 4 GiB until launchable, s",
            &small.launchable_seconds,
        ),
        (
            "checkpoint on 64 GiB until launchable, s",
            &large.launchable_seconds,
        ),
        ("rsync --inplace on 4 GiB, s", &rsync_seconds),
        ("bytes on the wire per byte written, 4 GiB", &small.wire_ratio),
        ("bytes on the wire per byte written, 64 GiB", &large.wire_ratio),
    ] {
        report.note(format_args!("{name}: {samples}"));
        report.figures(name, samples);
    }
    let grows = large.seconds.median() / small.seconds.median();
    report.row(
        "checkpoint after 64 MiB of random writes, time on 64 GiB of that on 4 GiB",
        format_args!("{grows:.2} ×"),
        "0.8 to 1.2 ×",
        (0.8..=1.2).contains(&grows),
    );
    let faster = rsync_seconds.median() / small.seconds.median();
    report.row(
        "checkpoint after 64 MiB of random writes, faster than rsync --inplace on 4 GiB",
        format_args!("{faster:.1} ×"),
        "≥ 10 ×",
        faster >= 10.0,
    );
    let wire = small.wire_ratio.median().max(large.wire_ratio.median());
    report.row(
        "checkpoint after 64 MiB of random writes, bytes on the wire per byte written",
        format_args!("{wire:.2}"),
        "≤ 1.5",
        wire <= 1.5,
    );
    Ok(())
}

/// An rsync daemon that has a copy of an image already.
struct Rsync {
    _daemon: Background,
    image: PathBuf,
    target: String,
}

impl Rsync {
    fn serve(setup: &Setup, image: &Path) -> anyhow::Result<Self> {
        let module = setup.dir.join("rsync");
        fs::create_dir(&module)?;
        let name = image.file_name().context("an image has a name")?;
        let copy = module.join(name);
        run(
            "cp",
            ["--sparse=always".as_ref(), image.as_os_str(), copy.as_os_str()],
        )?;
        File::open(&copy)?.sync_all()?;
        let config = setup.dir.join("rsyncd.conf");
        let settings = format!(
            "use chroot = no\n[copy]\npath = {}\nread only = no\nuid = root\ngid = root\n",
            module.display()
        );
        fs::write(&config, settings)?;
        let [port] = free_ports()?;
        let args = [
            "--daemon".into(),
            "--no-detach".into(),
            "--address=127.0.0.1".into(),
            format!("--port={port}"),
            format!("--config={}", config.display()),
            "--log-file=/dev/null".into(),
        ];
        let daemon = Background::server(port, "rsync", args)?;
        ensure!(copy.exists(), "no copy for rsync to start from");
        Ok(Self {
            _daemon: daemon,
            image: image.to_owned(),
            target: format!("rsync://127.0.0.1:{port}/copy/"),
        })
    }

    fn copy(&self) -> anyhow::Result<f64> {
        let began = Instant::now();
        let options = ["--inplace", "--ignore-times"].map(AsRef::as_ref);
        let from_to = [self.image.as_os_str(), self.target.as_ref()];
        run("rsync", options.into_iter().chain(from_to))?;
        Ok(began.elapsed().as_secs_f64())
    }
}
