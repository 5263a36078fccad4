//! A runner in memory, behind real TLS on loopback. It follows the contract of `protocol::session` and
//! can be told to refuse, to fail, to be slow and to cut the line.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use domain::{
    checkpoint::CheckpointNumber,
    digest::Digest,
    disk::{BLOCK_LEN, DiskId},
    source_server::ReplicationIntent,
};
use identity::Credentials;
use protocol::{
    extent::Extent,
    frame::{self, Frame, Kind},
    handshake::{SessionMemory, admit},
    session::{
        AgentMessage, AgentStatus, CheckpointOffer, DiskPlan, DiskStart, Fault, Goodbye, Hello, Inspected,
        Orders, Refusal, RunnerMessage, SessionId, Welcome, control, read_control,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

#[derive(Default)]
pub struct State {
    pub committed: BTreeMap<DiskId, Vec<u8>>,
    pub checkpoints: Vec<CheckpointOffer>,
    pub hellos: Vec<Hello>,
    pub goodbyes: Vec<Goodbye>,
    pub statuses: Vec<AgentStatus>,
    /// Extents that arrived, in all sessions.
    pub extents: usize,
    pub zero_runs: usize,
    pub memory: SessionMemory,
    pub refuse: Option<Refusal>,
    pub fail: Option<Fault>,
    /// Closes the line after this many bytes, wherever they end. Once.
    pub cut_after: Option<usize>,
    pub delay_per_extent: Duration,
    pub inspections: usize,
    /// Closes the line of an inspection when it asks for digests.
    pub break_inspections: bool,
}

pub struct Runner {
    pub port: u16,
    state: Arc<Mutex<State>>,
    orders: watch::Sender<Orders>,
    _tasks: JoinSet<()>,
}

impl Runner {
    pub async fn start(credentials: &Credentials) -> Self {
        let tls = identity::tls::server_for_machines(credentials).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let (orders, _) = watch::channel(Orders {
            replication: ReplicationIntent::Run,
            checkpoint_request: 0,
            checkpoint_interval_s: 600,
            bandwidth: domain::bandwidth::Bandwidth::default(),
        });
        let mut tasks = JoinSet::new();
        let (shared, orders_seen) = (state.clone(), orders.clone());
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, state, orders) = (acceptor.clone(), shared.clone(), orders_seen.subscribe());
                sessions.spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        serve(stream, &state, orders).await;
                    }
                });
            }
        });
        Self {
            port,
            state,
            orders,
            _tasks: tasks,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn want(&self, replication: ReplicationIntent) {
        self.orders.send_modify(|orders| orders.replication = replication);
    }

    pub fn request_checkpoint(&self) -> u64 {
        self.orders.send_modify(|orders| orders.checkpoint_request += 1);
        self.orders.borrow().checkpoint_request
    }
}

struct Session<'a> {
    state: &'a Mutex<State>,
    out: WriteHalf<TlsStream<TcpStream>>,
    disks: Vec<DiskId>,
    open: HashMap<DiskId, Vec<u8>>,
    /// Frames of data taken up, and messages that are about more of them.
    taken: u64,
    early: VecDeque<AgentMessage>,
}

