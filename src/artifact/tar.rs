//! Writing the tar of a mongodump directory as a stream, and reading foreign tars.
//!
//! A tar header holds the size of its entry, which for a collection is known only after the collection was
//! read. The header of such an entry is therefore a compressed piece with an uncompressed body. Its length is
//! fixed: room is reserved for it, and the header is filled in when the entry ends. Names that do not fit
//! into a header are PAX records (POSIX.1-2001, pax); sizes above 8 GiB are base-256 (GNU tar manual,
//! "Standard").
//!
//! [`each_member`] bounds the memory for headers. The `tar` crate (0.4.46) reads long names, link targets and
//! PAX records into memory, however long they claim to be.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{EntryType, Header};

use super::out::Out;
use super::parts::Slot;
use crate::base::bounds::too_long;
use crate::base::error::{Error, Result};

const RECORD: usize = 512;
/// The length of the name field of a header.
const NAME: usize = 100;

/// An entry whose size is not known yet.
struct OpenEntry {
    slot: Slot,
    path: String,
    pad: usize,
    size: u64,
}

pub(super) struct TarWriter {
    mtime: u64,
    /// Zero bytes that are missing after the previous entry.
    pad: usize,
    entry: Option<OpenEntry>,
}

impl TarWriter {
    /// `mtime` is the modification time of all entries in Unix seconds.
    pub(super) fn new(mtime: u64) -> TarWriter {
        TarWriter { mtime, pad: 0, entry: None }
    }

    /// Writes a file whose content is known.
    pub(super) fn file(&mut self, out: &mut Out, path: &str, content: &[u8]) -> Result<()> {
        let mut piece = self.headers(self.pad, path, content.len() as u64)?;
        piece.extend_from_slice(content);
        self.pad = pad(content.len() as u64);
        out.piece(&piece)
    }

    /// Begins a file. Its content follows by [`Out::block`].
    pub(super) fn begin(&mut self, out: &mut Out, path: String) -> Result<()> {
        let pad = std::mem::take(&mut self.pad);
        let len = self.headers(pad, &path, 0)?.len();
        let slot = out.reserve(len);
        self.entry = Some(OpenEntry { slot, path, pad, size: 0 });
        Ok(())
    }

    /// Adds `len` raw bytes to the size of the open file.
    pub(super) fn add(&mut self, len: u64) {
        self.entry.as_mut().expect("a file is open").size += len;
    }

    /// Ends the open file and fills in its header.
    pub(super) fn end(&mut self, out: &mut Out) -> Result<()> {
        let entry = self.entry.take().expect("a file is open");
        let header = self.headers(entry.pad, &entry.path, entry.size)?;
        out.fill(entry.slot, &header);
        self.pad = pad(entry.size);
        Ok(())
    }

    /// Ends the tar with two empty records.
    pub(super) fn finish(self, out: &mut Out) -> Result<()> {
        out.piece(&vec![0; self.pad + 2 * RECORD])
    }

    /// Returns `pad` zero bytes, PAX records if the path needs them, and the header.
    fn headers(&self, pad: usize, path: &str, size: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; pad];
        if path.len() > NAME {
            let record = pax_record("path", path);
            let header = self.header(EntryType::XHeader, b"PaxHeader", record.len() as u64)?;
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&record);
            bytes.resize(bytes.len() + self::pad(record.len() as u64), 0);
        }
        let short = &path.as_bytes()[..path.len().min(NAME)];
        bytes.extend_from_slice(self.header(EntryType::Regular, short, size)?.as_bytes());
        Ok(bytes)
    }

    fn header(&self, kind: EntryType, name: &[u8], size: u64) -> Result<Header> {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_size(size);
        if header.size().ok() != Some(size) {
            return Err(Error::failed(format!("a tar header cannot hold the size {size}")));
        }
        header.set_cksum();
        Ok(header)
    }
}

/// Returns the number of bytes from `len` to the next record.
fn pad(len: u64) -> usize {
    (RECORD - (len % RECORD as u64) as usize) % RECORD
}

/// Returns `<length> <key>=<value>\n`. The length includes itself.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    format!("{len} {key}={value}\n").into_bytes()
}

/// The largest headers of a member in bytes: its name, link target and PAX records. A path on Linux has at
/// most 4,096 bytes.
const LARGEST_HEADERS: u64 = 1 << 20;

/// Passes the bytes of a tar to the `tar` crate up to a limit, which is moved for each member.
pub struct HeaderLimit<R> {
    inner: R,
    passed: Rc<Cell<u64>>,
    /// Reading fails when this many bytes have passed.
    until: Rc<Cell<u64>>,
}

impl<R: Read> Read for HeaderLimit<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.until.get().saturating_sub(self.passed.get());
        if left == 0 && !out.is_empty() {
            return Err(too_long("the name of a member, or another of its headers,", LARGEST_HEADERS));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let n = self.inner.read(&mut out[..most])?;
        self.passed.set(self.passed.get().saturating_add(n as u64));
        Ok(n)
    }
}

