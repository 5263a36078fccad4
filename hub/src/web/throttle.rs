//! Slows down guessing: after a few failures, a name is closed to an address for a while.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures before the door closes.
const FREE: u32 = 5;

/// How long it is closed; failures are forgotten after the same time.
const CLOSED: Duration = Duration::from_mins(1);

/// Pairs of name and address that are remembered: a bound on memory that a flood of names cannot pass.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<(String, Option<IpAddr>), Failures>>);

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Throttle {
    /// How long `name` stays closed to `address`.
    pub fn closed_for(&self, name: &str, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = failures.get(&(name.to_owned(), address))?;
        let left = CLOSED.checked_sub(now.duration_since(known.last))?;
        (known.count >= FREE).then_some(left)
    }

    pub fn failed(&self, name: &str, address: Option<IpAddr>, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, known| now.duration_since(known.last) < CLOSED);
        if failures.len() >= REMEMBERED {
            return;
        }
        let known = failures
            .entry((name.to_owned(), address))
            .or_insert(Failures { count: 0, last: now });
        known.count += 1;
        known.last = now;
    }

    pub fn succeeded(&self, name: &str, address: Option<IpAddr>) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&(name.to_owned(), address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_closes_for_a_minute_and_for_that_address_only() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let (here, there) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        for _ in 0..FREE {
            assert_eq!(throttle.closed_for("ann", here, now), None);
            throttle.failed("ann", here, now);
        }
        assert_eq!(throttle.closed_for("ann", here, now), Some(CLOSED));
        assert_eq!(throttle.closed_for("ann", there, now), None);
        assert_eq!(throttle.closed_for("bob", here, now), None);
        assert_eq!(throttle.closed_for("ann", here, now + CLOSED + CLOSED / 60), None);
        throttle.succeeded("ann", here);
        assert_eq!(throttle.closed_for("ann", here, now), None);
    }
}
