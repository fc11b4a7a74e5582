//! `diff`: what changed between two backups.
//!
//! The manifests have the counts, hashes, options and indexes of all namespaces, so nothing else is read ([`namespaces`]). Only an
//! encrypted backup also needs its index object, which has the complete manifest. With `documents`, the segments of the namespaces
//! whose documents differ are read and compared ([`documents`]), and the oplog slices are read for their writes ([`slices`]).

mod documents;
mod namespaces;
mod scratch;
mod slices;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::artifact::read;
use crate::artifact::read::replicas::{Replica, Replicas};
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::keys::Identities;
use crate::base::progress::{Meter, Phase};
use crate::base::units::several;
use crate::catalog::compare::source_changed;
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::model::optime::OpTime;
use crate::ops::restore::{StoredBackup, read_blocking};
use documents::DocumentComparison;
use namespaces::{NamespaceDiffs, compare_namespaces};
use scratch::HashRecords;
use slices::SliceWrites;

pub use documents::DocumentChanges;
pub use namespaces::{DiffKind, DiffScope, NamespaceDiff};

/// The memory for the hashes of documents, in bytes.
pub const MEMORY: u64 = 64 << 20;

/// What `diff` compares.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    pub scope: DiffScope,
    /// Compares the documents of the namespaces whose documents differ.
    pub documents: bool,
    /// The most `_id`s in each list of a namespace.
    pub limit: usize,
    /// The memory for the hashes of documents, in bytes. More hashes go into a scratch file.
    pub memory: u64,
    /// The folder of the scratch file.
    pub scratch: PathBuf,
}

/// The result of `diff`. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct DiffReport {
    pub version: u32,
    /// The backup that was named first.
    pub from: DiffedBackup,
    /// The backup that was named second.
    pub to: DiffedBackup,
    /// `None` if both backups are of the same server.
    pub source_changed: Option<String>,
    /// The namespaces that differ, sorted by name.
    pub namespaces: Vec<NamespaceDiff>,
    /// The number of namespaces that are equal.
    pub equal: u64,
    /// Why the documents of the report may be of different moments, and places that were not used.
    pub problems: Vec<String>,
}

/// One of the two backups.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct DiffedBackup {
    pub id: BackupId,
    pub job: String,
    pub started_at: DateTime<Utc>,
    /// The instant of the restored data. `None` if the data is of no instant.
    pub at: Option<OpTime>,
    /// A path or an `s3://` address.
    pub place: String,
    /// With `--documents`: how many writes to the compared namespaces its oplog slice has, and therefore a restore replays.
    pub slice_writes: Option<u64>,
}

impl DiffReport {
    /// [`Exit::NeedsLook`] if there are problems, else [`Exit::Done`], whether or not the backups differ.
    pub fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Done } else { Exit::NeedsLook }
    }
}

/// A backup that is ready to be compared.
pub struct DiffSide {
    /// The complete manifest.
    manifest: Manifest,
    place: String,
    /// The problems of places, if the backup is not open.
    problems: Vec<String>,
    /// Only if documents are compared.
    stored: Option<Arc<StoredBackup>>,
}

impl DiffSide {
    /// A backup of which only the manifest is compared. `problems` are those of the places.
    pub fn of_manifest(manifest: Manifest, place: String, problems: Vec<String>) -> DiffSide {
        DiffSide { manifest, place, problems, stored: None }
    }

    /// Reads the complete manifest of an encrypted backup.
    ///
    /// # Errors
    /// Returns an error of the kind [`Kind::Key`] if no identity decrypts the backup, and of the kind [`Kind::Mismatch`] if the index
    /// does not match the manifest.
    pub async fn of_encrypted(
        places: Replicas,
        manifest: Manifest,
        keys: Option<&Identities>,
    ) -> Result<DiffSide> {
        let load = async |one: &Replica| {
            read::load_index(&*one.store, &manifest, keys).await?.map_err(|what| {
                Error::new(Kind::Mismatch, format!("the backup {}: {what}", manifest.id))
                    .hint("Compare another backup (`uzima-backup list`), or bring the file back from a copy")
            })
        };
        let (_, complete) = places.read(&manifest.index.key, 0, load).await?;
        let place = places.first().place();
        Ok(DiffSide { manifest: complete, place, problems: places.problems(), stored: None })
    }

    /// A backup whose documents are compared, too.
    pub fn of_stored(stored: StoredBackup) -> DiffSide {
        let (manifest, place) = (stored.manifest.clone(), stored.object.places.first().place());
        DiffSide { manifest, place, problems: Vec::new(), stored: Some(Arc::new(stored)) }
    }

    fn described(&self, slice_writes: Option<u64>) -> DiffedBackup {
        DiffedBackup {
            id: self.manifest.id.clone(),
            job: self.manifest.job.clone(),
            started_at: self.manifest.started_at,
            at: self.manifest.consistency.at,
            place: self.place.clone(),
            slice_writes,
        }
    }

    fn problems(&self) -> Vec<String> {
        self.stored.as_ref().map_or_else(|| self.problems.clone(), |stored| stored.object.places.problems())
    }
}

