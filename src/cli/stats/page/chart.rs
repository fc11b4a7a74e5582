//! Line charts of figures over time: only the geometry and the texts, which `chart.svg` draws and escapes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::base::units;

/// The size of the drawing in its own units. The page scales it.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
/// The borders of the area of the line. The labels of the axes are left of it and below it.
pub(super) const LEFT: f64 = 58.0;
pub(super) const RIGHT: f64 = WIDTH - 12.0;
pub(super) const TOP: f64 = 14.0;
pub(super) const BOTTOM: f64 = HEIGHT - 26.0;
/// A line with more points has a dot only at its end.
pub(super) const DOTS: usize = 60;

/// A labelled position on an axis.
#[derive(Debug, PartialEq)]
pub struct Tick {
    pub at: String,
    pub label: String,
}

/// A point and its tooltip.
#[derive(Debug, PartialEq)]
pub struct Point {
    pub x: String,
    pub y: String,
    pub label: String,
}

#[derive(Debug)]
pub struct Chart {
    pub title: &'static str,
    /// The chart as text, for screen readers.
    pub description: String,
    /// The chart is a forecast and is drawn with a dashed line.
    pub ahead: bool,
    pub x: Vec<Tick>,
    pub y: Vec<Tick>,
    /// The points of the line, for SVG.
    pub line: String,
    /// The points of the area below the line, for SVG.
    pub area: String,
    pub dots: Vec<Point>,
    /// The runs that made no backup.
    pub crosses: Vec<Point>,
}

/// The values of a chart.
#[derive(Debug)]
pub struct Series<'a> {
    pub title: &'static str,
    pub unit: AxisUnit,
    pub ahead: bool,
    /// Oldest first.
    pub values: &'a [(DateTime<Utc>, f64)],
    /// Oldest first.
    pub failed: &'a [DateTime<Utc>],
}

impl Chart {
    pub const WIDTH: f64 = WIDTH;
    pub const HEIGHT: f64 = HEIGHT;
    pub const LEFT: f64 = LEFT;
    pub const RIGHT: f64 = RIGHT;
    pub const BOTTOM: f64 = BOTTOM;

    /// Draws the values. Returns `None` without values.
    pub fn of(series: &Series) -> Option<Chart> {
        let (first, last) = (series.values.first()?, series.values.last()?);
        let times = || series.values.iter().map(|(at, _)| *at).chain(series.failed.iter().copied());
        let (from, to) = (times().min()?, times().max()?);
        let most = series.values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let steps = series.unit.steps(most);
        let top = *steps.last()?;
        let x = |at: DateTime<Utc>| position(at, from, to);
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * (value / top).clamp(0.0, 1.0);
        let points: Vec<String> =
            series.values.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let line = points.join(" ");
        let area = format!("{:.1},{BOTTOM} {line} {:.1},{BOTTOM}", x(first.0), x(last.0));
        let dot = |(at, value): &(DateTime<Utc>, f64)| Point {
            x: format!("{:.1}", x(*at)),
            y: format!("{:.1}", y(*value)),
            label: format!("{}: {}", at.format("%F %H:%M"), series.unit.show(*value)),
        };
        // The newest value always has a dot.
        let dotted = if points.len() <= DOTS { series.values } else { std::slice::from_ref(last) };
        let cross = |at: &DateTime<Utc>| Point {
            x: format!("{:.1}", x(*at)),
            y: format!("{BOTTOM}"),
            label: format!("{}: no backup", at.format("%F %H:%M")),
        };
        Some(Chart {
            title: series.title,
            description: description(series, from, to),
            ahead: series.ahead,
            x: days(from, to),
            y: steps
                .iter()
                .map(|v| Tick { at: format!("{:.1}", y(*v)), label: series.unit.tick(*v) })
                .collect(),
            line,
            area,
            dots: dotted.iter().map(dot).collect(),
            crosses: series.failed.iter().map(cross).collect(),
        })
    }
}

