//! How far a run is: a bar on a terminal, one log line every 10 seconds without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::units;
use crate::escape;
use crate::progress::{Meter, Reading};

/// How often the bar is drawn.
const DRAWN: Duration = Duration::from_millis(200);
/// How often a line is logged.
const LOGGED: Duration = Duration::from_secs(10);

/// A progress display; it ends when dropped.
pub struct Display {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Display {
    /// Shows `meter`.
    pub fn start(meter: Arc<Meter>, interactive: bool, bars: &MultiProgress) -> Display {
        let began = Instant::now();
        if !interactive {
            let task = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(LOGGED).await;
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
                tokio::time::sleep(DRAWN).await;
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

/// Namespace, documents, raw and stored bytes, rate, estimate.
fn line(reading: &Reading, elapsed: Duration) -> String {
    if reading.expected_namespaces == 0 {
        return format!("waiting for the server for {}", units::duration(elapsed));
    }
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = reading.raw_bytes as f64 / seconds;
    let left = reading.expected_bytes.saturating_sub(reading.raw_bytes);
    let estimate = if reading.expected_bytes > 0 && rate > 0.0 {
        format!(", about {} left", units::duration(Duration::from_secs_f64(left as f64 / rate)))
    } else {
        String::new()
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_everything() {
        let reading = Reading {
            documents: 12_345,
            raw_bytes: 10 << 20,
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
        let unknown = Reading { expected_bytes: 0, current: String::new(), ..reading };
        let text = line(&unknown, Duration::from_secs(2));
        assert!(text.starts_with("waiting") && !text.contains("left"), "{text}");
    }
}
