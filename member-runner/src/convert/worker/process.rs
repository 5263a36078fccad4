//! The worker as a process with a group of its own, which never lives longer than we do.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::sync_channel,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getppid, kill_process_group, pidfd_open,
        pidfd_send_signal, set_parent_process_death_signal, waitid,
    },
};

use super::{ENDS_WITHIN, Said, WorkerError};
use crate::convert::{
    sandbox::{Output, read_output},
    threads::Background,
};

/// Killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    /// Stands for this process even when its number is another's.
    pub(super) handle: OwnedFd,
    /// Starts it, waits for it, and ends with it: the signal that the kernel sends at the death of a parent comes at
    /// the end of the thread that started the process.
    keeper: Background<io::Result<ExitStatus>>,
    errors: Background<io::Result<Output>>,
    ended: Option<(ExitStatus, Said)>,
}

impl Process {
    pub fn start(mut command: Command, stdin: OwnedFd) -> io::Result<Self> {
        let (said, errors) = io::pipe()?;
        command
            .process_group(0)
            .current_dir("/")
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(errors);
        die_with_us(&mut command);
        let (started, start) = sync_channel(1);
        let keeper = Background::spawn("keeper of a worker", move || {
            let child = command.spawn();
            // It holds what the worker inherits, too.
            drop(command);
            let mut child = child?;
            match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
                Ok(handle) => drop(started.send(handle)),
                Err(error) => {
                    child.kill()?;
                    child.wait()?;
                    return Err(error.into());
                }
            }
            keep(child)
        })?;
        let Ok(handle) = start.recv() else {
            return Err(match keeper.end_within(ENDS_WITHIN) {
                Ok(Err(error)) => error,
                Ok(Ok(_)) => io::ErrorKind::BrokenPipe.into(),
                Err(error) => io::Error::other(error),
            });
        };
        Ok(Self {
            handle,
            keeper,
            errors: Background::spawn("reader of a worker's errors", move || read_output(said))?,
            ended: None,
        })
    }

    /// How it ended, and what it said, once it is gone with all of its group. It has `grace` to end by itself.
    pub fn end(&mut self, grace: Duration) -> Result<(ExitStatus, Said), WorkerError> {
        if let Some(ended) = &self.ended {
            return Ok(ended.clone());
        }
        let status = self.keeper.end_within(grace).or_else(|_| {
            self.kill();
            self.keeper.end_within(ENDS_WITHIN)
        });
        let status = status.map_err(WorkerError::Stays)?.map_err(WorkerError::Wait)?;
        // The pipe ends with the group; if not, what it said is missed.
        let said = self.errors.end_within(ENDS_WITHIN).map_err(WorkerError::Stays)?;
        let said = said.map_err(WorkerError::Wait)?;
        let ended = (status, Said::tail_of(&said.to_string()));
        self.ended = Some(ended.clone());
        Ok(ended)
    }

    fn kill(&self) {
        // One that is gone does not mind.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has the kernel kill it when we die.
fn die_with_us(command: &mut Command) {
    let own_id = std::process::id();
    // SAFETY: between fork and exec the closure makes system calls, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // If we died before, no signal comes any more.
            let parent = getppid().map_or(0, |id| id.as_raw_nonzero().get());
            if u32::try_from(parent) == Ok(own_id) {
                Ok(())
            } else {
                Err(Errno::SRCH.into())
            }
        });
    }
}

/// Waits for the end of a process, and ends its group.
fn keep(mut child: Child) -> io::Result<ExitStatus> {
    let id = Pid::from_child(&child);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(id), ended) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    // It was not taken notice of yet, so that its number, which is that of the group, is still its own.
    if let Err(error) = kill_process_group(id, Signal::KILL)
        && error != Errno::SRCH
    {
        tracing::warn!(%error, "what a worker started may be left");
    }
    child.wait()
}
