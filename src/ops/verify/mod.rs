//! `verify`: read a backup's artifact again, every byte of it, and hold it against manifest and index.
//!
//! One pass: [`fetch`] asks for the artifact piece by piece and sums its bytes up; [`regions`] cuts the
//! stream at the segments' ends; workers ([`region`]) decompress each and compare hashes and counts; and one
//! reader ([`structure`]) sees the raw stream as tar or mongorestore would.

mod pass;
mod sample;
mod structure;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use chrono::{DateTime, Utc};

use crate::artifact::read;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::catalog::layout;
use crate::catalog::marks;
use crate::catalog::verdict::Verdict;
use crate::config::format::Format;
use crate::model::id::BackupId;
use crate::model::index::Index;
use crate::model::manifest::{self, Manifest, TOOL};
use crate::model::tally::Tally;
use crate::store::{self, Store};

pub use sample::{Chosen, sample};

/// Something that is wrong with a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyFinding {
    /// `None` if the finding concerns the whole backup.
    pub namespace: Option<String>,
    /// Where the wrong region begins in the artifact, in bytes.
    pub offset: Option<u64>,
    pub what: String,
}

impl VerifyFinding {
    fn of_backup(what: String) -> VerifyFinding {
        VerifyFinding { namespace: None, offset: None, what }
    }

    fn of_namespace(namespace: String, what: String) -> VerifyFinding {
        VerifyFinding { namespace: Some(namespace), offset: None, what }
    }
}

impl fmt::Display for VerifyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}: ")?;
        }
        f.write_str(&self.what)?;
        match self.offset {
            Some(offset) => write!(f, " (at byte {offset} of the artifact)"),
            None => Ok(()),
        }
    }
}

/// What a verify found.
#[derive(Debug)]
pub struct VerifyReport {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// What is wrong; empty when every byte is as it should be.
    pub findings: Vec<VerifyFinding>,
    /// Bytes of the artifact that were read.
    pub stored_bytes: u64,
    /// Documents that were hashed, without the entries of an oplog slice.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
}

impl VerifyReport {
    /// What is kept of it beside the backup.
    pub fn verdict(&self, id: &BackupId, host: &str) -> Verdict {
        Verdict {
            format: marks::FORMAT,
            id: id.clone(),
            at: self.finished_at,
            host: host.into(),
            tool: TOOL.into(),
            sound: self.findings.is_empty(),
            findings: self.findings.iter().take(KEPT).map(ToString::to_string).collect(),
            stored_bytes: self.stored_bytes,
            documents: self.documents,
            raw_bytes: self.raw_bytes,
            seconds: (self.finished_at - self.started_at).as_seconds_f64().max(0.0),
            drill: None,
        }
    }
}

/// Of many findings so many are kept: the first tell what happened.
const KEPT: usize = 20;

/// Reads the backup of `manifest` whole. `workers` threads decompress.
///
/// # Errors
/// If the store does not answer. What is missing or wrong in it is a finding.
pub async fn verify(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    workers: usize,
    clock: Clock,
) -> Result<VerifyReport> {
    let mut report = VerifyReport {
        started_at: clock.now(),
        finished_at: clock.now(),
        findings: Vec::new(),
        stored_bytes: 0,
        documents: 0,
        raw_bytes: 0,
    };
    match read::load_index(&**store, manifest).await? {
        Err(what) => report.findings.push(VerifyFinding::of_backup(what)),
        Ok(index) => {
            let changed = changed(store, manifest, &index).await?;
            report.findings.extend(changed.map(VerifyFinding::of_backup));
            artifact(store, manifest, &index, workers, &mut report).await?;
        }
    }
    report.finished_at = clock.now();
    Ok(report)
}

