//! Whether runs can be recorded, and told of.

use std::time::Duration;

use super::around::Around;
use super::checks::Finding;
use crate::base::error::Result;
use crate::base::units;
use crate::catalog::records::{PATIENCE, Records, RecordsOptions};
use crate::config::records::RecordsAt;
use crate::notify::resend::{KeyCheck, Mailer};

/// How long the mail service is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// The records can be read and written.
pub async fn records(around: &Around) -> Result<Finding> {
    let RecordsAt::Server(uri) = &around.subject.settings.records else {
        return Finding::not_configured("BACKUP_RECORDS is off");
    };
    let records = Records::connect(&RecordsOptions { uri: uri.clone(), patience: PATIENCE }).await?;
    let job = &around.subject.settings.job;
    let asked = async {
        let found = records.all(Some(job)).await?;
        records.prove().await?;
        Ok(found.runs.len())
    };
    let asked: Result<usize> = asked.await;
    records.close().await;
    let runs = units::several(asked? as u64, "run");
    Finding::ok(format!("{runs} of {job} recorded, and more can be"))
}

/// The mail service takes the key.
pub async fn mail(around: &Around) -> Result<Finding> {
    let Some(options) = &around.subject.mail else {
        return Finding::not_configured(
            "neither RESEND_API_KEY nor ADMIN_EMAILS is set: no mail tells of a failure",
        );
    };
    let key = Mailer::new(options.clone()).check_key(LIMIT).await?;
    let may = match key {
        KeyCheck::SendingOnly => "the key may send, and nothing else",
        KeyCheck::Full => "the key may do more than send: one that may only send is enough here",
    };
    Finding::ok(format!("{may}; to {}", options.to.join(", ")))
}
