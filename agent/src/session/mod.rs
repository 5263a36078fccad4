//! One connection to the runner, from Hello to Goodbye.
//!
//! ```text
//!            ┌── link: reader ──▶ orders, digests, commits ──┐
//!  runner ◀──┤                                               ├── drive: rounds, checkpoints
//!            └── link: writer ◀── outbox ◀── scanning threads┘
//! ```
//!
//! - [`connect`]: TCP, TLS, handshake.
//! - [`link`]: frames in and out, heartbeat, silence.
//! - [`roster`]: the chosen disks, and what became of them since the last look.
//! - [`drive`]: waits until a checkpoint is due; [`rounds`] makes it.
//! - [`retry`]: how long to wait before the next session.

use std::{io, sync::Arc, time::Duration};

use domain::ids::SourceServerId;
use identity::Credentials;
use protocol::{
    frame::FrameError,
    handshake::HandshakeError,
    session::{AgentMessage, ControlError, Fault, Goodbye, SILENCE_MAX, control},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    changes::scan::Outgoing,
    checkpoint::hooks::Hooks,
    config::{Config, ConfigError},
    disks::Roots,
    layout::Layout,
    names::NameError,
    status::Board,
};

pub mod connect;
pub mod drive;
pub mod link;
pub mod retry;
pub mod roster;
pub mod rounds;

/// Everything a session needs to know of the agent it belongs to.
#[derive(Debug)]
pub struct Agent {
    pub layout: Layout,
    pub roots: Roots,
    pub credentials: Credentials,
    pub server: SourceServerId,
    pub hooks: Hooks,
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
    /// A round that found no more than this is followed by the last pass.
    pub small_round_bytes: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            examine_every: Duration::from_secs(3),
            partial_every: Duration::from_mins(1),
            partial_bytes: 4 << 30,
            small_round_bytes: 256 << 20,
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

/// Runs one session. `config` is brought up to date with the disks that are found.
pub async fn run(agent: &Arc<Agent>, config: &mut Config, stop: &CancellationToken) -> SessionOutcome {
    let opened = tokio::select! {
        opened = connect::open(agent, config) => opened,
        () = stop.cancelled() => {
            return SessionOutcome { result: Ok(SessionEnd::Stopped), achieved: false };
        }
    };
    match opened {
        Ok(opened) => converse(agent, config, opened, stop).await,
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
    opened: connect::Opened,
    stop: &CancellationToken,
) -> SessionOutcome {
    let (read_half, write_half) = tokio::io::split(opened.stream);
    let (outbox, queue) = mpsc::channel(link::OUTBOX_FRAMES);
    let (inbox, incoming) = link::Inbox::new(opened.welcome.orders.clone());

    let mut reader = JoinSet::new();
    reader.spawn(link::read(read_half, inbox));
    let mut writer = JoinSet::new();
    writer.spawn(link::write(write_half, queue));
    let mut heartbeat = JoinSet::new();
    heartbeat.spawn(link::report_status(agent.board.clone(), outbox.clone()));

    let mut drive = drive::Drive::new(agent, opened.roster, &opened.welcome, outbox.clone(), incoming);
    agent.board.connected(drive.progress());
    info!(
        runner = %opened.address,
        "connected to the runner at {}", opened.address
    );
    let result = tokio::select! {
        end = drive.run(config) => end,
        Some(ended) = reader.join_next() => Err(flatten(ended)),
        Some(ended) = writer.join_next() => Err(better_reason(flatten(ended), &mut reader).await),
        () = stop.cancelled() => Ok(SessionEnd::Stopped),
    };

    heartbeat.shutdown().await;
    if timeout(GOODBYE_MAX, drive.stop_scanning()).await.is_err() {
        // The threads wait for a network that takes nothing.
        writer.shutdown().await;
        drive.stop_scanning().await;
    }
    let achieved = drive.achieved();
    drop(drive);
    if let Ok(end) = &result {
        part(agent, *end, outbox, &mut writer).await;
    }
    reader.shutdown().await;
    writer.shutdown().await;
    SessionOutcome { result, achieved }
}

/// Says goodbye, and waits until it is sent.
async fn part(
    agent: &Agent,
    end: SessionEnd,
    outbox: mpsc::Sender<Outgoing>,
    writer: &mut JoinSet<Result<(), SessionError>>,
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
    let goodbye = Outgoing::plain(control(&AgentMessage::Goodbye { reason }));
    let farewell = async {
        if outbox.send(goodbye).await.is_ok() {
            drop(outbox);
            // The runner learns of a broken farewell by the end of the connection.
            let _ended = writer.join_next().await;
        }
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
