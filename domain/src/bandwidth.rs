//! How much of the network a server's replication may use, by the time of the week.

use serde::{Deserialize, Serialize};

/// The most that MGN's `bandwidthThrottling` allows, in Mbit/s.
pub const MBIT_S_MAX: u32 = 10_000;

/// Windows per week: more than anybody plans by hand.
pub const WINDOWS_MAX: usize = 50;

pub const MINUTES_PER_WEEK: u16 = 7 * 24 * 60;

/// The limit of one server. The default is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Outside of all windows; `None` is as much as the link gives.
    pub mbit_s: Option<u32>,
    /// The first that holds a moment decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// What the windows' times are ahead of UTC, in minutes: they are the operator's, not the server's.
    #[serde(default)]
    pub utc_offset_min: i16,
}

/// A part of the week, in minutes from Monday 00:00. It wraps around if it ends before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from: u16,
    pub until: u16,
    pub mbit_s: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBandwidth {
    #[error("{0} Mbit/s is not a limit: 1 to {MBIT_S_MAX} are possible; leave it out for no limit")]
    Limit(u32),
    #[error("a window from minute {from} to {until} is not a part of the week, which has {MINUTES_PER_WEEK}")]
    Window { from: u16, until: u16 },
    #[error("{0} windows are too many: {WINDOWS_MAX} are possible")]
    TooMany(usize),
    #[error("{0} minutes are not an offset from UTC: 14 hours either way are possible")]
    Offset(i16),
}

impl Bandwidth {
    pub fn check(&self) -> Result<(), InvalidBandwidth> {
        let limits = self.windows.iter().map(|window| window.mbit_s);
        for limit in limits.chain([self.mbit_s]).flatten() {
            if !(1..=MBIT_S_MAX).contains(&limit) {
                return Err(InvalidBandwidth::Limit(limit));
            }
        }
        if self.windows.len() > WINDOWS_MAX {
            return Err(InvalidBandwidth::TooMany(self.windows.len()));
        }
        for &Window { from, until, .. } in &self.windows {
            if from == until || from >= MINUTES_PER_WEEK || until > MINUTES_PER_WEEK {
                return Err(InvalidBandwidth::Window { from, until });
            }
        }
        if self.utc_offset_min.unsigned_abs() > 14 * 60 {
            return Err(InvalidBandwidth::Offset(self.utc_offset_min));
        }
        Ok(())
    }

    /// The limit in Mbit/s at a moment, in milliseconds since 1970.
    pub fn at(&self, now_ms: i64) -> Option<u32> {
        let minute = minute_of_week(now_ms, self.utc_offset_min);
        let window = self.windows.iter().find(|window| window.holds(minute));
        window.map_or(self.mbit_s, |window| window.mbit_s)
    }
}

impl Window {
    fn holds(&self, minute: u16) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

/// 1970 began on a Thursday, the fourth day of its week.
fn minute_of_week(now_ms: i64, utc_offset_min: i16) -> u16 {
    const MONDAY_BEFORE_1970_MIN: i64 = 3 * 24 * 60;
    let minute = now_ms.div_euclid(60_000) + i64::from(utc_offset_min) + MONDAY_BEFORE_1970_MIN;
    u16::try_from(minute.rem_euclid(i64::from(MINUTES_PER_WEEK))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Saturday, 21 November 2026, 23:30 UTC.
    const SATURDAY_LATE: i64 = 1_795_303_800_000;
    const DAY: u16 = 24 * 60;

    fn office_hours() -> Bandwidth {
        let day = |n: u16| Window {
            from: n * DAY + 8 * 60,
            until: n * DAY + 18 * 60,
            mbit_s: Some(50),
        };
        Bandwidth {
            mbit_s: None,
            windows: (0..5).map(day).collect(),
            utc_offset_min: 0,
        }
    }

    #[test]
    fn the_minute_of_the_week_counts_from_monday_where_the_operator_is() {
        assert_eq!(minute_of_week(SATURDAY_LATE, 0), 5 * DAY + 23 * 60 + 30);
        assert_eq!(minute_of_week(SATURDAY_LATE, 60), 6 * DAY + 30);
        assert_eq!(minute_of_week(SATURDAY_LATE + 24 * 3_600_000, 60), 30);
        assert_eq!(minute_of_week(-60_000, 0), 3 * DAY - 1);
    }

    #[test]
    fn office_hours_are_spared_and_the_weekend_is_not() {
        let plan = office_hours();
        assert_eq!(plan.check(), Ok(()));
        let monday_noon = SATURDAY_LATE + (36 * 60 + 30) * 60_000;
        assert_eq!(plan.at(SATURDAY_LATE), None);
        assert_eq!(plan.at(monday_noon), Some(50));
        assert_eq!(plan.at(monday_noon + 6 * 3_600_000), None);
    }

    #[test]
    fn a_window_may_wrap_around_the_end_of_the_week() {
        let plan = Bandwidth {
            mbit_s: Some(10),
            windows: vec![Window {
                from: 5 * DAY + 23 * 60,
                until: 60,
                mbit_s: None,
            }],
            utc_offset_min: 0,
        };
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(plan.at(SATURDAY_LATE), None);
        assert_eq!(plan.at(SATURDAY_LATE - 3_600_000), Some(10));
        assert_eq!(plan.at(SATURDAY_LATE + 26 * 3_600_000), Some(10));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let limit = |mbit_s| Bandwidth {
            mbit_s: Some(mbit_s),
            ..Bandwidth::default()
        };
        assert_eq!(limit(0).check(), Err(InvalidBandwidth::Limit(0)));
        assert_eq!(limit(10_001).check(), Err(InvalidBandwidth::Limit(10_001)));
        let window = |from, until| Bandwidth {
            windows: vec![Window {
                from,
                until,
                mbit_s: None,
            }],
            ..Bandwidth::default()
        };
        for (from, until) in [(5, 5), (MINUTES_PER_WEEK, 5), (0, MINUTES_PER_WEEK + 1)] {
            assert_eq!(
                window(from, until).check(),
                Err(InvalidBandwidth::Window { from, until })
            );
        }
    }
}
