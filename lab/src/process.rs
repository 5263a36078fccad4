//! A child process: it writes to a log, takes signals, and never outlives its parent.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::{
    programs::{Program, Programs},
    wait::{Look, eventually},
};

const EXIT_WAIT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: std::process::Child,
}

impl Process {
    /// Starts `program`. Must be called on a thread that lives as long as the child should: when that
    /// thread ends, the kernel kills the child, as it does when the whole parent is killed.
    pub fn start(
        programs: &Programs,
        program: Program,
        name: &str,
        log: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        env: &[(&str, &OsStr)],
    ) -> anyhow::Result<Self> {
        Self::of(command(programs, program, args, env), name, log)
    }

    /// As [`Self::start`], any program.
    pub fn of(mut command: Command, name: &str, log: &Path) -> anyhow::Result<Self> {
        end_with_parent(&mut command);
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("cannot share a log")?)
            .stderr(out);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// `Some` once the process has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process without a number")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// The process stands still until it is resumed.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// As the power cut does it.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    /// Asks the process to end, and waits until it has.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let name = self.name.clone();
        eventually(&format!("{name} ends when asked to"), EXIT_WAIT, || {
            let ended = self.ended();
            async move {
                Ok(match ended? {
                    Some(status) => Look::Seen(status),
                    None => Look::NotYet("it runs".into()),
                })
            }
        })
        .await
    }

    /// The end of its log, to show when something is wrong.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, or ends now; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `program` to its end and returns what it printed. A failure carries its last words.
pub async fn run(
    programs: &Programs,
    program: Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: &[(&str, &OsStr)],
) -> anyhow::Result<String> {
    finish(command(programs, program, args, env), program, None).await
}

/// As [`run`], with `input` on the standard input.
pub async fn run_with_input(
    programs: &Programs,
    program: Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: &[(&str, &OsStr)],
    input: &str,
) -> anyhow::Result<String> {
    finish(command(programs, program, args, env), program, Some(input)).await
}

async fn finish(mut command: Command, program: Program, input: Option<&str>) -> anyhow::Result<String> {
    end_with_parent(&mut command);
    let mut command = tokio::process::Command::from(command);
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {program:?}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin
            .write_all(input.as_bytes())
            .await
            .with_context(|| format!("cannot write to {program:?}"))?;
    }
    let output = child
        .wait_with_output()
        .await
        .with_context(|| format!("cannot wait for {program:?}"))?;
    if !output.status.success() {
        bail!(
            "{program:?} failed, {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(
    programs: &Programs,
    program: Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: &[(&str, &OsStr)],
) -> Command {
    let (file, first) = programs.command(program);
    let mut command = Command::new(file);
    command.args(first).args(args.into_iter().map(Into::into));
    command.envs(env.iter().copied());
    command
}

fn end_with_parent(command: &mut Command) {
    // Ctrl-C is for the lab, which then stops its children in order.
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(
                Signal::KILL,
            ))?)
        });
    }
}
