//! How many requests per second are let through: a bucket that holds one second's worth, for each whom a quota counts.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<HashMap<String, Bucket>>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Quotas {
    /// Whether `whom` may send one more of `per_second`.
    pub(super) fn admit(&self, whom: String, per_second: u32) -> bool {
        self.admit_at(whom, per_second, Instant::now())
    }

    fn admit_at(&self, whom: String, per_second: u32, now: Instant) -> bool {
        let full = f64::from(per_second);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(whom).or_insert(Bucket { left: full, at: now });
        let since = now.duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * full).min(full);
        bucket.at = now;
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_lets_as_many_through_as_the_quota_says() {
        let quotas = Quotas::default();
        let began = Instant::now();
        let admitted = |whom: &str, millis: u64| {
            let at = began + Duration::from_millis(millis);
            (0..100)
                .filter(|_| quotas.admit_at(whom.to_owned(), 10, at))
                .count()
        };
        assert_eq!(admitted("a", 0), 10);
        assert_eq!(admitted("b", 0), 10);
        assert_eq!(admitted("a", 500), 5);
        assert_eq!(admitted("a", 9_000), 10);
    }
}
