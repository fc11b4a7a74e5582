//! A row of a list: a backup, a manifest that cannot be understood, or a run that made none.

use chrono::{DateTime, Utc};

use super::ListOptions;
use crate::catalog::CatalogEntry;
use crate::catalog::fault::{BackupFault, ShownStatus};
use crate::catalog::marks::Pin;
use crate::catalog::run::{BackupRun, Status, Verified};
use crate::model::id::BackupId;

/// What a row tells of.
#[derive(Debug)]
pub enum ListRow {
    /// A backup, or a manifest that cannot be understood.
    Stored(CatalogEntry),
    /// A run of which there is no backup.
    Run(Box<BackupRun>),
}

/// A run, and what is said about it.
#[derive(Debug)]
pub struct Listed {
    /// The run.
    pub row: ListRow,
    /// What is wrong with its stored data.
    pub fault: Option<BackupFault>,
    /// No clean-up deletes it.
    pub pin: Option<Pin>,
    /// When and how it was last verified.
    pub verified: Option<Verified>,
}

impl Listed {
    /// The run's id.
    pub fn id(&self) -> &BackupId {
        match &self.row {
            ListRow::Stored(entry) => entry.id(),
            ListRow::Run(run) => &run.id,
        }
    }

    /// How it stands.
    pub fn shown(&self) -> ShownStatus {
        let status = match &self.row {
            ListRow::Stored(CatalogEntry::Archived { .. }) => return ShownStatus::Archived,
            ListRow::Stored(_) => Status::Completed,
            ListRow::Run(run) => run.status,
        };
        ShownStatus::new(status, self.fault.as_ref())
    }

    /// When it began, as exactly as is known.
    pub(super) fn started(&self) -> DateTime<Utc> {
        match &self.row {
            ListRow::Stored(entry) => entry.started(),
            ListRow::Run(run) => run.started_at,
        }
    }

    /// Whether it is asked for.
    pub(super) fn wanted(&self, options: &ListOptions) -> bool {
        let job = match &self.row {
            ListRow::Stored(CatalogEntry::Backup(manifest)) => Some(&manifest.job),
            // It might be of any job: it is never left out.
            ListRow::Stored(CatalogEntry::Damaged { .. } | CatalogEntry::Archived { .. }) => None,
            ListRow::Run(run) => Some(&run.job).filter(|job| !job.is_empty()),
        };
        let of_job = options.job.as_ref().is_none_or(|wanted| job.is_none_or(|job| job == wanted));
        let shown = self.shown();
        let so = match options.statuses.as_slice() {
            [] => shown != ShownStatus::Run(Status::Deleted),
            statuses => statuses.contains(&shown),
        };
        of_job && so
    }
}
