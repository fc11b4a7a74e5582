//! Finds out, before anything is dropped, which parts of a plan the target cannot take, by asking the target itself.
//!
//! The candidates are the namespaces of the plan, and those that the oplog slice creates or changes. [`trials`] tries
//! them: each distinct combination of options and indexes that some servers refuse is created as an empty collection
//! under a random name, and dropped again. With `--drop`, databases that the target does not have are tried as well:
//! after a database was dropped collection by collection, a server keeps refusing a name that differs from it only by
//! case (code 13297, seen on 4.4.2 to 6.0.27).

mod trials;

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::namespaces::{NamespaceKey, Planned, TargetContents, full_name, name_list};
use super::options::RestoreOptions;
use super::remedy::{Obstacle, Remedy};
use super::replay::SliceSurvey;
use super::replay::survey::{EXPIRES, ReplayCatalog};
use super::views;
use crate::base::error::Result;
use crate::dumpformat::metadata;
use crate::dumpformat::oplog::TargetNamespace;
use crate::dumpformat::oplog::script::{ChangeForm, ReplayStep};
use crate::model::namespace::{BUCKETS, Namespace, SERVERS_OWN, Type};
use crate::restore_target::marks::is_marks;
use crate::restore_target::users_and_roles::UsersAndRoles;
use crate::restore_target::{RestoreTarget, collections, trial};
use trials::TrialRunner;

/// The longest name of a database and of a namespace, in bytes.
const LONGEST_DATABASE: usize = 63;
const LONGEST: usize = 255;
/// The most names in a line about trials that the user may not make.
const NAMED: usize = 3;
const NOT_IN_DATABASE: &str = "/\\. \"$\0";
/// The most indexes of a collection, and the most fields of an index key.
const MOST_INDEXES: usize = 64;
const MOST_FIELDS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct PreflightResult {
    pub obstacles: Vec<Obstacle>,
    /// A line for each part that the user has no right to try.
    pub unproved: Vec<String>,
    pub warnings: Vec<String>,
}

/// Finds out what the target cannot take. Returns an error if the target does not answer. A refusal by the
/// target is a part of the result.
pub(super) async fn check(
    target: &RestoreTarget,
    options: &RestoreOptions,
    found: &TargetContents,
    planned: &[Planned],
    survey: Option<&SliceSurvey>,
    users_and_roles: &[UsersAndRoles],
) -> Result<PreflightResult> {
    sweep(target, found).await?;
    let mut runner = TrialRunner::new(target, &options.token, found);
    let mut candidates = candidates(planned, survey, options.no_indexes);
    if options.merge {
        // A merge creates only staging collections for what is there, and builds no index.
        let is_staged = |key: &NamespaceKey| {
            survey
                .and_then(|survey| survey.documents.as_ref())
                .is_some_and(|documents| documents.of(key).is_some())
        };
        candidates.retain(|one| !found.has(&one.to) || is_staged(&one.to));
        candidates.iter_mut().filter(|one| found.has(&one.to)).for_each(|one| one.indexes.clear());
    }
    let obstacles = &mut runner.result.obstacles;
    candidates.retain(|one| {
        let wrong = wrong_name(&one.to.0, &one.to.1, one.namespace.kind).map(|why| one.exclude(why));
        obstacles.extend(wrong.clone());
        wrong.is_none()
    });
    alike(&mut candidates, found, obstacles);
    // If nothing is dropped, a refused database costs no data: its namespaces fail later.
    if planned.iter().any(|planned| planned.is_replaced(options.drop)) {
        runner.databases(&mut candidates).await?;
    }
    runner.namespaces(&candidates).await?;
    if let Some(survey) = survey {
        runner.updates(survey, &candidates).await?;
    }
    runner.users_and_roles(users_and_roles, survey).await?;
    let TrialRunner { mut result, forbidden, .. } = runner;
    for (db, names) in forbidden {
        result.unproved.push(format!(
            "{}: whether the target accepts their options and indexes, because the user may not create and drop empty \
             collections in {db} or in {}",
            name_list(&names, NAMED),
            trial::DATABASE
        ));
    }
    let mut seen = BTreeSet::new();
    result.obstacles.retain(|one| seen.insert((one.what.clone(), one.why.clone())));
    Ok(result)
}

/// Removes the trials of killed runs.
async fn sweep(target: &RestoreTarget, found: &TargetContents) -> Result<()> {
    // A user who may not list the collections may not drop them either.
    if found.has_database(trial::DATABASE)
        && let Ok(rows) = target.collections(trial::DATABASE).await
    {
        let names: Vec<&str> = rows.iter().filter_map(|row| row.get_str("name").ok()).collect();
        target.sweep_trials(trial::DATABASE, names.into_iter()).await?;
    }
    for db in found.databases() {
        target.sweep_trials(db, found.names_of(db)).await?;
    }
    Ok(())
}

