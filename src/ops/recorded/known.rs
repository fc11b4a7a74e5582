//! What records say, for whoever only looks: without them there is still the store.

use std::time::Duration;

use crate::catalog::records::{Records, RecordsOptions};
use crate::catalog::run::Run;
use crate::config::records::RecordsAt;
use crate::error::Result;
use crate::secret::Secret;

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

async fn read(uri: Secret, job: Option<&str>) -> Result<Vec<Run>> {
    let records = Records::connect(&RecordsOptions { uri, patience: PATIENCE }).await?;
    let recorded = records.all(job).await;
    records.close().await;
    Ok(recorded?.runs)
}
