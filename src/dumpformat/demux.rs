//! Reading mongodump's archive format from a stream into a [`Sink`], which takes one namespace at a time.
//!
//! With one parallel collection, mongodump keeps the documents of a namespace together, except for the last
//! batches of a large one. Documents of other namespaces than the open one wait in memory, up to a bound. The
//! reader checks everything that the official one checks (mongo-tools, `common/archive/parser.go` and
//! `demultiplexer.go`), including the CRC of each namespace before the namespace counts as complete.

use std::collections::BTreeMap;
use std::io::{BufRead, ErrorKind, Read};

use bson::RawDocument;
use crc_fast::CrcAlgorithm::Crc64Xz;

use crate::base::bounds::Structure;
use crate::base::error::{Error, Result};
use crate::dumpformat::{Sink, metadata};
use crate::model::namespace::Namespace;
use crate::model::versions;

/// The first four bytes of an archive.
pub const MAGIC: u32 = 0x8199_e26d;
/// Ends a run of documents. A reader finds it where the length of the next document would be.
pub const TERMINATOR: [u8; 4] = [0xff; 4];

/// The most bytes of documents that wait until their namespace is opened.
const WAITING: usize = 64 << 20;

/// The versions in an archive's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveHeader {
    pub server_version: String,
    /// mongodump's version.
    pub tool_version: String,
}

/// Reads an archive.
pub struct Demux<R> {
    input: Input<R>,
    states: Vec<Announced>,
    by_name: BTreeMap<(String, String), usize>,
    /// The namespace that the sink has open.
    open: Option<usize>,
    waiting: usize,
    /// See [`Demux::mixed`].
    mixed: bool,
    /// See [`Demux::listed`].
    listed: Vec<Namespace>,
}

/// The state of an announced namespace.
#[derive(Default)]
struct Announced {
    wanted: bool,
    began: bool,
    /// The archive has no more documents of it, and the CRC was right.
    closed: bool,
    /// The sink has all its documents.
    complete: bool,
    crc: Option<crc_fast::Digest>,
    held: Vec<u8>,
}

impl<R: BufRead> Demux<R> {
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

    /// Hands on documents in the order of the archive, so that none waits in memory. The sink's `begin` is
    /// called for each block, and `end` when the namespace is complete.
    pub fn mixed(mut self) -> Demux<R> {
        self.mixed = true;
        self
    }

    /// Takes options and indexes from `namespaces`, as the server listed them, if the archive has the same
    /// text. Extended JSON cannot express the difference between a constant such as `{$numberLong: "5"}` and
    /// a number.
    pub fn listed(mut self, namespaces: Vec<Namespace>) -> Demux<R> {
        self.listed = namespaces;
        self
    }

