//! The places of a backup, and what each of them has at its end.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::error::Result;
use crate::config::JobSettings;
use crate::config::place::FIRST;
use crate::ops::places::OpenPlace;
use crate::store::Store;

/// A place that gets the backup.
#[derive(Clone)]
pub struct BackupPlace {
    pub name: String,
    pub store: Arc<dyn Store>,
    /// The number of parts that are uploaded at once.
    pub uploads: usize,
    /// How long the place may take to get the backup after another one has it.
    pub catch_up: Duration,
}

/// Whether a place has a new backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceOutcome {
    /// It received the backup while the server was read.
    Stored,
    /// It failed or fell behind, and received the backup from another place.
    CaughtUp,
    /// It does not have the backup.
    Missing,
}

/// A place of a new backup.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct BackupPlaceRow {
    pub name: String,
    /// A path or an `s3://` address; `None` if the settings of the place are wrong.
    pub place: Option<String>,
    pub outcome: PlaceOutcome,
    /// Why it was caught up, or does not have the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl BackupPlace {
    /// A place with its own settings.
    ///
    /// # Errors
    /// Returns an error if the settings of the job are wrong.
    pub fn of(place: OpenPlace) -> Result<BackupPlace> {
        let JobSettings { uploads, catch_up, .. } = *place.config.job.as_ref()?;
        Ok(BackupPlace { name: place.name, store: place.store, uploads, catch_up })
    }

    /// The only place of a backup.
    pub fn only(store: Arc<dyn Store>, uploads: usize) -> BackupPlace {
        // Nothing follows.
        BackupPlace { name: FIRST.into(), store, uploads, catch_up: Duration::ZERO }
    }
}

impl BackupPlaceRow {
    /// The problem of a place that does not have the backup.
    pub(super) fn problem(&self) -> Option<String> {
        let missing = self.outcome == PlaceOutcome::Missing;
        missing.then(|| {
            format!(
                "the place {} does not have this backup: {}; `uzima-backup copy --missing` repairs it",
                self.name,
                self.why.as_deref().unwrap_or_default()
            )
        })
    }
}
