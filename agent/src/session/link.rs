//! Frames in and out of one connection.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use domain::{checkpoint::CheckpointNumber, digest::Digest, flow::Flow};
use protocol::{
    frame::{self, Frame, HEADER_LEN, Header, Kind},
    session::{
        AgentMessage, CONTROL_LEN_MAX, ControlError, HEARTBEAT, Orders, RunnerMessage, SILENCE_MAX, control,
        read_control,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    SessionError,
    meter::Meter,
    outbox::{Data, Outbox},
    throttle::Throttle,
};
use crate::status::Board;

/// Answers that may wait for [`super::drive`]: it asks for two ranges of digests at a time.
const DIGESTS_WAITING: usize = 4;
const ANSWERS_WAITING: usize = 16;

/// Where the reader puts what the runner says.
#[derive(Debug)]
pub struct Inbox {
    orders: watch::Sender<Orders>,
    digests: mpsc::Sender<Frame>,
    durable: mpsc::Sender<CheckpointNumber>,
}

/// The other end of an [`Inbox`].
#[derive(Debug)]
pub struct Incoming {
    pub orders: watch::Receiver<Orders>,
    pub digests: DigestAnswers,
    pub durable: mpsc::Receiver<CheckpointNumber>,
}

impl Inbox {
    pub fn new(orders: Orders) -> (Self, Incoming) {
        let (orders_in, orders) = watch::channel(orders);
        let (digests_in, digests) = mpsc::channel(DIGESTS_WAITING);
        let (durable_in, durable) = mpsc::channel(ANSWERS_WAITING);
        let inbox = Self {
            orders: orders_in,
            digests: digests_in,
            durable: durable_in,
        };
        let incoming = Incoming {
            orders,
            digests: DigestAnswers {
                answers: digests,
                asked: VecDeque::new(),
            },
            durable,
        };
        (inbox, incoming)
    }
}

/// Requests for digests and their answers, which come in the order of the requests.
#[derive(Debug)]
pub struct DigestAnswers {
    answers: mpsc::Receiver<Frame>,
    asked: VecDeque<(u16, std::ops::Range<u64>)>,
}

impl DigestAnswers {
    /// Asks for the digests as of all that was sent up to now.
    pub async fn ask(&mut self, outbox: &Outbox, disk: u16, blocks: std::ops::Range<u64>) {
        let wanted = AgentMessage::DigestsWanted {
            disk,
            first_block: blocks.start,
            count: blocks.end - blocks.start,
            after: outbox.sent_before(),
        };
        self.asked.push_back((disk, blocks));
        outbox.post(&wanted).await;
    }

    /// The answer to the oldest request.
    pub async fn next(&mut self) -> Result<Vec<Digest>, SessionError> {
        let Some(frame) = self.answers.recv().await else {
            return until_the_session_ends().await;
        };
        let (disk, blocks) = self
            .asked
            .pop_front()
            .ok_or(SessionError::Protocol("it sent digests that nobody asked for"))?;
        digests_in(&frame, disk, &blocks)
    }

    /// Waits for the answers to all requests and drops them: a round was called off.
    pub async fn drain(&mut self) -> Result<(), SessionError> {
        while !self.asked.is_empty() {
            self.next().await?;
        }
        Ok(())
    }
}

/// The digests in a frame, if they are of these blocks.
pub fn digests_in(
    frame: &Frame,
    disk: u16,
    blocks: &std::ops::Range<u64>,
) -> Result<Vec<Digest>, SessionError> {
    let digests = frame::read_digests(frame).ok_or(SessionError::Protocol("its digests are cut off"))?;
    if frame.disk != disk || frame.at != blocks.start || digests.len() as u64 != blocks.end - blocks.start {
        return Err(SessionError::Protocol(
            "it sent other digests than were asked for",
        ));
    }
    Ok(digests)
}

/// Reads frames until the connection ends or the runner falls silent.
pub async fn read(mut stream: impl AsyncRead + Unpin, inbox: Inbox) -> Result<(), SessionError> {
    loop {
        let frame = receive(&mut stream).await?;
        // A receiver is only gone when the session is over.
        if frame.kind == Kind::Digests {
            if inbox.digests.send(frame).await.is_err() {
                return Ok(());
            }
            continue;
        }
        match read_control::<RunnerMessage>(&frame)? {
            RunnerMessage::Orders(orders) => {
                inbox.orders.send_if_modified(|known| {
                    let news = *known != orders;
                    *known = orders;
                    news
                });
            }
            RunnerMessage::Durable { number } => {
                if inbox.durable.send(number).await.is_err() {
                    return Ok(());
                }
            }
            RunnerMessage::Fault { fault } => return Err(fault.into()),
            RunnerMessage::Refused(refusal) => {
                return Err(protocol::handshake::HandshakeError::from(refusal).into());
            }
            // What the agent has to know of it was said before.
            RunnerMessage::Committed { .. } | RunnerMessage::KeepAlive => {}
            RunnerMessage::Welcome(_) | RunnerMessage::Joined | RunnerMessage::Inspected(_) => {
                return Err(SessionError::Protocol("it answered what nobody asked"));
            }
        }
    }
}

/// Reads one frame. The runner is silent if no byte comes for [`SILENCE_MAX`].
pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, SessionError> {
    let mut header = [0; HEADER_LEN];
    fill(stream, &mut header).await?;
    let header = Header::decode(&header)?;
    if header.kind == Kind::Control && header.payload_len > CONTROL_LEN_MAX {
        return Err(ControlError::TooLong(header.payload_len).into());
    }
    let mut payload = vec![0; header.payload_len];
    fill(stream, &mut payload).await?;
    Ok(Frame {
        kind: header.kind,
        codec: header.codec,
        disk: header.disk,
        at: header.at,
        payload,
    })
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), room: &mut [u8]) -> Result<(), SessionError> {
    let mut got = 0;
    while got < room.len() {
        let read = timeout(SILENCE_MAX, stream.read(&mut room[got..])).await;
        match read.map_err(|_| SessionError::Silent)? {
            Ok(0) => return Err(SessionError::Closed),
            Ok(n) => got += n,
            // A peer that dies leaves no TLS goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(SessionError::Closed),
            Err(error) => return Err(SessionError::Broken(error)),
        }
    }
    Ok(())
}

