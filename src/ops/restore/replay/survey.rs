//! Reads the whole slice before anything is touched, to find out what a replay would do.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use tokio::runtime::Handle;

use super::action::ReplayStep;
use super::script::Script;
use crate::base::error::{Error, Result};
use crate::model::namespace::Type;
use crate::ops::restore::filter::{ReplayFilter, TargetNamespace};
use crate::ops::restore::namespaces::Planned;
use crate::ops::restore::origin::RestoreOrigin;
use crate::ops::restore::report::SliceCounts;

/// The effects of a slice on this restore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SliceSurvey {
    pub(crate) read: SliceCounts,
    /// The number of operations to be replayed.
    pub(crate) operations: u64,
    /// The namespaces of the target that it creates or writes to, with their names in the backup.
    pub(crate) touched: BTreeMap<(String, String), String>,
    /// The namespaces of the target that its commands create, drop, rename or change, including their
    /// indexes.
    pub(crate) reshaped: BTreeSet<(String, String)>,
    /// The databases of the backup of which it drops all namespaces (`false`) or all views (`true`).
    pub(crate) emptied: BTreeSet<(String, bool)>,
    /// The databases in which it applies operations, except for users and roles.
    pub(crate) databases: BTreeSet<String>,
    /// All its steps that do not write documents.
    pub(crate) commands: Vec<ReplayStep>,
    /// The formats of its updates (`$v`), each with a namespace of the backup as an example.
    pub(crate) formats: BTreeMap<i32, String>,
    /// The roles that it writes, if the slice has their privileges.
    pub(crate) roles: Vec<RawDocumentBuf>,
    /// Its renames by names in the backup: from and to.
    pub(crate) renames: Vec<(String, String)>,
    /// The namespaces of all its operations, by their names in the backup.
    pub(crate) seen: BTreeSet<String>,
    /// The indexes that it builds: `database.collection.index`, with the names of the backup.
    pub(crate) indexes: BTreeSet<String>,
}

impl StepSink for SliceSurvey {
    fn take(&mut self, action: ReplayStep) -> Result<()> {
        self.operations += u64::from(action.is_one());
        self.reshape(&action);
        self.note(&action);
        let (first, second) = match &action {
            ReplayStep::Write { to, .. } | ReplayStep::Create { to, .. } | ReplayStep::Modify { to, .. } => {
                (to, None)
            }
            ReplayStep::Rename { from, to, .. } => (from, Some(to)),
            ReplayStep::Drop(_) | ReplayStep::DropAll { .. } | ReplayStep::Index { .. } => return Ok(()),
        };
        [Some(first), second].into_iter().flatten().filter(|named| !named.is_users_or_roles()).try_for_each(
            |named| {
                self.databases.insert(named.db.clone());
                self.touch(named)
            },
        )
    }
}

impl SliceSurvey {
    /// Returns true if it changes a restored namespace: its documents, options, indexes or name.
    pub(crate) fn changes(&self, planned: &Planned) -> bool {
        self.touched.contains_key(&planned.chosen.key()) || self.reshapes(planned)
    }

    /// Returns true if it changes a restored namespace's options, indexes or name.
    pub(crate) fn reshapes(&self, planned: &Planned) -> bool {
        let source = &planned.source;
        let emptied =
            |(db, views): &(String, bool)| *db == source.db && (!views || source.kind == Type::View);
        self.reshaped.contains(&planned.chosen.key()) || self.emptied.iter().any(emptied)
    }

    fn reshape(&mut self, action: &ReplayStep) {
        let mut add = |named: &TargetNamespace| self.reshaped.insert(named.key());
        match action {
            ReplayStep::Write { .. } => {}
            ReplayStep::Create { to, .. } | ReplayStep::Modify { to, .. } | ReplayStep::Index { to, .. } => {
                add(to);
            }
            ReplayStep::Drop(named) => {
                add(named);
            }
            ReplayStep::Rename { from, to, .. } => {
                add(from);
                add(to);
            }
            ReplayStep::DropAll { from_db, views } => {
                self.emptied.insert((from_db.clone(), *views));
            }
        }
    }

    /// Records the parts that must be tried at the target.
    fn note(&mut self, action: &ReplayStep) {
        let name = |named: &TargetNamespace| format!("{}.{}", named.from_db, named.from);
        match action {
            ReplayStep::Write { to, operation } => {
                let Ok(change) = operation.get_document("o") else { return };
                let op = operation.get_str("op").unwrap_or_default();
                if let Some(version) = update_format(change).filter(|_| op == "u") {
                    self.formats.entry(version).or_insert_with(|| name(to));
                }
                if to.is_users_or_roles() && to.from == "system.roles" && op != "d" {
                    let id = operation.get_document("o2").unwrap_or(change).get_str("_id");
                    self.roles.extend(id.ok().and_then(|id| role_of(id, change)));
                }
            }
            ReplayStep::Rename { from, to, .. } => {
                self.renames.push((name(from), name(to)));
                self.commands.push(action.clone());
            }
            _ => self.commands.push(action.clone()),
        }
    }

