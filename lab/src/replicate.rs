//! `orglift-lab replicate`: one server's disks through agent, runner and layers, without a hub.
//!
//! ```text
//! DIR/authority/   a throwaway certificate authority, and who we are under it
//!     agent/  runner/  snapshots/
//! ```
//!
//! For measuring, and for tests that are hard on disks. Agent and runner are the real ones and speak over
//! loopback; killed at any moment, the next run goes on from the last committed checkpoint.
//!
//! With `--ask`, the standard output has one line of JSON, an [`Answer`], for the first checkpoint and then for
//! each line on the standard input. The end of the input ends the run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use agent::{
    checkpoint::guard::GuardProgram,
    config::{Config, DiskChoice},
    disks::{Roots, discover},
    layout::Layout,
    session::{Pace, roster::chosen},
};
use anyhow::{Context, bail};
use cloud::layers::LayerStore;
use domain::{
    checkpoint::CheckpointKind,
    disk::DiskId,
    ids::{RunnerId, SourceServerId},
    replication_configuration::CHECKPOINTS_KEPT_USUALLY,
    source_server::ReplicationIntent,
};
use identity::{Authority, Credentials, NewKey, Role};
use member_runner::{Converting, Runner, RunnerConfig};
use protocol::exchange::{Desired, DesiredServer, Observed, ObservedCheckpoint};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    process::Process,
    programs::{Program, Programs},
    world::{read_json, write_json},
};

/// Between two checkpoints while following.
const FOLLOW_EVERY_S: u32 = 1;
/// Not within a run that does not follow.
const NEVER_S: u32 = 24 * 3600;

#[derive(Debug)]
pub struct Replicate {
    pub sources: Vec<PathBuf>,
    pub dir: PathBuf,
    pub after_first: AfterFirst,
    /// The agent in a process of its own, as on a server, and not in this one.
    pub agent_apart: bool,
    /// Where to write the disks of the last checkpoint, in the order of the sources.
    pub export: Vec<PathBuf>,
}

/// What happens once the first checkpoint is there.
#[derive(Debug, Clone, Copy)]
pub enum AfterFirst {
    Stop,
    /// Keep taking checkpoints for so long.
    Follow(Duration),
    /// Take one for each line on the standard input.
    Ask,
}

/// What became of one checkpoint that was asked for.
#[derive(Debug, Serialize)]
struct Answer {
    number: u64,
    consistency: &'static str,
    /// From the moment it was wanted until nothing of it could be lost any more.
    durable_seconds: f64,
    /// And until it could be launched.
    launchable_seconds: f64,
    /// For how long file systems stood still.
    frozen_seconds: f64,
    /// Payload that the runner received for it.
    received_bytes: u64,
}

/// `replicate.json`: who we are, over restarts.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    server: SourceServerId,
    runner: RunnerId,
    /// The last checkpoint that was asked for.
    request: u64,
}

impl Replicate {
    pub async fn run(self) -> anyhow::Result<()> {
        if !self.export.is_empty() && self.export.len() != self.sources.len() {
            bail!("--export must be given once for each --source");
        }
        let dir = std::path::absolute(&self.dir).context("cannot find the folder")?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut kept = open(&dir)?;
        let disks = discover::named(&Roots::default(), &self.sources)?;
        let bytes: u64 = disks.iter().map(|disk| disk.disk.bytes).sum();
        let ids: Vec<_> = disks.iter().map(|disk| disk.disk.id.clone()).collect();
        let store = LayerStore::open(dir.join("snapshots"))?;
        let (wanted, desired) = watch::channel(Desired::default());
        let credentials = credentials(&dir, "runner")?;
        let runner = Runner::start(RunnerConfig {
            dir: dir.join("runner"),
            credentials,
            store: Arc::new(store.clone()),
            data: TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?,
            desired,
            scrub_bytes_per_second: None,
            index: None,
            converting: Converting::never(),
        })
        .await?;
        let layout = Layout::new(dir.join("agent"));
        layout.create()?;
        let config = Config {
            runner_host: "127.0.0.1".into(),
            data_port: runner.data_address().port(),
            choice: DiskChoice::Named,
            disks: disks.iter().map(chosen).collect(),
            tags: std::collections::BTreeMap::default(),
        };
        config.save(&layout)?;

        let began = Instant::now();
        let interval = match self.after_first {
            AfterFirst::Follow(_) => FOLLOW_EVERY_S,
            AfterFirst::Stop | AfterFirst::Ask => NEVER_S,
        };
        let mut checkpoints = Checkpoints::new(runner.observed(), self.after_first);
        kept.ask(&dir, &wanted, interval)?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if self.agent_apart {
            tasks.spawn(watch_over(start_agent(&layout)?, stop.clone()));
        } else {
            let (agent, mut config) = agent::run::load(
                layout,
                Roots::default(),
                Pace::default(),
                Some(GuardProgram::this()),
            )?;
            let stopping = stop.clone();
            tasks.spawn(async move { agent::run::replicate(&agent, &mut config, &stopping).await });
        }

        let work = async {
            if let AfterFirst::Ask = self.after_first {
                checkpoints.answer(kept.request, began).await?;
                let mut asked = lines_of_input();
                while asked.recv().await.is_some() {
                    let wanted_at = Instant::now();
                    kept.ask(&dir, &wanted, NEVER_S)?;
                    checkpoints.answer(kept.request, wanted_at).await?;
                }
                return Ok(());
            }
            checkpoints.until(kept.request, began).await?;
            let first = began.elapsed();
            println!(
                "replicated {bytes} bytes of {} disks in {:.3} s; the store takes up {} bytes",
                ids.len(),
                first.as_secs_f64(),
                taken_up(store.path())?
            );
            if let AfterFirst::Follow(follow) = self.after_first {
                checkpoints.during(follow, began).await?;
                // What was written until now is in the last checkpoint.
                kept.ask(&dir, &wanted, NEVER_S)?;
                checkpoints.until(kept.request, began).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            done = work => done?,
            Some(ended) = tasks.join_next() => {
                ended.context("the agent panicked")??;
                bail!("the agent ended");
            }
            _ = tokio::signal::ctrl_c() => bail!("stopped; run it again to go on"),
        }
        stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.context("the agent panicked")??;
        }
        runner.stop().await;
        let last = checkpoints.last.context("no checkpoint was committed")?;
        println!("last checkpoint {} ({})", last.number, last.consistency.name());
        export(&store, &last, ids.iter().zip(&self.export))
    }
}

