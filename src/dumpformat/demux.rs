//! Reading mongodump's archive format from a stream, into a [`Sink`] that wants one namespace at a time.
//!
//! mongodump with one parallel collection keeps each namespace together, but for the last batches of
//! a large one; what belongs to another namespace than the open one waits in memory, up to a bound.
//! Everything the official reader checks is checked (mongo-tools, `common/archive/parser.go` and
//! `demultiplexer.go`), and the CRC before the namespace counts as complete.

mod input;

use std::collections::BTreeMap;
use std::io::BufRead;

use crc_fast::CrcAlgorithm::Crc64Xz;

use self::input::{Input, damaged};
pub use self::input::{LONGEST, whole_documents};
use crate::base::bounds::Structure;
use crate::base::error::{Error, Result};
use crate::dumpformat::{Sink, metadata};
use crate::model::namespace::Namespace;
use crate::model::versions;

/// The first four bytes of an archive.
pub const MAGIC: u32 = 0x8199_e26d;
/// What stands where a document's length would: the end of a run of documents.
pub const TERMINATOR: [u8; 4] = [0xff; 4];

/// What waits for its turn is at most this many bytes.
const WAITING: usize = 64 << 20;

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The server's version.
    pub server_version: String,
    /// mongodump's version.
    pub tool_version: String,
}

/// Reads an archive whole.
pub struct Demux<R> {
    input: Input<R>,
    states: Vec<State>,
    by_name: BTreeMap<(String, String), usize>,
    /// The namespace that the sink has open.
    open: Option<usize>,
    waiting: usize,
    /// The sink takes namespaces in turns.
    mixed: bool,
    /// Namespaces as their server listed them.
    listed: Vec<Namespace>,
}

#[derive(Default)]
struct State {
    wanted: bool,
    began: bool,
    closed: bool,
    /// The CRC was right and no document is missing.
    complete: bool,
    crc: Option<crc_fast::Digest>,
    held: Vec<u8>,
}

impl<R: BufRead> Demux<R> {
    /// Reads the archive in `input`.
    pub fn new(input: R) -> Demux<R> {
        Demux {
            input: Input::new(input),
            states: Vec::new(),
            by_name: BTreeMap::new(),
            open: None,
            waiting: 0,
            mixed: false,
            listed: Vec::new(),
        }
    }

    /// Hands documents on as they stand, so that nothing waits in memory: the sink's `begin` says whose
    /// the next ones are, for each block anew, and `end` that this namespace is complete.
    pub fn mixed(mut self) -> Demux<R> {
        self.mixed = true;
        self
    }

    /// Takes options and indexes from `namespaces` where the archive has the same text of them: Extended JSON
    /// cannot express the difference between a constant such as `{$numberLong: "5"}` and a number.
    pub fn listed(mut self, namespaces: Vec<Namespace>) -> Demux<R> {
        self.listed = namespaces;
        self
    }

    /// Reads to the end. Only namespaces that `wanted` accepts go to the sink; the others are read
    /// and checked all the same.
    pub fn run(mut self, wanted: &dyn Fn(&Namespace) -> bool, sink: &mut dyn Sink) -> Result<Header> {
        self.input.magic()?;
        let header = self.header()?;
        let mut structure = Structure::default();
        let mut announced = Vec::new();
        let mut places = Vec::new();
        while self.input.next("a namespace's metadata")? {
            structure.keep(self.input.len()).map_err(|e| damaged(&e.to_string()))?;
            let mut namespace = self.metadata()?;
            if versions::has_raw_data(&header.server_version) {
                namespace.buckets = None;
            }
            let key = (namespace.db.clone(), namespace.data_collection().to_string());
            let wanted = wanted(&namespace);
            if self.by_name.insert(key, self.states.len()).is_some() {
                return Err(damaged(&format!("{namespace} is announced twice")));
            }
            places.push(wanted.then_some(announced.len()));
            self.states.push(State { wanted, crc: Some(crc_fast::Digest::new(Crc64Xz)), ..State::default() });
            if wanted {
                announced.push(namespace);
            }
        }
        let views: Vec<usize> = places
            .iter()
            .enumerate()
            .filter(|(_, p)| p.is_some_and(|p: usize| !announced[p].has_documents()))
            .map(|(i, _)| i)
            .collect();
        sink.prelude(announced)?;
        while self.input.next_block()? {
            self.block(&places, &views, sink)?;
        }
        match self.states.iter().position(|s| !s.closed) {
            None => Ok(header),
            Some(at) => Err(damaged(&format!("it ends before {} is complete", self.name(at)))),
        }
    }

