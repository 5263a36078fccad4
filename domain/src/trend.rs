//! What was measured of a source server over weeks, coarser with age: for charts.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// At a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Since 1970.
    pub at_s: i64,
    /// How old the newest launchable checkpoint was; where points became one, the greatest.
    pub lag_s: Option<u32>,
    /// Where points became one, the mean, as is the next.
    pub written_kib_s: u32,
    pub sent_kib_s: u32,
}

/// Points from old to new.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trend {
    points: Vec<Point>,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Older points go.
pub const KEPT_S: i64 = 30 * DAY;

/// So far points of this age are apart. All points of a server take 432 at most: 120, 132 and 180.
const fn spacing(age_s: i64) -> i64 {
    match age_s {
        ..7_200 => MINUTE,
        7_200..86_400 => 10 * MINUTE,
        _ => 4 * HOUR,
    }
}

/// How far apart new points are: a young server is watched, and 200,000 old ones are not all written each minute.
pub const fn interval(age_s: i64) -> i64 {
    if age_s < 2 * HOUR { MINUTE } else { 10 * MINUTE }
}

impl Trend {
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds a point, lets old ones go, and thins those between. One that is not newer than the last is left out.
    pub fn add(&mut self, new: Point) {
        if self.points.last().is_some_and(|last| last.at_s >= new.at_s) {
            return;
        }
        let points = std::mem::take(&mut self.points);
        for point in points.into_iter().chain([new]) {
            let age = new.at_s - point.at_s;
            if age > KEPT_S {
                continue;
            }
            match self.points.last_mut() {
                Some(last) if point.at_s - last.at_s < spacing(age) && point.at_s != new.at_s => {
                    last.take_in(point);
                }
                _ => self.points.push(point),
            }
        }
    }
}

impl Point {
    fn take_in(&mut self, next: Self) {
        self.lag_s = self.lag_s.max(next.lag_s);
        self.written_kib_s = self.written_kib_s.midpoint(next.written_kib_s);
        self.sent_kib_s = self.sent_kib_s.midpoint(next.sent_kib_s);
    }
}

/// As an array: a server has hundreds.
impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.at_s, self.lag_s, self.written_kib_s, self.sent_kib_s).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (at_s, lag_s, written_kib_s, sent_kib_s) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            at_s,
            lag_s,
            written_kib_s,
            sent_kib_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(at_s: i64, lag_s: u32) -> Point {
        Point {
            at_s,
            lag_s: Some(lag_s),
            written_kib_s: 10,
            sent_kib_s: 20,
        }
    }

    #[test]
    fn a_month_fits_and_no_peak_of_the_lag_is_lost() {
        let mut trend = Trend::default();
        let mut at = 0;
        while at < 40 * DAY {
            // An hour in which the lag grew, 20 days ago.
            let lag = if (20 * DAY..20 * DAY + HOUR).contains(&at) {
                3000
            } else {
                5
            };
            trend.add(point(at, lag));
            at += interval(at);
        }
        let points = trend.points();
        assert!(points.len() <= 432, "{}", points.len());
        assert!(points.last().unwrap().at_s >= 40 * DAY - 10 * MINUTE);
        assert!(points[0].at_s >= 10 * DAY - 4 * HOUR);
        assert_eq!(points.iter().map(|point| point.lag_s).max(), Some(Some(3000)));
        let kept = serde_json::to_string(&trend).unwrap();
        assert!(kept.len() < 10_000, "{}", kept.len());
        assert_eq!(serde_json::from_str::<Trend>(&kept).unwrap(), trend);
    }

    proptest! {
        #[test]
        fn points_stay_in_order_and_the_last_is_the_newest(steps in prop::collection::vec(-100i64..100_000, 1..600)) {
            let mut trend = Trend::default();
            let (mut at, mut newest) = (0, i64::MIN);
            for step in steps {
                at += step;
                trend.add(point(at, 1));
                newest = newest.max(at);
                let points = trend.points();
                prop_assert!(points.is_sorted_by(|a, b| a.at_s < b.at_s));
                prop_assert_eq!(points.last().unwrap().at_s, newest);
                prop_assert!(points.len() <= 440);
            }
        }
    }
}
