//! A runner on loopback, and agents that say exactly what a test wants them to say.

// Each test file uses its part of it.
#![allow(dead_code)]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use cloud::{SnapshotStore, layers::LayerStore};
use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    digest::Digest,
    disk::{BLOCK_LEN, Disk, block_count, block_len},
    ids::{RunnerId, SourceServerId},
    launch::{BootMode, instance_type::Architecture},
    replication_configuration::CHECKPOINTS_KEPT_USUALLY,
    source_server::{ReplicationIntent, SourceProperties},
};
use identity::{Authority, Credentials, NewKey, Role};
use member_runner::{
    Converting, Runner, RunnerConfig,
    export::{self, Which},
};
use protocol::{
    exchange::{Desired, DesiredServer, Observed, ObservedServer},
    extent,
    frame::{self, Frame, HEADER_LEN, Header},
    session::{
        AgentMessage, AgentStatus, CheckpointOffer, Hello, Phase, RunnerMessage, SessionId, Welcome, control,
        read_control,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const BLOCK: u64 = BLOCK_LEN as u64;
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub folder: tempfile::TempDir,
    pub authority: Authority,
    credentials: Credentials,
    pub desired: watch::Sender<Desired>,
    runner: Option<Runner>,
}

pub fn server_id(n: u128) -> SourceServerId {
    SourceServerId::from_entropy(n)
}

pub fn certified(authority: &Authority, role: &Role) -> Credentials {
    let key = NewKey::generate().unwrap();
    let signed = authority.sign(&key.csr_pem().unwrap(), role).unwrap();
    key.certified(signed.certificate_pem, authority.certificate_pem().to_owned())
}

/// Servers one to `count`, each to be replicated.
pub fn desired_servers(count: u128) -> Vec<DesiredServer> {
    let servers = (1..=count).map(|n| DesiredServer {
        id: server_id(n),
        replication: ReplicationIntent::Run,
        checkpoint_request: 0,
        checkpoint_interval_s: 600,
        checkpoints_kept: CHECKPOINTS_KEPT_USUALLY,
        bandwidth: domain::bandwidth::Bandwidth::default(),
        retry_request: 0,
        pinned: Vec::new(),
        conversion: None,
    });
    servers.collect()
}

impl World {
    pub async fn with_servers(count: u128) -> Self {
        identity::install_crypto_provider();
        let authority = Authority::generate("test").unwrap();
        let credentials = certified(&authority, &Role::Runner(RunnerId::from_entropy(1)));
        let desired = Desired {
            generation: 1,
            servers: desired_servers(count),
            revoked_serials: Vec::new(),
        };
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            authority,
            credentials,
            desired: watch::channel(desired).0,
            runner: None,
        };
        world.start().await;
        world
    }

    pub fn store_path(&self) -> PathBuf {
        self.folder.path().join("snapshots")
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("runner")
    }

    pub async fn start(&mut self) {
        let store = LayerStore::open(self.store_path()).unwrap();
        self.start_with(Arc::new(store)).await;
    }

    pub async fn start_with(&mut self, store: Arc<dyn SnapshotStore>) {
        let config = RunnerConfig {
            dir: self.dir(),
            credentials: self.credentials.clone(),
            store,
            data: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            desired: self.desired.subscribe(),
            scrub_bytes_per_second: None,
            index: None,
            converting: Converting {
                program: env!("CARGO_BIN_EXE_orglift-runner").into(),
                inspect_every: None,
            },
        };
        self.runner = Some(Runner::start(config).await.unwrap());
    }

    /// As a crash would: nothing is told, nothing is finished. What is on disk is all that remains.
    pub async fn crash_and_restart(&mut self) {
        self.crash();
        self.start().await;
    }

    pub fn crash(&mut self) {
        drop(self.runner.take());
    }

    pub async fn stop(&mut self) {
        self.runner.take().unwrap().stop().await;
    }

    pub fn runner(&self) -> &Runner {
        self.runner.as_ref().unwrap()
    }

    pub fn want(&self, change: impl FnOnce(&mut Desired)) {
        self.desired.send_modify(|desired| {
            desired.generation += 1;
            change(desired);
        });
    }

    pub fn agent(&self, n: u128) -> Agent {
        let id = server_id(n);
        Agent {
            credentials: certified(&self.authority, &Role::Agent(id.clone())),
            id,
            hostname: format!("web-{n}"),
            kept: None,
        }
    }

    /// Waits until what is observed is as wanted.
    pub async fn eventually(&self, wanted: impl Fn(&Observed) -> bool) -> Observed {
        let mut observed = self.runner().observed();
        let found = timeout(PATIENCE, observed.wait_for(|now| wanted(now))).await;
        match found {
            Ok(found) => found.unwrap().clone(),
            Err(late) => panic!("{late}: {:#?}", *self.runner().observed().borrow()),
        }
    }

    pub async fn eventually_server(
        &self,
        n: u128,
        wanted: impl Fn(&ObservedServer) -> bool,
    ) -> ObservedServer {
        let id = server_id(n);
        let of = |observed: &Observed| observed.servers.iter().find(|server| server.id == id).cloned();
        let observed = self
            .eventually(|observed| of(observed).is_some_and(|server| wanted(&server)))
            .await;
        of(&observed).unwrap()
    }

    /// A disk as the checkpoint shows it, written out by the export.
    pub async fn exported(&self, n: u128, which: Which, disk: &str) -> Vec<u8> {
        let held = export::hold(&self.dir(), &server_id(n), which).unwrap();
        let disk = export::disk(&held.checkpoint, disk).unwrap();
        let to = self.folder.path().join("exported");
        // What was there before must not shine through.
        std::fs::write(&to, vec![0xee; 3 * BLOCK_LEN]).unwrap();
        let store = LayerStore::open(self.store_path()).unwrap();
        export::export(&store, disk, &to, |_| {}).await.unwrap();
        std::fs::read(&to).unwrap()
    }
}

