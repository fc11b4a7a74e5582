//! The last lines of the log, for the mail after a failure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many lines are kept.
const LINES: usize = 30;
/// How many characters of each.
const LENGTH: usize = 500;

/// The last lines; shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, oldest first, without secrets.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn push(&self, line: &str) {
        let mut kept: String = line.chars().take(LENGTH).collect();
        if kept.len() < line.len() {
            kept.push('…');
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_none_is_long() {
        let tail = Tail::default();
        (0..100).for_each(|n| tail.push(&n.to_string()));
        let want: Vec<String> = (70..100).map(|n| n.to_string()).collect();
        assert_eq!(tail.lines(), want);
        tail.push(&"ü".repeat(LENGTH));
        tail.push(&"ü".repeat(10_000));
        let lines = tail.lines();
        assert_eq!((lines.len(), &lines[28]), (30, &"ü".repeat(LENGTH)));
        assert_eq!(lines[29], format!("{}…", "ü".repeat(LENGTH)));
    }
}