    /// Reads the archive to its end. Only namespaces that `wanted` accepts go to the sink; the others are
    /// also checked.
    ///
    /// # Errors
    /// Returns an error if the archive is damaged, or the error of the sink.
    pub fn run(mut self, wanted: &dyn Fn(&Namespace) -> bool, sink: &mut dyn Sink) -> Result<ArchiveHeader> {
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
                return Err(damaged(&format!("it announces {namespace} twice")));
            }
            places.push(wanted.then_some(announced.len()));
            self.states.push(Announced {
                wanted,
                crc: Some(crc_fast::Digest::new(Crc64Xz)),
                ..Announced::default()
            });
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
            Some(at) => Err(damaged(&format!("it ends before the end of {}", self.name(at)))),
        }
    }

    /// Reads a block whose header was read: documents and a terminator.
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
                return Err(damaged(&format!("documents follow after the end of {}", self.name(at))));
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
                        "mongodump mixes the documents of several collections more than this tool can hold in memory",
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

    /// Opens a namespace in the sink and hands on its waiting documents.
    fn open_next(&mut self, at: usize, places: &[Option<usize>], sink: &mut dyn Sink) -> Result<()> {
        sink.begin(places[at].expect("only wanted namespaces are opened"))?;
        self.open = Some(at);
        let held = std::mem::take(&mut self.states[at].held);
        self.waiting -= held.len();
        hand_on(&held, sink)
    }

    /// Closes a namespace that the archive has closed. The sink gets its end when it is open there.
    fn close(&mut self, at: usize, crc: i64, places: &[Option<usize>], sink: &mut dyn Sink) -> Result<()> {
        let digest =
            self.states[at].crc.take().ok_or_else(|| damaged(&format!("{} ends twice", self.name(at))))?;
        if digest.finalize() as i64 != crc {
            return Err(damaged(&format!("the checksum of {} does not match its documents", self.name(at))));
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
        // First namespaces that wait in full, then one that is still being read.
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

    fn header(&mut self) -> Result<ArchiveHeader> {
        if !self.input.next("its header")? {
            return Err(damaged("it has no header"));
        }
        let header = self.input.parsed("its header")?;
        let text = |key: &str| header.get_str(key).map(str::to_string).map_err(|e| damaged(&e.to_string()));
        Ok(ArchiveHeader { server_version: text("server_version")?, tool_version: text("tool_version")? })
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
        let at = *self.by_name.get(&key).ok_or_else(|| {
            damaged(&format!("it has documents of {}.{}, which it does not announce", key.0, key.1))
        })?;
        if self.states[at].closed {
            return Err(damaged(&format!("documents follow after the end of {}.{}", key.0, key.1)));
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

/// Hands on the documents of a run.
fn hand_on(mut run: &[u8], sink: &mut dyn Sink) -> Result<()> {
    while let Some(len) = run.first_chunk::<4>() {
        let (document, after) = run.split_at(i32::from_le_bytes(*len) as usize);
        sink.document(document)?;
        run = after;
    }
    Ok(())
}

/// The longest document in bytes: 16 MiB, and 16 KiB that the server allows itself on top.
pub const LONGEST: usize = (16 << 20) + (16 << 10);

/// The stream of an archive as a sequence of BSON documents and terminators. Whole documents are examined in
/// the reader's buffer; a document that crosses the end of the buffer is copied.
struct Input<R> {
    reader: R,
    /// The document that was copied.
    document: Vec<u8>,
    /// The length of the whole documents at the front of the reader's buffer.
    ready: usize,
}

impl<R: BufRead> Input<R> {
    fn new(reader: R) -> Input<R> {
        Input { reader, document: Vec::new(), ready: 0 }
    }

    /// Reads the first four bytes and compares them with [`MAGIC`].
    fn magic(&mut self) -> Result<()> {
        let mut magic = [0; 4];
        self.fill(&mut magic, "its first bytes")?;
        if u32::from_le_bytes(magic) != MAGIC {
            return Err(damaged("it does not begin like a mongodump archive"));
        }
        Ok(())
    }

    /// Reads the next block's header. Returns false at the end of the stream.
    fn next_block(&mut self) -> Result<bool> {
        if self.reader.fill_buf().map_err(read_failed)?.is_empty() {
            return Ok(false);
        }
        if !self.next("a block's header")? {
            return Err(damaged("a block has no header"));
        }
        Ok(true)
    }

    /// Reads the next document. Returns false at a terminator. `what` is the document's name in errors.
    fn next(&mut self, what: &str) -> Result<bool> {
        let mut length = [0; 4];
        self.fill(&mut length, what)?;
        if length == TERMINATOR {
            return Ok(false);
        }
        let len = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(5..=LONGEST).contains(&len) {
            return Err(damaged(&format!("{what} has the impossible length {}", i32::from_le_bytes(length))));
        }
        self.document.clear();
        self.document.extend_from_slice(&length);
        // Memory is allocated as bytes arrive, not as the length claims.
        let rest = len - length.len();
        let mut next = self.reader.by_ref().take(rest as u64);
        let read = next.read_to_end(&mut self.document).map_err(read_failed)?;
        if read < rest {
            return Err(damaged(&format!("it ends within {what}")));
        }
        if self.document.last() != Some(&0) {
            return Err(damaged(&format!("{what} does not end like a BSON document")));
        }
        Ok(true)
    }

    /// Moves to the next documents of a block, as many as are in the buffer. Returns false at the block's
    /// terminator.
    fn next_run(&mut self) -> Result<bool> {
        self.reader.consume(self.ready);
        self.ready = whole_documents(self.reader.fill_buf().map_err(read_failed)?);
        if self.ready > 0 { Ok(true) } else { self.next("a document") }
    }

    /// Returns the current documents, concatenated.
    fn run(&mut self) -> Result<&[u8]> {
        match self.ready {
            0 => Ok(&self.document),
            ready => Ok(&self.reader.fill_buf().map_err(read_failed)?[..ready]),
        }
    }

    /// Returns the length of the last document.
    fn len(&self) -> usize {
        self.document.len()
    }

    /// Returns the last document.
    fn parsed(&self, what: &str) -> Result<&RawDocument> {
        RawDocument::from_bytes(&self.document).map_err(|e| damaged(&format!("{what} is not BSON: {e}")))
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => damaged(&format!("it ends within {what}")),
            _ => read_failed(e),
        })
    }
}

/// Returns the length of the whole documents at the front of `bytes`.
pub fn whole_documents(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(len) = rest.first_chunk::<4>() {
        let len = usize::try_from(i32::from_le_bytes(*len)).unwrap_or(0);
        match rest.split_at_checked(len) {
            Some((document, after)) if (5..=LONGEST).contains(&len) && document.ends_with(&[0]) => {
                rest = after
            }
            _ => break,
        }
    }
    bytes.len() - rest.len()
}

fn damaged(why: &str) -> Error {
    Error::failed(format!("the archive is damaged or incomplete: {why}"))
}

fn read_failed(error: std::io::Error) -> Error {
    Error::failed("the archive cannot be read").caused_by(error)
}

#[cfg(test)]
mod tests;
