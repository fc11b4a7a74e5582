//! The server, what is read of it, and what reads.

use super::around::{Around, blocking};
use super::checks::Finding;
use crate::error::Result;
use crate::ops::backup;
use crate::source::readable;

/// It can be reached, and lets the user in.
pub async fn mongodb(around: &Around) -> Result<Finding> {
    let server = around.server().await?;
    let version = server.version().await?;
    let fcv = server.feature_compatibility().await?;
    let fcv = fcv.map(|fcv| format!(", feature compatibility version {fcv}")).unwrap_or_default();
    Finding::ok(format!("{version}{fcv}, {}", server.hello.words()))
}

/// Everything that a backup reads may be read.
pub async fn namespaces(around: &Around) -> Result<Finding> {
    let server = around.server().await?;
    let description = backup::described(server, &around.subject.backup).await?;
    readable::prove(server, &description.namespaces).await?;
    let size = description.raw_bytes.map(|n| format!(", {}", bytesize::ByteSize(n).display().iec()));
    let shortfall = backup::shortfall(server, &around.subject.backup).await?;
    let own_time = shortfall.map(|why| format!("; each collection is read at its own time: {why}"));
    Finding::ok(format!(
        "{} readable{}{}",
        description.namespaces.len(),
        size.unwrap_or_default(),
        own_time.unwrap_or_default()
    ))
}

/// What would read, and where it is.
pub async fn engine(around: &Around) -> Result<Finding> {
    let options = around.subject.backup.clone();
    Finding::ok(blocking(move || backup::engine_words(&options)).await?)
}
