//! The guard: a process of its own that thaws when the agent cannot.
//!
//! It is this program once more, started before anything is frozen, under another name and in a session of its
//! own, so that what ends the agent does not end it. Agent and guard are connected by a socket. The agent hands
//! over a file on each file system, and tells before it freezes one:
//!
//! ```text
//! agent                                   guard
//!   │ ◀──────────────────────────── Ready  │
//!   │ Watch (files), Arm (longest) ──────▶ │ a thread for each file
//!   │ ◀──────────────────────────── Armed  │
//!   │ Freezing 0, Freezing 1 ───────────▶ │ the time runs from the first
//!   │ Disarm ───────────────────────────▶ │ end of the socket, or of the time: thaws
//!   │ ◀───────────────────────── Disarmed  │
//! ```
//!
//! The kernel closes the agent's end of the socket however the agent dies. This file has the messages and the
//! agent's side; [`super::watch`] has the guard's.

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
        socketpair,
    },
};

/// Its name in the list of processes.
pub const NAME: &str = "orglift-guard";
/// The subcommand that runs it, also of programs that hold the agent inside themselves.
pub const SUBCOMMAND: &str = "guard";

/// It answers within milliseconds, unless it is stopped or the machine is all but dead.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Files in one message; the kernel takes 253 (`SCM_MAX_FD`).
const FILES_MAX: usize = 200;

/// How to start the guard.
#[derive(Debug, Clone)]
pub struct GuardProgram {
    pub file: PathBuf,
    pub arguments: Vec<OsString>,
}

impl GuardProgram {
    /// This very program, if it knows the subcommand.
    pub fn this() -> Self {
        // Not its path, which is gone once a new version replaces the file.
        Self::at("/proc/self/exe")
    }

    /// An `orglift-agent` elsewhere, for programs that are none.
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            arguments: vec![SUBCOMMAND.into()],
        }
    }
}

/// What the two say to each other. On the socket: a byte for the kind, and eight for the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Ready,
    /// Files come with it.
    Watch,
    /// So many milliseconds may pass from the first freeze to the last thaw.
    Arm(u64),
    /// So many files are watched.
    Armed(u64),
    /// The agent is about to freeze the file system of this file.
    Freezing(u64),
    /// It could not.
    NotFrozen(u64),
    Disarm,
    /// 1 if the guard has thawed, because the time had passed.
    Disarmed(u64),
}

const MESSAGE_LEN: usize = 9;