#[derive(Debug, Clone)]
pub struct Agent {
    pub id: SourceServerId,
    pub credentials: Credentials,
    pub hostname: String,
    pub kept: Option<SessionId>,
}

pub fn disk(n: u32, bytes: u64) -> Disk {
    Disk {
        id: format!("serial-{n}").parse().unwrap(),
        device_name: format!("/dev/sd{n}"),
        bytes,
        is_boot: n == 0,
    }
}

#[derive(Debug)]
pub enum Answer {
    Welcome(Welcome),
    Refused(protocol::session::Refusal),
    /// The connection ended.
    Nothing,
}

impl Agent {
    pub fn hello(&self, disks: &[Disk]) -> Hello {
        Hello {
            versions: protocol::SESSION_VERSIONS,
            agent_version: "0.1.0".into(),
            server: self.id.clone(),
            boot_id: "b".into(),
            kept_session: self.kept.clone(),
            properties: SourceProperties {
                hostname: self.hostname.clone(),
                fqdn: format!("{}.example.com", self.hostname),
                os: "Debian GNU/Linux 12".into(),
                kernel: "6.1.0".into(),
                architecture: Architecture::X86_64,
                boot_mode: BootMode::Uefi,
                cpus: 2,
                ram_bytes: 1 << 30,
                network_interfaces: Vec::new(),
                disks: disks.to_vec(),
            },
            disks: disks.to_vec(),
        }
    }

    /// Asks to be a lane of a session; returns what the runner says to it.
    pub async fn join(
        &self,
        world: &World,
        session: &SessionId,
        lane: u16,
    ) -> (Connection, Option<RunnerMessage>) {
        let join = AgentMessage::Join {
            server: self.id.clone(),
            session: session.clone(),
            lane,
        };
        self.ask(world, &join).await
    }

    /// A connection that begins with `first`, and what the runner says to that.
    pub async fn ask(&self, world: &World, first: &AgentMessage) -> (Connection, Option<RunnerMessage>) {
        let mut connection = self.dial(world.runner().data_address()).await;
        connection.say(first).await;
        let answer = connection.hear().await;
        (connection, answer)
    }

    async fn dial(&self, runner: SocketAddr) -> Connection {
        let tls = identity::tls::client(&self.credentials).unwrap();
        let tcp = TcpStream::connect(runner).await.unwrap();
        let name = Role::RUNNER_NAME.try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(name, tcp)
            .await
            .unwrap();
        Connection { stream }
    }

    pub async fn knock(&self, world: &World, disks: &[Disk]) -> (Connection, Answer) {
        self.knock_at(world.runner().data_address(), disks).await
    }

    async fn knock_at(&self, runner: SocketAddr, disks: &[Disk]) -> (Connection, Answer) {
        let mut connection = self.dial(runner).await;
        connection.say(&AgentMessage::Hello(self.hello(disks))).await;
        let answer = match connection.hear().await {
            Some(RunnerMessage::Welcome(welcome)) => Answer::Welcome(welcome),
            Some(RunnerMessage::Refused(refusal)) => Answer::Refused(refusal),
            Some(other) => panic!("{other:?} in place of a welcome"),
            None => Answer::Nothing,
        };
        (connection, answer)
    }

    /// Is let in, and keeps the session.
    pub async fn enter(&mut self, world: &World, disks: &[Disk]) -> (Connection, Welcome) {
        self.enter_at(world.runner().data_address(), disks).await
    }

