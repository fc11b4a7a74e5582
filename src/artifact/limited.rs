//! A bound on what is read of foreign data: a few kilobytes can expand to terabytes.

use std::io::{self, Read};

use crate::units;

/// Reads at most so many bytes, and then fails; [`Read::take`] would end as if the data ended there.
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
