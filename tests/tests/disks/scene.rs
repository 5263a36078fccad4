//! A hub, a runner and the agent of one server whose disks are block devices: each a process that can be killed by
//! itself. Checkpoints are looked at where the runner keeps them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use domain::{checkpoint::CheckpointKind, ids::SourceServerId};
use lab::{
    network::Network,
    process::{Process, run},
    programs::{Program, Programs},
    wait::{Look, eventually},
    world::{
        AccountPlan, World, WorldPlan,
        api::SourceServer,
        hub::HubSettings,
        runner::{Runner, RunnerSettings},
    },
};
use protocol::exchange::ObservedCheckpoint;

use crate::place::Disk;

pub const MIB: u64 = 1 << 20;
/// What takes seconds may take this long on a busy machine.
pub const SOON: Duration = Duration::from_secs(90);
/// How many times as long a scenario goes on as it has to; `tests/nightly` says so.
pub fn factor() -> u32 {
    std::env::var("ORGLIFT_HARSH_FACTOR").map_or(1, |factor| factor.parse().unwrap())
}

/// Of each log, when a scenario fails.
const LAST_WORDS: usize = 30;

pub struct Scene {
    pub world: World,
    pub server: SourceServerId,
    agent: Option<Process>,
    account: AccountPlan,
    devices: Vec<PathBuf>,
    folder: tempfile::TempDir,
}

impl Scene {
    /// A server with these disks, whose agent is installed and does not run yet. A checkpoint is due each second.
    pub async fn of(disks: &[&Disk]) -> Self {
        Self::with_room(disks, None).await
    }

    /// All that the runner keeps is in `room`.
    pub async fn with_room(disks: &[&Disk], room: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let account = AccountPlan {
            id: "210000000001".parse().unwrap(),
            name: "production".into(),
            in_organization: true,
        };
        for name in room.map_or([].as_slice(), |_| &["cloud", "runners"]) {
            let there = room.unwrap().join(name);
            fs::create_dir(&there).unwrap();
            std::os::unix::fs::symlink(there, folder.path().join(name)).unwrap();
        }
        let plan = WorldPlan {
            dir: folder.path().to_owned(),
            programs: Programs::beside_this_test().unwrap(),
            accounts: vec![account.clone()],
            ui: ([127, 0, 0, 1], 0).into(),
            hub: HubSettings {
                checkpoint_interval_s: 1,
                ..HubSettings::default()
            },
            runner: RunnerSettings {
                with_network: true,
                ..RunnerSettings::default()
            },
        };
        let world = World::start(plan).await.unwrap();
        let devices: Vec<_> = disks.iter().map(|disk| disk.path.clone()).collect();
        let server = install(&world, &account, &devices).await.unwrap();
        Self {
            world,
            server,
            agent: None,
            account,
            devices,
            folder,
        }
    }

    pub fn start_agent(&mut self) {
        self.start_agent_with(&[], &[]);
    }

    pub fn start_agent_with(&mut self, args: &[&str], env: &[(&str, &OsStr)]) {
        let mut all: Vec<OsString> = vec!["run".into(), "--dir".into(), self.agent_dir().into()];
        all.extend(args.iter().map(OsString::from));
        let (programs, log) = (&self.world.plan.programs, self.agent_log());
        let agent = Process::start(programs, Program::Agent, "the agent", &log, all, env);
        self.agent = Some(agent.unwrap());
    }

    /// Whether the kernel lets the agent track changes; without, file systems are not frozen. Waits for the first
    /// checkpoint.
    pub async fn tracks(&self) -> bool {
        self.checkpoint_after(0).await;
        let said = self.agent_said();
        let refused = said
            .lines()
            .find(|line| line.contains("is compared for each checkpoint"));
        let Some(why) = refused else {
            return true;
        };
        eprintln!("cannot run here: frozen file systems: {why}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        false
    }

    pub fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().unwrap()
    }

    pub fn kill_agent(&mut self) {
        self.agent.take().unwrap().kill().unwrap();
    }

