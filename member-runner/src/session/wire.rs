//! Frames on and off a connection, with limits on length, time and memory.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use domain::{disk::BLOCK_LEN, ids::SourceServerId};
use protocol::{
    exchange::Desired,
    frame::{Frame, FrameError, HEADER_LEN, Header, Kind},
    session::{CONTROL_LEN_MAX, HEARTBEAT, Orders, RunnerMessage, SILENCE_MAX, control},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};

/// Payload that one session may have in memory, over all its lanes. Thirty-two whole blocks: what a fast link delivers while
/// six blocks are written.
const IN_FLIGHT_MAX: usize = 32 * BLOCK_LEN;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the connection was closed")]
    Closed,
    #[error("the peer was silent for {} seconds", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the connection broke: {0}")]
    Io(io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a control message of {0} bytes is too long")]
    ControlTooLong(usize),
}

impl ReadError {
    /// Whether the peer broke the protocol, rather than the network the connection.
    pub fn is_protocol(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::ControlTooLong(_))
    }
}

/// The bytes of payload that one session may have in flight.
///
/// Whoever holds some lets go of them without waiting for a lane, so that lanes may wait for each other here.
#[derive(Debug, Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    waited_us: Arc<AtomicU64>,
}

impl Budget {
    pub fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            waited_us: Arc::default(),
        }
    }

    async fn take(&self, bytes: u32) -> Result<OwnedSemaphorePermit, ReadError> {
        let began = Instant::now();
        let taken = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        self.note(began.elapsed());
        taken.map_err(|_| ReadError::Closed)
    }

    fn note(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(waited, Relaxed);
    }

    /// For how long readers, all taken together, waited for us rather than for their peer, since they
    /// were asked last.
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_us.swap(0, Relaxed))
    }
}

/// A frame, and for extents their share of the bytes that may be in flight.
#[derive(Debug)]
pub struct Received {
    pub frame: Frame,
    pub permit: Option<OwnedSemaphorePermit>,
}

/// What came over a lane, or why nothing more will.
#[derive(Debug)]
pub struct FromLane {
    pub lane: u16,
    pub received: Result<Received, ReadError>,
}

/// Reads one frame. Its payload is allocated once its header has passed the limits.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    budget: &Budget,
) -> Result<Received, ReadError> {
    let header = read_exact(stream, HEADER_LEN).await?;
    let header = header.first_chunk().expect("as many were read");
    let header = Header::decode(header)?;
    if header.kind == Kind::Control && header.payload_len > CONTROL_LEN_MAX {
        return Err(ReadError::ControlTooLong(header.payload_len));
    }
    let permit = match (header.kind, u32::try_from(header.payload_len)) {
        (Kind::Extent, Ok(len)) => Some(budget.take(len).await?),
        _ => None,
    };
    let payload = read_exact(stream, header.payload_len).await?;
    let frame = Frame {
        kind: header.kind,
        codec: header.codec,
        disk: header.disk,
        at: header.at,
        payload,
    };
    Ok(Received { frame, permit })
}

/// A peer that keeps sending is alive, however slow its link is: the time-out is per read.
async fn read_exact(stream: &mut (impl AsyncRead + Unpin), len: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(len);
    let mut rest = stream.take(len as u64);
    while bytes.len() < len {
        let read = timeout(SILENCE_MAX, rest.read_buf(&mut bytes)).await;
        if read.map_err(|_| ReadError::Silent)?.map_err(ReadError::Io)? == 0 {
            return Err(ReadError::Closed);
        }
    }
    Ok(bytes)
}

/// Reads the frames of a lane until it ends; the reason is the last thing sent.
pub async fn read_all(
    mut stream: impl AsyncRead + Unpin,
    lane: u16,
    budget: Budget,
    frames: mpsc::Sender<FromLane>,
) {
    loop {
        let received = read_frame(&mut stream, &budget).await;
        let last = received.is_err();
        let began = Instant::now();
        let place = frames.reserve().await;
        budget.note(began.elapsed());
        let Ok(place) = place else { return };
        place.send(FromLane { lane, received });
        if last {
            return;
        }
    }
}

pub async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame.encode_to(&mut bytes);
    let written = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    timeout(SILENCE_MAX, written)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

pub fn orders(desired: &Desired, server: &SourceServerId) -> Option<Orders> {
    let wanted = desired.servers.iter().find(|wanted| wanted.id == *server)?;
    Some(Orders {
        replication: wanted.replication,
        checkpoint_request: wanted.checkpoint_request,
        checkpoint_interval_s: wanted.checkpoint_interval_s,
        bandwidth: wanted.bandwidth.clone(),
    })
}

/// Writes what the session says, and the orders: whenever they change, and as a sign of life.
pub async fn write_all(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    mut desired: watch::Receiver<Desired>,
    server: SourceServerId,
    mut sent: Orders,
) -> io::Result<()> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    heartbeat.tick().await;
    loop {
        let repeat = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => {
                    write_frame(&mut stream, &frame).await?;
                    continue;
                }
                None => return close(stream).await,
            },
            changed = desired.changed() => {
                if changed.is_err() {
                    // Nobody can change them any more.
                    desired_is_final(&mut frames, &mut stream).await?;
                    return close(stream).await;
                }
                false
            }
            _ = heartbeat.tick() => true,
        };
        let current = orders(&desired.borrow_and_update(), &server).unwrap_or_else(|| sent.clone());
        if repeat || current != sent {
            sent = current;
            write_frame(&mut stream, &control(&RunnerMessage::Orders(sent.clone()))).await?;
        }
    }
}

async fn desired_is_final(
    frames: &mut mpsc::Receiver<Frame>,
    stream: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        write_frame(stream, &frame).await?;
    }
    Ok(())
}

/// Says goodbye in TLS, so that the peer can tell an end from a cut.
async fn close(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(2);
    timeout(PATIENCE, stream.shutdown()).await.unwrap_or(Ok(()))
}
