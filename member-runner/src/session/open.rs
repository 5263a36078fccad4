//! A session that is open: frames come, blocks are staged, checkpoints are committed.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::replication::ReplicationError;
use identity::Peer;
use protocol::{
    frame::{self, Frame, Kind},
    session::{AgentMessage, CheckpointOffer, Fault, Goodbye, RunnerMessage, control, read_control},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    MARGIN_BYTES, intent, is_revoked,
    wire::{ReadError, Received},
};
use crate::{
    runner::core::Core,
    server::{Server, Slot},
    staging::{Piece, Staging},
};

/// How long the last words may take to be written.
const LAST_WORDS_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Session {
    pub server: Arc<Server>,
    pub slot: Slot,
    pub peer: Peer,
    pub staging: Staging,
    pub frames: mpsc::Receiver<Result<Received, ReadError>>,
    pub out: mpsc::Sender<Frame>,
    pub reader: JoinSet<()>,
    pub writer: JoinSet<io::Result<()>>,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    Goodbye(Goodbye),
    Lost(String),
    /// The connection stands, and nothing came over it for as long as a peer may be silent.
    Silent,
    Fault(Fault),
    /// The agent connected anew.
    Replaced,
    Revoked,
    NotWanted,
}

impl Session {
    pub async fn run(mut self, core: &Core) {
        tracing::info!(server.id = %self.server.id, "an agent is connected");
        let end = self.until_end(core).await;
        tracing::info!(server.id = %self.server.id, ?end, "an agent is disconnected");
        self.settle(core, &end).await;
        let Self {
            slot,
            staging,
            mut frames,
            out,
            mut reader,
            mut writer,
            ..
        } = self;
        staging.abandon().await;
        if let End::Fault(fault) = end {
            let last_words = async {
                let said = out.send(control(&RunnerMessage::Fault { fault })).await;
                // A connection that is closed with bytes unread takes with it what was said last.
                while said.is_ok() && frames.recv().await.is_some_and(|received| received.is_ok()) {}
            };
            // It may be gone already, or be back on another connection.
            tokio::select! {
                () = slot.replaced.cancelled() => {}
                _ = timeout(LAST_WORDS_MAX, last_words) => {}
            }
        }
        drop(out);
        reader.shutdown().await;
        // With nobody left to say anything, the writer ends.
        drop(timeout(LAST_WORDS_MAX, writer.join_next()).await);
        writer.shutdown().await;
        drop(slot);
        core.changed.notify_one();
        core.tidy.notify_one();
    }

    async fn until_end(&mut self, core: &Core) -> End {
        let mut desired = core.desired.clone();
        loop {
            tokio::select! {
                biased;
                () = self.slot.replaced.cancelled() => return End::Replaced,
                () = core.stop.cancelled() => return End::Fault(Fault::Stopping),
                Ok(()) = desired.changed() => {
                    let desired = desired.borrow_and_update();
                    if is_revoked(&desired, &self.peer) {
                        return End::Revoked;
                    }
                    if intent(&desired, &self.server.id).is_none() {
                        return End::NotWanted;
                    }
                }
                finished = self.staging.finished() => {
                    if let Err(fault) = self.staging.go_on(finished).await {
                        return End::Fault(fault);
                    }
                }
                () = self.out.closed() => return End::Lost("the connection could not be written".into()),
                received = self.frames.recv() => match received {
                    Some(Ok(received)) => {
                        self.server.heard();
                        if let Err(end) = self.take(core, received).await {
                            return end;
                        }
                    }
                    Some(Err(error)) if error.is_protocol() => {
                        return End::Fault(Fault::Protocol { detail: error.to_string() });
                    }
                    Some(Err(ReadError::Silent)) => return End::Silent,
                    Some(Err(error)) => return End::Lost(error.to_string()),
                    None => return End::Lost("the connection was closed".into()),
                },
            }
        }
    }

    async fn take(&mut self, core: &Core, Received { frame, permit }: Received) -> Result<(), End> {
        let protocol = |detail: String| End::Fault(Fault::Protocol { detail });
        match (frame.kind, permit) {
            (Kind::Extent, Some(permit)) => {
                let (disk, at) = (frame.disk, frame.at);
                let piece = Piece::Extent(frame, permit);
                self.staging.extent(piece, disk, at).await.map_err(End::Fault)
            }
            (Kind::Zeros, _) => {
                let len = frame::zeros_len(&frame)
                    .ok_or_else(|| protocol("a run of zeros without a length".into()))?;
                let taken = self.staging.zeros(frame.disk, frame.at, len).await;
                taken.map_err(End::Fault)
            }
            (Kind::Control, _) => {
                let message = read_control(&frame).map_err(|error| protocol(error.to_string()))?;
                self.hear(core, message).await
            }
            (kind, _) => Err(protocol(format!(
                "an agent does not send frames of kind {kind:?}"
            ))),
        }
    }

