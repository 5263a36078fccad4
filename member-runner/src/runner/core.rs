//! What all parts of a runner share.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use cloud::SnapshotStore;
use domain::{
    ids::SourceServerId,
    replication::{Replication, ReplicationError, Stall},
};
use identity::{Credentials, IdentityError};
use protocol::exchange::{Desired, Observed, ObservedServer, TurnedAway};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Converting;
use crate::{
    housekeeping,
    server::{Server, ServerError},
    session::lanes::Doors,
    staging::chain,
};

/// Sessions at a time. Each may have 16 MiB in memory.
const SESSIONS_MAX: usize = 128;

/// Inspections at a time. Each may have the digests of one disk in memory, 64 MiB for 1 TiB.
const INSPECTIONS_MAX: usize = 8;

/// Whoever is turned away more often than this between two reports is named by the last ones only.
const TURNED_AWAY_MAX: usize = 64;

/// The same visitor with the same reason is named once in so long.
const TURNED_AWAY_EVERY_MS: i64 = 60_000;

pub(crate) struct Core {
    dir: PathBuf,
    dir_lock: Arc<fs::File>,
    pub store: Arc<dyn SnapshotStore>,
    pub desired: watch::Receiver<Desired>,
    pub credentials: Credentials,
    pub tls: TlsAcceptor,
    pub converting: Converting,
    /// Room for conversions and looks.
    pub conversions: Semaphore,
    /// Room for sessions.
    pub sessions: Arc<Semaphore>,
    /// Room for inspections.
    pub inspections: Arc<Semaphore>,
    /// Where further lanes of the open sessions come in.
    pub doors: Doors,
    servers: Mutex<BTreeMap<SourceServerId, Arc<Server>>>,
    /// Servers whose state cannot be read, and why.
    broken: Mutex<BTreeMap<SourceServerId, String>>,
    turned_away: Mutex<VecDeque<TurnedAway>>,
    /// Who was named lately, so as not to be named again at once.
    named: Mutex<VecDeque<TurnedAway>>,
    pub free_bytes: Mutex<Option<u64>>,
    index_behind: Mutex<Option<u64>>,
    generation: Mutex<u64>,
    /// Something that is reported changed.
    pub changed: Notify,
    /// Checkpoints may have to leave.
    pub tidy: Notify,
    pub stop: CancellationToken,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub fn new(
        dir: PathBuf,
        dir_lock: Arc<fs::File>,
        store: Arc<dyn SnapshotStore>,
        desired: watch::Receiver<Desired>,
        credentials: Credentials,
        converting: Converting,
    ) -> Result<Self, IdentityError> {
        let tls = identity::tls::server_for_machines(&credentials)?;
        Ok(Self {
            dir,
            dir_lock,
            store,
            desired,
            credentials,
            tls: TlsAcceptor::from(Arc::new(tls)),
            converting,
            conversions: Semaphore::new(1),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            inspections: Arc::new(Semaphore::new(INSPECTIONS_MAX)),
            doors: Doors::default(),
            servers: Mutex::default(),
            broken: Mutex::default(),
            turned_away: Mutex::default(),
            named: Mutex::default(),
            free_bytes: Mutex::default(),
            index_behind: Mutex::default(),
            generation: Mutex::default(),
            changed: Notify::new(),
            tidy: Notify::new(),
            stop: CancellationToken::new(),
        })
    }

    pub fn server(&self, id: &SourceServerId) -> Option<Arc<Server>> {
        lock(&self.servers).get(id).cloned()
    }

    pub fn servers(&self) -> Vec<Arc<Server>> {
        lock(&self.servers).values().cloned().collect()
    }

