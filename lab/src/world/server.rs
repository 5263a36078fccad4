//! A source server of a world: disks, a workload that keeps changing them, and an agent.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use domain::ids::{AccountId, SourceServerId};
use identity::{Credentials, Role};

use super::runner::Runner;
use crate::{
    process::{Process, run},
    programs::{Program, Programs},
    source::{disk::DiskPlan, freeze::Freeze, workload::Workload},
};

#[derive(Debug, Clone)]
pub struct ServerPlan {
    pub name: String,
    pub account: AccountId,
    /// Bytes of each disk.
    pub disks: Vec<u64>,
    pub seed: u64,
}

#[derive(Debug)]
pub struct Server {
    pub plan: ServerPlan,
    programs: Programs,
    dir: PathBuf,
    freeze: Freeze,
    workload: Option<Workload>,
    agent: Option<Process>,
}

impl Server {
    /// Makes the server's disks in its folder, or finds them there.
    pub(crate) fn prepare(programs: &Programs, servers: &Path, plan: ServerPlan) -> anyhow::Result<Self> {
        let dir = servers.join(&plan.name);
        let server = Self {
            programs: programs.clone(),
            freeze: Freeze::in_folder(&dir.join("freeze")),
            dir,
            plan,
            workload: None,
            agent: None,
        };
        let agent = server.agent_dir();
        fs::create_dir_all(&agent).with_context(|| format!("cannot create {}", agent.display()))?;
        server.freeze.install_hook(&agent.join("freeze.d"))?;
        for (index, (path, bytes)) in (0u64..).zip(server.disks().into_iter().zip(&server.plan.disks)) {
            let plan = DiskPlan {
                path,
                bytes: *bytes,
                seed: server.plan.seed.wrapping_mul(1_000_003).wrapping_add(index),
            };
            plan.make()?;
        }
        if server.is_held() {
            server.freeze.mark_stopped()?;
        }
        Ok(server)
    }

    pub fn disks(&self) -> Vec<PathBuf> {
        (1..=self.plan.disks.len())
            .map(|n| self.dir.join(format!("disk-{n}.raw")))
            .collect()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn agent_dir(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// Installs the agent with a token, without asking anything. Fails with what the installer said.
    pub async fn install(&self, runner: &Runner, token: &str) -> anyhow::Result<SourceServerId> {
        self.install_with(runner, token, &[]).await
    }

    pub async fn install_with(
        &self,
        runner: &Runner,
        token: &str,
        extra: &[&str],
    ) -> anyhow::Result<SourceServerId> {
        let mut args = vec!["install".into(), "--dir".into(), OsString::from(self.agent_dir())];
        let devices: Vec<_> = self
            .disks()
            .iter()
            .map(|disk| disk.display().to_string())
            .collect();
        for (name, value) in [
            ("--runner", runner.listening().enrol.to_string()),
            ("--data-port", runner.data_port().to_string()),
            ("--devices", devices.join(",")),
            ("--user-provided-id", self.plan.name.clone()),
            ("--tags", format!("Name={}", self.plan.name)),
        ] {
            args.extend([name.into(), value.into()]);
        }
        args.push("--no-prompt".into());
        args.extend(extra.iter().map(OsString::from));
        let secret = OsString::from(token);
        let env = [("ORGLIFT_TOKEN", secret.as_os_str())];
        let said = run(&self.programs, Program::Agent, args, &env).await?;
        let id = said
            .split_whitespace()
            .find_map(|word| word.trim_end_matches(['.', ',']).parse().ok())
            .with_context(|| format!("the installer named no source server:\n{said}"))?;
        self.note_id(&id)?;
        Ok(id)
    }

    /// The id that the server was enrolled with, in this run or an earlier one. The agent's certificate
    /// has it as well, for a run that was interrupted during the installation; but the agent removes it
    /// in the end.
    pub fn id(&self) -> Option<SourceServerId> {
        let noted = fs::read_to_string(self.dir.join("server-id")).unwrap_or_default();
        if let Ok(id) = noted.trim().parse() {
            return Some(id);
        }
        let credentials = Credentials::load(&self.agent_dir().join("credentials")).ok()??;
        match credentials.own().ok()?.role {
            Role::Agent(id) => self.note_id(&id).ok().map(|()| id),
            Role::Hub | Role::Runner(_) => None,
        }
    }

    fn note_id(&self, id: &SourceServerId) -> anyhow::Result<()> {
        fs::write(self.dir.join("server-id"), format!("{id}\n")).context("cannot note a server's id")
    }

    /// Whether an agent is installed.
    pub fn has_agent(&self) -> bool {
        self.agent_dir().join("agent.json").exists()
    }

    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        self.start_agent_with(&[])
    }

    pub fn start_agent_with(&mut self, extra: &[&str]) -> anyhow::Result<()> {
        let mut args = vec!["run".into(), "--dir".into(), OsString::from(self.agent_dir())];
        args.extend(extra.iter().map(OsString::from));
        let (name, log) = (
            format!("the agent of {}", self.plan.name),
            self.dir.join("agent.log"),
        );
        self.agent = Some(Process::start(
            &self.programs,
            Program::Agent,
            &name,
            &log,
            args,
            &[],
        )?);
        Ok(())
    }

    pub fn agent(&mut self) -> anyhow::Result<&mut Process> {
        self.agent.as_mut().context("the agent does not run")
    }

    /// `kill -9`.
    pub fn kill_agent(&mut self) -> anyhow::Result<()> {
        self.agent.take().context("the agent does not run")?.kill()
    }

    pub async fn terminate_agent(&mut self) -> anyhow::Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.terminate().await?;
        }
        Ok(())
    }

    pub async fn uninstall(&self) -> anyhow::Result<String> {
        let args = [
            "uninstall".into(),
            "--dir".into(),
            OsString::from(self.agent_dir()),
        ];
        run(&self.programs, Program::Agent, args, &[]).await
    }

    /// A second machine with the agent of this one, as cloning its disks would make it.
    pub fn cloned(&self, name: &str) -> anyhow::Result<Self> {
        let servers = self.dir.parent().context("a server's folder is in another")?;
        let plan = ServerPlan {
            name: name.to_owned(),
            ..self.plan.clone()
        };
        let clone = Self::prepare(&self.programs, servers, plan)?;
        copy_folder(&self.agent_dir(), &clone.agent_dir())
            .with_context(|| format!("cannot clone {}", self.agent_dir().display()))?;
        Ok(clone)
    }

    /// The application runs and writes, unless it was stopped for the cutover.
    pub fn start_workload(&mut self) -> anyhow::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        self.freeze.reset()?;
        let workload = Workload::start(&self.disks(), self.freeze.clone(), rand::random())?;
        self.workload = Some(workload);
        Ok(())
    }

    /// Stops the application for good, as its operator does before the cutover: from now on the disks
    /// show what the last checkpoint must show.
    pub fn hold(&mut self) -> anyhow::Result<()> {
        if let Some(workload) = self.workload.take() {
            workload.stop()?;
        }
        self.freeze.mark_stopped()?;
        fs::write(self.held(), "").context("cannot note that a server is held")
    }

    pub fn is_held(&self) -> bool {
        self.held().exists()
    }

    fn held(&self) -> PathBuf {
        self.dir.join("held")
    }

    pub fn written_by_workload(&self) -> u64 {
        self.workload.as_ref().map_or(0, Workload::written)
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
