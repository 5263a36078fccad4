//! A world to run in: one hub, accounts as folders, a runner in each, and source servers with agents.
//!
//! ```text
//! DIR/world.json                 what was chosen when the world was made
//!     cloud/                     the accounts (`cloud::folder`)
//!     hub/  runners/<account>/   state of the programs, log.txt in each
//!     servers/<name>/            agent/, disk-1.raw …, freeze/
//! ```
//!
//! Every program is a process of its own, and can be killed, stopped and started again where it was.

pub mod api;
pub mod hub;
mod instance_type;
pub mod machines;
pub mod on_aws;
pub mod runner;
pub mod server;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use cloud::{
    control::Place,
    folder::{
        FolderCloud,
        organization::{Organization, Trust},
    },
};
use domain::{account::ListedAccount, ids::AccountId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::{
    hub::{Hub, HubSettings},
    runner::{Runner, RunnerSettings},
    server::{Server, ServerPlan},
};
use crate::programs::Programs;

pub const REGION: &str = "eu-central-1";

/// An account of the world, and on which way the hub learns of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountPlan {
    pub id: AccountId,
    pub name: String,
    /// `false`: a tenant of its own, which no organization lists.
    pub in_organization: bool,
}

impl AccountPlan {
    pub fn place(&self) -> Place {
        Place::direct(self.id.clone(), REGION)
    }
}

/// What a program is told of its cloud, or of its snapshot store: a name, and an environment.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub name: OsString,
    pub env: Vec<(&'static str, OsString)>,
}

impl Told {
    fn folder(kind: &str, folder: &Path) -> Self {
        let mut name = OsString::from(kind);
        name.push(folder);
        Self {
            name,
            env: Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct WorldPlan {
    pub dir: PathBuf,
    pub programs: Programs,
    pub accounts: Vec<AccountPlan>,
    /// Where the console listens the first time.
    pub ui: SocketAddr,
    pub hub: HubSettings,
    pub runner: RunnerSettings,
}

#[derive(Debug)]
pub struct World {
    pub plan: WorldPlan,
    pub cloud: FolderCloud,
    pub hub: Hub,
    pub runners: BTreeMap<AccountId, Runner>,
}

impl WorldPlan {
    fn cloud_dir(&self) -> PathBuf {
        self.dir.join("cloud")
    }
}

impl World {
    /// Starts the world in its folder, or takes up what is there.
    pub async fn start(plan: WorldPlan) -> anyhow::Result<Self> {
        fs::create_dir_all(&plan.dir).with_context(|| format!("cannot create {}", plan.dir.display()))?;
        let cloud = FolderCloud::open(plan.cloud_dir());
        make_accounts(&cloud, &plan.accounts)?;
        let hub = Hub::start(
            &plan.programs,
            &plan.dir.join("hub"),
            Told::folder("folder:", cloud.root()),
            plan.ui,
            &plan.hub,
        )
        .await?;
        hub.know_accounts(&plan.accounts).await?;
        let mut runners = BTreeMap::new();
        for account in &plan.accounts {
            let dir = plan.dir.join("runners").join(account.id.as_str());
            let store = Told::folder("layers:", &cloud.place(&account.place()).snapshots());
            let runner = Runner::start(&plan.programs, &dir, store, account, &hub, &plan.runner).await?;
            runners.insert(account.id.clone(), runner);
        }
        Ok(Self {
            plan,
            cloud,
            hub,
            runners,
        })
    }

    pub fn runner(&self, account: &AccountId) -> anyhow::Result<&Runner> {
        self.runners
            .get(account)
            .with_context(|| format!("there is no runner in account {account}"))
    }

    pub fn runner_mut(&mut self, account: &AccountId) -> anyhow::Result<&mut Runner> {
        self.runners
            .get_mut(account)
            .with_context(|| format!("there is no runner in account {account}"))
    }

    /// A source server with its disks, not enrolled yet unless it was in an earlier run.
    pub fn server(&self, plan: ServerPlan) -> anyhow::Result<Server> {
        Server::prepare(&self.plan.programs, &self.servers(), plan)
    }

    /// The folder of the source servers.
    pub fn servers(&self) -> PathBuf {
        self.plan.dir.join("servers")
    }

    /// Asks every program to end, and waits.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for runner in self.runners.values_mut() {
            runner.terminate().await?;
        }
        self.hub.terminate().await
    }
}

fn make_accounts(cloud: &FolderCloud, accounts: &[AccountPlan]) -> anyhow::Result<()> {
    let listed = |account: &AccountPlan| ListedAccount {
        id: account.id.clone(),
        name: account.name.clone(),
        unit: String::new(),
        suspended: false,
    };
    let (inside, outside): (Vec<_>, Vec<_>) = accounts.iter().partition(|account| account.in_organization);
    let organization = Organization {
        accounts: inside.into_iter().map(listed).collect(),
    };
    let trust = Trust {
        accounts: outside.into_iter().map(|account| account.id.clone()).collect(),
    };
    organization
        .save(cloud.root())
        .and_then(|()| trust.save(cloud.root()))
        .with_context(|| format!("cannot make a cloud in {}", cloud.root().display()))
}

/// Reads a JSON file; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .with_context(|| format!("cannot understand {}", path.display())),
        Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a JSON file, readable by this user only, so that a reader sees the old content or the new.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let draft = path.with_extension("draft");
    let text = serde_json::to_vec_pretty(value).context("cannot write JSON")?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&draft)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Waits for the file in which a program says where it listens.
pub(crate) async fn listening<T: DeserializeOwned>(
    process: &mut crate::process::Process,
    dir: &Path,
) -> anyhow::Result<T> {
    use crate::wait::{Look, eventually};
    let path = dir.join("listen.json");
    let what = format!("{} is written", path.display());
    let written = eventually(&what, std::time::Duration::from_secs(30), || {
        let ended = process.ended();
        let path = &path;
        async move {
            if let Some(status) = ended? {
                return Ok(Look::Seen(Err(status)));
            }
            Ok(match read_json::<T>(path)? {
                Some(addresses) => Look::Seen(Ok(addresses)),
                None => Look::NotYet("no such file".into()),
            })
        }
    })
    .await?;
    written.map_err(|status| anyhow::anyhow!("a program ended, {status}:\n{}", process.last_words()))
}

/// Takes away what an earlier process wrote of where it listened.
pub(crate) fn forget_listening(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    match fs::remove_file(dir.join("listen.json")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove listen.json from {}", dir.display()))
        }
        _ => Ok(()),
    }
}
