//! The hub of a world.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{AccountPlan, Told, api::Api, forget_listening, listening, read_json, write_json};
use crate::{
    process::{Process, run, run_with_input},
    programs::{Program, Programs},
    wait::{Look, eventually},
};

pub const USER: &str = "admin";

const UP_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct HubSettings {
    pub checkpoint_interval_s: u32,
    /// How long a launch waits for a fresh checkpoint.
    pub checkpoint_deadline_s: u32,
    /// The address of its PostgreSQL database; SQLite without.
    pub database: Option<String>,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            checkpoint_interval_s: 10,
            checkpoint_deadline_s: 120,
            database: None,
        }
    }
}

/// What survives the hub's process, in `lab.json` of its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    password: String,
    api_key: String,
    /// The port that runners know is kept over restarts; the console's too, if it is free.
    ui: SocketAddr,
    machines: SocketAddr,
}

#[derive(Debug, Deserialize)]
struct Listening {
    ui: SocketAddr,
    machines: SocketAddr,
}

#[derive(Debug)]
pub struct Hub {
    programs: Programs,
    dir: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    kept: Kept,
    process: Option<Process>,
    pub api: Api,
}

impl Hub {
    pub(super) async fn start(
        programs: &Programs,
        dir: &Path,
        cloud: Told,
        ui: SocketAddr,
        settings: &HubSettings,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut env = cloud.env;
        if let Some(database) = &settings.database {
            env.push(("ORGLIFT_DATABASE", database.into()));
        }
        let kept = match read_json(&dir.join("lab.json"))? {
            Some(kept) => Kept { ui, ..kept },
            None => first_user(programs, dir, &borrowed(&env), ui).await?,
        };
        let args = vec![
            "--cloud".into(),
            cloud.name,
            "--checkpoint-interval".into(),
            settings.checkpoint_interval_s.to_string().into(),
            "--checkpoint-deadline".into(),
            settings.checkpoint_deadline_s.to_string().into(),
        ];
        let mut hub = Self {
            programs: programs.clone(),
            dir: dir.to_owned(),
            args,
            env,
            api: Api::new(kept.ui, &kept.api_key)?,
            kept,
            process: None,
        };
        hub.restart().await?;
        Ok(hub)
    }

    /// Another hub on the same database, of the same authority, with a folder and addresses of its own.
    pub async fn companion(&self, dir: &Path) -> anyhow::Result<Self> {
        let ca = dir.join("ca");
        std::fs::create_dir_all(&ca).with_context(|| format!("cannot create {}", ca.display()))?;
        for file in ["ca.pem", "ca-key.pem"] {
            std::fs::copy(self.dir.join("ca").join(file), ca.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let kept = Kept {
            ui: anywhere,
            machines: anywhere,
            ..self.kept.clone()
        };
        let mut hub = Self {
            programs: self.programs.clone(),
            dir: dir.to_owned(),
            args: self.args.clone(),
            env: self.env.clone(),
            api: self.api.clone(),
            kept,
            process: None,
        };
        hub.restart().await?;
        Ok(hub)
    }

    /// Starts the hub again at the addresses it had, and waits until it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        forget_listening(&self.dir)?;
        let mut args: Vec<OsString> = vec!["serve".into(), "--dir".into(), self.dir.clone().into()];
        args.extend(["--ui".into(), self.kept.ui.to_string().into()]);
        args.extend(["--machines".into(), self.kept.machines.to_string().into()]);
        args.extend(self.args.iter().cloned());
        let log = self.dir.join("log.txt");
        let env = borrowed(&self.env);
        let mut process = Process::start(&self.programs, Program::Hub, "the hub", &log, args, &env)?;
        let addresses: Listening = listening(&mut process, &self.dir).await?;
        self.process = Some(process);
        self.kept.ui = addresses.ui;
        self.kept.machines = addresses.machines;
        write_json(&self.dir.join("lab.json"), &self.kept)?;
        self.api = Api::new(self.kept.ui, &self.kept.api_key)?;
        let api = self.api.clone();
        eventually("the hub answers", UP_WITHIN, || async {
            api.health().await.map(|()| Look::Seen(()))
        })
        .await
    }

    /// Makes the organization and the roster known, unless they are.
    pub(super) async fn know_accounts(&self, accounts: &[AccountPlan]) -> anyhow::Result<()> {
        self.api.know_accounts(accounts).await
    }

    pub fn machines(&self) -> SocketAddr {
        self.kept.machines
    }

    pub fn console(&self) -> String {
        format!("http://{}", self.kept.ui)
    }

    pub fn password(&self) -> &str {
        &self.kept.password
    }

    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("the hub does not run")
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the hub does not run")?.kill()
    }

    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.terminate().await?;
        }
        Ok(())
    }

    /// The fingerprint of its authority, by which runners that have no token know it.
    pub async fn ca(&self) -> anyhow::Result<String> {
        let args: Vec<OsString> = vec!["ca".into(), "--dir".into(), self.dir.clone().into()];
        let ca = run(&self.programs, Program::Hub, args, &[]).await?;
        Ok(ca.trim().to_owned())
    }

    /// A token made on the hub's machine, for tests that need one with a life of their own.
    pub async fn token(&self, account: &str, purpose: &str, ttl: Duration) -> anyhow::Result<String> {
        let mut args = command("token", "create", &self.dir);
        args.extend([
            "--account".into(),
            account.into(),
            "--purpose".into(),
            purpose.into(),
        ]);
        args.extend(["--ttl".into(), ttl.as_secs().to_string().into()]);
        let token = run(&self.programs, Program::Hub, args, &borrowed(&self.env)).await?;
        Ok(token.trim().to_owned())
    }
}

fn borrowed<'a>(env: &'a [(&'static str, OsString)]) -> Vec<(&'static str, &'a OsStr)> {
    env.iter()
        .map(|(name, value)| (*name, value.as_os_str()))
        .collect()
}

async fn first_user(
    programs: &Programs,
    dir: &Path,
    env: &[(&str, &OsStr)],
    ui: SocketAddr,
) -> anyhow::Result<Kept> {
    let password: String = (0..4)
        .map(|_| format!("{:04x}", rand::random::<u16>()))
        .collect::<Vec<_>>()
        .join("-");
    let mut args = command("user", "add", dir);
    for arg in ["--name", USER, "--role", "administrator", "--password-stdin"] {
        args.push(arg.into());
    }
    run_with_input(programs, Program::Hub, args, env, &password).await?;
    let mut args = command("key", "add", dir);
    args.extend(["--user".into(), USER.into()]);
    let api_key = run(programs, Program::Hub, args, env).await?.trim().to_owned();
    let kept = Kept {
        password,
        api_key,
        ui,
        machines: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    write_json(&dir.join("lab.json"), &kept)?;
    Ok(kept)
}

fn command(noun: &str, verb: &str, dir: &Path) -> Vec<OsString> {
    vec![noun.into(), verb.into(), "--dir".into(), dir.into()]
}
