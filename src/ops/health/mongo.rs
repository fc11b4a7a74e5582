//! The server, what is read of it, and what reads.

use super::around::Around;
use super::checks::Finding;
use crate::base::error::{Error, Result};
use crate::model::versions;
use crate::model::versions::Support;
use crate::source::{describe, engine, oplog};

/// It can be reached, and lets the user in.
pub async fn mongodb(around: &Around) -> Result<Finding> {
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

/// Everything that a backup reads may be read.
pub async fn namespaces(around: &Around) -> Result<Finding> {
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

/// What would read, and where it is.
pub async fn engine(around: &Around) -> Result<Finding> {
    Finding::ok(engine::choose(&around.subject.settings).await?.words())
}
