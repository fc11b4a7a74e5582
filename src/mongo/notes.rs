//! Notes about a run for the log and the manifest, for example retries and dropped collections.

use std::sync::{Arc, Mutex};

/// A list of lines. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<(String, u32)>>>);

impl Notes {
    /// Adds a line and logs it as a warning.
    pub fn add(&self, line: String) {
        log::warn!("{line}");
        self.0.lock().expect("no holder panics").push((line, 1));
    }

    /// Adds a line and logs it as information. Repeated lines are counted, so that many retries fill neither the log nor the
    /// manifest.
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

    /// All lines so far, in order. A repeated line has its count.
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
    fn repeated_lines_are_counted() {
        let notes = Notes::default();
        for line in ["a", "b", "a", "a"] {
            notes.count(line.into());
        }
        notes.add("a".into());
        assert_eq!(notes.lines(), ["a (3 times)", "b", "a"]);
    }
}
