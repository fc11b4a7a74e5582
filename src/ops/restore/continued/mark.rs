//! The mark of a restore that writes to the names of its namespaces: documents at the target that say which restore it is, and which
//! namespaces it made. It is removed when the restore ends with a report, so a mark that stays belongs to an interrupted restore.
//!
//! The first document describes the restore. Each further document adds namespaces, so that no document grows, and a restore of many
//! small collections writes few of them.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawDocumentBuf, oid::ObjectId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::base::error::Result;
use crate::base::escape::quoted;
use crate::config::selection::RECORDS_DB;
use crate::model::id::BackupId;
use crate::ops::restore::filter::RestoreFilter;
use crate::ops::restore::marks::{MarkFormat, understood};
use crate::ops::restore::namespaces::{BackupNamespace, NamespaceKey, full_name, is_ordinary};
use crate::ops::restore::options::{RestoreOptions, Users};
use crate::ops::restore::origin::RestoreOrigin;
use crate::restore_target::marks::Identities;

/// What an interrupted restore was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// The documents were inserted. Complete namespaces can stay.
    Loading,
    /// The oplog was replayed: no namespace is as the backup read it any more.
    Replaying,
}

/// What decides which data a restore brings to which name. Two restores that are equal in all of this are the same restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RestoredData {
    /// The id of the backup; `None` for a dump.
    pub backup: Option<String>,
    /// A hash of the names, sizes and hashes of all namespaces in the backup or dump.
    pub contents: String,
    /// The last optime that is replayed, `seconds:ordinal`, if slices continue the backup.
    pub point: Option<String>,
    /// The flags that choose and rename data, one word each.
    pub selection: Vec<String>,
}

/// The number of no process: the run ended.
pub(super) const NOBODY: i64 = 0;

/// The first document of a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LoadMark {
    /// The restore's own id.
    #[serde(rename = "_id")]
    pub id: BackupId,
    pub format: u32,
    /// The backup or dump, for messages.
    pub from: String,
    pub data: RestoredData,
    /// The flags and values of the command that goes on, one word each.
    pub command: Vec<String>,
    pub started_at: bson::DateTime,
    /// The time of the last sign of life, by the target's clock.
    pub changed_at: bson::DateTime,
    /// The run that is at work, or was.
    pub run: ObjectId,
    /// The process of the run: its number, or [`NOBODY`], and the space in which the number is unique.
    pub pid: i64,
    pub space: String,
    pub state: LoadState,
}

/// A further document of a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MarkedNamespaces {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub format: u32,
    /// The `_id` of the first document.
    pub of: BackupId,
    pub namespaces: Vec<MarkedNamespace>,
}

/// A namespace that a restore filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MarkedNamespace {
    pub db: String,
    pub name: String,
    /// The identity of the namespace; see `restore_target::marks`.
    pub identity: String,
    /// True if the restore created it; false if it was there, empty.
    pub created: bool,
    /// The number of documents when all of them were there and counted.
    pub complete: Option<i64>,
}

impl RestoredData {
    /// The data that a restore with these options brings.
    pub(super) fn of(origin: &RestoreOrigin, options: &RestoreOptions) -> Result<RestoredData> {
        let line = |one: &BackupNamespace| {
            let BackupNamespace { kind, documents, raw_bytes, sum, .. } = one;
            format!("{} {} {documents} {raw_bytes} {sum:032x}", one.name(), kind.as_str())
        };
        let mut lines: Vec<String> = origin.contents()?.iter().map(line).collect();
        lines.sort();
        let point = origin.point();
        Ok(RestoredData {
            backup: origin.manifest().map(|manifest| manifest.id.to_string()),
            contents: format!("{:032x}", xxh3_128(lines.join("\n").as_bytes())),
            point: point.map(|point| format!("{}:{}", point.t, point.i)),
            selection: selection(options),
        })
    }

    /// The first difference from the data of an interrupted restore, in words; `None` if it is the same restore.
    pub(super) fn differs(&self, interrupted: &RestoredData) -> Option<String> {
        let RestoredData { backup, contents, point, selection } = interrupted;
        if self.backup != *backup {
            let of = backup.as_ref().map_or_else(|| "a dump".to_string(), |id| format!("the backup {id}"));
            return Some(format!("it restores {of}"));
        }
        if self.point != *point {
            let to = |point: &Option<String>| match point {
                Some(point) => format!("--at {point}"),
                None => "no --at".into(),
            };
            return Some(format!("it has {}, and this one has {}", to(point), to(&self.point)));
        }
        if self.selection != *selection {
            let words = match selection.is_empty() {
                true => "no flags that choose or rename data".into(),
                false => selection.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            };
            return Some(format!("it has {words}"));
        }
        (self.contents != *contents).then(|| "the backup or dump has other contents than then".into())
    }
}

