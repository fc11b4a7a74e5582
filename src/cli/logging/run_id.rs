//! The id of the run in every log line. The log is one for the whole process, and ids are made far below
//! the command line: who makes one is handed this, and sets it.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

/// The id of the run, once it has one; shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct RunId(Arc<Mutex<Option<String>>>);

impl RunId {
    /// From now on lines carry this id.
    pub fn set(&self, id: impl Display) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_string());
    }

    /// The id.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
