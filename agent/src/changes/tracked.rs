//! The change source made of a tracker's marks.
//!
//! ```text
//!            whole disk sent or compared           take: what was written since
//! suspect ─────────────────────────────▶ trusted ─────────────────────────────▶ trusted
//!    ▲                                      │ the tracker has a doubt,
//!    └──────────────────────────────────────┘ or the runner holds another checkpoint
//! ```
//!
//! Every mark is in exactly one place until the runner has made it durable: in the kernel's map, in `dirty` (known,
//! not sent in this session), or in `sent` (sent, not answered). When a session ends, what was sent is dirty again.

use std::sync::Arc;

use domain::{checkpoint::CheckpointNumber, disk::Tracking};
use protocol::session::DiskStart;
use tracing::warn;

use super::{Against, ChangeSource, Round, chunks::Chunks, tracker::Watch};

#[derive(Debug)]
pub struct Tracked {
    watch: Watch,
    bytes: u64,
    trust: Trust,
    dirty: Chunks,
    sent: Chunks,
    /// What the running round looks at, until it ends.
    round: Option<Round>,
    /// The runner's checkpoint that all marks count from.
    since: Option<CheckpointNumber>,
    /// An offer was made and not answered: the runner may hold one checkpoint more than we know of.
    offered: bool,
    runner_is_empty: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trust {
    Trusted,
    /// The whole disk has to be looked at. With a reason, if it was trusted before.
    Suspect(Option<String>),
}

impl Tracked {
    pub fn new(watch: Watch, bytes: u64) -> Self {
        let none = Chunks::none(bytes, watch.chunk_len());
        Self {
            watch,
            bytes,
            trust: Trust::Suspect(None),
            dirty: none.clone(),
            sent: none,
            round: None,
            since: None,
            offered: false,
            runner_is_empty: false,
        }
    }

    fn whole(&mut self) -> Round {
        // Marks from now on count; what was written before is seen by the reader.
        self.watch.restart();
        self.dirty.remove_all();
        self.sent.remove_all();
        Round::Whole(if std::mem::take(&mut self.runner_is_empty) {
            Against::Zeros
        } else {
            Against::RunnersDigests
        })
    }

    /// A round that was broken off found nothing that counts.
    fn break_off(&mut self) {
        if let Some(Round::Changes(chunks)) = self.round.take() {
            self.dirty.merge(&chunks);
        }
    }
}

impl ChangeSource for Tracked {
    fn tracking(&self) -> Tracking {
        match &self.trust {
            Trust::Suspect(Some(doubt)) => Tracking::Suspect { doubt: doubt.clone() },
            Trust::Trusted | Trust::Suspect(None) => Tracking::Tracker {
                chunk_bytes: self.watch.chunk_len(),
            },
        }
    }

    fn session_began(&mut self, start: DiskStart) {
        self.break_off();
        self.dirty.merge(&self.sent);
        self.sent.remove_all();
        let goes_on = match start {
            DiskStart::Delta { since } => {
                self.since == Some(since)
                    // The answer to our last offer was lost with the connection.
                    || self.offered && self.since.map(CheckpointNumber::next) == Some(since)
            }
            DiskStart::Full | DiskStart::Rescan => false,
        };
        match start {
            DiskStart::Delta { since } if goes_on => self.since = Some(since),
            _ => {
                self.since = None;
                if self.trust == Trust::Trusted {
                    self.trust = Trust::Suspect(None);
                }
            }
        }
        self.offered = false;
        self.runner_is_empty = start == DiskStart::Full;
    }

    fn begin_round(&mut self) -> Round {
        self.break_off();
        if self.trust == Trust::Trusted {
            let taken = self.watch.take();
            self.dirty.merge(&taken.chunks);
            if let Some(doubt) = taken.doubt {
                self.suspect(doubt.to_string());
            }
        }
        let round = if self.trust == Trust::Trusted {
            let none = Chunks::none(self.bytes, self.watch.chunk_len());
            Round::Changes(Arc::new(std::mem::replace(&mut self.dirty, none)))
        } else {
            self.whole()
        };
        self.round = Some(round.clone());
        round
    }

    fn end_round(&mut self) {
        match self.round.take() {
            Some(Round::Changes(chunks)) => self.sent.merge(&chunks),
            Some(Round::Whole(_)) => self.trust = Trust::Trusted,
            None => {}
        }
    }

    fn backlog(&self) -> u64 {
        match self.trust {
            Trust::Trusted => self.dirty.bytes() + self.watch.marked_bytes(),
            Trust::Suspect(_) => self.bytes,
        }
    }

    fn is_sure(&mut self) -> bool {
        let taken = self.watch.take();
        self.dirty.merge(&taken.chunks);
        if let Some(doubt) = taken.doubt {
            self.suspect(doubt.to_string());
        }
        self.trust == Trust::Trusted
    }

    fn written(&self) -> Option<Chunks> {
        Some(self.watch.peek())
    }

    fn unclean(&self) -> Option<Chunks> {
        if self.trust != Trust::Trusted || self.round.is_some() {
            return None;
        }
        let mut unclean = self.watch.peek();
        unclean.merge(&self.dirty);
        unclean.merge(&self.sent);
        Some(unclean)
    }

    fn since(&self) -> Option<CheckpointNumber> {
        self.since
    }

    fn suspect(&mut self, doubt: String) {
        warn!("{doubt}; the disk is compared as a whole");
        self.trust = Trust::Suspect(Some(doubt));
        self.since = None;
    }

    fn offered(&mut self) {
        self.offered = true;
    }

    fn committed(&mut self, number: CheckpointNumber) {
        self.sent.remove_all();
        self.offered = false;
        // A part of a whole that is still under way is no place to count from.
        self.since = (self.trust == Trust::Trusted).then_some(number);
    }
}
