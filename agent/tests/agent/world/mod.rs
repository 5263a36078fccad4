//! A source server with image files for disks, its agent, and its runner.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use agent::{
    config::{Config, DiskChoice},
    disks::{Roots, discover},
    layout::Layout,
    run,
    session::{Agent, Pace, roster::chosen},
    status::LocalStatus,
};
use domain::{
    disk::BLOCK_LEN,
    ids::{RunnerId, SourceServerId},
};
use identity::{Authority, Credentials, NewKey, Role};
use protocol::session::CheckpointOffer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub mod enroller;
pub mod loop_device;
pub mod program;
pub mod runner;

use runner::{Runner, State};

pub struct World {
    pub folder: tempfile::TempDir,
    pub layout: Layout,
    pub runner: Runner,
    pub disks: Vec<PathBuf>,
    pub pace: Pace,
    agent: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

pub fn machine(authority: &Authority, role: &Role) -> Credentials {
    let key = NewKey::generate().unwrap();
    let signed = authority.sign(&key.csr_pem().unwrap(), role).unwrap();
    key.certified(signed.certificate_pem, authority.certificate_pem().to_owned())
}

/// Bytes that differ from block to block and do not shrink.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

impl World {
    /// An enrolled agent whose disks hold `contents`. It does not run yet.
    pub async fn new(contents: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut disks = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            let path = folder.path().join(format!("disk{number}.raw"));
            fs::write(&path, content).unwrap();
            disks.push(path);
        }
        Self::with_disks(folder, disks).await
    }

    /// The same for disks that are there already; everything else goes into `folder`.
    pub async fn with_disks(folder: tempfile::TempDir, disks: Vec<PathBuf>) -> Self {
        identity::install_crypto_provider();
        let authority = Authority::generate("test").unwrap();
        let runner = Runner::start(&machine(&authority, &Role::Runner(RunnerId::from_entropy(1)))).await;
        let layout = Layout::new(folder.path().join("agent"));
        layout.create().unwrap();
        let server = SourceServerId::from_entropy(2);
        machine(&authority, &Role::Agent(server))
            .save(&layout.credentials())
            .unwrap();
        let found = discover::named(&Roots::default(), &disks).unwrap();
        let config = Config {
            runner_host: "127.0.0.1".into(),
            data_port: runner.port,
            choice: DiskChoice::Named,
            disks: found.iter().map(chosen).collect(),
            tags: BTreeMap::new(),
        };
        config.save(&layout).unwrap();
        let pace = Pace {
            examine_every: Duration::from_millis(50),
            ..Pace::default()
        };
        Self {
            folder,
            layout,
            runner,
            disks,
            pace,
            agent: None,
        }
    }

    pub fn start_agent(&mut self) {
        let (agent, mut config): (Arc<Agent>, Config) =
            run::load(self.layout.clone(), Roots::default(), self.pace, None).unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { run::replicate(&agent, &mut config, &token).await });
        self.agent = Some((stop, task));
    }

    /// Stops the agent as SIGTERM does, and waits for its end.
    pub async fn stop_agent(&mut self) {
        let (stop, task) = self.agent.take().unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    /// Waits for the agent to end by itself.
    pub async fn agent_ends(&mut self) {
        let (_stop, task) = self.agent.take().unwrap();
        tokio::time::timeout(Duration::from_secs(20), task)
            .await
            .expect("the agent ends")
            .unwrap()
            .unwrap();
    }

    pub fn status(&self) -> LocalStatus {
        serde_json::from_slice(&fs::read(self.layout.status()).unwrap()).unwrap()
    }

    pub fn write_block(&self, disk: usize, block: usize, bytes: &[u8]) {
        write_at(&self.disks[disk], (block * BLOCK_LEN) as u64, bytes);
    }

    /// Waits until the runner's state is as `right` says.
    pub async fn eventually(&self, what: &str, right: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !right(&self.runner.state()) {
            if Instant::now() > deadline {
                let state = self.runner.state();
                panic!(
                    "never: {what}; checkpoints {:?}, goodbyes {:?}, last status {:?}, local {:?}",
                    state.checkpoints,
                    state.goodbyes,
                    state.statuses.last(),
                    fs::read_to_string(self.layout.status())
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks for a checkpoint and waits for it.
    pub async fn checkpoint(&self) -> CheckpointOffer {
        let request = self.runner.request_checkpoint();
        self.eventually("a checkpoint answers the request", |state| {
            state
                .checkpoints
                .last()
                .is_some_and(|offer| offer.request == request)
        })
        .await;
        self.runner.state().checkpoints.last().unwrap().clone()
    }

    pub async fn first_copy(&self) {
        self.eventually("a first checkpoint", |state| !state.checkpoints.is_empty())
            .await;
    }

    pub fn assert_replica_equals_source(&self) {
        let state = self.runner.state();
        assert_eq!(state.committed.len(), self.disks.len());
        for disk in &state.hellos.last().unwrap().disks {
            let source = fs::read(&disk.device_name).unwrap();
            assert!(
                state.committed[&disk.id] == source,
                "{} differs",
                disk.device_name
            );
        }
    }
}

pub fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}
