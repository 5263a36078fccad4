//! Threads whose end is waited for with a limit.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread::Builder,
    time::Duration,
};

/// What runs in a thread of its own, and gives one value at its end.
#[derive(Debug)]
pub struct Background<T> {
    name: &'static str,
    value: Receiver<T>,
}

#[derive(Debug, thiserror::Error)]
pub enum NotEnded {
    #[error("the {name} did not end within {} s", limit.as_secs())]
    TooSlow { name: &'static str, limit: Duration },
    #[error("the {0} panicked")]
    Panicked(&'static str),
}

impl<T: Send + 'static> Background<T> {
    pub fn spawn(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (done, value) = sync_channel(1);
        Builder::new().name(name.to_owned()).spawn(move || {
            // Nobody may wait for it any more.
            drop(done.send(work()));
        })?;
        Ok(Self { name, value })
    }

    /// The value, which is given once. It may be asked for again after it was too slow.
    pub fn end_within(&self, limit: Duration) -> Result<T, NotEnded> {
        let name = self.name;
        self.value.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => NotEnded::TooSlow { name, limit },
            RecvTimeoutError::Disconnected => NotEnded::Panicked(name),
        })
    }
}