/// Why a name is invalid; `None` if it is valid. Source: MongoDB `src/mongo/db/namespace_string.h`.
pub(super) fn wrong_name(db: &str, collection: &str, kind: Type) -> Option<String> {
    if let Some(sign) = db.chars().find(|sign| NOT_IN_DATABASE.contains(*sign)) {
        return Some(format!("the name of a database cannot contain {sign:?}"));
    }
    if db.len() > LONGEST_DATABASE {
        return Some(format!(
            "the name of a database has at most {LONGEST_DATABASE} bytes, this one has {}",
            db.len()
        ));
    }
    if collection.starts_with('.') || collection.contains(['$', '\0']) {
        return Some("the name of a collection cannot begin with '.' or contain '$' or a zero byte".into());
    }
    if is_marks(db, collection) {
        return Some("the marks of restores are kept there".into());
    }
    let everyday = !SERVERS_OWN.contains(&db);
    if everyday && collection.starts_with("system.") && !["system.js", "system.users"].contains(&collection) {
        return Some("a server accepts no writes to a system collection of this name".into());
    }
    // The bucket collection of a time series has the longest name.
    let buckets = if kind == Type::Timeseries { "system.buckets.".len() } else { 0 };
    let length = db.len() + 1 + buckets + collection.len();
    (length > LONGEST).then(|| match buckets {
        0 => format!("the name of a namespace has at most {LONGEST} bytes, this one has {length}"),
        _ => format!(
            "the name of a namespace has at most {LONGEST} bytes, and the name of the time series' buckets has {length}"
        ),
    })
}

/// Removes the candidates in databases whose names differ only by case from another database: a server cannot
/// have two such databases (code 13297).
fn alike(candidates: &mut Vec<Candidate>, found: &TargetContents, obstacles: &mut Vec<Obstacle>) {
    let wanted: BTreeSet<String> = candidates.iter().map(|one| one.to.0.clone()).collect();
    let mut refused = BTreeMap::new();
    for db in &wanted {
        if let Some(other) = found.alike(db) {
            refused.insert(db.clone(), format!("the target has a database '{other}'"));
        }
    }
    for db in wanted.iter().filter(|db| !refused.contains_key(*db)).cloned().collect::<Vec<_>>() {
        let first = wanted.iter().filter(|other| other.eq_ignore_ascii_case(&db));
        let first = first
            .min_by_key(|other| (!found.has_database(other), refused.contains_key(*other), (*other).clone()));
        if let Some(first) = first.filter(|first| **first != db) {
            refused.insert(db, format!("the restore would create a database '{first}' as well"));
        }
    }
    for (db, why) in refused {
        let why = format!("{why}, and MongoDB does not allow two databases whose names differ only by case");
        obstacles.push(refuse_database(candidates, &db, why));
    }
}

/// Removes the candidates in a database that the target cannot take.
fn refuse_database(candidates: &mut Vec<Candidate>, db: &str, why: String) -> Obstacle {
    let names = candidates.extract_if(.., |one| one.to.0 == db).map(|one| one.from).collect();
    let what = format!("the database '{db}'");
    Obstacle { what, why, remedy: Remedy::Exclude(names), of_slice: false }
}

#[derive(Debug, Clone)]
struct Candidate {
    /// The name in the backup.
    from: String,
    to: NamespaceKey,
    /// The kind, the options, and the index on `_id`.
    namespace: Namespace,
    indexes: Vec<RawDocumentBuf>,
    /// The indexes to be built on the bucket collection: the slice has the indexes of a time series there.
    bucket_indexes: Vec<RawDocumentBuf>,
    /// The slice's `collMod` commands.
    changes: Vec<RawDocumentBuf>,
    /// True if the slice creates it.
    of_slice: bool,
}

impl Candidate {
    fn new(from: String, to: NamespaceKey, namespace: Namespace, of_slice: bool) -> Candidate {
        let (indexes, bucket_indexes, changes) = Default::default();
        Candidate { from, to, namespace, indexes, bucket_indexes, changes, of_slice }
    }

    fn exclude(&self, why: String) -> Obstacle {
        let remedy = Remedy::Exclude([self.from.clone()].into());
        Obstacle { what: full_name(&self.to), why, remedy, of_slice: self.of_slice }
    }
}

