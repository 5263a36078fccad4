//! `orglift-runner inspect` and `convert`, for people: beside the runner or without one. They read its folder and store,
//! and write neither.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use cloud::SnapshotStore;
use domain::{
    changes::ChangeList,
    checkpoint::CheckpointNumber,
    conversion::{Network, Rehearsal, RehearsalOrder},
    ids::SourceServerId,
    launch::{BootMode, Hypervisor},
    readiness::Finding,
};
use identity::Credentials;
use serde::Serialize;
use tokio::runtime::Handle;

use super::{
    clones::{Clones, Workshop},
    orders::{Convert, Edited, Inspect, Order, Rehearse, Report},
    signed,
};
use crate::{
    export::{self, Meter, Which},
    ledger::read_digests,
    machine::{CONSOLE_FILE, SCREENSHOT_FILE},
    server::{blocking, server_dir},
};

/// What is looked at or converted, and for what.
#[derive(Debug, Args)]
pub struct Subject {
    #[arg(long)]
    server: SourceServerId,
    /// Its number, or `latest`.
    #[arg(long, default_value = "latest")]
    checkpoint: Which,
    /// Decides which drivers are needed.
    #[arg(long, default_value = "m5.large")]
    instance_type: String,
    /// How the instance is started; by default, as the source was as far as its disks show.
    #[arg(long, value_enum)]
    boot_mode: Option<Firmware>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    subject: Subject,
    /// Prints the change list, and keeps nothing.
    #[arg(long)]
    dry_run: bool,
    /// A folder for the converted disks as raw images, and for the signed change list.
    #[arg(long, value_name = "FOLDER", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
    /// Boots the converted disks in QEMU, without a network, and says whether they come up.
    #[arg(long)]
    rehearse: bool,
    /// How long the machine may take to come up, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    rehearse_max: u32,
    /// How the instance gets its addresses: by DHCP, or it keeps those of the source.
    #[arg(long, value_enum, default_value_t = Addresses::Dhcp)]
    addresses: Addresses,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Addresses {
    Dhcp,
    Keep,
}

impl From<Addresses> for Network {
    fn from(addresses: Addresses) -> Self {
        match addresses {
            Addresses::Dhcp => Self::Dhcp,
            Addresses::Keep => Self::Keep,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Firmware {
    LegacyBios,
    Uefi,
}

impl From<Firmware> for BootMode {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::LegacyBios => Self::LegacyBios,
            Firmware::Uefi => Self::Uefi,
        }
    }
}

/// Says what would keep a server from booting, and changes nothing. `dir` is the runner's folder.
pub async fn inspect(subject: Subject, dir: &Path, store: Arc<dyn SnapshotStore>) -> anyhow::Result<()> {
    with_clones(subject, dir, store, |work| {
        let order = Order::Inspect(Inspect {
            boot_mode: work.boot_mode(),
            hypervisor: work.hypervisor(),
        });
        let Report::Inspected(findings) = work.order(&order)? else {
            bail!(MISUNDERSTOOD);
        };
        show_findings(&findings, work.subject.json)
    })
    .await
}

/// Converts a checkpoint, shows or keeps what came of it, and boots it if that was asked for.
pub async fn convert(args: ConvertArgs, dir: &Path, store: Arc<dyn SnapshotStore>) -> anyhow::Result<()> {
    let runner = dir.to_owned();
    let ConvertArgs {
        subject,
        dry_run,
        to,
        rehearse,
        rehearse_max,
        addresses,
    } = args;
    with_clones(subject, dir, store, move |work| {
        let began = Instant::now();
        let order = Order::Convert(Convert {
            server: work.subject.server.clone(),
            checkpoint: work.checkpoint,
            boot_mode: work.boot_mode(),
            hypervisor: work.hypervisor(),
            network: addresses.into(),
        });
        let Report::Converted(edited) = work.order(&order)? else {
            bail!(MISUNDERSTOOD);
        };
        let cost = work.clones.cost();
        let told = Told {
            seconds: began.elapsed().as_secs_f64(),
            bytes_read: cost.fetched,
            bytes_written: cost.written,
            change_list: &edited.changes,
        };
        eprintln!(
            "converted in {:.1} s: {} changes, {} MiB read, {} MiB written",
            told.seconds,
            edited.changes.changes.len(),
            told.bytes_read >> 20,
            told.bytes_written >> 20,
        );
        if let Some(to) = &to {
            keep(to, &runner, &work.clones, &edited)?;
        }
        if work.subject.json {
            println!("{}", serde_json::to_string_pretty(&told)?);
        } else if dry_run {
            print!("{}", edited.changes.text());
        }
        if rehearse {
            let order = Order::Rehearse(Rehearse {
                boot_mode: edited.boot_mode,
                machine: RehearsalOrder {
                    cpus: 2,
                    memory_mib: 2048,
                    time_limit_s: rehearse_max,
                    probe: None,
                },
            });
            let Report::Rehearsed(rehearsal) = work.order(&order)? else {
                bail!(MISUNDERSTOOD);
            };
            return show_rehearsal(&rehearsal, &work.workshop, to.as_deref());
        }
        Ok(())
    })
    .await
}

const MISUNDERSTOOD: &str = "the worker answered something else than it was asked";

/// Clones of a checkpoint that stays meanwhile.
struct Work {
    subject: Subject,
    checkpoint: CheckpointNumber,
    clones: Clones,
    workshop: Workshop,
    called_off: Arc<AtomicBool>,
}

impl Work {
    fn order(&self, order: &Order) -> anyhow::Result<Report> {
        let step = |step: &str| eprintln!("{step} …");
        match self.clones.work(order, &self.workshop, &self.called_off, step)? {
            Report::Failed { step, detail } => bail!("the step {step:?} failed: {detail}"),
            report => Ok(report),
        }
    }

