//! Hashes of documents, grouped by the hash of their `_id`: in memory, or in a scratch file if there are many.
//!
//! A scratch file has keyed hashes and positions only, never data. Its name is removed as soon as the file is open, so the kernel
//! frees it when the run ends, also after a signal or a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::base::room;

/// The length of a hash in bytes.
pub(super) const HASH: usize = 16;
/// The length of a record in a scratch file, in bytes.
const RECORD: usize = 2 * HASH + 8;
/// The most partitions. With more, their buffers would be small, and so would the writes.
const MOST_PARTITIONS: u64 = 1024;

/// A document, or a write of an oplog slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashRecord {
    /// The keyed hash of namespace and `_id`.
    pub id: [u8; HASH],
    /// The keyed hash of the document; zeros for a write.
    pub document: [u8; HASH],
    /// Where the document is.
    pub tag: u64,
}

impl HashRecord {
    fn bytes(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..HASH].copy_from_slice(&self.id);
        bytes[HASH..2 * HASH].copy_from_slice(&self.document);
        bytes[2 * HASH..].copy_from_slice(&self.tag.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> HashRecord {
        let part = |from: usize| bytes[from..from + HASH].try_into().expect("the length of a hash");
        let tag = bytes[2 * HASH..RECORD].try_into().expect("eight bytes");
        HashRecord { id: part(0), document: part(HASH), tag: u64::from_le_bytes(tag) }
    }
}

/// Records that are compared group by group.
#[derive(Debug)]
pub(super) enum HashRecords {
    Memory(Vec<HashRecord>),
    Scratch(ScratchFile),
}

impl HashRecords {
    /// Makes room for about this many records. Uses about `memory` bytes, and a scratch file in `folder` if that is not enough.
    ///
    /// # Errors
    /// Returns an error if the scratch file cannot be created.
    pub fn new(expected: u64, memory: u64, folder: &Path) -> Result<HashRecords> {
        // Half of the memory is for the records of a partition.
        let (bytes, half) = (expected.saturating_mul(RECORD as u64), (memory / 2).max(1));
        if bytes <= half {
            return Ok(HashRecords::Memory(Vec::with_capacity(expected as usize)));
        }
        // Hashes are spread evenly, but not exactly.
        let partitions = (bytes / half.div_ceil(2)).clamp(2, MOST_PARTITIONS);
        ScratchFile::create(folder, partitions as usize, half).map(HashRecords::Scratch)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Returns an error if the scratch file cannot be written.
    pub fn push(&mut self, record: HashRecord) -> Result<()> {
        match self {
            HashRecords::Memory(records) => {
                records.push(record);
                Ok(())
            }
            HashRecords::Scratch(file) => file.push(&record),
        }
    }

    /// Passes all records to `each`, sorted, in parts that have all records with the same hash of the `_id`.
    ///
    /// # Errors
    /// Returns an error if the scratch file cannot be written or read.
    pub fn sorted_parts(self, each: &mut dyn FnMut(&[HashRecord])) -> Result<()> {
        match self {
            HashRecords::Memory(mut records) => {
                records.sort_unstable();
                each(&records);
                Ok(())
            }
            HashRecords::Scratch(file) => file.sorted_parts(each),
        }
    }
}

/// A file without a name. Each partition has a buffer and the places of its pieces in the file.
#[derive(Debug)]
pub(super) struct ScratchFile {
    file: File,
    /// For messages.
    folder: PathBuf,
    partitions: Vec<Partition>,
    /// The size of a full buffer in bytes, a multiple of a record.
    piece: usize,
    /// The length of the file in bytes.
    end: u64,
}

#[derive(Debug, Default, Clone)]
struct Partition {
    buffer: Vec<u8>,
    /// The offsets of the full pieces.
    pieces: Vec<u64>,
}

impl ScratchFile {
    fn create(folder: &Path, partitions: usize, buffers: u64) -> Result<ScratchFile> {
        let path = folder.join(format!("uzima-backup-diff-{:016x}", rand::random::<u64>()));
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        let file = open().map_err(|e| cannot("create", folder, e))?;
        let records = (buffers as usize / partitions / RECORD).clamp(1, 2048);
        let partitions = vec![Partition::default(); partitions];
        Ok(ScratchFile { file, folder: folder.into(), partitions, piece: records * RECORD, end: 0 })
    }