fn candidates(planned: &[Planned], survey: Option<&SliceSurvey>, no_indexes: bool) -> Vec<Candidate> {
    let candidate = |planned: &Planned| {
        let Planned { chosen, source, namespace, .. } = planned;
        // With a replay, only the indexes that exist at its end are built.
        let indexes = if survey.is_some() { Vec::new() } else { collections::indexes(namespace) };
        Candidate { indexes, ..Candidate::new(source.name(), chosen.key(), namespace.clone(), false) }
    };
    let mut all: Vec<Candidate> = planned.iter().map(candidate).collect();
    if let Some(survey) = survey {
        follow(planned, survey, &mut all);
    }
    if no_indexes {
        all.iter_mut().for_each(|one| {
            one.indexes.clear();
            one.bucket_indexes.clear();
        });
    }
    all
}

/// Adds the namespaces that the slice creates, and adds its changes and indexes to the others.
fn follow(planned: &[Planned], survey: &SliceSurvey, candidates: &mut Vec<Candidate>) {
    let mut latest: BTreeMap<NamespaceKey, usize> =
        candidates.iter().enumerate().map(|(at, one)| (one.to.clone(), at)).collect();
    let mut catalog = ReplayCatalog::new(planned);
    for step in &survey.commands {
        match step {
            ReplayStep::Create { to, form, view, .. } => {
                latest.insert(to.key(), candidates.len());
                candidates.push(candidate(to, command(form), *view));
            }
            ReplayStep::Modify { to, form } => {
                let change = command(form);
                let is_change = change.iter().flatten().next().is_some_and(|(name, _)| name == "collMod");
                if let Some(at) = latest.get(&to.key()).filter(|_| is_change) {
                    candidates[*at].changes.push(change.to_owned());
                }
            }
            ReplayStep::Rename { from, to, .. } => {
                if let Some(at) = latest.remove(&from.key()) {
                    latest.insert(to.key(), at);
                }
            }
            _ => {}
        }
        catalog.follow(step);
    }
    for build in catalog.builds() {
        let Some(at) = latest.get(&build.of) else { continue };
        match build.on.starts_with(BUCKETS) {
            true => candidates[*at].bucket_indexes.extend(build.specs),
            false => candidates[*at].indexes.extend(build.specs),
        }
    }
}

/// The forms in which a slice creates a namespace of the target.
pub(super) fn created_as(survey: &SliceSurvey, key: &NamespaceKey) -> Vec<Namespace> {
    let created = |step: &ReplayStep| match step {
        ReplayStep::Create { to, form, view, .. } if to.key() == *key => {
            Some([candidate(to, command(form), *view), candidate(to, command(&form.without(EXPIRES)), *view)])
        }
        _ => None,
    };
    survey.commands.iter().filter_map(created).flatten().map(|one| one.namespace).collect()
}

fn command(form: &ChangeForm) -> &RawDocument {
    match form {
        ChangeForm::Operation(operation) => operation.get_document("o").unwrap_or(operation),
        ChangeForm::Command(command) => command,
    }
}

fn candidate(to: &TargetNamespace, create: &RawDocument, view: bool) -> Candidate {
    let mut options = RawDocumentBuf::new();
    for (key, value) in create.iter().flatten().skip(1).filter(|(key, _)| key.as_str() != "idIndex") {
        options.append(key, value);
    }
    let kind = match (view, to.buckets) {
        (true, _) => Type::View,
        (false, true) => Type::Timeseries,
        (false, false) => Type::Collection,
    };
    let id = create.get_document("idIndex").map(|index| index.to_owned());
    let indexes = id.into_iter().collect();
    let namespace = Namespace { kind, ..metadata::of(&to.from_db, &to.from, options, indexes) };
    Candidate::new(to.backup_name(), to.key(), namespace, true)
}

/// The target's views that the restore leaves unchanged, reduced to their collation and the names of the collections
/// and views that they show.
fn staying(candidates: &[Candidate], found: &TargetContents) -> Vec<Candidate> {
    let replaced: BTreeSet<&NamespaceKey> = candidates.iter().map(|one| &one.to).collect();
    let stays = found.views().filter(|(key, _)| !replaced.contains(key));
    let candidate = |(key, options): (&NamespaceKey, &RawDocumentBuf)| {
        let namespace = Namespace { kind: Type::View, options: views::bare(options), ..plain() };
        Candidate::new(String::new(), key.clone(), namespace, false)
    };
    stays.map(candidate).collect()
}

fn plain() -> Namespace {
    metadata::of("", "", RawDocumentBuf::new(), Vec::new())
}

