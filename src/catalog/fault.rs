//! What is wrong with a stored backup, as far as one listing and its last verify tell. All that speak of
//! backups (`list`, `stats`, `health`, retention) go by this judgement: what has a fault is not good.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use super::run::{BackupRun, STATUSES, Status};
use super::verdict::Verdict;
use super::{BackupFolder, layout};
use crate::base::units::{count, several};
use crate::model::id::BackupId;
use crate::model::index;
use crate::model::manifest::Manifest;

/// No run takes so long between its index and its manifest, whatever has to be tried again.
const COMMITTING: TimeDelta = TimeDelta::hours(1);

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The last verify found it damaged, or an object of it has another size than the manifest says.
    Damaged,
    /// The artifact is not there.
    ArtifactMissing,
    /// The index is not there: only stock tools can read the artifact.
    IndexMissing,
    /// The artifact is there, and no manifest, though there was a backup that nobody deleted.
    ManifestMissing,
    /// The manifest cannot be understood.
    UnreadableManifest,
}

/// Every kind.
const KINDS: [FaultKind; 5] = [
    FaultKind::Damaged,
    FaultKind::ArtifactMissing,
    FaultKind::IndexMissing,
    FaultKind::ManifestMissing,
    FaultKind::UnreadableManifest,
];

impl FaultKind {
    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            FaultKind::Damaged => "damaged",
            FaultKind::ArtifactMissing => "artifact missing",
            FaultKind::IndexMissing => "index missing",
            FaultKind::ManifestMissing => "manifest missing",
            FaultKind::UnreadableManifest => "unreadable manifest",
        }
    }

    /// Whether it leaves no manifest to go by: then the store does not say what there was a backup of.
    pub fn takes_the_manifest(self) -> bool {
        matches!(self, FaultKind::ManifestMissing | FaultKind::UnreadableManifest)
    }
}

/// How the fault of one begins that verify found.
const FOUND: &str = "verify found it damaged: ";
/// How the fault of an object ends that is not there.
const MISSING: &str = " is missing";

/// What is wrong with a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFault {
    /// What kind it is.
    pub kind: FaultKind,
    /// What is wrong, in words.
    pub why: String,
}

impl BackupFault {
    /// That of a backup, if it has one: what the listing says of its objects, then what the last verify
    /// found in them.
    pub fn of<N>(
        manifest: &Manifest<N>,
        folder: &BackupFolder,
        verdict: Option<&Verdict>,
    ) -> Option<BackupFault> {
        let (artifact, index) = (&manifest.artifact, &manifest.index);
        object("artifact", &artifact.key, artifact.size, FaultKind::ArtifactMissing, folder)
            .or_else(|| object("index", &index.key, index.size, FaultKind::IndexMissing, folder))
            .or_else(|| found(verdict?))
    }

    /// What it says beyond the words of its kind, where those stand before it.
    pub fn beyond(&self) -> &str {
        let what = match self.kind {
            FaultKind::Damaged => return self.why.strip_prefix(FOUND).unwrap_or(&self.why),
            FaultKind::ArtifactMissing => "its artifact ",
            FaultKind::IndexMissing => "its index ",
            FaultKind::ManifestMissing | FaultKind::UnreadableManifest => return &self.why,
        };
        let key = self.why.strip_prefix(what).and_then(|rest| rest.strip_suffix(MISSING));
        key.unwrap_or(&self.why)
    }

    /// It in one line, with the backup that has it.
    pub fn of_backup(&self, id: &BackupId) -> String {
        format!("the backup {id}: {}", self.why)
    }

    /// The next step, where the data of a backup that still has its manifest is no good.
    pub fn next_step(&self, id: &BackupId) -> Option<String> {
        let file = match self.kind {
            FaultKind::Damaged => "its file",
            FaultKind::ArtifactMissing => "its artifact",
            FaultKind::IndexMissing => "its index",
            FaultKind::ManifestMissing | FaultKind::UnreadableManifest => return None,
        };
        Some(format!(
            "if there is a copy of {file}, bring that back; `uzima-backup verify {id}` then makes the backup count again"
        ))
    }

    /// That of a manifest which cannot be understood.
    pub fn unreadable(key: &str, why: &str) -> BackupFault {
        BackupFault { kind: FaultKind::UnreadableManifest, why: format!("{key} cannot be understood: {why}") }
    }

    /// That of a run whose backup is said to be gone, if its manifest alone is. A deletion leaves its
    /// tombstone until the artifact is gone too; where there is none, nobody deleted this backup.
    pub fn lost(run: &BackupRun, folder: &BackupFolder, now: DateTime<Utc>) -> Option<BackupFault> {
        if run.status != Status::Deleted {
            return None;
        }
        let Some(artifact) = &run.key else { return BackupFault::bare(folder, now) };
        let there = folder.values().any(|object| object.key == *artifact);
        let deleted = folder.contains_key(layout::MANIFEST) || folder.contains_key(layout::TOMBSTONE);
        (there && !deleted).then(|| BackupFault::without_manifest(artifact))
    }

