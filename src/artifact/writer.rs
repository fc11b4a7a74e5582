//! From compressed blocks to the artifact: the second half of the data path, on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::archive::Archive;
use super::out::Out;
use super::pack::Step;
use super::pool::Packed;
use super::tar::Tar;
use crate::base::error::{Error, Result};
use crate::base::progress::Meter;
use crate::config::format::{Container, Format};
use crate::dumpformat::names;
use crate::model::index::Segment;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::store::Whole;

/// What a writer must know of the backup.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The artifact's format.
    pub format: Format,
    /// The server's version, as `a.b.c`.
    pub server_version: String,
    /// Name and version of the tool that read the data.
    pub tool_version: String,
    /// When the backup began, in Unix seconds.
    pub started: u64,
    /// The text of `RECOVERY.txt`.
    pub recovery: String,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The namespaces, in the order of the artifact.
    pub namespaces: Vec<Namespace>,
    /// What was written of each.
    pub tallies: Vec<Tally>,
    /// What was written of the oplog slice, if there is one.
    pub slice: Option<Tally>,
    /// The segments, in the order of the artifact.
    pub segments: Vec<Segment>,
    /// Size and checksum of the artifact.
    pub whole: Whole,
}

enum Framing {
    Tar(Tar),
    Archive(Archive),
}

/// Writes steps into `out` until the source is done.
///
/// # Errors
/// If the steps end before [`Step::Done`]: then the source failed, and nothing must be committed.
pub fn write(steps: &Receiver<Step>, spec: &Spec, mut out: Out, meter: &Meter) -> Result<Written> {
    let Ok(Step::Prelude(namespaces)) = steps.recv() else { return Err(ended_early()) };
    let mut framing = match spec.format.container {
        Container::Tar => {
            let mut tar = Tar::new(spec.started);
            tar.file(&mut out, "RECOVERY.txt", spec.recovery.as_bytes())?;
            Framing::Tar(tar)
        }
        Container::Archive => {
            Framing::Archive(Archive::begin(&mut out, &spec.server_version, &spec.tool_version, &namespaces)?)
        }
    };
    let mut tallies = vec![Tally::default(); namespaces.len()];
    let mut segments = Vec::new();
    let mut written = vec![false; namespaces.len()];
    loop {
        match steps.recv().map_err(|_| ended_early())? {
            Step::Begin(at) => {
                let namespace =
                    namespaces.get(at).ok_or_else(|| Error::failed("a namespace that was not announced"))?;
                let tally = &mut tallies[at];
                framing.begin(&mut out, namespace)?;
                meter.begin(namespace);
                write_namespace(steps, &mut out, &mut framing, tally, &mut segments, at, meter)?;
                framing.end(&mut out, namespace)?;
                meter.end(out.offset());
                if std::mem::replace(&mut written[at], true) {
                    return Err(Error::failed(format!("{namespace} came twice")));
                }
            }
            Step::Done => break,
            _ => return Err(Error::failed("the steps of the artifact are out of order")),
        }
    }
    if let Some(at) = written.iter().position(|done| !done) {
        return Err(Error::failed(format!("{} was announced, but never came", namespaces[at])));
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
    Ok(Written { namespaces, tallies, slice, segments, whole })
}

fn write_namespace(
    steps: &Receiver<Step>,
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
        match steps.recv().map_err(|_| ended_early())? {
            Step::Block(pending) => {
                let packed = pending.wait()?;
                out.block(&packed.compressed.bytes)?;
                framing.add(&packed);
                meter.add(packed.tally.documents, packed.tally.raw_bytes, out.offset());
                segment += packed.tally;
            }
            Step::Segment(hash) => {
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
            Step::End => {
                *tally += segment;
                tally.stored_bytes = out.offset() - first;
                return Ok(());
            }
            _ => return Err(Error::failed("the steps of the artifact are out of order")),
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

    fn add(&mut self, packed: &Packed) {
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

fn ended_early() -> Error {
    Error::aftermath("the source ended before it was complete")
}

/// `prelude.json`, as mongodump writes it last.
fn prelude(spec: &Spec) -> String {
    serde_json::json!({"ServerVersion": spec.server_version, "ToolVersion": spec.tool_version}).to_string()
}

#[cfg(test)]
mod tests;