/// Returns true if every server accepts the namespace: a collection without options, with ordinary indexes.
fn is_everyday(one: &Candidate) -> bool {
    let Candidate { namespace, indexes, bucket_indexes, changes, .. } = one;
    let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut is_distinct = |spec: &RawDocumentBuf| {
        spec.get_document("key").is_ok_and(|key| keys.insert(key.as_bytes().to_vec()))
            && spec.get_str("name").is_ok_and(|name| names.insert(name.to_string()))
    };
    let own = namespace.indexes.iter().find(|index| collections::is_own(index));
    namespace.kind == Type::Collection
        && namespace.options.iter().next().is_none()
        && own.is_none_or(|own| {
            own.iter().flatten().all(|(key, _)| ["v", "key", "name", "ns"].contains(&key.as_str()))
        })
        && indexes.len() < MOST_INDEXES
        && indexes.iter().all(|spec| is_ordinary_index(spec) && is_distinct(spec))
        && bucket_indexes.is_empty()
        && changes.is_empty()
}

/// A key that is the same for namespaces that can share a trial.
fn trial_key(one: &Candidate) -> Vec<u8> {
    let Candidate { namespace, indexes, bucket_indexes, changes, to, .. } = one;
    let mut parts = RawArrayBuf::new();
    parts.push(namespace.options.clone());
    let own = namespace.indexes.iter().filter(|index| collections::is_own(index));
    own.chain(indexes).chain(bucket_indexes).chain(changes).for_each(|document| parts.push(document.clone()));
    let within = namespace.kind == Type::Timeseries || SERVERS_OWN.contains(&to.0.as_str());
    let db = if within { to.0.as_str() } else { "" };
    rawdoc! {"parts": parts, "db": db}.into_bytes()
}

/// Returns true if every server since 4.4 accepts the index: ascending and descending fields; unique, sparse
/// or TTL.
fn is_ordinary_index(spec: &RawDocument) -> bool {
    let number = |value: RawBsonRef<'_>| match value {
        RawBsonRef::Int32(n) => n == 1 || n == -1,
        RawBsonRef::Double(n) => n == 1.0 || n == -1.0,
        _ => false,
    };
    let fields = |key: &RawDocument| {
        let path = |field: &str| !field.contains('$') && field.split('.').all(|part| !part.is_empty());
        (1..=MOST_FIELDS).contains(&key.iter().count())
            && key.iter().flatten().all(|(field, value)| number(value) && path(field.as_str()))
    };
    spec.iter().flatten().all(|(option, value)| match (option.as_str(), value) {
        ("key", RawBsonRef::Document(key)) => fields(key),
        ("name", RawBsonRef::String(name)) => !name.is_empty() && name != "*",
        ("unique" | "sparse", RawBsonRef::Boolean(_)) => true,
        ("expireAfterSeconds", RawBsonRef::Int32(n)) => n >= 0,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_found() {
        let long = "x".repeat(240);
        for (db, collection, kind, wrong) in [
            ("shop", "orders", Type::Collection, false),
            ("a/b", "orders", Type::Collection, true),
            ("a b", "orders", Type::Collection, true),
            (&"x".repeat(63), "c", Type::Collection, false),
            (&"x".repeat(64), "c", Type::Collection, true),
            ("shop", &long, Type::Collection, false),
            ("shop", &long, Type::Timeseries, true),
            ("shop", "a$b", Type::Collection, true),
            ("shop", ".a", Type::Collection, true),
            ("shop", "system.js", Type::Collection, false),
            ("shop", "system.namespaces", Type::Collection, true),
            ("admin", "system.roles", Type::Collection, false),
        ] {
            assert_eq!(wrong_name(db, collection, kind).is_some(), wrong, "{db}.{collection}");
        }
    }

    #[test]
    fn only_indexes_that_every_server_accepts_are_ordinary() {
        for (spec, ordinary) in [
            (rawdoc! {"key": {"a": 1, "b": -1.0}, "name": "a_1", "unique": true}, true),
            (rawdoc! {"key": {"a": 1}, "name": "a_1", "expireAfterSeconds": 5}, true),
            (rawdoc! {"key": {"a": "text"}, "name": "a"}, false),
            (rawdoc! {"key": {"$**": 1}, "name": "a"}, false),
            (rawdoc! {"key": {"a": 1}, "name": "a", "hidden": true}, false),
            (rawdoc! {"key": {"a": 1}, "name": "a", "partialFilterExpression": {}}, false),
            (rawdoc! {"key": {"a": true}, "name": "a"}, false),
            (rawdoc! {"key": {"a.b": 1}, "name": "a"}, true),
            (rawdoc! {"key": {"a..b": 1}, "name": "a"}, false),
            (rawdoc! {"key": {"a.": 1}, "name": "a"}, false),
            (rawdoc! {"key": {"": 1}, "name": "a"}, false),
            (rawdoc! {"key": {}, "name": "a"}, false),
            (rawdoc! {"key": {"a": 1}, "name": "a", "expireAfterSeconds": -1}, false),
        ] {
            assert_eq!(is_ordinary_index(&spec), ordinary, "{spec:?}");
        }
    }
}
