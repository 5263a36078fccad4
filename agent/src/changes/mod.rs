//! What changed on the disks.
//!
//! A checkpoint is made in rounds. At the beginning of each, the *change source* of a disk says what has to be
//! looked at, and what the runner is known to hold there; [`scan`] reads it and sends what the runner does not have.
//!
//! - [`tracker`]: programs in the kernel that mark what is written; [`tracked`] is the source made of their marks.
//! - [`rescan`]: the source that knows nothing, looks at every block, and compares digests.
//! - [`sources`]: which disk has which.
//! - [`chunks`]: a set of pieces of a disk.
//! - [`scan`]: the threads that read, compare and pack.
//! - [`progress`]: how far they are.

use std::sync::Arc;

use domain::{checkpoint::CheckpointNumber, disk::Tracking};
use protocol::session::DiskStart;

use chunks::Chunks;

pub mod chunks;
pub mod progress;
pub mod rescan;
pub mod scan;
pub mod sources;
pub mod tracked;
pub mod tracker;

/// Where the changes of one disk come from. It outlives sessions.
///
/// A source may name what has not changed; it must never leave out what has. If it cannot be sure, it names the
/// whole disk.
pub trait ChangeSource: Send + Sync + std::fmt::Debug {
    /// For the console.
    fn tracking(&self) -> Tracking;

    /// A session begins, and the runner says what it holds.
    fn session_began(&mut self, start: DiskStart);

    /// Begins a round: what may differ from what the runner holds. Whatever is written from now on belongs to the
    /// next round, if it is not seen in this one.
    fn begin_round(&mut self) -> Round;

    /// The round was carried out to its end: everything it found is on its way to the runner.
    fn end_round(&mut self);

    /// How much a round that begins now has to look at, in bytes.
    fn backlog(&self) -> u64;

    /// Whether nothing was missed up to now: to be asked once a round has been read, before it counts. A source that
    /// finds out only now looks at the whole disk in the next round.
    fn is_sure(&mut self) -> bool;

    /// What was written since the last round began; `None` if this source cannot tell.
    fn written(&self) -> Option<Chunks>;

    /// What may differ from what the runner has made durable, at this moment; `None` if all of it may.
    fn unclean(&self) -> Option<Chunks>;

    /// The checkpoint that changes are counted from, if they are.
    fn since(&self) -> Option<CheckpointNumber>;

    /// Somebody found a difference where there should be none.
    fn suspect(&mut self, doubt: String);

    /// A checkpoint is about to be offered; the runner may make it durable without our hearing of it.
    fn offered(&mut self);

    /// The runner has made durable all that was sent.
    fn committed(&mut self, number: CheckpointNumber);
}

/// What a round looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Round {
    /// All blocks, and what the runner is known to hold there.
    Whole(Against),
    /// Nothing but these.
    Changes(Arc<Chunks>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The runner holds nothing there, which reads as zeros.
    Zeros,
    /// The runner is asked for its digests, and blocks with the same digest are left out.
    RunnersDigests,
}