    fn push(&mut self, record: &HashRecord) -> Result<()> {
        let number = u64::from_be_bytes(record.id[..8].try_into().expect("eight bytes"));
        let at = (u128::from(number) * self.partitions.len() as u128) >> 64;
        let partition = &mut self.partitions[at as usize];
        if partition.buffer.capacity() == 0 {
            partition.buffer.reserve_exact(self.piece);
        }
        partition.buffer.extend_from_slice(&record.bytes());
        if partition.buffer.len() < self.piece {
            return Ok(());
        }
        self.file.write_all(&partition.buffer).map_err(|e| cannot("write", &self.folder, e))?;
        partition.pieces.push(self.end);
        self.end += partition.buffer.len() as u64;
        partition.buffer.clear();
        Ok(())
    }

    /// The bytes in the file.
    #[cfg(test)]
    pub fn written(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.end).unwrap()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn sorted_parts(self, each: &mut dyn FnMut(&[HashRecord])) -> Result<()> {
        let mut records: Vec<HashRecord> = Vec::new();
        let mut piece = vec![0; self.piece];
        for partition in &self.partitions {
            records.clear();
            for offset in &partition.pieces {
                self.file.read_exact_at(&mut piece, *offset).map_err(|e| cannot("read", &self.folder, e))?;
                records.extend(piece.chunks_exact(RECORD).map(HashRecord::parse));
            }
            records.extend(partition.buffer.chunks_exact(RECORD).map(HashRecord::parse));
            records.sort_unstable();
            each(&records);
        }
        Ok(())
    }
}

fn cannot(what: &str, folder: &Path, error: io::Error) -> Error {
    Error::failed(format!("cannot {what} a scratch file in {}", folder.display()))
        .hint(format!(
            "Set TMPDIR to a folder on a larger disk that this user may write: the file needs {RECORD} bytes for each document of \
             both backups, in the namespaces whose documents differ"
        ))
        .caused_by(room::explained(error, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records whose hashes look random, in random order of their ids.
    fn records(count: u64) -> Vec<HashRecord> {
        let hash = |n: u64| blake3::hash(&n.to_le_bytes()).as_bytes()[..HASH].try_into().unwrap();
        (0..count).map(|n| HashRecord { id: hash(n / 3), document: hash(n), tag: n }).collect()
    }

    fn parts(memory: u64, folder: &Path) -> Vec<Vec<HashRecord>> {
        let all = records(5_000);
        let mut kept = HashRecords::new(all.len() as u64, memory, folder).unwrap();
        all.iter().for_each(|record| kept.push(*record).unwrap());
        let mut parts = Vec::new();
        kept.sorted_parts(&mut |part| parts.push(part.to_vec())).unwrap();
        parts
    }

    #[test]
    fn a_scratch_file_returns_the_records_that_memory_returns() {
        let folder = tempfile::tempdir().unwrap();
        let [whole] = parts(64 << 20, folder.path()).try_into().unwrap();
        for memory in [1, 4_000, 100_000] {
            let parts = parts(memory, folder.path());
            assert!(parts.len() > 1, "{memory}");
            assert_eq!(parts.concat(), whole, "{memory}: the partitions are in the order of the hashes");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
    }

    #[test]
    fn the_memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, hash) = (64_000_u64, |n: u64| blake3::hash(&n.to_le_bytes()));
        let mut kept = HashRecords::new(100_000, memory, folder.path()).unwrap();
        for n in 0..100_000_u64 {
            let id = hash(n).as_bytes()[..HASH].try_into().unwrap();
            kept.push(HashRecord { id, document: id, tag: n }).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file in use has no name");
        let HashRecords::Scratch(file) = &kept else { panic!("in memory") };
        let buffered: usize = file.partitions.iter().map(|partition| partition.buffer.capacity()).sum();
        assert!(buffered as u64 <= memory, "{buffered}");
        let mut largest = 0;
        kept.sorted_parts(&mut |part| largest = largest.max(part.len() * RECORD)).unwrap();
        assert!(largest as u64 <= memory / 2, "{largest}");
    }

    #[test]
    fn an_unwritable_folder_is_named_with_the_next_step() {
        let error = HashRecords::new(1_000, 1, Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "cannot create a scratch file in /nonexistent");
        assert!(error.next_step().unwrap().contains("TMPDIR"), "{error:?}");
    }
}
