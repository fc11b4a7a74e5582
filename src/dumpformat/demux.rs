//! Reading mongodump's archive format from a stream into a [`Sink`], which takes one namespace at a time.
//!
//! With one parallel collection, mongodump keeps the documents of a namespace together, except for the last
//! batches of a large one. Documents of namespaces other than the open namespace wait in memory, up to a
//! bound. The reader checks everything that the official reader checks (mongo-tools,
//! `common/archive/parser.go` and `demultiplexer.go`), including the CRC of each namespace before the
//! namespace counts as complete.

use std::collections::BTreeMap;
use std::fmt::Display;
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
    /// The number of bytes of waiting documents.
    waiting: usize,
    /// See [`Demux::mixed`].
    mixed: bool,
    /// See [`Demux::listed`].
    listed: Vec<Namespace>,
}

/// The state of an announced namespace.
#[derive(Default)]
struct Announced {
    /// `db.collection`, for messages.
    name: String,
    /// The place in the sink's prelude; `None` if the namespace is not wanted.
    place: Option<usize>,
    has_documents: bool,
    began: bool,
    /// The sink has all its documents.
    complete: bool,
    /// The checksum so far; `None` when the archive has no more documents of it, and the checksum was right.
    crc: Option<crc_fast::Digest>,
    held: Vec<u8>,
}

impl<R: BufRead> Demux<R> {
    pub fn new(reader: R) -> Demux<R> {
        Demux {
            input: Input { reader, document: Vec::new(), ready: 0 },
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
        let header = self.input.next("its header")?.ok_or_else(|| damaged("it has no header"))?;
        let header = ArchiveHeader {
            server_version: text(header, "server_version")?.into(),
            tool_version: text(header, "tool_version")?.into(),
        };
        let mut structure = Structure::default();
        let mut announced = Vec::new();
        while let Some(row) = self.input.next("a namespace's metadata")? {
            structure.keep(row.as_bytes().len()).map_err(damaged)?;
            let mut namespace = namespace(row, &self.listed)?;
            if versions::has_raw_data(&header.server_version) {
                namespace.buckets = None;
            }
            let key = (namespace.db.clone(), namespace.data_collection().to_string());
            let name = format!("{}.{}", key.0, key.1);
            if self.by_name.insert(key, self.states.len()).is_some() {
                return Err(damaged(format!("it announces {namespace} twice")));
            }
            let wanted = wanted(&namespace);
            self.states.push(Announced {
                name,
                place: wanted.then_some(announced.len()),
                has_documents: namespace.has_documents() || !wanted,
                crc: Some(crc_fast::Digest::new(Crc64Xz)),
                ..Announced::default()
            });
            if wanted {
                announced.push(namespace);
            }
        }
        sink.prelude(announced)?;
        while let Some(header) = self.input.next_block()? {
            let (db, collection) = (text(header, "db")?, text(header, "collection")?);
            let crc = header.get_i64("CRC").map_err(damaged)?;
            let crc = header.get_bool("EOF").map_err(damaged)?.then_some(crc);
            let at = *self.by_name.get(&(db.into(), collection.into())).ok_or_else(|| {
                damaged(format!("it has documents of {db}.{collection}, which it does not announce"))
            })?;
            self.block(at, crc, sink)?;
        }
        match self.states.iter().find(|state| state.crc.is_some()) {
            None => Ok(header),
            Some(state) => Err(damaged(format!("it ends before the end of {}", state.name))),
        }
    }

    /// Reads the documents of a block and its terminator. `crc` is `Some` if the block ends its namespace.
    fn block(&mut self, at: usize, crc: Option<i64>, sink: &mut dyn Sink) -> Result<()> {
        let state = &mut self.states[at];
        let name = state.name.clone();
        if state.crc.is_none() {
            return Err(damaged(format!("documents follow after the end of {name}")));
        }
        state.began = true;
        let place = state.place;
        if self.mixed {
            self.open = place.map(|_| at);
            place.map_or(Ok(()), |place| sink.begin(place))?;
        } else if let Some(place) = place
            && self.open.is_none()
        {
            self.open_next(at, place, sink)?;
        }
        while self.input.next_run()? {
            let state = &mut self.states[at];
            if crc.is_some() {
                return Err(damaged(format!("documents follow after the end of {name}")));
            }
            if !state.has_documents {
                return Err(damaged(format!("the view {name} has documents")));
            }
            let run = self.input.run()?;
            if let Some(digest) = &mut state.crc {
                digest.update(run);
            }
            if self.open == Some(at) {
                hand_on(run, sink)?;
            } else if place.is_some() {
                state.held.extend_from_slice(run);
                self.waiting += run.len();
                if self.waiting > WAITING {
                    return Err(Error::failed(
                        "mongodump interleaves more documents of several collections than this program can hold in memory",
                    )
                    .hint("Use the native engine: BACKUP_ENGINE=native"));
                }
            }
        }
        crc.map_or(Ok(()), |crc| self.close(at, crc, sink))
    }

    /// Opens a namespace in the sink and hands on its waiting documents.
    fn open_next(&mut self, at: usize, place: usize, sink: &mut dyn Sink) -> Result<()> {
        sink.begin(place)?;
        self.open = Some(at);
        let held = std::mem::take(&mut self.states[at].held);
        self.waiting -= held.len();
        hand_on(&held, sink)
    }

    /// Closes a namespace that the archive has closed. The sink is notified if the namespace is open there.
    fn close(&mut self, at: usize, crc: i64, sink: &mut dyn Sink) -> Result<()> {
        let state = &mut self.states[at];
        if state.crc.take().is_none_or(|digest| digest.finalize() as i64 != crc) {
            return Err(damaged(format!("the checksum of {} does not match its documents", state.name)));
        }
        if self.open != Some(at) {
            return Ok(());
        }
        self.complete(at, sink)?;
        // Namespaces that the archive has closed come first, then a namespace that is still being read.
        while !self.mixed
            && let Some((next, place)) = self.waiting_place(true).or_else(|| self.waiting_place(false))
        {
            self.open_next(next, place, sink)?;
            if self.states[next].crc.is_some() {
                break;
            }
            self.complete(next, sink)?;
        }
        Ok(())
    }

    fn complete(&mut self, at: usize, sink: &mut dyn Sink) -> Result<()> {
        self.states[at].complete = true;
        self.open = None;
        sink.end()
    }

    /// Returns the first wanted namespace that has begun and is not complete in the sink. If `closed` is
    /// true, only namespaces that the archive has closed count.
    fn waiting_place(&self, closed: bool) -> Option<(usize, usize)> {
        self.states.iter().enumerate().find_map(|(at, state)| {
            let waits = state.began && !state.complete && !(closed && state.crc.is_some());
            state.place.filter(|_| waits).map(|place| (at, place))
        })
    }
}

/// The namespace that a document announces, if possible as the server listed it.
fn namespace(row: &RawDocument, listed: &[Namespace]) -> Result<Namespace> {
    let (db, collection, metadata) = (text(row, "db")?, text(row, "collection")?, text(row, "metadata")?);
    let same = |n: &&Namespace| n.db == db && n.collection == collection && n.metadata == metadata;
    match listed.iter().find(same) {
        Some(namespace) => Ok(namespace.clone()),
        None => metadata::parse(db, collection, metadata),
    }
}

fn text<'a>(document: &'a RawDocument, key: &str) -> Result<&'a str> {
    document.get_str(key).map_err(damaged)
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

