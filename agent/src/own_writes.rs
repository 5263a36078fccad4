//! What the agent itself writes to this machine: its log and its status file.
//!
//! While a file system is frozen, whoever writes to it waits until it is thawed, and the agent must not wait: it
//! is the one to thaw. So everything that writes now and then asks here first. While writes are held, log lines
//! are kept in memory, and come out in their order afterwards; a status file is written a second later.
//!
//! This is one for the whole process, as its standard error is.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// A freeze lasts a second. More than this in one is a fault that repeats itself.
const KEPT_MAX: usize = 256 << 10;

static GATE: Gate = Gate {
    state: Mutex::new(State {
        writing: 0,
        holding: 0,
        kept: Vec::new(),
        lost_lines: 0,
    }),
    changed: Condvar::new(),
};

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    writing: usize,
    holding: usize,
    kept: Vec<u8>,
    lost_lines: u64,
}

/// A write may go on; no freeze begins before it is dropped.
#[derive(Debug)]
#[must_use = "it covers the write only while it is held"]
pub struct Writing(());

/// Nothing is written until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets writes go on"]
pub struct Held(());

/// `None` while writes are held: what is to be written has to wait.
pub fn begin() -> Option<Writing> {
    let mut state = GATE.state();
    (state.holding == 0).then(|| {
        state.writing += 1;
        Writing(())
    })
}

/// Holds writes, and waits for those that are under way. `None`: one of them did not end in time.
pub fn hold(longest: Duration) -> Option<Held> {
    let mut state = GATE.state();
    state.holding += 1;
    let held = Held(());
    let waited = GATE
        .changed
        .wait_timeout_while(state, longest, |state| state.writing > 0);
    let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    let all_ended = state.writing == 0;
    drop(state);
    all_ended.then_some(held)
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        GATE.state().writing -= 1;
        GATE.changed.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        loop {
            let mut state = GATE.state();
            if state.holding > 1 || state.kept.is_empty() && state.lost_lines == 0 {
                state.holding -= 1;
                return;
            }
            // What is logged meanwhile comes after this.
            let mut kept = std::mem::take(&mut state.kept);
            let lost = std::mem::take(&mut state.lost_lines);
            drop(state);
            if lost > 0 {
                kept.extend_from_slice(format!("{lost} more lines were lost during a freeze\n").as_bytes());
            }
            write_out(&kept);
        }
    }
}

fn write_out(text: &[u8]) {
    // There is no other place to say that the log cannot be written.
    let _written = io::stderr().lock().write_all(text);
}

/// For the log: the standard error, or memory while writes are held.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Log {
    /// A line comes in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = GATE.state();
        if state.holding == 0 {
            state.writing += 1;
            drop(state);
            let _writing = Writing(());
            write_out(line);
        } else if state.kept.len() + line.len() <= KEPT_MAX {
            state.kept.extend_from_slice(line);
        } else {
            state.lost_lines += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the gate is one for the process.
    #[test]
    fn writes_are_held_until_all_holders_are_gone() {
        let writing = begin().unwrap();
        assert!(hold(Duration::from_millis(10)).is_none());
        // Who gave up does not hold.
        drop(begin().unwrap());
        let holder = std::thread::spawn(|| hold(Duration::from_mins(1)).unwrap());
        while GATE.state().holding == 0 {
            std::thread::yield_now();
        }
        assert!(
            begin().is_none(),
            "a write cannot begin while a freeze waits for others"
        );
        drop(writing);
        let one = holder.join().unwrap();

        let other = hold(Duration::ZERO).unwrap();
        Log.write_all(b"kept while a freeze was tested\n").unwrap();
        drop(one);
        assert!(begin().is_none());
        assert!(!GATE.state().kept.is_empty());
        for _ in 0..2 {
            Log.write_all(&vec![b'x'; KEPT_MAX - 100]).unwrap();
        }
        assert!(GATE.state().kept.len() <= KEPT_MAX && GATE.state().lost_lines == 1);
        GATE.state().kept.truncate(31);
        drop(other);
        assert!(GATE.state().kept.is_empty() && GATE.state().lost_lines == 0);
        drop(begin().unwrap());
    }
}
