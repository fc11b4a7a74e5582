//! Writing mongodump's archive format, version 0.1, as a stream.
//!
//! An archive begins with a magic number, a header document, a metadata document for each namespace and a
//! terminator. Blocks follow: a header document, whole documents and a terminator. A header with `EOF: true`
//! and the CRC-64/XZ of all documents of a namespace closes the namespace. There is no trailer. Source:
//! mongo-tools `common/archive/archive.go` and `parser.go`.

use bson::raw::cstr;
use bson::{RawDocumentBuf, rawdoc};
use crc_fast::CrcAlgorithm::Crc64Xz;

use super::parts::Out;
use crate::base::error::Result;
use crate::dumpformat::demux::{MAGIC, TERMINATOR};
use crate::model::namespace::Namespace;

/// Writes an archive. One namespace is open at a time.
pub(super) struct ArchiveWriter {
    /// CRC-64/XZ of the open namespace's documents so far.
    crc: u64,
}

impl ArchiveWriter {
    /// Writes the header and the metadata of all namespaces.
    pub(super) fn begin(
        out: &mut Out,
        server: &str,
        tool: &str,
        namespaces: &[Namespace],
    ) -> Result<ArchiveWriter> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        let header = rawdoc! {
            // One namespace is open at a time, so a reader needs one worker.
            "concurrent_collections": 1_i32,
            "version": "0.1",
            "server_version": server,
            "tool_version": tool,
        };
        bytes.extend_from_slice(header.as_bytes());
        for namespace in namespaces {
            let metadata = rawdoc! {
                "db": namespace.db.as_str(),
                "collection": namespace.collection.as_str(),
                "metadata": namespace.metadata.as_str(),
                "size": 0_i32,
                "type": if namespace.is_oplog() { "" } else { namespace.kind.as_str() },
            };
            bytes.extend_from_slice(metadata.as_bytes());
        }
        bytes.extend_from_slice(&TERMINATOR);
        out.piece(&bytes)?;
        Ok(ArchiveWriter { crc: 0 })
    }

    /// Opens the block of a namespace. Its documents follow by [`Out::block`].
    pub(super) fn open(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
        self.crc = 0;
        out.piece(block_header(namespace, None).as_bytes())
    }

    /// Adds the CRC-64/XZ and the length of documents that were written.
    pub(super) fn add(&mut self, crc: u64, len: u64) {
        self.crc = crc_fast::checksum_combine(Crc64Xz, self.crc, crc, len);
    }

    /// Closes the block and the namespace.
    pub(super) fn close(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
        let mut bytes = TERMINATOR.to_vec();
        bytes.extend_from_slice(block_header(namespace, Some(self.crc)).as_bytes());
        bytes.extend_from_slice(&TERMINATOR);
        out.piece(&bytes)
    }
}

fn block_header(namespace: &Namespace, end: Option<u64>) -> RawDocumentBuf {
    let mut header = rawdoc! {
        "db": namespace.db.as_str(),
        "collection": namespace.data_collection(),
    };
    header.append(cstr!("EOF"), end.is_some());
    header.append(cstr!("CRC"), end.unwrap_or(0) as i64);
    header
}
