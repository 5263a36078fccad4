//! Lag and throughput over time, drawn as lines.

use std::fmt::Write as _;

use domain::trend::{KEPT_S, Point};

use crate::{
    t,
    web::text::{self, moment},
};

/// Of the drawing, in its own units; the page stretches it.
const WIDTH: i64 = 1000;
const HEIGHT: u128 = 100;

const DAY_S: i64 = 86_400;

#[derive(Debug)]
pub struct Charts {
    pub drawn: Vec<Chart>,
    /// Title and address of each span that can be chosen; the last says whether it is.
    pub spans: [(&'static str, &'static str, bool); 2],
    pub from: String,
    pub until: String,
}

#[derive(Debug)]
pub struct Chart {
    pub title: &'static str,
    /// What it shows, for who does not see it.
    pub summary: String,
    /// What the upper end of the drawing stands for.
    pub top: String,
    pub lines: Vec<Line>,
}

#[derive(Debug)]
pub struct Line {
    pub label: &'static str,
    pub class: &'static str,
    /// The path, in SVG's words.
    pub path: String,
}

/// `None` until there are two points to draw a line between.
pub fn charts(points: &[Point], month: bool, now: i64) -> Option<Charts> {
    let now_s = now / 1000;
    let span = if month { KEPT_S } else { DAY_S };
    let start = points.partition_point(|point| point.at_s < now_s - span);
    let points = &points[start..];
    let (first, last) = (points.first()?, points.last()?);
    if first.at_s == last.at_s {
        return None;
    }
    let axis = Axis {
        points,
        from: first.at_s,
        until: last.at_s,
    };
    let lag = |point: &Point| point.lag_s.map(u64::from);
    let rate = |kib_s: u32| Some(u64::from(kib_s) * 1024);
    let (written, sent) = (
        |point: &Point| rate(point.written_kib_s),
        |point: &Point| rate(point.sent_kib_s),
    );
    let lag_text = |seconds: u64| text::span(i64::try_from(seconds).unwrap_or(i64::MAX / 1000) * 1000);
    let rate_text = |bytes_s: u64| format!("{}/s", text::bytes(bytes_s));
    let (lag_top, rate_top) = (axis.top(&[&lag]), axis.top(&[&written, &sent]));
    Some(Charts {
        drawn: vec![
            Chart {
                title: t!("Lag"),
                summary: t!(
                    "Lag: {last} at the end, {top} at most",
                    last = lag(last).map_or_else(|| "–".into(), lag_text),
                    top = lag_text(lag_top)
                ),
                top: lag_text(lag_top),
                lines: vec![Line {
                    label: t!("Lag"),
                    class: "first",
                    path: axis.path(&lag, lag_top),
                }],
            },
            Chart {
                title: t!("Throughput"),
                summary: t!(
                    "Throughput: {sent} sent and {written} written at the end, {top} at most",
                    sent = rate_text(sent(last).unwrap_or(0)),
                    written = rate_text(written(last).unwrap_or(0)),
                    top = rate_text(rate_top)
                ),
                top: rate_text(rate_top),
                lines: vec![
                    Line {
                        label: t!("Sent"),
                        class: "first",
                        path: axis.path(&sent, rate_top),
                    },
                    Line {
                        label: t!("Written"),
                        class: "second",
                        path: axis.path(&written, rate_top),
                    },
                ],
            },
        ],
        spans: [
            (t!("24 hours"), "?trend=day", !month),
            (t!("30 days"), "?trend=month", month),
        ],
        from: moment(axis.from * 1000).text,
        until: moment(axis.until * 1000).text,
    })
}

struct Axis<'a> {
    points: &'a [Point],
    from: i64,
    until: i64,
}

type Measure<'a> = &'a dyn Fn(&Point) -> Option<u64>;

impl Axis<'_> {
    /// The greatest value of several, and never 0.
    fn top(&self, measures: &[Measure<'_>]) -> u64 {
        let values = self
            .points
            .iter()
            .flat_map(|point| measures.iter().filter_map(|of| of(point)));
        values.max().unwrap_or(0).max(1)
    }

    /// A line through the points that have a value. It has a gap where the hub heard nothing for long.
    fn path(&self, of: Measure<'_>, top: u64) -> String {
        let mut path = String::new();
        let mut pen: Option<i64> = None;
        let usual = self.usual_distance();
        for point in self.points {
            let Some(value) = of(point) else {
                pen = None;
                continue;
            };
            let x = (point.at_s - self.from) * WIDTH / (self.until - self.from);
            let share = u128::from(value) * HEIGHT / u128::from(top);
            let y = HEIGHT - share.min(HEIGHT);
            let command = match pen {
                Some(last) if point.at_s - last <= 4 * usual => 'L',
                _ => 'M',
            };
            // Writing to a string cannot fail.
            let _ = write!(path, "{command}{x} {y}");
            pen = Some(point.at_s);
        }
        path
    }

    /// Points of a month are hours apart, those of two hours minutes: the widest that is usual within them.
    fn usual_distance(&self) -> i64 {
        let mut distances: Vec<_> = self
            .points
            .windows(2)
            .map(|pair| pair[1].at_s - pair[0].at_s)
            .collect();
        distances.sort_unstable();
        distances.get(distances.len() * 9 / 10).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_s: i64, lag_s: Option<u32>, sent_kib_s: u32) -> Point {
        Point {
            at_s,
            lag_s,
            written_kib_s: 0,
            sent_kib_s,
        }
    }

    #[test]
    fn a_line_reaches_from_end_to_end_and_breaks_where_nothing_is_known() {
        assert!(charts(&[point(0, Some(1), 0)], false, 0).is_none());
        let points: Vec<_> = (0..=10)
            .map(|n| point(n * 60, (n != 5).then_some(10), 1024))
            .collect();
        let trend = charts(&points, false, 600_000).unwrap();
        let lag = &trend.drawn[0];
        assert!(
            lag.lines[0].path.starts_with("M0 0L100 0"),
            "{}",
            lag.lines[0].path
        );
        assert!(lag.lines[0].path.contains("M600 0") && lag.lines[0].path.ends_with("L1000 0"));
        assert_eq!(
            (lag.top.as_str(), trend.drawn[1].top.as_str()),
            ("10 s", "1.0 MiB/s")
        );
        assert!(trend.drawn[1].lines[1].path.starts_with("M0 100L100 100"));
        // A day later, only the month has it.
        let later = 2 * DAY_S * 1000;
        assert!(charts(&points, false, later).is_none() && charts(&points, true, later).is_some());
    }

    #[test]
    fn a_night_without_the_agent_is_a_gap() {
        let mut points: Vec<_> = (0..20).map(|n| point(n * 600, Some(5), 1)).collect();
        points.extend((0..20).map(|n| point(60_000 + n * 600, Some(5), 1)));
        let trend = charts(&points, false, 80_000_000).unwrap();
        assert_eq!(trend.drawn[0].lines[0].path.matches('M').count(), 2);
    }
}
