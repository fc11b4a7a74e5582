//! The results of `verify`, which are stored beside the manifest. docs/format.md describes every field.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::marks::{self, FORMAT};
use super::trust::Trust;
use super::{Catalog, Signed, layout};
use crate::base::clock;
use crate::base::error::Result;
use crate::base::minisign::SigningKey;
use crate::base::units::several;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::store::Store;

/// The result of a verify. Each verify writes its own object. The newest result and the newest drill count.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Verdict {
    pub format: u32,
    pub id: BackupId,
    /// When the verify ended.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// The machine of the verify.
    pub host: String,
    /// The name and version of the program.
    pub tool: String,
    /// Every byte was as manifest and index say, and the drill, if there was one, found no difference.
    pub sound: bool,
    /// The faults of the artifact, one per line. Of many, only the first are kept.
    pub findings: Vec<String>,
    /// The bytes of the artifact that were read.
    pub stored_bytes: u64,
    /// The documents that were hashed, without oplog entries.
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// The duration of the verify.
    pub seconds: f64,
    /// Only the stored bytes of an encrypted backup were checked, because there was no key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_key: bool,
    /// The drill that followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

/// A drill: the backup was restored into a scratch server and compared with its manifest.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Drill {
    /// When the drill ended.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// `mongod` for a server that the drill started, `server` for a server that was given.
    pub target: String,
    /// The version of the target.
    pub version: String,
    /// The oplog entries that were replayed; 0 without an oplog slice.
    #[serde(default)]
    pub oplog_entries: u64,
    /// The duration of the restore with the replay: the measured recovery time.
    pub recovery_seconds: f64,
    /// The time for building indexes, summed up over the namespaces, which are built in parallel.
    pub index_seconds: f64,
    /// The duration of the comparison.
    pub compare_seconds: f64,
    /// The restored namespaces, without users, roles and collections of the server itself.
    pub namespaces: u64,
    /// The documents in these namespaces.
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// The differences from the manifest, one per line. Of many, only the first are kept.
    pub findings: Vec<String>,
    /// Facts that a person should know, one per line.
    pub notes: Vec<String>,
    /// The point in time that was restored, with the backup and the oplog slices after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<DrilledPoint>,
}

/// A point in time that was drilled.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct DrilledPoint {
    /// Everything up to this optime was restored.
    pub at: OpTime,
    /// The number of oplog slices that were replayed.
    pub slices: u64,
    /// Faults of the replay, one per line. They say nothing about the backup alone. Of many, only the first are kept.
    pub findings: Vec<String>,
}

impl Drill {
    /// Returns the raw bytes that were restored per second.
    pub fn speed(&self) -> f64 {
        self.raw_bytes as f64 / self.recovery_seconds.max(0.001)
    }

    /// The differences from the manifest, and the faults of the replay to a point in time.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.findings.iter().chain(self.point.iter().flat_map(|point| &point.findings))
    }

    /// Returns true if the drill found nothing wrong.
    pub fn is_sound(&self) -> bool {
        self.wrong().next().is_none()
    }
}

impl Verdict {
    /// Returns the faults of the artifact and the differences that the drill found.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.findings.iter().chain(self.drill.iter().flat_map(|drill| &drill.findings))
    }

    /// Adds a drill, which may be older than the verify. Faults of the replay to a point in time leave the backup sound.
    pub fn with(mut self, drill: Drill) -> Verdict {
        self.sound &= drill.findings.is_empty();
        self.drill = Some(drill);
        self
    }

    /// The result for an encrypted backup as everybody may read it: findings and notes may name a namespace.
    pub fn readable(&self) -> Verdict {
        let hidden = |texts: &[String], what: &str| -> Vec<String> {
            let line = format!(
                "{}, encrypted: the log of the verify on {} has the text",
                several(texts.len() as u64, what),
                self.host
            );
            if texts.is_empty() { Vec::new() } else { vec![line] }
        };
        let drill = self.drill.as_ref().map(|drill| Drill {
            findings: hidden(&drill.findings, "difference"),
            notes: hidden(&drill.notes, "note"),
            point: drill
                .point
                .as_ref()
                .map(|point| DrilledPoint { findings: hidden(&point.findings, "fault"), ..point.clone() }),
            ..drill.clone()
        });
        Verdict { findings: hidden(&self.findings, "fault"), drill, ..self.clone() }
    }

    /// Adds the findings of an earlier result that was made with the key of an encrypted backup. Checking the stored bytes alone
    /// does not undo them.
    fn over(mut self, keyed: &Verdict) -> Verdict {
        self.sound &= keyed.findings.is_empty();
        self.findings.extend_from_slice(&keyed.findings);
        self
    }

    /// Writes the result, signed if there is a key.
    pub async fn write(&self, store: &dyn Store, signing: Option<&SigningKey>) -> Result<()> {
        marks::write_signed(store, &layout::verified(&self.id, self.at), self, signing).await
    }

    /// Reads a result, as [`marks::read_signed`] does.
    pub(super) async fn read(
        store: &dyn Store,
        id: &BackupId,
        key: &str,
        trust: &Trust,
    ) -> Result<Option<(Result<Verdict, String>, Signed)>> {
        let check = |found: &Verdict| {
            if found.format != FORMAT || found.id != *id {
                return Err("belongs to another backup, or has a newer format".into());
            }
            // The name decides which result is the newest.
            match layout::verified(id, found.at) == key {
                true => Ok(()),
                false => {
                    Err(format!("has a time in its name that is not the end of its verify, {}", found.at))
                }
            }
        };
        marks::read_signed(store, key, trust, check).await
    }
}

