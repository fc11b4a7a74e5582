//! The stacked chart of the data phases: a bar for each backup, divided by what it waited for. `stack.svg` draws it.

use chrono::{DateTime, Utc};

use super::chart::{AxisUnit, BOTTOM, DOTS, LEFT, Point, RIGHT, TOP, Tick, days, position};
use crate::base::units;
use crate::model::timing::DataTiming;

/// The widest bar.
const WIDEST: f64 = 12.0;

/// A part of all bars.
#[derive(Debug, PartialEq)]
pub struct Layer {
    pub name: &'static str,
    /// Rectangles, for SVG.
    pub path: String,
}

#[derive(Debug)]
pub struct StackedChart {
    pub title: &'static str,
    /// The chart as text, for screen readers.
    pub description: String,
    pub x: Vec<Tick>,
    pub y: Vec<Tick>,
    /// From the lowest to the uppermost.
    pub layers: Vec<Layer>,
    /// The tooltips, at the left end of each bar; none if there are many bars.
    pub bars: Vec<Point>,
    pub width: String,
}

impl StackedChart {
    /// Draws the data phases, oldest first. Returns `None` if there are none.
    pub fn of(values: &[(DateTime<Utc>, DataTiming)]) -> Option<StackedChart> {
        let (from, to) = (values.iter().map(|v| v.0).min()?, values.iter().map(|v| v.0).max()?);
        let most = values.iter().map(|(_, timing)| timing.seconds).fold(0.0, f64::max);
        let unit = AxisUnit::Seconds;
        let steps = unit.steps(most);
        let top = *steps.last()?;
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * (value / top).clamp(0.0, 1.0);
        let width = ((RIGHT - LEFT) * 0.7 / values.len() as f64).clamp(0.8, WIDEST);
        let left = |at: DateTime<Utc>| position(at, from, to) - width / 2.0;
        let names = parts(&DataTiming::default()).map(|(name, _)| name);
        let layers = names.into_iter().enumerate().map(|(n, name)| {
            let bar = |(at, timing): &(DateTime<Utc>, DataTiming)| {
                let parts = parts(timing);
                let below: f64 = parts[..n].iter().map(|(_, seconds)| seconds).sum();
                let (low, high) = (y(below), y(below + parts[n].1));
                let height = low - high;
                (height >= 0.05)
                    .then(|| format!("M{:.1} {low:.1}h{width:.1}v-{height:.1}h-{width:.1}z", left(*at)))
            };
            Layer { name, path: values.iter().filter_map(bar).collect() }
        });
        let label = |(at, timing): &(DateTime<Utc>, DataTiming)| Point {
            x: format!("{:.1}", left(*at)),
            y: format!("{TOP}"),
            label: format!(
                "{}: {}, waited {}",
                at.format("%F %H:%M"),
                unit.show(timing.seconds),
                timing.words()
            ),
        };
        Some(StackedChart {
            title: "Where the time of a backup goes",
            description: description(values),
            x: days(from, to),
            y: steps.iter().map(|v| Tick { at: format!("{:.1}", y(*v)), label: unit.tick(*v) }).collect(),
            layers: layers.collect(),
            bars: if values.len() <= DOTS { values.iter().map(label).collect() } else { Vec::new() },
            width: format!("{width:.1}"),
        })
    }
}

/// The parts of a data phase, with their names in the key.
fn parts(timing: &DataTiming) -> [(&'static str, f64); 4] {
    let [mongodb, compression, store] = timing.waits();
    [mongodb, compression, store, ("other work", timing.other_seconds)]
}

fn description(values: &[(DateTime<Utc>, DataTiming)]) -> String {
    let backups = units::several(values.len() as u64, "backup");
    let last = values
        .last()
        .map(|(at, timing)| format!(": the last, of {}, waited {}", at.format("%F"), timing.words()));
    format!("{backups}{}", last.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn timing(mongodb_seconds: f64, store_seconds: f64) -> DataTiming {
        let seconds = mongodb_seconds + store_seconds + 5.0;
        DataTiming { seconds, mongodb_seconds, store_seconds, other_seconds: 5.0, ..DataTiming::default() }
    }

    #[test]
    fn bars_are_stacked_from_mongodb_to_the_other_work() {
        let at: DateTime<Utc> = "2026-11-01T03:00:00Z".parse().unwrap();
        let values = [(at, timing(30.0, 25.0)), (at + TimeDelta::days(1), timing(0.0, 0.0))];
        let chart = StackedChart::of(&values).unwrap();
        let layers: Vec<_> = chart.layers.iter().map(|layer| (layer.name, layer.path.as_str())).collect();
        // A minute is the uppermost tick.
        assert_eq!(
            layers,
            [
                ("MongoDB", "M56.0 164.0h12.0v-75.0h-12.0z"),
                ("compression", ""),
                ("the store", "M56.0 89.0h12.0v-62.5h-12.0z"),
                ("other work", "M56.0 26.5h12.0v-12.5h-12.0zM338.0 164.0h12.0v-12.5h-12.0z"),
            ]
        );
        assert_eq!(chart.bars.len(), 2);
        assert_eq!(
            chart.bars[0].label,
            "2026-11-01 03:00: 1 min 0 s, waited 30.0 s for MongoDB, 0.0 s for compression, 25.0 s for the store"
        );
        assert!(StackedChart::of(&[]).is_none());
    }

    #[test]
    fn many_bars_are_narrow_and_have_no_tooltips() {
        let at: DateTime<Utc> = "2026-11-01T03:00:00Z".parse().unwrap();
        let values: Vec<_> = (0..400).map(|day| (at + TimeDelta::days(day), timing(9.0, 9.0))).collect();
        let chart = StackedChart::of(&values).unwrap();
        assert_eq!((chart.bars.len(), chart.width.as_str()), (0, "0.8"));
        assert!(chart.layers.iter().map(|layer| layer.path.len()).sum::<usize>() < 60_000);
    }
}
