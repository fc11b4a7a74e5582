//! Decryption of age files in a store, also of single ranges.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::Arc;

use super::age_header::{AgeHeader, CHUNK, ChunkKey, NONCE, SEALED, TAG, Unopened, chunk_nonce};
use crate::base::keys::Identities;

/// An age file whose key was found. It decrypts ranges of the stored file.
#[derive(Debug, Clone)]
pub struct Opener {
    key: Arc<ChunkKey>,
    /// The position of the first chunk in the stored file, in bytes.
    begin: u64,
    /// The length of the plaintext in bytes.
    plain: u64,
    /// The number of chunks, at least 1.
    chunks: u64,
}

impl Opener {
    /// Finds the key of an age file of `size` bytes. `begin` is its beginning, as [`AgeHeader::parse`] takes it. The length of
    /// the plaintext is proved when the last chunk is decrypted.
    pub fn new(begin: &[u8], size: u64, identities: &Identities) -> Result<Opener, Unopened> {
        let header = AgeHeader::parse(begin)?;
        let begin = (header.length + NONCE) as u64;
        let sealed = size.saturating_sub(begin);
        let chunks = sealed.div_ceil(SEALED as u64);
        let tags = chunks * TAG as u64;
        // Only the only chunk may be empty.
        let least = if chunks == 1 { 0 } else { 1 };
        let last = sealed.checked_sub((chunks.max(1) - 1) * SEALED as u64 + TAG as u64);
        if chunks == 0 || last.is_none_or(|last| last < least) {
            return Err(Unopened::damaged("it was cut off"));
        }
        let key = Arc::new(header.key(identities)?);
        Ok(Opener { key, begin, plain: sealed - tags, chunks })
    }

    /// The length of the plaintext in bytes.
    pub fn plain_size(&self) -> u64 {
        self.plain
    }

    /// The range of the stored file that [`open`](Opener::open) needs for a range of the plaintext.
    pub fn stored(&self, plain: &Range<u64>) -> Range<u64> {
        let (first, last) = self.chunks(plain);
        let size = self.begin + self.plain + self.chunks * TAG as u64;
        self.begin + first * SEALED as u64..size.min(self.begin + (last + 1) * SEALED as u64)
    }

    /// The numbers of the first and the last chunk of a range of the plaintext.
    fn chunks(&self, plain: &Range<u64>) -> (u64, u64) {
        let last = plain.end.saturating_sub(1).max(plain.start) / CHUNK as u64;
        (plain.start / CHUNK as u64, last.min(self.chunks - 1))
    }

    /// Decrypts a range of the plaintext. `bytes` is the content of [`stored`](Opener::stored) for this range.
    ///
    /// # Errors
    /// Returns an error that names the first damaged chunk by its position in the stored file.
    pub fn open(&self, plain: &Range<u64>, mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let (first, _) = self.chunks(plain);
        let mut filled = 0;
        for (n, start) in (0..bytes.len()).step_by(SEALED).enumerate() {
            let (number, end) = (first + n as u64, bytes.len().min(start + SEALED));
            let nonce = chunk_nonce(number, number + 1 == self.chunks);
            let opened = self.key.open(nonce, &mut bytes[start..end]).map(|opened| opened.len());
            let Some(len) = opened else {
                return Err(self.changed_at(number));
            };
            bytes.copy_within(start..start + len, filled);
            filled += len;
        }
        let skipped = (plain.start - first * CHUNK as u64) as usize;
        let len = (plain.end - plain.start) as usize;
        if filled < skipped + len {
            return Err(format!("the encrypted file ends before byte {} of its content", plain.end));
        }
        bytes.truncate(skipped + len);
        bytes.drain(..skipped);
        Ok(bytes)
    }

    fn changed_at(&self, number: u64) -> String {
        let at = self.begin + number * SEALED as u64;
        format!("the encrypted bytes from byte {at} on were changed, moved or cut off")
    }

    /// Decrypts the stored file as a stream. The reader fails at the first damaged chunk, and at the end of a file that was cut
    /// off.
    pub fn reader<R: Read>(&self, stored: R) -> UnsealedReader<R> {
        UnsealedReader { opener: self.clone(), stored, at: 0, plain: Vec::new(), taken: 0 }
    }

    /// A range of the last chunk. When it is decrypted, the length of the file is proved.
    pub fn end(&self) -> Range<u64> {
        (self.chunks - 1) * CHUNK as u64..self.plain
    }
}

/// The plaintext of an age file whose stored bytes are read from `R`.
pub struct UnsealedReader<R> {
    opener: Opener,
    stored: R,
    /// The position in the stored file.
    at: u64,
    /// The plaintext of a chunk.
    plain: Vec<u8>,
    /// How much of `plain` was read.
    taken: usize,
}

impl<R: Read> UnsealedReader<R> {
    /// Reads and decrypts the next chunk. `plain` stays empty at the end.
    fn next_chunk(&mut self) -> io::Result<()> {
        let (begin, size) = (self.opener.begin, self.opener.stored(&self.opener.end()).end);
        if self.at < begin {
            self.at += io::copy(&mut (&mut self.stored).take(begin - self.at), &mut io::sink())?;
        }
        self.plain.clear();
        self.taken = 0;
        if self.at >= size {
            return Ok(());
        }
        let number = self.at.saturating_sub(begin) / SEALED as u64;
        let length = (SEALED as u64).min(size - self.at);
        self.at += (&mut self.stored).take(length).read_to_end(&mut self.plain)? as u64;
        let nonce = chunk_nonce(number, number + 1 == self.opener.chunks);
        let opened = self.opener.key.open(nonce, &mut self.plain).map(|opened| opened.len());
        let length = opened.ok_or_else(|| io::Error::other(self.opener.changed_at(number)))?;
        self.plain.truncate(length);
        Ok(())
    }
}

impl<R: Read> BufRead for UnsealedReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.plain.len() {
            self.next_chunk()?;
        }
        Ok(&self.plain[self.taken..])
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
    }
}

impl<R: Read> Read for UnsealedReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// Decrypts a whole age file in memory.
pub fn unseal(bytes: &[u8], identities: &Identities) -> Result<Vec<u8>, Unopened> {
    let opener = Opener::new(bytes, bytes.len() as u64, identities)?;
    let whole = 0..opener.plain_size();
    let sealed = bytes[opener.begin as usize..].to_vec();
    opener.open(&whole, sealed).map_err(Unopened::Damaged)
}

#[cfg(test)]
mod tests;
