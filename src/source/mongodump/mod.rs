//! The mongodump engine: the official tool as a child, its archive taken from a pipe.

mod child;
mod chunks;
mod find;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::find::{FoundMongodump, NoMongodump, find};

use self::chunks::Watch;
use crate::base::error::Result;
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::dumpformat::demux::Demux;
use crate::model::namespace::Namespace;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// A mongodump, and how it is run.
#[derive(Debug, Clone)]
pub struct Mongodump {
    /// The program.
    pub found: FoundMongodump,
    /// It hangs when it sends nothing for so long.
    pub stall: Duration,
}

impl Mongodump {
    /// Reads what `selection` wants of the member into `sink`. Blocks; runs on a thread of its own.
    /// `listed` are the namespaces as the server listed them before.
    ///
    /// # Errors
    /// Whatever mongodump says on its standard error, when it ends badly or stops sending: then
    /// nothing that it sent counts.
    pub fn read(
        &self,
        server: &Server,
        selection: &Selection,
        listed: Vec<Namespace>,
        notes: &Notes,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let database = match selection.databases.as_slice() {
            [one] => Some(one.as_str()),
            [] => None,
            several => {
                notes.add(format!(
                    "mongodump reads one database or all of them: it reads all, and what is not of {} is dropped",
                    several.join(", ")
                ));
                None
            }
        };
        let uri = server.uri_for_mongodump()?;
        let watch = Watch { stall: self.stall, server: server.hello.address.clone() };
        let mut child = child::start(&self.found, &uri, database, watch, server.grant_backup(), cancel)?;
        let demux = Demux::new(child.output()).listed(listed);
        let read = demux.run(&|n| selection.wants(&n.db, &n.collection), sink);
        child.finish(read.map(|_| ()))
    }
}
