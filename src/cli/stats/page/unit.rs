//! What the figures of a chart are, and the round numbers at its axis.

use std::time::Duration;

use crate::base::units;

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisUnit {
    Bytes,
    BytesPerSecond,
    Seconds,
}

/// Round numbers of seconds.
const SECONDS: [f64; 20] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
    7200.0, 14_400.0, 21_600.0, 43_200.0,
];
/// So many steps at most, from zero on.
const STEPS: f64 = 4.0;

impl AxisUnit {
    /// A figure in words.
    pub fn show(self, value: f64) -> String {
        let bytes = || units::bytes(value.max(0.0).round() as u64);
        match self {
            AxisUnit::Bytes => bytes(),
            AxisUnit::BytesPerSecond => format!("{}/s", bytes()),
            AxisUnit::Seconds => units::duration(Duration::from_secs_f64(value.max(0.0))),
        }
    }

    /// Round numbers from zero to `most` or above.
    pub fn steps(self, most: f64) -> Vec<f64> {
        let step = match self {
            AxisUnit::Seconds => {
                let days = 86_400.0 * (most / STEPS / 86_400.0).ceil();
                SECONDS.into_iter().find(|step| step * STEPS >= most).unwrap_or(days)
            }
            // Round in the unit that it is shown in; below a byte there is nothing.
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

    /// A round number, short.
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

    #[track_caller]
    fn axis(unit: AxisUnit, most: f64, want: &[&str]) {
        let ticks: Vec<String> = unit.steps(most).into_iter().map(|v| unit.tick(v)).collect();
        assert_eq!(ticks, want, "{most}");
        assert!(*unit.steps(most).last().unwrap() >= most);
    }

    #[test]
    fn axes_have_round_numbers() {
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