    /// One block: a header, documents, a terminator.
    fn block(&mut self, places: &[Option<usize>], views: &[usize], sink: &mut dyn Sink) -> Result<()> {
        let at = self.block_namespace()?;
        let (end, crc) = self.block_end()?;
        self.states[at].began = true;
        if self.mixed {
            self.open = places[at].is_some().then_some(at);
            places[at].map_or(Ok(()), |place| sink.begin(place))?;
        } else if self.open.is_none() && self.states[at].wanted {
            self.open_next(at, places, sink)?;
        }
        while self.input.next_run()? {
            if end {
                return Err(damaged(&format!("documents follow the end of {}", self.name(at))));
            }
            if views.contains(&at) {
                return Err(damaged(&format!("the view {} has documents", self.name(at))));
            }
            let run = self.input.run()?;
            let state = &mut self.states[at];
            if let Some(digest) = &mut state.crc {
                digest.update(run);
            }
            if self.open == Some(at) {
                hand_on(run, sink)?;
            } else if state.wanted {
                state.held.extend_from_slice(run);
                self.waiting += run.len();
                if self.waiting > WAITING {
                    return Err(Error::failed(
                        "mongodump mixes its collections more than this tool can hold in memory",
                    )
                    .hint("Use the native engine: BACKUP_ENGINE=native"));
                }
            }
        }
        if end {
            self.close(at, crc, places, sink)?;
        }
        Ok(())
    }

    /// Opens a namespace at the sink and hands on what waited.
    fn open_next(&mut self, at: usize, places: &[Option<usize>], sink: &mut dyn Sink) -> Result<()> {
        sink.begin(places[at].expect("only wanted namespaces are opened"))?;
        self.open = Some(at);
        let held = std::mem::take(&mut self.states[at].held);
        self.waiting -= held.len();
        hand_on(&held, sink)
    }

    /// A namespace is closed by the archive; at the sink when its turn has come.
    fn close(&mut self, at: usize, crc: i64, places: &[Option<usize>], sink: &mut dyn Sink) -> Result<()> {
        let digest =
            self.states[at].crc.take().ok_or_else(|| damaged(&format!("{} ends twice", self.name(at))))?;
        if digest.finalize() as i64 != crc {
            return Err(damaged(&format!("the checksum of {} does not fit its documents", self.name(at))));
        }
        self.states[at].closed = true;
        if self.open != Some(at) {
            return Ok(());
        }
        sink.end()?;
        self.states[at].complete = true;
        self.open = None;
        if self.mixed {
            return Ok(());
        }
        // Whatever waited in full meanwhile, then the one that is still being read.
        while let Some(next) = self.states.iter().position(|s| s.wanted && s.began && !s.complete) {
            let whole = self.states.iter().position(|s| s.wanted && s.closed && !s.complete);
            let next = whole.unwrap_or(next);
            self.open_next(next, places, sink)?;
            if !self.states[next].closed {
                break;
            }
            sink.end()?;
            self.states[next].complete = true;
            self.open = None;
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Header> {
        if !self.input.next("its header")? {
            return Err(damaged("it has no header"));
        }
        let header = self.input.parsed("its header")?;
        let text = |key: &str| header.get_str(key).map(str::to_string).map_err(|e| damaged(&e.to_string()));
        Ok(Header { server_version: text("server_version")?, tool_version: text("tool_version")? })
    }

    fn metadata(&self) -> Result<Namespace> {
        let row = self.input.parsed("a namespace's metadata")?;
        let text = |key: &str| row.get_str(key).map_err(|e| damaged(&e.to_string()));
        let (db, collection, metadata) = (text("db")?, text("collection")?, text("metadata")?);
        let same = |n: &&Namespace| n.db == db && n.collection == collection && n.metadata == metadata;
        match self.listed.iter().find(same) {
            Some(namespace) => Ok(namespace.clone()),
            None => metadata::parse(db, collection, metadata),
        }
    }

    fn block_namespace(&self) -> Result<usize> {
        let header = self.input.parsed("a block's header")?;
        let text = |key: &str| header.get_str(key).map_err(|e| damaged(&e.to_string()));
        let key = (text("db")?.to_string(), text("collection")?.to_string());
        let at = *self
            .by_name
            .get(&key)
            .ok_or_else(|| damaged(&format!("{}.{} was not announced", key.0, key.1)))?;
        if self.states[at].closed {
            return Err(damaged(&format!("{}.{} goes on after its end", key.0, key.1)));
        }
        Ok(at)
    }

    fn block_end(&self) -> Result<(bool, i64)> {
        let header = self.input.parsed("a block's header")?;
        let end = header.get_bool("EOF").map_err(|e| damaged(&e.to_string()))?;
        let crc = header.get_i64("CRC").map_err(|e| damaged(&e.to_string()))?;
        Ok((end, crc))
    }

    fn name(&self, at: usize) -> String {
        let found = self.by_name.iter().find(|(_, place)| **place == at);
        found.map(|((db, collection), _)| format!("{db}.{collection}")).unwrap_or_default()
    }
}

/// Gives the sink one document after the other of a run.
fn hand_on(mut run: &[u8], sink: &mut dyn Sink) -> Result<()> {
    while let Some(len) = run.first_chunk::<4>() {
        let (document, after) = run.split_at(i32::from_le_bytes(*len) as usize);
        sink.document(document)?;
        run = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
