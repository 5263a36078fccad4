//! The application on a source server: it keeps changing the disks, and stands still when asked to.
//!
//! Each round overwrites a few random pages and appends to a log that wraps around. Between two rounds
//! it looks for a wish to freeze (see [`super::freeze`]); a freeze that nobody lifts ends by itself, so
//! that a dead agent cannot stop an application.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{disk::Random, freeze::Freeze};

const PAGE: usize = 4096;
const PAGES_PER_ROUND: usize = 3;
const APPENDED_PER_ROUND: usize = 700;
/// About 200 writes a second, as a small server has them.
const ROUND: Duration = Duration::from_millis(20);
/// The agent freezes for a second at most; this is for the one that died.
const FROZEN_MAX: Duration = Duration::from_secs(10);
const FROZEN_POLL: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub struct Workload {
    /// Dropping it stops the thread.
    running: Option<mpsc::SyncSender<()>>,
    written: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Workload {
    pub fn start(disks: &[PathBuf], freeze: Freeze, seed: u64) -> anyhow::Result<Self> {
        let open = |path: &PathBuf| -> anyhow::Result<Target> {
            let file = fs::OpenOptions::new().write(true).open(path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            let bytes = file.metadata().context("cannot see a disk's size")?.len();
            Ok(Target {
                file,
                bytes,
                log_at: 0,
            })
        };
        let targets: Vec<_> = disks.iter().map(open).collect::<Result<_, _>>()?;
        // Never sent on: it is its end that speaks.
        let (running, stop) = mpsc::sync_channel(0);
        let written = Arc::new(AtomicU64::new(0));
        let work = Work {
            targets,
            freeze,
            random: Random::new(seed),
            stop,
            written: written.clone(),
        };
        let thread = thread::Builder::new()
            .name("workload".into())
            .spawn(move || work.run())
            .context("cannot start a workload")?;
        Ok(Self {
            running: Some(running),
            written,
            thread: Some(thread),
        })
    }

    /// Bytes written since it started.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops for good, as an operator stops the application before the last checkpoint.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.running = None;
        let thread = self.thread.take().context("a workload stops once")?;
        match thread.join() {
            Ok(result) => result.context("a workload could not write"),
            Err(_) => anyhow::bail!("a workload panicked"),
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // Whoever drops it no longer cares how it went.
            let _ = thread.join();
        }
    }
}

struct Target {
    file: fs::File,
    bytes: u64,
    log_at: u64,
}

struct Work {
    targets: Vec<Target>,
    freeze: Freeze,
    random: Random,
    stop: mpsc::Receiver<()>,
    written: Arc<AtomicU64>,
}

impl Work {
    fn run(mut self) -> std::io::Result<()> {
        while !self.is_stopped_within(ROUND) {
            self.stand_still_while_frozen()?;
            for target in &mut self.targets {
                self.written
                    .fetch_add(target.round(&mut self.random)?, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn is_stopped_within(&self, time: Duration) -> bool {
        !matches!(self.stop.recv_timeout(time), Err(mpsc::RecvTimeoutError::Timeout))
    }

    fn stand_still_while_frozen(&self) -> std::io::Result<()> {
        if !self.freeze.is_wanted() {
            return Ok(());
        }
        self.freeze.confirm()?;
        let end = Instant::now() + FROZEN_MAX;
        while self.freeze.is_wanted() {
            if Instant::now() >= end {
                self.freeze.withdraw()?;
            }
            if self.is_stopped_within(FROZEN_POLL) {
                break;
            }
        }
        self.freeze.lift()
    }
}

impl Target {
    fn round(&mut self, random: &mut Random) -> std::io::Result<u64> {
        let mut page = [0; PAGE];
        for _ in 0..PAGES_PER_ROUND {
            random.fill(&mut page[..PAGE / 2]);
            // Past the first MiB, which holds the partition table and the log.
            let pages = self.bytes.saturating_sub(LOG_END) / PAGE as u64;
            let at = LOG_END + random.below(pages) * PAGE as u64;
            let len = self.bytes.saturating_sub(at).min(PAGE as u64);
            self.file
                .write_all_at(&page[..usize::try_from(len).unwrap_or(PAGE)], at)?;
        }
        let mut line = [b'.'; APPENDED_PER_ROUND];
        random.fill(&mut line[..16]);
        let at = LOG_START + self.log_at;
        self.file.write_all_at(&line, at)?;
        self.log_at = (self.log_at + line.len() as u64) % (LOG_END - LOG_START - line.len() as u64);
        Ok((PAGES_PER_ROUND * PAGE + APPENDED_PER_ROUND) as u64)
    }
}

/// The appended log lives in the gap before the first partition.
const LOG_START: u64 = 64 << 10;
const LOG_END: u64 = 1 << 20;