/// The agent in a process that ends with this thread, the program's first.
fn start_agent(layout: &Layout) -> anyhow::Result<Process> {
    let args = ["run".as_ref(), "--dir".as_ref(), layout.dir().as_os_str()];
    Process::start(
        &Programs::this_one()?,
        Program::Agent,
        "the agent",
        &layout.dir().join("log.txt"),
        args,
        &[],
    )
}

/// Ends when the agent does, with its last words, or ends it.
async fn watch_over(mut agent: Process, stop: CancellationToken) -> anyhow::Result<()> {
    let mut look = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                agent.terminate().await?;
                return Ok(());
            }
            _ = look.tick() => if let Some(status) = agent.ended()? {
                bail!("the agent ended, {status}:\n{}", agent.last_words());
            },
        }
    }
}

/// The lines of the standard input, without their text.
fn lines_of_input() -> mpsc::Receiver<()> {
    let (line_came, lines) = mpsc::channel(1);
    // Not a task: nothing ends the reading of a terminal, and the program must be able to end all the same.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || line_came.blocking_send(()).is_err() {
                return;
            }
        }
    });
    lines
}

/// Checkpoints as the runner commits them, each printed once.
struct Checkpoints {
    observed: watch::Receiver<Observed>,
    after_first: AfterFirst,
    last: Option<ObservedCheckpoint>,
}

impl Checkpoints {
    /// Those of earlier runs count as printed.
    fn new(mut observed: watch::Receiver<Observed>, after_first: AfterFirst) -> Self {
        let last = launchable(&observed.borrow_and_update()).last().cloned();
        Self {
            observed,
            after_first,
            last,
        }
    }

    /// Waits for the checkpoint that answers `request`, and prints what became of it as JSON.
    async fn answer(&mut self, request: u64, wanted_at: Instant) -> anyhow::Result<()> {
        let durable = |seen: &Observed| {
            seen.servers
                .iter()
                .any(|server| server.durable_request >= request)
        };
        self.observed
            .wait_for(durable)
            .await
            .context("the runner ended")?;
        let durable_seconds = wanted_at.elapsed().as_secs_f64();
        self.until(request, wanted_at).await?;
        let last = self.last.as_ref().context("no checkpoint was committed")?;
        let answer = Answer {
            number: last.number.0,
            consistency: last.consistency.name(),
            durable_seconds,
            launchable_seconds: wanted_at.elapsed().as_secs_f64(),
            frozen_seconds: Duration::from_millis(last.frozen_ms.into()).as_secs_f64(),
            received_bytes: last.received_bytes,
        };
        println!("{}", serde_json::to_string(&answer)?);
        Ok(())
    }

    /// Until a launchable checkpoint answers `request`.
    async fn until(&mut self, request: u64, began: Instant) -> anyhow::Result<()> {
        loop {
            self.take_up(began);
            if self.last.as_ref().is_some_and(|last| last.request >= request) {
                return Ok(());
            }
            self.observed.changed().await.context("the runner ended")?;
        }
    }

