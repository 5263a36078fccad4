//! Runs a guest's own programs where they can reach nothing but the guest's files.
//!
//! The program and all that it runs were written by strangers, and run as root, because they write the guest's
//! `/boot`. So they get a world of their own:
//!
//! | what | how |
//! |---|---|
//! | files | the guest's mounts and nothing else, made the root by `pivot_root`; no device and no set-user-ID on them works |
//! | privileges | a user namespace: no capability counts outside it. In it few are left, no more can be gained, none nested |
//! | processes, network, IPC, name | namespaces of their own; there is no interface but a loopback that is down |
//! | `/proc` | of these processes, read-only: what is in `/proc/sys` belongs to the machine |
//! | `/sys` | empty, but for the folder by which programs tell a machine with EFI |
//! | `/dev` | `null`, `zero`, `full`, `random`, `urandom`, `tty`, and what the caller adds |
//! | `/tmp`, `/run` | in memory, gone at the end |
//! | resources | limits to the memory of each process, files' sizes, output and time |
//!
//! ```text
//! Sandbox ─▶ unshare(1) ─▶ orglift-runner in-sandbox, process 1 of the namespaces ─▶ the guest's program
//!        ready ◀──────────── waits                                   (see `inside`)
//!        maps of ids, order ─▶ mounts, limits, starts the program
//!        started, output ◀───                                        a pipe that it shares with the program
//! ```
//!
//! Process 1 ends when its order's pipe closes, and the namespaces with it: neither a program that hangs, nor one
//! that leaves others behind, nor the death of the conversion leaves a process.
//!
//! How many processes there may be is for the control group that the runner is started in: the kernel does not count
//! those of root. There is no filter of system calls: it would need a crate or a table of our own, and what it is commonly for,
//! nested user namespaces and mounts, cannot be done here anyway.

pub mod inside;
mod output;

