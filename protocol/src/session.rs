//! The messages of the data session on TCP 1500, between an agent and its runner.
//!
//! ```text
//! agent                                   runner
//!   │ Hello ─────────────────────────────────▶ │  who I am, which disks, what I remember
//!   │ ◀───────────────────── Welcome | Refused │  disk indexes, session, orders
//!   │ SessionKept ───────────────────────────▶ │  the session is on my disk (see `SessionId`)
//!   │ DigestsWanted ─────────────────────────▶ │  ┐
//!   │ ◀─────────────────────────────── Digests │  │ any number of times,
//!   │ Extent, Zeros ─────────────────────────▶ │  │ many in flight
//!   │ Status ────────────────────────────────▶ │  ┘
//!   │ Checkpoint ────────────────────────────▶ │  all of the above is one point of all disks
//!   │ ◀────────────────────── Durable | Fault  │  it can be forgotten, or why not
//!   │ ◀──────────────────────────── Committed  │  it can be launched
//!   │ ◀───────────────────────────────  Orders │  whenever they change, and every few seconds
//! ```
//!
//! Orders are level-triggered: each carries everything that is wanted, so a lost one needs no replay.
//! Either side takes a peer that is silent for [`SILENCE_MAX`] for dead.
//!
//! **Lanes.** A session may have several connections, which share its load. The one that said Hello is
//! lane 0 and carries all control messages; the others begin with `Join`, are answered by `Joined`, and
//! carry extents and zeros alone, and `KeepAlive` both ways. What concerns one place of a disk always goes
//! by the same lane ([`lane_of`]), so that it arrives in the order in which it was sent. A message that
//! is about data says how many frames of data went before it on each lane ([`SentBefore`]), and waits at
//! the runner for the last of them. If one lane ends, the session does.
//!
//! **Inspection.** A connection that begins with `Inspect` asks for the digests of a committed checkpoint,
//! and disturbs no session: `Inspected` or `Refused` answers, then any number of `DigestsWanted`.

use std::time::Duration;

use domain::{
    bandwidth::Bandwidth,
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    digest::Digest,
    disk::{Disk, DiskId, DiskProgress},
    flow::Flow,
    ids::SourceServerId,
    source_server::{ReplicationIntent, SourceProperties},
};
use serde::{Deserialize, Serialize};

use crate::frame::{Codec, Frame, Kind};

/// Each side sends at least one frame in this time.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A peer silent for this long is taken for dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The longest control message. The largest, a Hello of sixty disks, is about 20 KiB.
pub const CONTROL_LEN_MAX: usize = 256 << 10;

/// Connections that one session may have.
pub const LANES_MAX: u16 = 8;

/// As much of a disk goes by one lane before the next takes over: eight blocks.
pub const LANE_SPAN: u64 = 4 << 20;

/// The lane, of `lanes`, by which data of a disk at byte `at` travel. A run of zeros that reaches from
/// one span into the next is cut at the boundary.
pub fn lane_of(at: u64, lanes: u16) -> u16 {
    // The remainder is less than `lanes`.
    u16::try_from(at / LANE_SPAN % u64::from(lanes.max(1))).unwrap_or(0)
}

/// How many frames of data were sent on each lane since the session began, before a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SentBefore(pub Vec<u64>);

