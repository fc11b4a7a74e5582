//! The tar of a mongodump directory, written as a stream whose headers are filled in later.
//!
//! A tar header holds the size of what follows it, which for a collection is known only when it has
//! been read. So the header of such an entry is a compressed piece with a *stored* body, whose length
//! is fixed: room is kept for it, and it is filled when the entry ends. Names that do not fit into a
//! header are PAX records (POSIX.1-2001, pax), sizes above 8 GiB base-256 (GNU tar manual, "Standard").

use tar::{EntryType, Header};

use super::out::Out;
use super::parts::Slot;
use crate::base::error::{Error, Result};

const RECORD: usize = 512;
/// The name field of a header.
const NAME: usize = 100;

/// The open entry of a tar.
struct Entry {
    slot: Slot,
    path: String,
    pad: usize,
    size: u64,
}

/// Writes a tar.
pub struct Tar {
    mtime: u64,
    /// Zero bytes owed to the entry before.
    pad: usize,
    entry: Option<Entry>,
}

impl Tar {
    /// A tar whose entries are of the time `mtime` (Unix seconds).
    pub fn new(mtime: u64) -> Tar {
        Tar { mtime, pad: 0, entry: None }
    }

    /// A file whose content is known.
    pub fn file(&mut self, out: &mut Out, path: &str, content: &[u8]) -> Result<()> {
        let mut piece = self.headers(self.pad, path, content.len() as u64)?;
        piece.extend_from_slice(content);
        self.pad = pad(content.len() as u64);
        out.piece(&piece)
    }

    /// Begins a file whose content follows by [`Out::block`].
    pub fn begin(&mut self, out: &mut Out, path: String) -> Result<()> {
        let pad = std::mem::take(&mut self.pad);
        let len = self.headers(pad, &path, 0)?.len();
        let slot = out.reserve(len);
        self.entry = Some(Entry { slot, path, pad, size: 0 });
        Ok(())
    }

    /// Counts `len` raw bytes that were written for the open file.
    pub fn add(&mut self, len: u64) {
        self.entry.as_mut().expect("a file is open").size += len;
    }

    /// Ends the open file: its header is now known.
    pub fn end(&mut self, out: &mut Out) -> Result<()> {
        let entry = self.entry.take().expect("a file is open");
        let header = self.headers(entry.pad, &entry.path, entry.size)?;
        out.fill(entry.slot, &header);
        self.pad = pad(entry.size);
        Ok(())
    }

    /// Ends the tar: two empty records.
    pub fn finish(self, out: &mut Out) -> Result<()> {
        out.piece(&vec![0; self.pad + 2 * RECORD])
    }

    /// `pad` zero bytes, the PAX records where the path needs them, and the header.
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

/// The bytes after `len` up to the next record.
fn pad(len: u64) -> usize {
    (RECORD - (len % RECORD as u64) as usize) % RECORD
}

/// `<length> <key>=<value>\n`, the length counting itself.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    format!("{len} {key}={value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::config::format::Codec;

    fn build(codec: Codec, entries: &[(&str, u64)]) -> Vec<u8> {
        let (mut out, taken) = Out::collecting(codec);
        let mut tar = Tar::new(1_700_000_000);
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
        taken.bytes()
    }

    #[test]
    fn entries_come_back_with_their_names_and_sizes() {
        let long = format!("dump/db/{}.bson", "é%2F".repeat(60));
        let entries =
            [("dump/a/b.bson", 0), (long.as_str(), 511), ("dump/a/c.bson", 512), ("dump/z.bson", 5000)];
        for codec in [Codec::Gzip { level: 4 }, Codec::Zstd { level: 3 }] {
            let bytes = build(codec, &entries);
            let reader: Box<dyn Read> = match codec {
                Codec::Gzip { .. } => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
                Codec::Zstd { .. } => Box::new(zstd::Decoder::new(&bytes[..]).unwrap()),
            };
            let mut archive = ::tar::Archive::new(reader);
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
        let header = Tar::new(0).header(EntryType::Regular, b"x", 12_345_678_901_234).unwrap();
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
}
