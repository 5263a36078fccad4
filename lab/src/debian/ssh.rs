//! Commands on a server, as an operator gives them: by SSH, as root.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};

/// Nothing is asked, nothing of the user's own settings counts. A server that does not answer is given up in a minute.
const OPTIONS: [&str; 7] = [
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    // Whoever answers first is the server, wherever it answers later.
    "StrictHostKeyChecking=accept-new",
    "HostKeyAlias=old-debian",
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "LogLevel=ERROR",
];

/// Where a server answers, and what it knows us by.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// Of the loopback.
    pub port: u16,
    pub key: PathBuf,
    /// Remembers the server's own key.
    pub known_hosts: PathBuf,
}

impl Ssh {
    /// Runs a command of the shell there, and returns what it printed. A failure carries what it complained of.
    pub async fn run(&self, command: &str) -> anyhow::Result<String> {
        self.run_with(command, Stdio::null()).await
    }

    /// As [`run`](Self::run), with `text` on its standard input.
    pub async fn run_with_text(&self, command: &str, text: &str) -> anyhow::Result<String> {
        let (read, write) = std::io::pipe().context("cannot make a pipe")?;
        // Short enough for a pipe to hold.
        std::io::Write::write_all(&mut &write, text.as_bytes()).context("cannot fill a pipe")?;
        drop(write);
        self.run_with(command, read.into()).await
    }

    /// Copies a file to `to` there, to be executed.
    pub async fn copy_program(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let file = std::fs::File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
        let command = format!("cat >{to}.draft && chmod 755 {to}.draft && mv {to}.draft {to}");
        self.run_with(&command, file.into()).await.map(|_| ())
    }

    async fn run_with(&self, command: &str, input: Stdio) -> anyhow::Result<String> {
        let mut known_hosts = OsString::from("UserKnownHostsFile=\"");
        known_hosts.push(&self.known_hosts);
        known_hosts.push("\"");
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-F", "none", "-p", &self.port.to_string(), "-i"])
            .arg(&self.key);
        for option in OPTIONS {
            ssh.args(["-o", option]);
        }
        ssh.arg("-o").arg(known_hosts);
        ssh.args(["root@127.0.0.1", command])
            .stdin(input)
            .kill_on_drop(true)
            .process_group(0);
        let output = ssh.output().await.context("cannot run ssh")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "on the server, {command:?} failed, {}: {}",
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