impl Message {
    fn encode(self) -> [u8; MESSAGE_LEN] {
        let (kind, number) = match self {
            Self::Ready => (1, 0),
            Self::Watch => (2, 0),
            Self::Arm(number) => (3, number),
            Self::Armed(number) => (4, number),
            Self::Freezing(number) => (5, number),
            Self::NotFrozen(number) => (6, number),
            Self::Disarm => (7, 0),
            Self::Disarmed(number) => (8, number),
        };
        let mut bytes = [0; MESSAGE_LEN];
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; MESSAGE_LEN]) -> io::Result<Self> {
        let [kind, number @ ..] = bytes;
        let number = u64::from_le_bytes(number);
        Ok(match kind {
            1 => Self::Ready,
            2 => Self::Watch,
            3 => Self::Arm(number),
            4 => Self::Armed(number),
            5 => Self::Freezing(number),
            6 => Self::NotFrozen(number),
            7 => Self::Disarm,
            8 => Self::Disarmed(number),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

pub(super) enum Received {
    Message(Message, Vec<OwnedFd>),
    TimedOut,
    /// The other side is gone.
    End,
}

pub(super) fn send(socket: BorrowedFd<'_>, message: Message, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = message.encode();
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The next message, and the files that came with it. `None` waits for ever.
pub(super) fn receive(socket: BorrowedFd<'_>, longest: Option<Duration>) -> io::Result<Received> {
    if !wait_for(socket, PollFlags::IN, longest)? {
        return Ok(Received::TimedOut);
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; MESSAGE_LEN];
    let received = retry_on_intr(|| {
        let mut target = [IoSliceMut::new(&mut bytes)];
        recvmsg(socket, &mut target, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    match received {
        Ok(received) if received.bytes == 0 => return Ok(Received::End),
        Ok(received) if received.bytes != MESSAGE_LEN => return Err(io::ErrorKind::InvalidData.into()),
        Err(Errno::CONNRESET) => return Ok(Received::End),
        other => other?,
    };
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    Ok(Received::Message(Message::decode(bytes)?, files))
}

/// `false` if nothing came in time. That the other side is gone always counts as something.
fn wait_for(socket: BorrowedFd<'_>, what: PollFlags, longest: Option<Duration>) -> io::Result<bool> {
    // More than the kernel's clock can count is for ever.
    let timeout = longest.and_then(|longest| Timespec::try_from(longest).ok());
    let ready = retry_on_intr(|| poll(&mut [PollFd::from_borrowed_fd(socket, what)], timeout.as_ref()))?;
    Ok(ready > 0)
}

/// The agent's side of a guard. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Guard {
    child: Mutex<Child>,
    socket: OwnedFd,
    pub pid: u32,
}

impl Guard {
    pub fn start(program: &GuardProgram) -> io::Result<Self> {
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Ends with this statement, and with it our copy of the guard's end of the socket.
        let child = Command::new(&program.file)
            .arg0(NAME)
            .args(&program.arguments)
            .stdin(theirs)
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let guard = Self {
            pid: child.id(),
            child: Mutex::new(child),
            socket,
        };
        guard.expect(Message::Ready)?;
        Ok(guard)
    }

    /// From now on it thaws the file systems of `files` when the agent ends, or when `longest` has passed since the
    /// first `freezing`.
    pub fn arm(&self, files: &[BorrowedFd<'_>], longest: Duration) -> io::Result<()> {
        for files in files.chunks(FILES_MAX) {
            send(self.socket.as_fd(), Message::Watch, files)?;
        }
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        send(self.socket.as_fd(), Message::Arm(longest_ms), &[])?;
        // It may have had no room for all.
        self.expect(Message::Armed(files.len() as u64))
    }

    pub fn freezing(&self, index: usize) -> io::Result<()> {
        send(self.socket.as_fd(), Message::Freezing(index as u64), &[])
    }

    pub fn not_frozen(&self, index: usize) -> io::Result<()> {
        send(self.socket.as_fd(), Message::NotFrozen(index as u64), &[])
    }

    /// Whether the guard never had to thaw.
    pub fn disarm(&self) -> io::Result<bool> {
        send(self.socket.as_fd(), Message::Disarm, &[])?;
        match self.answer()? {
            Message::Disarmed(thawed) => Ok(thawed == 0),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn expect(&self, expected: Message) -> io::Result<()> {
        let answer = self.answer()?;
        if answer == expected {
            Ok(())
        } else {
            Err(io::Error::other(format!("it said {answer:?} for {expected:?}")))
        }
    }

    fn answer(&self) -> io::Result<Message> {
        match receive(self.socket.as_fd(), Some(ANSWER_MAX))? {
            Received::Message(message, _) => Ok(message),
            Received::TimedOut => Err(io::ErrorKind::TimedOut.into()),
            Received::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns when the process has ended, or was dismissed.
    pub fn wait_for_end(&self) {
        // The end is always reported; nothing else is asked for. Messages are left to whoever expects them.
        while matches!(wait_for(self.socket.as_fd(), PollFlags::empty(), None), Ok(false)) {}
    }

    /// For one that does not answer.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _killed = self.child().kill();
    }

    /// Lets it thaw what is frozen, and end.
    pub fn dismiss(&self) {
        // One that has ended is not connected any more.
        let _gone = shutdown(self.socket.as_fd(), Shutdown::Both);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
        let patience = Instant::now() + ANSWER_MAX;
        while let Ok(None) = self.child().try_wait() {
            if Instant::now() > patience {
                self.kill();
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}