    /// Makes known every server that is wanted, and passes on what is wanted of it. A server that is not
    /// listed any more is let go; what is on disk of it stays, unless it was disconnected.
    pub async fn take_up_desired(&self) {
        let desired = self.desired.borrow().clone();
        for wanted in &desired.servers {
            if self.server(&wanted.id).is_none() {
                match self.load(&wanted.id).await {
                    Ok(server) => {
                        lock(&self.broken).remove(&wanted.id);
                        lock(&self.servers).insert(wanted.id.clone(), Arc::new(server));
                    }
                    Err(error) => {
                        let reason = chain(&error);
                        tracing::error!(server.id = %wanted.id, error = %reason, "cannot read what is kept of a server");
                        lock(&self.broken).insert(wanted.id.clone(), reason);
                    }
                }
            }
            if let Some(server) = self.server(&wanted.id) {
                let mut standing = server.standing();
                let retry = standing.intend(wanted.replication, wanted.retry_request);
                drop(standing);
                if retry {
                    server.set_full(None);
                }
            }
        }
        let is_wanted = |id: &SourceServerId| desired.servers.iter().any(|wanted| wanted.id == *id);
        lock(&self.servers).retain(|id, _| is_wanted(id));
        lock(&self.broken).retain(|id, _| is_wanted(id));
        *lock(&self.generation) = desired.generation;
        self.changed.notify_one();
        self.tidy.notify_one();
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn set_index_behind(&self, checkpoints: u64) {
        if lock(&self.index_behind).replace(checkpoints) != Some(checkpoints) {
            self.changed.notify_one();
        }
    }

    pub fn has_broken(&self) -> bool {
        !lock(&self.broken).is_empty()
    }

    async fn load(&self, id: &SourceServerId) -> Result<Server, ServerError> {
        let server = Server::load(&self.dir, id, Arc::clone(&self.store), Arc::clone(&self.dir_lock)).await?;
        // What a crash left behind, or what was not committed.
        let swept = housekeeping::sweep_all(&server).await;
        swept.map_err(|error| server.store_error(error))?;
        Ok(server)
    }

    pub fn turn_away(&self, address: SocketAddr, server: Option<SourceServerId>, reason: String) {
        tracing::debug!(%address, %reason, "turned away");
        let now = TurnedAway {
            address: address.ip().to_string(),
            server,
            reason,
            at_ms: chrono::Utc::now().timestamp_millis(),
        };
        let mut named = lock(&self.named);
        named.retain(|earlier| now.at_ms - earlier.at_ms < TURNED_AWAY_EVERY_MS);
        let same = |earlier: &TurnedAway| {
            (&earlier.address, &earlier.server, &earlier.reason) == (&now.address, &now.server, &now.reason)
        };
        if named.iter().any(same) {
            return;
        }
        for list in [&mut *named, &mut *lock(&self.turned_away)] {
            if list.len() == TURNED_AWAY_MAX {
                list.pop_front();
            }
            list.push_back(now.clone());
        }
        self.changed.notify_one();
    }

    pub fn reported(&self, report: &Observed) {
        lock(&self.turned_away).retain(|one| !report.turned_away.contains(one));
        self.changed.notify_one();
    }

    pub fn observed(&self) -> Observed {
        let desired = self.desired.borrow().clone();
        let servers = desired.servers.iter().filter_map(|wanted| {
            if let Some(server) = self.server(&wanted.id) {
                return Some(server.observed());
            }
            let detail = lock(&self.broken).get(&wanted.id)?.clone();
            Some(ObservedServer {
                id: wanted.id.clone(),
                replication: Replication::Stalled(Stall {
                    error: ReplicationError::SnapshotsFailure,
                    detail: format!("the runner cannot read what it keeps of this server: {detail}"),
                    step: None,
                }),
                agent: None,
                disks: Vec::new(),
                flow: domain::flow::Flow::default(),
                durable_request: 0,
                checkpoints: Vec::new(),
                inspection: None,
                conversion: None,
                forgotten: false,
            })
        });
        Observed {
            generation: *lock(&self.generation),
            runner_version: env!("CARGO_PKG_VERSION").to_owned(),
            staging_free_bytes: *lock(&self.free_bytes),
            index_behind: *lock(&self.index_behind),
            servers: servers.collect(),
            turned_away: lock(&self.turned_away).iter().cloned().collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it was held")
}
