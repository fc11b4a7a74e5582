//! A bound on what is read of foreign data: a few kilobytes can expand to terabytes.

use std::io::{self, Read};

use crate::base::units;

/// Fails after a maximum number of bytes; [`Read::take`] would end as if the data ended there.
pub struct Limited<R> {
    inner: R,
    left: u64,
    most: u64,
    what: &'static str,
}

impl<R: Read> Limited<R> {
    /// Reads at most `most` bytes of `inner`. `what` is the data's name in the error.
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

/// The largest `metadata.json` in bytes. The options of a collection are at most 16 MiB of BSON, which take up to three
/// times as much as Extended JSON.
pub const LARGEST_METADATA: u64 = 64 << 20;

/// What the structure of a dump may take in memory, in bytes: the names of its files, metadata, and indexes. A server with
/// 130,000 collections needs about half of it.
pub const LARGEST_STRUCTURE: u64 = 256 << 20;

/// What the entry of a map takes beside its text, in bytes.
const OVERHEAD: u64 = 128;

/// Counts what is kept of foreign data until all of it was read.
#[derive(Debug, Default)]
pub struct Structure(u64);

impl Structure {
    /// Counts `bytes` more that are kept.
    ///
    /// # Errors
    /// Returns an error if it is more than [`LARGEST_STRUCTURE`] in all.
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

/// The error that `what` is longer than `most` bytes.
pub fn too_long(what: &str, most: u64) -> io::Error {
    let text = format!("{what} is longer than {}, and no more is read", units::bytes(most));
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_up_to_the_limit_is_read_and_longer_data_is_refused() {
        for (len, whole) in [(9_999, true), (10_000, true), (10_001, false), (1_000_000, false)] {
            let read = io::copy(&mut Limited::new(&vec![7; len][..], 10_000, "it"), &mut io::sink());
            assert_eq!(read.is_ok(), whole, "{len}: {read:?}");
        }
    }
}
