//! The source server: an old machine that runs and works, with all that is in its folder.
//!
//! ```text
//! FOLDER/disk.raw  key  known_hosts  console.txt  screenshot.png
//! ```

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use domain::{ids::SourceServerId, launch::Expects};
use member_runner::{
    machine::{Bus, Card, Disk, Firmware, Forward, Machine, Network, Outbound, Plan, UserNetwork, Writes},
    rehearse::{self, probe::Probe, verdict::Verdict},
};

use super::{disk::Made, ssh::Ssh};
use crate::{network::free_ports, world::runner::Runner};

/// As its `/etc/network/interfaces` says.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The server's gateway, which is this machine's loopback: there it reaches a runner.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
/// Shows the number of the last row that is committed.
pub const COMMITTED: &str = "/committed";

const AGENT: &str = "/usr/local/bin/orglift-agent";
/// It takes half a minute without KVM; five where others compile.
const BOOT_MAX: Duration = Duration::from_mins(15);
const SHUTDOWN_MAX: Duration = Duration::from_mins(1);
const ANSWER_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Source {
    machine: Machine,
    pub ssh: Ssh,
    /// A port of the loopback.
    pub http: u16,
}

impl Source {
    /// How to log in to the server whose folder this is, wherever it runs.
    pub fn login(folder: &Path, port: u16) -> Ssh {
        Ssh {
            port,
            key: folder.join("key"),
            known_hosts: folder.join("known_hosts"),
        }
    }

    /// Switches the server on. The first time, its disk and key are copied into the folder.
    pub async fn start(made: &Made, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let disk = folder.join("disk.raw");
        for (from, to) in [(&made.key, &folder.join("key")), (&made.disk, &disk)] {
            if !to.exists() {
                copy_with_holes(from, to)?;
            }
        }
        let [ssh, http] = free_ports()?;
        let (login, web) = (
            Forward { host: ssh, guest: 22 },
            Forward {
                host: http,
                guest: 80,
            },
        );
        let plan = Plan {
            name: "source".into(),
            cpus: 1,
            memory_mib: 768,
            firmware: Firmware::Bios,
            disks: vec![Disk {
                file: disk,
                bus: Bus::Ide,
                writes: Writes::Kept,
            }],
            network: Network::User(UserNetwork {
                card: Card::E1000,
                address: ADDRESS,
                outbound: Outbound::Allowed,
                forwards: vec![login, web],
            }),
        };
        let mut machine = Machine::start(&plan, folder).await?;
        let shows_rows = Probe {
            forward: web,
            expects: Expects::Http {
                path: COMMITTED.into(),
                status: 200,
            },
        };
        let outcome = rehearse::observe(&mut machine, Some(&shows_rows), BOOT_MAX, folder).await?;
        if let Verdict::Failed(_) = outcome.verdict {
            bail!(
                "the source server did not start: {}; its console is in {}",
                outcome.verdict.text(),
                outcome.console.display()
            );
        }
        Ok(Self {
            machine,
            http: web.host,
            ssh: Self::login(folder, login.host),
        })
    }

    /// Installs the agent as its documentation says: the program is copied there, and given a token. One that is there
    /// is replaced.
    pub async fn install_agent(
        &self,
        program: &Path,
        runner: &Runner,
        token: &str,
    ) -> anyhow::Result<SourceServerId> {
        self.ssh.copy_program(program, AGENT).await?;
        if let Err(error) = self.ssh.run(&format!("{AGENT} --version")).await {
            if format!("{error:#}").contains("GLIBC_") {
                bail!(
                    "the agent that was built here does not run on Debian {}, whose C library is older than this \
                     machine's: {error:#}",
                    super::disk::Debian::WITH_A_DATABASE.suite
                );
            }
            return Err(error);
        }
        // It shows in no list of processes that way, neither here nor there.
        self.ssh.run_with_text("umask 077 && cat >token", token).await?;
        let install = format!(
            "{AGENT} install --runner {HOST}:{} --data-port {} --token-file token --no-prompt \
             --force --tags Name=old-debian && rm token",
            runner.listening().enrol.port(),
            runner.data_port()
        );
        let said = self.ssh.run(&install).await?;
        said.split_whitespace()
            .find_map(|word| word.trim_end_matches(['.', ',']).parse().ok())
            .with_context(|| format!("the installer named no source server:\n{said}"))
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.machine.stop(SHUTDOWN_MAX).await?;
        Ok(())
    }
}

/// What a server shows on a forwarded port of the loopback.
pub async fn committed(http: u16) -> anyhow::Result<u64> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_MAX)
        .build()
        .context("cannot make an HTTP client")?;
    let answer = client
        .get(format!("http://127.0.0.1:{http}{COMMITTED}"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .context("the server does not answer")?;
    let text = answer.text().await.context("the server's answer ends early")?;
    let number = text.trim().parse();
    number.with_context(|| format!("the server shows {text:?}, which is no number"))
}

/// All or nothing, and with the mode of the original.
fn copy_with_holes(from: &Path, to: &Path) -> anyhow::Result<()> {
    let draft: PathBuf = to.with_extension("draft");
    let status = Command::new("cp")
        .args(["--sparse=always", "--preserve=mode", "--"])
        .args([from, &draft])
        .status()
        .context("cannot run cp")?;
    if !status.success() {
        bail!("cannot copy {} to {}", from.display(), draft.display());
    }
    fs::rename(&draft, to).with_context(|| format!("cannot keep {}", to.display()))
}
