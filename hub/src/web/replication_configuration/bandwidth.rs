//! A week's bandwidth as a form has it: days, from, until and a limit in each row.
//!
//! Whatever schedule is kept can be shown and saved unchanged in effect: a window longer than a day becomes
//! days, and days that are alike share a row.

use crate::{language::translated_static, mark, t};
use std::collections::BTreeMap;

use domain::bandwidth::{Bandwidth, MBIT_S_MAX, MINUTES_PER_WEEK, WINDOWS_MAX, Window};

pub const DAYS: [&str; 7] = [
    mark!("Mon"),
    mark!("Tue"),
    mark!("Wed"),
    mark!("Thu"),
    mark!("Fri"),
    mark!("Sat"),
    mark!("Sun"),
];

/// Its short name.
pub fn day(index: usize) -> &'static str {
    translated_static(DAYS[index])
}

const MINUTES_PER_DAY: u16 = 24 * 60;

/// No clock on Earth is further from UTC.
const OFFSET_MAX_MIN: u16 = 14 * 60;

/// A window makes two rows at most: its whole days, and the rest. The others are for new ones.
const ROWS_MAX: usize = 2 * WINDOWS_MAX + SPARE_ROWS;
const SPARE_ROWS: usize = 2;

/// What the form sends, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    pub mbit_s: String,
    pub utc_offset: String,
    pub rows: Vec<Row>,
}

/// A part of each of `days`. One that does not end after it begins ends on the day after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pub days: [bool; 7],
    pub from: String,
    pub until: String,
    pub mbit_s: String,
}

/// What is wrong with a field, by its name; with a row, by its number.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Errors {
    pub mbit_s: Option<String>,
    pub utc_offset: Option<String>,
    pub rows: BTreeMap<usize, String>,
    /// With all rows together.
    pub windows: Option<String>,
}

impl Given {
    /// Fields are named `mbit_s`, `utc_offset`, and `w0_day0`, `w0_from`, `w0_until`, `w0_mbit_s` of a row.
    pub fn of_form(fields: Vec<(String, String)>) -> Self {
        let mut given = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "mbit_s" => given.mbit_s = value,
                "utc_offset" => given.utc_offset = value,
                name => given.set(name, value),
            }
        }
        given
    }

    fn set(&mut self, name: &str, value: String) {
        let Some((number, field)) = name.strip_prefix('w').and_then(|name| name.split_once('_')) else {
            return;
        };
        let Some(number) = number.parse().ok().filter(|number: &usize| *number < ROWS_MAX) else {
            return;
        };
        if self.rows.len() <= number {
            self.rows.resize_with(number + 1, Row::default);
        }
        let row = &mut self.rows[number];
        match field {
            "from" => row.from = value,
            "until" => row.until = value,
            "mbit_s" => row.mbit_s = value,
            day => {
                let day = day.strip_prefix("day").and_then(|day| day.parse::<usize>().ok());
                if let Some(chosen) = day.and_then(|day| row.days.get_mut(day)) {
                    *chosen = true;
                }
            }
        }
    }

    pub fn of(kept: &Bandwidth) -> Self {
        Self {
            mbit_s: limit_text(kept.mbit_s),
            utc_offset: offset_text(kept.utc_offset_min),
            rows: rows(&kept.windows),
        }
    }

    /// Room for more windows.
    pub fn with_spare_rows(mut self) -> Self {
        let used = self
            .rows
            .iter()
            .rposition(|row| !row.is_blank())
            .map_or(0, |last| last + 1);
        self.rows
            .resize_with((used + SPARE_ROWS).min(ROWS_MAX), Row::default);
        self
    }

    pub fn parse(&self) -> Result<Bandwidth, Errors> {
        let mut errors = Errors::default();
        let mut bandwidth = Bandwidth::default();
        match limit(&self.mbit_s) {
            Ok(mbit_s) => bandwidth.mbit_s = mbit_s,
            Err(error) => errors.mbit_s = Some(error),
        }
        match offset(&self.utc_offset) {
            Ok(minutes) => bandwidth.utc_offset_min = minutes,
            Err(error) => errors.utc_offset = Some(error),
        }
        for (number, row) in self.rows.iter().enumerate().filter(|(_, row)| !row.is_blank()) {
            match row.windows() {
                Ok(windows) => bandwidth.windows.extend(windows),
                Err(error) => {
                    errors.rows.insert(number, error);
                }
            }
        }
        if errors == Errors::default()
            && let Err(invalid) = bandwidth.check()
        {
            errors.windows = Some(t!("{invalid}. Each day of a row is a window.", invalid));
        }
        if errors == Errors::default() {
            Ok(bandwidth)
        } else {
            Err(errors)
        }
    }
}

