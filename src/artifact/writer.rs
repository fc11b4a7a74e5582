//! The second half of the data path: compressed blocks become the artifact, a tar or mongodump's archive. It runs on
//! a thread of its own.

use std::sync::Arc;

use blake3::Hash;
use bson::raw::cstr;
use bson::{RawDocumentBuf, rawdoc};
use crc_fast::CrcAlgorithm::Crc64Xz;
use serde_json::json;

use super::out::Out;
use super::pack::{PackedBlock, WriteStep, WriteSteps};
use super::tar::TarWriter;
use crate::base::error::{Error, Result};
use crate::base::progress::{Meter, Phase};
use crate::config::choices::{Codec, Container, Format};
use crate::dumpformat::demux::{MAGIC, TERMINATOR};
use crate::dumpformat::names;
use crate::model::index::Segment;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::store::Whole;

/// The properties of a backup that the writer puts into the artifact.
#[derive(Debug, Clone)]
pub struct ArtifactSpec {
    pub format: Format,
    /// The server's version, `a.b.c`.
    pub server_version: String,
    /// The name and version of the tool that reads the source.
    pub tool_version: String,
    /// When the backup began, in Unix seconds.
    pub started: u64,
    /// The text of `RECOVERY.txt`.
    pub recovery: String,
}

/// The content of a complete artifact.
#[derive(Debug)]
pub struct WrittenArtifact {
    /// The namespaces, in the order of the artifact.
    pub namespaces: Vec<Namespace>,
    /// The tally of each namespace.
    pub tallies: Vec<Tally>,
    /// The tally of the oplog slice, if there is one.
    pub slice: Option<Tally>,
    /// The segments, in the order of the artifact.
    pub segments: Vec<Segment>,
    /// The size and checksum of the artifact as it is stored.
    pub whole: Whole,
    /// The BLAKE3 of the artifact as it is stored, if it is wanted ([`Out::hash`]).
    pub blake3: Option<Hash>,
    /// The length of the artifact in bytes before its encryption.
    pub content_size: u64,
    /// The mean level of the compression if it followed the line. The writer does not know it.
    pub mean_level: Option<f64>,
}

enum Framing {
    Tar(TarWriter),
    /// mongodump's archive format, version 0.1.
    ///
    /// An archive begins with a magic number, a header document, a metadata document for each namespace and a
    /// terminator. Blocks follow: a header document, whole documents and a terminator. A header with `EOF: true`
    /// and the CRC-64/XZ of all documents of a namespace closes the namespace. There is no trailer. Source:
    /// mongo-tools `common/archive/archive.go` and `parser.go`.
    Archive {
        /// CRC-64/XZ of the open namespace's documents so far.
        crc: u64,
    },
}

/// Writes the artifact to `out` until the source is complete.
///
/// # Errors
/// Returns an error if the steps end before the source is complete. Then the source failed, and the backup
/// must not be committed.
pub fn write(
    steps: &WriteSteps,
    spec: &ArtifactSpec,
    mut out: Out,
    meter: &Meter,
) -> Result<WrittenArtifact> {
    let WriteStep::Prelude(namespaces) = steps.next()? else { return Err(out_of_order()) };
    let mut framing = match spec.format.container {
        Container::Tar => {
            let mut tar = TarWriter::new(spec.started);
            tar.file(&mut out, "RECOVERY.txt", spec.recovery.as_bytes())?;
            Framing::Tar(tar)
        }
        Container::Archive => {
            out.piece(&archive_header(spec, &namespaces))?;
            Framing::Archive { crc: 0 }
        }
    };
    let mut tallies = vec![Tally::default(); namespaces.len()];
    let mut segments = Vec::new();
    let mut written = vec![false; namespaces.len()];
    loop {
        match steps.next()? {
            WriteStep::Begin(at) => {
                let namespace = namespaces.get(at).ok_or_else(out_of_order)?;
                let tally = &mut tallies[at];
                framing.begin(&mut out, namespace)?;
                meter.doing(namespace.to_string());
                write_namespace(steps, &mut out, &mut framing, tally, &mut segments, at, meter)?;
                framing.end(&mut out, namespace)?;
                meter.packed(out.sendable());
                meter.end();
                if std::mem::replace(&mut written[at], true) {
                    return Err(Error::failed(format!("the source sent {namespace} twice")));
                }
            }
            WriteStep::Done => break,
            _ => return Err(out_of_order()),
        }
    }
    if let Some(at) = written.iter().position(|done| !done) {
        return Err(Error::failed(format!("the source announced {} but did not send it", namespaces[at])));
    }
    // The rest of the run only sends.
    meter.enter(Phase::Uploading);
    if let Framing::Tar(mut tar) = framing {
        if !namespaces.is_empty() {
            // mongodump writes this file last.
            let prelude = json!({"ServerVersion": spec.server_version, "ToolVersion": spec.tool_version});
            tar.file(&mut out, "dump/prelude.json", prelude.to_string().as_bytes())?;
        }
        tar.finish(&mut out)?;
    }
    let content_size = out.offset();
    meter.packed(out.sendable());
    let (whole, blake3) = out.finish()?;
    let mut namespaces = Arc::unwrap_or_clone(namespaces);
    let slice = namespaces.pop_if(|last| last.is_oplog()).and_then(|_| tallies.pop());
    Ok(WrittenArtifact {
        namespaces,
        tallies,
        slice,
        segments,
        whole,
        blake3,
        content_size,
        mean_level: None,
    })
}