/// Reads a lane on which the runner has nothing to say but that it lives.
pub async fn read_lane(mut stream: impl AsyncRead + Unpin) -> Result<(), SessionError> {
    loop {
        let frame = receive(&mut stream).await?;
        match read_control::<RunnerMessage>(&frame)? {
            RunnerMessage::KeepAlive => {}
            RunnerMessage::Fault { fault } => return Err(fault.into()),
            _ => return Err(SessionError::Protocol("it spoke on a lane for data")),
        }
    }
}

/// Small frames are gathered to about this length, so that they share TLS records and system calls.
const GATHERED: usize = 256 << 10;

/// What a lane writes: data, and on the first lane control messages, which go first.
#[derive(Debug)]
pub struct Outflow {
    pub data: mpsc::Receiver<Data>,
    /// Closed from the beginning on lanes that carry none.
    pub control: mpsc::Receiver<Frame>,
    pub throttle: Arc<Throttle>,
    pub meter: Arc<Meter>,
}

/// Writes to one connection until the outbox is gone.
pub async fn write(mut stream: impl AsyncWrite + Unpin, mut flow: Outflow) -> Result<(), SessionError> {
    let mut buffer = Vec::with_capacity(GATHERED + frame::PAYLOAD_MAX);
    let mut written = Vec::new();
    // A little early, so that a busy moment does not make it late.
    let mut idle = tokio::time::interval(HEARTBEAT * 3 / 4);
    idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(frame) = flow.control.recv() => frame.encode_to(&mut buffer),
            data = flow.data.recv() => match data {
                Some(data) => take_up(data, &flow, &mut buffer, &mut written).await,
                None => break,
            },
            _ = idle.tick() => control(&AgentMessage::KeepAlive).encode_to(&mut buffer),
        }
        while buffer.len() < GATHERED {
            if let Ok(frame) = flow.control.try_recv() {
                frame.encode_to(&mut buffer);
            } else if let Ok(data) = flow.data.try_recv() {
                take_up(data, &flow, &mut buffer, &mut written).await;
            } else {
                break;
            }
        }
        stream.write_all(&buffer).await.map_err(SessionError::Broken)?;
        stream.flush().await.map_err(SessionError::Broken)?;
        buffer.clear();
        for data in written.drain(..) {
            Data::sent(&data);
        }
        idle.reset();
        // On one slow processor there is never nothing to send: whoever reads and gives signs of life gets a turn, too.
        tokio::task::yield_now().await;
    }
    while let Ok(frame) = flow.control.try_recv() {
        send(&mut stream, &frame).await?;
    }
    stream.shutdown().await.map_err(SessionError::Broken)
}

async fn take_up(mut data: Data, flow: &Outflow, buffer: &mut Vec<u8>, written: &mut Vec<Data>) {
    let wire_bytes = HEADER_LEN + data.frame.payload.len();
    flow.throttle.pass(wire_bytes).await;
    data.frame.encode_to(buffer);
    // It is in the buffer, which the budget need not count twice.
    data.frame.payload = Vec::new();
    flow.meter.sent(data.bytes(), wire_bytes as u64);
    written.push(data);
}

