//! A session that is open: frames come, blocks are staged, checkpoints are committed.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    flow::{Flow, Hop},
    replication::ReplicationError,
};
use identity::Peer;
use protocol::{
    frame::{self, Frame, Kind},
    session::{
        AgentMessage, AgentStatus, CheckpointOffer, Fault, Goodbye, RunnerMessage, control, read_control,
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    MARGIN_BYTES, intent, is_revoked,
    lanes::{self, NewLane},
    order::{Order, OutOfOrder},
    wire::{self, Budget, FromLane, ReadError, Received},
};
use crate::{
    runner::core::Core,
    server::{Server, Slot},
    staging::{Committed, Offered, Staging},
};

/// How long the last words may take to be written.
const LAST_WORDS_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Session {
    pub server: Arc<Server>,
    pub slot: Slot,
    pub room: OwnedSemaphorePermit,
    pub peer: Peer,
    pub staging: Staging,
    /// Changes when blocks turn out to be missing.
    pub missing: watch::Receiver<u64>,
    pub order: Order,
    pub budget: Budget,
    /// When the agent told its status last.
    pub reported: Instant,
    pub joining: mpsc::Receiver<NewLane>,
    /// For the readers of lanes that join.
    pub lane: mpsc::Sender<FromLane>,
    pub frames: mpsc::Receiver<FromLane>,
    pub out: mpsc::Sender<Frame>,
    /// What reads the lanes, and what keeps those besides the first alive.
    pub lanes: JoinSet<()>,
    /// Writes the first lane.
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

impl From<OutOfOrder> for End {
    fn from(error: OutOfOrder) -> Self {
        Self::Fault(Fault::Protocol {
            detail: error.to_string(),
        })
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Silent => Self::Silent,
            error if error.is_protocol() => Self::Fault(Fault::Protocol {
                detail: error.to_string(),
            }),
            error => Self::Lost(error.to_string()),
        }
    }
}

/// To an agent, a slow runner looks like a slow link. `waiting`: the part of the time for which our readers
/// left the link alone.
fn name_the_runner(flow: &mut Flow, waiting: f64) {
    if flow.bottleneck == Some(Hop::Link) && waiting > 0.5 {
        flow.bottleneck = Some(Hop::Runner);
    }
}

impl Session {
    pub async fn run(mut self, core: &Core) {
        tracing::info!(server.id = %self.server.id, "an agent is connected");
        let end = self.until_end(core).await;
        tracing::info!(server.id = %self.server.id, ?end, "an agent is disconnected");
        self.settle(core, &end).await;
        let Self {
            slot,
            room,
            staging,
            lane,
            mut frames,
            out,
            mut lanes,
            mut writer,
            ..
        } = self;
        drop(lane);
        let last_words = async {
            if let End::Fault(fault) = end {
                let said = out.send(control(&RunnerMessage::Fault { fault })).await;
                // A connection that is closed with bytes unread takes with it what was said last.
                while said.is_ok() && frames.recv().await.is_some_and(|from| from.received.is_ok()) {}
            }
        };
        let spoken = async {
            // It may be gone already, or be back on another connection.
            tokio::select! {
                () = slot.replaced.cancelled() => {}
                _ = timeout(LAST_WORDS_MAX, last_words) => {}
            }
        };
        // To finish what was promised may take long.
        tokio::join!(staging.abandon(), spoken);
        drop(out);
        lanes.shutdown().await;
        // With nobody left to say anything, the writer ends.
        drop(timeout(LAST_WORDS_MAX, writer.join_next()).await);
        writer.shutdown().await;
        drop(room);
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
                Ok(()) = self.missing.changed() => return End::Fault(Fault::Store {
                    detail: self.server.damage().unwrap_or_else(|| "blocks are damaged".into()),
                }),
                finished = self.staging.finished() => {
                    if let Err(fault) = self.staging.go_on(finished).await {
                        return End::Fault(fault);
                    }
                    if let Err(end) = self.announce_sealed(core).await {
                        return end;
                    }
                }
                Some(joining) = self.joining.recv() => {
                    if let Err(end) = self.join(joining) {
                        return end;
                    }
                }
                () = self.out.closed() => return End::Lost("the connection could not be written".into()),
                Some(FromLane { lane, received }) = self.frames.recv() => {
                    let taken = match received {
                        Ok(received) => {
                            self.server.heard();
                            self.take(core, lane, received).await
                        }
                        Err(error) => Err(End::from(error)),
                    };
                    if let Err(end) = taken {
                        return end;
                    }
                }
            }
        }
    }

    fn join(&mut self, NewLane { lane, stream }: NewLane) -> Result<(), End> {
        self.order.join(lane)?;
        let (read_half, write_half) = tokio::io::split(stream);
        let (budget, frames) = (self.budget.clone(), self.lane.clone());
        self.lanes
            .spawn(wire::read_all(read_half, lane, budget, frames.clone()));
        self.lanes.spawn(async move {
            if let Err(error) = lanes::keep_alive(write_half).await {
                let received = Err(ReadError::Io(error));
                // With nobody to tell, the session is over.
                drop(frames.send(FromLane { lane, received }).await);
            }
        });
        Ok(())
    }

    async fn take(
        &mut self,
        core: &Core,
        lane: u16,
        Received { frame, permit }: Received,
    ) -> Result<(), End> {
        let protocol = |detail: String| End::Fault(Fault::Protocol { detail });
        match (frame.kind, permit) {
            (Kind::Extent, Some(permit)) => {
                // It lies within one block, and so within one span.
                self.order.data(lane, frame.at, 1)?;
                self.staging.extent(frame, permit).await.map_err(End::Fault)?;
            }
            (Kind::Zeros, _) => {
                let len = frame::zeros_len(&frame)
                    .ok_or_else(|| protocol("a run of zeros without a length".into()))?;
                self.order.data(lane, frame.at, len)?;
                let taken = self.staging.zeros(frame.disk, frame.at, len).await;
                taken.map_err(End::Fault)?;
            }
            (Kind::Control, _) => match read_control(&frame).map_err(|error| protocol(error.to_string()))? {
                AgentMessage::KeepAlive => {}
                message if lane > 0 => {
                    return Err(protocol(format!("{} came by lane {lane}", message.name())));
                }
                AgentMessage::Status(status) => self.hear_status(core, status),
                message => self.order.message(message)?,
            },
            (kind, _) => {
                return Err(protocol(format!(
                    "an agent does not send frames of kind {kind:?}"
                )));
            }
        }
        while let Some(message) = self.order.next()? {
            self.hear(core, message).await?;
        }
        Ok(())
    }

    fn hear_status(&mut self, core: &Core, mut status: AgentStatus) {
        let elapsed = std::mem::replace(&mut self.reported, Instant::now()).elapsed();
        let readers_time = elapsed.as_secs_f64() * f64::from(self.order.lanes());
        name_the_runner(
            &mut status.flow,
            self.budget.waited().as_secs_f64() / readers_time,
        );
        let has_checkpoint = self.server.has_launchable();
        self.server.standing().agent_reports(status, has_checkpoint);
        core.changed.notify_one();
    }

    async fn hear(&mut self, core: &Core, message: AgentMessage) -> Result<(), End> {
        match message {
            AgentMessage::DigestsWanted {
                disk,
                first_block,
                count,
                after: _,
            } => self.answer_digests(core, disk, first_block, count).await,
            AgentMessage::Checkpoint(offer) => self.commit(core, &offer).await,
            AgentMessage::Goodbye { reason } => Err(End::Goodbye(reason)),
            other => Err(End::Fault(Fault::Protocol {
                detail: format!("{} came in an open session", other.name()),
            })),
        }
    }

    async fn answer_digests(&mut self, core: &Core, disk: u16, first: u64, count: u64) -> Result<(), End> {
        let mut next = first;
        let end = first.saturating_add(count);
        loop {
            let frame = self.staging.digests(disk, next, end - next).await;
            let frame = frame.map_err(End::Fault)?;
            self.announce_sealed(core).await?;
            let answered = frame::read_digests(&frame).map_or(0, |digests| digests.len() as u64);
            self.say(frame).await?;
            next += answered;
            if answered < frame::DIGESTS_PER_FRAME_MAX || next >= end {
                return Ok(());
            }
        }
    }

    async fn commit(&mut self, core: &Core, offer: &CheckpointOffer) -> Result<(), End> {
        self.staging.until_sealed().await.map_err(End::Fault)?;
        self.announce_sealed(core).await?;
        self.server.standing().checkpoint_offered(offer.kind);
        core.changed.notify_one();
        let offered = self.staging.offer(offer).await.map_err(End::Fault)?;
        {
            let mut standing = self.server.standing();
            standing.durable_request = standing.durable_request.max(offer.request);
        }
        core.changed.notify_one();
        match offered {
            Offered::Promised(number) => {
                tracing::info!(server.id = %self.server.id, %number, kind = ?offer.kind, "a checkpoint is durable");
                self.say(control(&RunnerMessage::Durable { number })).await
            }
            Offered::Committed(committed) => {
                let number = committed.number;
                self.say(control(&RunnerMessage::Durable { number })).await?;
                self.announce(core, committed).await
            }
        }
    }

    async fn announce_sealed(&mut self, core: &Core) -> Result<(), End> {
        match self.staging.take_committed() {
            Some(committed) => self.announce(core, committed).await,
            None => Ok(()),
        }
    }

    async fn announce(&self, core: &Core, committed: Committed) -> Result<(), End> {
        let Committed { number, roots, kind } = committed;
        tracing::info!(server.id = %self.server.id, %number, ?kind, "a checkpoint is committed");
        self.server.standing().checkpoint_committed(kind);
        core.changed.notify_one();
        core.tidy.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_does_not_read_is_named_in_place_of_the_link() {
        let named = |bottleneck, waiting| {
            let mut flow = Flow {
                bottleneck,
                ..Flow::default()
            };
            name_the_runner(&mut flow, waiting);
            flow.bottleneck
        };
        assert_eq!(named(Some(Hop::Link), 0.6), Some(Hop::Runner));
        assert_eq!(named(Some(Hop::Link), 0.4), Some(Hop::Link));
        assert_eq!(named(Some(Hop::Disk), 0.9), Some(Hop::Disk));
        assert_eq!(named(None, 0.9), None);
    }
}
