//! The faults of a stored backup, as far as one listing and its last verify show them. `list`, `stats`, `health` and
//! retention all judge by this: a backup with a fault is not good.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::run::{BackupRun, STATUSES, Status};
use super::trust::Distrust;
use super::verdict::Verdict;
use super::{BackupFolder, layout};
use crate::base::units::{count, several};
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;

/// The longest time that a run may need between its index and its manifest, with all repetitions.
const COMMITTING: TimeDelta = TimeDelta::hours(1);

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The last verify found damage, or an object does not have the size that the manifest records.
    Damaged,
    ArtifactMissing,
    /// The index is missing, so only stock tools can read the artifact.
    IndexMissing,
    /// The artifact exists without a manifest, although no cleanup deleted the backup.
    ManifestMissing,
    /// The manifest cannot be decoded.
    UnreadableManifest,
    /// There are trusted keys, and the manifest is not signed.
    Untrusted,
    /// There are trusted keys, and none of them made the signature of this manifest.
    WrongSignature,
}

impl FaultKind {
    /// Returns true if no manifest describes the backup.
    pub fn takes_the_manifest(self) -> bool {
        matches!(self, FaultKind::ManifestMissing | FaultKind::UnreadableManifest)
    }

    /// Returns true if anybody may have written the backup.
    pub fn is_distrust(self) -> bool {
        matches!(self, FaultKind::Untrusted | FaultKind::WrongSignature)
    }
}

/// The beginning of the message about damage that verify found.
const FOUND: &str = "verify found it damaged: ";
/// The end of the message about a missing object.
const MISSING: &str = " is missing";

/// The beginning of the message about a missing or wrong signature.
const DISTRUSTED: &str = "untrusted: ";

/// A fault of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFault {
    pub kind: FaultKind,
    /// The message.
    pub why: String,
}

impl BackupFault {
    /// Returns the fault of a backup that has a manifest: a missing object or a wrong size, or else the damage that the
    /// last verify found.
    pub fn find<N>(
        manifest: &Manifest<N>,
        folder: &BackupFolder,
        verdict: Option<&Verdict>,
    ) -> Option<BackupFault> {
        let object_fault = |what: &str, missing: FaultKind, key: &str, size: u64| {
            let Some(object) = folder.values().find(|object| object.key == key) else {
                return Some(BackupFault { kind: missing, why: format!("its {what} {key}{MISSING}") });
            };
            (object.size != size).then(|| {
                let (found, size) = (several(object.size, "byte"), count(size));
                let why = format!("its {what} {key} has {found}, but the manifest says {size}");
                BackupFault { kind: FaultKind::Damaged, why }
            })
        };
        let (artifact, index) = (&manifest.artifact, &manifest.index);
        object_fault("artifact", FaultKind::ArtifactMissing, &artifact.key, artifact.size)
            .or_else(|| object_fault("index", FaultKind::IndexMissing, &index.key, index.size))
            .or_else(|| {
                let verdict = verdict.filter(|verdict| !verdict.sound)?;
                let what = verdict.wrong().next().map_or("damaged", String::as_str);
                Some(BackupFault { kind: FaultKind::Damaged, why: format!("{FOUND}{what}") })
            })
    }

    /// Returns the part of the message that adds to the name of the kind, for tables that show both.
    pub fn detail(&self) -> &str {
        let what = match self.kind {
            FaultKind::Damaged => return self.why.strip_prefix(FOUND).unwrap_or(&self.why),
            FaultKind::ArtifactMissing => "its artifact ",
            FaultKind::IndexMissing => "its index ",
            FaultKind::ManifestMissing
            | FaultKind::UnreadableManifest
            | FaultKind::Untrusted
            | FaultKind::WrongSignature => return self.why.strip_prefix(DISTRUSTED).unwrap_or(&self.why),
        };
        let key = self.why.strip_prefix(what).and_then(|rest| rest.strip_suffix(MISSING));
        key.unwrap_or(&self.why)
    }

    /// Returns the message with the id of the backup.
    pub fn with_id(&self, id: &BackupId) -> String {
        format!("the backup {id}: {}", self.why)
    }

    /// Returns the next step for a backup that still has its manifest.
    pub fn next_step(&self, id: &BackupId) -> Option<String> {
        let file = match self.kind {
            FaultKind::Damaged => "its file",
            FaultKind::ArtifactMissing => "its artifact",
            FaultKind::IndexMissing => "its index",
            FaultKind::ManifestMissing | FaultKind::UnreadableManifest => return None,
            FaultKind::Untrusted | FaultKind::WrongSignature => {
                return Some(format!(
                    "find out who wrote it; `--allow-unsigned {id}` restores, prints or verifies it nevertheless, and cleanup never \
                     deletes it"
                ));
            }
        };
        Some(format!(
            "if there is a copy of {file}, put it back; `uzima-backup verify {id}` then makes the backup count again"
        ))
    }

    /// The fault of a backup that is not trusted.
    pub fn untrusted(why: &Distrust) -> BackupFault {
        let kind = match why {
            Distrust::Unsigned => FaultKind::Untrusted,
            Distrust::Wrong(_) => FaultKind::WrongSignature,
        };
        BackupFault { kind, why: format!("{DISTRUSTED}{why}") }
    }

