//! What records say, for whoever only looks: without them there is still the store.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::catalog::known::Known;
use crate::catalog::records::{Records, RecordsOptions};
use crate::catalog::run::{Run, Status};
use crate::config::records::RecordsAt;
use crate::model::id::BackupId;

/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// All records, or those of a job; none where they cannot be read, which is said in the log.
pub async fn known(at: &RecordsAt, job: Option<&str>) -> Vec<Run> {
    let uri = match at {
        RecordsAt::Off => {
            log::debug!("runs are not recorded: what is told is of the store alone");
            return Vec::new();
        }
        RecordsAt::Server(uri) => uri.clone(),
    };
    read(uri, job).await.unwrap_or_else(|e| {
        log::info!("what is told is of the store alone: {}", e.chain());
        Vec::new()
    })
}

/// The backups that the records of this machine know of a place, where its state directory knows nothing of it.
/// Records of another machine may be of another disk: a directory is only a name.
pub async fn expected(
    at: &RecordsAt,
    state_dir: Option<&Path>,
    place: &str,
    host: &str,
) -> BTreeSet<BackupId> {
    if Known::load(state_dir, place).is_some_and(|known| !known.backups.is_empty()) {
        return BTreeSet::new();
    }
    let of_bucket = place.starts_with("s3://");
    let there =
        |run: &Run| run.status == Status::Completed && run.place == place && (of_bucket || run.host == host);
    known(at, None).await.into_iter().filter(there).map(|run| run.id).collect()
}

async fn read(uri: Secret, job: Option<&str>) -> Result<Vec<Run>> {
    let records = Records::connect(&RecordsOptions { uri, patience: PATIENCE }).await?;
    let recorded = records.all(job).await;
    records.close().await;
    Ok(recorded?.runs)
}