    pub async fn enter_at(&mut self, runner: SocketAddr, disks: &[Disk]) -> (Connection, Welcome) {
        let (mut connection, answer) = self.knock_at(runner, disks).await;
        let Answer::Welcome(welcome) = answer else {
            panic!("{answer:?}")
        };
        self.kept = Some(welcome.session.clone());
        connection.say(&AgentMessage::SessionKept).await;
        (connection, welcome)
    }
}

pub struct Connection {
    pub stream: TlsStream<TcpStream>,
}

impl Connection {
    pub async fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode_to(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
        // Or TLS keeps a rest of it while the socket is full.
        self.stream.flush().await.unwrap();
    }

    pub async fn say(&mut self, message: &AgentMessage) {
        self.send(&control(message)).await;
    }

    pub async fn write(&mut self, disk: u16, at: u64, data: &[u8]) {
        let digest = Digest::of(data);
        self.send(&extent::encode(disk, at, digest, data, true)).await;
    }

    pub async fn zeros(&mut self, disk: u16, at: u64, len: u64) {
        self.send(&frame::zeros(disk, at, len)).await;
    }

    pub async fn status(&mut self, phase: Phase) {
        let disks = Vec::new();
        let status = AgentStatus {
            phase,
            disks,
            trouble: None,
            flow: domain::flow::Flow::default(),
        };
        self.say(&AgentMessage::Status(status)).await;
    }

    async fn frame(&mut self) -> Option<Frame> {
        let mut header = [0; HEADER_LEN];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut header)).await;
        read.expect("no answer in time").ok()?;
        let header = Header::decode(&header).unwrap();
        let mut payload = vec![0; header.payload_len];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: header.kind,
            codec: header.codec,
            disk: header.disk,
            at: header.at,
            payload,
        })
    }

    /// The next message that is no mere sign of life; `None` if the connection ended.
    pub async fn hear(&mut self) -> Option<RunnerMessage> {
        loop {
            match read_control(&self.frame().await?).unwrap() {
                RunnerMessage::Orders(_) | RunnerMessage::KeepAlive => {}
                other => return Some(other),
            }
        }
    }

    pub async fn orders(&mut self) -> protocol::session::Orders {
        loop {
            if let RunnerMessage::Orders(orders) = read_control(&self.frame().await.unwrap()).unwrap() {
                return orders;
            }
        }
    }

    pub async fn digests(&mut self, disk: u16, bytes: u64) -> Vec<Digest> {
        let count = block_count(bytes);
        let first_block = 0;
        self.say(&AgentMessage::DigestsWanted {
            disk,
            first_block,
            count,
            after: protocol::session::SentBefore::default(),
        })
        .await;
        self.answered_digests().await
    }

    pub async fn answered_digests(&mut self) -> Vec<Digest> {
        loop {
            if let Some(digests) = frame::read_digests(&self.frame().await.unwrap()) {
                return digests;
            }
        }
    }

    pub async fn offer(&mut self, kind: CheckpointKind) {
        self.say(&AgentMessage::Checkpoint(CheckpointOffer {
            kind,
            consistency: Consistency::Crash,
            taken_at_ms: 1_700_000_000_000,
            request: 0,
            frozen_ms: 0,
            after: protocol::session::SentBefore::default(),
        }))
        .await;
    }

    pub async fn commit(&mut self, kind: CheckpointKind) -> CheckpointNumber {
        self.offer(kind).await;
        self.committed().await
    }

    /// The runner has everything that was offered, and keeps it whatever happens.
    pub async fn durable(&mut self) -> CheckpointNumber {
        match self.hear().await {
            Some(RunnerMessage::Durable { number }) => number,
            other => panic!("{other:?} in place of word that it is durable"),
        }
    }

    pub async fn committed(&mut self) -> CheckpointNumber {
        let durable = self.durable().await;
        match self.hear().await {
            Some(RunnerMessage::Committed { number, .. }) => assert_eq!(number, durable),
            other => panic!("{other:?} in place of a commit"),
        }
        durable
    }
}

/// The digests of the blocks of a disk with this content.
pub fn digests_of(content: &[u8]) -> Vec<Digest> {
    let blocks = content.chunks(BLOCK_LEN);
    blocks.map(Digest::of).collect()
}

/// Sends what differs between two contents of a disk, block by block.
pub async fn send_difference(connection: &mut Connection, disk: u16, before: &[u8], after: &[u8]) {
    let len = after.len() as u64;
    for block in 0..block_count(len) {
        let at = usize::try_from(block * BLOCK).unwrap();
        let new = &after[at..at + block_len(block, len)];
        let old = before.get(at..at + new.len());
        if old != Some(new) {
            connection.write(disk, at as u64, new).await;
        }
    }
}
