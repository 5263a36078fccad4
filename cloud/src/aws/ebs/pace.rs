//! How many requests go out in a second: as many as the other side bears.
//!
//! Twice as many each second until the first refusal; after one, three quarters, and from there on a few more each second:
//! additive increase, multiplicative decrease. It is a rate and no number of requests at once, because quotas are.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// Requests in a second, of 512 KiB each.
const FIRST: f64 = 100.0;
const LEAST: f64 = 5.0;
/// Half a gigabyte: no disk brings more, and no quota of EBS allows more for one snapshot.
const MOST: f64 = 1000.0;
const MORE: f64 = 25.0;
const AFTER_REFUSAL: f64 = 0.75;
/// Put takes about 100 ms, so that 128 at once are as many as there may be in a second.
const AT_ONCE: usize = 128;
/// Refusals of requests that were sent before the first came are one refusal. Nobody sends anything meanwhile.
const ONE_REFUSAL: Duration = Duration::from_millis(300);
const ROUND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Pace {
    state: Arc<Mutex<State>>,
    at_once: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    rate: f64,
    /// When the next request may go.
    next: Instant,
    /// Some request had to wait for its time in this round.
    is_limit: bool,
    round: Instant,
    refused: Option<Instant>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Turn {
    state: Arc<Mutex<State>>,
    _at_once: OwnedSemaphorePermit,
}

impl Pace {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State {
                rate: FIRST,
                next: now,
                is_limit: false,
                round: now,
                refused: None,
            })),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    pub async fn turn(&self) -> Turn {
        let at_once = Arc::clone(&self.at_once).acquire_owned().await;
        let turn = Turn {
            state: Arc::clone(&self.state),
            _at_once: at_once.expect("it is never closed"),
        };
        // What was allowed before a refusal is allowed no more.
        loop {
            let slot = turn.state().slot();
            sleep_until(slot).await;
            if turn
                .state()
                .refused
                .is_none_or(|refused| refused + ONE_REFUSAL <= slot)
            {
                return turn;
            }
        }
    }
}

impl Turn {
    pub fn answered(self) {
        self.state().answered(Instant::now());
    }

    pub fn refused(self) {
        self.state().refused(Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it was held")
    }
}

impl State {
    fn slot(&mut self) -> Instant {
        let now = Instant::now();
        self.is_limit |= self.next > now;
        let slot = self.next.max(now);
        self.next = slot + Duration::from_secs_f64(1.0 / self.rate);
        slot
    }

    fn answered(&mut self, now: Instant) {
        if now < self.round + ROUND {
            return;
        }
        if self.is_limit {
            let more = if self.refused.is_some() { MORE } else { self.rate };
            self.rate = (self.rate + more).min(MOST);
        }
        self.round = now;
        self.is_limit = false;
    }

    fn refused(&mut self, now: Instant) {
        if self.refused.is_some_and(|last| now < last + ONE_REFUSAL) {
            return;
        }
        self.refused = Some(now);
        self.rate = (self.rate * AFTER_REFUSAL).max(LEAST);
        self.next = now + ONE_REFUSAL;
        self.round = now;
        self.is_limit = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(pace: &Pace) -> u64 {
        let rate = pace.state.lock().unwrap().rate;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
        let rate = rate as u64;
        rate
    }

    /// As many requests as are let through until then.
    async fn sent(pace: &Pace, during: Duration) -> u32 {
        let end = Instant::now() + during;
        let mut sent = 0;
        while Instant::now() < end {
            pace.turn().await.answered();
            sent += 1;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_belong_together_are_one() {
        let pace = Pace::new();
        let (first, second) = (pace.turn().await, pace.turn().await);
        first.refused();
        second.refused();
        assert_eq!(rate(&pace), 75);
        let before = Instant::now();
        pace.turn().await.refused();
        assert!(before.elapsed() >= ONE_REFUSAL);
        assert_eq!(rate(&pace), 56);
        for _ in 0..20 {
            pace.turn().await.refused();
        }
        assert_eq!(rate(&pace), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_doubles_until_the_first_refusal_and_is_careful_then() {
        let pace = Pace::new();
        let first = sent(&pace, Duration::from_secs(1)).await;
        assert!((95..=105).contains(&first), "{first}");
        let second = sent(&pace, Duration::from_secs(1)).await;
        assert!((190..=210).contains(&second), "{second}");
        sent(&pace, Duration::from_secs(5)).await;
        assert_eq!(rate(&pace), 1000);
        pace.turn().await.refused();
        assert_eq!(rate(&pace), 750);
        sent(&pace, Duration::from_millis(3500)).await;
        assert_eq!(rate(&pace), 825);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_need_more_gets_no_more() {
        let pace = Pace::new();
        for _ in 0..10 {
            pace.turn().await.answered();
            tokio::time::advance(ROUND).await;
        }
        assert_eq!(rate(&pace), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_under_way_at_once_and_no_more() {
        let pace = Pace::new();
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(pace.turn().await);
        }
        let soon = Duration::from_secs(10);
        assert!(tokio::time::timeout(soon, pace.turn()).await.is_err());
        drop(turns.pop());
        assert!(tokio::time::timeout(soon, pace.turn()).await.is_ok());
    }
}