    async fn hear(&mut self, core: &Core, message: AgentMessage) -> Result<(), End> {
        match message {
            AgentMessage::DigestsWanted {
                disk,
                first_block,
                count,
                ..
            } => self.answer_digests(disk, first_block, count).await,
            AgentMessage::Status(status) => {
                let has_checkpoint = self.server.has_launchable();
                self.server.standing().agent_reports(status, has_checkpoint);
                core.changed.notify_one();
                Ok(())
            }
            AgentMessage::Checkpoint(offer) => self.commit(core, &offer).await,
            AgentMessage::Goodbye { reason } => Err(End::Goodbye(reason)),
            AgentMessage::KeepAlive => Ok(()),
            other @ (AgentMessage::Hello(_)
            | AgentMessage::SessionKept
            | AgentMessage::Join { .. }
            | AgentMessage::Inspect { .. }) => Err(End::Fault(Fault::Protocol {
                detail: format!("{} came in an open session", other.name()),
            })),
        }
    }

    async fn answer_digests(&mut self, disk: u16, first: u64, count: u64) -> Result<(), End> {
        let mut next = first;
        let end = first.saturating_add(count);
        loop {
            let frame = self.staging.digests(disk, next, end - next).await;
            let frame = frame.map_err(End::Fault)?;
            let answered = frame::read_digests(&frame).map_or(0, |digests| digests.len() as u64);
            self.say(frame).await?;
            next += answered;
            if answered < frame::DIGESTS_PER_FRAME_MAX || next >= end {
                return Ok(());
            }
        }
    }

    async fn commit(&mut self, core: &Core, offer: &CheckpointOffer) -> Result<(), End> {
        self.server.standing().checkpoint_offered(offer.kind);
        core.changed.notify_one();
        let (number, roots) = self.staging.commit(offer).await.map_err(End::Fault)?;
        tracing::info!(server.id = %self.server.id, %number, kind = ?offer.kind, "a checkpoint is committed");
        self.server.standing().checkpoint_committed(offer.kind);
        core.changed.notify_one();
        core.tidy.notify_one();
        self.say(control(&RunnerMessage::Durable { number })).await?;
        self.say(control(&RunnerMessage::Committed { number, roots }))
            .await
    }

    async fn say(&self, frame: Frame) -> Result<(), End> {
        let lost = |_| End::Lost("the connection could not be written".into());
        self.out.send(frame).await.map_err(lost)
    }

    /// Puts the end of the session into the server's standing.
    async fn settle(&self, core: &Core, end: &End) {
        let free = match end {
            End::Fault(Fault::StagingFull) => core.store.free_bytes().await.ok().flatten().unwrap_or(0),
            _ => 0,
        };
        let mut standing = self.server.standing();
        let now = Instant::now();
        match end {
            End::Goodbye(Goodbye::Stopping) => standing.agent_left(now, "it was stopped"),
            End::Goodbye(Goodbye::Uninstalled) => standing.agent_left(now, "it was uninstalled"),
            End::Goodbye(Goodbye::DisksChanged) => standing.agent_left(now, "its disks changed"),
            End::Replaced => standing.agent_left(now, "it is connecting anew"),
            End::Revoked => standing.agent_left(now, "its certificate was revoked"),
            End::NotWanted => standing.agent_left(now, "it is not wanted any more"),
            End::Lost(why) => standing.agent_lost(now, why),
            End::Silent => standing.agent_fell_silent(now),
            End::Fault(Fault::Stopping) => standing.agent_left(now, "the runner is stopping"),
            End::Fault(Fault::StagingFull) => {
                let needed = MARGIN_BYTES.max(free.saturating_mul(2));
                self.server.set_full(Some(needed));
                standing.agent_left(now, "the staging area is full");
                standing.stall(
                    ReplicationError::SnapshotsFailure,
                    format!(
                        "the runner's staging area is full: {free} bytes are free, {needed} are needed to go on; \
                         make room there, replication resumes by itself"
                    ),
                );
            }
            End::Fault(fault @ Fault::Store { .. }) => {
                standing.agent_left(now, "the snapshot store failed");
                standing.stall(ReplicationError::SnapshotsFailure, fault.to_string());
            }
            End::Fault(fault @ Fault::Protocol { .. }) => standing.agent_lost(now, &fault.to_string()),
        }
    }
}