/// The results of the verifies of a backup.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdicts {
    /// The newest result with the newest drill, which may belong to an earlier result: reading the artifact again does
    /// not undo the findings of a restore. `None` if there is no result; the reason if the result cannot be used.
    pub newest: Option<Result<Verdict, String>>,
    /// The end of the newest verify with the key, or of a backup that is not encrypted.
    pub keyed_at: Option<DateTime<Utc>>,
    /// Messages about results that are dated in the future and ignored. Such a result would count as the newest until
    /// its date, whatever a verify finds until then.
    pub future: Vec<String>,
}

impl Verdicts {
    /// Reads as many results of a backup as needed, beginning with the newest.
    pub(super) async fn read(catalog: &Catalog<'_>, id: &BackupId) -> Result<Verdicts> {
        let mut verdicts = Verdicts::default();
        let now = catalog.options.now;
        let future = |key: &str, what: &str| {
            format!(
                "{key} {what} dated in the future, and does not count: a clock was wrong, or somebody planted it"
            )
        };
        let mut newest: Option<Verdict> = None;
        // True once a result that was made with the key, or of a backup that is not encrypted, was read.
        let mut keyed = false;
        let objects = catalog.folders().get(id).into_iter().flatten().rev();
        for (file, object) in objects.filter(|(file, _)| layout::is_verified(file)) {
            if layout::verified_at(file).is_some_and(|at| clock::is_future(at, now)) {
                verdicts.future.push(future(&object.key, "is"));
                continue;
            }
            let mut found = match catalog.verdict(id, object).await? {
                Some(Ok(found)) => found,
                Some(Err(why)) if newest.is_none() => {
                    verdicts.newest = Some(Err(why));
                    return Ok(verdicts);
                }
                Some(Err(_)) | None => continue,
            };
            if found.drill.as_ref().is_some_and(|drill| clock::is_future(drill.at, now)) {
                verdicts.future.push(future(&object.key, "has a drill that is"));
                found.drill = None;
            }
            let (with_key, found_at) = (!found.without_key, found.at);
            newest = Some(match (newest.take(), found.drill.take()) {
                (Some(last), drill) => {
                    let last = if with_key && !keyed { last.over(&found) } else { last };
                    match drill.filter(|_| last.drill.is_none()) {
                        Some(drill) => last.with(drill),
                        None => last,
                    }
                }
                (None, drill) => Verdict { drill, ..found },
            });
            if with_key && !keyed {
                verdicts.keyed_at = Some(found_at);
            }
            keyed |= with_key;
            if keyed && newest.as_ref().is_some_and(|newest| newest.drill.is_some()) {
                break;
            }
        }
        verdicts.newest = newest.map(Ok);
        Ok(verdicts)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::catalog::{Catalog, CatalogOptions};
    use crate::config::store::DirOptions;
    use crate::store::dir::DirStore;

    /// A result of a version that had no drills.
    const OLD: &str = r#"{"format":1,"id":"20261123T030000Z-7k3q9d","at":"2026-11-23T04:00:00Z","host":"h",
        "tool":"t","sound":true,"findings":[],"stored_bytes":1,"documents":1,"raw_bytes":1,"seconds":1.0}"#;

    fn drill(findings: &[&str]) -> Drill {
        Drill {
            at: "2026-11-23T05:00:00Z".parse().unwrap(),
            target: "mongod".into(),
            version: "6.0.5".into(),
            oplog_entries: 0,
            recovery_seconds: 2.0,
            index_seconds: 1.0,
            compare_seconds: 1.0,
            namespaces: 1,
            documents: 1,
            raw_bytes: 100,
            findings: findings.iter().map(ToString::to_string).collect(),
            notes: vec![],
            point: None,
        }
    }

    #[test]
    fn a_faulty_replay_to_a_point_in_time_leaves_the_backup_sound() {
        let old: Verdict = serde_json::from_str(OLD).unwrap();
        let point = DrilledPoint { at: OpTime { t: 1, i: 2 }, slices: 3, findings: vec!["canary".into()] };
        let drilled = old.with(Drill { point: Some(point), ..drill(&[]) });
        assert!(drilled.sound && !drilled.drill.as_ref().unwrap().is_sound());
        let kept = serde_json::to_string(&drilled.readable()).unwrap();
        assert!(kept.contains("1 fault, encrypted") && !kept.contains("canary"), "{kept}");
        let back: Verdict = serde_json::from_str(&serde_json::to_string(&drilled).unwrap()).unwrap();
        assert_eq!(back, drilled);
    }

