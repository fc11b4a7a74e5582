//! Figures over the time, as lines: geometry only, which the template draws and escapes.

use chrono::{DateTime, TimeDelta, Utc};

use super::unit::AxisUnit;
use crate::base::units;

/// The size of the drawing, in its own units; it is scaled to the page.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
/// Where the figures are drawn; left of it and below it stands what the axes say.
const LEFT: f64 = 58.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 26.0;
/// More points than these are a line without dots.
const DOTS: usize = 60;

/// A place on an axis, and what stands there.
#[derive(Debug, PartialEq)]
pub struct Tick {
    pub at: String,
    pub label: String,
}

/// A point, and what is said of it.
#[derive(Debug, PartialEq)]
pub struct Point {
    pub x: String,
    pub y: String,
    pub label: String,
}

/// A drawing.
#[derive(Debug)]
pub struct Chart {
    /// What it shows.
    pub title: &'static str,
    /// The same as the drawing, for those who do not see it.
    pub says: String,
    /// What is to come: drawn otherwise than what was.
    pub ahead: bool,
    pub x: Vec<Tick>,
    pub y: Vec<Tick>,
    /// The points of the line.
    pub line: String,
    /// The line, down to the axis.
    pub area: String,
    pub dots: Vec<Point>,
    /// Runs that made no backup.
    pub crosses: Vec<Point>,
}

/// What is drawn.
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

    /// The drawing; `None` without values.
    pub fn of(series: &Series) -> Option<Chart> {
        let (first, last) = (series.values.first()?, series.values.last()?);
        let times = || series.values.iter().map(|(at, _)| *at).chain(series.failed.iter().copied());
        let (from, to) = (times().min()?, times().max()?);
        let most = series.values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let steps = series.unit.steps(most);
        let top = *steps.last()?;
        let x = |at: DateTime<Utc>| across(at, from, to);
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
        // The newest has a dot in any case.
        let dotted = if points.len() <= DOTS { series.values } else { std::slice::from_ref(last) };
        let cross = |at: &DateTime<Utc>| Point {
            x: format!("{:.1}", x(*at)),
            y: format!("{BOTTOM}"),
            label: format!("{}: no backup", at.format("%F %H:%M")),
        };
        Some(Chart {
            title: series.title,
            says: says(series, from, to),
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

/// Where a time stands; the only one of its kind in the middle.
fn across(at: DateTime<Utc>, from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let span = (to - from).num_seconds() as f64;
    let share = if span > 0.0 { (at - from).num_seconds() as f64 / span } else { 0.5 };
    LEFT + 4.0 + (RIGHT - LEFT - 8.0) * share
}

/// At most four days on the axis: the first, the last, and between them.
fn days(from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Tick> {
    let span = to - from;
    let parts = span.num_days().clamp(0, 3) as i32;
    let format = if span > TimeDelta::days(330) { "%b %Y" } else { "%-d %b" };
    let time = |n: i32| if parts == 0 { from } else { from + span * n / parts };
    let tick = |at: DateTime<Utc>| Tick {
        at: format!("{:.1}", across(at, from, to)),
        label: at.format(format).to_string(),
    };
    let mut ticks: Vec<Tick> = (0..=parts).map(|n| tick(time(n))).collect();
    ticks.dedup_by(|a, b| a.label == b.label);
    ticks
}

/// The drawing in words.
fn says(series: &Series, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
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
    fn two_points_span_the_drawing() {
        let chart = chart(&[(at(0), 30.0), (at(3), 60.0)], &[at(1)]).unwrap();
        // 60 s is the uppermost step; half of it is half way down.
        assert_eq!(chart.line, "62.0,89.0 344.0,14.0");
        assert_eq!(chart.crosses[0].x, "156.0", "a third of the way");
        let labels = |ticks: &[Tick]| ticks.iter().map(|t| t.label.clone()).collect::<Vec<_>>();
        assert_eq!(labels(&chart.x), ["1 Nov", "2 Nov", "3 Nov", "4 Nov"]);
        assert_eq!(labels(&chart.y), ["0", "20 s", "40 s", "1 min"]);
        assert_eq!(
            chart.says,
            "2 values from 2026-11-01 to 2026-11-04: last 1 min 0 s, least 30.0 s, most 1 min 0 s; \
             1 run made no backup"
        );
    }

    #[test]
    fn one_point_stands_in_the_middle_and_none_is_no_drawing() {
        let one = chart(&[(at(0), 4.0)], &[]).unwrap();
        assert_eq!((one.line.as_str(), one.x.len(), one.dots.len()), ("203.0,14.0", 1, 1));
        assert!(chart(&[], &[at(0)]).is_none());
        // What took no time is drawn on the axis.
        assert_eq!(chart(&[(at(0), 0.0)], &[]).unwrap().line, "203.0,164.0");
    }

    #[test]
    fn many_points_are_a_line_with_one_dot() {
        let values: Vec<_> = (0..400).map(|day| (at(day), 10.0 + day as f64)).collect();
        let chart = chart(&values, &[]).unwrap();
        assert_eq!((chart.dots.len(), chart.x[0].label.as_str()), (1, "Nov 2026"));
        assert_eq!(chart.line.split(' ').count(), 400);
    }
}
