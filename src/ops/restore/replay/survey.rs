//! Follows the steps of an oplog slice without writing anything: the survey finds their effects on the restore, and the
//! catalog keeps the namespaces and indexes that they lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::touched::{REMEMBERED, Touched, TouchedDocuments};
use crate::base::error::{Error, Kind, Result};
use crate::dumpformat::oplog::script::{IndexEdit, ReplayStep, Script, TakeStep};
use crate::dumpformat::oplog::{NO_REPLAY, SliceCounts, TargetNamespace};
use crate::model::namespace::Type;
use crate::model::optime::OpTime;
use crate::ops::restore::filter::{ReplayFilter, RestoreFilter};
use crate::ops::restore::namespaces::{BackupNamespace, NamespaceKey, Planned, full_name};
use crate::ops::restore::origin::{RestoreOrigin, read_blocking};
use crate::restore_target::collections;

/// The effects of a slice on this restore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SliceSurvey {
    pub(crate) read: SliceCounts,
    /// The number of operations to be replayed.
    pub(crate) operations: u64,
    /// The length of all entries that the replay reads.
    pub(crate) read_bytes: u64,
    /// The namespaces of the target that it creates or writes to, with their names in the backup.
    pub(crate) touched: BTreeMap<NamespaceKey, String>,
    /// The namespaces of the target that its commands create, drop, rename or change, including their
    /// indexes.
    pub(crate) reshaped: BTreeSet<NamespaceKey>,
    /// The backup's databases in which it drops all namespaces (`false`) or all views (`true`).
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
    /// The documents that it writes, if the restore chooses documents one by one.
    pub(crate) documents: Option<TouchedDocuments>,
}

impl SliceSurvey {
    /// Surveys the slice of a backup for the plan. With `documents`, it also finds the documents that the slice writes.
    pub(crate) async fn of(
        origin: &RestoreOrigin,
        names: ReplayFilter,
        documents: bool,
    ) -> Result<SliceSurvey> {
        let origin = origin.clone();
        read_blocking(move || {
            let (mut survey, mut read_bytes) = (SliceSurvey::default(), 0);
            survey.documents = documents.then(|| TouchedDocuments::new(REMEMBERED));
            let script = origin.script(names, Vec::new());
            let count = &mut |bytes| read_bytes += bytes;
            let script = follow_slice(&origin, script, &mut |step| survey.take(step), count)?;
            let mut read = script.read;
            // The point may be the end of a second, after its last entry.
            if let (Some(_), Some(OpTime { t, i: u32::MAX })) = (origin.continuation(), read.last) {
                read.last = read.newest.filter(|newest| newest.t == t).or(Some(OpTime { t, i: 0 }));
            }
            Ok(SliceSurvey { read, read_bytes, seen: script.seen, indexes: script.indexes, ..survey })
        })
        .await
    }

    fn take(&mut self, step: ReplayStep) -> Result<()> {
        self.operations += u64::from(step.counts());
        self.documents.iter_mut().for_each(|documents| documents.take(&step));
        match &step {
            ReplayStep::Write { to, operation, .. } => self.take_write(to, operation),
            ReplayStep::Rename { from, to, .. } => self.renames.push((from.backup_name(), to.backup_name())),
            ReplayStep::DropAll { from_db, views } => {
                self.emptied.insert((from_db.clone(), *views));
            }
            _ => {}
        }
        let named = step.namespaces();
        if !matches!(step, ReplayStep::Write { .. }) {
            self.reshaped.extend(named.iter().map(|named| named.key()));
        }
        if !matches!(step, ReplayStep::Drop(_) | ReplayStep::Index { .. }) {
            for named in named.into_iter().filter(|named| !named.is_users_or_roles()) {
                self.databases.insert(named.db.clone());
                let from = named.backup_name();
                let touched = self.touched.entry(named.key()).or_insert_with(|| from.clone());
                if *touched != from {
                    return Err(both(touched, &from, &named.key()));
                }
            }
        }
        if !matches!(step, ReplayStep::Write { .. }) {
            self.commands.push(step);
        }
        Ok(())
    }

    /// Records the format of an update, and the role that a write creates or changes.
    fn take_write(&mut self, to: &TargetNamespace, operation: &RawDocument) {
        let Ok(change) = operation.get_document("o") else { return };
        let op = operation.get_str("op").unwrap_or_default();
        if let Some(version) = update_format(change).filter(|_| op == "u") {
            self.formats.entry(version).or_insert_with(|| to.backup_name());
        }
        if to.is_users_or_roles() && to.from == "system.roles" && op != "d" {
            let id = operation.get_document("o2").unwrap_or(change).get_str("_id");
            self.roles.extend(id.ok().and_then(|id| role_of(id, change)));
        }
    }

