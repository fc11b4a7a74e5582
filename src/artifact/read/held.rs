//! Documents that are handed on only when they are known to be right, for artifacts that are in several places.
//!
//! A segment is compared with its BLAKE3 when all of it was read, and its documents do not wait for that. The checksums of the pieces
//! that it was compressed in (1 MiB, or one longer document) bound the damage: [`documents`] holds documents back until their piece
//! was compared with its checksum. If a later piece is damaged, [`Resumed`] goes on with the same segment of another place, after
//! the documents that were handed on.

use std::io::BufRead;
use std::sync::Arc;

use super::runs::{DocumentRun, ORDINARY, RUN, buffer_size, undecodable};
use crate::artifact::codec::PieceMemory;
use crate::base::bounds::{Budget, Share};
use crate::base::units::several;
use crate::config::choices::Codec;
use crate::dumpformat::demux::{LONGEST, whole_documents};
use crate::model::tally::Tally;

/// The longest piece in bytes, together with the beginning of a document from the piece before it.
const LARGEST: usize = LONGEST + ORDINARY;

/// Does the same as [`documents`](super::segment::documents) of segments, for at most `most` bytes, but hands documents on only when
/// the checksums of their pieces were compared.
///
/// # Errors
/// Returns an error if the pieces cannot be read, have no checksums, or contain anything but whole documents.
pub(super) fn documents(
    pieces: &mut dyn BufRead,
    codec: Codec,
    most: u64,
    large: Option<&Arc<Budget>>,
    take: &mut dyn FnMut(Vec<u8>, Option<Share>),
) -> Result<(Tally, String), String> {
    let size = buffer_size(most);
    let mut held = Held {
        buffer: vec![0; size],
        size,
        filled: 0,
        checked: 0,
        room: None,
        tally: Tally::default(),
        hasher: blake3::Hasher::new(),
    };
    let (mut memory, mut total) = (PieceMemory::default(), 0);
    while let Some(mut piece) = codec.piece(pieces, &mut memory).map_err(|e| undecodable(&e))? {
        loop {
            if held.filled == held.buffer.len() {
                held.grow(large, take)?;
            }
            let n = piece.read(&mut held.buffer[held.filled..]).map_err(|e| undecodable(&e))?;
            if n == 0 {
                break;
            }
            held.filled += n;
            total += n as u64;
            if total > most {
                return Err(format!("it is longer than {}", several(most, "byte")));
            }
        }
        held.checked = held.filled;
        if held.checked >= RUN {
            held.hand_on(take)?;
        }
    }
    held.hand_on(take)?;
    match held.filled {
        0 => Ok((held.tally, held.hasher.finalize().to_hex().to_string())),
        _ => Err("the last document is incomplete".into()),
    }
}

/// Documents that wait for the checksum of their piece.
struct Held {
    buffer: Vec<u8>,
    /// The size of an empty buffer.
    size: usize,
    /// The length of the documents in the buffer. The rest is free.
    filled: usize,
    /// The length of the pieces in the buffer whose checksums were compared.
    checked: usize,
    /// The room for the long document at the beginning of the buffer.
    room: Option<Share>,
    tally: Tally,
    hasher: blake3::Hasher,
}