/// The longest document in bytes: 16 MiB, and the 16 KiB more that the server uses internally.
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
    /// Reads the first four bytes and compares them with [`MAGIC`].
    fn magic(&mut self) -> Result<()> {
        let mut magic = [0; 4];
        self.fill(&mut magic, "its first bytes")?;
        if u32::from_le_bytes(magic) != MAGIC {
            return Err(damaged("it does not begin like a mongodump archive"));
        }
        Ok(())
    }

    /// Reads the next block's header. Returns `None` at the end of the stream.
    fn next_block(&mut self) -> Result<Option<&RawDocument>> {
        if self.reader.fill_buf().map_err(read_failed)?.is_empty() {
            return Ok(None);
        }
        self.next("a block's header")?.map(Some).ok_or_else(|| damaged("a block has no header"))
    }

    /// Reads the next document. Returns `None` at a terminator. `what` is the document's name in errors.
    fn next(&mut self, what: &str) -> Result<Option<&RawDocument>> {
        let mut length = [0; 4];
        self.fill(&mut length, what)?;
        if length == TERMINATOR {
            return Ok(None);
        }
        let len = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(5..=LONGEST).contains(&len) {
            return Err(damaged(format!("{what} has the impossible length {}", i32::from_le_bytes(length))));
        }
        self.document.clear();
        self.document.extend_from_slice(&length);
        // Memory is allocated as bytes arrive, because the length may be false.
        let rest = len - length.len();
        let mut next = self.reader.by_ref().take(rest as u64);
        let read = next.read_to_end(&mut self.document).map_err(read_failed)?;
        if read < rest {
            return Err(damaged(format!("it ends within {what}")));
        }
        if self.document.last() != Some(&0) {
            return Err(damaged(format!("{what} does not end like a BSON document")));
        }
        let document = RawDocument::from_bytes(&self.document);
        document.map(Some).map_err(|e| damaged(format!("{what} is not BSON: {e}")))
    }

    /// Moves to the next documents of a block, as many as are in the buffer. Returns false at the block's
    /// terminator.
    fn next_run(&mut self) -> Result<bool> {
        self.reader.consume(self.ready);
        self.ready = whole_documents(self.reader.fill_buf().map_err(read_failed)?);
        Ok(self.ready > 0 || self.next("a document")?.is_some())
    }

    /// Returns the current documents, concatenated.
    fn run(&mut self) -> Result<&[u8]> {
        match self.ready {
            0 => Ok(&self.document),
            ready => Ok(&self.reader.fill_buf().map_err(read_failed)?[..ready]),
        }
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => damaged(format!("it ends within {what}")),
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

fn damaged(why: impl Display) -> Error {
    Error::failed(format!("the archive is damaged or incomplete: {why}"))
}

fn read_failed(error: std::io::Error) -> Error {
    Error::failed("the archive cannot be read").caused_by(error)
}

#[cfg(test)]
mod tests;
