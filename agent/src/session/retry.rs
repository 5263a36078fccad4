//! How long to wait before the next session: longer each time, never for good, never in step with the
//! other servers that lost the same runner.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    last_reason: Option<String>,
}

impl Backoff {
    /// The wait after one more failure. `chance` is random, 0 to 1.
    pub fn failed(&mut self, chance: f64) -> Duration {
        let doubled = SHORTEST.saturating_mul(1_u32 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(LONGEST).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// A session came to something.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether `reason` has not been told yet: the same one each minute helps nobody.
    pub fn is_news(&mut self, reason: &str) -> bool {
        let news = self.last_reason.as_deref() != Some(reason);
        if news {
            self.last_reason = Some(reason.to_owned());
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_stay_there() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..200).map(|_| backoff.failed(1.0)).collect();
        assert_eq!(waits[0], SHORTEST);
        assert!(waits.is_sorted());
        assert!(waits[7..].iter().all(|wait| *wait == LONGEST));
        assert_eq!(backoff.failed(0.0), LONGEST / 2);
        backoff.succeeded();
        assert!(backoff.failed(0.3) < SHORTEST);
    }

    #[test]
    fn a_reason_is_news_once() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_news("refused"));
        assert!(!backoff.is_news("refused"));
        assert!(backoff.is_news("silent"));
    }
}