impl Row {
    fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    fn windows(&self) -> Result<Vec<Window>, String> {
        if !self.days.contains(&true) {
            return Err(t!("Choose at least one day, or clear the row.").into());
        }
        let (Some(from), Some(until)) = (time(&self.from), time(&self.until)) else {
            return Err(t!("Give both times, like 08:00 and 18:00.").into());
        };
        let mbit_s = limit(&self.mbit_s)?;
        let from = from % MINUTES_PER_DAY;
        let ends = if until > from {
            until
        } else {
            until + MINUTES_PER_DAY
        };
        let days = (0..).zip(self.days).filter(|(_, chosen)| *chosen);
        let window = |(day, _): (u16, bool)| {
            let until = day * MINUTES_PER_DAY + ends;
            Window {
                from: day * MINUTES_PER_DAY + from,
                until: if until > MINUTES_PER_WEEK {
                    until - MINUTES_PER_WEEK
                } else {
                    until
                },
                mbit_s,
            }
        };
        Ok(days.map(window).collect())
    }

    /// `Mon–Fri 08:00–18:00`
    pub fn when(&self) -> String {
        format!("{} {}–{}", days_text(self.days), self.from, self.until)
    }
}

/// `Mon–Fri`, `Sat, Sun`, `Every day`
fn days_text(days: [bool; 7]) -> String {
    let chosen: Vec<usize> = (0..7).filter(|day| days[*day]).collect();
    let is_row = chosen.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    match chosen.as_slice() {
        [_, _, _, _, _, _, _] => t!("Every day").into(),
        [first, _, .., last] if is_row => format!("{}–{}", day(*first), day(*last)),
        some => some
            .iter()
            .map(|index| day(*index))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn rows(windows: &[Window]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (day, row) in windows.iter().flat_map(pieces) {
        let alike = rows.last_mut().filter(|last| {
            (&last.from, &last.until, &last.mbit_s) == (&row.from, &row.until, &row.mbit_s) && !last.days[day]
        });
        match alike {
            Some(last) => last.days[day] = true,
            None => rows.push(row),
        }
    }
    rows
}

/// A window as parts that are a day long at most, each with the day on which it begins.
fn pieces(window: &Window) -> Vec<(usize, Row)> {
    let mut start = window.from;
    let mut left = match (window.until + MINUTES_PER_WEEK - window.from) % MINUTES_PER_WEEK {
        0 => MINUTES_PER_WEEK,
        length => length,
    };
    let mut pieces = Vec::new();
    while left > 0 {
        let length = left.min(MINUTES_PER_DAY);
        let day = usize::from(start / MINUTES_PER_DAY);
        let mut row = Row {
            from: time_text(start),
            until: time_text(start + length),
            mbit_s: limit_text(window.mbit_s),
            ..Row::default()
        };
        row.days[day] = true;
        pieces.push((day, row));
        start = (start + length) % MINUTES_PER_WEEK;
        left -= length;
    }
    pieces
}

fn limit(text: &str) -> Result<Option<u32>, String> {
    match text.trim() {
        "" => Ok(None),
        digits => match digits.parse() {
            Ok(mbit_s) if (1..=MBIT_S_MAX).contains(&mbit_s) => Ok(Some(mbit_s)),
            _ => Err(t!(
                "A limit is a whole number of Mbit/s from 1 to {most}; leave it empty for no limit.",
                most = MBIT_S_MAX
            )),
        },
    }
}

fn limit_text(mbit_s: Option<u32>) -> String {
    mbit_s.map_or_else(String::new, |mbit_s| mbit_s.to_string())
}

/// `8:00` to `24:00`, in minutes.
fn time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= MINUTES_PER_DAY).then_some(all)
}

fn number(text: &str) -> Option<u16> {
    let is_short = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_short.then(|| text.parse().ok())?
}

fn time_text(minute_of_week: u16) -> String {
    let minute = minute_of_week % MINUTES_PER_DAY;
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Minutes ahead of UTC. Nothing is UTC.
fn offset(text: &str) -> Result<i16, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(0);
    }
    let sign = if text.starts_with(['-', '−']) { -1 } else { 1 };
    let ahead = text.trim_start_matches(['+', '-', '−']);
    let (hours, minutes) = ahead.split_once(':').unwrap_or((ahead, "00"));
    let all = time(&format!("{hours}:{minutes}")).filter(|all| *all <= OFFSET_MAX_MIN);
    all.and_then(|all| i16::try_from(all).ok())
        .map(|all| sign * all)
        .ok_or_else(|| {
            t!("Write the hours and minutes ahead of UTC, like +01:00 or -05:30; 14 hours at most.").into()
        })
}

