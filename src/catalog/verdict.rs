//! The results of `verify`, kept beside the manifest. docs/format.md describes every field.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::marks::{self, FORMAT, json};
use super::{BackupFolder, layout};
use crate::base::clock;
use crate::base::error::Result;
use crate::model::id::BackupId;
use crate::store::{self, Store};

/// The result of a verify. Each verify writes one of its own; the newest counts, and of the drills the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup.
    pub id: BackupId,
    /// When the verify ended.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// The machine it ran on.
    pub host: String,
    /// Name and version of the tool.
    pub tool: String,
    /// Every byte was as manifest and index say, and the drill, if there was one, found no difference.
    pub sound: bool,
    /// What is wrong with the artifact, a line each; of many the first.
    pub findings: Vec<String>,
    /// Bytes of the artifact that were read.
    pub stored_bytes: u64,
    /// Documents that were hashed, without the entries of an oplog slice.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The drill that followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

/// A drill: the backup was restored into a scratch server and compared with its manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// When it ended.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// What it was restored into: `mongod`, a throw-away one, or `server`, one that was there.
    pub target: String,
    /// The target's version.
    pub version: String,
    /// How many entries of the backup's oplog slice were replayed; 0 without one.
    #[serde(default)]
    pub oplog_entries: u64,
    /// How long the restore took, in seconds, with the replay of the slice: the measured recovery time.
    pub recovery_seconds: f64,
    /// How long indexes were built, in seconds, summed up over the namespaces, which are built side by side.
    pub index_seconds: f64,
    /// How long the comparison took, in seconds.
    pub compare_seconds: f64,
    /// How many namespaces were restored: not users, roles and the server's own books.
    pub namespaces: u64,
    /// Their documents.
    pub documents: u64,
    /// The documents' length in bytes.
    pub raw_bytes: u64,
    /// What differs from the manifest, a line each; of many the first.
    pub findings: Vec<String>,
    /// What a person should know, a line each.
    pub notes: Vec<String>,
}

impl Drill {
    /// Raw bytes restored per second.
    pub fn speed(&self) -> f64 {
        self.raw_bytes as f64 / self.recovery_seconds.max(0.001)
    }
}

impl Verdict {
    /// Everything that is wrong, with the backup's artifact or with what came of its restore.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.findings.iter().chain(self.drill.iter().flat_map(|drill| &drill.findings))
    }

    /// Adds the drill that followed, or that came before.
    pub fn with(mut self, drill: Drill) -> Verdict {
        self.sound &= drill.findings.is_empty();
        self.drill = Some(drill);
        self
    }

    /// Writes it.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        Ok(store.put(&layout::verified(&self.id, self.at), json(self)?).await?)
    }

    /// Reads one. `None` if it is gone, the reason if it cannot be understood.
    pub(super) async fn read(
        store: &dyn Store,
        id: &BackupId,
        key: &str,
    ) -> Result<Option<Result<Verdict, String>>> {
        let bytes = match marks::fetch(store, key).await? {
            Some(Ok(bytes)) => bytes,
            Some(Err(why)) => return Ok(Some(Err(why))),
            None => return Ok(None),
        };
        Ok(Some(match serde_json::from_slice::<Verdict>(&bytes) {
            Err(e) => Err(format!("{key} cannot be understood: {e}")),
            Ok(found) if found.format != FORMAT || found.id != *id => {
                Err(format!("{key} speaks of another backup, or is of a newer format"))
            }
            // Its name decides which is the newest.
            Ok(found) if layout::verified(id, found.at) != key => {
                Err(format!("{key} is named after another time than it was written at, {}", found.at))
            }
            Ok(found) => Ok(found),
        }))
    }
}

/// The results of the verifies of a backup.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdicts {
    /// The newest, with the newest drill: that of an earlier one if this one made none, for reading the artifact
    /// again does not undo what a restore of it has shown. `None` if there is none, the reason if it cannot be
    /// understood.
    pub newest: Option<Result<Verdict, String>>,
    /// Results that are dated in the future and not believed, a line each: one of them would be the newest for as
    /// long as that lies ahead, whatever a verify finds until then.
    pub future: Vec<String>,
}