    /// Returns true if the slice changes a restored namespace: its documents, options, indexes or name.
    pub(crate) fn changes(&self, planned: &Planned) -> bool {
        self.touched.contains_key(&planned.chosen.key()) || self.reshapes(planned)
    }

    /// Returns true if the slice changes a restored namespace's options, indexes or name.
    pub(crate) fn reshapes(&self, planned: &Planned) -> bool {
        let source = &planned.source;
        self.reshaped.contains(&planned.chosen.key()) || self.empties(source)
    }

    /// Returns true if the slice drops the database of a namespace of the backup, or for a view all views in it.
    fn empties(&self, source: &BackupNamespace) -> bool {
        let of = |(db, views): &(String, bool)| *db == source.db && (!views || source.kind == Type::View);
        self.emptied.iter().any(of)
    }

    /// The documents of a restored namespace that the slice may write; `None` if the slice does not change the namespace.
    pub(crate) fn touched(&self, planned: &Planned) -> Option<Arc<Touched>> {
        let touched = self.documents.as_ref()?.of(&planned.chosen.key());
        let options = &planned.namespace.options;
        // A collation decides which `_id`s are equal, and a capped collection needs the order of its documents.
        let whole = is_collated(options) || is_capped(options);
        match touched {
            Some(touched) if whole && !touched.is_none() => Some(Arc::new(Touched::All)),
            _ if self.empties(&planned.source) => Some(Arc::new(Touched::All)),
            touched => touched.cloned(),
        }
    }

    /// The namespaces of the target that the replay may create.
    pub(crate) fn may_create(&self) -> BTreeSet<NamespaceKey> {
        self.touched.keys().chain(&self.reshaped).cloned().collect()
    }

    /// The namespaces of the target that the slice writes to, except the restored ones. Returns a usage error
    /// if two namespaces would get the same name.
    pub(crate) fn beside(&self, planned: &[Planned]) -> Result<Vec<NamespaceKey>> {
        let mut beside = Vec::new();
        for (key, from) in &self.touched {
            match planned.iter().find(|planned| planned.chosen.key() == *key) {
                None => beside.push(key.clone()),
                Some(planned) if planned.source.name() == *from => {}
                Some(planned) => return Err(both(&planned.source.name(), from, key)),
            }
        }
        Ok(beside)
    }
}

fn both(one: &str, other: &str, key: &NamespaceKey) -> Error {
    Error::usage(format!("both {one} and {other} would become {}", full_name(key))).hint(format!(
        "The oplog slice has both: choose other patterns for --ns-from and --ns-to. {NO_REPLAY}"
    ))
}

/// Reads the whole slice and passes its steps to `act`, until the first error, and the length of each entry to `count`. Blocks
/// the thread.
pub(super) fn follow_slice(
    origin: &RestoreOrigin,
    mut script: Script<ReplayFilter>,
    act: TakeStep,
    count: &mut dyn FnMut(u64),
) -> Result<Script<ReplayFilter>> {
    let mut failed = None;
    // Damage is reported before any error that the damaged bytes may cause.
    origin.scan_slice(&mut |raw| {
        if failed.is_none() {
            failed = script.take(raw, act).err();
        }
        count(raw.len() as u64);
    })?;
    failed.map_or(Ok(script), Err)
}