/// Ends at the first thing that is not as it should be; the agent's own words are what tests look at.
async fn serve(
    stream: TlsStream<TcpStream>,
    state: &Mutex<State>,
    mut orders: watch::Receiver<Orders>,
) -> Option<()> {
    let certificate = stream.get_ref().1.peer_certificates()?[0].clone();
    let identity::Role::Agent(certified) = identity::Peer::from_certificate(&certificate).ok()?.role else {
        return None;
    };
    let (mut input, out) = tokio::io::split(stream);
    let mut buffer = Vec::new();
    let hello = match read_control(&next_frame(&mut input, &mut buffer, state).await?).ok()? {
        AgentMessage::Hello(hello) => hello,
        AgentMessage::Inspect { checkpoint, .. } => {
            let mut session = Session::inspection(state, out);
            session.inspected(checkpoint).await;
            loop {
                let wanted = next_frame(&mut input, &mut buffer, state).await?;
                if state.lock().unwrap().break_inspections {
                    return None;
                }
                session.take(wanted).await?;
            }
        }
        _ => return None,
    };
    let version = admit(&hello, &certified).unwrap();
    let mut session = Session {
        state,
        out,
        disks: hello.disks.iter().map(|disk| disk.id.clone()).collect(),
        open: HashMap::new(),
        taken: 0,
        early: VecDeque::new(),
    };
    let refusal = {
        let mut state = state.lock().unwrap();
        state.hellos.push(hello.clone());
        state.refuse.clone()
    };
    if let Some(refusal) = refusal {
        session.say(&RunnerMessage::Refused(refusal)).await;
        return None;
    }
    let welcome = session.welcome(&hello, version, &orders.borrow_and_update());
    session.say(&RunnerMessage::Welcome(welcome)).await;
    let kept: AgentMessage = read_control(&next_frame(&mut input, &mut buffer, state).await?).ok()?;
    assert_eq!(kept, AgentMessage::SessionKept);
    state.lock().unwrap().memory.confirm();

    let mut heartbeat = tokio::time::interval(Duration::from_secs(3));
    loop {
        tokio::select! {
            frame = next_frame(&mut input, &mut buffer, state) => session.take(frame?).await?,
            _ = heartbeat.tick() => {
                let orders = orders.borrow_and_update().clone();
                session.say(&RunnerMessage::Orders(orders)).await;
            }
            changed = orders.changed() => {
                changed.ok()?;
                let orders = orders.borrow_and_update().clone();
                session.say(&RunnerMessage::Orders(orders)).await;
            }
        }
    }
}

/// Cancel safe: what has arrived stays in `buffer`.
async fn next_frame(
    input: &mut ReadHalf<TlsStream<TcpStream>>,
    buffer: &mut Vec<u8>,
    state: &Mutex<State>,
) -> Option<Frame> {
    loop {
        if let Some(frame) = frame::decode(buffer).unwrap() {
            return Some(frame);
        }
        let mut room = vec![0; 64 << 10];
        let got = input.read(&mut room).await.ok().filter(|got| *got > 0)?;
        buffer.extend_from_slice(&room[..got]);
        let mut state = state.lock().unwrap();
        if let Some(left) = &mut state.cut_after {
            *left = left.saturating_sub(got);
            if *left == 0 {
                state.cut_after = None;
                return None;
            }
        }
    }
}

impl<'a> Session<'a> {
    /// Shows what the last checkpoint holds.
    fn inspection(state: &'a Mutex<State>, out: WriteHalf<TlsStream<TcpStream>>) -> Self {
        let mut shown = state.lock().unwrap();
        shown.inspections += 1;
        Self {
            state,
            out,
            disks: shown.committed.keys().cloned().collect(),
            open: shown.committed.clone().into_iter().collect(),
            taken: 0,
            early: VecDeque::new(),
        }
    }

    async fn inspected(&mut self, wanted: Option<CheckpointNumber>) {
        let inspected = {
            let state = self.state.lock().unwrap();
            let offer = state.checkpoints.last().unwrap();
            let disks = &state.hellos.last().unwrap().disks;
            let of_id = |id: &DiskId| disks.iter().find(|disk| disk.id == *id).unwrap().clone();
            Inspected {
                number: CheckpointNumber(state.checkpoints.len() as u64),
                consistency: offer.consistency,
                taken_at_ms: offer.taken_at_ms,
                disks: self.disks.iter().map(of_id).collect(),
            }
        };
        assert_eq!(wanted, Some(inspected.number));
        self.say(&RunnerMessage::Inspected(inspected)).await;
    }

    fn welcome(&mut self, hello: &Hello, version: u16, orders: &Orders) -> Welcome {
        let mut state = self.state.lock().unwrap();
        assert!(state.memory.recognises(hello.kept_session.as_ref()), "a clone");
        let session = SessionId(format!("session-{}", state.hellos.len()));
        state
            .memory
            .issue(hello.kept_session.as_ref(), session.clone(), "test".into());
        let mut disks = Vec::new();
        for disk in &hello.disks {
            let held = state.committed.get(&disk.id).cloned();
            let start = if held.is_some() {
                DiskStart::Rescan
            } else {
                DiskStart::Full
            };
            let mut content = held.unwrap_or_default();
            content.resize(usize::try_from(disk.bytes).unwrap(), 0);
            self.open.insert(disk.id.clone(), content);
            disks.push(DiskPlan {
                id: disk.id.clone(),
                start,
            });
        }
        Welcome {
            version,
            session,
            disks,
            orders: orders.clone(),
            lanes: 1,
        }
    }

