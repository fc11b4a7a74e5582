//! mongodump's formats: `metadata.json`, Extended JSON, file names and the archive; and filters for documents.

pub mod demux;
pub mod extjson;
pub mod metadata;
pub mod names;
pub(crate) mod oplog;
pub mod query;

use crate::base::error::Result;
use crate::base::waits::Waits;
use crate::model::namespace::Namespace;

/// Receives the namespaces and documents of a source, in the order of the artifact. A namespace is begun,
/// receives its documents and is ended before the next one begins.
pub trait Sink {
    /// Receives all namespaces. This is the first call.
    fn prelude(&mut self, _namespaces: Vec<Namespace>) -> Result<()> {
        Ok(())
    }
    /// Opens the namespace at this place of the prelude. The next documents belong to it.
    fn begin(&mut self, namespace: usize) -> Result<()>;
    /// Receives one BSON document as the server sent it.
    fn document(&mut self, raw: &[u8]) -> Result<()>;
    /// Ends the open namespace, which is now complete.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }
    /// Returns the measurement to which the source adds the time in which it waits for documents.
    fn waits(&self) -> Waits {
        Waits::default()
    }
}
