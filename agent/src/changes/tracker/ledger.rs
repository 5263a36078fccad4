//! Sectors that the tracker has seen, against those that the kernel has accounted for.
//!
//! The kernel traces a completion before it accounts for it, and our program counts it before it takes it off the
//! request table. So whoever reads the kernel's number, then the table, then our number, never finds ours too small
//! by looking at the wrong moment. It may be too large by what is in flight.

use std::time::Duration;

use super::{devices::Devices, doubt::Doubt};

/// The kernel accounts for a request within microseconds after tracing it; within this, even on a slow machine.
const ACCOUNTED_WITHIN: Duration = Duration::from_micros(500);

/// How often to look for a moment in which nothing completes.
const LOOKS_MAX: u32 = 20;

/// Numbers that only grow, read in the order that makes them comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// By the kernel's account, where it keeps one.
    pub kernel: Option<u64>,
    /// The driver has no write in hand.
    pub idle: bool,
    /// Sectors of the requests in the table.
    pub open: u64,
    /// Sectors that completed, and those of purged entries.
    pub seen: u64,
    /// Runs left out at issue and at completion.
    pub misses: Option<[u64; 2]>,
    pub overflowed: u64,
    pub unknown: u64,
    pub odd: u64,
}

/// The look from which on nothing may be missing.
#[derive(Debug, Default)]
pub struct Ledger {
    since: Look,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Balance {
    /// Every write was seen.
    Proven,
    /// Nothing is known to be missing; what is in flight hides the rest.
    Open,
    Wrong(Doubt),
}

impl Ledger {
    /// Begins at a moment in which no request completes, if there is one. Otherwise the sectors of those that do may
    /// hide as many that are missing, until the disk is idle for the first time.
    pub fn begin(look: impl Fn() -> Look, devices: &Devices) -> Self {
        let mut since = look();
        for _ in 0..LOOKS_MAX {
            pause();
            if devices.sectors() == since.kernel {
                return Self { since };
            }
            since = look();
        }
        since.kernel = devices.sectors();
        Self { since }
    }

    /// Judges what `look` shows.
    pub fn audit(&mut self, look: impl Fn() -> Look) -> Balance {
        let now = look();
        let since = self.since;
        if now.unknown != since.unknown {
            let count = now.unknown - since.unknown;
            return Balance::Wrong(Doubt::UnknownOperation { count });
        }
        if now.odd != since.odd {
            let count = now.odd - since.odd;
            return Balance::Wrong(Doubt::Odd { count });
        }
        // If one of the two events of every request was seen, nothing is lost. A request that the table had no room for
        // is one whose issue was missed.
        let unmissed = now.misses.zip(since.misses).map(|(now_misses, then)| {
            now_misses[1] == then[1] || now_misses[0] == then[0] && now.overflowed == since.overflowed
        });
        let balance = match (now.kernel, since.kernel, unmissed) {
            // A device that was exchanged has new counters; that it was is found elsewhere.
            (Some(kernel), Some(before), _) => {
                Self::compare(kernel.saturating_sub(before), now.seen - since.seen, &now)
            }
            (_, _, Some(true)) => Balance::Proven,
            (_, _, Some(false)) => Balance::Wrong(Doubt::MissedUnchecked),
            (_, _, None) => Balance::Wrong(Doubt::Unwitnessed),
        };
        match balance {
            Balance::Proven => {
                self.since = now;
                Balance::Proven
            }
            Balance::Open if now.idle && now.open == 0 => self.correct(now, look),
            Balance::Open if unmissed == Some(true) => {
                (self.since.misses, self.since.overflowed) = (now.misses, now.overflowed);
                Balance::Proven
            }
            other => other,
        }
    }

    fn compare(kernel: u64, seen: u64, now: &Look) -> Balance {
        let missing = kernel.saturating_sub(seen + now.open);
        if missing > 0 {
            return Balance::Wrong(Doubt::Missed { sectors: missing });
        }
        if now.idle && now.open == 0 && kernel == seen {
            Balance::Proven
        } else {
            Balance::Open
        }
    }

    /// We have seen more than the kernel, on an idle disk. If that stays so, it is forgotten: it would hide as many
    /// sectors that are missing later.
    fn correct(&mut self, now: Look, look: impl Fn() -> Look) -> Balance {
        pause();
        if look() == now {
            self.since = now;
        }
        Balance::Open
    }
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tracker's callers are threads that may block, and nobody waits for the end of half a millisecond"
    )]
    std::thread::sleep(ACCOUNTED_WITHIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(kernel: u64, seen: u64) -> Look {
        Look {
            kernel: Some(kernel),
            seen,
            idle: true,
            ..Look::default()
        }
    }

    fn audit(since: Look, now: Look) -> Balance {
        Ledger { since }.audit(|| now)
    }

    #[test]
    fn an_idle_disk_is_judged_exactly() {
        let since = idle(100, 7);
        assert_eq!(audit(since, idle(108, 15)), Balance::Proven);
        let missed = |sectors| Balance::Wrong(Doubt::Missed { sectors });
        assert_eq!(audit(since, idle(108, 14)), missed(1));
        // More than the kernel: it is not known why, and forgotten, so that it hides nothing from then on.
        let mut ledger = Ledger { since };
        assert_eq!(ledger.audit(|| idle(108, 23)), Balance::Open);
        assert_eq!(ledger.audit(|| idle(116, 23)), missed(8));
    }

    #[test]
    fn what_is_in_flight_hides_as_much_unless_no_run_was_left_out() {
        let since = idle(100, 7);
        let busy = |seen, misses| Look {
            open: 8,
            idle: false,
            misses,
            ..idle(116, seen)
        };
        assert_eq!(audit(since, busy(15, None)), Balance::Open);
        assert_eq!(
            audit(since, busy(14, None)),
            Balance::Wrong(Doubt::Missed { sectors: 1 })
        );
        let counting = |misses| {
            audit(
                Look {
                    misses: Some([2, 3]),
                    ..since
                },
                busy(15, Some(misses)),
            )
        };
        assert_eq!(counting([2, 50]), Balance::Proven);
        assert_eq!(counting([50, 3]), Balance::Proven);
        assert_eq!(counting([3, 4]), Balance::Open);
    }

    #[test]
    fn without_statistics_left_out_runs_must_tell() {
        let look = |misses, overflowed| Look {
            misses,
            overflowed,
            ..Look::default()
        };
        let judge = |misses, overflowed| audit(look(Some([0, 0]), 0), look(misses, overflowed));
        assert_eq!(judge(Some([0, 9]), 0), Balance::Proven);
        assert_eq!(judge(Some([0, 9]), 1), Balance::Wrong(Doubt::MissedUnchecked));
        assert_eq!(judge(Some([1, 9]), 0), Balance::Wrong(Doubt::MissedUnchecked));
        assert_eq!(judge(None, 0), Balance::Wrong(Doubt::Unwitnessed));
    }

    #[test]
    fn commands_and_odd_requests_are_doubts() {
        let commands = Look {
            unknown: 2,
            ..idle(0, 0)
        };
        let doubt = Doubt::UnknownOperation { count: 2 };
        assert_eq!(audit(idle(0, 0), commands), Balance::Wrong(doubt));
        let odd = Look { odd: 1, ..idle(0, 0) };
        assert_eq!(audit(idle(0, 0), odd), Balance::Wrong(Doubt::Odd { count: 1 }));
    }
}
