//! What happened on the way and belongs into the log and the manifest: retries, dropped collections.

use std::sync::{Arc, Mutex};

/// A list that the parts of a run add to.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    /// Adds a line and logs it as a warning.
    pub fn add(&self, line: String) {
        log::warn!("{line}");
        self.0.lock().expect("no holder panics").push(line);
    }

    /// All lines so far, in order.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no holder panics").clone()
    }
}
