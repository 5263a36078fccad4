//! The state that every part of the hub shares.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use cloud::Cloud;
use domain::{digest::Digest, replication_configuration::ReplicationConfiguration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    changes::Changes,
    configuration::{Oidc, SignIn, Smtp},
    machines::identity::Proofs,
    metrics::Metrics,
    notices,
    overviews::Overviews,
    pki::{Pki, PkiError},
    resources::prices::Prices,
    store::{Database, Store, Unopened},
};

#[derive(Debug)]
pub struct Hub {
    pub store: Store,
    pub changes: Changes,
    pub cloud: Arc<dyn Cloud>,
    pub pki: Pki,
    pub settings: Settings,
    /// Of runners that enrol by their identity.
    pub proofs: Proofs,
    /// A saga was added: the engine looks at once.
    pub sagas_added: Notify,
    /// An account was added, or somebody wants to know now: the reconciler looks at once.
    pub accounts_changed: Notify,
    /// Somebody wants to know now whether a network is ready: the reconciler looks at once.
    pub readiness_wanted: Notify,
    /// Somebody wants to know now what an account has of ours: the reconciler asks at once.
    pub inventory_wanted: Notify,
    /// A wave's launch was begun, held or let go on: the reconciler looks at once.
    pub waves_changed: Notify,
    /// Sends notices.
    pub notifier: reqwest::Client,
    pub metrics: Metrics,
    /// It runs jobs, waves and checks; of several hubs on one database, one does.
    pub leads: AtomicBool,
    /// For the global view.
    pub overviews: Overviews,
    /// For estimates of what is in accounts.
    pub prices: Prices,
    /// Cancelled when the hub is to stop: long polls and event streams end.
    pub stopping: CancellationToken,
}

/// What an operator sets when starting the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between scheduled checkpoints of a server.
    pub checkpoint_interval: Duration,
    /// How long a launch waits for a fresh checkpoint before it refuses.
    pub checkpoint_deadline: Duration,
    /// How long a launch waits for its runner to convert the checkpoint, a rehearsal apart.
    pub conversion_deadline: Duration,
    /// How long any other step is retried, or waits, before it fails for good.
    pub step_deadline: Duration,
    /// How long after a request without an answer the cloud may still show what it made.
    pub settle: Duration,
    pub sign_in: SignIn,
    pub oidc: Option<Oidc>,
    pub smtp: Option<Smtp>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            checkpoint_interval: Duration::from_mins(10),
            checkpoint_deadline: Duration::from_mins(15),
            conversion_deadline: Duration::from_hours(1),
            step_deadline: Duration::from_mins(30),
            settle: Duration::from_secs(10),
            sign_in: SignIn::default(),
            oidc: None,
            smtp: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create {0}")]
    Folder(std::path::PathBuf, #[source] std::io::Error),
    #[error("cannot open the hub's database")]
    Store(#[from] Unopened),
    #[error("cannot open the hub's certificate authority")]
    Pki(#[from] PkiError),
}

impl Hub {
    /// Of servers that no template is for.
    pub fn usual_replication(&self) -> ReplicationConfiguration {
        let interval = self.settings.checkpoint_interval.as_secs();
        ReplicationConfiguration {
            checkpoint_interval_s: u32::try_from(interval).unwrap_or(u32::MAX),
            ..ReplicationConfiguration::default()
        }
    }

    /// Opens the hub whose state is in `dir`, or makes a new one there.
    pub async fn open(
        dir: &Path,
        database: &Database,
        cloud: Arc<dyn Cloud>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        create_folder(dir)?;
        let changes = Changes::default();
        let store = Store::open(database, changes.clone()).await?;
        let pki = Pki::open(&dir.join("ca"))?;
        let authority = pki.ca_sha256().map_err(PkiError::from)?;
        store.is_of_authority(&Digest(authority).to_string()).await?;
        Ok(Self {
            store,
            changes,
            cloud,
            pki,
            notifier: notices::client(),
            metrics: Metrics::default(),
            leads: AtomicBool::new(false),
            settings,
            proofs: Proofs::default(),
            sagas_added: Notify::new(),
            accounts_changed: Notify::new(),
            readiness_wanted: Notify::new(),
            inventory_wanted: Notify::new(),
            waves_changed: Notify::new(),
            overviews: Overviews::default(),
            prices: Prices::load_or_built_in(dir),
            stopping: CancellationToken::new(),
        })
    }
}

/// Makes the hub's folder, which nobody else may look into.
pub fn create_folder(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| OpenError::Folder(dir.to_owned(), source))
}
