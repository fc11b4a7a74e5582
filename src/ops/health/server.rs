//! The server that is backed up, the engine that reads it, the server of the records, and the mail service.

use super::context::{Context, Finding};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::catalog::records::{PATIENCE, Records};
use crate::config::RecordsAt;
use crate::model::versions;
use crate::model::versions::Support;
use crate::notify::resend::{KeyCheck, Mailer};
use crate::source::{describe, engine, oplog};
use std::time::Duration;

/// Checks that the server can be reached, and accepts the login.
pub async fn mongodb(around: &Context) -> Result<Finding> {
    let server = around.server().await?;
    let version = server.version().await?;
    let fcv = server.feature_compatibility().await?;
    let fcv = fcv.map(|fcv| format!(", feature compatibility version {fcv}")).unwrap_or_default();
    let found = format!("{version}{fcv}, {}", server.hello.words());
    match versions::support(&version) {
        Support::Tested | Support::Unknown => Finding::ok(found),
        Support::Expected => {
            Finding::ok(format!("{found}; this version is expected to work, no test ran it"))
        }
        Support::Newer => Finding::warning(
            format!(
                "{found}; this version is newer than {}, the newest that this uzima-backup knows",
                versions::NEWEST
            ),
            "Look for a newer uzima-backup, and prove a backup with `uzima-backup verify latest --drill`",
        ),
        Support::TooOld => Err(Error::failed(format!("{found}; this version is too old"))
            .hint(format!("MongoDB {} or later is needed", versions::OLDEST))),
    }
}

/// Checks that the user may read everything that a backup reads.
pub async fn namespaces(around: &Context) -> Result<Finding> {
    let server = around.server().await?;
    let (settings, allow_empty) = (&around.subject.settings, around.subject.allow_empty);
    let description = describe::describe_for_backup(server, &settings.selection, allow_empty).await?;
    describe::prove_readable(server, &description.namespaces).await?;
    let size = description.raw_bytes.map(|n| format!(", {}", bytesize::ByteSize(n).display().iec()));
    let shortfall = oplog::shortfall(server, settings.consistency).await?;
    let own_time = shortfall.map(|why| format!("; each collection is read at its own time: {why}"));
    let readable = format!(
        "{} readable{}{}",
        description.namespaces.len(),
        size.unwrap_or_default(),
        own_time.unwrap_or_default()
    );
    match description.warnings.split_first() {
        None => Finding::ok(readable),
        Some((first, _)) => {
            let (_, step) = first.rsplit_once("; ").unwrap_or(("", first));
            Finding::warning(format!("{readable}; {}", description.warnings.join("; ")), step)
        }
    }
}

/// Shows the engine that would read the server.
pub async fn engine(around: &Context) -> Result<Finding> {
    Finding::ok(engine::choose(&around.subject.settings).await?.words())
}

/// The time limit of the request to the mail service.
const LIMIT: Duration = Duration::from_secs(30);

/// Checks that records can be read and written.
pub async fn records(around: &Context) -> Result<Finding> {
    let RecordsAt::Server(uri) = &around.subject.settings.records else {
        return Finding::not_configured("BACKUP_RECORDS is off");
    };
    let records = Records::connect(uri, PATIENCE).await?;
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

/// Checks that the mail service accepts the key.
pub async fn mail(around: &Context) -> Result<Finding> {
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