impl Verdicts {
    /// Reads the results in a backup's folder, the newest first, as far as it takes.
    pub(super) async fn read<'a, F>(
        folder: &'a BackupFolder,
        now: DateTime<Utc>,
        read: impl Fn(&'a store::StoredObject) -> F,
    ) -> Result<Verdicts>
    where
        F: Future<Output = Result<Option<Result<Arc<Verdict>, String>>>>,
    {
        let mut verdicts = Verdicts::default();
        let future = |object: &store::StoredObject, what: &str| {
            format!(
                "{} {what} dated in the future, and does not count: a clock was wrong, or it was planted",
                object.key
            )
        };
        let mut newest: Option<Verdict> = None;
        for (file, object) in folder.iter().rev().filter(|(file, _)| layout::is_verified(file)) {
            if layout::verified_at(file).is_some_and(|at| clock::is_future(at, now)) {
                verdicts.future.push(future(object, "is"));
                continue;
            }
            let mut found = match read(object).await? {
                Some(Ok(found)) => Arc::unwrap_or_clone(found),
                Some(Err(why)) if newest.is_none() => {
                    verdicts.newest = Some(Err(why));
                    return Ok(verdicts);
                }
                Some(Err(_)) | None => continue,
            };
            if found.drill.as_ref().is_some_and(|drill| clock::is_future(drill.at, now)) {
                verdicts.future.push(future(object, "has a drill that is"));
                found.drill = None;
            }
            newest = Some(match (newest.take(), found.drill.take()) {
                (Some(last), Some(drill)) => last.with(drill),
                (Some(last), None) => last,
                (None, drill) => Verdict { drill, ..found },
            });
            if newest.as_ref().is_some_and(|newest| newest.drill.is_some()) {
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

    /// As it was written before there were drills.
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
        }
    }

    #[tokio::test]
    async fn reading_again_does_not_undo_a_drill() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let old: Verdict = serde_json::from_str(OLD).unwrap();
        let verdicts = async || {
            let reading = CatalogOptions::at("2026-11-23T12:00:00Z".parse().unwrap());
            let catalog = Catalog::read(&store, &reading).await.unwrap();
            catalog.verdicts(std::slice::from_ref(&old.id)).await.unwrap().remove(&old.id).unwrap()
        };
        let newest = async || verdicts().await.newest.unwrap();
        let at = |hour: u32| format!("2026-11-23T{hour:02}:00:00Z").parse().unwrap();
        old.write(&store).await.unwrap();
        assert_eq!(newest().await, Ok(old.clone()), "of a time before there were drills");
        let differs = Verdict { at: at(5), ..old.clone() }.with(drill(&["a.b: it is missing"]));
        differs.write(&store).await.unwrap();
        Verdict { at: at(6), ..old.clone() }.write(&store).await.unwrap();
        let found = newest().await.unwrap();
        assert_eq!((found.at, found.sound, found.wrong().count()), (at(6), false, 1));
        Verdict { at: at(7), ..old.clone() }.with(drill(&[])).write(&store).await.unwrap();
        Verdict { at: at(8), ..old.clone() }.write(&store).await.unwrap();
        let found = newest().await.unwrap();
        assert_eq!((found.at, found.sound, &found.drill), (at(8), true, &Some(drill(&[]))));
        // One of the future is not believed, whether its name or its content says so.
        let planted = Verdict { at: "9999-12-31T00:00:00Z".parse().unwrap(), ..found.clone() };
        planted.write(&store).await.unwrap();
        let drilled = Drill { at: planted.at, ..drill(&[]) };
        Verdict { at: at(9), drill: Some(drilled), ..old.clone() }.write(&store).await.unwrap();
        let believed = verdicts().await;
        assert_eq!(believed.newest, Some(Ok(Verdict { at: at(9), ..found.clone() })));
        assert_eq!(believed.future.len(), 2, "{:?}", believed.future);
        let lying = marks::json(&Verdict { at: at(11), ..old.clone() }).unwrap();
        store.put(&layout::verified(&old.id, at(10)), lying).await.unwrap();
        assert!(newest().await.unwrap_err().contains("named after another time"));
        store.put(&layout::verified(&old.id, at(11)), Bytes::from_static(b"{")).await.unwrap();
        assert!(newest().await.unwrap_err().contains("cannot be understood"));
    }
}
