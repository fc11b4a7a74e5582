//! Runs of documents, as readers of segments hand them on.

use std::io;

use crate::base::bounds::Share;

/// The number of bytes that are decompressed before they are hashed and handed on. A decoder returns small
/// pieces, and hashing is faster on large ones.
pub(super) const RUN: usize = 1 << 20;
/// The longest run of documents, in bytes, that does not count towards the budget for large documents.
pub const ORDINARY: usize = 2 * RUN;

/// Whole documents, concatenated.
#[derive(Debug)]
pub struct DocumentRun {
    pub documents: Vec<u8>,
    /// The room that a large document takes in the budget of its reader.
    _room: Option<Share>,
}

impl DocumentRun {
    pub(super) fn new(documents: Vec<u8>, room: Option<Share>) -> DocumentRun {
        DocumentRun { documents, _room: room }
    }
}

/// The size of the buffer for documents of this length in bytes. Fewer documents than [`ORDINARY`] bytes do not fill it.
pub(super) fn buffer_size(expected: u64) -> usize {
    usize::try_from(expected.saturating_add(2)).map_or(ORDINARY, |bytes| bytes.min(ORDINARY))
}

/// The message about compressed bytes that a decoder rejects.
pub fn undecodable(error: &io::Error) -> String {
    format!("the data cannot be decompressed: {error}")
}
