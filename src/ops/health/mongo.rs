//! The server, what is read of it, and what reads.

use super::around::{Around, blocking};
use super::checks::Finding;
use crate::error::Result;
use crate::ops::backup;
use crate::source::readable;
use crate::source::server::Topology;

/// It can be reached, and lets the user in.
pub async fn mongodb(around: &Around) -> Result<Finding> {
    let server = around.server().await?;
    let version = server.version().await?;
    let hello = &server.hello;
    let topology = match (hello.topology, &hello.set_name) {
        (Topology::Standalone, _) => "standalone".to_string(),
        (Topology::Mongos, _) => "mongos".to_string(),
        (Topology::ReplicaSet, name) => {
            format!("replica set {}", name.as_deref().unwrap_or("without a name"))
        }
    };
    Finding::ok(format!("{version}, {topology}, {}", hello.address))
}

/// Everything that a backup reads may be read.
pub async fn namespaces(around: &Around) -> Result<Finding> {
    let server = around.server().await?;
    let description = backup::described(server, &around.subject.backup).await?;
    readable::prove(server, &description.namespaces).await?;
    let size = description.raw_bytes.map(|n| format!(", {}", bytesize::ByteSize(n).display().iec()));
    Finding::ok(format!("{} readable{}", description.namespaces.len(), size.unwrap_or_default()))
}

/// What would read, and where it is.
pub async fn engine(around: &Around) -> Result<Finding> {
    let options = around.subject.backup.clone();
    Finding::ok(blocking(move || backup::engine_words(&options)).await?)
}
