//! What a replay would do, found out before anything is touched: the whole slice is read once.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use tokio::runtime::Handle;

use super::action::Action;
use super::names::{Named, Names};
use super::script::{Read, Script};
use crate::base::error::{Error, Result};
use crate::model::namespace::Type;
use crate::ops::restore::origin::Origin;
use crate::ops::restore::plan::Planned;
use crate::ops::restore::preflight;

/// What a slice holds for this restore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// What was read of it.
    pub read: Read,
    /// How many operations are replayed.
    pub operations: u64,
    /// The namespaces of the target that it makes or writes to, and what they are in the backup.
    pub touched: BTreeMap<(String, String), String>,
    /// The namespaces of the target that its commands make, drop, rename or change, or whose indexes.
    pub reshaped: BTreeSet<(String, String)>,
    /// The databases of the backup of which it drops all namespaces (`false`), or the views (`true`).
    pub emptied: BTreeSet<(String, bool)>,
    /// The databases in which it applies operations, but for users and roles.
    pub databases: BTreeSet<String>,
    /// All its operations that do not write documents.
    pub commands: Vec<Action>,
    /// The forms of its updates (`$v`), with a namespace of the backup as an example of each.
    pub formats: BTreeMap<i32, String>,
    /// The roles that it writes, if the slice has their privileges.
    pub roles: Vec<RawDocumentBuf>,
    /// The names in the backup that it renames from and to.
    pub renames: Vec<(String, String)>,
    /// The namespaces of all of its operations, by their names in the backup.
    pub seen: BTreeSet<String>,
    /// The indexes that it builds: `database.collection.index`, with the names of the backup.
    pub indexes: BTreeSet<String>,
}

impl Steps for Survey {
    fn take(&mut self, action: Action) -> Result<()> {
        self.operations += u64::from(action.is_one());
        self.reshape(&action);
        self.note(&action);
        let (first, second) = match &action {
            Action::Write { to, .. } | Action::Create { to, .. } | Action::Modify { to, .. } => (to, None),
            Action::Rename { from, to, .. } => (from, Some(to)),
            Action::Drop(_) | Action::DropAll { .. } | Action::Index { .. } => return Ok(()),
        };
        [Some(first), second].into_iter().flatten().filter(|named| !named.is_people()).try_for_each(|named| {
            self.databases.insert(named.db.clone());
            self.touch(named)
        })
    }
}

impl Survey {
    /// Whether it changes a restored namespace: its documents, its options, its indexes, its name.
    pub fn changes(&self, planned: &Planned) -> bool {
        self.touched.contains_key(&planned.chosen.key()) || self.reshapes(planned)
    }

    /// Whether it changes more of a restored namespace than its documents.
    pub fn reshapes(&self, planned: &Planned) -> bool {
        let offer = &planned.offer;
        let emptied = |(db, views): &(String, bool)| *db == offer.db && (!views || offer.kind == Type::View);
        self.reshaped.contains(&planned.chosen.key()) || self.emptied.iter().any(emptied)
    }

    fn reshape(&mut self, action: &Action) {
        let mut add = |named: &Named| self.reshaped.insert(named.key());
        match action {
            Action::Write { .. } => {}
            Action::Create { to, .. } | Action::Modify { to, .. } | Action::Index { to, .. } => {
                add(to);
            }
            Action::Drop(named) => {
                add(named);
            }
            Action::Rename { from, to, .. } => {
                add(from);
                add(to);
            }
            Action::DropAll { from_db, views } => {
                self.emptied.insert((from_db.clone(), *views));
            }
        }
    }

    /// Keeps the parts that must be tried at the target.
    fn note(&mut self, action: &Action) {
        let name = |named: &Named| format!("{}.{}", named.from_db, named.from);
        match action {
            Action::Write { to, operation } => {
                let Ok(change) = operation.get_document("o") else { return };
                let op = operation.get_str("op").unwrap_or_default();
                if let Some(version) = update_format(change).filter(|_| op == "u") {
                    self.formats.entry(version).or_insert_with(|| name(to));
                }
                if to.is_people() && to.from == "system.roles" && op != "d" {
                    let id = operation.get_document("o2").unwrap_or(change).get_str("_id");
                    self.roles.extend(id.ok().and_then(|id| preflight::role_of(id, change)));
                }
            }
            Action::Rename { from, to, .. } => {
                self.renames.push((name(from), name(to)));
                self.commands.push(action.clone());
            }
            _ => self.commands.push(action.clone()),
        }
    }

    fn touch(&mut self, named: &Named) -> Result<()> {
        let from = format!("{}.{}", named.from_db, named.from);
        match self.touched.get(&named.key()).filter(|other| **other != from) {
            Some(other) => Err(both(other, &from, &named.key())),
            None => {
                self.touched.entry(named.key()).or_insert(from);
                Ok(())
            }
        }
    }

    /// Those of the target that it would write to beside what is restored.
    ///
    /// # Errors
    /// If one would get the name of another one.
    pub fn beside(&self, planned: &[Planned]) -> Result<Vec<(String, String)>> {
        let mut beside = Vec::new();
        for (key, from) in &self.touched {
            let same = planned.iter().find(|p| p.chosen.db == key.0 && p.chosen.collection == key.1);
            match same.map(|planned| planned.offer.name()) {
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

/// The version (`$v`) of an update's form; `None` if the update is a whole document.
fn update_format(change: &RawDocument) -> Option<i32> {
    match change.get("$v").ok()?? {
        RawBsonRef::Int32(version) => Some(version),
        RawBsonRef::Int64(version) => i32::try_from(version).ok(),
        RawBsonRef::Double(version) => Some(version as i32),
        _ => None,
    }
}

/// Reads the whole slice.
pub async fn survey(origin: &Origin, names: Names) -> Result<Survey> {
    let script = Script::new(names, Vec::new(), origin.slice_bounds());
    let (script, survey) = through(origin, script, Survey::default()).await?;
    Ok(Survey { read: script.read, seen: script.seen, indexes: script.indexes, ..survey })
}

/// Takes the steps of a slice in their order.
pub trait Steps: Send + 'static {
    /// The next one.
    fn take(&mut self, action: Action) -> Result<()>;
}

/// Reads the whole slice on a thread of its own, and hands its steps on. After the first error nothing more is
/// handed on.
pub async fn through<S: Steps>(origin: &Origin, mut script: Script, mut steps: S) -> Result<(Script, S)> {
    let (origin, handle) = (origin.clone(), Handle::current());
    let work = move || {
        let mut failed = None;
        let read = origin.scan_slice(&handle, &mut |raw| {
            if failed.is_none() {
                failed = script.take(raw, &mut |action| steps.take(action)).err();
            }
        });
        // Whether its bytes are right comes before what they seem to say.
        read?;
        failed.map_or(Ok((script, steps)), Err)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::failed("a reader ended unexpectedly"))?
}