    fn touch(&mut self, named: &TargetNamespace) -> Result<()> {
        let from = format!("{}.{}", named.from_db, named.from);
        match self.touched.get(&named.key()).filter(|other| **other != from) {
            Some(other) => Err(both(other, &from, &named.key())),
            None => {
                self.touched.entry(named.key()).or_insert(from);
                Ok(())
            }
        }
    }

    /// The namespaces of the target that it writes to, except the restored ones.
    ///
    /// # Errors
    /// Returns a usage error if two namespaces would get the same name.
    pub(crate) fn beside(&self, planned: &[Planned]) -> Result<Vec<(String, String)>> {
        let mut beside = Vec::new();
        for (key, from) in &self.touched {
            let same = planned.iter().find(|p| p.chosen.db == key.0 && p.chosen.collection == key.1);
            match same.map(|planned| planned.source.name()) {
                None => beside.push(key.clone()),
                Some(name) if name == *from => {}
                Some(name) => return Err(both(&name, from, key)),
            }
        }
        Ok(beside)
    }
}

fn both(one: &str, other: &str, key: &(String, String)) -> Error {
    Error::usage(format!("both {one} and {other} would become {}.{}", key.0, key.1)).hint(
        "The oplog slice has both; choose other patterns for --ns-from and --ns-to, or give --no-replay",
    )
}

/// The version (`$v`) of an update's format; `None` if the update is a whole document.
fn update_format(change: &RawDocument) -> Option<i32> {
    match change.get("$v").ok()?? {
        RawBsonRef::Int32(version) => Some(version),
        RawBsonRef::Int64(version) => i32::try_from(version).ok(),
        RawBsonRef::Double(version) => Some(version as i32),
        _ => None,
    }
}

pub(crate) async fn survey(origin: &RestoreOrigin, names: ReplayFilter) -> Result<SliceSurvey> {
    let script = Script::new(names, Vec::new(), origin.slice_bounds());
    let (script, survey) = through(origin, script, SliceSurvey::default()).await?;
    Ok(SliceSurvey { read: script.read, seen: script.seen, indexes: script.indexes, ..survey })
}

/// Takes the steps of a slice in order.
pub(super) trait StepSink: Send + 'static {
    fn take(&mut self, action: ReplayStep) -> Result<()>;
}

/// Reads the whole slice on a blocking thread and passes its steps to `steps`, until the first error.
pub(super) async fn through<S: StepSink>(
    origin: &RestoreOrigin,
    mut script: Script,
    mut steps: S,
) -> Result<(Script, S)> {
    let (origin, handle) = (origin.clone(), Handle::current());
    let work = move || {
        let mut failed = None;
        let read = origin.scan_slice(&handle, &mut |raw| {
            if failed.is_none() {
                failed = script.take(raw, &mut |action| steps.take(action)).err();
            }
        });
        // Damage is reported before any error that the damaged bytes may cause.
        read?;
        failed.map_or(Ok((script, steps)), Err)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::failed("a reader ended unexpectedly"))?
}

/// The role that a write to `admin.system.roles` creates or changes; `None` if the write does not contain its
/// privileges.
fn role_of(id: &str, change: &RawDocument) -> Option<RawDocumentBuf> {
    let (db, role) = id.split_once('.')?;
    let within = ["", "$set", "diff.u", "diff.i"].into_iter().find_map(|path| {
        let at = path.split('.').filter(|part| !part.is_empty());
        let at = at.into_iter().try_fold(change, |at, part| at.get_document(part).ok())?;
        at.get_array("privileges").ok()
    })?;
    let privileges = RawBson::from(RawBsonRef::Array(within));
    Some(rawdoc! {"_id": id, "db": db, "role": role, "privileges": privileges})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_of_a_role_are_found_in_its_entries() {
        let privileges = || rawdoc! {"privileges": [{"actions": ["find"]}]};
        for change in [
            privileges(),
            rawdoc! {"$v": 1, "$set": privileges()},
            rawdoc! {"$v": 2, "diff": {"u": privileges()}},
        ] {
            let role = role_of("shop.clerk", &change).unwrap();
            assert_eq!((role.get_str("db").unwrap(), role.get_str("role").unwrap()), ("shop", "clerk"));
            assert!(role.get_array("privileges").is_ok());
        }
        assert_eq!(role_of("shop.clerk", &rawdoc! {"roles": []}), None);
    }
}
