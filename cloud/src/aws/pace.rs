//! How many requests go out in a second: as many as the other side bears.
//!
//! Twice as many each second until the first refusal; after one, only a part of them, and from there on a few more each
//! second: additive increase, multiplicative decrease. It is a rate and no number of requests at once, because quotas are.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// Rates are in requests per second.
#[derive(Debug)]
pub(super) struct Limits {
    pub first: f64,
    pub least: f64,
    pub most: f64,
    /// Each second, once there was a refusal.
    pub more: f64,
    pub after_refusal: f64,
    pub at_once: usize,
}

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
    limits: &'static Limits,
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
    pub fn new(limits: &'static Limits) -> Self {
        let now = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State {
                limits,
                rate: limits.first,
                next: now,
                is_limit: false,
                round: now,
                refused: None,
            })),
            at_once: Arc::new(Semaphore::new(limits.at_once)),
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
            let Limits { more, most, .. } = *self.limits;
            let more = if self.refused.is_some() { more } else { self.rate };
            self.rate = (self.rate + more).min(most);
        }
        self.round = now;
        self.is_limit = false;
    }

    fn refused(&mut self, now: Instant) {
        if self.refused.is_some_and(|last| now < last + ONE_REFUSAL) {
            return;
        }
        self.refused = Some(now);
        self.rate = (self.rate * self.limits.after_refusal).max(self.limits.least);
        self.next = now + ONE_REFUSAL;
        self.round = now;
        self.is_limit = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::ebs::LIMITS;

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
        let pace = Pace::new(&LIMITS);
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
        let pace = Pace::new(&LIMITS);
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
        let pace = Pace::new(&LIMITS);
        for _ in 0..10 {
            pace.turn().await.answered();
            tokio::time::advance(ROUND).await;
        }
        assert_eq!(rate(&pace), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_under_way_at_once_and_no_more() {
        let pace = Pace::new(&LIMITS);
        let mut turns = Vec::new();
        for _ in 0..LIMITS.at_once {
            turns.push(pace.turn().await);
        }
        let soon = Duration::from_secs(10);
        assert!(tokio::time::timeout(soon, pace.turn()).await.is_err());
        drop(turns.pop());
        assert!(tokio::time::timeout(soon, pace.turn()).await.is_ok());
    }
}
