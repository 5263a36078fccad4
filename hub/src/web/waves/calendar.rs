//! The windows of all waves, drawn as bars over days. The table beside it says the same in words.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use domain::wave::Window;

use crate::entities::wave;

const DAY_MS: i64 = 86_400_000;
/// In units of the drawing.
const WIDTH: i64 = 1000;
const TOP: i64 = 24;
const ROW: i64 = 26;
/// A window of an hour is still to be seen, and to be hit.
const NARROWEST: i64 = 6;
/// More cannot be read, and are drawn once others are over.
const WAVES_MAX: usize = 40;
/// From yesterday on.
const PAST_MS: i64 = DAY_MS;
const DAYS_MAX: i64 = 62;

#[derive(Debug)]
pub struct Calendar {
    pub width: i64,
    pub height: i64,
    pub days: Vec<Day>,
    pub bars: Vec<Bar>,
    pub now: i64,
}

#[derive(Debug)]
pub struct Day {
    pub x: i64,
    pub label: String,
    /// Monday: its line stands out.
    pub begins_week: bool,
}

#[derive(Debug)]
pub struct Bar {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub text_y: i64,
    /// Left of the bar where there is no room to its right.
    pub text_x: i64,
    pub anchor: &'static str,
    pub name: String,
    pub class: &'static str,
}

impl Calendar {
    /// `None` if nothing is planned from yesterday on.
    pub fn of(waves: &[wave::Model], now: i64) -> Option<Self> {
        let mut planned: Vec<(Window, &wave::Model)> = waves
            .iter()
            .filter_map(|wave| Some((wave.plan.window?, wave)))
            .filter(|(window, _)| window.to > now - PAST_MS && window.from < now + DAYS_MAX * DAY_MS)
            .collect();
        planned.sort_by_key(|(window, _)| (window.from, window.to));
        planned.truncate(WAVES_MAX);
        let first = planned.iter().map(|(window, _)| window.from).min()?.min(now);
        let last = planned.iter().map(|(window, _)| window.to).max()?.max(now);
        let from = first.max(now - PAST_MS).div_euclid(DAY_MS) * DAY_MS;
        let days = (last.min(now + DAYS_MAX * DAY_MS) - from).div_euclid(DAY_MS) + 1;
        let x = |at: i64| (at - from).clamp(0, days * DAY_MS) * WIDTH / (days * DAY_MS);
        let bar = |(row, (window, wave)): (usize, (Window, &wave::Model))| {
            let (left, right) = (x(window.from), x(window.to));
            let y = TOP + ROW * i64::try_from(row).unwrap_or(0);
            let width = (right - left).max(NARROWEST);
            let at_the_end = left > WIDTH * 2 / 3;
            Bar {
                x: left,
                y: y + 5,
                width,
                text_y: y + 18,
                text_x: if at_the_end { left - 6 } else { left + width + 6 },
                anchor: if at_the_end { "end" } else { "start" },
                name: wave.name.clone(),
                class: if wave.plan.approved.is_some() {
                    "approved"
                } else {
                    "planned"
                },
            }
        };
        let every = (days / 10).max(1);
        let day = |number: i64| {
            let at =
                DateTime::<Utc>::from_timestamp_millis(from).unwrap_or_default() + TimeDelta::days(number);
            Day {
                x: x(from + number * DAY_MS),
                label: if number % every == 0 {
                    at.format("%m-%d").to_string()
                } else {
                    String::new()
                },
                begins_week: at.weekday().num_days_from_monday() == 0,
            }
        };
        let rows = i64::try_from(planned.len()).unwrap_or(0);
        Some(Self {
            width: WIDTH,
            height: TOP + ROW * rows + 4,
            days: (0..days).map(day).collect(),
            bars: planned.into_iter().enumerate().map(bar).collect(),
            now: x(now),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{ids::WaveId, wave::Plan};

    use super::*;
    use crate::entities::{Doc, Word};

    fn wave(number: u128, from: i64, to: i64) -> wave::Model {
        wave::Model {
            id: Word(WaveId::from_entropy(number)),
            account: None,
            name: format!("wave {number}"),
            description: String::new(),
            tags: Doc(BTreeMap::new()),
            archived: false,
            plan: Doc(Plan {
                window: Some(Window { from, to }),
                ..Plan::default()
            }),
            run: Doc(None),
            run_state: String::new(),
            created_by: "ada".into(),
            created_at: 0,
            modified_at: 0,
        }
    }

    #[test]
    fn bars_lie_within_the_drawing_in_the_order_of_their_windows() {
        let now = 20_000 * DAY_MS + 5;
        assert!(Calendar::of(&[], now).is_none());
        assert!(Calendar::of(&[wave(1, 0, 10)], now).is_none(), "long over");
        let hour = DAY_MS / 24;
        let waves = [
            wave(1, now + 9 * DAY_MS, now + 9 * DAY_MS + hour),
            wave(2, now - hour, now + hour),
            wave(3, now + 3 * DAY_MS, now + 400 * DAY_MS),
        ];
        let drawn = Calendar::of(&waves, now).unwrap();
        let names: Vec<_> = drawn.bars.iter().map(|bar| bar.name.as_str()).collect();
        assert_eq!(names, ["wave 2", "wave 3", "wave 1"]);
        for bar in &drawn.bars {
            assert!(
                bar.x >= 0 && bar.width >= NARROWEST && bar.x + bar.width <= WIDTH + NARROWEST,
                "{bar:?}"
            );
        }
        assert_eq!(i64::try_from(drawn.days.len()).unwrap(), DAYS_MAX + 1 + 1);
    }
}