/// Reads the whole slice of a backup, and passes its steps on all namespaces to `act`, as [`follow_slice`]. Returns the reason if a
/// replay could not follow it to its end.
///
/// # Errors
/// Returns an error if the slice is damaged or cannot be read.
pub(crate) fn follow_all(
    origin: &RestoreOrigin,
    act: TakeStep,
    count: &mut dyn FnMut(u64),
) -> Result<Option<String>> {
    // A rename of one of two wanted namespaces would be an error.
    let names = ReplayFilter { filter: RestoreFilter::default(), users: true, staged: None };
    match follow_slice(origin, origin.script(names, Vec::new()), act, count) {
        Err(error) if error.kind() == Kind::Failed && !error.is_of_store() => Ok(Some(error.chain())),
        followed => followed.map(|_| None),
    }
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

/// The namespaces of a replay and their indexes. Indexes are built after the replay, because the states in between may
/// break a unique index.
#[derive(Debug, Default)]
pub(crate) struct ReplayCatalog(BTreeMap<NamespaceKey, KnownNamespace>);

#[derive(Debug, Default)]
struct KnownNamespace {
    from_db: String,
    view: bool,
    collated: bool,
    /// True for a capped collection, which keeps its documents in the order of the inserts.
    capped: bool,
    series: bool,
    /// `expireAfterSeconds` of a time series or a clustered collection.
    expires: Option<RawBson>,
    indexes: Vec<KnownIndex>,
}

#[derive(Debug)]
struct KnownIndex {
    /// The collection on which it is built: for a time series the bucket collection, if a replayed command
    /// built it.
    on: String,
    spec: RawDocumentBuf,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Build {
    pub of: NamespaceKey,
    /// The collection, or its bucket collection.
    pub on: String,
    pub specs: Vec<RawDocumentBuf>,
}

impl ReplayCatalog {
    pub(crate) fn new(planned: &[Planned]) -> ReplayCatalog {
        let known = |planned: &Planned| {
            let (chosen, namespace) = (&planned.chosen, &planned.namespace);
            let index =
                |spec: &RawDocumentBuf| KnownIndex { on: chosen.collection.clone(), spec: spec.clone() };
            let known = KnownNamespace {
                from_db: planned.source.db.clone(),
                view: namespace.kind == Type::View,
                collated: is_collated(&namespace.options),
                capped: is_capped(&namespace.options),
                series: namespace.kind == Type::Timeseries,
                expires: expires(&namespace.options),
                indexes: namespace.indexes.iter().map(index).collect(),
            };
            (chosen.key(), known)
        };
        ReplayCatalog(planned.iter().map(known).collect())
    }

    pub(crate) fn follow(&mut self, step: &ReplayStep) {
        match step {
            ReplayStep::Write { .. } => {}
            ReplayStep::Modify { to, form } => {
                if let Some(known) = self.0.get_mut(&to.key()) {
                    known.capped |= form.converts_to_capped();
                    known.expires = expires(form.options()).or(known.expires.take());
                }
            }
            ReplayStep::Create { to, form, view, collated } => {
                let known = self.known(to);
                if known.view != *view {
                    known.indexes.clear();
                }
                (known.view, known.collated, known.capped) = (*view, *collated, is_capped(form.options()));
                known.series = form.options().get_document("timeseries").is_ok();
                known.expires = expires(form.options());
            }
            ReplayStep::Drop(named) => {
                self.0.remove(&named.key());
            }
            ReplayStep::DropAll { from_db, views } => {
                self.0.retain(|_, known| !known.is_of(from_db, *views));
            }
            ReplayStep::Rename { from, to, .. } => {
                if let Some(mut known) = self.0.remove(&from.key()) {
                    known.indexes.iter_mut().for_each(|index| index.on = to.collection.clone());
                    self.0.insert(to.key(), known);
                }
            }
            ReplayStep::Index { to, edit } => self.known(to).edit(to, edit),
        }
    }

    fn known(&mut self, named: &TargetNamespace) -> &mut KnownNamespace {
        let new = || KnownNamespace { from_db: named.from_db.clone(), ..KnownNamespace::default() };
        self.0.entry(named.key()).or_insert_with(new)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.0.keys()
    }

    /// Returns true if a namespace was restored or created by the replay.
    pub(crate) fn has(&self, key: &NamespaceKey) -> bool {
        self.0.contains_key(key)
    }

    /// Returns true if the writes to a collection must stay in order: the collection is capped, or its collation decides which
    /// `_id`s are equal.
    pub(super) fn writes_in_order(&self, key: &NamespaceKey) -> bool {
        self.0.get(key).is_some_and(|known| known.capped || known.collated)
    }

    pub(super) fn is_capped(&self, key: &NamespaceKey) -> bool {
        self.0.get(key).is_some_and(|known| known.capped)
    }

    /// Returns true for a collection that exists, is not capped and not a time series.
    pub(super) fn is_ordinary(&self, key: &NamespaceKey) -> bool {
        self.0.get(key).is_some_and(|known| !(known.view || known.capped || known.series))
    }

    /// The commands that set when documents of time series and clustered collections expire.
    pub(super) fn expirations(&self) -> Vec<(&NamespaceKey, RawDocumentBuf)> {
        let set = |(key, known)| {
            let (key, known): (&NamespaceKey, &KnownNamespace) = (key, known);
            let seconds = known.expires.clone().filter(|_| !known.view)?;
            Some((key, rawdoc! {"collMod": key.1.as_str(), "expireAfterSeconds": seconds}))
        };
        self.0.iter().filter_map(set).collect()
    }

    /// The namespaces of a database of the backup, or only its views.
    pub(super) fn of_database(&self, from_db: &str, views: bool) -> Vec<NamespaceKey> {
        let of = self.0.iter().filter(|(_, known)| known.is_of(from_db, views));
        of.map(|(key, _)| key.clone()).collect()
    }

    /// The indexes of a namespace; empty if there is no such namespace.
    pub(crate) fn indexes(&self, key: &NamespaceKey) -> Vec<RawDocumentBuf> {
        let known = self.0.get(key).map(|known| known.indexes.iter());
        known.into_iter().flatten().map(|index| index.spec.clone()).collect()
    }

    /// The option that lets the documents of a clustered collection expire.
    pub(crate) fn expiry(&self, key: &NamespaceKey) -> Option<&RawBson> {
        self.0.get(key)?.expires.as_ref()
    }

    pub(crate) fn builds(&self) -> Vec<Build> {
        let mut builds = Vec::new();
        for (key, known) in self.0.iter().filter(|(_, known)| !known.view) {
            let mut by_place: BTreeMap<&str, Vec<RawDocumentBuf>> = BTreeMap::new();
            for index in &known.indexes {
                by_place.entry(&index.on).or_default().push(index.spec.clone());
            }
            for (on, specs) in by_place {
                let specs = collections::built(&specs, known.collated);
                if !specs.is_empty() {
                    builds.push(Build { of: key.clone(), on: on.into(), specs });
                }
            }
        }
        builds
    }
}

impl KnownNamespace {
    fn is_of(&self, from_db: &str, views: bool) -> bool {
        self.from_db == from_db && (self.view || !views)
    }

    fn edit(&mut self, to: &TargetNamespace, edit: &IndexEdit) {
        match edit {
            IndexEdit::Put(specs) => {
                for spec in specs {
                    if let Ok(name) = spec.get_str("name") {
                        self.indexes.retain(|index| !is(&index.spec, &name.into()));
                    }
                    self.indexes.push(KnownIndex { on: to.stored(), spec: spec.clone() });
                }
            }
            IndexEdit::Remove(RawBson::String(all)) if all == "*" => {
                self.indexes.retain(|index| collections::is_own(&index.spec));
            }
            IndexEdit::Remove(which) => self.indexes.retain(|index| !is(&index.spec, which)),
            // If the index is unknown, it was dropped later, before its collection was read.
            IndexEdit::Change(change) => {
                let which = ["name", "keyPattern"].into_iter().find_map(|by| change.get(by).ok()?);
                let Some(which) = which.map(RawBson::from) else { return };
                for index in self.indexes.iter_mut().filter(|index| is(&index.spec, &which)) {
                    index.spec = changed(&index.spec, change);
                }
            }
        }
    }
}

/// The option that lets the documents of a time series or a clustered collection expire. A server that has it deletes documents
/// by itself.
pub(crate) const EXPIRES: &str = "expireAfterSeconds";

fn expires(options: &RawDocument) -> Option<RawBson> {
    options.get(EXPIRES).ok().flatten().map(RawBson::from)
}

fn is_collated(options: &RawDocument) -> bool {
    options.get_document("collation").is_ok()
}

pub(crate) fn is_capped(options: &RawDocument) -> bool {
    options.get("capped").is_ok_and(|capped| !matches!(capped, None | Some(RawBsonRef::Boolean(false))))
}

/// Returns true if the index has this name or this key.
fn is(spec: &RawDocument, which: &RawBson) -> bool {
    match which {
        RawBson::String(name) => spec.get_str("name").is_ok_and(|own| own == name),
        RawBson::Document(key) => spec.get_document("key").is_ok_and(|own| own.as_bytes() == key.as_bytes()),
        _ => false,
    }
}

/// The index with changed options, in the form of `listIndexes`.
fn changed(spec: &RawDocument, change: &RawDocument) -> RawDocumentBuf {
    let options: Vec<_> =
        change.iter().flatten().filter(|(key, _)| !["name", "keyPattern"].contains(&key.as_str())).collect();
    let set = |name: &str| {
        options.iter().any(|(key, value)| key.as_str() == name && *value == RawBsonRef::Boolean(true))
    };
    let mut out = RawDocumentBuf::new();
    for (key, value) in spec.iter().flatten() {
        let name = key.as_str();
        // `unique` replaces `prepareUnique`, and `forceNonUnique` removes `unique`.
        let over = name == "prepareUnique" && set("unique") || name == "unique" && set("forceNonUnique");
        if !over && !options.iter().any(|(other, _)| other.as_str() == name) {
            out.append(key, value);
        }
    }
    for (key, value) in options {
        // `listIndexes` does not show options that are false.
        if value != RawBsonRef::Boolean(false) && key.as_str() != "forceNonUnique" {
            out.append(key, value);
        }
    }
    out
}

#[cfg(test)]
mod tests;
