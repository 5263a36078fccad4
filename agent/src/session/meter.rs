//! Where the time goes, and how much gets through: [`Flow`] for the console.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use domain::flow::{Flow, Forecast, Hop};

/// What the threads and the lanes add up. Times are in nanoseconds, of all threads together.
#[derive(Debug, Default)]
pub struct Meter {
    reading: AtomicU64,
    computing: AtomicU64,
    /// Waiting for room in the outbox.
    waiting: AtomicU64,
    copied_bytes: AtomicU64,
    wire_bytes: AtomicU64,
}

impl Meter {
    pub fn read(&self, since: Instant) {
        add(&self.reading, since.elapsed());
    }

    pub fn computed(&self, since: Instant) {
        add(&self.computing, since.elapsed());
    }

    pub fn waited(&self, since: Instant) {
        add(&self.waiting, since.elapsed());
    }

    pub fn sent(&self, disk_bytes: u64, wire_bytes: u64) {
        self.copied_bytes.fetch_add(disk_bytes, Relaxed);
        self.wire_bytes.fetch_add(wire_bytes, Relaxed);
    }

    fn totals(&self) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        Totals {
            reading: load(&self.reading),
            computing: load(&self.computing),
            waiting: load(&self.waiting),
            copied_bytes: load(&self.copied_bytes),
            wire_bytes: load(&self.wire_bytes),
            written_bytes: 0,
        }
    }
}

fn add(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    reading: u64,
    computing: u64,
    waiting: u64,
    copied_bytes: u64,
    wire_bytes: u64,
    written_bytes: u64,
}

/// Rates are those of about this time, so that one burst is no forecast.
const MEMORY: Duration = Duration::from_secs(10);

/// Turns what a [`Meter`] adds up into rates.
#[derive(Debug)]
pub struct Gauge {
    meter: Arc<Meter>,
    at: Instant,
    last: Totals,
    rates: Rates,
}

/// Per second.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    reading: f64,
    computing: f64,
    waiting: f64,
    copied_bytes: f64,
    wire_bytes: f64,
    written_bytes: f64,
}

impl Gauge {
    /// `written_bytes` counts from any time on, as [`Gauge::flow`]'s does.
    pub fn new(meter: Arc<Meter>, written_bytes: u64, now: Instant) -> Self {
        let last = Totals {
            written_bytes,
            ..meter.totals()
        };
        Self {
            meter,
            at: now,
            last,
            rates: Rates::default(),
        }
    }

    pub fn flow(&mut self, written_bytes: u64, backlog: u64, limit: Option<u32>, now: Instant) -> Flow {
        let totals = Totals {
            written_bytes,
            ..self.meter.totals()
        };
        let passed = now.saturating_duration_since(self.at).as_secs_f64().max(1e-3);
        let weight = 1.0 - (-passed / MEMORY.as_secs_f64()).exp();
        let (last, rates) = (self.last, &mut self.rates);
        for (rate, total, before) in [
            (&mut rates.reading, totals.reading, last.reading),
            (&mut rates.computing, totals.computing, last.computing),
            (&mut rates.waiting, totals.waiting, last.waiting),
            (&mut rates.copied_bytes, totals.copied_bytes, last.copied_bytes),
            (&mut rates.wire_bytes, totals.wire_bytes, last.wire_bytes),
            (&mut rates.written_bytes, totals.written_bytes, last.written_bytes),
        ] {
            *rate += weight * (as_f64(total.saturating_sub(before)) / passed - *rate);
        }
        (self.at, self.last) = (now, totals);
        let rates = self.rates;
        let (written, copied) = (as_u64(rates.written_bytes), as_u64(rates.copied_bytes));
        Flow {
            written_bytes_s: written,
            copied_bytes_s: copied,
            wire_bytes_s: as_u64(rates.wire_bytes),
            backlog_bytes: backlog,
            limit_mbit_s: limit,
            bottleneck: (backlog > 0).then(|| rates.bottleneck()).flatten(),
            forecast: Forecast::of(backlog, written, copied),
        }
    }
}

impl Rates {
    /// The part of the way that took most of the threads' time; `None` while they rest. The agent cannot tell the
    /// runner from the link: both make its outbox wait.
    fn bottleneck(&self) -> Option<Hop> {
        // A hundredth of a second in a second.
        const IDLE: f64 = 1e7;
        let busiest = [
            (self.reading, Hop::Disk),
            (self.computing, Hop::Cpu),
            (self.waiting, Hop::Link),
        ]
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
        (busiest.0 > IDLE).then_some(busiest.1)
    }
}

// Rates for people: the last bits do not matter.
#[allow(clippy::cast_precision_loss)]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn as_u64(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_settle_and_name_what_the_rest_waits_for() {
        let meter = Arc::new(Meter::default());
        let mut now = Instant::now();
        let mut gauge = Gauge::new(meter.clone(), 0, now);
        let mut flow = Flow::default();
        for second in 1..=60_u64 {
            now += Duration::from_secs(1);
            meter.sent(4_000_000, 2_000_000);
            meter.reading.fetch_add(100_000_000, Relaxed);
            meter.waiting.fetch_add(700_000_000, Relaxed);
            flow = gauge.flow(second * 4_250_000, 1 << 30, Some(50), now);
        }
        assert!((3_950_000..=4_000_000).contains(&flow.copied_bytes_s), "{flow:?}");
        assert!((1_950_000..=2_000_000).contains(&flow.wire_bytes_s));
        assert_eq!(flow.bottleneck, Some(Hop::Link));
        assert!(matches!(
            flow.forecast,
            Some(Forecast::Diverges { needed_mbit_s: 34 })
        ));
        for _ in 0..100 {
            now += Duration::from_secs(1);
            flow = gauge.flow(60 * 4_250_000, 0, None, now);
        }
        assert_eq!((flow.bottleneck, flow.forecast), (None, None));
        assert!(flow.copied_bytes_s < 1000);
    }
}
