//! The core of the runner. It stands without a hub: what is wanted comes in by one channel, what is goes
//! out by another.

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cloud::{ObjectStore, SnapshotStore};
use identity::{Credentials, IdentityError};
use protocol::exchange::{Desired, Observed};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    conversions,
    files::{FileError, context},
    index, scrub,
};

pub(crate) mod core;
mod duties;

use core::Core;

/// How long open sessions have to end when the runner stops.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// How long a runner waits for the lock of one that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct RunnerConfig {
    /// The runner's state: sessions, manifests, digests.
    pub dir: PathBuf,
    pub credentials: Credentials,
    pub store: Arc<dyn SnapshotStore>,
    /// Where checkpoints outlive this machine.
    pub index: Option<Arc<dyn ObjectStore>>,
    /// Where agents connect for the data session.
    pub data: TcpListener,
    pub desired: watch::Receiver<Desired>,
    /// How fast all that is kept is read, over and over, to find damage; `None`: it is not.
    pub scrub_bytes_per_second: Option<NonZeroU64>,
    pub converting: Converting,
}

#[derive(Debug, Clone)]
pub struct Converting {
    /// `orglift-runner`, which is started to work on clones of disks.
    pub program: PathBuf,
    /// How long after a look at a server's disks the next one is due; `None`: nobody looks.
    pub inspect_every: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("another runner uses {0}")]
    Occupied(PathBuf),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot listen for agents")]
    Listen(#[source] io::Error),
}

impl Converting {
    /// For a runner that nobody asks for a conversion.
    pub fn never() -> Self {
        Self {
            program: PathBuf::new(),
            inspect_every: None,
        }
    }
}

/// A running runner. Dropped, it stops at once, as if it had crashed.
#[derive(Debug)]
pub struct Runner {
    core: Arc<Core>,
    observed: watch::Receiver<Observed>,
    address: SocketAddr,
    duties: JoinSet<()>,
}

impl Runner {
    pub async fn start(config: RunnerConfig) -> Result<Self, RunnerError> {
        let RunnerConfig {
            dir,
            credentials,
            store,
            index,
            data,
            desired,
            scrub_bytes_per_second,
            converting,
        } = config;
        fs::create_dir_all(&dir).map_err(context("create", &dir))?;
        let lock = Arc::new(lock(&dir).await?);
        let address = data.local_addr().map_err(RunnerError::Listen)?;
        let core = Core::new(dir, lock, store, desired, credentials, converting)?;
        let core = Arc::new(core);
        // Before the first agent is let in, every server is known, and in order.
        core.take_up_desired().await;
        let (report, observed) = watch::channel(core.observed());
        let mut duties = JoinSet::new();
        duties.spawn(duties::accept(Arc::clone(&core), data));
        duties.spawn(duties::follow_desired(Arc::clone(&core)));
        duties.spawn(duties::publish(Arc::clone(&core), report));
        duties.spawn(duties::watch_time(Arc::clone(&core)));
        duties.spawn(duties::keep_house(Arc::clone(&core)));
        duties.spawn(duties::keep_promises(Arc::clone(&core)));
        duties.spawn(conversions::tend_for_ever(Arc::clone(&core)));
        duties.spawn(scrub::listen(Arc::clone(&core)));
        if let Some(objects) = index {
            duties.spawn(index::keep_for_ever(Arc::clone(&core), objects));
        }
        if let Some(rate) = scrub_bytes_per_second {
            duties.spawn(scrub::for_ever(Arc::clone(&core), rate));
        }
        Ok(Self {
            core,
            observed,
            address,
            duties,
        })
    }

    /// What is, whenever it changes.
    pub fn observed(&self) -> watch::Receiver<Observed> {
        self.observed.clone()
    }

    pub fn data_address(&self) -> SocketAddr {
        self.address
    }

    /// The hub has `report`: those it names as turned away need not be reported again.
    pub fn reported(&self, report: &Observed) {
        self.core.reported(report);
    }

    /// Tells the agents, and ends. What is being committed is committed.
    pub async fn stop(mut self) {
        self.core.stop.cancel();
        let ended = async { while self.duties.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, ended).await.is_err() {
            tracing::warn!("not everything ended in time");
        }
        self.duties.shutdown().await;
    }
}

async fn lock(dir: &Path) -> Result<fs::File, RunnerError> {
    let path = dir.join("runner.lock");
    let file = fs::File::create(&path).map_err(context("create", &path))?;
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if tokio::time::Instant::now() > deadline {
            return Err(RunnerError::Occupied(dir.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(file)
}