/// Compares two backups. If documents are compared, both sides must be made by [`DiffSide::of_stored`].
///
/// # Errors
/// Returns a usage error if the two backups are the same, or if neither has what the options name. If documents are compared,
/// returns an error if a store or the scratch file fails; the error has the kind [`Kind::Mismatch`] if a backup is damaged.
pub async fn diff(sides: [DiffSide; 2], options: &DiffOptions, meter: &Meter) -> Result<DiffReport> {
    let [before, now] = [&sides[0].manifest, &sides[1].manifest];
    if before.id == now.id {
        return Err(Error::usage(format!("both names mean the backup {}", now.id))
            .hint("Name two backups: `uzima-backup list` shows them"));
    }
    let mut diffs = compare_namespaces(before, now, &options.scope)?;
    let mut found = FoundInSlices::default();
    if let ([Some(first), Some(second)], true) =
        (sides.each_ref().map(|side| side.stored.clone()), options.documents)
    {
        let (options, meter) = (options.clone(), meter.clone());
        (diffs, found) = read_blocking(move || {
            let found = compare_contents([first, second], &mut diffs, &options, &meter)?;
            Ok((diffs, found))
        })
        .await?;
    }
    let mut problems = found.problems(&sides, &diffs.different);
    sides.iter().for_each(|side| problems.extend(side.problems()));
    Ok(DiffReport {
        version: 1,
        from: sides[0].described(found.writes[0]),
        to: sides[1].described(found.writes[1]),
        source_changed: source_changed(&before.source, &now.source),
        namespaces: diffs.different,
        equal: diffs.equal,
        problems,
    })
}

/// The writes of the two oplog slices to the compared namespaces.
#[derive(Debug, Default)]
struct FoundInSlices {
    /// By side; `None` if the slices were not read.
    writes: [Option<u64>; 2],
    /// Why a slice could not be followed to its end.
    unclear: Vec<String>,
}

impl FoundInSlices {
    fn problems(&self, sides: &[DiffSide; 2], different: &[NamespaceDiff]) -> Vec<String> {
        let written = sides.iter().zip(self.writes).filter_map(|(side, writes)| {
            let writes = writes.filter(|writes| *writes > 0)?;
            Some(format!("the oplog slice of {} has {}", side.manifest.id, several(writes, "write")))
        });
        let written: Vec<String> = written.collect();
        let contents = || different.iter().filter_map(|diff| diff.contents.as_ref());
        let (touched, all) =
            contents().fold((0, 0), |(touched, all), found| (touched + found.touched, all + found.count()));
        let moments = (!written.is_empty()).then(|| {
            format!(
                "documents are of different moments: {} to the compared namespaces, which a restore replays. They touch {touched} of \
                 the {} that differ",
                written.join(", and "),
                several(all, "document")
            )
        });
        moments.into_iter().chain(self.unclear.iter().cloned()).collect()
    }
}

/// Reads the documents that may differ, and fills in the `contents`. Blocks the thread.
fn compare_contents(
    sides: [Arc<StoredBackup>; 2],
    diffs: &mut NamespaceDiffs,
    options: &DiffOptions,
    meter: &Meter,
) -> Result<FoundInSlices> {
    let read: Vec<&mut NamespaceDiff> =
        diffs.different.iter_mut().filter(|diff| diff.to_be_read().is_some()).collect();
    let places: Vec<[usize; 2]> = read.iter().filter_map(|diff| diff.to_be_read()).collect();
    let names: Vec<String> = read.iter().map(|diff| diff.namespace.clone()).collect();
    let comparison = DocumentComparison::new([&*sides[0], &*sides[1]], &places, options.limit)?;
    let slices = sides.each_ref().map(|side| side.manifest.consistency.oplog.as_ref());
    let in_slices = slices.iter().flatten();
    // A transaction is one entry with many operations, each of at least some fifty bytes.
    let operations = in_slices.clone().map(|slice| slice.entries.max(slice.raw_bytes / 64)).sum::<u64>();
    let expected = comparison.documents().saturating_add(operations);
    let mut records = HashRecords::new(expected, options.memory, &options.scratch)?;
    let raw_bytes =
        in_slices.map(|slice| slice.raw_bytes).sum::<u64>().saturating_add(comparison.raw_bytes());
    meter.expect(Phase::Diffing, Some(raw_bytes), 0);
    let (mut found, mut rewritten) = (FoundInSlices::default(), vec![false; names.len()]);
    for (side, stored) in sides.iter().enumerate() {
        let writes = SliceWrites::read(stored, &options.scope, &names, meter, &mut |at, id| {
            records.push(comparison.hasher().write(at, id))
        })?;
        found.writes[side] = Some(writes.writes);
        writes.rewritten.iter().for_each(|at| rewritten[*at] = true);
        found.unclear.extend(writes.unclear);
    }
    comparison.read(&mut records, &|name, documents, bytes| {
        meter.doing(name.into());
        meter.add(documents, bytes);
    })?;
    for ((diff, changes), rewritten) in read.into_iter().zip(comparison.finish(records)?).zip(rewritten) {
        let touched = if rewritten { changes.count() } else { changes.touched };
        diff.contents = Some(DocumentChanges { touched, ..changes });
    }
    Ok(found)
}
