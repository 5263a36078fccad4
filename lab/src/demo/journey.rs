//! One source server's way from a running machine to a finished cutover.
//!
//! Each round looks at the life cycle that the hub shows and does the next thing, so that it does not
//! matter where an earlier run was interrupted.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use cloud::{Cloud, control::SERVER_TAG};
use domain::ids::SourceServerId;

use super::{
    display::Line,
    report::{Row, left_behind},
};
use crate::{
    wait::{Look, eventually},
    world::{
        AccountPlan, World,
        api::{Api, Job, SourceServer},
        read_json,
        server::Server,
        write_json,
    },
};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing changes for this long: something is wrong, and a person should look.
const PATIENCE: Duration = Duration::from_mins(3);
const CLEAN_WITHIN: Duration = Duration::from_mins(1);
/// Three jobs lead to the end; a few more may be needed when some fail.
const ORDERS_MAX: u32 = 6;

#[derive(Debug)]
pub struct Journey {
    world: Arc<World>,
    api: Api,
    server: Server,
    account: AccountPlan,
    line: Line,
    orders: u32,
    /// Somebody else orders what is done.
    by_hand: bool,
    clock: Clock,
}

/// How long the journey took, over interruptions: `seconds` in the server's folder.
#[derive(Debug)]
struct Clock {
    file: PathBuf,
    before: f64,
    began: Instant,
    noted: f64,
}

impl Clock {
    fn go_on(folder: &Path) -> Self {
        let file = folder.join("seconds");
        let before = fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            file,
            before: before.unwrap_or(0.0),
            began: Instant::now(),
            noted: 0.0,
        }
    }

    fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    /// Remembers the time, to a second.
    fn note(&mut self) -> anyhow::Result<()> {
        let now = self.seconds();
        if now > self.noted + 1.0 {
            fs::write(&self.file, format!("{now:.1}\n")).context("cannot note the time")?;
            self.noted = now;
        }
        Ok(())
    }
}

impl Journey {
    pub fn new(world: Arc<World>, server: Server, account: AccountPlan, line: Line, by_hand: bool) -> Self {
        Self {
            api: world.hub.api.clone(),
            clock: Clock::go_on(server.dir()),
            world,
            server,
            account,
            line,
            orders: 0,
            by_hand,
        }
    }

    /// To the end, or as far as it gets; how far is in the row.
    pub async fn run(mut self) -> anyhow::Result<Row> {
        let row_file = self.server.dir().join("row.json");
        let earlier: Option<Row> = read_json(&row_file)?;
        let outcome = self.travel().await;
        let mut row = self.row().await?;
        row.trouble = outcome.err().map(|error| format!("{error:#}"));
        if let Some(finished) = earlier.filter(|earlier| earlier.trouble.is_none()) {
            row.seconds = finished.seconds;
        }
        write_json(&row_file, &row)?;
        self.line.finish(row.trouble.as_deref().unwrap_or("done"));
        Ok(row)
    }

    async fn travel(&mut self) -> anyhow::Result<()> {
        let id = self.enrol().await?;
        self.api.launch_disks_as_they_are(&id).await?;
        self.server.start_workload()?;
        let mut last_change = (String::new(), Instant::now());
        loop {
            self.clock.note()?;
            let seen = self.look(&id).await?;
            let now = format!("{seen:?}");
            if now != last_change.0 {
                last_change = (now, Instant::now());
            }
            if !self.by_hand && last_change.1.elapsed() > PATIENCE {
                bail!("nothing has changed for {PATIENCE:?}: {}", last_change.0);
            }
            if self.next(&id, &seen).await? {
                break;
            }
        }
        self.wait_until_clean(&id).await
    }

    async fn enrol(&mut self) -> anyhow::Result<SourceServerId> {
        if let Some(id) = self.server.id() {
            return Ok(id);
        }
        self.line.step("enrol");
        let token = self.api.token(&self.account.id, "agent").await?;
        self.server
            .install(self.world.runner(&self.account.id)?, &token)
            .await
    }

    async fn look(&self, id: &SourceServerId) -> anyhow::Result<SourceServer> {
        let seen = eventually("the hub shows the server", PATIENCE, || async {
            let seen = self.api.server(&self.account.id, id).await?;
            Ok(Look::Seen(seen))
        })
        .await?;
        let (done, total) = seen.data_replication_info.copied();
        self.line.progress(done, total);
        Ok(seen)
    }

    /// Does what comes next; `true` when nothing does.
    async fn next(&mut self, id: &SourceServerId, seen: &SourceServer) -> anyhow::Result<bool> {
        let state = seen.life_cycle.state.as_str();
        if state == "CUTOVER" {
            return Ok(true);
        }
        self.keep_agent_running(state)?;
        let jobs = self.jobs(id).await?;
        let newest = jobs.first();
        let is_launched = |initiated_by: &str| {
            let launched = |job: &&Job| job.initiated_by == initiated_by && job.launched(id).is_some();
            newest.as_ref().is_some_and(launched)
        };
        match state {
            _ if newest.is_some_and(|job| job.status != "COMPLETED") => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            "STOPPED" | "NOT_READY" => {
                self.line.step(&replication(seen));
                tokio::time::sleep(LOOK_EVERY).await;
            }
            waiting if self.by_hand => {
                // Its application is stopped before the cutover, as its operator would do.
                if waiting == "READY_FOR_CUTOVER" && !self.server.is_held() {
                    self.server.hold()?;
                }
                self.line.step(waiting);
                tokio::time::sleep(LOOK_EVERY).await;
            }
            "READY_FOR_TEST" => self.order("test launch", "StartTest", id).await?,
            "TESTING" if is_launched("START_TEST") => {
                self.line.step("mark as ready for cutover");
                self.api.mark_ready_for_cutover(&self.account.id, id).await?;
            }
            "READY_FOR_CUTOVER" => {
                self.server.hold()?;
                self.order("cut over", "StartCutover", id).await?;
            }
            "CUTTING_OVER" => self.order("finalize", "FinalizeCutover", id).await?,
            other => bail!(
                "{} is in state {other}, and no job leads on",
                self.server.plan.name
            ),
        }
        Ok(false)
    }

