//! mongodump's archive format, version 0.1, as a stream: one namespace is open at a time.
//!
//! Source: mongo-tools `common/archive/archive.go` and `parser.go`. An archive is a magic number, a
//! header document, one document of metadata a namespace and a terminator; then blocks, each a header
//! document, whole documents and a terminator. A namespace is closed by a header with `EOF: true` and
//! the CRC-64/XZ of all its documents. There is no trailer.

use bson::raw::cstr;
use bson::{RawDocumentBuf, rawdoc};
use crc_fast::CrcAlgorithm::Crc64Xz;

use super::out::Out;
use crate::base::error::Result;
use crate::dumpformat::demux::{MAGIC, TERMINATOR};
use crate::model::namespace::{Namespace, Type};

/// Writes an archive.
pub struct Archive {
    /// CRC-64/XZ of the open namespace's documents so far.
    crc: u64,
}

impl Archive {
    /// Begins the archive: its header and every namespace's metadata.
    pub fn begin(out: &mut Out, server: &str, tool: &str, namespaces: &[Namespace]) -> Result<Archive> {
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
                "type": match namespace.kind {
                    _ if namespace.is_oplog() => "",
                    Type::Collection => "collection",
                    Type::View => "view",
                    Type::Timeseries => "timeseries",
                },
            };
            bytes.extend_from_slice(metadata.as_bytes());
        }
        bytes.extend_from_slice(&TERMINATOR);
        out.piece(&bytes)?;
        Ok(Archive { crc: 0 })
    }

    /// Opens the block of a namespace; its documents follow by [`Out::block`].
    pub fn open(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
        self.crc = 0;
        out.piece(block_header(namespace, None).as_bytes())
    }

    /// Counts documents that were written: their CRC-64/XZ and length.
    pub fn add(&mut self, crc: u64, len: u64) {
        self.crc = crc_fast::checksum_combine(Crc64Xz, self.crc, crc, len);
    }

    /// Closes the block and the namespace.
    pub fn close(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
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
