//! A machine of QEMU: disks of somebody else's server start here, away from everything.
//!
//! ```text
//! start ─▶ running ── console, screenshot, state of its ports ──▶ stop: powerdown ▶ quit ▶ kill
//! ```
//!
//! What runs inside is hostile, and may have taken QEMU over. So QEMU is given open files and no paths: the disks,
//! those that it may not change opened for reading; one end of a pair of sockets, for its monitor; memory to draw a
//! screenshot in. It writes to no folder of ours, runs as `nobody` where we are root, with a filter of system calls,
//! and dies with us. What the console says is bounded, and no terminal obeys it (`console`). A network reaches this
//! machine's loopback, and nothing else unless the plan says so.

mod accelerator;
mod arguments;
mod console;
mod files;
mod process;
mod qmp;

use std::{
    io::{self, Read, Seek},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use tokio::{process::Child, task::JoinHandle, time::timeout};

pub use self::{accelerator::Accelerator, qmp::QmpError};
use self::{console::Recorder, files::MachineFiles, qmp::Qmp};
use crate::files as whole_files;

/// What the console said, in the machine's folder.
pub const CONSOLE_FILE: &str = "console.txt";
pub const SCREENSHOT_FILE: &str = "screenshot.png";
/// A screen of 1920 × 1080 with nothing to compress.
const SCREENSHOT_MAX: u64 = 16 << 20;
/// QEMU ends within milliseconds of being told to, once its disks are flushed.
const QUIT_WAIT: Duration = Duration::from_secs(10);

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Seen in the list of processes.
    pub name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub firmware: Firmware,
    /// In order; it boots from the first.
    pub disks: Vec<Disk>,
    pub network: Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    /// With variables that begin as they come from the factory, and are forgotten.
    Uefi,
}

#[derive(Debug, Clone)]
pub struct Disk {
    /// A raw image or a block device.
    pub file: PathBuf,
    pub bus: Bus,
    pub writes: Writes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// As in servers of long ago; there are four places.
    Ide,
    /// As in every instance of EC2 that is built on Nitro.
    Nvme,
    VirtioBlk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They are on the disk.
    Kept,
    /// They go to a file without a name in `/var/tmp`, which may grow as large as the disk, and are gone with the
    /// machine. The disk is opened for reading only.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    None,
    /// A card whose cable is not plugged in.
    NoLink(Card),
    User(UserNetwork),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    VirtioNet,
    E1000,
}

/// A network that exists in the process of QEMU only, where it answers DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNetwork {
    pub card: Card,
    /// The one that DHCP gives, in a network of 24 bits whose gateway has the number 1.
    pub address: Ipv4Addr,
    pub outbound: Outbound,
    pub forwards: Vec<Forward>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    Refused,
    /// The machine reaches what this host reaches.
    Allowed,
}

/// A port of the host's loopback that leads to one of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

/// How the machine came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The operating system shut it down.
    PoweredOff,
    /// It was switched off.
    SwitchedOff,
    Killed,
}

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error(
        "no machine can be booted here: QEMU is missing; install the Debian packages qemu-system-x86 and qemu-utils together, so that they are of one version"
    )]
    NoQemu,
    #[error(
        "no machine can be booted by UEFI here: its firmware is missing; install the Debian package ovmf"
    )]
    NoUefi,
    #[error("no machine can be booted here: QEMU starts and executes nothing")]
    Idle,
    #[error("a machine cannot have {0}")]
    Plan(&'static str),
    #[error("cannot {verb} {path}")]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {0} QEMU")]
    Process(&'static str, #[source] io::Error),
    #[error("QEMU did not start the machine: {said}")]
    NotStarted {
        said: String,
        #[source]
        source: QmpError,
    },
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("the screenshot has {0} bytes")]
    Screenshot(u64),
    #[error(transparent)]
    Keep(#[from] whole_files::FileError),
}

/// A machine that runs. Dropping it is pulling the plug.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    qmp: Qmp,
    console: Recorder,
    readers: [JoinHandle<()>; 2],
    files: MachineFiles,
    accelerator: Accelerator,
    folder: PathBuf,
}

impl Machine {
    /// Starts a machine that keeps its console text and screenshot in `folder`, which must exist. It dies with the
    /// thread that runs this, so that must be one of the runtime's workers or the main thread.
    pub async fn start(plan: &Plan, folder: &Path) -> Result<Self, MachineError> {
        plan.check()?;
        let accelerator = Accelerator::best().await?;
        let files = MachineFiles::open(plan)?;
        let (qmp, monitor) =
            qmp::pair().map_err(|source| MachineError::Process("open a monitor of", source))?;
        let arguments = arguments::of(plan, accelerator, &files, &monitor);
        let mut qemu = process::spawn(&arguments, &files.inherited(&monitor))?;
        // The other end must be QEMU's alone, or its end would not be seen here.
        drop(monitor);
        let console = Recorder::create(&folder.join(CONSOLE_FILE))?;
        let errors = Recorder::in_memory();
        let readers = [
            console.record(qemu.stdout.take()),
            errors.record(qemu.stderr.take()),
        ];
        let mut machine = Self {
            qemu,
            qmp,
            console,
            readers,
            files,
            accelerator,
            folder: folder.to_owned(),
        };
        if let Err(source) = machine.switch_on(plan).await {
            // What it says of itself is complete when it has ended.
            machine.kill().await?;
            let said = errors.recent().trim().to_owned();
            return Err(MachineError::NotStarted { said, source });
        }
        Ok(machine)
    }

