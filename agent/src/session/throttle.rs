//! Keeps a session within the bandwidth that was ordered for it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::bandwidth::Bandwidth;
use tokio::time::Instant;

/// How long a wait may be before the limit is looked at again: it changes with the orders and the time of the week.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Shared by all lanes. Whoever sends runs up a debt, and the next one waits until it is paid off, so that a frame
/// that is larger than what a moment allows gets through all the same.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    plan: Bandwidth,
    debt_bytes: f64,
    settled: Option<Instant>,
}

impl Throttle {
    pub fn order(&self, plan: &Bandwidth) {
        self.account().plan.clone_from(plan);
    }

    /// The limit in force, in Mbit/s.
    pub fn limit(&self) -> Option<u32> {
        self.account().plan.at(crate::status::now_ms())
    }

    /// Waits until `bytes` may be sent.
    pub async fn pass(&self, bytes: usize) {
        loop {
            let charged = self
                .account()
                .charge(bytes, crate::status::now_ms(), Instant::now());
            let Err(wait) = charged else { return };
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Takes `bytes` up, or says how long to wait.
    fn charge(&mut self, bytes: usize, now_ms: i64, now: Instant) -> Result<(), Duration> {
        let Some(mbit_s) = self.plan.at(now_ms) else {
            self.debt_bytes = 0.0;
            return Ok(());
        };
        let bytes_per_s = f64::from(mbit_s) * 1e6 / 8.0;
        let settled = self.settled.replace(now).unwrap_or(now);
        let paid = now.saturating_duration_since(settled).as_secs_f64() * bytes_per_s;
        self.debt_bytes = (self.debt_bytes - paid).max(0.0);
        // What a timer's tick is worth may be owed, or small frames would wait for one each.
        let tick = bytes_per_s * 0.002;
        if self.debt_bytes > tick {
            return Err(Duration::from_secs_f64(self.debt_bytes / bytes_per_s));
        }
        // A frame is at most half a MiB.
        self.debt_bytes += u32::try_from(bytes).map_or(f64::MAX, f64::from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(mbit_s: u32) -> Throttle {
        let throttle = Throttle::default();
        throttle.order(&Bandwidth {
            mbit_s: Some(mbit_s),
            ..Bandwidth::default()
        });
        throttle
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_in_ten_seconds_is_what_was_allowed() {
        let throttle = limited(8);
        let start = Instant::now();
        let mut passed = 0;
        while start.elapsed() < Duration::from_secs(10) {
            throttle.pass(100_000).await;
            passed += 100_000;
        }
        assert!((10_000_000..10_300_000).contains(&passed), "{passed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_lifted_lets_go_at_once() {
        let throttle = limited(1);
        throttle.pass(512 << 10).await;
        let waiting = throttle.pass(1);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
        assert!(early.is_err());
        throttle.order(&Bandwidth::default());
        let then = tokio::time::timeout(LOOK_AGAIN, waiting).await;
        assert!(then.is_ok());
    }
}
