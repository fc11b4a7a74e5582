//! Bounds on foreign data and on memory: a few kilobytes can expand to terabytes, or be nested without end.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex};

use bson::{RawBsonRef, RawDocument};

use crate::base::units;

/// A reader that fails after a maximum number of bytes. [`Read::take`] would pretend that the data ends
/// there.
pub struct Limited<R> {
    inner: R,
    left: u64,
    most: u64,
    what: &'static str,
}

impl<R: Read> Limited<R> {
    /// Reads at most `most` bytes of `inner`. The error calls the data `what`.
    pub fn new(inner: R, most: u64, what: &'static str) -> Limited<R> {
        Limited { inner, left: most, most, what }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(out.len());
        let n = self.inner.read(&mut out[..most])?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(too_long(self.what, self.most)),
        }
        Ok(n)
    }
}

/// The largest `metadata.json` in bytes. The options of a collection are at most 16 MiB of BSON, which take
/// up to three times as much as Extended JSON.
pub const LARGEST_METADATA: u64 = 64 << 20;

/// The most memory in bytes for the structure of a dump: file names, metadata, and indexes. A server with
/// 130,000 collections needs about half of it.
const LARGEST_STRUCTURE: u64 = 256 << 20;

/// The size of a map entry in bytes, without its text.
const OVERHEAD: u64 = 128;

/// Counts the bytes of foreign data that are kept until all of it was read.
#[derive(Debug, Default)]
pub struct Structure(u64);

impl Structure {
    /// Counts `bytes` more.
    ///
    /// # Errors
    /// Returns an error if the sum is larger than 256 MiB.
    pub fn keep(&mut self, bytes: usize) -> io::Result<()> {
        self.0 = self.0.saturating_add(bytes as u64).saturating_add(OVERHEAD);
        match self.0 <= LARGEST_STRUCTURE {
            true => Ok(()),
            false => Err(too_long(
                "the list of its collections, with their options and indexes,",
                LARGEST_STRUCTURE,
            )),
        }
    }
}

/// Returns the error for data, called `what`, that is longer than `most` bytes.
pub fn too_long(what: &str, most: u64) -> io::Error {
    let text = format!("{what} is longer than {}, the limit", units::bytes(most));
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The deepest nesting of BSON that is accepted. A server accepts 200 levels by default, and at most 250 (its
/// parameter `maxBSONDepth`); an answer wraps a document in a few more.
pub const DEEPEST: usize = 256;

/// Checks that a document is not nested deeper than [`DEEPEST`] levels, without recursion: code that follows
/// nested documents by recursion would end the process when the stack is full. Malformed parts are not an
/// error here.
///
/// # Errors
/// Returns an error text if the document is nested deeper.
pub fn check_depth(document: &RawDocument) -> Result<(), String> {
    let mut open = vec![document.iter()];
    while let Some(fields) = open.last_mut() {
        let inner = match fields.next() {
            None => {
                open.pop();
                continue;
            }
            Some(Ok((_, RawBsonRef::Document(inner)))) => inner,
            Some(Ok((_, RawBsonRef::Array(inner)))) => match RawDocument::from_bytes(inner.as_bytes()) {
                Ok(inner) => inner,
                Err(_) => continue,
            },
            Some(Ok((_, RawBsonRef::JavaScriptCodeWithScope(code)))) => code.scope,
            Some(_) => continue,
        };
        if open.len() == DEEPEST {
            return Err(format!(
                "it is nested deeper than {DEEPEST} levels, and no MongoDB server accepts such a document"
            ));
        }
        open.push(inner.iter());
    }
    Ok(())
}

/// As [`check_depth`], for a value.
///
/// # Errors
/// Returns an error text if the value is nested deeper.
pub fn check_value_depth(value: RawBsonRef<'_>) -> Result<(), String> {
    match value {
        RawBsonRef::Document(document) => check_depth(document),
        RawBsonRef::Array(items) => RawDocument::from_bytes(items.as_bytes()).map_or(Ok(()), check_depth),
        RawBsonRef::JavaScriptCodeWithScope(code) => check_depth(code.scope),
        _ => Ok(()),
    }
}

/// An amount of memory that threads share. A thread that needs some waits until there is enough.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

/// A share of a budget, which is returned on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// `limit` is in bytes.
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Waits for a share, and blocks the thread. A request for more than the whole budget gets all of it.
    pub fn take(self: &Arc<Budget>, bytes: usize) -> Share {
        let bytes = bytes.min(self.limit);
        let used = self.used.lock().expect("no holder panics");
        let mut used =
            self.freed.wait_while(used, |used| *used + bytes > self.limit).expect("no holder panics");
        *used += bytes;
        Share { budget: self.clone(), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.budget.used.lock().expect("no holder panics") -= self.bytes;
        // Shares differ in size: another waiter may fit where the first one does not.
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    /// A document with this many levels of nesting. `kind` is the BSON type of each field, 3 or 4.
    pub fn nested(levels: usize, kind: u8) -> RawDocumentBuf {
        let mut bytes = Vec::with_capacity(8 * levels);
        for level in 0..levels {
            let len = 5 + 8 * (levels - 1 - level);
            bytes.extend_from_slice(&(len as i32).to_le_bytes());
            if level + 1 < levels {
                bytes.extend_from_slice(&[kind, b'0', 0]);
            }
        }
        bytes.resize(bytes.len() + levels, 0);
        RawDocumentBuf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn deep_documents_and_arrays_are_refused_at_any_depth() {
        for kind in [3, 4] {
            for (levels, right) in
                [(1, true), (200, true), (DEEPEST, true), (DEEPEST + 1, false), (2_000_000, false)]
            {
                let document = nested(levels, kind);
                assert_eq!(check_depth(&document).is_ok(), right, "{levels} levels of type {kind}");
            }
        }
        let mut outer = RawDocumentBuf::new();
        outer.append(bson::raw::cstr!("a"), 1);
        outer.append(bson::raw::cstr!("deep"), nested(DEEPEST, 3));
        assert!(check_depth(&outer).unwrap_err().contains("256 levels"));
        assert!(
            check_value_depth(RawBsonRef::Document(&outer)).is_err()
                && check_value_depth(RawBsonRef::Null).is_ok()
        );
    }

    #[test]
    fn data_up_to_the_limit_is_read_and_longer_data_is_refused() {
        for (len, whole) in [(9_999, true), (10_000, true), (10_001, false), (1_000_000, false)] {
            let read = io::copy(&mut Limited::new(&vec![7; len][..], 10_000, "it"), &mut io::sink());
            assert_eq!(read.is_ok(), whole, "{len}: {read:?}");
        }
    }
}
