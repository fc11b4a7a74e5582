//! What happened on the way and belongs into the log and the manifest: retries, dropped collections.

use std::sync::{Arc, Mutex};

/// A list that the parts of a run add to.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<(String, u32)>>>);

impl Notes {
    /// Adds a line and logs it as a warning.
    pub fn add(&self, line: String) {
        log::warn!("{line}");
        self.0.lock().expect("no holder panics").push((line, 1));
    }

    /// Logs a line and adds it. A line that is there already is counted, so that a bad night fills neither the log nor
    /// the manifest.
    pub fn count(&self, line: String) {
        let mut lines = self.0.lock().expect("no holder panics");
        match lines.iter_mut().find(|(there, _)| *there == line) {
            Some((_, count)) => {
                log::debug!("{line}");
                *count += 1;
            }
            None => {
                log::info!("{line}");
                lines.push((line, 1));
            }
        }
    }

    /// All lines so far, in order.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().expect("no holder panics");
        let line = |(line, count): &(String, u32)| match count {
            1 => line.clone(),
            _ => format!("{line} ({count} times)"),
        };
        lines.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_again_is_counted() {
        let notes = Notes::default();
        for line in ["a", "b", "a", "a"] {
            notes.count(line.into());
        }
        notes.add("a".into());
        assert_eq!(notes.lines(), ["a (3 times)", "b", "a"]);
    }
}