pub fn offset_text(minutes: i16) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(windows: &[(u16, u16, Option<u32>)]) -> Bandwidth {
        let window = |&(from, until, mbit_s)| Window { from, until, mbit_s };
        Bandwidth {
            mbit_s: Some(100),
            windows: windows.iter().map(window).collect(),
            utc_offset_min: -330,
        }
    }

    fn form(fields: &[(&str, &str)]) -> Given {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Given::of_form(fields.iter().map(owned).collect())
    }

    #[test]
    fn business_hours_are_one_row() {
        let given = form(&[
            ("mbit_s", ""),
            ("utc_offset", "+1"),
            ("w0_day0", "yes"),
            ("w0_day1", "yes"),
            ("w0_from", "08:00"),
            ("w0_until", "18:00"),
            ("w0_mbit_s", "50"),
            ("w1_from", ""),
            ("w1_until", ""),
            ("w1_mbit_s", ""),
        ]);
        let kept = given.parse().unwrap();
        assert_eq!(kept.utc_offset_min, 60);
        let day = MINUTES_PER_DAY;
        let hours = |n: u16| Window {
            from: n * day + 480,
            until: n * day + 1080,
            mbit_s: Some(50),
        };
        assert_eq!(kept.windows, [hours(0), hours(1)]);
        let shown = Given::of(&kept);
        assert_eq!(shown.rows.len(), 1);
        assert_eq!(shown.rows[0].when(), "Mon, Tue 08:00–18:00");
        assert_eq!(shown.with_spare_rows().rows.len(), 3);
    }

    #[test]
    fn whatever_is_kept_can_be_saved_unchanged_in_effect() {
        let plans = [
            plan(&[]),
            // From Saturday evening until Monday morning; a night; a week; an exception before its rule.
            plan(&[(5 * 1440 + 1380, 60, None)]),
            plan(&[(6 * 1440 + 1320, 360, Some(7))]),
            plan(&[(0, MINUTES_PER_WEEK, Some(1))]),
            plan(&[
                (600, 660, None),
                (0, 1440, Some(3)),
                (1440, 2880, Some(3)),
                (600, 9000, Some(9)),
            ]),
        ];
        for kept in plans {
            let saved = Given::of(&kept).with_spare_rows().parse().unwrap();
            assert_eq!(saved.check(), Ok(()));
            for minute in 0..i64::from(MINUTES_PER_WEEK) {
                assert_eq!(
                    saved.at(minute * 60_000),
                    kept.at(minute * 60_000),
                    "{kept:?} at {minute}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let given = form(&[
            ("mbit_s", "fast"),
            ("utc_offset", "+15:00"),
            ("w0_from", "08:00"),
            ("w1_day2", "yes"),
            ("w1_from", "8 o'clock"),
            ("w1_until", "18:00"),
            ("w2_day0", "yes"),
            ("w2_from", "22:00"),
            ("w2_until", "06:00"),
            ("w2_mbit_s", "0"),
            ("w9999999_from", "08:00"),
        ]);
        let errors = given.parse().unwrap_err();
        assert!(errors.mbit_s.is_some() && errors.utc_offset.is_some() && errors.windows.is_none());
        let rows: Vec<_> = errors
            .rows
            .iter()
            .map(|(number, error)| (*number, error.as_str()))
            .collect();
        assert!(
            matches!(rows[..], [(0, day), (1, time), (2, limit)]
                if day.contains("one day") && time.contains("both times") && limit.contains("no limit")),
            "{rows:?}"
        );

        let every_day = Row {
            days: [true; 7],
            from: "00:00".into(),
            until: "01:00".into(),
            mbit_s: "5".into(),
        };
        let many = Given {
            rows: vec![every_day; 8],
            ..Given::default()
        };
        assert!(
            many.parse()
                .unwrap_err()
                .windows
                .unwrap()
                .contains("56 windows are too many")
        );
    }

    #[test]
    fn offsets_are_read_as_people_write_them() {
        for (text, minutes) in [("", 0), ("+01:00", 60), ("-5:30", -330), ("−3", -180), ("9", 540)] {
            assert_eq!(offset(text), Ok(minutes), "{text}");
        }
        for wrong in ["+14:01", "CET", "1:2:3", "+1:75", "++99"] {
            assert!(offset(wrong).is_err(), "{wrong}");
        }
        assert_eq!(offset_text(-330), "-05:30");
    }
}
