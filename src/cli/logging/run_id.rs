//! The id of the run in every log line. There is one log for the process, and an operation sets the id of its run.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

/// The id of the run, once it has one; shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct RunId(Arc<Mutex<Option<String>>>);

impl RunId {
    /// Adds this id to all later lines.
    pub fn set(&self, id: impl Display) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_string());
    }

    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
