//! The change source that needs no help from the kernel: every block is looked at, in every round.

use domain::{checkpoint::CheckpointNumber, disk::Tracking};
use protocol::session::DiskStart;

use super::{Against, ChangeSource, Round, chunks::Chunks};

/// Compares the whole disk with what the runner holds.
#[derive(Debug)]
pub struct Rescan {
    bytes: u64,
    /// Why nothing better can be had.
    reason: String,
    /// Nothing was sent in this session, and the runner said that it holds nothing.
    runner_is_empty: bool,
}

impl Rescan {
    pub fn new(bytes: u64, reason: String) -> Self {
        Self {
            bytes,
            reason,
            runner_is_empty: false,
        }
    }
}

impl ChangeSource for Rescan {
    fn tracking(&self) -> Tracking {
        Tracking::Rescan {
            reason: self.reason.clone(),
            // Without root nothing of the kind is allowed; anything else is the kernel's or the device's nature.
            remedy: (!rustix::process::geteuid().is_root()).then(|| "run the agent as root".to_owned()),
        }
    }

    /// What changed since a checkpoint is not known here, so a delta is a rescan.
    fn session_began(&mut self, start: DiskStart) {
        self.runner_is_empty = start == DiskStart::Full;
    }

    fn begin_round(&mut self) -> Round {
        // Only the first round may rely on it, even if that is cut short: it has sent something.
        Round::Whole(if std::mem::take(&mut self.runner_is_empty) {
            Against::Zeros
        } else {
            Against::RunnersDigests
        })
    }

    fn end_round(&mut self) {}

    fn backlog(&self) -> u64 {
        self.bytes
    }

    fn is_sure(&mut self) -> bool {
        true
    }

    fn written(&self) -> Option<Chunks> {
        None
    }

    fn unclean(&self) -> Option<Chunks> {
        None
    }

    fn since(&self) -> Option<CheckpointNumber> {
        None
    }

    fn suspect(&mut self, _doubt: String) {}

    fn offered(&mut self) {}

    fn committed(&mut self, _number: CheckpointNumber) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_runner_is_believed_once() {
        let mut source = Rescan::new(1, "it is a file".into());
        source.session_began(DiskStart::Full);
        assert_eq!(source.begin_round(), Round::Whole(Against::Zeros));
        assert_eq!(source.begin_round(), Round::Whole(Against::RunnersDigests));
        let since = CheckpointNumber(3);
        for start in [DiskStart::Rescan, DiskStart::Delta { since }] {
            source.session_began(start);
            assert_eq!(source.begin_round(), Round::Whole(Against::RunnersDigests));
        }
    }
}