    async fn say(&mut self, message: &RunnerMessage) {
        self.send(&control(message)).await;
    }

    async fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode_to(&mut bytes);
        // An agent that is gone is noticed when it is read from.
        let _gone = self.out.write_all(&bytes).await;
        let _gone = self.out.flush().await;
    }

    fn content(&mut self, disk: u16) -> &mut Vec<u8> {
        self.open.get_mut(&self.disks[usize::from(disk)]).unwrap()
    }

    async fn take(&mut self, frame: Frame) -> Option<()> {
        self.taken += u64::from(matches!(frame.kind, Kind::Extent | Kind::Zeros));
        match frame.kind {
            Kind::Extent => {
                let delay = {
                    let mut state = self.state.lock().unwrap();
                    state.extents += 1;
                    state.delay_per_extent
                };
                tokio::time::sleep(delay).await;
                let extent = Extent::from_frame(frame).unwrap();
                let at = usize::try_from(extent.at).unwrap();
                self.content(extent.disk)[at..at + extent.data.len()].copy_from_slice(&extent.data);
            }
            Kind::Zeros => {
                self.state.lock().unwrap().zero_runs += 1;
                let at = usize::try_from(frame.at).unwrap();
                let len = usize::try_from(frame::zeros_len(&frame).unwrap()).unwrap();
                self.content(frame.disk)[at..at + len].fill(0);
            }
            Kind::Control => self.early.push_back(read_control(&frame).unwrap()),
            Kind::Digests => panic!("an agent sends no digests"),
        }
        while let Some(message) = self.early.pop_front_if(|message| is_due(message, self.taken)) {
            self.hear(message).await?;
        }
        Some(())
    }

    async fn hear(&mut self, message: AgentMessage) -> Option<()> {
        match message {
            AgentMessage::DigestsWanted {
                disk,
                first_block,
                count,
                ..
            } => {
                let (first, count) = (
                    usize::try_from(first_block).unwrap(),
                    usize::try_from(count).unwrap(),
                );
                let digests: Vec<_> = self
                    .content(disk)
                    .chunks(BLOCK_LEN)
                    .skip(first)
                    .take(count)
                    .map(Digest::of)
                    .collect();
                self.send(&frame::digests(disk, first_block, &digests)).await;
            }
            AgentMessage::Status(status) => self.state.lock().unwrap().statuses.push(status),
            AgentMessage::Goodbye { reason } => {
                self.state.lock().unwrap().goodbyes.push(reason);
                return None;
            }
            AgentMessage::Checkpoint(offer) => {
                let fault = self.state.lock().unwrap().fail.take();
                if let Some(fault) = fault {
                    self.say(&RunnerMessage::Fault { fault }).await;
                    return None;
                }
                let number = {
                    let mut state = self.state.lock().unwrap();
                    state.committed = self.open.clone().into_iter().collect();
                    state.checkpoints.push(offer);
                    CheckpointNumber(state.checkpoints.len() as u64)
                };
                self.say(&RunnerMessage::Durable { number }).await;
                self.say(&RunnerMessage::Committed {
                    number,
                    roots: Vec::new(),
                })
                .await;
            }
            AgentMessage::KeepAlive => {}
            AgentMessage::Hello(_)
            | AgentMessage::SessionKept
            | AgentMessage::Join { .. }
            | AgentMessage::Inspect { .. } => panic!("{} out of turn", message.name()),
        }
        Some(())
    }
}

/// Whether the data that a message is about are there.
fn is_due(message: &AgentMessage, taken: u64) -> bool {
    match message {
        AgentMessage::DigestsWanted { after, .. } => after.0.iter().sum::<u64>() <= taken,
        AgentMessage::Checkpoint(offer) => offer.after.0.iter().sum::<u64>() <= taken,
        _ => true,
    }
}
