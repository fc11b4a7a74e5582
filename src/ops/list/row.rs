//! A row of a list: a backup, a manifest that cannot be understood, or a run that made none.

use chrono::{DateTime, Utc};

use super::Options;
use crate::catalog::Entry;
use crate::catalog::fault::{Fault, Shown};
use crate::catalog::marks::Pin;
use crate::catalog::run::{Run, Status, Verified};
use crate::model::id::BackupId;

/// What a row tells of.
#[derive(Debug)]
pub enum Row {
    /// A backup, or a manifest that cannot be understood.
    Stored(Entry),
    /// A run of which there is no backup.
    Run(Box<Run>),
}

/// A run, and what is said about it.
#[derive(Debug)]
pub struct Listed {
    /// The run.
    pub row: Row,
    /// What is wrong with its stored data.
    pub fault: Option<Fault>,
    /// No clean-up deletes it.
    pub pin: Option<Pin>,
    /// When and how it was last verified.
    pub verified: Option<Verified>,
}

impl Listed {
    /// The run's id.
    pub fn id(&self) -> &BackupId {
        match &self.row {
            Row::Stored(entry) => entry.id(),
            Row::Run(run) => &run.id,
        }
    }

    /// How it stands.
    pub fn shown(&self) -> Shown {
        let status = match &self.row {
            Row::Stored(Entry::Archived { .. }) => return Shown::Archived,
            Row::Stored(_) => Status::Completed,
            Row::Run(run) => run.status,
        };
        Shown::of(status, self.fault.as_ref())
    }

    /// When it began, as exactly as is known.
    pub(super) fn started(&self) -> DateTime<Utc> {
        match &self.row {
            Row::Stored(entry) => entry.started(),
            Row::Run(run) => run.started_at,
        }
    }

    /// Whether it is asked for.
    pub(super) fn wanted(&self, options: &Options) -> bool {
        let job = match &self.row {
            Row::Stored(Entry::Backup(manifest)) => Some(&manifest.job),
            // It might be of any job: it is never left out.
            Row::Stored(Entry::Damaged { .. } | Entry::Archived { .. }) => None,
            Row::Run(run) => Some(&run.job).filter(|job| !job.is_empty()),
        };
        let of_job = options.job.as_ref().is_none_or(|wanted| job.is_none_or(|job| job == wanted));
        let shown = self.shown();
        let so = match options.statuses.as_slice() {
            [] => shown != Shown::Run(Status::Deleted),
            statuses => statuses.contains(&shown),
        };
        of_job && so
    }
}
