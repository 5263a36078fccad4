//! `orglift-lab --debian`: a real Debian server on old hardware moves.
//!
//! ```text
//! DIR/move.json                         what has come of it so far (`record`)
//!     source/                           the source server: disk.raw, key, console.txt
//!     evidence/test|cutover|unconverted console text and screenshots
//!     world/                            hub, runners, accounts as folders (`world`)
//! ```
//!
//! The server is QEMU's with IDE and e1000; the agent runs inside it. The instances are QEMU's with NVMe and virtio-net, and
//! their disks are what a runner converted.

pub mod disk;
pub mod journey;
pub mod record;
pub mod source;
pub mod ssh;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};

use self::{disk::Debian, journey::Journey, record::Record};
use crate::{
    demo::{console_address, display::Display, options, sign_in},
    programs::Programs,
    world::{
        AccountPlan, World, WorldPlan, hub::HubSettings, machines::Machines, runner::RunnerSettings,
        write_json,
    },
};

#[derive(Debug, Clone)]
pub struct Move {
    pub dir: PathBuf,
    /// The console's port; the usual one, or any, if absent.
    pub port: Option<u16>,
    /// Exit when finished.
    pub once: bool,
    pub json: Option<PathBuf>,
}

impl Move {
    pub async fn run(self) -> anyhow::Result<()> {
        if let Some(reason) = Debian::is_impossible() {
            bail!("{reason}");
        }
        open_folder(&self.dir)?;
        let _only = options::lock(&self.dir).await?;
        let dir = std::path::absolute(&self.dir).context("cannot find the lab's folder")?;
        println!(
            "Orglift lab in {}: a Debian server on old hardware moves",
            dir.display()
        );
        let plan = WorldPlan {
            dir: dir.join("world"),
            programs: Programs::this_one()?,
            accounts: accounts(),
            ui: console_address(self.port)?,
            hub: HubSettings {
                // As the product has it: a checkpoint is there for longer than its launch takes.
                checkpoint_interval_s: 600,
                checkpoint_deadline_s: 300,
                ..HubSettings::default()
            },
            runner: RunnerSettings {
                inspects: true,
                address: source::HOST.into(),
                ..RunnerSettings::default()
            },
        };
        let mut record = Record::open(&dir, &plan.accounts)?;
        record.save()?;
        let world = Arc::new(World::start(plan).await?);
        println!("Console: {}", sign_in(&world));
        let places = world.plan.accounts.iter().map(AccountPlan::place).collect();
        let machines = Machines::start(&world.cloud, places).await?;
        let moved = tokio::select! {
            moved = travel(world.clone(), &mut record) => Some(moved),
            _ = tokio::signal::ctrl_c() => None,
        };
        let finished = match moved {
            Some(moved) => {
                record.trouble = moved.err().map(|error| format!("{error:#}"));
                self.show(&record, &world).await
            }
            None => Err(anyhow::anyhow!("it was stopped; run it again to go on")),
        };
        machines.stop().await?;
        let world = Arc::into_inner(world).context("the journey still holds the world")?;
        world.stop().await?;
        finished
    }

    async fn show(&self, record: &Record, world: &World) -> anyhow::Result<()> {
        record.save()?;
        print!("\n{record}");
        if let Some(file) = &self.json {
            write_json(file, &record.report()?)?;
        }
        if !self.once {
            if let Some(arrived) = &record.cutover.arrived {
                println!("\nThe server that moved: {}", arrived.http);
            }
            println!("The console stays up: {}\nCtrl-C ends it.", sign_in(world));
            tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
        }
        if !record.is_good() {
            bail!("the server did not move as it should");
        }
        Ok(())
    }
}

/// The disk is made, the server runs, and it moves; in the end it is switched off.
async fn travel(world: Arc<World>, record: &mut Record) -> anyhow::Result<()> {
    let display = Display::new();
    let line = Arc::new(display.line("old-debian", "the source server"));
    let mut journey = Journey {
        source_folder: record.folder.join("source"),
        source: None,
        world,
        record,
        line: line.clone(),
    };
    if !journey.record.cutover.ended {
        journey.switch_on().await?;
    }
    let moved = journey.run().await;
    journey.switch_off().await?;
    line.finish(if moved.is_ok() { "done" } else { "it failed" });
    moved
}

/// The test's, and the one for good.
fn accounts() -> Vec<AccountPlan> {
    let account = |id: &str, name: &str| AccountPlan {
        id: id.parse().expect("twelve digits"),
        name: name.into(),
        in_organization: true,
    };
    vec![
        account("210000000001", "sandbox"),
        account("210000000002", "production"),
    ]
}

/// Makes the lab's folder, or finds one of this kind.
fn open_folder(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    if !Record::is_in(dir) && entries.next().is_some() {
        bail!(
            "{} is not empty and holds no lab of a Debian server; choose another --dir",
            dir.display()
        );
    }
    Ok(())
}