/// The options that decide which data goes where. A new option must be added here, or left out for a reason.
fn selection(options: &RestoreOptions) -> Vec<String> {
    let RestoreOptions {
        filter: RestoreFilter { include, exclude, rename, no_index },
        // Another run may drop more or less, and goes on with the same data.
        drop: _,
        exact: _,
        no_indexes,
        convert_legacy_indexes,
        users,
        no_replay,
        // Only checked.
        at: _,
        onto_source: _,
        skipped: _,
        swap: _,
        left_by_swap: _,
        token: _,
        workers: _,
        mark: _,
        continues: _,
        // A restore that chooses documents has no mark of this kind.
        documents: _,
        merge: _,
        own: _,
        staged: _,
    } = options;
    let mut words = Vec::new();
    let mut flag = |flag: &str, value: String| words.extend([flag.to_string(), value]);
    include.iter().for_each(|pattern| flag("--ns-include", pattern.to_string()));
    exclude.iter().for_each(|pattern| flag("--ns-exclude", pattern.to_string()));
    for pair in rename {
        flag("--ns-from", pair.from_text.clone());
        flag("--ns-to", pair.to_text.clone());
    }
    no_index.iter().for_each(|pattern| flag("--no-index", pattern.to_string()));
    for (given, flag) in [
        (*no_indexes, "--no-indexes"),
        (*convert_legacy_indexes, "--convert-legacy-indexes"),
        (*no_replay, "--no-replay"),
        (*users == Users::Always, "--users"),
        (*users == Users::Never, "--no-users"),
    ] {
        words.extend(given.then(|| flag.to_string()));
    }
    words
}

impl LoadMark {
    /// The command that goes on. Its words come from the target, so they are quoted.
    pub(super) fn command_text(&self) -> String {
        command_text(&self.command)
    }
}

pub(super) fn command_text(words: &[String]) -> String {
    let word = |word: &String| if word.is_empty() { "''".into() } else { quoted(word) };
    let words: Vec<String> = words.iter().map(word).collect();
    format!("uzima-backup restore {}", words.join(" "))
}

impl MarkedNamespace {
    pub(super) fn key(&self) -> NamespaceKey {
        (self.db.clone(), self.name.clone())
    }
}

/// Returns true if a restore may mark a namespace as made by it.
fn may_be_made(db: &str, name: &str) -> bool {
    // The servers refuse other names (code 73), and longer names of databases.
    let valid = db.len() < 64 && !db.contains(['/', '\\', '.', ' ', '"', '$', '\0']);
    let valid = valid && !name.is_empty() && !name.contains('\0');
    let own = ["config", RECORDS_DB].contains(&db) || db == "admin" && name.starts_with("system.");
    valid && !own && is_ordinary(db, name)
}

/// All documents of one mark.
#[derive(Debug, Clone)]
pub(super) struct WholeMark {
    pub mark: LoadMark,
    namespaces: BTreeMap<NamespaceKey, Vec<MarkedNamespace>>,
}

impl WholeMark {
    /// Puts the documents of all marks together, the oldest mark first. Leaves out namespaces that no restore makes, because anybody
    /// with the right to write marks may have named them.
    pub(super) fn all(documents: &[RawDocumentBuf]) -> Vec<WholeMark> {
        let marks: Vec<LoadMark> = understood(documents, MarkFormat::Load);
        let added: Vec<MarkedNamespaces> = understood(documents, MarkFormat::Namespaces);
        let whole = |mark: LoadMark| {
            let mut namespaces: BTreeMap<NamespaceKey, Vec<MarkedNamespace>> = BTreeMap::new();
            for one in added.iter().filter(|added| added.of == mark.id).flat_map(|added| &added.namespaces) {
                if !may_be_made(&one.db, &one.name) {
                    let name = full_name(&one.key());
                    log::warn!("the mark of the restore {} names {name:?}, which no restore makes", mark.id);
                    continue;
                }
                namespaces.entry(one.key()).or_default().push(one.clone());
            }
            WholeMark { mark, namespaces }
        };
        marks.into_iter().map(whole).collect()
    }

    /// The databases of its namespaces.
    pub(super) fn databases(&self) -> BTreeSet<&str> {
        self.namespaces.keys().map(|(db, _)| db.as_str()).collect()
    }

    /// What the mark says about the namespaces that exist with the identity that it knows. `found` has the identities of all
    /// namespaces by database.
    pub(super) fn existing(&self, found: &BTreeMap<String, Identities>) -> Vec<MarkedNamespace> {
        let now = |key: &NamespaceKey| found.get(&key.0)?.get(&key.1);
        let one = |(key, known): (&NamespaceKey, &Vec<MarkedNamespace>)| {
            let now = now(key)?;
            let mut same = known.iter().filter(|one| one.identity == *now);
            let mut one = same.next()?.clone();
            for other in same {
                one.created |= other.created;
                one.complete = other.complete.or(one.complete);
            }
            Some(one)
        };
        self.namespaces.iter().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests;