    /// That of a folder of which no record tells, if all is there but the manifest. It is written right after
    /// the index, and the index after the artifact: where both are old, a manifest was there and is lost, or
    /// the run was killed in the moment between.
    pub fn bare(folder: &BackupFolder, now: DateTime<Utc>) -> Option<BackupFault> {
        let said = [layout::MANIFEST, layout::TOMBSTONE, layout::FAILED];
        let index = folder.get(index::FILE)?;
        let (_, artifact) = folder.iter().find(|(file, _)| layout::is_artifact(file))?;
        let lost = !said.iter().any(|file| folder.contains_key(*file)) && now - index.modified > COMMITTING;
        lost.then(|| BackupFault::without_manifest(&artifact.key))
    }

    fn without_manifest(artifact: &str) -> BackupFault {
        let why = format!("its artifact {artifact} is there, and its manifest is not");
        BackupFault { kind: FaultKind::ManifestMissing, why }
    }
}

/// What the listing tells against an object of a backup.
fn object(
    what: &str,
    key: &str,
    size: u64,
    missing: FaultKind,
    folder: &BackupFolder,
) -> Option<BackupFault> {
    match folder.values().find(|object| object.key == key) {
        None => Some(BackupFault { kind: missing, why: format!("its {what} {key}{MISSING}") }),
        Some(object) if object.size != size => {
            let why = format!(
                "its {what} {key} has {}, the manifest says {}",
                several(object.size, "byte"),
                count(size)
            );
            Some(BackupFault { kind: FaultKind::Damaged, why })
        }
        Some(_) => None,
    }
}

fn found(verdict: &Verdict) -> Option<BackupFault> {
    let what = || verdict.wrong().next().map_or("damaged", String::as_str);
    (!verdict.sound).then(|| BackupFault { kind: FaultKind::Damaged, why: format!("{FOUND}{}", what()) })
}

/// How a run and its backup stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownStatus {
    /// As the run ended; a completed one has a backup in which no fault is known.
    Run(Status),
    /// Its backup has a fault.
    Fault(FaultKind),
    /// Its backup's manifest is in an archive class of the bucket.
    Archived,
}

impl ShownStatus {
    /// That of a run, and of its backup's fault.
    pub fn of(status: Status, fault: Option<&BackupFault>) -> ShownStatus {
        fault.map_or(ShownStatus::Run(status), |fault| ShownStatus::Fault(fault.kind))
    }

    /// Every one.
    pub fn all() -> impl Iterator<Item = ShownStatus> {
        STATUSES
            .map(ShownStatus::Run)
            .into_iter()
            .chain(KINDS.map(ShownStatus::Fault))
            .chain([ShownStatus::Archived])
    }

    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            ShownStatus::Run(status) => status.word(),
            ShownStatus::Fault(kind) => kind.words(),
            ShownStatus::Archived => "archived",
        }
    }

    /// Its word in JSON and after `--status`: `completed`, `artifact_missing`.
    pub fn code(self) -> &'static str {
        match self {
            ShownStatus::Run(status) => status.word(),
            ShownStatus::Fault(FaultKind::Damaged) => "damaged",
            ShownStatus::Fault(FaultKind::ArtifactMissing) => "artifact_missing",
            ShownStatus::Fault(FaultKind::IndexMissing) => "index_missing",
            ShownStatus::Fault(FaultKind::ManifestMissing) => "manifest_missing",
            ShownStatus::Fault(FaultKind::UnreadableManifest) => "unreadable_manifest",
            ShownStatus::Archived => "archived",
        }
    }
}

impl fmt::Display for ShownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl FromStr for ShownStatus {
    type Err = String;

    fn from_str(word: &str) -> Result<ShownStatus, String> {
        ShownStatus::all().find(|shown| shown.code() == word).ok_or_else(|| {
            format!(
                "a status is one of {}",
                ShownStatus::all().map(ShownStatus::code).collect::<Vec<_>>().join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_asked_for_by_the_word_that_json_has() {
        for shown in ShownStatus::all() {
            assert_eq!(shown.code().parse(), Ok(shown));
            assert_eq!(shown.code(), shown.words().replace(' ', "_"));
        }
        assert_eq!(ShownStatus::Fault(FaultKind::ArtifactMissing).code(), "artifact_missing");
        let wrong = "artifact missing".parse::<ShownStatus>().unwrap_err();
        assert!(
            wrong.contains("completed, ") && wrong.ends_with(", unreadable_manifest, archived"),
            "{wrong}"
        );
    }
}