    #[tokio::test]
    async fn a_verify_without_the_key_does_not_undo_the_findings_of_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let sound: Verdict = serde_json::from_str(OLD).unwrap();
        let write = async |hour: u32, without_key: bool, findings: &[&str], drilled: bool| {
            let at = format!("2026-11-23T{hour:02}:00:00Z").parse().unwrap();
            let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let verdict = Verdict { at, without_key, sound: findings.is_empty(), findings, ..sound.clone() };
            let verdict = if drilled { verdict.with(drill(&[])) } else { verdict };
            verdict.write(&store, None).await.unwrap();
        };
        let keyed_at = std::cell::Cell::new(Some(5));
        let newest = async || {
            let reading =
                CatalogOptions::remembering(None, "2026-11-24T12:00:00Z".parse().unwrap(), Trust::default());
            let catalog = Catalog::read(&store, &reading).await.unwrap();
            let ids = std::slice::from_ref(&sound.id);
            let verdicts = catalog.verdicts(ids).await.unwrap().remove(&sound.id).unwrap();
            let (found, keyed) = (verdicts.newest.unwrap().unwrap(), verdicts.keyed_at);
            assert_eq!(
                keyed.map(|at| at.to_rfc3339()),
                keyed_at.get().map(|hour| format!("2026-11-23T{hour:02}:00:00+00:00"))
            );
            (found.sound, found.without_key, found.findings.len(), found.drill.is_some())
        };
        write(5, false, &["damaged"], false).await;
        write(6, true, &[], false).await;
        write(7, true, &[], false).await;
        assert_eq!(newest().await, (false, true, 1, false));
        write(8, false, &[], true).await;
        write(9, true, &[], false).await;
        keyed_at.set(Some(8));
        assert_eq!(newest().await, (true, true, 0, true));
        // Damage of the stored bytes needs no key, and either kind of verify proves that it is gone.
        write(10, true, &["damaged"], false).await;
        assert_eq!(newest().await, (false, true, 1, true));
        write(11, true, &[], false).await;
        assert_eq!(newest().await, (true, true, 0, true));
    }

    #[tokio::test]
    async fn a_later_verify_does_not_undo_the_findings_of_a_drill() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let old: Verdict = serde_json::from_str(OLD).unwrap();
        let verdicts = async || {
            let reading =
                CatalogOptions::remembering(None, "2026-11-23T12:00:00Z".parse().unwrap(), Trust::default());
            let catalog = Catalog::read(&store, &reading).await.unwrap();
            catalog.verdicts(std::slice::from_ref(&old.id)).await.unwrap().remove(&old.id).unwrap()
        };
        let newest = async || verdicts().await.newest.unwrap();
        let at = |hour: u32| format!("2026-11-23T{hour:02}:00:00Z").parse().unwrap();
        old.write(&store, None).await.unwrap();
        assert_eq!(newest().await, Ok(old.clone()), "a result of a version that had no drills");
        let differs = Verdict { at: at(5), ..old.clone() }.with(drill(&["a.b: it is missing"]));
        differs.write(&store, None).await.unwrap();
        Verdict { at: at(6), ..old.clone() }.write(&store, None).await.unwrap();
        let found = newest().await.unwrap();
        assert_eq!((found.at, found.sound, found.wrong().count()), (at(6), false, 1));
        Verdict { at: at(7), ..old.clone() }.with(drill(&[])).write(&store, None).await.unwrap();
        Verdict { at: at(8), ..old.clone() }.write(&store, None).await.unwrap();
        let found = newest().await.unwrap();
        assert_eq!((found.at, found.sound, &found.drill), (at(8), true, &Some(drill(&[]))));
        // A result dated in the future is ignored, whether its name or its drill has that date.
        let planted = Verdict { at: "9999-12-31T00:00:00Z".parse().unwrap(), ..found.clone() };
        planted.write(&store, None).await.unwrap();
        let drilled = Drill { at: planted.at, ..drill(&[]) };
        Verdict { at: at(9), drill: Some(drilled), ..old.clone() }.write(&store, None).await.unwrap();
        let believed = verdicts().await;
        assert_eq!(believed.newest, Some(Ok(Verdict { at: at(9), ..found.clone() })));
        assert_eq!(believed.future.len(), 2, "{:?}", believed.future);
        let lying = Verdict { at: at(11), ..old.clone() };
        marks::write_signed(&store, &layout::verified(&old.id, at(10)), &lying, None).await.unwrap();
        assert!(newest().await.unwrap_err().contains("has a time in its name"));
        store.put(&layout::verified(&old.id, at(11)), Bytes::from_static(b"{")).await.unwrap();
        assert!(newest().await.unwrap_err().contains("cannot be understood"));
    }
}