use std::{
    fs,
    io::{self, BufRead, BufReader, PipeReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(super) use output::read as read_output;
pub use output::{OUTPUT_MAX, Output};

/// Of util-linux. It makes the namespaces, which takes a fork at the right moment.
const UNSHARE: &str = "/usr/bin/unshare";
/// Every id of the guest is itself in the namespace: its files keep their owners.
const ALL_IDS: &str = "0 0 4294967295";
/// What process 1 says before the program starts; anything longer is a complaint.
const LINE_MAX: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot start {UNSHARE}, which comes with util-linux")]
    Unshare(#[source] io::Error),
    #[error("cannot make a sandbox for programs of the guest: {0}")]
    Prepare(String),
    #[error("cannot speak with the sandbox")]
    Talk(#[source] io::Error),
    #[error("{program} did not end within {} s, and was killed; it said:\n{output}", limit.as_secs())]
    TooSlow {
        program: String,
        limit: Duration,
        output: Box<Output>,
    },
    #[error("{program} failed with status {status}; it said:\n{output}")]
    Failed {
        program: String,
        /// As a shell has it: 128 and the signal's number where a signal ended it, 127 where there is no such program.
        status: i32,
        output: Box<Output>,
    },
}

/// How much of the runner a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub time: Duration,
    /// Of each process.
    pub memory_bytes: u64,
    /// Of each file that it writes.
    pub file_bytes: u64,
    /// Of `/tmp`, which initramfs generators fill; the same goes for `/run`.
    pub tmp_bytes: u64,
}

impl Default for Limits {
    /// An initramfs with every driver of Debian 12 takes a minute on one core, and 300 MiB of `/tmp`.
    fn default() -> Self {
        Self {
            time: Duration::from_mins(15),
            memory_bytes: 2 << 30,
            file_bytes: 2 << 30,
            tmp_bytes: 1 << 30,
        }
    }
}

/// A disk or partition of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What it is on the runner, `/dev/loop3`.
    pub path: PathBuf,
    /// Of an array or a logical volume, as it has them on the source: the kernel's first. A disk or partition has none.
    pub names: Vec<String>,
    /// Of the file system on it, by which GRUB's menu names the root where `/dev/disk/by-uuid` has it. A logical volume
    /// has none: on the source, GRUB names it by its own name, because it finds device-mapper there.
    pub uuid: Option<String>,
}

/// Where programs of one guest run.
#[derive(Debug, Clone)]
pub struct Sandbox {
    root: PathBuf,
    runner: PathBuf,
    efi: bool,
    devices: Vec<Device>,
    limits: Limits,
}

impl Sandbox {
    /// For the guest whose files are mounted at `root`. `runner` is the program `orglift-runner`, which is to say
    /// the one that runs, but for tests.
    pub fn new(root: &Path, runner: &Path) -> Self {
        Self {
            root: root.to_owned(),
            runner: runner.to_owned(),
            efi: false,
            devices: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Lets programs see a machine with EFI. Its variables are not there: they would be the runner's.
    #[must_use]
    pub fn with_efi(mut self) -> Self {
        self.efi = true;
        self
    }

    /// Adds the guest's own disks and partitions. A program can write them.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = devices;
        self
    }

    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs a program of the guest to its end. It has no standard input; both its outputs are in the answer.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Output, SandboxError> {
        let order = Order {
            root: self.root.clone(),
            efi: self.efi,
            devices: self.devices.clone(),
            memory_bytes: self.limits.memory_bytes,
            file_bytes: self.limits.file_bytes,
            tmp_bytes: self.limits.tmp_bytes,
            program: program.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        let mut order = serde_json::to_vec(&order).map_err(|error| SandboxError::Talk(error.into()))?;
        order.push(b'\n');

        let (mut namespaces, said) = Namespaces::start(&self.runner)?;
        let mut said = BufReader::new(said);
        expect_line(&mut said, inside::READY)?;
        namespaces.map_ids().map_err(SandboxError::Talk)?;
        let orders = namespaces.0.stdin.as_mut().expect("it is a pipe");
        orders.write_all(&order).map_err(SandboxError::Talk)?;
        expect_line(&mut said, inside::STARTED)?;

        // A thread reads, so that the wait can end. It ends when the last process of the namespaces has.
        let (running, ended) = sync_channel::<()>(0);
        let reader = thread::spawn(move || {
            let output = output::read(said);
            drop(running);
            output
        });
        let in_time = ended.recv_timeout(self.limits.time) != Err(RecvTimeoutError::Timeout);
        let status = namespaces.end(in_time)?;
        let output = reader
            .join()
            .expect("the reader does not panic")
            .map_err(SandboxError::Talk)?;
        let program = program.to_owned();
        match status {
            _ if !in_time => Err(SandboxError::TooSlow {
                program,
                limit: self.limits.time,
                output: Box::new(output),
            }),
            0 => Ok(output),
            status => Err(SandboxError::Failed {
                program,
                status,
                output: Box::new(output),
            }),
        }
    }
}

/// What process 1 is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    root: PathBuf,
    efi: bool,
    devices: Vec<Device>,
    memory_bytes: u64,
    file_bytes: u64,
    tmp_bytes: u64,
    program: String,
    args: Vec<String>,
}

/// `unshare(1)`, which lives as long as process 1 does.
struct Namespaces(Child);

impl Namespaces {
    /// What it and all in it say comes out of the pipe, which closes after the last of them.
    fn start(runner: &Path) -> Result<(Self, PipeReader), SandboxError> {
        let (said, output) = io::pipe().map_err(SandboxError::Talk)?;
        let errors = output.try_clone().map_err(SandboxError::Talk)?;
        let child = Command::new(UNSHARE)
            .args(["--user", "--keep-caps", "--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child"])
            .args(["--net", "--ipc", "--uts", "--cgroup", "--"])
            .arg(runner)
            .arg(inside::COMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(SandboxError::Unshare)?;
        Ok((Self(child), said))
    }

    /// Only who stands outside may give the namespace more than one id.
    fn map_ids(&self) -> io::Result<()> {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", self.0.id()), ALL_IDS)?;
        }
        Ok(())
    }

    /// The program's exit status, once nothing is left of it. Where it does not end by itself it is killed.
    fn end(mut self, by_itself: bool) -> Result<i32, SandboxError> {
        if !by_itself {
            self.0.kill().map_err(SandboxError::Talk)?;
        }
        let status = self.0.wait().map_err(SandboxError::Talk)?;
        Ok(status.code().unwrap_or(inside::KILLED))
    }
}

impl Drop for Namespaces {
    /// An error on the way leaves no process either; one that has ended does not mind.
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn expect_line(said: &mut impl BufRead, wanted: &str) -> Result<(), SandboxError> {
    let mut line = String::new();
    said.take(LINE_MAX)
        .read_line(&mut line)
        .map_err(SandboxError::Talk)?;
    match line.trim_end() {
        line if line == wanted => Ok(()),
        "" => Err(SandboxError::Prepare("it ended before it began".to_owned())),
        complaint => Err(SandboxError::Prepare(complaint.to_owned())),
    }
}
