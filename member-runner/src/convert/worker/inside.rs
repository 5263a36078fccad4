//! The worker: `orglift-runner in-conversion`.

use std::{
    fs,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::Mutex,
};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    thread::{UnshareFlags, unshare_unsafe},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Assignment,
    frames::{self, FrameError, Kind},
};
use crate::convert::attach::{DiskFile, fuse};

/// The command of `orglift-runner` that is for [`super::Worker`] only.
pub const COMMAND: &str = "in-conversion";

#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error("this command is for the runner itself, which gives it a socket for its standard input")]
    NoSocket(#[source] io::Error),
    #[error("cannot make a mount namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot read the order of a conversion")]
    Order(#[source] FrameError),
    #[error("the order of a conversion makes no sense")]
    Nonsense(#[source] serde_json::Error),
    #[error("cannot mount the disks at {at}; is /dev/fuse there?")]
    Mount {
        at: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot speak with who started the conversion")]
    Talk(#[source] io::Error),
}

/// What the worker was given.
#[derive(Debug)]
pub struct Inside {
    /// A folder for this conversion only.
    pub work: PathBuf,
    pub disks: Vec<DiskFile>,
    pub order: Value,
    pub(super) socket: Mutex<UnixStream>,
}

impl Inside {
    /// Takes the order from standard input, and mounts the disks as files in a namespace of its own. To be called
    /// before there are other threads: they would see other mounts.
    pub fn start() -> Result<Self, InsideError> {
        let mut socket = take_stdin().map_err(InsideError::NoSocket)?;
        private_namespace().map_err(InsideError::Namespace)?;
        let order = match frames::read(&mut socket).map_err(InsideError::Order)? {
            Some((Kind::Order, order)) => order,
            Some(_) => return Err(InsideError::Order(FrameError::Unexpected)),
            None => return Err(InsideError::Order(FrameError::CutShort)),
        };
        let Assignment { work, disks, order } =
            serde_json::from_slice(&order).map_err(InsideError::Nonsense)?;
        let inside = Self {
            work,
            disks,
            order,
            socket: Mutex::new(socket),
        };
        let connection = fuse::mount(&inside.files()).map_err(|source| InsideError::Mount {
            at: inside.files(),
            source,
        })?;
        inside.hand_over(&connection).map_err(InsideError::Talk)?;
        Ok(inside)
    }

    /// Where the disks are, as files that are named by their places: "0", "1".
    pub fn files(&self) -> PathBuf {
        self.work.join("disks")
    }

    /// Tells what it does now. What is longer than a line is cut off.
    pub fn step(&self, what: &str) -> Result<(), InsideError> {
        let what = &what[..what.floor_char_boundary(Kind::Step.limit())];
        self.send(Kind::Step, what.as_bytes())
    }

    /// Tells what came of it, after the disks were closed.
    pub fn report(self, report: &impl Serialize) -> Result<(), InsideError> {
        let report = serde_json::to_vec(report).map_err(|error| InsideError::Talk(error.into()))?;
        self.send(Kind::Report, &report)
    }

    fn send(&self, kind: Kind, payload: &[u8]) -> Result<(), InsideError> {
        let mut socket = self.socket.lock().expect("no panic while it was held");
        frames::write(&mut *socket, kind, payload).map_err(InsideError::Talk)
    }

    fn hand_over(&self, connection: &OwnedFd) -> io::Result<()> {
        let descriptors = [connection.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(
            control.push(SendAncillaryMessage::ScmRights(&descriptors)),
            "there is space for one"
        );
        let socket = self.socket.lock().expect("no panic while it was held");
        sendmsg(&*socket, &[IoSlice::new(b"f")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Whatever the worker starts inherits another one.
fn take_stdin() -> io::Result<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::net::sockopt::socket_type(&socket)?;
    rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

/// Mounts that nobody else sees, and that end with the last thread or process that is started from now on.
fn private_namespace() -> io::Result<()> {
    // SAFETY: no file descriptors are unshared, only mounts.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(())
}