    /// The server's jobs, the newest first.
    async fn jobs(&self, id: &SourceServerId) -> anyhow::Result<Vec<Job>> {
        eventually("the hub shows the jobs", PATIENCE, || async {
            let mut jobs = self.api.jobs(&self.account.id).await?;
            jobs.retain(|job| job.participant(id).is_some());
            jobs.sort_by(|a, b| b.created_at.cmp(&a.created_at));
            Ok(Look::Seen(jobs))
        })
        .await
    }

    /// Orders a job. One that failed is ordered again, a few times.
    async fn order(&mut self, step: &str, operation: &str, id: &SourceServerId) -> anyhow::Result<()> {
        self.line.step(step);
        self.orders += 1;
        if self.orders > ORDERS_MAX {
            bail!("jobs failed too often; their logs are in the console");
        }
        match operation {
            "FinalizeCutover" => self.api.server_operation(operation, &self.account.id, id).await,
            launch => self.api.launch(launch, &self.account.id, id).await.map(|_| ()),
        }
    }

    /// An agent that was told that its server is disconnected removes itself, a moment before the hub
    /// shows it.
    fn keep_agent_running(&mut self, state: &str) -> anyhow::Result<()> {
        if !self.server.has_agent() {
            return Ok(());
        }
        match self.server.agent() {
            Err(_) => self.server.start_agent(),
            Ok(agent) => match agent.ended()? {
                // While finalizing it may have been killed half-way through removing itself.
                Some(status) if !status.success() && state != "CUTTING_OVER" => {
                    bail!("the agent ended, {status}:\n{}", agent.last_words())
                }
                _ => Ok(()),
            },
        }
    }

    /// Waits until only the cutover instance and its volumes are left of the server.
    async fn wait_until_clean(&self, id: &SourceServerId) -> anyhow::Result<()> {
        self.line.step("clean up");
        let what = format!("nothing but the instance is left of {id}");
        let kept = self.kept_instance(id).await?;
        eventually(&what, CLEAN_WITHIN, || async {
            let inventory = self.world.cloud.inventory(&self.account.place()).await?;
            let left = left_behind(&self.world, &self.account, inventory, std::slice::from_ref(&kept))?;
            let ours: Vec<_> = left
                .into_iter()
                .filter(|resource| {
                    resource
                        .tags
                        .get(SERVER_TAG)
                        .is_some_and(|tag| tag == id.as_str())
                })
                .collect();
            Ok(Look::when(ours.is_empty(), &ours))
        })
        .await
    }

    async fn kept_instance(&self, id: &SourceServerId) -> anyhow::Result<String> {
        let seen = self.api.server(&self.account.id, id).await?;
        let launched = seen.launched_instance.context("no instance was launched")?;
        Ok(launched.instance)
    }

    async fn row(&self) -> anyhow::Result<Row> {
        let mut row = Row {
            server: self.server.id(),
            name: self.server.plan.name.clone(),
            account: self.account.id.clone(),
            account_name: self.account.name.clone(),
            state: "not enrolled".into(),
            source_disks: self.server.disks(),
            target_disks: Vec::new(),
            bytes: self.server.plan.disks.iter().sum(),
            seconds: self.clock.seconds(),
            checkpoint_age_s: None,
            target_equals_source: false,
            difference: None,
            instance: None,
            resources_left: 0,
            trouble: None,
        };
        let Some(id) = &row.server else { return Ok(row) };
        let seen = self.api.server(&self.account.id, id).await?;
        row.state = seen.life_cycle.state;
        let Some(launched) = seen.launched_instance else {
            return Ok(row);
        };
        let cutover = self.api.details(id).await?.launches.cutover;
        row.checkpoint_age_s = cutover.map(|launch| launch.checkpoint_age_s());
        row.target_disks = self.volumes(&launched.instance).await?;
        row.instance = Some(launched.instance);
        let (server, targets) = (self.server.plan.name.clone(), row.target_disks.clone());
        let sources = self.server.disks();
        let compare = move || crate::source::compare::first_difference_of_all(&sources, &targets);
        let compared = tokio::task::spawn_blocking(compare).await;
        let difference = compared.with_context(|| format!("comparing the disks of {server} panicked"))??;
        row.target_equals_source = difference.is_none() && self.server.is_held();
        row.difference = difference;
        Ok(row)
    }

    /// The raw images of an instance's volumes, in the order of the source's disks.
    async fn volumes(&self, instance: &str) -> anyhow::Result<Vec<PathBuf>> {
        let place = self.account.place();
        let described = self.world.cloud.instance(&place, instance).await?;
        let sources = self.server.disks();
        let order = |device: &str| {
            let at = sources.iter().position(|disk| disk.as_os_str() == device);
            at.unwrap_or(usize::MAX)
        };
        let mut volumes = described.volumes;
        volumes.sort_by_key(|volume| order(&volume.source_device));
        let folder = self.world.cloud.place(&place);
        Ok(volumes
            .iter()
            .map(|volume| folder.volume(instance, &volume.id))
            .collect())
    }
}

fn replication(seen: &SourceServer) -> String {
    let info = &seen.data_replication_info;
    match &info.data_replication_error {
        Some(error) => format!("{}: {error}", info.data_replication_state),
        None => info.data_replication_state.clone(),
    }
}