/// Calls `visit` with each member of a tar in order. `broken` converts the error of a damaged tar.
///
/// # Errors
/// Returns an error if the tar is damaged, if the headers of a member are longer than [`LARGEST_HEADERS`], or
/// if `visit` returns one.
pub fn each_member<R: Read, E>(
    raw: R,
    broken: impl Fn(io::Error) -> E,
    mut visit: impl FnMut(&mut tar::Entry<'_, HeaderLimit<R>>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let (passed, until) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(u64::MAX)));
    let mut archive =
        tar::Archive::new(HeaderLimit { inner: raw, passed: passed.clone(), until: until.clone() });
    let mut entries = archive.entries().map_err(&broken)?;
    // The part of the previous member that `visit` did not read.
    let mut unread = 0;
    loop {
        until.set(passed.get().saturating_add(unread).saturating_add(LARGEST_HEADERS));
        let entry = entries.next();
        until.set(u64::MAX);
        let Some(entry) = entry else { return Ok(()) };
        let mut entry = entry.map_err(&broken)?;
        // The size of a sparse file includes its holes. Its header has the size in the tar.
        let stored = match entry.header().entry_type().is_gnu_sparse() {
            true => entry.header().entry_size().map_err(&broken)?,
            false => entry.size(),
        };
        let before = passed.get();
        visit(&mut entry)?;
        unread = stored.saturating_sub(passed.get() - before);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::Builder;

    use super::super::out::testing;
    use super::*;
    use crate::config::choices::Codec;

    fn build(codec: Codec, entries: &[(&str, u64)]) -> Vec<u8> {
        let (mut out, taken) = Out::collecting(codec);
        let mut tar = TarWriter::new(1_700_000_000);
        tar.file(&mut out, "RECOVERY.txt", b"read me").unwrap();
        for (path, size) in entries {
            tar.begin(&mut out, path.to_string()).unwrap();
            let mut left = *size as usize;
            while left > 0 {
                let len = left.min(1000);
                out.test_block(&vec![b'x'; len]);
                tar.add(len as u64);
                left -= len;
            }
            tar.end(&mut out).unwrap();
        }
        tar.finish(&mut out).unwrap();
        out.finish().unwrap();
        testing::bytes(taken)
    }

    #[test]
    fn entries_read_back_with_their_names_and_sizes() {
        let long = format!("dump/db/{}.bson", "é%2F".repeat(60));
        let entries =
            [("dump/a/b.bson", 0), (long.as_str(), 511), ("dump/a/c.bson", 512), ("dump/z.bson", 5000)];
        for codec in [Codec::Gzip { level: 4 }, Codec::Zstd { level: 3 }] {
            let bytes = build(codec, &entries);
            let reader: Box<dyn Read> = match codec {
                Codec::Gzip { .. } => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
                Codec::Zstd { .. } => Box::new(zstd::Decoder::new(&bytes[..]).unwrap()),
            };
            let mut archive = tar::Archive::new(reader);
            let got: Vec<(String, u64, bool)> = archive
                .entries()
                .unwrap()
                .map(|entry| {
                    let mut entry = entry.unwrap();
                    let path = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    (path, content.len() as u64, content.iter().all(|b| *b == b'x'))
                })
                .collect();
            assert_eq!(got[0].0, "RECOVERY.txt");
            let want: Vec<_> = entries.iter().map(|(p, s)| (p.to_string(), *s, true)).collect();
            assert_eq!(got[1..], want);
        }
    }

    #[test]
    fn sizes_above_8_gib_are_kept() {
        let header = TarWriter::new(0).header(EntryType::Regular, b"x", 12_345_678_901_234).unwrap();
        assert_eq!(header.size().unwrap(), 12_345_678_901_234);
        assert_eq!(header.as_old().size[0], 0x80, "base-256");
    }

    #[test]
    fn pax_lengths_count_themselves() {
        for n in [1, 80, 88, 89, 90, 91, 980, 988, 989, 990, 991] {
            let record = pax_record("path", &"x".repeat(n));
            let text = String::from_utf8(record.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), record.len());
        }
    }

    /// Makes a tar with a plain member, an extended header of `len` bytes of this type, and another member.
    fn with_header(kind: EntryType, len: u64) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        let member = |tar: &mut Builder<Vec<u8>>, name: &str| {
            let mut header = Header::new_gnu();
            header.set_size(3_000_000);
            tar.append_data(&mut header, name, io::repeat(1).take(3_000_000)).unwrap();
        };
        member(&mut tar, "a");
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(len);
        header.set_cksum();
        tar.append(&header, io::repeat(b'x').take(len)).unwrap();
        member(&mut tar, "b");
        tar.into_inner().unwrap()
    }

    #[test]
    fn long_headers_are_refused_and_contents_are_not() {
        for read in [0, 1_000, u64::MAX] {
            for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
                for (len, whole) in [(4_000, true), (LARGEST_HEADERS + 1, false), (50_000_000, false)] {
                    let tar = with_header(kind, len);
                    let mut names = 0;
                    let outcome = each_member(
                        &tar[..],
                        |e| e.to_string(),
                        |entry| {
                            names += 1;
                            io::copy(&mut entry.take(read), &mut io::sink()).map_err(|e| e.to_string())?;
                            Ok(())
                        },
                    );
                    assert_eq!(names, if whole { 2 } else { 1 }, "{kind:?} {len} {read}: {outcome:?}");
                    assert!(outcome.is_ok() == whole);
                    if let Err(why) = outcome {
                        assert!(why.contains("longer than 1.0 MiB"), "{why}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_endless_header_is_refused() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut start = Vec::new();
        start.write_all(header.as_bytes()).unwrap();
        let endless = start.as_slice().chain(io::repeat(b'x'));
        let outcome = each_member(endless, |e| e.to_string(), |_| Ok(()));
        assert!(outcome.unwrap_err().contains("longer than"));
    }
}