    fn boot_mode(&self) -> Option<BootMode> {
        self.subject.boot_mode.map(BootMode::from)
    }

    fn hypervisor(&self) -> Hypervisor {
        Hypervisor::of(&self.subject.instance_type)
    }
}

/// Works on clones until it is done or interrupted; nothing of them stays.
async fn with_clones(
    subject: Subject,
    dir: &Path,
    store: Arc<dyn SnapshotStore>,
    work: impl FnOnce(&Work) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let held = export::hold(dir, &subject.server, subject.checkpoint)?;
    let digests = read_digests(&server_dir(dir, &subject.server), &held.checkpoint)?;
    // On a disk: what is written may be more than fits into memory.
    let folder = tempfile::Builder::new()
        .prefix("orglift-convert-")
        .tempdir_in("/var/tmp")
        .context("cannot create a folder in /var/tmp")?;
    let workshop = Workshop {
        program: std::env::current_exe().context("cannot find this program")?,
        folder: folder.path().to_owned(),
        store,
        runtime: Handle::current(),
    };
    let called_off = Arc::new(AtomicBool::new(false));
    let given = Work {
        subject,
        checkpoint: held.checkpoint.number,
        clones: Clones::of(&held.checkpoint, digests, &workshop)?,
        workshop,
        called_off: Arc::clone(&called_off),
    };
    let work = blocking(move || work(&given));
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        _ = tokio::signal::ctrl_c() => {
            called_off.store(true, Relaxed);
            work.await
        }
    }
}

/// For programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    seconds: f64,
    bytes_read: u64,
    bytes_written: u64,
    change_list: &'a ChangeList,
}

/// The images, and what an auditor is given.
fn keep(to: &Path, dir: &Path, clones: &Clones, edited: &Edited) -> anyhow::Result<()> {
    let credentials = Credentials::load(&dir.join("identity"))?
        .context("this runner is not enrolled, and has no key to sign the change list with")?;
    let mut meter = Meter::new(clones.bytes());
    for image in clones.write_images(to, |done| meter.show(done))? {
        eprintln!("{}", image.display());
    }
    signed::save(&signed::sign(&edited.changes, &credentials)?, &edited.changes, to)?;
    Ok(())
}

fn show_findings(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(findings)?);
        return Ok(());
    }
    if findings.is_empty() {
        println!("ready to boot as an instance");
    }
    for finding in findings {
        println!("{} {}: {}", finding.class.name(), finding.code, finding.text);
        if let Some(remedy) = &finding.remedy {
            println!("    {remedy}");
        }
    }
    Ok(())
}

fn show_rehearsal(rehearsal: &Rehearsal, workshop: &Workshop, to: Option<&Path>) -> anyhow::Result<()> {
    if let Some(to) = to {
        for name in [CONSOLE_FILE, SCREENSHOT_FILE] {
            let made = workshop.folder.join(name);
            if made.exists() {
                std::fs::copy(&made, to.join(name)).with_context(|| format!("cannot keep {name}"))?;
            }
        }
    }
    let seconds = u32::try_from(rehearsal.milliseconds).map_or(f64::MAX, |ms| f64::from(ms) / 1000.0);
    let said = format!(
        "{} after {seconds:.1} s ({})",
        rehearsal.verdict, rehearsal.accelerator
    );
    if rehearsal.came_up {
        eprintln!("rehearsal: it comes up: {said}");
        return Ok(());
    }
    let console = std::fs::read(workshop.folder.join(CONSOLE_FILE)).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let tail: Vec<_> = console.lines().rev().take(20).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    bail!(
        "rehearsal: it does not come up: {said}; its console ends:\n{}",
        tail.join("\n")
    )
}
