//! `orglift-lab`: the main job from start to end, in all accounts at once.
//!
//! Enrol, replicate, test-launch, mark as ready, cut over, finalize; then compare every target with its
//! source, look for what was left behind, and report. Interrupted, it goes on where it was.

pub mod display;
pub mod journey;
pub mod options;
pub mod report;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, bail};
use cloud::folder::machines::Instances;
use tokio::task::JoinSet;

use self::{
    display::Display,
    journey::Journey,
    options::{Choice, Shape},
    report::{Report, Row},
};
use crate::{
    programs::Programs,
    world::{
        AccountPlan, World, WorldPlan,
        hub::{HubSettings, USER},
        machines::Machines,
        runner::RunnerSettings,
        server::Server,
    },
};

const USUAL_PORT: u16 = 8080;

#[derive(Debug, Clone)]
pub struct Demo {
    pub dir: PathBuf,
    pub choice: Choice,
    /// The console's port; the usual one, or any, if absent.
    pub port: Option<u16>,
    pub instances: Instances,
    /// Exit when finished.
    pub once: bool,
    /// Nothing is launched by itself.
    pub by_hand: bool,
    pub json: Option<PathBuf>,
}

impl Demo {
    pub async fn run(self) -> anyhow::Result<()> {
        let shape = options::open_folder(&self.dir, &self.choice)?;
        let _only = options::lock(&self.dir).await?;
        let dir = std::path::absolute(&self.dir).context("cannot find the lab's folder")?;
        println!("Orglift lab in {}: {shape}", dir.display());
        let plan = WorldPlan {
            dir,
            programs: Programs::this_one()?,
            accounts: shape.accounts(),
            ui: console_address(self.port)?,
            hub: HubSettings::default(),
            runner: RunnerSettings::default(),
        };
        let world = Arc::new(World::start(plan).await?);
        println!("Console: {}", sign_in(&world));
        let machines = self.machines(&world).await?;
        let report = migrate(&world, &shape, self.by_hand).await?;
        let finished = match report {
            Some(report) => self.show(report, &world).await,
            None => self.stopped(),
        };
        if let Some(machines) = machines {
            machines.stop().await?;
        }
        let world = Arc::into_inner(world).context("a journey still holds the world")?;
        world.stop().await?;
        finished
    }

    /// Machines for the instances, if they are wanted and can be had. Without them the lab goes on.
    async fn machines(&self, world: &World) -> anyhow::Result<Option<Machines>> {
        if self.instances == Instances::Booted {
            let places = world.plan.accounts.iter().map(AccountPlan::place).collect();
            match Machines::start(&world.cloud, places).await {
                Ok(machines) => return Ok(Some(machines)),
                Err(error) => println!("Instances are not booted: {error}"),
            }
        }
        // An earlier lab in this folder may have booted them.
        let recorded = world.cloud.set_instances(Instances::Recorded);
        recorded.context("cannot note that instances do not boot")?;
        Ok(None)
    }

    fn stopped(&self) -> anyhow::Result<()> {
        println!("Stopped. Run it again to go on.");
        if self.once {
            bail!("it was stopped before every server had arrived");
        }
        Ok(())
    }

    async fn show(&self, report: Report, world: &World) -> anyhow::Result<()> {
        print!("\n{report}");
        if let Some(file) = &self.json {
            report.save(file)?;
        }
        if !self.once {
            println!("\nThe console stays up: {}\nCtrl-C ends it.", sign_in(world));
            tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
        }
        if !report.is_good() {
            bail!("not every server arrived equal and without leaving anything behind");
        }
        Ok(())
    }
}

/// All servers at once, each on its own journey. One that fails does not stop the others; Ctrl-C stops all,
/// and then there is no report.
async fn migrate(world: &Arc<World>, shape: &Shape, by_hand: bool) -> anyhow::Result<Option<Report>> {
    let display = Display::new();
    let mut journeys = JoinSet::new();
    for (plan, account) in shape.servers() {
        let line = display.line(&plan.name, &account.name);
        let (programs, servers) = (world.plan.programs.clone(), world.servers());
        // Disks of some size take a while to make.
        let server = tokio::task::spawn_blocking(move || Server::prepare(&programs, &servers, plan));
        let world = world.clone();
        journeys.spawn(async move {
            let server = server.await.context("a disk could not be made")??;
            Journey::new(world, server, account, line, by_hand).run().await
        });
    }
    let mut rows: Vec<Row> = Vec::new();
    loop {
        tokio::select! {
            ended = journeys.join_next() => match ended {
                Some(row) => rows.push(row.context("a journey panicked")??),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => {
                journeys.shutdown().await;
                return Ok(None);
            }
        }
    }
    rows.sort_by(|a, b| (&a.account, &a.name).cmp(&(&b.account, &b.name)));
    Report::of(world, rows).await.map(Some)
}

pub(crate) fn sign_in(world: &World) -> String {
    format!(
        "{}   sign in as {USER} with {}",
        world.hub.console(),
        world.hub.password()
    )
}

pub(crate) fn console_address(port: Option<u16>) -> anyhow::Result<SocketAddr> {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    match port {
        Some(port) => {
            TcpListener::bind(at(port))
                .with_context(|| format!("port {port} is not free; choose another --port"))?;
            Ok(at(port))
        }
        None if TcpListener::bind(at(USUAL_PORT)).is_ok() => Ok(at(USUAL_PORT)),
        None => Ok(at(0)),
    }
}
