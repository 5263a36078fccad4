//! What changed on the disks.
//!
//! A checkpoint is made in rounds. At the beginning of each, the *change source* of a disk says which
//! blocks have to be looked at, and what the runner is known to hold there; [`scan`] reads them and
//! sends what the runner does not have.
//!
//! - [`rescan`]: knows nothing, looks at every block, and compares digests.
//! - [`scan`]: the threads that read, compare and pack.
//! - [`progress`]: how far they are.
//! - [`tracker`]: programs in the kernel that see every write; [`chunks`]: the sets of what they saw.

use std::ops::Range;

pub mod chunks;
pub mod progress;
pub mod rescan;
pub mod scan;
pub mod tracker;

/// Where the changes of one disk come from. It lives as long as a session.
///
/// A source may name blocks that have not changed; it must never leave out one that has. If it cannot
/// be sure, it names all.
pub trait ChangeSource: Send + std::fmt::Debug {
    /// For logs and the console.
    fn name(&self) -> &'static str;

    /// Begins a round: what may differ from what the runner holds. Whatever is written from now on belongs
    /// to the next round, if it is not seen in this one.
    fn begin_round(&mut self) -> Round;

    /// The round was carried out to its end: everything it found is on its way to the runner.
    fn end_round(&mut self);

    /// The runner has made durable all that was sent.
    fn committed(&mut self);
}

/// The blocks that a round looks at, and against what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    pub blocks: Range<u64>,
    pub against: Against,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The runner holds nothing there, which reads as zeros.
    Zeros,
    /// The runner is asked for its digests, and blocks with the same digest are left out.
    RunnersDigests,
}
