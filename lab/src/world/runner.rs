//! The runner of one account of a world.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context;
use cloud::layers::LIMIT_FILE;
use serde::{Deserialize, Serialize};

use super::{AccountPlan, Told, forget_listening, hub::Hub, listening, read_json, write_json};
use crate::{
    network::Network,
    process::Process,
    programs::{Program, Programs},
};

#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Further arguments, such as where its index is.
    pub args: Vec<OsString>,
    /// Put a wire that can be cut between agents and the runner's data port.
    pub with_network: bool,
    /// Look at every first checkpoint that can be launched, as runners do unless they are told otherwise. Most disks of
    /// a world are no operating system.
    pub inspects: bool,
    /// By which agents reach the runner, which listens on the loopback.
    pub address: IpAddr,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            with_network: false,
            inspects: false,
            address: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Where the runner listens; kept over restarts, because agents know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub data: SocketAddr,
    pub enrol: SocketAddr,
}

#[derive(Debug)]
pub struct Runner {
    programs: Programs,
    dir: PathBuf,
    store: Told,
    hub: SocketAddr,
    token: String,
    account: AccountPlan,
    inspects: bool,
    args: Vec<OsString>,
    address: IpAddr,
    listening: Listening,
    process: Option<Process>,
    network: Option<Network>,
}

impl Runner {
    pub(super) async fn start(
        programs: &Programs,
        dir: &Path,
        store: Told,
        account: &AccountPlan,
        hub: &Hub,
        settings: &RunnerSettings,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let kept: Option<Listening> = read_json(&dir.join("lab.json"))?;
        let token = match kept {
            Some(_) => String::new(),
            None => hub.api.token(&account.id, "runner").await?,
        };
        let mut runner = Self {
            programs: programs.clone(),
            dir: dir.to_owned(),
            store,
            hub: hub.machines(),
            token,
            account: account.clone(),
            inspects: settings.inspects,
            args: settings.args.clone(),
            address: settings.address,
            listening: kept.unwrap_or(Listening {
                data: any,
                enrol: any,
            }),
            process: None,
            network: None,
        };
        runner.restart().await?;
        if settings.with_network {
            runner.network = Some(Network::before(runner.listening.data).await?);
        }
        Ok(runner)
    }

    /// Starts the runner again at the addresses it had.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        forget_listening(&self.dir)?;
        let mut args: Vec<OsString> = vec!["run".into(), "--dir".into(), self.dir.clone().into()];
        args.extend([
            "--hub".into(),
            self.hub.to_string().into(),
            "--store".into(),
            self.store.name.clone(),
        ]);
        args.extend(["--data-listen".into(), self.listening.data.to_string().into()]);
        args.extend(["--enrol-listen".into(), self.listening.enrol.to_string().into()]);
        args.extend(["--address".into(), self.address.to_string().into()]);
        if !self.inspects {
            args.extend(["--inspect-every-hours".into(), "0".into()]);
        }
        args.extend(self.args.iter().cloned());
        let token = OsString::from(&self.token);
        let of_store = self
            .store
            .env
            .iter()
            .map(|(name, value)| (*name, value.as_os_str()));
        let mut env: Vec<_> = of_store.collect();
        if !self.token.is_empty() {
            env.push(("ORGLIFT_TOKEN", token.as_os_str()));
        }
        let (name, log) = (
            format!("the runner of {}", self.account.name),
            self.dir.join("log.txt"),
        );
        let mut process = Process::start(&self.programs, Program::Runner, &name, &log, args, &env)?;
        let kept = self.listening;
        self.listening = listening(&mut process, &self.dir).await?;
        self.process = Some(process);
        if self.listening == kept {
            return Ok(());
        }
        write_json(&self.dir.join("lab.json"), &self.listening)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn listening(&self) -> Listening {
        self.listening
    }

    /// Where agents send their data: through the network, if there is one.
    pub fn data_port(&self) -> u16 {
        match &self.network {
            Some(network) => network.address().port(),
            None => self.listening.data.port(),
        }
    }

    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network
            .as_ref()
            .context("this world has no network between agents and runners")
    }

    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("the runner does not run")
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the runner does not run")?.kill()
    }

    /// From its next start on.
    pub fn use_store(&mut self, name: impl Into<OsString>) {
        self.store.name = name.into();
    }

    /// A new machine at the address of the old one, which is gone with all that was on it. It has no token.
    pub async fn replace(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        std::fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot remove {}", self.dir.display()))?;
        self.token.clear();
        self.restart().await
    }

    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.terminate().await?;
        }
        Ok(())
    }

    /// Bounds the staging area, as a full disk would; `None` makes room.
    pub fn limit_store(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        let store = self
            .store
            .name
            .to_str()
            .and_then(|name| name.strip_prefix("layers:"));
        let file = Path::new(store.context("only a folder can be bounded")?).join(LIMIT_FILE);
        match bytes {
            Some(bytes) => std::fs::write(&file, bytes.to_string()),
            None => std::fs::remove_file(&file),
        }
        .with_context(|| format!("cannot change {}", file.display()))
    }
}