fn write_namespace(
    steps: &WriteSteps,
    out: &mut Out,
    framing: &mut Framing,
    tally: &mut Tally,
    segments: &mut Vec<Segment>,
    at: usize,
    meter: &Meter,
) -> Result<()> {
    let first = out.offset();
    let (mut begin, mut segment) = (first, Tally::default());
    loop {
        match steps.next()? {
            WriteStep::Block(pending) => {
                let packed = pending.wait()?;
                out.block(&packed.compressed.bytes)?;
                framing.add(&packed);
                meter.packed(out.sendable());
                meter.add(packed.tally.documents, packed.tally.raw_bytes);
                segment += packed.tally;
            }
            WriteStep::Segment(hash) => {
                segments.push(Segment {
                    namespace: at,
                    documents: segment.documents,
                    raw_bytes: segment.raw_bytes,
                    blake3: hash.to_hex().to_string(),
                    offset: begin,
                    length: out.offset() - begin,
                });
                begin = out.offset();
                *tally += std::mem::take(&mut segment);
            }
            WriteStep::End => {
                *tally += segment;
                tally.stored_bytes = out.offset() - first;
                return Ok(());
            }
            _ => return Err(out_of_order()),
        }
    }
}

impl Framing {
    fn begin(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
        match self {
            Framing::Tar(tar) if namespace.is_oplog() => {
                tar.begin(out, format!("dump/{}", names::OPLOG_FILE))
            }
            Framing::Tar(tar) => {
                let metadata = names::metadata_file(&namespace.db, &namespace.collection);
                tar.file(out, &format!("dump/{metadata}"), namespace.metadata.as_bytes())?;
                if namespace.has_documents() {
                    let bson = names::bson_file(&namespace.db, namespace.data_collection());
                    tar.begin(out, format!("dump/{bson}"))?;
                }
                Ok(())
            }
            Framing::Archive { crc } => {
                *crc = 0;
                out.piece(block_header(namespace, None).as_bytes())
            }
        }
    }

    fn add(&mut self, packed: &PackedBlock) {
        match self {
            Framing::Tar(tar) => tar.add(packed.tally.raw_bytes),
            Framing::Archive { crc } => {
                *crc = crc_fast::checksum_combine(Crc64Xz, *crc, packed.crc64, packed.tally.raw_bytes);
            }
        }
    }

    fn end(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
        match self {
            Framing::Tar(tar) if namespace.has_documents() => tar.end(out),
            Framing::Tar(_) => Ok(()),
            Framing::Archive { crc } => {
                let end = block_header(namespace, Some(*crc));
                out.piece(&[&TERMINATOR[..], end.as_bytes(), &TERMINATOR].concat())
            }
        }
    }
}

fn out_of_order() -> Error {
    Error::failed("the source sent namespaces and documents in the wrong order")
}

impl WriteSteps {
    fn next(&self) -> Result<WriteStep> {
        self.0.recv().map_err(|_| Error::aftermath("the source ended before it was complete"))
    }
}

