//! The scene of most scenarios: one account, a runner behind a wire that can be cut, and servers.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use cloud::{Cloud, control::ResourceKind};
use domain::ids::SourceServerId;
use lab::{
    network::Network,
    programs::Programs,
    source::compare::first_difference_of_all,
    wait::{Look, eventually},
    world::{
        AccountPlan, World, WorldPlan,
        api::SourceServer,
        hub::HubSettings,
        runner::{Runner, RunnerSettings},
        server::{Server, ServerPlan},
    },
};

pub const MIB: u64 = 1 << 20;
/// What takes seconds may take this long on a busy machine.
pub const SOON: Duration = Duration::from_mins(1);

pub struct Scene {
    pub world: World,
    pub account: AccountPlan,
    _folder: tempfile::TempDir,
}

/// A scenario that fails shows what the programs said last.
impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let dir = &self.world.plan.dir;
        let mut logs = vec![dir.join("hub/log.txt")];
        for (folder, log) in [("runners", "log.txt"), ("servers", "agent.log")] {
            let entries = std::fs::read_dir(dir.join(folder))
                .into_iter()
                .flatten()
                .flatten();
            logs.extend(entries.map(|entry| entry.path().join(log)));
        }
        for log in logs {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
            eprintln!("--- {}\n{}", log.display(), last.join("\n"));
        }
    }
}

const LAST_WORDS: usize = 25;

impl Scene {
    pub async fn new() -> Self {
        Self::with(HubSettings::default()).await
    }

    /// A world in which checkpoints are taken when they are asked for, and not otherwise.
    pub async fn without_schedule() -> Self {
        Self::with(HubSettings {
            checkpoint_interval_s: 3600,
            ..HubSettings::default()
        })
        .await
    }

    pub async fn with(hub: HubSettings) -> Self {
        Self::with_accounts(hub, vec![account("210000000001", "production")]).await
    }

    /// A world of several accounts. The scene is in the first of them.
    pub async fn with_accounts(hub: HubSettings, accounts: Vec<AccountPlan>) -> Self {
        let runner = RunnerSettings {
            with_network: true,
            ..RunnerSettings::default()
        };
        Self::with_plan(hub, runner, accounts).await
    }

    pub async fn with_plan(hub: HubSettings, runner: RunnerSettings, accounts: Vec<AccountPlan>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let account = accounts[0].clone();
        let world = World::start(WorldPlan {
            dir: folder.path().to_owned(),
            programs: Programs::beside_this_test().unwrap(),
            accounts,
            ui: ([127, 0, 0, 1], 0).into(),
            hub,
            runner,
        })
        .await
        .unwrap();
        Self {
            world,
            account,
            _folder: folder,
        }
    }

    /// A server with disks of so many bytes. Nothing is installed on it, and nothing writes.
    pub fn bare_server(&self, name: &str, disks: &[u64]) -> Server {
        let plan = ServerPlan {
            name: name.into(),
            account: self.account.id.clone(),
            disks: disks.to_vec(),
            seed: 7,
        };
        self.world.server(plan).unwrap()
    }

    /// A server that is enrolled, whose agent runs and whose application writes.
    pub async fn server(&self, name: &str, disks: &[u64]) -> Server {
        let mut server = self.bare_server(name, disks);
        let token = self.agent_token().await;
        let id = server.install(self.runner(), &token).await.unwrap();
        self.world.hub.api.launch_disks_as_they_are(&id).await.unwrap();
        server.start_workload().unwrap();
        server.start_agent().unwrap();
        server
    }

    pub async fn agent_token(&self) -> String {
        self.world.hub.api.token(&self.account.id, "agent").await.unwrap()
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

    pub async fn seen(&self, server: &Server) -> anyhow::Result<SourceServer> {
        let id = server.id().context("the server was never enrolled")?;
        self.world.hub.api.server(&self.account.id, &id).await
    }

    /// Waits until what the hub shows of a server is as `is` wants it.
    pub async fn eventually(
        &self,
        what: &str,
        server: &Server,
        is: impl Fn(&SourceServer) -> bool,
    ) -> SourceServer {
        let look = || async {
            let seen = self.seen(server).await?;
            Ok(if is(&seen) {
                Look::Seen(seen)
            } else {
                Look::NotYet(format!("{seen:?}"))
            })
        };
        eventually(what, SOON, look).await.unwrap()
    }

    pub async fn until_state(&self, server: &Server, state: &str) -> SourceServer {
        let what = format!("the life cycle is {state}");
        self.eventually(&what, server, |seen| seen.life_cycle.state == state)
            .await
    }

    pub async fn until_replication(&self, server: &Server, state: &str) -> SourceServer {
        let what = format!("replication is {state}");
        let is = |seen: &SourceServer| seen.data_replication_info.data_replication_state == state;
        self.eventually(&what, server, is).await
    }

    /// Launches a cutover instance from what the source holds now, and shows that it holds the same.
    pub async fn cuts_over_equal(&self, server: &mut Server) {
        let id = server.id().unwrap();
        self.eventually("the server can be launched", server, |seen| {
            ["READY_FOR_TEST", "READY_FOR_CUTOVER"].contains(&seen.life_cycle.state.as_str())
        })
        .await;
        if self.seen(server).await.unwrap().life_cycle.state == "READY_FOR_TEST" {
            self.world
                .hub
                .api
                .mark_ready_for_cutover(&self.account.id, &id)
                .await
                .unwrap();
        }
        server.hold().unwrap();
        let instance = self.launches("StartCutover", &id).await.unwrap();
        let difference = first_difference_of_all(&server.disks(), &self.volumes(&instance).await).unwrap();
        assert_eq!(difference, None);
    }

    /// Starts a test or a cutover, and waits for its instance.
    pub async fn launches(&self, operation: &str, id: &SourceServerId) -> anyhow::Result<String> {
        let api = &self.world.hub.api;
        let job = api.launch(operation, &self.account.id, id).await?;
        api.launched(&self.account.id, &job.id, id, SOON).await
    }

    pub async fn volumes(&self, instance: &str) -> Vec<PathBuf> {
        let place = self.account.place();
        let described = self.world.cloud.instance(&place, instance).await.unwrap();
        let folder = self.world.cloud.place(&place);
        let volume = |volume: &cloud::control::Volume| folder.volume(instance, &volume.id);
        described.volumes.iter().map(volume).collect()
    }

    /// The ids of everything of a kind that exists in the account.
    pub async fn inventory(&self, kind: ResourceKind) -> Vec<String> {
        let all = self.world.cloud.inventory(&self.account.place()).await.unwrap();
        let wanted = all.into_iter().filter(|resource| resource.kind == kind);
        wanted.map(|resource| resource.id).collect()
    }
}

/// An account of the organization.
pub fn account(id: &str, name: &str) -> AccountPlan {
    AccountPlan {
        id: id.parse().unwrap(),
        name: name.into(),
        in_organization: true,
    }
}
