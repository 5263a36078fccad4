//! Numbers and times as people read them.

use crate::t;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};

/// A moment, for a `<time>` element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// For programs.
    pub iso: String,
    /// `2026-11-21 20:38:08 UTC`
    pub text: String,
    /// `20:38:08`
    pub time: String,
}

/// `ms` counts from 1970. Times are shown in UTC: a console of many sites has no local time.
pub fn moment(ms: i64) -> Moment {
    let at = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
    Moment {
        iso: at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        text: at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        time: at.format("%H:%M:%S").to_string(),
    }
}

/// `3.4 GiB`: three digits that matter.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Shown with three digits, of which the rounding of 53 bits cannot touch one.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`: a length of time, in its two largest units at most.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        ..60 => format!("{seconds} {}", t!("s")),
        60..600 => two(minutes, t!("min"), seconds % 60, t!("s")),
        600..3600 => format!("{minutes} {}", t!("min")),
        3600..86_400 => two(hours, t!("h"), minutes % 60, t!("min")),
        _ => two(days, t!("d"), hours % 24, t!("h")),
    }
}

/// `3 min`: a length of time that is guessed, in its largest unit, to the nearest.
pub fn about(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (unit, name) = match seconds {
        ..90 => (1, t!("s")),
        90..5400 => (60, t!("min")),
        5400..129_600 => (3600, t!("h")),
        _ => (86_400, t!("d")),
    };
    format!("{} {name}", (seconds + unit / 2) / unit)
}

/// `12 Mbit/s`, `0.3 Mbit/s`: the unit in which links are sold and limits are set.
pub fn mbit_s(bytes_s: u64) -> String {
    let tenths = u128::from(bytes_s) * 8 / 100_000;
    match (tenths / 10, tenths % 10) {
        (0, 0) => "0 Mbit/s".into(),
        (whole @ ..10, tenth) => format!("{whole}.{tenth} Mbit/s"),
        (whole, _) => format!("{} Mbit/s", grouped(u64::try_from(whole).unwrap_or(u64::MAX))),
    }
}

/// `12 s ago`; `just now` below one second.
pub fn ago(then: i64, now: i64) -> String {
    match now - then {
        ..1000 => t!("just now").into(),
        past => t!("{time} ago", time = span(past)),
    }
}

/// `200 000` with narrow spaces, as the SI writes it.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The end of a name that is too long: of the path of an image file it says most.
pub fn tail(name: &str, characters: usize) -> String {
    match name.chars().count() {
        length if length > characters => {
            let end = name.chars().skip(length + 1 - characters);
            std::iter::once('…').chain(end).collect()
        }
        _ => name.to_owned(),
    }
}

/// A bar, full at 1000.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bar {
    pub permille: u64,
    pub percent: String,
    pub class: &'static str,
    /// For people who cannot see it.
    pub label: String,
}

/// How much of `whole` is `done`. Rounded down: what says 100 % is complete.
pub fn bar(done: u64, whole: u64, class: &'static str, label: impl Into<String>) -> Bar {
    let permille = match whole {
        0 => 0,
        whole => u64::try_from(u128::from(done.min(whole)) * 1000 / u128::from(whole)).unwrap_or(1000),
    };
    Bar {
        permille,
        percent: format!("{}%", permille / 10),
        class,
        label: label.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown = [0, 1023, 1024, 104_806_400, 1 << 30, (1 << 40) - 1, 64 << 40].map(bytes);
        assert_eq!(
            shown,
            [
                "0 B", "1023 B", "1.0 KiB", "100 MiB", "1.0 GiB", "1.0 TiB", "64.0 TiB"
            ]
        );
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let shown = [-5, 59_999, 61_000, 600_000, 7_500_000, 86_400_000, 360_000_000].map(span);
        assert_eq!(
            shown,
            [
                "0 s",
                "59 s",
                "1 min 1 s",
                "10 min",
                "2 h 5 min",
                "1 d",
                "4 d 4 h"
            ]
        );
    }

    #[test]
    fn a_guess_has_one_unit() {
        let shown = [89_000, 175_000, 5_399_000, 100_000_000, i64::MAX].map(about);
        assert_eq!(shown[..4], ["89 s", "3 min", "90 min", "28 h"]);
        assert!(shown[4].ends_with(" d"));
    }

    #[test]
    fn rates_are_in_megabits() {
        let shown = [0, 40_000, 1_250_000, 125_000_000_000].map(mbit_s);
        assert_eq!(
            shown,
            [
                "0 Mbit/s",
                "0.3 Mbit/s",
                "10 Mbit/s",
                "1\u{202f}000\u{202f}000 Mbit/s"
            ]
        );
        assert!(mbit_s(u64::MAX).ends_with("Mbit/s"));
    }

    #[test]
    fn a_bar_is_full_only_when_all_is_done() {
        assert_eq!(bar(999_999, 1_000_000, "", "").percent, "99%");
        assert_eq!(bar(5, 5, "", "").percent, "100%");
        assert_eq!(bar(u64::MAX, u64::MAX, "", "").permille, 1000);
        assert_eq!(bar(0, 0, "", "").permille, 0);
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(tail("/dev/sda", 8), "/dev/sda");
        assert_eq!(tail("/var/lib/disk.raw", 9), "…disk.raw");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(grouped(200_000), "200\u{202f}000");
        assert_eq!(grouped(999), "999");
    }
}
