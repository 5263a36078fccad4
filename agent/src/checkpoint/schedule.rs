//! When the next checkpoint is due.

use std::time::{Duration, Instant};

use protocol::session::Orders;

/// What is remembered of the checkpoints of a session.
#[derive(Debug, Default)]
pub struct Schedule {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    request: u64,
}

impl Schedule {
    /// A checkpoint that began at `at` and answers `request` was offered.
    pub fn taken(&mut self, at: Instant, request: u64) {
        self.last = Some(Last { at, request });
    }

    /// How long to wait for the next checkpoint; zero if it is due. The first of a session is due at
    /// once: what was written while nobody looked must reach the runner.
    pub fn wait(&self, orders: &Orders, now: Instant) -> Duration {
        let Some(last) = &self.last else {
            return Duration::ZERO;
        };
        if orders.checkpoint_request > last.request {
            return Duration::ZERO;
        }
        let interval = Duration::from_secs(orders.checkpoint_interval_s.max(1).into());
        (last.at + interval).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use domain::source_server::ReplicationIntent;

    use super::*;

    #[test]
    fn due_at_first_by_the_clock_and_on_request() {
        let mut orders = Orders {
            replication: ReplicationIntent::Run,
            checkpoint_request: 4,
            checkpoint_interval_s: 600,
            bandwidth: domain::bandwidth::Bandwidth::default(),
        };
        let mut schedule = Schedule::default();
        let start = Instant::now();
        assert_eq!(schedule.wait(&orders, start), Duration::ZERO);
        schedule.taken(start, 4);
        assert_eq!(
            schedule.wait(&orders, start + Duration::from_secs(590)),
            Duration::from_secs(10)
        );
        assert_eq!(
            schedule.wait(&orders, start + Duration::from_secs(700)),
            Duration::ZERO
        );
        orders.checkpoint_request = 5;
        assert_eq!(schedule.wait(&orders, start), Duration::ZERO);
    }
}
