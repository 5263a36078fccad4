//! Two processes convert a server: one that serves the clones of its disks, and one that works on them.
//!
//! ```text
//! serving process: Worker                             worker: inside::Inside
//!   starts it, sends the order ──── socket pair ────▶ own mount namespace, mounts the disks as files
//!   serves them                ◀─── descriptor ─────
//!   next                       ◀─── steps, report ─── loop devices, mounts, the guest's programs
//!   end
//! ```
//!
//! Whatever the worker does to the machine ends with it: its mounts with their namespace, and loop devices with their
//! last user. When the serving process dies, the worker is killed, and what it waits for fails.
//!
//! The worker reads what strangers wrote, so what it says is bounded and may be nonsense. It never gets the store, a
//! key, or anything of the environment.

mod frames;
pub mod inside;
mod process;
#[cfg(test)]
pub(super) mod tests;

use std::{
    fmt,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    frames::{FrameError, Kind},
    process::Process,
};
use super::{
    attach::{
        DiskFile,
        fuse::{self, Serving},
    },
    overlay::Overlay,
    threads::{Background, NotEnded},
};

/// For a new process to read its order, and to mount.
const STARTS_WITHIN: Duration = Duration::from_mins(1);
/// A killed process has only errors left to handle.
const ENDS_WITHIN: Duration = Duration::from_mins(1);
/// Steps that nobody has read yet; then the worker waits.
const MESSAGES_WAITING: usize = 16;
/// For the end of the worker itself, after that of its messages: it may have something to say of it.
const SAYS_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What it does now.
    Step(String),
    /// The last message, JSON: as text, because it takes no more memory than it has bytes until its reader says what
    /// is wanted of it.
    Report(String),
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("cannot start {program}")]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the worker of a conversion does not begin{said}")]
    NotBegun {
        #[source]
        source: io::Error,
        said: Said,
    },
    #[error("cannot serve disks to the worker of a conversion")]
    Serve(#[source] io::Error),
    #[error("the worker of a conversion says what nobody understands: {source}{said}")]
    Nonsense {
        #[source]
        source: FrameError,
        said: Said,
    },
    #[error("the worker of a conversion ended without a report, by {status}{said}")]
    Ended { status: ExitStatus, said: Said },
    #[error("cannot wait for the worker of a conversion")]
    Wait(#[source] io::Error),
    #[error("the worker of a conversion was killed, and something of it stays")]
    Stays(#[source] NotEnded),
}

/// What the worker told on its standard error, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// The end of it says what went wrong.
    const CHARS: usize = 4096;

    fn tail_of(text: &str) -> Self {
        let from = text
            .char_indices()
            .rev()
            .nth(Self::CHARS - 1)
            .map_or(0, |(at, _)| at);
        Self(text[from..].to_owned())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim_end() {
            "" => Ok(()),
            said => write!(f, "; it said:\n{said}"),
        }
    }
}

/// What the worker is told first.
#[derive(Debug, Serialize, Deserialize)]
struct Assignment {
    work: PathBuf,
    disks: Vec<DiskFile>,
    order: Value,
}

/// The other process, and what serves it. It is killed when this is dropped.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    serving: Option<Serving>,
    socket: UnixStream,
    messages: Receiver<Result<Message, FrameError>>,
    reader: Option<Background<()>>,
}

impl Worker {
    /// Starts `program`, which is `orglift-runner`, to work in the folder `work` on clones of disks. What `order`
    /// says is between who starts it and what runs there.
    pub fn start(
        program: &Path,
        work: &Path,
        disks: Vec<(DiskFile, Arc<Overlay>)>,
        order: &impl Serialize,
    ) -> Result<Self, WorkerError> {
        let mut command = Command::new(program);
        command
            .arg(inside::COMMAND)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C");
        Self::spawn(command, work, disks, order)
    }