    async fn during(&mut self, time: Duration, began: Instant) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + time;
        loop {
            self.take_up(began);
            match tokio::time::timeout_at(end, self.observed.changed()).await {
                Ok(changed) => changed.context("the runner ended")?,
                Err(_) => return Ok(()),
            }
        }
    }

    fn take_up(&mut self, began: Instant) {
        let observed = self.observed.borrow_and_update();
        let known = self.last.as_ref().map(|last| last.number);
        let new = launchable(&observed).filter(|checkpoint| Some(checkpoint.number) > known);
        for checkpoint in new {
            if !matches!(self.after_first, AfterFirst::Ask) {
                println!(
                    "checkpoint {} ({}) at {:.3} s",
                    checkpoint.number,
                    checkpoint.consistency.name(),
                    began.elapsed().as_secs_f64()
                );
            }
            self.last = Some(checkpoint.clone());
        }
    }
}

fn launchable(observed: &Observed) -> impl Iterator<Item = &ObservedCheckpoint> {
    let all = observed.servers.iter().flat_map(|server| &server.checkpoints);
    all.filter(|checkpoint| checkpoint.kind == CheckpointKind::Launchable)
}

impl Kept {
    /// Wants replication, and a checkpoint that is taken from now on.
    fn ask(&mut self, dir: &Path, wanted: &watch::Sender<Desired>, interval_s: u32) -> anyhow::Result<()> {
        self.request += 1;
        write_json(&dir.join("replicate.json"), self)?;
        wanted.send_replace(Desired {
            generation: self.request,
            servers: vec![DesiredServer {
                id: self.server.clone(),
                replication: ReplicationIntent::Run,
                checkpoint_request: self.request,
                checkpoint_interval_s: interval_s,
                checkpoints_kept: CHECKPOINTS_KEPT_USUALLY,
                bandwidth: domain::bandwidth::Bandwidth::default(),
                retry_request: 0,
                pinned: Vec::new(),
                conversion: None,
            }],
            revoked_serials: Vec::new(),
        });
        Ok(())
    }
}

/// Takes up what an earlier run left, or makes an authority and two identities.
fn open(dir: &Path) -> anyhow::Result<Kept> {
    let file = dir.join("replicate.json");
    if let Some(kept) = read_json(&file)? {
        return Ok(kept);
    }
    let kept = Kept {
        server: SourceServerId::from_entropy(rand::random()),
        runner: RunnerId::from_entropy(rand::random()),
        request: 0,
    };
    let authority = Authority::generate("Orglift lab")?;
    let identities = [
        (Role::Runner(kept.runner.clone()), credentials_dir(dir, "runner")),
        (Role::Agent(kept.server.clone()), credentials_dir(dir, "agent")),
    ];
    for (role, folder) in identities {
        let key = NewKey::generate()?;
        let signed = authority.sign(&key.csr_pem()?, &role)?;
        key.certified(signed.certificate_pem, authority.certificate_pem().to_owned())
            .save(&folder)?;
    }
    // Last: with it, everything is there.
    write_json(&file, &kept)?;
    Ok(kept)
}

fn credentials_dir(dir: &Path, who: &str) -> PathBuf {
    match who {
        "agent" => Layout::new(dir.join("agent")).credentials(),
        other => dir.join(other).join("identity"),
    }
}

fn credentials(dir: &Path, who: &str) -> anyhow::Result<Credentials> {
    let folder = credentials_dir(dir, who);
    Credentials::load(&folder)?.with_context(|| format!("{} holds no identity", folder.display()))
}

/// Writes disks of a checkpoint as raw images.
fn export<'a>(
    store: &LayerStore,
    checkpoint: &ObservedCheckpoint,
    wanted: impl Iterator<Item = (&'a DiskId, &'a PathBuf)>,
) -> anyhow::Result<()> {
    for (id, file) in wanted {
        let disk = checkpoint.disks.iter().find(|disk| disk.disk == *id);
        let disk = disk.with_context(|| format!("the checkpoint has no disk {id}"))?;
        let mut image =
            fs::File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
        let snapshot = cloud::snapshots::SnapshotId(disk.snapshot.clone());
        store.copy_to(&snapshot, &mut image)?;
        println!("exported {} to {}", disk.device_name, file.display());
    }
    Ok(())
}

/// Bytes that the files of a folder take up on disk; holes take up nothing.
fn taken_up(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut blocks = 0;
    for entry in entries.flatten() {
        // A file may leave while it is counted.
        blocks += entry.metadata().map_or(0, |metadata| metadata.blocks());
    }
    Ok(blocks * 512)
}
