//! Checkpoints: consistent points of all disks of one server, and how long they are kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Counts the checkpoints of one server from 1; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointNumber(pub u64);

impl CheckpointNumber {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for CheckpointNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How sure it is that all disks are from one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Every file system was frozen: each mounts without replaying its journal.
    Filesystem,
    /// Nothing was written while it was read: as if the power had been cut at one instant.
    Crash,
    /// Writes went on while it was read. Good for resuming, never for a cutover.
    None,
}

impl Consistency {
    pub fn name(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Crash => "crash",
            Self::None => "none",
        }
    }

    /// Whether an instance launched from such a checkpoint can be trusted with production.
    pub fn allows_cutover(self) -> bool {
        self != Self::None
    }
}

/// A partial checkpoint saves the work of a long copy and cannot be launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    Partial,
    Launchable,
}

/// Which checkpoints may go: partial ones once a later checkpoint exists, launchable ones beyond `kept`,
/// oldest first; never one that is pinned by a job, and never the newest.
pub fn retention_plan(
    checkpoints: &[(CheckpointNumber, CheckpointKind)],
    pinned: &BTreeSet<CheckpointNumber>,
    kept: u16,
) -> Vec<CheckpointNumber> {
    let Some(newest) = checkpoints.iter().map(|(number, _)| *number).max() else {
        return Vec::new();
    };
    let mut launchable: Vec<_> = checkpoints
        .iter()
        .filter(|(_, kind)| *kind == CheckpointKind::Launchable)
        .map(|(number, _)| *number)
        .collect();
    launchable.sort_unstable();
    let surplus = launchable.len().saturating_sub(kept.into());
    let too_old: BTreeSet<_> = launchable.into_iter().take(surplus).collect();

    let mut leaving: Vec<_> = checkpoints
        .iter()
        .filter(|(number, kind)| *kind == CheckpointKind::Partial || too_old.contains(number))
        .map(|(number, _)| *number)
        .filter(|number| *number != newest && !pinned.contains(number))
        .collect();
    leaving.sort_unstable();
    leaving
}

#[cfg(test)]
mod tests {
    use CheckpointKind::{Launchable, Partial};
    use proptest::prelude::*;

    use super::*;

    fn plan(kinds: &[CheckpointKind], pinned: &[u64]) -> Vec<u64> {
        plan_keeping(kinds, pinned, 6)
    }

    fn plan_keeping(kinds: &[CheckpointKind], pinned: &[u64], kept: u16) -> Vec<u64> {
        let checkpoints: Vec<_> = kinds
            .iter()
            .zip(1..)
            .map(|(kind, n)| (CheckpointNumber(n), *kind))
            .collect();
        let pinned = pinned.iter().map(|n| CheckpointNumber(*n)).collect();
        retention_plan(&checkpoints, &pinned, kept)
            .into_iter()
            .map(|n| n.0)
            .collect()
    }

    #[test]
    fn partial_checkpoints_leave_when_a_later_one_exists() {
        assert_eq!(plan(&[Partial, Partial], &[]), [1]);
        assert_eq!(plan(&[Partial, Partial, Launchable], &[]), [1, 2]);
    }

    #[test]
    fn the_last_six_launchable_stay_and_so_do_pinned_ones() {
        assert_eq!(plan(&[Launchable; 8], &[]), [1, 2]);
        assert_eq!(plan(&[Launchable; 8], &[1]), [2]);
    }

    proptest! {
        #[test]
        fn the_newest_and_as_many_launchable_as_wanted_always_stay(
            kinds in prop::collection::vec(prop_oneof![Just(Partial), Just(Launchable)], 0..40),
            kept in 1u16..50,
        ) {
            let leaving = plan_keeping(&kinds, &[], kept);
            prop_assert!(!leaving.contains(&(kinds.len() as u64)));
            let launchable_left = kinds
                .iter()
                .zip(1u64..)
                .filter(|(kind, n)| **kind == Launchable && !leaving.contains(n))
                .count();
            let launchable = kinds.iter().filter(|kind| **kind == Launchable).count();
            prop_assert_eq!(launchable_left, launchable.min(kept.into()));
        }
    }
}
