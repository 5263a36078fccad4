//! Feels how long a file system keeps its writers waiting.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;

/// How often it writes, unless it has to wait.
const EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Probe {
    felt: Arc<Mutex<Felt>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

#[derive(Debug)]
struct Felt {
    /// The longest since somebody looked.
    longest: Duration,
    /// When the write that is under way, or else the last, began.
    last_began: Instant,
    under_way: bool,
}

impl Probe {
    /// Writes to a new file, and waits for the disk each time.
    pub fn start(path: &Path) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
        let felt = Arc::new(Mutex::new(Felt {
            longest: Duration::ZERO,
            last_began: Instant::now(),
            under_way: false,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (felt.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopping.load(Relaxed) {
                let began = Instant::now();
                {
                    let mut felt = lock(&shared);
                    felt.last_began = began;
                    felt.under_way = true;
                }
                file.write_all_at(&[1; 4096], 0)?;
                file.sync_data()?;
                let took = began.elapsed();
                {
                    let mut felt = lock(&shared);
                    felt.longest = felt.longest.max(took);
                    felt.under_way = false;
                }
                std::thread::sleep(EVERY.saturating_sub(took));
            }
            Ok(())
        });
        Ok(Self {
            felt,
            stop,
            thread: Some(thread),
        })
    }

    /// The longest that a write took since this was asked last, in seconds; one that is under way counts.
    pub fn longest(&self) -> f64 {
        let waiting = self.waiting();
        let mut felt = lock(&self.felt);
        std::mem::take(&mut felt.longest).max(waiting).as_secs_f64()
    }

    /// How long the write that is under way has been waiting.
    pub fn waiting(&self) -> Duration {
        let felt = lock(&self.felt);
        if felt.under_way {
            felt.last_began.elapsed()
        } else {
            Duration::ZERO
        }
    }

    /// Ends it; a write that failed is told now.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().context("a probe ends once")?;
        let written = thread.join().ok().context("the probe panicked")?;
        written.context("the probe could not write")
    }
}

/// On the way out of an error: the thread ends by itself once the file system lets it.
impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn lock(felt: &Mutex<Felt>) -> MutexGuard<'_, Felt> {
    felt.lock().unwrap_or_else(PoisonError::into_inner)
}
