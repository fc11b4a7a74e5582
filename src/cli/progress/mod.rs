//! The progress of a run: a line on a terminal. Without a terminal there is none, so that cron mails no progress.

mod line;

use std::sync::Arc;
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use self::line::ProgressHistory;
use crate::base::progress::Meter;

const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// The width of a terminal that does not report it.
const COLUMNS: usize = 80;

/// A progress display. Dropping it ends it.
pub struct Display {
    shown: Option<(JoinHandle<()>, ProgressBar)>,
}

impl Display {
    /// Shows the progress if a person watches: `interactive`.
    pub fn start(meter: Arc<Meter>, interactive: bool, bars: &MultiProgress) -> Display {
        if !interactive {
            return Display { shown: None };
        }
        let bar = bars.add(ProgressBar::new(0));
        let drawn = bar.clone();
        let task = tokio::spawn(async move {
            let (began, mut history, mut layout) = (Instant::now(), ProgressHistory::default(), None);
            loop {
                tokio::time::sleep(DRAW_INTERVAL).await;
                let line = history.line(&meter.read(), began.elapsed());
                let (done, total) = line.amount();
                // The terminal may have been resized.
                let columns = Term::stderr().size_checked().map_or(COLUMNS, |(_, columns)| columns.into());
                let (template, taken) = template(columns, total > 0);
                if layout.replace(template) != Some(template) {
                    drawn.set_style(style(template));
                }
                drawn.set_length(total.max(done).max(1));
                drawn.set_position(done);
                drawn.set_message(line.within(columns.saturating_sub(taken)));
                drawn.tick();
            }
        });
        Display { shown: Some((task, bar)) }
    }
}

/// The template for a terminal of this width, and the columns that it takes beside the message. The bar needs an amount.
fn template(columns: usize, measured: bool) -> (&'static str, usize) {
    match columns {
        110.. if measured => ("{spinner} [{bar:24}] {msg}", 29),
        60.. => ("{spinner} {msg}", 2),
        _ => ("{msg}", 0),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is right").progress_chars("=> ")
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some((task, bar)) = &self.shown {
            task.abort();
            bar.finish_and_clear();
        }
    }
}
