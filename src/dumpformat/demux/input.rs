//! The stream of an archive as a sequence of BSON documents and terminators. Whole documents are
//! looked at where they lie in the reader's buffer; only what crosses its end is put together.

use std::io::{BufRead, ErrorKind, Read};

use bson::RawDocument;

use super::{MAGIC, TERMINATOR};
use crate::base::error::{Error, Result};

/// The longest document: 16 MiB and what the server allows itself on top.
pub const LONGEST: usize = (16 << 20) + (16 << 10);

/// The stream.
pub struct Input<R> {
    reader: R,
    /// The document that was put together.
    document: Vec<u8>,
    /// Bytes of whole documents at the front of the reader's buffer, which are being looked at.
    ready: usize,
}

impl<R: BufRead> Input<R> {
    pub fn new(reader: R) -> Input<R> {
        Input { reader, document: Vec::new(), ready: 0 }
    }

    /// Reads the first four bytes, which say what it is.
    pub fn magic(&mut self) -> Result<()> {
        let mut magic = [0; 4];
        self.fill(&mut magic, "its first bytes")?;
        if u32::from_le_bytes(magic) != MAGIC {
            return Err(damaged("it does not begin as a mongodump archive"));
        }
        Ok(())
    }

    /// Reads the next block's header; false at the end of the stream.
    pub fn next_block(&mut self) -> Result<bool> {
        if self.reader.fill_buf().map_err(read_failed)?.is_empty() {
            return Ok(false);
        }
        if !self.next("a block's header")? {
            return Err(damaged("a block has no header"));
        }
        Ok(true)
    }

    /// Reads the next document; false at a terminator.
    pub fn next(&mut self, what: &str) -> Result<bool> {
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
        // Room is made as bytes arrive, not as the length claims.
        let rest = len - length.len();
        let mut next = self.reader.by_ref().take(rest as u64);
        let read = next.read_to_end(&mut self.document).map_err(read_failed)?;
        if read < rest {
            return Err(damaged(&format!("it ends in the middle of {what}")));
        }
        if self.document.last() != Some(&0) {
            return Err(damaged(&format!("{what} does not end as BSON does")));
        }
        Ok(true)
    }

    /// Moves to the next documents of a block, as many as are there; false at its terminator.
    pub fn next_run(&mut self) -> Result<bool> {
        self.reader.consume(self.ready);
        self.ready = whole_documents(self.reader.fill_buf().map_err(read_failed)?);
        if self.ready > 0 { Ok(true) } else { self.next("a document") }
    }

    /// These documents, one after the other.
    pub fn run(&mut self) -> Result<&[u8]> {
        match self.ready {
            0 => Ok(&self.document),
            ready => Ok(&self.reader.fill_buf().map_err(read_failed)?[..ready]),
        }
    }

    /// The length of the document that was read last.
    pub fn len(&self) -> usize {
        self.document.len()
    }

    /// The document that was read last.
    pub fn parsed(&self, what: &str) -> Result<&RawDocument> {
        RawDocument::from_bytes(&self.document).map_err(|e| damaged(&format!("{what} is not BSON: {e}")))
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => damaged(&format!("it ends in the middle of {what}")),
            _ => read_failed(e),
        })
    }
}

/// The length of the whole documents at the front of `bytes`.
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

pub fn damaged(why: &str) -> Error {
    Error::failed(format!("the archive is damaged or incomplete: {why}"))
}

fn read_failed(error: std::io::Error) -> Error {
    // An error of ours that travelled through the reader keeps its words.
    Error::failed("the archive cannot be read").caused_by(error)
}