/// Compares the stored manifest with the digest that the index has of it. Returns what is wrong.
async fn changed(store: &Arc<dyn Store>, manifest: &Manifest, index: &Index) -> Result<Option<String>> {
    // Version 0.1.0 did not write it.
    let Some(wanted) = &index.manifest_blake3 else { return Ok(None) };
    let key = layout::manifest(&manifest.id);
    let bytes = match store.get(&key, manifest::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind, store::StoreErrorKind::NotFound | store::StoreErrorKind::Damaged) => {
            return Ok(Some(e.to_string()));
        }
        Err(e) => return Err(e.into()),
    };
    Ok(match manifest::content_digest(&bytes) {
        Err(why) => Some(format!("{key} cannot be understood: {why}")),
        Ok(digest) if digest != *wanted => Some(format!(
            "{key} was changed after the backup: {} has another digest of it",
            manifest.index.key
        )),
        Ok(_) => None,
    })
}

async fn artifact(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    index: &Index,
    workers: usize,
    report: &mut VerifyReport,
) -> Result<()> {
    let artifact = &manifest.artifact;
    let format: Format = match artifact.format.parse() {
        Ok(format) => format,
        Err(why) => {
            report.findings.push(VerifyFinding::of_backup(format!("its format is unknown: {why}")));
            return Ok(());
        }
    };
    let stored = store.head(&artifact.key).await?.map(|object| object.size);
    if stored != Some(artifact.size) {
        let has = |n| format!("has {}, not {}", units::several(n, "byte"), units::count(artifact.size));
        let what = stored.map_or("is missing".into(), has);
        report.findings.push(VerifyFinding::of_backup(format!("{} {what}", artifact.key)));
        return Ok(());
    }
    let (ordered, in_order) = sync_channel(workers + 1);
    let described = !index.namespaces.is_empty();
    let reader = structure::start(in_order, manifest.clone(), format.container, described)?;
    let regions = read::regions(index, manifest);
    let ((tallies, findings), crc64nvme) =
        pass::read_regions(store, manifest, regions, format.codec, workers, ordered).await?;
    report.findings.extend(findings);
    report.findings.extend(reader.finish().await?);
    report.stored_bytes = artifact.size;
    if format!("{:016x}", crc64nvme) != artifact.crc64nvme {
        let what = format!(
            "the checksum of {} is {:016x}, the manifest says {}",
            artifact.key, crc64nvme, artifact.crc64nvme
        );
        report.findings.push(VerifyFinding::of_backup(what));
    }
    report.findings.extend(compare(&tallies, manifest));
    // As the manifest and the list count them. The oplog slice comes after the namespaces.
    let counted = || tallies.range(..manifest.namespaces.len()).map(|(_, tally)| tally);
    report.documents = counted().map(|tally| tally.documents).sum();
    report.raw_bytes = counted().map(|tally| tally.raw_bytes).sum();
    report.findings.sort_by_key(|finding| finding.offset.unwrap_or(u64::MAX));
    Ok(())
}

/// Holds what was read of each namespace, and of the oplog slice, against the manifest.
fn compare(tallies: &BTreeMap<usize, Tally>, manifest: &Manifest) -> Vec<VerifyFinding> {
    let mut findings = Vec::new();
    let namespaces = manifest.namespaces.iter().map(|n| (n.documents, n.raw_bytes, &n.xxh3_sum));
    let slice =
        manifest.consistency.oplog.iter().map(|slice| (slice.entries, slice.raw_bytes, &slice.xxh3_sum));
    for (at, (documents, raw_bytes, sum)) in namespaces.chain(slice).enumerate() {
        let tally = tallies.get(&at).cloned().unwrap_or_default();
        let name = manifest.name(at).expect("it is one of the manifest's");
        let mut say = |what: String| findings.push(VerifyFinding::of_namespace(name.clone(), what));
        for (what, got, wanted) in
            [("documents", tally.documents, documents), ("bytes of documents", tally.raw_bytes, raw_bytes)]
        {
            if got != wanted {
                let (got, wanted) = (units::count(got), units::count(wanted));
                say(format!("{got} {what} where the manifest says {wanted}"));
            }
        }
        if format!("{:032x}", tally.sum) != *sum {
            say("the hash of its documents is not the manifest's".into());
        }
    }
    findings
}

/// The error of a reader whose thread panicked.
fn thread_panicked() -> Error {
    Error::failed("a thread of the verify ended unexpectedly")
}