    pub fn agent_dir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    fn agent_log(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    pub fn runner(&self) -> &Runner {
        self.world.runner(&self.account.id).unwrap()
    }

    pub fn runner_mut(&mut self) -> &mut Runner {
        self.world.runner_mut(&self.account.id).unwrap()
    }

    pub fn network(&self) -> &Network {
        self.runner().network().unwrap()
    }

    fn runner_dir(&self) -> PathBuf {
        self.folder.path().join("runners").join(self.account.id.as_str())
    }

    pub async fn seen(&self) -> anyhow::Result<SourceServer> {
        self.world.hub.api.server(&self.account.id, &self.server).await
    }

    /// Waits until what the hub shows of the server is as `is` wants it.
    pub async fn eventually(&self, what: &str, is: impl Fn(&SourceServer) -> bool) -> SourceServer {
        let look = || async {
            let seen = self.seen().await?;
            Ok(if is(&seen) {
                Look::Seen(seen)
            } else {
                Look::NotYet(format!("{seen:?}"))
            })
        };
        eventually(what, SOON, look).await.unwrap()
    }

    /// Those that can be launched, oldest first. Needs no runner.
    pub fn checkpoints(&self) -> Vec<ObservedCheckpoint> {
        let server = self.runner_dir().join("servers").join(self.server.as_str());
        let mut found = Vec::new();
        for entry in fs::read_dir(server.join("checkpoints"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            // One may leave while they are listed.
            let Ok(text) = fs::read(&path) else { continue };
            let checkpoint: ObservedCheckpoint = serde_json::from_slice(&text).unwrap();
            if checkpoint.kind == CheckpointKind::Launchable {
                found.push(checkpoint);
            }
        }
        found.sort_by_key(|checkpoint| checkpoint.number);
        found
    }

    /// Waits for a checkpoint after `number`: the next if there is one, and the newest of several.
    pub async fn checkpoint_after(&self, number: u64) -> ObservedCheckpoint {
        let look = || async {
            let newest = self.checkpoints().pop();
            if let Some(newest) = newest.filter(|newest| newest.number.0 > number) {
                return Ok(Look::Seen(newest));
            }
            Ok(Look::NotYet(format!(
                "{:?}",
                self.seen().await?.data_replication_info
            )))
        };
        let what = format!("a checkpoint after {number}");
        eventually(&what, SOON, look).await.unwrap()
    }

    /// Waits for a checkpoint that was begun from now on.
    pub async fn next_checkpoint(&self) -> ObservedCheckpoint {
        let now = chrono::Utc::now().timestamp_millis();
        let look = || async {
            let newest = self.checkpoints().pop();
            if let Some(newest) = newest.filter(|newest| newest.taken_at_ms >= now) {
                return Ok(Look::Seen(newest));
            }
            Ok(Look::NotYet(format!(
                "{:?}",
                self.seen().await?.data_replication_info
            )))
        };
        eventually("a checkpoint is taken", SOON, look).await.unwrap()
    }

    /// Writes a checkpoint's disks as images into `to`, in the order in which the scene was given them. `None` if the
    /// checkpoint has left meanwhile.
    pub async fn export(&self, checkpoint: &ObservedCheckpoint, to: &Path) -> Option<Vec<PathBuf>> {
        fs::create_dir_all(to).unwrap();
        let mut images = Vec::new();
        for (number, device) in self.devices.iter().enumerate() {
            let image = to.join(format!("disk-{number}.raw"));
            let mut args: Vec<OsString> =
                vec!["export".into(), "--server".into(), self.server.as_str().into()];
            args.extend(["--checkpoint".into(), checkpoint.number.to_string().into()]);
            args.extend([
                "--disk".into(),
                device.into(),
                "--to".into(),
                image.clone().into(),
            ]);
            args.extend(["--dir".into(), self.runner_dir().into()]);
            match run(&self.world.plan.programs, Program::Runner, args, &[]).await {
                Ok(_) => images.push(image),
                Err(error) if error.to_string().contains("has no checkpoint") => return None,
                Err(error) => panic!("{error:#}"),
            }
        }
        Some(images)
    }

    /// What the agent logged so far.
    pub fn agent_said(&self) -> String {
        fs::read_to_string(self.agent_log()).unwrap_or_default()
    }

    /// A checkpoint from now on holds what the disks hold. Nobody may write to them.
    pub async fn ends_equal(&self, to: &Path) {
        rustix::fs::sync();
        let checkpoint = self.next_checkpoint().await;
        let images = self.export(&checkpoint, to).await.unwrap();
        let difference = lab::source::compare::first_difference_of_all(&self.devices, &images).unwrap();
        assert_eq!(difference, None, "checkpoint {}", checkpoint.number);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let logs = [self.runner_dir().join("log.txt"), self.agent_log()];
        for log in logs {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
            eprintln!("--- {}\n{}", log.display(), last.join("\n"));
        }
    }
}

async fn install(
    world: &World,
    account: &AccountPlan,
    devices: &[PathBuf],
) -> anyhow::Result<SourceServerId> {
    let runner = world.runner(&account.id)?;
    let token = OsString::from(world.hub.api.token(&account.id, "agent").await?);
    let devices: Vec<_> = devices
        .iter()
        .map(|device| device.display().to_string())
        .collect();
    let mut args = vec![
        "install".into(),
        "--dir".into(),
        OsString::from(world.plan.dir.join("agent")),
    ];
    for (name, value) in [
        ("--runner", runner.listening().enrol.to_string()),
        ("--data-port", runner.data_port().to_string()),
        ("--devices", devices.join(",")),
    ] {
        args.extend([name.into(), value.into()]);
    }
    args.push("--no-prompt".into());
    let env = [("ORGLIFT_TOKEN", token.as_os_str())];
    let said = run(&world.plan.programs, Program::Agent, args, &env).await?;
    let mut words = said
        .split_whitespace()
        .map(|word| word.trim_end_matches(['.', ',']));
    words
        .find_map(|word| word.parse().ok())
        .with_context(|| format!("the installer named no source server:\n{said}"))
}