impl Held {
    /// Makes room for more bytes.
    fn grow(
        &mut self,
        large: Option<&Arc<Budget>>,
        take: &mut dyn FnMut(Vec<u8>, Option<Share>),
    ) -> Result<(), String> {
        self.hand_on(take)?;
        if self.filled < self.buffer.len() {
            return Ok(());
        }
        let length = self.buffer.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes) as usize);
        if !(5..=LONGEST).contains(&length) {
            return Err("some bytes are not a BSON document".into());
        }
        // A piece may have other documents after a long one.
        let wanted = if length > self.filled { length } else { (self.filled + ORDINARY).min(LARGEST) };
        if wanted <= self.filled {
            return Err("a compressed block is longer than any document".into());
        }
        if self.room.is_none() && length > ORDINARY {
            self.room = large.map(|budget| budget.take(length));
        }
        self.buffer.reserve_exact(wanted - self.filled);
        self.buffer.resize(wanted, 0);
        Ok(())
    }

    /// Hands on the whole documents whose pieces were compared with their checksums.
    fn hand_on(&mut self, take: &mut dyn FnMut(Vec<u8>, Option<Share>)) -> Result<(), String> {
        loop {
            let length = run_length(&self.buffer[..self.checked]);
            if length == 0 {
                return Ok(());
            }
            let run = &self.buffer[..length];
            self.hasher.update(run);
            self.tally += Tally::of_all(run).map_err(|e| e.chain())?;
            let rest = self.filled - length;
            let mut next = vec![0; rest.max(self.size)];
            next[..rest].copy_from_slice(&self.buffer[length..self.filled]);
            self.buffer.truncate(length);
            take(std::mem::replace(&mut self.buffer, next), self.room.take());
            self.filled = rest;
            self.checked -= length;
        }
    }
}

/// The length of the next run: whole documents of at most [`ORDINARY`] bytes, or one longer document.
fn run_length(bytes: &[u8]) -> usize {
    match whole_documents(&bytes[..bytes.len().min(ORDINARY)]) {
        0 => {
            let length = bytes.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes) as usize);
            bytes.get(..length).map_or(0, whole_documents)
        }
        length => length,
    }
}

/// Hands documents on that are read in several attempts, each from the beginning.
pub struct Resumed<'a> {
    take: &'a mut dyn FnMut(DocumentRun),
    handed_on: u64,
    hasher: blake3::Hasher,
    /// How many bytes of this attempt were handed on by an earlier one.
    skip: u64,
    skipped: blake3::Hasher,
    differs: bool,
}