/// The beginning of an archive: its header and the metadata of all namespaces.
fn archive_header(spec: &ArtifactSpec, namespaces: &[Namespace]) -> Vec<u8> {
    let mut bytes = MAGIC.to_le_bytes().to_vec();
    let header = rawdoc! {
        // One namespace is open at a time, so a reader needs one worker.
        "concurrent_collections": 1_i32,
        "version": "0.1",
        "server_version": spec.server_version.as_str(),
        "tool_version": spec.tool_version.as_str(),
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
    bytes
}

/// The header of a block; `end` is the CRC-64/XZ in the header that closes a namespace.
fn block_header(namespace: &Namespace, end: Option<u64>) -> RawDocumentBuf {
    let mut header = rawdoc! {
        "db": namespace.db.as_str(),
        "collection": namespace.data_collection(),
    };
    header.append(cstr!("EOF"), end.is_some());
    header.append(cstr!("CRC"), end.unwrap_or(0) as i64);
    header
}

/// Returns the text of `RECOVERY.txt`, the first file of a tar: how to restore the backup with stock tools. The file lies
/// beside the artifact of an `encrypted` backup as well. If the backup has an oplog `slice`, the commands contain
/// `--oplogReplay`: without this flag mongorestore 100.18 ignores `oplog.bson` and exits with 0.
pub fn recovery_text(
    id: &str,
    format: Format,
    server_version: &str,
    tool: &str,
    slice: bool,
    encrypted: bool,
) -> String {
    let file = format.file();
    let decrypt = format!("age -d -i KEYFILE {file}.age | ");
    let unpack = match (format.codec, encrypted) {
        (Codec::Gzip { .. }, false) => format!("tar xzf {file}"),
        (Codec::Zstd { .. }, false) => format!("zstd -dc {file} | tar xf -"),
        (Codec::Gzip { .. }, true) => format!("{decrypt}tar xzf -"),
        (Codec::Zstd { .. }, true) => format!("{decrypt}zstd -dc | tar xf -"),
    };
    let (replay, why) = match slice {
        true => ("--oplogReplay ", REPLAY),
        false => ("", ""),
    };
    if encrypted && format.container == Container::Archive {
        let decompress = if let Codec::Gzip { .. } = format.codec { "gunzip -c" } else { "zstd -dc" };
        let why = why.replace("dump/oplog.bson holds", "the archive also holds");
        return format!(
            "This is the MongoDB backup {id}, written by {tool} from MongoDB {server_version}.\n\
             \n\
             {KEY}\
             To restore everything with stock tools (into an empty server; add --drop to replace\n\
             existing collections):\n\
             \n\
             \x20   {decrypt}{decompress} |\n\
             \x20     mongorestore --uri='mongodb://localhost:27017' --archive {replay}--bypassDocumentValidation\n\
             \n\
             {why}\
             --bypassDocumentValidation matters: without it mongorestore silently skips\n\
             documents that do not pass their collection's validator.\n"
        );
    }
    let key = if encrypted { KEY } else { "" };
    format!(
        "This is the MongoDB backup {id}, written by {tool} from MongoDB {server_version}.\n\
         \n\
         {key}\
         To restore everything with stock tools (into an empty server; add --drop to replace\n\
         existing collections):\n\
         \n\
         \x20   {unpack}\n\
         \x20   mongorestore --uri='mongodb://localhost:27017' {replay}--bypassDocumentValidation dump/\n\
         \n\
         {why}\
         --bypassDocumentValidation matters: without it mongorestore silently skips\n\
         documents that do not pass their collection's validator.\n\
         \n\
         One collection, for example orders of the database shop:\n\
         \n\
         \x20   mongorestore --uri='mongodb://localhost:27017' --bypassDocumentValidation \\\n\
         \x20     --nsInclude=shop.orders dump/\n\
         \n\
         Users and roles are in dump/admin/. A restore of everything includes them.\n\
         \n\
         dump/ is a directory as mongodump writes it: a .bson file holds the documents of a\n\
         collection (bsondump prints them), a .metadata.json file its options and indexes.\n"
    )
}

/// The beginning of `RECOVERY.txt` for an encrypted backup.
const KEY: &str = "\
The artifact is encrypted with age (https://age-encryption.org). KEYFILE stands for the file\n\
with the secret key of one of its recipients.\n\
\n";

/// The reason for `--oplogReplay` in `RECOVERY.txt`.
const REPLAY: &str = "\
--oplogReplay matters: the collections were read one after the other, and\n\
dump/oplog.bson holds the writes of that time. Without it each collection is restored\n\
as of a different moment.\n\
\n";

#[cfg(test)]
mod tests;
