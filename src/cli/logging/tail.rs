//! The last lines of the log, for notices of a failure: a mail shows some of them, a ping sends all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes that are kept, which is what healthchecks.io accepts.
const BYTES: usize = 100_000;
/// The most characters of a line that are kept.
const LENGTH: usize = 500;

/// The last lines; shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// The lines, oldest first, without secrets.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
    }

    pub(super) fn push(&self, line: &str) {
        let mut short: String = line.chars().take(LENGTH).collect();
        if short.len() < line.len() {
            short.push('…');
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += short.len();
        kept.lines.push_back(short);
        while kept.bytes > BYTES {
            let oldest = kept.lines.pop_front().expect("it has the bytes");
            kept.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_none_is_long() {
        let tail = Tail::default();
        (0..20_000).for_each(|n| tail.push(&format!("{n:010}")));
        let want: Vec<String> = (10_000..20_000).map(|n| format!("{n:010}")).collect();
        assert_eq!(tail.lines(), want);
        tail.push(&"ü".repeat(LENGTH));
        tail.push(&"ü".repeat(10_000));
        let lines = tail.lines();
        assert_eq!(lines[lines.len() - 2..], ["ü".repeat(LENGTH), format!("{}…", "ü".repeat(LENGTH))]);
        assert!(lines.iter().map(String::len).sum::<usize>() <= BYTES);
    }
}
