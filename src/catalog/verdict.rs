//! The results of `verify`, kept beside the manifest. docs/format.md describes every field.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::id::BackupId;
use super::marks::{self, FORMAT, json};
use super::{Folder, layout};
use crate::error::Result;
use crate::store::{Kind, Store};

/// The result of a verify. Each verify writes one of its own; the newest counts, and of the drills the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup.
    pub id: BackupId,
    /// When the verify ended.
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

    /// The newest one in a backup's folder, with the newest drill: that of an earlier one if this one made none,
    /// for reading the artifact again does not undo what a restore of it has shown. `None` if there is none,
    /// the reason if it cannot be understood.
    pub async fn newest(
        store: &dyn Store,
        id: &BackupId,
        folder: &Folder,
    ) -> Result<Option<Result<Verdict, String>>> {
        let mut newest: Option<Verdict> = None;
        for (_, object) in folder.iter().rev().filter(|(file, _)| layout::is_verified(file)) {
            match (Verdict::read(store, id, &object.key).await?, newest.take()) {
                (Some(Ok(found)), None) if found.drill.is_some() => return Ok(Some(Ok(found))),
                (Some(Ok(found)), None) => newest = Some(found),
                (Some(Ok(Verdict { drill: Some(drill), .. })), Some(last)) => {
                    return Ok(Some(Ok(last.with(drill))));
                }
                (Some(Err(why)), None) => return Ok(Some(Err(why))),
                (_, last) => newest = last,
            }
        }
        Ok(newest.map(Ok))
    }

    async fn read(store: &dyn Store, id: &BackupId, key: &str) -> Result<Option<Result<Verdict, String>>> {
        let bytes = match store.get(key, marks::LARGEST).await {
            Ok(bytes) => bytes,
            // A clean-up took it meanwhile.
            Err(e) if e.kind == Kind::NotFound => return Ok(None),
            Err(e) if e.kind == Kind::Damaged => return Ok(Some(Err(marks::unreadable(key, &e)))),
            Err(e) if e.kind == Kind::Archived => return Ok(Some(Err(e.to_string()))),
            Err(e) => return Err(e.into()),
        };
        Ok(Some(match serde_json::from_slice::<Verdict>(&bytes) {
            Err(e) => Err(format!("{key} cannot be understood: {e}")),
            Ok(found) if found.format != FORMAT || found.id != *id => {
                Err(format!("{key} speaks of another backup, or is of a newer format"))
            }
            Ok(found) => Ok(found),
        }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::catalog;
    use crate::store::dir::{DirOptions, DirStore};

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
        let newest = async || {
            let folders = catalog::folders(&store).await.unwrap();
            Verdict::newest(&store, &old.id, &folders[&old.id]).await.unwrap().unwrap()
        };
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
        assert_eq!((found.at, found.sound, found.drill), (at(8), true, Some(drill(&[]))));
        store.put(&layout::verified(&old.id, at(9)), Bytes::from_static(b"{")).await.unwrap();
        assert!(newest().await.unwrap_err().contains("cannot be understood"));
    }
}
