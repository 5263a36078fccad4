//! One session with the runner, from Hello to Goodbye.
//!
//! ```text
//!            ┌── link: reader ───▶ orders, digests, answers ──┐
//!  runner ◀──┤                                                ├── drive: rounds, checkpoints
//!            └── link: writers ◀── outbox ◀── scanning threads┘
//! ```
//!
//! - [`connect`]: TCP, TLS, handshake; further connections, the lanes.
//! - [`link`]: frames in and out, heartbeat, silence.
//! - [`outbox`]: what waits for the network; [`throttle`] keeps it within the bandwidth that was ordered, and
//!   [`meter`] says where the time goes.
//! - [`roster`]: the chosen disks, and what became of them since the last look.
//! - [`audit`]: compares, now and then, what should be equal; [`inspect`] asks for the digests.
//! - [`drive`]: waits until a checkpoint is due; [`checkpoint`] makes it, of [`rounds`].
//! - [`retry`]: how long to wait before the next session.

use std::{io, sync::Arc, time::Duration};

use domain::ids::SourceServerId;
use identity::Credentials;
use protocol::{
    frame::FrameError,
    handshake::HandshakeError,
    session::{AgentMessage, ControlError, Fault, Goodbye, SILENCE_MAX},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    changes::sources::Sources,
    checkpoint::{freeze::Freezer, hooks::Hooks},
    config::{Config, ConfigError},
    disks::Roots,
    layout::Layout,
    names::NameError,
    status::Board,
};

pub mod audit;
pub mod checkpoint;
pub mod connect;
pub mod drive;
pub mod inspect;
pub mod link;
pub mod meter;
pub mod outbox;
pub mod retry;
pub mod roster;
pub mod rounds;
pub mod throttle;

use drive::{Drive, Parts};
use link::Outflow;
use meter::Meter;
use outbox::Outbox;
use throttle::Throttle;

/// Everything a session needs to know of the agent it belongs to.
#[derive(Debug)]
pub struct Agent {
    pub layout: Layout,
    pub roots: Roots,
    pub credentials: Credentials,
    pub server: SourceServerId,
    pub hooks: Hooks,
    /// `None` where file systems are never frozen: in programs that hold an agent for their own ends.
    pub freezer: Option<Arc<Freezer>>,
    pub board: Board,
    pub pace: Pace,
}

/// How patient a session is. Tests are less so.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks at disks, while nothing else happens.
    pub examine_every: Duration,
    /// A first copy is saved this often, or after `partial_bytes`.
    pub partial_every: Duration,
    pub partial_bytes: u64,
    /// A round of a disk without tracker that found no more than this is followed by the last pass.
    pub small_round_bytes: u64,
    /// Between checkpoints, changes are sent once there are so many.
    pub stream_bytes: u64,
    /// Between two looks whether what should be equal is.
    pub audit_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            examine_every: Duration::from_secs(3),
            partial_every: Duration::from_mins(1),
            partial_bytes: 4 << 30,
            small_round_bytes: 256 << 20,
            stream_bytes: 16 << 20,
            audit_every: Duration::from_mins(1),
        }
    }
}

