//! `verify`: read a backup's artifact again, every byte of it, and hold it against manifest and index.
//!
//! One pass: [`fetch`] asks for the artifact piece by piece and sums its bytes up; [`regions`] cuts the
//! stream at the segments' ends; workers ([`region`]) decompress each and compare hashes and counts; and one
//! reader ([`structure`]) sees the raw stream as tar or mongorestore would.

mod fetch;
mod sample;
mod structure;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::artifact::read::region::Finding;
use crate::artifact::read::{region, regions};
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::units;
use crate::catalog::layout;
use crate::catalog::marks;
use crate::catalog::verdict::Verdict;
use crate::config::format::Format;
use crate::model::id::BackupId;
use crate::model::index;
use crate::model::index::Index;
use crate::model::manifest;
use crate::model::manifest::Manifest;
use crate::ops::backup::TOOL;
use crate::store::{self, Store};

pub use sample::{Chosen, sample};

/// What a verify found.
#[derive(Debug)]
pub struct Report {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// What is wrong; empty when every byte is as it should be.
    pub findings: Vec<Finding>,
    /// Bytes of the artifact that were read.
    pub stored_bytes: u64,
    /// Documents that were hashed, without the entries of an oplog slice.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
}

impl Report {
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
) -> Result<Report> {
    let mut report = Report {
        started_at: clock.now(),
        finished_at: clock.now(),
        findings: Vec::new(),
        stored_bytes: 0,
        documents: 0,
        raw_bytes: 0,
    };
    match index(store, manifest).await? {
        Err(what) => report.findings.push(Finding::of_backup(what)),
        Ok(index) => {
            let changed = changed(store, manifest, &index).await?;
            report.findings.extend(changed.map(Finding::of_backup));
            artifact(store, manifest, &index, workers, &mut report).await?;
        }
    }
    report.finished_at = clock.now();
    Ok(report)
}

/// The index, if it is the one that the manifest speaks of.
pub(super) async fn index(store: &Arc<dyn Store>, manifest: &Manifest) -> Result<Result<Index, String>> {
    let object = &manifest.index;
    let bytes = match store.get(&object.key, index::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind == store::Kind::NotFound => return Ok(Err(format!("{} is missing", object.key))),
        Err(e) if e.kind == store::Kind::Damaged => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    if bytes.len() as u64 != object.size || blake3::hash(&bytes).to_hex().as_str() != object.blake3 {
        return Ok(Err(format!("{} is not the one that the manifest speaks of", object.key)));
    }
    Ok(match Index::decode(&bytes) {
        Err(e) => Err(e.chain()),
        Ok(index) if index.id != manifest.id.as_str() => Err(format!("{} is of another backup", object.key)),
        Ok(index) => regions::check(&index, manifest).map(|()| index),
    })
}

/// Compares the stored manifest with the digest that the index has of it. Returns what is wrong.
async fn changed(store: &Arc<dyn Store>, manifest: &Manifest, index: &Index) -> Result<Option<String>> {
    // Version 0.1.0 did not write it.
    let Some(wanted) = &index.manifest_blake3 else { return Ok(None) };
    let key = layout::manifest(&manifest.id);
    let bytes = match store.get(&key, manifest::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind, store::Kind::NotFound | store::Kind::Damaged) => {
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
    report: &mut Report,
) -> Result<()> {
    let artifact = &manifest.artifact;
    let format: Format = match artifact.format.parse() {
        Ok(format) => format,
        Err(why) => {
            report.findings.push(Finding::of_backup(format!("its format is unknown: {why}")));
            return Ok(());
        }
    };
    let stored = store.head(&artifact.key).await?.map(|object| object.size);
    if stored != Some(artifact.size) {
        let has = |n| format!("has {}, not {}", units::several(n, "byte"), units::count(artifact.size));
        let what = stored.map_or("is missing".into(), has);
        report.findings.push(Finding::of_backup(format!("{} {what}", artifact.key)));
        return Ok(());
    }
    // A region in hand for each worker, and one that waits.
    let (regions, taken) = mpsc::channel(1);
    let (streams, in_order) = sync_channel(workers + 1);
    let pool = region::Pool::start(workers, format.codec, taken)?;
    let described = !index.namespaces.is_empty();
    let reader = structure::start(in_order, manifest.clone(), format.container, described)?;
    let read = fetch::all(store, manifest, regions::of(index, manifest), &regions, &streams).await;
    drop((regions, streams));
    let (tallies, findings) = pool.finish().await?;
    report.findings.extend(findings);
    // The error of a store that ended in the middle says more than what followed from it.
    let fetched = read?;
    report.findings.extend(reader.finish().await?);
    report.stored_bytes = fetched.bytes;
    if format!("{:016x}", fetched.crc64nvme) != artifact.crc64nvme {
        let what = format!(
            "the checksum of {} is {:016x}, the manifest says {}",
            artifact.key, fetched.crc64nvme, artifact.crc64nvme
        );
        report.findings.push(Finding::of_backup(what));
    }
    report.findings.extend(regions::compare(&tallies, manifest));
    // As the manifest and the list count them. The oplog slice comes after the namespaces.
    let counted = || tallies.range(..manifest.namespaces.len()).map(|(_, tally)| tally);
    report.documents = counted().map(|tally| tally.documents).sum();
    report.raw_bytes = counted().map(|tally| tally.raw_bytes).sum();
    report.findings.sort_by_key(|finding| finding.offset.unwrap_or(u64::MAX));
    Ok(())
}