/// The horizontal position of a time. A single time is in the middle.
pub(super) fn position(at: DateTime<Utc>, from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let span = (to - from).num_seconds() as f64;
    let share = if span > 0.0 { (at - from).num_seconds() as f64 / span } else { 0.5 };
    LEFT + 4.0 + (RIGHT - LEFT - 8.0) * share
}

/// At most four evenly spaced days for the horizontal axis, with the first and the last.
pub(super) fn days(from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Tick> {
    let span = to - from;
    let parts = span.num_days().clamp(0, 3) as i32;
    let format = if span > TimeDelta::days(330) { "%b %Y" } else { "%-d %b" };
    let time = |n: i32| if parts == 0 { from } else { from + span * n / parts };
    let tick = |at: DateTime<Utc>| Tick {
        at: format!("{:.1}", position(at, from, to)),
        label: at.format(format).to_string(),
    };
    let mut ticks: Vec<Tick> = (0..=parts).map(|n| tick(time(n))).collect();
    ticks.dedup_by(|a, b| a.label == b.label);
    ticks
}

fn description(series: &Series, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let show = |value: f64| series.unit.show(value);
    let only = || series.values.iter().map(|(_, value)| *value);
    let (least, most) = (only().fold(f64::INFINITY, f64::min), only().fold(0.0, f64::max));
    let last = only().next_back().unwrap_or_default();
    let failed = match series.failed.len() {
        0 => String::new(),
        n => format!("; {} made no backup", units::several(n as u64, "run")),
    };
    let how = if series.ahead { "at the end" } else { "last" };
    format!(
        "{} values from {} to {}: {how} {}, least {}, most {}{failed}",
        series.values.len(),
        from.format("%F"),
        to.format("%F"),
        show(last),
        show(least),
        show(most)
    )
}

/// The unit of the values of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisUnit {
    Bytes,
    BytesPerSecond,
    Seconds,
}

/// The steps between ticks of a duration, in seconds.
const SECONDS: [f64; 20] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
    7200.0, 14_400.0, 21_600.0, 43_200.0,
];
/// The most steps from zero to the largest value.
const STEPS: f64 = 4.0;

impl AxisUnit {
    pub fn show(self, value: f64) -> String {
        let bytes = || units::bytes(value.max(0.0).round() as u64);
        match self {
            AxisUnit::Bytes => bytes(),
            AxisUnit::BytesPerSecond => units::bytes_per_second(value),
            AxisUnit::Seconds => units::duration(Duration::from_secs_f64(value.max(0.0))),
        }
    }