impl<'a> Resumed<'a> {
    pub fn new(take: &'a mut dyn FnMut(DocumentRun)) -> Resumed<'a> {
        let (hasher, skipped) = (blake3::Hasher::new(), blake3::Hasher::new());
        Resumed { take, handed_on: 0, hasher, skip: 0, skipped, differs: false }
    }

    /// Begins an attempt.
    pub fn begin(&mut self) {
        self.skip = self.handed_on;
        self.skipped.reset();
    }

    /// Takes the next documents of the attempt.
    pub fn take(&mut self, mut run: DocumentRun) {
        if self.skip > 0 {
            let known = run.documents.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skipped.update(&run.documents[..known]);
            self.skip -= known as u64;
            if self.skip == 0 {
                self.differs |= self.skipped.finalize() != self.hasher.finalize();
            }
            run.documents.drain(..known);
        }
        if self.differs || run.documents.is_empty() {
            return;
        }
        self.hasher.update(&run.documents);
        self.handed_on += run.documents.len() as u64;
        (self.take)(run);
    }

    /// Ends a successful attempt.
    ///
    /// # Errors
    /// Returns an error if the documents of an earlier attempt are not the beginning of this one.
    pub fn end(&self) -> Result<(), String> {
        match self.differs || self.skip > 0 {
            true => Err("its beginning differs from the documents that another place gave".into()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bson::rawdoc;

    use super::super::segment;
    use super::*;
    use crate::artifact::read::segment::large_documents;

    const CODECS: [Codec; 2] = [Codec::Gzip { level: 1 }, Codec::Zstd { level: 1 }];

    /// Documents with texts of these lengths.
    fn of_lengths(lengths: &[usize]) -> Vec<u8> {
        let text = |n: usize| format!("{n} ").repeat(n / 9);
        let rows = lengths.iter().enumerate();
        rows.flat_map(|(at, n)| rawdoc! {"_id": at as i64, "text": text(*n)}.into_bytes()).collect()
    }

    /// The documents in pieces of at most this many bytes.
    fn packed(codec: Codec, raw: &[u8], piece: usize) -> Vec<u8> {
        let (mut encoder, mut out, mut all) = (codec.encoder().unwrap(), Vec::new(), Vec::new());
        for raw in raw.chunks(piece) {
            encoder.encode(raw, &mut out).unwrap();
            all.extend_from_slice(&out);
        }
        all
    }

    type Found = (Result<(Tally, String), String>, Vec<Vec<u8>>);

    fn read(codec: Codec, packed: &[u8]) -> Found {
        let (mut runs, large) = (Vec::new(), large_documents());
        let mut pieces = packed;
        let found = documents(&mut pieces, codec, 1 << 30, Some(&large), &mut |run, _| runs.push(run));
        (found, runs)
    }

    #[test]
    fn documents_and_their_hash_are_those_of_the_ordinary_reader() {
        let small: Vec<usize> = (0..9000).map(|n| n % 700).collect();
        let large = [10, 3 << 20, 20, 5_000_000, 5_000_000, 30, 16 << 20, 1];
        for (lengths, piece) in
            [(&small[..], 1 << 20), (&small, 999), (&large, 1 << 20), (&large, 2 << 20), (&large, 12_345)]
        {
            let raw = of_lengths(lengths);
            for codec in CODECS {
                let packed = packed(codec, &raw, piece);
                let mut stream = codec.stream(&packed[..]).take(u64::MAX);
                let wanted = segment::documents(&mut stream, 1 << 30, None, &mut |_, _| {}).unwrap();
                let (found, runs) = read(codec, &packed);
                assert_eq!(found.unwrap(), wanted, "{piece}");
                assert!(
                    runs.iter()
                        .all(|run| run.len() <= ORDINARY || Tally::of_all(run).unwrap().documents == 1)
                );
                assert_eq!(runs.concat(), raw);
            }
        }
    }

    #[test]
    fn pieces_without_a_checksum_are_refused() {
        let packed = zstd::encode_all(&of_lengths(&[100])[..], 1).unwrap();
        let (found, runs) = read(CODECS[1], &packed);
        assert!(found.unwrap_err().contains("checksum") && runs.is_empty());
    }

    #[test]
    fn no_byte_of_a_damaged_piece_is_handed_on() {
        let raw = of_lengths(&[100; 400]);
        for codec in CODECS {
            let whole = packed(codec, &raw, 5_000);
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                let (_, runs) = read(codec, &damaged);
                assert!(raw.starts_with(&runs.concat()), "{codec:?} {at}");
            }
        }
    }

    #[test]
    fn an_attempt_goes_on_after_the_documents_that_were_handed_on() {
        let raw = of_lengths(&[100; 30]);
        let one = raw.len() / 30;
        let run = |range: std::ops::Range<usize>| {
            DocumentRun::new(raw[range.start * one..range.end * one].to_vec(), None)
        };
        let mut out = Vec::new();
        let mut take = |run: DocumentRun| out.extend_from_slice(&run.documents);
        let mut resumed = Resumed::new(&mut take);
        resumed.begin();
        resumed.take(run(0..3));
        resumed.take(run(3..9));
        resumed.begin();
        resumed.take(run(0..5));
        resumed.begin();
        for from in (0..30).step_by(6) {
            resumed.take(run(from..from + 6));
        }
        assert_eq!(resumed.end(), Ok(()));
        assert_eq!(out, raw);
    }

    #[test]
    fn an_attempt_with_another_beginning_hands_nothing_on() {
        let (raw, other) = (of_lengths(&[100; 9]), of_lengths(&[101; 9]));
        for (second, end) in [(other.clone(), 2), (raw[..raw.len() / 9].to_vec(), 1)] {
            let mut out = Vec::new();
            let mut take = |run: DocumentRun| out.extend_from_slice(&run.documents);
            let mut resumed = Resumed::new(&mut take);
            resumed.begin();
            resumed.take(DocumentRun::new(raw.clone(), None));
            resumed.begin();
            for _ in 0..end {
                resumed.take(DocumentRun::new(second.clone(), None));
            }
            assert!(resumed.end().is_err());
            assert_eq!(out, raw);
        }
    }
}