/// A nonce that the runner deals out with each Welcome. The agent writes it to disk before it confirms,
/// and shows the one it kept in its next Hello. Two machines with one identity, a cloned disk or a
/// restored backup, cannot both show the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
// Messages are moved once and never kept in numbers.
#[allow(clippy::large_enum_variant)]
pub enum AgentMessage {
    Hello(Hello),
    /// The session of the Welcome is on the agent's disk.
    SessionKept,
    /// At most [`crate::frame::DIGESTS_PER_FRAME_MAX`] blocks of one disk. The runner answers in the order of
    /// the requests, each with one digest per block, as of all that was sent before the request.
    DigestsWanted {
        disk: u16,
        first_block: u64,
        count: u64,
        #[serde(default)]
        after: SentBefore,
    },
    Status(AgentStatus),
    Checkpoint(CheckpointOffer),
    /// The agent leaves on purpose.
    Goodbye {
        reason: Goodbye,
    },
    /// The first message of a further connection of a session that is open.
    Join {
        server: SourceServerId,
        session: SessionId,
        /// From 1.
        lane: u16,
    },
    /// The first message of a connection that only asks; `None` is the newest launchable checkpoint.
    Inspect {
        server: SourceServerId,
        checkpoint: Option<CheckpointNumber>,
    },
    /// Nothing to say, on a lane that would fall silent.
    KeepAlive,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunnerMessage {
    Welcome(Welcome),
    Refused(Refusal),
    Orders(Orders),
    /// What was sent for the oldest checkpoint that was not answered survives any crash: the agent may
    /// forget it. Exactly one for each that was offered, in their order.
    Durable {
        number: CheckpointNumber,
    },
    /// The checkpoint exists, and can be launched if it is of that kind.
    Committed {
        number: CheckpointNumber,
        roots: Vec<Digest>,
    },
    Joined,
    Inspected(Inspected),
    KeepAlive,
    /// The open checkpoint is lost; the session ends. The agent comes again and is told where to go on.
    Fault {
        fault: Fault,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest and highest version of the session that the agent speaks.
    pub versions: (u16, u16),
    pub agent_version: String,
    pub server: SourceServerId,
    /// `/proc/sys/kernel/random/boot_id`: tells a restart of the agent from one of the machine.
    pub boot_id: String,
    /// The session of the last Welcome that the agent kept.
    pub kept_session: Option<SessionId>,
    /// In full each time: addresses and sizes change.
    pub properties: SourceProperties,
    /// The disks to replicate, in the order that numbers them in this session.
    pub disks: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u16,
    pub session: SessionId,
    /// One per disk of the Hello, in its order.
    pub disks: Vec<DiskPlan>,
    pub orders: Orders,
    /// How many connections the session may have in all.
    #[serde(default = "one")]
    pub lanes: u16,
}

fn one() -> u16 {
    1
}

/// A checkpoint as somebody who asks sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    pub number: CheckpointNumber,
    pub consistency: Consistency,
    pub taken_at_ms: i64,
    /// In the order that numbers them in `DigestsWanted`.
    pub disks: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    pub id: DiskId,
    pub start: DiskStart,
}

/// Where replication of a disk starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "start", rename_all = "snake_case")]
pub enum DiskStart {
    /// The runner holds nothing: every block is zeros to it.
    Full,
    /// The runner holds checkpoint `since`, and a tracker that has run since then may send its changes only.
    Delta { since: CheckpointNumber },
    /// The runner holds blocks, and what changed is unknown: compare digests.
    Rescan,
}

/// What the runner wants of the agent, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    pub replication: ReplicationIntent,
    /// A launch waits for a checkpoint taken after this order was first seen. The number grows with
    /// each request; the agent repeats it in the checkpoint that answers it.
    pub checkpoint_request: u64,
    /// Seconds between scheduled checkpoints.
    pub checkpoint_interval_s: u32,
    #[serde(default)]
    pub bandwidth: Bandwidth,
}

/// What the agent does, for the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    pub phase: Phase,
    pub disks: Vec<DiskProgress>,
    /// Why nothing flows, or no checkpoint comes of it, if so.
    pub trouble: Option<Trouble>,
    #[serde(default)]
    pub flow: Flow,
}

/// What an operator has to look after on the source server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// What happened, to what, and what to do about it.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// A disk is gone, or is another one.
    Disks,
    /// A disk cannot be read.
    Reading,
    /// A hook failed or hung.
    Hooks,
    /// More is written than gets through, or it never stands still for long enough.
    NotConverging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    FirstCopy,
    Rescan,
    Backlog,
    Continuous,
    Paused,
    Stopped,
}