    /// Round values for the ticks, from zero to `most` or above.
    pub fn steps(self, most: f64) -> Vec<f64> {
        let step = match self {
            AxisUnit::Seconds => {
                let days = 86_400.0 * (most / STEPS / 86_400.0).ceil();
                SECONDS.into_iter().find(|step| step * STEPS >= most).unwrap_or(days)
            }
            // Steps are round in the displayed unit. There are no fractions of a byte.
            AxisUnit::Bytes | AxisUnit::BytesPerSecond => {
                let unit = 1024_f64.powi(most.max(1.0).log(1024.0).floor() as i32);
                let least = if unit > 1.0 { 0.1 } else { 1.0 };
                let round = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 256.0];
                let fits = |step: &f64| *step >= least && step * STEPS * unit >= most;
                round.into_iter().find(fits).unwrap_or(256.0) * unit
            }
        };
        let count = (most / step).ceil().max(1.0) as u32;
        (0..=count).map(|n| f64::from(n) * step).collect()
    }

    /// The label of a tick.
    pub fn tick(self, value: f64) -> String {
        match self {
            _ if value == 0.0 => "0".into(),
            AxisUnit::Seconds => match value {
                v if v % 86_400.0 == 0.0 => format!("{} d", v / 86_400.0),
                v if v % 3600.0 == 0.0 => format!("{} h", v / 3600.0),
                v if v % 60.0 == 0.0 => format!("{} min", v / 60.0),
                v => format!("{} s", (v * 10.0).round() / 10.0),
            },
            AxisUnit::Bytes | AxisUnit::BytesPerSecond => self.show(value).replace(".0 ", " "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> DateTime<Utc> {
        "2026-11-01T03:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
    }

    fn chart(values: &[(DateTime<Utc>, f64)], failed: &[DateTime<Utc>]) -> Option<Chart> {
        Chart::of(&Series { title: "t", unit: AxisUnit::Seconds, ahead: false, values, failed })
    }

    #[test]
    fn two_points_span_the_chart() {
        let chart = chart(&[(at(0), 30.0), (at(3), 60.0)], &[at(1)]).unwrap();
        // 60 s is the uppermost tick, and 30 s is half way down.
        assert_eq!(chart.line, "62.0,89.0 344.0,14.0");
        assert_eq!(chart.crosses[0].x, "156.0", "a third of the way");
        let labels = |ticks: &[Tick]| ticks.iter().map(|t| t.label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&chart.x), ["1 Nov", "2 Nov", "3 Nov", "4 Nov"]);
        assert_eq!(labels(&chart.y), ["0", "20 s", "40 s", "1 min"]);
        assert_eq!(
            chart.description,
            "2 values from 2026-11-01 to 2026-11-04: last 1 min 0 s, least 30.0 s, most 1 min 0 s; \
             1 run made no backup"
        );
    }

    #[test]
    fn one_point_is_in_the_middle_and_no_point_is_no_chart() {
        let one = chart(&[(at(0), 4.0)], &[]).unwrap();
        assert_eq!((one.line.as_str(), one.x.len(), one.dots.len()), ("203.0,14.0", 1, 1));
        assert!(chart(&[], &[at(0)]).is_none());
        // A value of zero is drawn on the axis.
        assert_eq!(chart(&[(at(0), 0.0)], &[]).unwrap().line, "203.0,164.0");
    }

    #[test]
    fn many_points_are_a_line_with_one_dot() {
        let values: Vec<_> = (0..400).map(|day| (at(day), 10.0 + day as f64)).collect();
        let chart = chart(&values, &[]).unwrap();
        assert_eq!((chart.dots.len(), chart.x[0].label.as_str()), (1, "Nov 2026"));
        assert_eq!(chart.line.split(' ').count(), 400);
    }

    #[track_caller]
    fn axis(unit: AxisUnit, most: f64, want: &[&str]) {
        let ticks: Vec<String> = unit.steps(most).into_iter().map(|v| unit.tick(v)).collect();
        assert_eq!(ticks, want, "{most}");
        assert!(*unit.steps(most).last().unwrap() >= most);
    }

    #[test]
    fn axes_have_round_ticks() {
        let gib = 1024.0_f64.powi(3);
        axis(AxisUnit::Bytes, 7.6 * gib, &["0", "2 GiB", "4 GiB", "6 GiB", "8 GiB"]);
        axis(AxisUnit::Bytes, 1.3 * gib, &["0", "512 MiB", "1 GiB", "1.5 GiB"]);
        axis(AxisUnit::Bytes, 900.0 * gib, &["0", "256 GiB", "512 GiB", "768 GiB", "1 TiB"]);
        axis(AxisUnit::Bytes, 3.0, &["0", "1 B", "2 B", "3 B"]);
        axis(AxisUnit::Bytes, 0.0, &["0", "1 B"]);
        axis(AxisUnit::BytesPerSecond, 150.0 * 1024.0 * 1024.0, &["0", "50 MiB/s", "100 MiB/s", "150 MiB/s"]);
        axis(AxisUnit::Seconds, 137.0, &["0", "1 min", "2 min", "3 min"]);
        axis(AxisUnit::Seconds, 5400.0, &["0", "30 min", "1 h", "90 min"]);
        axis(AxisUnit::Seconds, 0.35, &["0", "0.1 s", "0.2 s", "0.3 s", "0.4 s"]);
        axis(AxisUnit::Seconds, 500_000.0, &["0", "2 d", "4 d", "6 d"]);
    }
}
