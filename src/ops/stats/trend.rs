//! How a figure moves over the time.

use chrono::{DateTime, Utc};

/// A figure over the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// The oldest value.
    pub first: f64,
    /// The newest value.
    pub last: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
    /// The middle one.
    pub median: f64,
    /// The slope of the straight line that fits best (least squares), per day; `None` before there are
    /// three values over at least a day, which say nothing yet.
    pub per_day: Option<f64>,
}

const DAY: f64 = 86_400.0;

/// The trend of values at times, in any order; `None` without values.
pub fn of(values: impl Iterator<Item = (DateTime<Utc>, f64)>) -> Option<Trend> {
    let mut values: Vec<(f64, f64)> =
        values.map(|(at, value)| (at.timestamp_millis() as f64 / 1000.0 / DAY, value)).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (values.first()?, values.last()?);
    let only = || values.iter().map(|(_, value)| *value);
    Some(Trend {
        first: first.1,
        last: last.1,
        least: only().fold(f64::INFINITY, f64::min),
        most: only().fold(f64::NEG_INFINITY, f64::max),
        median: median(only())?,
        per_day: slope(&values),
    })
}

/// The middle value; the mean of the two middle ones where there is none.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[values.len() / 2 - 1] + upper) / 2.0 })
}

fn slope(values: &[(f64, f64)]) -> Option<f64> {
    let (first, last) = (values.first()?.0, values.last()?.0);
    if values.len() < 3 || last - first < 1.0 {
        return None;
    }
    let count = values.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| values.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|v| v.0), mean(|v| v.1));
    let above: f64 = values.iter().map(|v| (v.0 - x) * (v.1 - y)).sum();
    let below: f64 = values.iter().map(|v| (v.0 - x).powi(2)).sum();
    Some(above / below)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_straight_line_has_its_slope() {
        let start: DateTime<Utc> = "2026-11-01T03:00:00Z".parse().unwrap();
        let line = |days: i64| (start + TimeDelta::days(days), 100.0 + 7.0 * days as f64);
        let trend = of((0..10).rev().map(line)).unwrap();
        assert!((trend.per_day.unwrap() - 7.0).abs() < 1e-6, "{trend:?}");
        assert_eq!((trend.first, trend.last, trend.least, trend.most), (100.0, 163.0, 100.0, 163.0));
        assert_eq!(trend.median, 131.5);
        assert_eq!(of((0..2).map(line)).unwrap().per_day, None);
        assert_eq!(of(std::iter::empty()), None);
    }
}
