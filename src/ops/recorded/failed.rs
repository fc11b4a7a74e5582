//! What the store is told of a run that failed: it survives the database that was backed up.

use std::time::Duration;

use super::Recording;
use super::record::Attempt;
use crate::base::error::{Error, Kind, Result};
use crate::catalog::marks::{self, Failure};
use crate::model::manifest::TOOL;
use crate::ops::backup::{BackupOptions, Resources};

/// How long the store may take for it. The run failed anyway, and whoever waits for it is to hear of that.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is said of it, without secrets.
pub fn failure(
    error: &Error,
    attempt: &Attempt,
    options: &BackupOptions,
    resources: &Resources,
    recording: &Recording,
) -> Failure {
    let clean = |text: &str| recording.redactor.clean(text);
    Failure {
        format: marks::FORMAT,
        id: attempt.id.clone(),
        job: options.settings.job.clone(),
        tool: TOOL.into(),
        host: options.settings.host.clone(),
        started_at: attempt.started,
        failed_at: resources.clock.now(),
        exit: error.exit().code(),
        error: clean(&error.chain()),
        next_step: error.next_step().map(clean),
        notes: resources.notes.lines().iter().map(|line| clean(line)).collect(),
    }
}

/// Tells the store. Wrong usage is no run: a person sits before it, and nothing was attempted. A place that may be the
/// mount point of another one gets nothing either.
pub async fn store(failure: &Failure, kind: Kind, resources: &Resources) -> Result<()> {
    if matches!(kind, Kind::Usage | Kind::Unmounted) {
        return Ok(());
    }
    match tokio::time::timeout(PATIENCE, failure.write(&*resources.store)).await {
        Ok(written) => written,
        Err(_) => Err(Error::failed(format!("no answer of {} in time", resources.store.place()))),
    }
}
