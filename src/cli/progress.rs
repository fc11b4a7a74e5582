//! The progress of a run: a bar on a terminal, or else a log line every 10 seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::units;
use crate::base::escape;
use crate::base::progress::{Counters, Meter};

const DRAW_INTERVAL: Duration = Duration::from_millis(200);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A progress display. Dropping it ends it.
pub struct Display {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Display {
    pub fn start(meter: Arc<Meter>, interactive: bool, bars: &MultiProgress) -> Display {
        let began = Instant::now();
        if !interactive {
            let task = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(LOG_INTERVAL).await;
                    log::info!("{}", line(&meter.read(), began.elapsed()));
                }
            });
            return Display { task, bar: None };
        }
        let bar = bars.add(ProgressBar::new(0));
        bar.set_style(
            ProgressStyle::with_template("{spinner} [{bar:24}] {msg}")
                .expect("the template is right")
                .progress_chars("=> "),
        );
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(DRAW_INTERVAL).await;
                let reading = meter.read();
                shown.set_length(reading.expected_bytes.max(reading.raw_bytes).max(1));
                shown.set_position(reading.raw_bytes);
                shown.set_message(line(&reading, began.elapsed()));
                shown.tick();
            }
        });
        Display { task, bar: Some(bar) }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(reading: &Counters, elapsed: Duration) -> String {
    if reading.expected_namespaces == 0 {
        return format!("waiting for the server for {}", units::duration(elapsed));
    }
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = reading.raw_bytes as f64 / seconds;
    let estimate = time_left(reading, seconds).map(|left| format!(", about {} left", units::duration(left)));
    let estimate = estimate.unwrap_or_default();
    format!(
        "{} ({}/{}), {}, {} raw, {} stored, {}/s{estimate}",
        if reading.current.is_empty() {
            "waiting for the server".into()
        } else {
            escape::line(&reading.current)
        },
        reading.namespaces,
        units::several(reading.expected_namespaces, "namespace"),
        units::several(reading.documents, "document"),
        units::bytes(reading.raw_bytes),
        units::bytes(reading.stored_bytes),
        units::bytes(rate as u64),
    )
}

/// Estimates the time until everything is read and sent. `None` if it is unknown or less than a second; in the latter case,
/// the run waits for something that is not counted.
fn time_left(reading: &Counters, seconds: f64) -> Option<Duration> {
    let Counters { raw_bytes, packed_bytes, stored_bytes, expected_bytes, .. } = reading;
    let (raw, packed, stored) = (*raw_bytes as f64, *packed_bytes as f64, *stored_bytes as f64);
    if *expected_bytes == 0 || raw == 0.0 {
        return None;
    }
    let expected = raw.max(*expected_bytes as f64);
    let to_read = (expected - raw) / (raw / seconds);
    // Assumes that the rest is as compressible as the data so far.
    let to_send = match packed * expected / raw - stored {
        unsent if unsent < 1.0 => 0.0,
        _ if stored == 0.0 => return None,
        unsent => unsent / (stored / seconds),
    };
    let left = to_read.max(to_send);
    (left >= 1.0).then(|| Duration::try_from_secs_f64(left).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_figures() {
        let reading = Counters {
            documents: 12_345,
            raw_bytes: 10 << 20,
            packed_bytes: 4 << 20,
            stored_bytes: 4 << 20,
            namespaces: 3,
            expected_bytes: 30 << 20,
            expected_namespaces: 9,
            current: "shop.orders".into(),
        };
        assert_eq!(
            line(&reading, Duration::from_secs(2)),
            "shop.orders (3/9 namespaces), 12,345 documents, 10.0 MiB raw, 4.0 MiB stored, 5.0 MiB/s, about 4.0 s left"
        );
        let unknown = Counters { expected_bytes: 0, current: String::new(), ..reading.clone() };
        let text = line(&unknown, Duration::from_secs(2));
        assert!(text.starts_with("waiting") && !text.contains("left"), "{text}");
        // All data was read in 2 s, and a quarter of it was sent.
        let slow = Counters { raw_bytes: 30 << 20, packed_bytes: 8 << 20, stored_bytes: 2 << 20, ..reading };
        let text = line(&slow, Duration::from_secs(2));
        assert!(text.contains("2.0 MiB stored") && text.ends_with("about 6.0 s left"), "{text}");
        for done in
            [Counters { stored_bytes: 8 << 20, ..slow.clone() }, Counters { stored_bytes: 0, ..slow.clone() }]
        {
            let text = line(&done, Duration::from_secs(2));
            assert!(!text.contains("left"), "{text}");
        }
    }
}
