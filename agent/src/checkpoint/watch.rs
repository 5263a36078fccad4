//! The guard's side of [`super::guard`]: waits for the worst, and thaws.
//!
//! A thread stands by each file system from before the freeze, since a thaw may have to wait: for a freeze that
//! is not finished, or for the file system below, which another thread thaws. Nothing is allocated, read or started
//! once something is frozen.

use std::{
    fmt, fs,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::mm::{MlockAllFlags, mlockall};

use super::{
    fsfreeze,
    guard::{Message, NAME, Received, receive, send},
};

/// Between two attempts to thaw what the agent may yet freeze, or what failed to thaw.
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// A file system that does not thaw for so long has lost its disk.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// Of a thread that waits and calls.
const STACK_LEN: usize = 64 << 10;

/// Runs the guard on the socket at the standard input, until its other end closes.
pub fn run() -> anyhow::Result<()> {
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    detach();
    send(socket, Message::Ready, &[])
        .and_then(|()| serve(socket))
        .context("the guard is started by the agent, for itself")
}

/// Only once nothing is frozen.
fn say(what: fmt::Arguments<'_>) {
    // Whoever could read it may have ended, too.
    let _written = writeln!(io::stderr(), "{NAME}: {what}");
}

/// Whatever ends the agent must not end the guard, nor make it wait. What is refused is done without.
fn detach() {
    let _named = rustix::thread::set_name(c"orglift-guard");
    let _session = rustix::process::setsid();
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let _spared = fs::write("/proc/self/oom_score_adj", "-1000");
    let _urgent = rustix::process::setpriority_process(None, -20);
    // What is touched stays; the program is far larger than what the guard needs of it.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let _locked = mlockall(flags);
    // Touches the way to the call. A socket cannot be thawed.
    let _refused = fsfreeze::thaw(io::stdin().as_fd());
}

fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut files = Vec::new();
    loop {
        match receive(socket, None)? {
            Received::Message(Message::Watch, more) => files.extend(more),
            Received::Message(Message::Arm(longest_ms), _) => {
                let watch = Watch::over(std::mem::take(&mut files));
                match watch.run(socket, Duration::from_millis(longest_ms))? {
                    End::Disarmed { thawed } => {
                        send(socket, Message::Disarmed(thawed.into()), &[])?;
                    }
                    End::Alone => return Ok(()),
                }
            }
            // Nothing was armed: the agent gave up before it came to that.
            Received::Message(Message::Disarm, _) => send(socket, Message::Disarmed(0), &[])?,
            Received::End => return Ok(()),
            Received::Message(..) | Received::TimedOut => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

enum End {
    /// By an agent that has thawed.
    Disarmed { thawed: bool },
    /// The agent is dead.
    Alone,
}

/// One arming.
struct Watch {
    files: Vec<OwnedFd>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Which the agent has frozen, or is about to.
    freezing: Vec<bool>,
    thawed: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Waiting,
    /// The time has passed. The agent lives and may still freeze another.
    Thawing,
    /// The agent is dead: what is thawed stays so.
    Last,
    Over,
}

impl Watch {
    fn over(files: Vec<OwnedFd>) -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Waiting,
                freezing: vec![false; files.len()],
                thawed: 0,
            }),
            files,
            changed: Condvar::new(),
        }
    }

    fn run(&self, socket: BorrowedFd<'_>, longest: Duration) -> io::Result<End> {
        let outcome = thread::scope(|threads| {
            for (index, file) in self.files.iter().enumerate() {
                let stand_by = move || self.stand_by(index, file.as_fd());
                let started = thread::Builder::new()
                    .stack_size(STACK_LEN)
                    .spawn_scoped(threads, stand_by);
                if let Err(error) = started {
                    self.enter(Phase::Over);
                    return Err(error);
                }
            }
            let outcome = self.follow(socket, longest);
            self.enter(match outcome {
                Ok(Phase::Over) => Phase::Over,
                // An agent that cannot be understood is as good as dead.
                _ => Phase::Last,
            });
            outcome
        })?;
        let thawed = self.state().thawed;
        if outcome == Phase::Last {
            if thawed > 0 {
                say(format_args!(
                    "the agent ended while {thawed} file systems were frozen; they are thawed"
                ));
            }
            return Ok(End::Alone);
        }
        Ok(End::Disarmed { thawed: thawed > 0 })
    }

    /// Follows the agent to its end, and says which.
    fn follow(&self, socket: BorrowedFd<'_>, longest: Duration) -> io::Result<Phase> {
        send(socket, Message::Armed(self.files.len() as u64), &[])?;
        let mut deadline: Option<Instant> = None;
        loop {
            let left = match self.state().phase {
                Phase::Waiting => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
                _ => None,
            };
            match receive(socket, left)? {
                Received::Message(Message::Freezing(index), _) => {
                    deadline = deadline.or_else(|| Instant::now().checked_add(longest));
                    self.note(index, true)?;
                }
                Received::Message(Message::NotFrozen(index), _) => self.note(index, false)?,
                Received::Message(Message::Disarm, _) => return Ok(Phase::Over),
                Received::Message(..) => return Err(io::ErrorKind::InvalidData.into()),
                Received::TimedOut => self.enter(Phase::Thawing),
                Received::End => return Ok(Phase::Last),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        self.state().phase = phase;
        self.changed.notify_all();
    }

    fn note(&self, index: u64, freezing: bool) -> io::Result<()> {
        let index = usize::try_from(index).map_err(io::Error::other)?;
        let mut state = self.state();
        let slot = state.freezing.get_mut(index);
        *slot.ok_or(io::ErrorKind::InvalidData)? = freezing;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// A thread's work: thaws one file system when it is time.
    fn stand_by(&self, index: usize, file: BorrowedFd<'_>) {
        let mut state = self.state();
        let mut began: Option<Instant> = None;
        loop {
            state = match state.phase {
                Phase::Over => return,
                Phase::Last if !state.freezing[index] => return,
                Phase::Thawing | Phase::Last if state.freezing[index] => {
                    let last = state.phase == Phase::Last;
                    drop(state);
                    let outcome = fsfreeze::thaw(file);
                    let out_of_patience = began.get_or_insert_with(Instant::now).elapsed() > RETRY_MAX;
                    state = self.state();
                    state.thawed += usize::from(outcome == Ok(true));
                    if last && (outcome.is_ok() || out_of_patience) {
                        return;
                    }
                    let waited = self.changed.wait_timeout(state, RETRY_EVERY);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Phase::Waiting | Phase::Thawing | Phase::Last => {
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}