    /// QEMU waits before the first instruction until it is told to go on.
    async fn switch_on(&mut self, plan: &Plan) -> Result<(), QmpError> {
        self.qmp.greet().await?;
        if let Network::NoLink(_) = plan.network {
            let down = serde_json::json!({"name": arguments::CARD, "up": false});
            self.qmp.execute("set_link", down).await?;
        }
        self.qmp.execute("cont", serde_json::json!({})).await?;
        Ok(())
    }

    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    pub fn id(&self) -> Option<u32> {
        self.qemu.id()
    }

    /// The end of what the console has said so far.
    pub fn recent_console(&self) -> String {
        self.console.recent()
    }

    /// `Some` once the machine was shut down from within, or QEMU died.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, MachineError> {
        self.qemu
            .try_wait()
            .map_err(|source| MachineError::Process("wait for", source))
    }

    /// Keeps what is on the screen now.
    pub async fn screenshot(&mut self) -> Result<PathBuf, MachineError> {
        let path = self.folder.join(SCREENSHOT_FILE);
        let screen = &mut self.files.screen;
        let fault = |source| MachineError::File {
            verb: "draw",
            path: SCREENSHOT_FILE.into(),
            source,
        };
        // QEMU has the same open file, and writes on where it stands.
        screen
            .drawn
            .set_len(0)
            .and_then(|()| screen.drawn.rewind())
            .map_err(fault)?;
        let into = serde_json::json!({"filename": arguments::SCREEN, "format": "png"});
        self.qmp.execute("screendump", into).await?;
        let bytes = screen.seen.metadata().map_err(fault)?.len();
        if bytes == 0 || bytes > SCREENSHOT_MAX {
            return Err(MachineError::Screenshot(bytes));
        }
        let mut picture = Vec::new();
        screen
            .seen
            .rewind()
            .and_then(|()| (&screen.seen).take(SCREENSHOT_MAX).read_to_end(&mut picture))
            .map_err(fault)?;
        whole_files::replace(&path, &picture)?;
        Ok(path)
    }

    /// Whether something in the machine has accepted a connection through a forwarded port that is open now. QEMU
    /// itself accepts every connection before it asks the machine.
    pub async fn has_accepted(&mut self, guest_port: u16) -> Result<bool, MachineError> {
        let ask = serde_json::json!({"command-line": "info usernet"});
        let answer = self.qmp.execute("human-monitor-command", ask).await?;
        Ok(has_established(answer.as_str().unwrap_or_default(), guest_port))
    }

    /// Presses the power button, and waits so long for the operating system to shut down; then switches off.
    pub async fn stop(mut self, patience: Duration) -> Result<Ending, MachineError> {
        for (command, wait, ending) in [
            ("system_powerdown", patience, Ending::PoweredOff),
            ("quit", QUIT_WAIT, Ending::SwitchedOff),
        ] {
            // One that cannot be told has ended, or must be killed.
            let told = self.qmp.execute(command, serde_json::json!({})).await.is_ok();
            let wait = if told { wait } else { Duration::ZERO };
            if timeout(wait, self.qemu.wait()).await.is_ok() {
                self.finish_reading().await;
                return Ok(ending);
            }
        }
        self.kill().await?;
        Ok(Ending::Killed)
    }

    /// Pulls the plug.
    pub async fn kill(&mut self) -> Result<(), MachineError> {
        self.qemu
            .kill()
            .await
            .map_err(|source| MachineError::Process("kill", source))?;
        self.finish_reading().await;
        Ok(())
    }

    /// Its pipes end with it, and then its last words have been kept.
    async fn finish_reading(&mut self) {
        for reader in &mut self.readers {
            // One that panicked has written its panic; there is no text to wait for.
            drop(reader.await);
        }
    }
}

impl Plan {
    fn check(&self) -> Result<(), MachineError> {
        if self.disks.is_empty() {
            return Err(MachineError::Plan("no disk"));
        }
        if self.disks.iter().filter(|disk| disk.bus == Bus::Ide).count() > 4 {
            return Err(MachineError::Plan("more than four IDE disks"));
        }
        if self.cpus == 0 || self.memory_mib == 0 {
            return Err(MachineError::Plan("no processor or no memory"));
        }
        Ok(())
    }
}

/// Reads the table that `info usernet` prints: `TCP[ESTABLISHED] 15 127.0.0.1 40001 10.0.2.15 80 0 0`.
fn has_established(table: &str, guest_port: u16) -> bool {
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [state, _fd, _from, _from_port, _to, to_port, ..] = fields[..] else {
            return false;
        };
        let open = ["TCP[ESTABLISHED]", "TCP[CLOSE_WAIT]"];
        open.contains(&state) && to_port.parse() == Ok(guest_port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_when_the_machine_has_accepted_it() {
        let table = "Hub -1 (net0):\r\n  \
            Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
            TCP[SYN_SENT]      21       127.0.0.1 40001       10.0.2.15    80     0     0\r\n  \
            TCP[ESTABLISHED]   22       127.0.0.1 40002       10.0.2.15    22     0     0\r\n  \
            TCP[HOST_FORWARD]  12       127.0.0.1 40001       10.0.2.15    80     0     0\r\n";
        assert!(has_established(table, 22));
        assert!(!has_established(table, 80));
        assert!(!has_established("", 80));
    }
}