    pub(super) fn spawn(
        command: Command,
        work: &Path,
        disks: Vec<(DiskFile, Arc<Overlay>)>,
        order: &impl Serialize,
    ) -> Result<Self, WorkerError> {
        let program = PathBuf::from(command.get_program());
        let failed = |source: io::Error| WorkerError::Start {
            program: program.clone(),
            source,
        };
        let (disks, overlays) = disks.into_iter().unzip();
        let assignment = serde_json::to_value(order).and_then(|order| {
            let work = work.to_owned();
            serde_json::to_vec(&Assignment { work, disks, order })
        });
        let assignment = assignment.map_err(|error| failed(error.into()))?;
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let from = socket.try_clone().map_err(failed)?;
        let mut process = Process::start(command, theirs.into()).map_err(failed)?;
        let connection = match give_order(&socket, &assignment) {
            Ok(connection) => connection,
            Err(source) => {
                let (_, said) = process.end(SAYS_WITHIN)?;
                return Err(WorkerError::NotBegun { source, said });
            }
        };
        let serving = fuse::serve(connection, overlays).map_err(WorkerError::Serve)?;
        let (sender, messages) = sync_channel(MESSAGES_WAITING);
        let mut worker = Self {
            process,
            serving: Some(serving),
            socket,
            messages,
            reader: None,
        };
        let reader = Background::spawn("messages of a worker", move || read_messages(from, &sender));
        worker.reader = Some(reader.map_err(failed)?);
        Ok(worker)
    }

    /// What it says next. `None`: nothing until the deadline; there may be more later.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Message>, WorkerError> {
        let wait = deadline.saturating_duration_since(Instant::now());
        match self.messages.recv_timeout(wait) {
            Ok(Ok(message)) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Ok(Err(source)) => {
                let (_, said) = self.process.end(Duration::ZERO)?;
                Err(WorkerError::Nonsense { source, said })
            }
            Err(RecvTimeoutError::Disconnected) => {
                let (status, said) = self.process.end(SAYS_WITHIN)?;
                Err(WorkerError::Ended { status, said })
            }
        }
    }

    /// Kills what is left of it. Afterwards nothing reads or writes the clones any more, and nothing of the
    /// conversion is left but what is in its folder.
    pub fn end(mut self) -> Result<(), WorkerError> {
        self.finish()
    }

    /// Once more is no error.
    fn finish(&mut self) -> Result<(), WorkerError> {
        let ended = self.process.end(Duration::ZERO).map(|_| ());
        let stopped = self
            .serving
            .take()
            .map_or(Ok(()), |serving| serving.stop(ENDS_WITHIN));
        // Both let the reader go: whoever may still hold the other end of the socket, and what is still to be read.
        drop(self.socket.shutdown(Shutdown::Both));
        self.messages = sync_channel(0).1;
        let read = self
            .reader
            .take()
            .map_or(Ok(()), |reader| reader.end_within(ENDS_WITHIN));
        ended.and(stopped.and(read).map_err(WorkerError::Stays))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "a conversion does not end in order");
        }
    }
}

/// Answers the descriptor of the disks' mount.
fn give_order(mut socket: &UnixStream, assignment: &[u8]) -> io::Result<OwnedFd> {
    socket.set_write_timeout(Some(STARTS_WITHIN))?;
    socket.set_read_timeout(Some(STARTS_WITHIN))?;
    frames::write(&mut socket, Kind::Order, assignment)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut messages = control.drain();
    let connection = messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    socket.set_read_timeout(None)?;
    connection.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn read_messages(mut from: UnixStream, to: &SyncSender<Result<Message, FrameError>>) {
    loop {
        let message = match frames::read(&mut from) {
            Ok(Some((Kind::Step, text))) => {
                let text = String::from_utf8_lossy(&text);
                Ok(Message::Step(text.replace(char::is_control, "\u{fffd}")))
            }
            Ok(Some((Kind::Report, text))) => String::from_utf8(text)
                .map(Message::Report)
                .map_err(|_| FrameError::NotText),
            Ok(Some((Kind::Order, _))) => Err(FrameError::Unexpected),
            // A socket that breaks is one that ends.
            Ok(None) | Err(FrameError::Io(_)) => return,
            Err(error) => Err(error),
        };
        let is_end = message.is_err();
        if to.send(message).is_err() || is_end {
            return;
        }
    }
}