/// Sends one frame at once, before there is an outbox.
pub async fn send(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> Result<(), SessionError> {
    let mut bytes = Vec::new();
    frame.encode_to(&mut bytes);
    stream.write_all(&bytes).await.map_err(SessionError::Broken)?;
    stream.flush().await.map_err(SessionError::Broken)
}

/// Reports the status once a second while it changes, and as a heartbeat while it does not.
pub async fn report_status(board: Board, outbox: Arc<Outbox>, mut flow: impl FnMut() -> Flow) {
    let heartbeat = HEARTBEAT * 3 / 4;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut reported = None;
    let mut reported_at = tokio::time::Instant::now();
    loop {
        tick.tick().await;
        board.set_flow(flow());
        let status = board.report();
        if reported.as_ref() == Some(&status) && reported_at.elapsed() < heartbeat {
            continue;
        }
        outbox.post(&AgentMessage::Status(status.clone())).await;
        reported = Some(status);
        reported_at = tokio::time::Instant::now();
    }
}

/// Reader or writer have ended, and say why to whoever waits for them. Nothing is left to do here.
pub async fn until_the_session_ends<T>() -> T {
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use domain::{disk::Disk, ids::SourceServerId, source_server::ReplicationIntent};

    use super::*;
    use crate::changes::progress::Progress;

    fn inbox() -> (Inbox, Incoming) {
        Inbox::new(Orders {
            replication: ReplicationIntent::Run,
            checkpoint_request: 0,
            checkpoint_interval_s: 600,
            bandwidth: domain::bandwidth::Bandwidth::default(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_runner_is_taken_for_dead() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (inbox, _incoming) = inbox();
        let started = tokio::time::Instant::now();
        // Half a header is no sign of life for ever.
        far.write_all(&[1; 5]).await.unwrap();
        assert!(matches!(read(near, inbox).await, Err(SessionError::Silent)));
        assert!(started.elapsed() >= SILENCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_agent_is_never_silent_for_longer_than_a_heartbeat() {
        let board = Board::new(SourceServerId::from_entropy(1), "runner:1500".into());
        let (outbox, mut queues) = Outbox::new(1);
        let mut reports = tokio::task::JoinSet::new();
        reports.spawn(report_status(board, Arc::new(outbox), Flow::default));
        for _ in 0..5 {
            let before = tokio::time::Instant::now();
            assert!(queues.control.recv().await.is_some());
            assert!(before.elapsed() <= HEARTBEAT, "{:?}", before.elapsed());
        }
    }

    #[tokio::test]
    async fn what_comes_in_is_heard_while_there_is_always_something_to_send() {
        let (outbox, mut queues) = Outbox::new(1);
        let disk = Disk {
            id: "serial-1".parse().unwrap(),
            device_name: "/dev/sda".into(),
            bytes: 1 << 30,
            is_boot: true,
        };
        let progress = Arc::new(Progress::new(disk, false));
        for _ in 0..20 {
            let buffer_full = Frame {
                payload: vec![0; GATHERED],
                ..frame::zeros(0, 0, 1)
            };
            outbox.send(buffer_full, &progress, 1).unwrap();
        }
        drop(outbox);
        // That there is something to read, only the runtime's driver can tell.
        let (mut near, mut far) = tokio::net::UnixStream::pair().unwrap();
        far.write_all(b"!").await.unwrap();
        let heard = tokio::spawn(async move { near.read_u8().await });
        let flow = Outflow {
            data: queues.lanes.remove(0),
            control: queues.control,
            throttle: Arc::default(),
            meter: Arc::default(),
        };
        write(tokio::io::sink(), flow).await.unwrap();
        assert!(heard.is_finished());
    }

    #[tokio::test]
    async fn a_fault_ends_the_session_with_its_reason() {
        use protocol::session::Fault;
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (inbox, _incoming) = inbox();
        let fault = control(&RunnerMessage::Fault {
            fault: Fault::StagingFull,
        });
        send(&mut far, &fault).await.unwrap();
        let ended = read(near, inbox).await;
        assert!(
            matches!(ended, Err(SessionError::Fault(Fault::StagingFull))),
            "{ended:?}"
        );
    }

    #[tokio::test]
    async fn too_long_a_control_message_is_refused_before_it_is_read() {
        let (mut near, mut far) = tokio::io::duplex(1 << 10);
        let header = Header {
            kind: Kind::Control,
            codec: frame::Codec::Raw,
            disk: 0,
            at: 0,
            payload_len: CONTROL_LEN_MAX + 1,
        };
        far.write_all(&header.encode()).await.unwrap();
        let refused = receive(&mut near).await;
        assert!(
            matches!(refused, Err(SessionError::Control(ControlError::TooLong(_)))),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn digests_that_nobody_asked_for_break_the_protocol() {
        let (inbox, mut incoming) = inbox();
        let (outbox, _queues) = Outbox::new(1);
        incoming.digests.ask(&outbox, 1, 0..2).await;
        let digests = [Digest([7; 32]); 2];
        inbox.digests.send(frame::digests(1, 0, &digests)).await.unwrap();
        assert_eq!(incoming.digests.next().await.unwrap(), digests);

        incoming.digests.ask(&outbox, 1, 0..2).await;
        inbox
            .digests
            .send(frame::digests(1, 0, &digests[..1]))
            .await
            .unwrap();
        assert!(matches!(
            incoming.digests.next().await,
            Err(SessionError::Protocol(_))
        ));
    }
}