    /// The fault of a manifest that cannot be decoded.
    pub fn unreadable(key: &str, why: &str) -> BackupFault {
        BackupFault { kind: FaultKind::UnreadableManifest, why: format!("{key} cannot be understood: {why}") }
    }

    /// Returns a fault if the run's backup has lost only its manifest, though its record says that it was deleted. A
    /// deletion leaves its tombstone until the artifact is gone, so without a tombstone nobody deleted the backup.
    pub fn lost_manifest(run: &BackupRun, folder: &BackupFolder, now: DateTime<Utc>) -> Option<BackupFault> {
        if run.status != Status::Deleted {
            return None;
        }
        let Some(artifact) = &run.key else { return BackupFault::unrecorded(folder, now) };
        let exists = folder.values().any(|object| object.key == *artifact);
        let deleted = folder.contains_key(layout::MANIFEST) || folder.contains_key(layout::TOMBSTONE);
        (exists && !deleted).then(|| BackupFault::without_manifest(artifact))
    }

    /// Returns a fault if a folder without a record has everything but the manifest. A run writes the index after the
    /// artifact, and the manifest right after the index. If both are old, the manifest was lost, or the run was killed
    /// just before it wrote the manifest.
    pub fn unrecorded(folder: &BackupFolder, now: DateTime<Utc>) -> Option<BackupFault> {
        let ended = [layout::MANIFEST, layout::TOMBSTONE, layout::FAILED];
        let (_, index) = folder.iter().find(|(file, _)| layout::is_index(file))?;
        let (_, artifact) = folder.iter().find(|(file, _)| layout::is_artifact(file))?;
        let lost = !ended.iter().any(|file| folder.contains_key(*file)) && now - index.modified > COMMITTING;
        lost.then(|| BackupFault::without_manifest(&artifact.key))
    }

    fn without_manifest(artifact: &str) -> BackupFault {
        let why = format!("its artifact {artifact} exists, but its manifest is missing");
        BackupFault { kind: FaultKind::ManifestMissing, why }
    }
}

/// The status that `list` and `stats` show for a run and its backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownStatus {
    /// The end of the run. A completed run has a backup without a known fault.
    Run(Status),
    Fault(FaultKind),
    /// The manifest is in an archive class of the bucket.
    Archived,
}

impl ShownStatus {
    /// The status of a run whose backup may have a fault.
    pub fn new(status: Status, fault: Option<&BackupFault>) -> ShownStatus {
        fault.map_or(ShownStatus::Run(status), |fault| ShownStatus::Fault(fault.kind))
    }

    /// Returns all that there are.
    pub fn all() -> impl Iterator<Item = ShownStatus> {
        use FaultKind::{ArtifactMissing, Damaged, IndexMissing, ManifestMissing, UnreadableManifest};
        use FaultKind::{Untrusted, WrongSignature};
        let faults = [
            Damaged,
            ArtifactMissing,
            IndexMissing,
            ManifestMissing,
            UnreadableManifest,
            Untrusted,
            WrongSignature,
        ];
        let runs = STATUSES.map(ShownStatus::Run).into_iter();
        runs.chain(faults.map(ShownStatus::Fault)).chain([ShownStatus::Archived])
    }

    /// The name in JSON and after `--status`. Messages show it with spaces.
    pub fn code(self) -> &'static str {
        match self {
            ShownStatus::Run(status) => status.word(),
            ShownStatus::Fault(FaultKind::Damaged) => "damaged",
            ShownStatus::Fault(FaultKind::ArtifactMissing) => "artifact_missing",
            ShownStatus::Fault(FaultKind::IndexMissing) => "index_missing",
            ShownStatus::Fault(FaultKind::ManifestMissing) => "manifest_missing",
            ShownStatus::Fault(FaultKind::UnreadableManifest) => "unreadable_manifest",
            ShownStatus::Fault(FaultKind::Untrusted) => "untrusted",
            ShownStatus::Fault(FaultKind::WrongSignature) => "wrong_signature",
            ShownStatus::Archived => "archived",
        }
    }
}

impl JsonSchema for ShownStatus {
    fn schema_name() -> Cow<'static, str> {
        "ShownStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ShownStatus::all().map(ShownStatus::code).collect::<Vec<_>>()})
    }
}

impl Serialize for ShownStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl fmt::Display for ShownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code().replace('_', " "))
    }
}

impl FromStr for ShownStatus {
    type Err = String;

    fn from_str(word: &str) -> Result<ShownStatus, String> {
        ShownStatus::all().find(|shown| shown.code() == word).ok_or_else(|| {
            let codes: Vec<&str> = ShownStatus::all().map(ShownStatus::code).collect();
            format!("the status must be one of {}", codes.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_parsed_from_its_name_in_json() {
        for shown in ShownStatus::all() {
            assert_eq!(shown.code().parse(), Ok(shown));
        }
        assert_eq!(ShownStatus::Fault(FaultKind::ArtifactMissing).to_string(), "artifact missing");
        let wrong = "artifact missing".parse::<ShownStatus>().unwrap_err();
        assert!(
            wrong.contains("completed, ") && wrong.ends_with(", untrusted, wrong_signature, archived"),
            "{wrong}"
        );
    }
}
