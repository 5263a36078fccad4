//! One connection of an agent, from its TLS handshake to its end.
//!
//! ```text
//! greet:  TLS ─▶ certificate ─▶ first message    within HANDSHAKE_MAX
//! Hello:  is it the one we know? ─▶ take the place of its earlier session ─▶ Welcome ─▶ SessionKept
//!         ─▶ frames ─▶ staging, until either side ends it
//! Join:   is there such a session? ─▶ Joined ─▶ one more lane of it
//! Inspect: is there such a checkpoint? ─▶ Inspected ─▶ its digests, beside any session
//! ```
//!
//! Whoever is turned away is told why, and the console names it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    disk::Disk,
    ids::SourceServerId,
    replication::{InitiationStep, ReplicationError},
    source_server::ReplicationIntent,
};
use identity::{Peer, Role};
use protocol::{
    exchange::{Desired, ObservedAgent},
    handshake::{admit, expect_hello, expect_session_kept},
    session::{
        AgentMessage, Fault, Hello, Refusal, RunnerMessage, SessionId, Welcome, control, read_control,
    },
};
use tokio::{
    io::BufReader,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use crate::{
    runner::core::Core,
    server::{Server, Slot},
    staging::{Staging, chain, seal, store_fault},
};

mod inspect;
pub(crate) mod lanes;
mod open;
mod order;
pub mod wire;

use lanes::{LANES, NewLane};
use open::Session;
use order::Order;
use wire::{Budget, orders, read_frame, write_frame};

/// From the connection to its first message.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What must be free before an agent is let in again after the store was full: room for the work of a
/// minute or so, or twice what was left.
const MARGIN_BYTES: u64 = 64 << 20;

/// Frames between the lanes and the session. Extents are bounded by their bytes besides.
const FRAMES_WAITING: usize = 64;

/// Below TLS, which reads 4 KiB at a time by itself: a system call for each would cost more than decryption.
const WIRE_BUFFER: usize = 128 << 10;

/// Above TLS: one record, so that a header is not read by itself and a payload not copied twice.
const RECORD_BUFFER: usize = 16 << 10;

type Stream = BufReader<TlsStream<BufReader<TcpStream>>>;

/// Somebody who proved to be an agent.
struct Guest {
    stream: Stream,
    address: SocketAddr,
    peer: Peer,
    certified: SourceServerId,
}

/// Why a connection came to nothing.
struct TurnedAway {
    server: Option<SourceServerId>,
    reason: String,
}

impl TurnedAway {
    fn unknown(reason: impl Into<String>) -> Self {
        Self {
            server: None,
            reason: reason.into(),
        }
    }
}

/// Serves one connection to its end. Its place among the strangers is free once it is known.
pub(crate) async fn serve(core: Arc<Core>, tcp: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
    let greeted = timeout(HANDSHAKE_MAX, greet(&core, tcp, address)).await;
    let (guest, first) = match greeted {
        Ok(Ok(Some(greeted))) => greeted,
        Ok(Ok(None)) => return,
        Ok(Err(turned_away)) => return core.turn_away(address, turned_away.server, turned_away.reason),
        Err(_) => {
            let reason = format!("it said nothing within {} seconds", HANDSHAKE_MAX.as_secs());
            return core.turn_away(address, None, reason);
        }
    };
    let server = guest.certified.clone();
    let welcomed = match first {
        AgentMessage::Join {
            server,
            session,
            lane,
        } => match lanes::place(&core, &guest, &server, &session, lane) {
            Ok(place) => {
                let stream = guest.stream;
                drop(place.send(NewLane { lane, stream }));
                return;
            }
            Err(refused) => Err(refuse(guest.stream, server, refused).await),
        },
        AgentMessage::Inspect { server, checkpoint } => {
            match inspect::open(&core, &guest, &server, checkpoint).await {
                Ok(inspection) => {
                    drop(place);
                    return inspect::serve(&core, guest, inspection).await;
                }
                Err(refused) => Err(refuse(guest.stream, server, refused).await),
            }
        }
        first => match expect_hello(first) {
            Ok(hello) => welcome(&core, guest, hello).await,
            Err(error) => Err(TurnedAway {
                server: Some(server.clone()),
                reason: error.to_string(),
            }),
        },
    };
    drop(place);
    match welcomed {
        Ok(session) => session.run(&core).await,
        Err(turned_away) => {
            tracing::warn!(server.id = %server, %address, reason = %turned_away.reason, "an agent was turned away");
            core.turn_away(address, turned_away.server, turned_away.reason);
        }
    }
}

/// `None` for a connection that was closed before it said anything: a check of the port.
async fn greet(
    core: &Core,
    tcp: TcpStream,
    address: SocketAddr,
) -> Result<Option<(Guest, AgentMessage)>, TurnedAway> {
    if tcp.set_nodelay(true).is_err() {
        return Ok(None);
    }
    let mut first = [0];
    match tcp.peek(&mut first).await {
        Ok(0) | Err(_) => return Ok(None),
        Ok(_) => {}
    }
    let tls = core.tls.accept(BufReader::with_capacity(WIRE_BUFFER, tcp)).await;
    let tls = tls.map_err(|error| TurnedAway::unknown(format!("it failed the TLS handshake: {error}")))?;
    let leaf = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let peer = leaf.and_then(|leaf| Peer::from_certificate(leaf).ok());
    let Some(peer) = peer else {
        return Err(TurnedAway::unknown("its certificate names no role"));
    };
    let Role::Agent(certified) = peer.role.clone() else {
        return Err(TurnedAway::unknown("its certificate is not an agent's"));
    };
    let mut stream = BufReader::with_capacity(RECORD_BUFFER, tls);
    let turned_away = |reason| TurnedAway {
        server: Some(certified.clone()),
        reason,
    };
    let received = read_frame(&mut stream, &Budget::new()).await;
    let frame = received.map_err(|error| turned_away(error.to_string()))?.frame;
    let message = read_control(&frame).map_err(|error| turned_away(error.to_string()))?;
    let guest = Guest {
        stream,
        address,
        peer,
        certified,
    };
    Ok(Some((guest, message)))
}

/// Tells the guest why it is not let in.
async fn refuse(mut stream: Stream, server: SourceServerId, (refusal, note): Refused) -> TurnedAway {
    let reason = note.unwrap_or_else(|| refusal.to_string());
    // It may be gone already.
    drop(write_frame(&mut stream, &control(&RunnerMessage::Refused(refusal))).await);
    drop(tokio::io::AsyncWriteExt::shutdown(&mut stream).await);
    TurnedAway {
        server: Some(server),
        reason,
    }
}

/// Lets the guest in, or tells it why not.
async fn welcome(core: &Arc<Core>, guest: Guest, hello: Hello) -> Result<Session, TurnedAway> {
    let (server, version) = match admit_guest(core, &guest, &hello).await {
        Ok(admitted) => admitted,
        Err(refused) => return Err(refuse(guest.stream, hello.server, refused).await),
    };
    let turned_away = |reason| TurnedAway {
        server: Some(server.id.clone()),
        reason,
    };
    let slot = server.take_over(&hello.boot_id).await;
    let slot = slot.map_err(|error| turned_away(chain(&error)))?;
    // The session whose place it takes has left its own.
    let room = Arc::clone(&core.sessions).try_acquire_owned();
    let room = room.map_err(|_| turned_away("the runner has as many sessions as it can serve".into()))?;
    let admitted = Admitted {
        server: Arc::clone(&server),
        version,
        slot,
        room,
    };
    open_session(core, guest, hello, admitted)
        .await
        .map_err(|reason| {
            server.standing().agent_lost(Instant::now(), &reason);
            core.changed.notify_one();
            turned_away(reason)
        })
}

/// Who was let in, and the places that it takes.
struct Admitted {
    server: Arc<Server>,
    version: u16,
    slot: Slot,
    room: OwnedSemaphorePermit,
}

/// The refusal, and what the console should say instead, where that is more.
type Refused = (Refusal, Option<String>);

/// The server that the guest says it is, if that is true and it is wanted.
fn certified(core: &Core, guest: &Guest, server: &SourceServerId) -> Result<Arc<Server>, Refused> {
    let server = || server.clone();
    if server() != guest.certified {
        return Err((Refusal::NotYourIdentity { server: server() }, None));
    }
    let unknown = || Refusal::UnknownServer { server: server() };
    if is_revoked(&core.desired.borrow(), &guest.peer) {
        return Err((unknown(), Some("its certificate was revoked".into())));
    }
    let known = core.server(&guest.certified).ok_or_else(|| (unknown(), None))?;
    if known.standing().forgotten || intent(&core.desired.borrow(), &known.id).is_none() {
        return Err((unknown(), None));
    }
    Ok(known)
}

async fn admit_guest(core: &Core, guest: &Guest, hello: &Hello) -> Result<(Arc<Server>, u16), Refused> {
    let version = admit(hello, &guest.certified).map_err(|refusal| (refusal, None))?;
    let server = certified(core, guest, &hello.server)?;
    let memory = server.memory();
    let is_known = memory.recognises(hello.kept_session.as_ref());
    if !is_known || server.is_alive_elsewhere(&hello.boot_id) {
        let other = memory.machine.unwrap_or_else(|| "another machine".into());
        let server = hello.server.clone();
        return Err((Refusal::ClonedIdentity { server, other }, None));
    }
    if let Some(needed_bytes) = server.needed_bytes() {
        let free = core.store.free_bytes().await.ok().flatten();
        if let Some(free_bytes) = free.filter(|free| *free < needed_bytes) {
            let refusal = Refusal::StagingFull {
                free_bytes,
                needed_bytes,
            };
            return Err((refusal, None));
        }
        server.set_full(None);
    }
    Ok((server, version))
}

fn is_revoked(desired: &Desired, peer: &Peer) -> bool {
    desired.revoked_serials.contains(&peer.serial)
}

fn intent(desired: &Desired, server: &SourceServerId) -> Option<ReplicationIntent> {
    orders(desired, server).map(|orders| orders.replication)
}

/// What was promised to the agent comes first: it goes on from there.
async fn open_staging(
    server: &Arc<Server>,
    disks: Vec<Disk>,
) -> Result<(Staging, watch::Receiver<u64>), Fault> {
    seal::finish(server).await?;
    // What turns out to be missing from here on was not in the plan.
    let missing = server.missing();
    let staging = Staging::open(server, disks).await;
    let staging = staging.map_err(|error| store_fault(&error))?;
    Ok((staging, missing))
}

async fn open_session(
    core: &Arc<Core>,
    guest: Guest,
    hello: Hello,
    admitted: Admitted,
) -> Result<Session, String> {
    let Guest {
        mut stream,
        address,
        peer,
        ..
    } = guest;
    let Admitted {
        server,
        version,
        slot,
        room,
    } = admitted;
    let mut memory = server.memory();
    // Another one with the same identity may have come first.
    if !memory.recognises(hello.kept_session.as_ref()) {
        return Err("another machine with the same identity came first".into());
    }
    let step = |step| {
        server.standing().step(step);
        core.changed.notify_one();
    };
    step(InitiationStep::AuthenticateWithService);
    step(InitiationStep::CreateStagingDisks);
    let staging = open_staging(&server, hello.disks.clone()).await;
    let (staging, missing) = staging.map_err(|fault| {
        let fault = fault.to_string();
        server
            .standing()
            .stall(ReplicationError::FailedToCreateStagingDisks, fault.clone());
        fault
    })?;
    let session = SessionId(format!("{:032x}", rand::random::<u128>()));
    let machine = format!("{} ({})", hello.properties.hostname, address.ip());
    memory.issue(hello.kept_session.as_ref(), session.clone(), machine);
    server
        .remember(memory.clone())
        .await
        .map_err(|error| chain(&error))?;
    step(InitiationStep::PairReplicationServerWithAgent);

    let orders = orders(&core.desired.borrow(), &server.id).ok_or("it is not wanted any more")?;
    let joining = core
        .doors
        .open(server.id.clone(), session.clone(), peer.serial.clone());
    let welcome = RunnerMessage::Welcome(Welcome {
        version,
        session,
        disks: staging.plan(),
        orders: orders.clone(),
        lanes: LANES,
    });
    write_frame(&mut stream, &control(&welcome))
        .await
        .map_err(|error| format!("the connection broke: {error}"))?;
    step(InitiationStep::ConnectAgentToReplicationServer);
    let kept = timeout(HANDSHAKE_MAX, read_frame(&mut stream, &Budget::new())).await;
    let kept = kept.map_err(|_| "it did not confirm its session in time")?;
    let kept = kept.map_err(|error| error.to_string())?;
    let kept: AgentMessage = read_control(&kept.frame).map_err(|error| error.to_string())?;
    expect_session_kept(&kept).map_err(|error| error.to_string())?;
    memory.confirm();
    server.remember(memory).await.map_err(|error| chain(&error))?;
    server.standing().agent_came(ObservedAgent {
        address: address.to_string(),
        agent_version: hello.agent_version,
        properties: hello.properties,
    });
    step(InitiationStep::StartDataTransfer);

    let (read_half, write_half) = tokio::io::split(stream);
    let (lane, frames) = mpsc::channel(FRAMES_WAITING);
    let (out, frames_out) = mpsc::channel(FRAMES_WAITING);
    let budget = Budget::new();
    let (mut lanes, mut writer) = (JoinSet::new(), JoinSet::new());
    lanes.spawn(wire::read_all(read_half, 0, budget.clone(), lane.clone()));
    writer.spawn(wire::write_all(
        write_half,
        frames_out,
        core.desired.clone(),
        server.id.clone(),
        orders,
    ));
    Ok(Session {
        server,
        slot,
        room,
        peer,
        staging,
        missing,
        order: Order::new(),
        budget,
        reported: Instant::now(),
        joining,
        lane,
        frames,
        out,
        lanes,
        writer,
    })
}
