//! `orglift-lab replicate --ask`, in a network of its own, so that what its loopback carried is known exactly.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A server under replication. The agent is a process of its own.
#[derive(Debug)]
pub struct Replica {
    child: Child,
    /// Gone when no more is asked for.
    ask: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    /// What it complains of; of interest only if it should not have ended.
    log: PathBuf,
}

/// What became of a checkpoint that was asked for.
#[derive(Debug)]
pub struct Answer {
    /// From asking until nothing of it could be lost any more: what the source waits for.
    pub seconds: f64,
    /// From asking until it could be launched.
    pub launchable_seconds: f64,
    /// All that replicate said of it.
    pub told: Value,
    /// What loopback carried, with the headers of TLS, TCP and IP, in both directions.
    pub wire_bytes: u64,
}

impl Replica {
    /// Starts, and does not wait for the first checkpoint, which [`Self::answer`] does.
    pub fn start(lab: &Path, source: &Path, dir: &Path, export: Option<&Path>) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
            .arg(lab)
            .args(["replicate", "--ask", "--agent-apart", "--source"])
            .arg(source)
            .arg("--dir")
            .arg(dir);
        if let Some(export) = export {
            command.arg("--export").arg(export);
        }
        let log = dir.with_extension("log");
        let complaints =
            fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .context("cannot run unshare")?;
        let ask = child.stdin.take();
        let answers = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            ask,
            answers: BufReader::new(answers).lines(),
            log,
        })
    }

    /// Asks for a checkpoint and waits until it is durable.
    pub fn checkpoint(&mut self) -> anyhow::Result<Answer> {
        let before = self.wire_bytes()?;
        self.ask()?;
        let told = self.answer()?;
        let seconds = |name| {
            told.get(name)
                .and_then(Value::as_f64)
                .with_context(|| format!("no {name}"))
        };
        Ok(Answer {
            seconds: seconds("durable_seconds")?,
            launchable_seconds: seconds("launchable_seconds")?,
            told,
            wire_bytes: self.wire_bytes()? - before,
        })
    }

    /// Asks for a checkpoint, and does not wait.
    pub fn ask(&mut self) -> anyhow::Result<()> {
        let ask = self.ask.as_mut().context("replication was told to end")?;
        ask.write_all(b"\n").context("replication ended")
    }

    pub fn answer(&mut self) -> anyhow::Result<Value> {
        let Some(line) = self.answers.next().transpose()? else {
            let complaints = fs::read_to_string(&self.log)?;
            bail!("replication ended without an answer: {}", complaints.trim());
        };
        serde_json::from_str(&line).with_context(|| format!("replication said {line:?}"))
    }

    /// Lets it end in order, exporting what it was told to.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.ask = None;
        for line in self.answers.by_ref() {
            line?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            let complaints = fs::read_to_string(&self.log)?;
            bail!("replication failed, {status}: {}", complaints.trim());
        }
        Ok(())
    }

    /// The process of the agent, once there is one.
    pub fn agent(&self) -> anyhow::Result<Option<u32>> {
        let parent = self.child.id().to_string();
        for entry in fs::read_dir("/proc").context("cannot list processes")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // The name, in parentheses, may contain anything; state and parent follow it.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            if after_name.split_whitespace().nth(1) == Some(&parent) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// For the agent alone.
    pub fn signal_agent(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.agent()?.context("no agent runs")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("no process has the number 0")?;
        kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to the agent"))
    }

    fn wire_bytes(&self) -> anyhow::Result<u64> {
        let counters = fs::read_to_string(format!("/proc/{}/net/dev", self.child.id()))?;
        let loopback = counters.lines().find_map(|line| line.trim().strip_prefix("lo:"));
        let received = loopback.and_then(|counts| counts.split_whitespace().next());
        received
            .and_then(|count| count.parse().ok())
            .context("the kernel does not count what loopback carries")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // The agent is killed with its parent.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