/// Why a session ended as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The agent was told to stop.
    Stopped,
    /// The disks are not those of the Hello any more.
    DisksChanged,
    /// The server is to be disconnected: the agent has to remove itself.
    Disconnected,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(
        "cannot connect to the runner at {address}, TCP port {port}; check that it runs and that every firewall in \
         between lets this server reach that port"
    )]
    Connect {
        address: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("cannot agree on TLS with the runner at {address}")]
    Tls {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("this agent's identity cannot be used")]
    Identity(#[from] identity::IdentityError),
    #[error("the handshake with the runner failed")]
    Handshake(#[from] HandshakeError),
    #[error("the connection to the runner broke")]
    Broken(#[source] io::Error),
    #[error("the runner closed the connection")]
    Closed,
    #[error("the runner was silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the runner sent a frame that cannot be read")]
    Frame(#[from] FrameError),
    #[error("the runner sent a message that cannot be read")]
    Control(#[from] ControlError),
    #[error("the runner broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the runner gave the checkpoint up")]
    Fault(#[from] Fault),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("a scanning thread panicked")]
    Panic,
}

/// What a session came to.
#[derive(Debug)]
pub struct SessionOutcome {
    pub result: Result<SessionEnd, SessionError>,
    /// A checkpoint was committed: the way to the runner works.
    pub achieved: bool,
}

/// Runs one session. `config` is brought up to date with the disks that are found, `sources` with what is sent.
pub async fn run(
    agent: &Arc<Agent>,
    config: &mut Config,
    sources: &mut Sources,
    stop: &CancellationToken,
) -> SessionOutcome {
    let opened = tokio::select! {
        opened = connect::open(agent, config) => opened,
        () = stop.cancelled() => {
            return SessionOutcome { result: Ok(SessionEnd::Stopped), achieved: false };
        }
    };
    match opened {
        Ok(opened) => converse(agent, config, sources, opened, stop).await,
        Err(error) => SessionOutcome {
            result: Err(error),
            achieved: false,
        },
    }
}

/// How long the last words may take.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

async fn converse(
    agent: &Arc<Agent>,
    config: &mut Config,
    sources: &mut Sources,
    opened: connect::Opened,
    stop: &CancellationToken,
) -> SessionOutcome {
    let (outbox, queues) = Outbox::new(opened.welcome.lanes);
    let outbox = Arc::new(outbox);
    let (meter, throttle) = (Arc::<Meter>::default(), Arc::<Throttle>::default());
    let (inbox, incoming) = link::Inbox::new(opened.welcome.orders.clone());

    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    let (mut inbox, mut control) = (Some(inbox), Some(queues.control));
    for (stream, data) in opened.lanes.into_iter().zip(queues.lanes) {
        let (read_half, write_half) = tokio::io::split(stream);
        match inbox.take() {
            Some(inbox) => readers.spawn(link::read(read_half, inbox)),
            None => readers.spawn(link::read_lane(read_half)),
        };
        let outflow = Outflow {
            data,
            control: control.take().unwrap_or_else(|| mpsc::channel(1).1),
            throttle: throttle.clone(),
            meter: meter.clone(),
        };
        writers.spawn(link::write(write_half, outflow));
    }

    let parts = Parts {
        outbox: outbox.clone(),
        meter: meter.clone(),
        throttle: throttle.clone(),
    };
    let mut drive = Drive::new(agent, sources, opened.roster, &opened.welcome, parts, incoming);
    agent.board.connected(drive.progress());
    let mut heartbeat = JoinSet::new();
    let flow = drive.gauge();
    heartbeat.spawn(link::report_status(agent.board.clone(), outbox.clone(), flow));
    info!(
        runner = %opened.address,
        "connected to the runner at {}", opened.address
    );
    let result = tokio::select! {
        end = drive.run(config) => end,
        Some(ended) = readers.join_next() => Err(flatten(ended)),
        Some(ended) = writers.join_next() => Err(better_reason(flatten(ended), &mut readers).await),
        () = stop.cancelled() => Ok(SessionEnd::Stopped),
    };

    heartbeat.shutdown().await;
    outbox.close();
    drive.stop_scanning().await;
    let achieved = drive.achieved();
    drop(drive);
    sources.session_ended(achieved);
    if let Ok(end) = &result {
        part(agent, *end, outbox, &mut writers).await;
    }
    readers.shutdown().await;
    writers.shutdown().await;
    SessionOutcome { result, achieved }
}

/// Says goodbye, and waits until it is sent.
async fn part(
    agent: &Agent,
    end: SessionEnd,
    outbox: Arc<Outbox>,
    writers: &mut JoinSet<Result<(), SessionError>>,
) {
    let reason = match end {
        SessionEnd::Stopped => Goodbye::Stopping,
        SessionEnd::DisksChanged => Goodbye::DisksChanged,
        SessionEnd::Disconnected => {
            // First the deed, then the word.
            if let Err(error) = crate::uninstall::remove_own(agent) {
                tracing::warn!("cannot remove everything: {error:#}");
            }
            Goodbye::Uninstalled
        }
    };
    let farewell = async {
        outbox.post(&AgentMessage::Goodbye { reason }).await;
        drop(outbox);
        // The runner learns of a broken farewell by the end of the connection.
        while writers.join_next().await.is_some() {}
    };
    if timeout(GOODBYE_MAX, farewell).await.is_err() {
        info!("the runner did not take our goodbye in time");
    }
}

/// A runner that gives up says why and closes; writing may fail before its words are read.
async fn better_reason(error: SessionError, reader: &mut JoinSet<Result<(), SessionError>>) -> SessionError {
    match timeout(Duration::from_secs(1), reader.join_next()).await {
        Ok(Some(ended)) => match flatten(ended) {
            SessionError::Closed | SessionError::Broken(_) => error,
            told => told,
        },
        _ => error,
    }
}

fn flatten(ended: Result<Result<(), SessionError>, tokio::task::JoinError>) -> SessionError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => SessionError::Closed,
        Err(_panic) => SessionError::Panic,
    }
}
