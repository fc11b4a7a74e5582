//! The second half of the data path: compressed blocks become the artifact. It runs on a thread of its own.

use std::sync::Arc;

use super::archive::ArchiveWriter;
use super::pack::{PackedBlock, WriteStep, WriteSteps};
use super::parts::Out;
use super::tar::TarWriter;
use crate::base::error::{Error, Result};
use crate::base::progress::Meter;
use crate::config::choices::{Container, Format};
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
    /// The size and checksum of the artifact.
    pub whole: Whole,
}

enum Framing {
    Tar(TarWriter),
    Archive(ArchiveWriter),
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
        Container::Archive => Framing::Archive(ArchiveWriter::begin(
            &mut out,
            &spec.server_version,
            &spec.tool_version,
            &namespaces,
        )?),
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
                meter.begin(namespace);
                write_namespace(steps, &mut out, &mut framing, tally, &mut segments, at, meter)?;
                framing.end(&mut out, namespace)?;
                meter.end(out.offset());
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
    if let Framing::Tar(mut tar) = framing {
        if !namespaces.is_empty() {
            tar.file(&mut out, "dump/prelude.json", prelude(spec).as_bytes())?;
        }
        tar.finish(&mut out)?;
    }
    let whole = out.finish()?;
    let mut namespaces = Arc::unwrap_or_clone(namespaces);
    let slice = namespaces.pop_if(|last| last.is_oplog()).and_then(|_| tallies.pop());
    Ok(WrittenArtifact { namespaces, tallies, slice, segments, whole })
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
                meter.add(packed.tally.documents, packed.tally.raw_bytes, out.offset());
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
            Framing::Archive(archive) => archive.open(out, namespace),
        }
    }

    fn add(&mut self, packed: &PackedBlock) {
        match self {
            Framing::Tar(tar) => tar.add(packed.tally.raw_bytes),
            Framing::Archive(archive) => archive.add(packed.crc64, packed.tally.raw_bytes),
        }
    }

    fn end(&mut self, out: &mut Out, namespace: &Namespace) -> Result<()> {
        match self {
            Framing::Tar(tar) if namespace.has_documents() => tar.end(out),
            Framing::Tar(_) => Ok(()),
            Framing::Archive(archive) => archive.close(out, namespace),
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

/// Returns the text of `prelude.json`, which mongodump writes last.
fn prelude(spec: &ArtifactSpec) -> String {
    serde_json::json!({"ServerVersion": spec.server_version, "ToolVersion": spec.tool_version}).to_string()
}

#[cfg(test)]
mod tests;