/// "All that I sent since the last checkpoint makes one point of all disks."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointOffer {
    pub kind: CheckpointKind,
    pub consistency: Consistency,
    /// The instant that the disks show, in milliseconds since 1970, by the source's clock.
    pub taken_at_ms: i64,
    /// The greatest [`Orders::checkpoint_request`] that this checkpoint answers.
    pub request: u64,
    /// For how long file systems stood still, in milliseconds.
    #[serde(default)]
    pub frozen_ms: u32,
    #[serde(default)]
    pub after: SentBefore,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goodbye {
    Stopping,
    Uninstalled,
    /// A disk changed size, appeared or vanished: a new Hello follows.
    DisksChanged,
}

/// Why the runner does not take the agent. The agent keeps trying in every case; the remedy is with
/// people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    #[error("the runner speaks session versions {lowest} to {highest}; upgrade the older of the two")]
    Version { lowest: u16, highest: u16 },
    #[error(
        "the runner does not know source server {server}; it was disconnected, or belongs to another account"
    )]
    UnknownServer { server: SourceServerId },
    #[error("the certificate was issued to another source server than {server}")]
    NotYourIdentity { server: SourceServerId },
    #[error(
        "source server {server} is replicated by another machine with the same identity, {other}; \
         this one is a clone of it: install the agent anew here, or retire the other machine"
    )]
    ClonedIdentity { server: SourceServerId, other: String },
    #[error(
        "the runner's staging area has {free_bytes} bytes left and needs {needed_bytes}; make room there"
    )]
    StagingFull { free_bytes: u64, needed_bytes: u64 },
    #[error("the list of disks cannot be replicated: {reason}")]
    Disks { reason: String },
    #[error("replication of this server is switched off")]
    NotWanted,
    #[error("there is no session {session:?} to join")]
    NoSession { session: String },
    #[error("the runner holds no such checkpoint of source server {server}")]
    NoCheckpoint { server: SourceServerId },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    #[error("the runner's staging area is full")]
    StagingFull,
    #[error("the runner cannot write its snapshot store: {detail}")]
    Store { detail: String },
    #[error("the agent broke the protocol: {detail}")]
    Protocol { detail: String },
    #[error("the runner is shutting down")]
    Stopping,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("a frame of kind {0:?} came where a control message was expected")]
    NotControl(Kind),
    #[error("a control message of {0} bytes is too long")]
    TooLong(usize),
    #[error("a control message could not be read")]
    Json(#[source] serde_json::Error),
}

/// Wraps a message of either side in a frame.
pub fn control<M: Serialize>(message: &M) -> Frame {
    let payload = serde_json::to_vec(message).expect("messages have no maps with keys that are not text");
    Frame {
        kind: Kind::Control,
        codec: Codec::Raw,
        disk: 0,
        at: 0,
        payload,
    }
}

/// Reads a message of either side. Unknown members are ignored, so that a newer peer may add some.
pub fn read_control<M: for<'de> Deserialize<'de>>(frame: &Frame) -> Result<M, ControlError> {
    if frame.kind != Kind::Control {
        return Err(ControlError::NotControl(frame.kind));
    }
    if frame.payload.len() > CONTROL_LEN_MAX {
        return Err(ControlError::TooLong(frame.payload.len()));
    }
    serde_json::from_slice(&frame.payload).map_err(ControlError::Json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_control_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..500)) {
            let frame = Frame { kind: Kind::Control, codec: Codec::Raw, disk: 0, at: 0, payload };
            let _ = read_control::<AgentMessage>(&frame);
            let _ = read_control::<RunnerMessage>(&frame);
        }
    }

    #[test]
    fn a_control_message_beyond_the_limit_is_not_parsed() {
        let payload = vec![b' '; CONTROL_LEN_MAX + 1];
        let frame = Frame {
            kind: Kind::Control,
            codec: Codec::Raw,
            disk: 0,
            at: 0,
            payload,
        };
        assert!(matches!(
            read_control::<AgentMessage>(&frame),
            Err(ControlError::TooLong(_))
        ));
    }
}
