//! The namespaces to be tried: the namespaces of the plan, and those that the oplog slice creates or changes.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::{OWN, PreflightInput};
use crate::dumpformat::metadata;
use crate::model::namespace::{Namespace, Type};
use crate::ops::restore::filter::{BUCKETS, TargetNamespace};
use crate::ops::restore::namespaces::{NamespaceKey, Planned, TargetContents};
use crate::ops::restore::remedy::{Obstacle, Remedy};
use crate::ops::restore::replay::SliceSurvey;
use crate::ops::restore::replay::action::{ChangeForm, ReplayStep};
use crate::ops::restore::replay::catalog::ReplayCatalog;
use crate::ops::restore::views;
use crate::restore_target::collections;

/// The most indexes of a collection, and the most fields of an index key.
const MOST_INDEXES: usize = 64;
const MOST_FIELDS: usize = 32;

/// A namespace to be tried.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// The name in the backup.
    pub from: String,
    pub to: NamespaceKey,
    /// The kind, the options, and the index on `_id`.
    pub namespace: Namespace,
    pub indexes: Vec<RawDocumentBuf>,
    /// The indexes to be built on the bucket collection: the slice has the indexes of a time series there.
    pub bucket_indexes: Vec<RawDocumentBuf>,
    /// The slice's `collMod` commands.
    pub changes: Vec<RawDocumentBuf>,
    /// True if the slice creates it.
    pub of_slice: bool,
}

impl Candidate {
    fn new(from: String, to: NamespaceKey, namespace: Namespace, of_slice: bool) -> Candidate {
        let (indexes, bucket_indexes, changes) = Default::default();
        Candidate { from, to, namespace, indexes, bucket_indexes, changes, of_slice }
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.to.0, self.to.1)
    }

    pub(super) fn exclude(&self, why: String) -> Obstacle {
        let remedy = Remedy::Exclude([self.from.clone()].into());
        Obstacle { what: self.name(), why, remedy, of_slice: self.of_slice }
    }
}

pub(super) fn candidates(subject: &PreflightInput) -> Vec<Candidate> {
    let replays = subject.survey.is_some();
    let candidate = |planned: &Planned| {
        let Planned { chosen, source, namespace, .. } = planned;
        // With a replay, the indexes at its end count.
        let indexes = if replays { Vec::new() } else { collections::indexes(namespace) };
        Candidate { indexes, ..Candidate::new(source.name(), chosen.key(), namespace.clone(), false) }
    };
    let mut all: Vec<Candidate> = subject.planned.iter().map(candidate).collect();
    if let Some(survey) = subject.survey {
        follow(subject.planned, survey, &mut all);
    }
    if subject.options.no_indexes {
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
    let mut catalog = ReplayCatalog::new(planned.iter());
    for action in &survey.commands {
        match action {
            ReplayStep::Create { to, form, view, .. } => {
                latest.insert(to.key(), candidates.len());
                candidates.push(candidate(to, command(form), *view));
            }
            ReplayStep::Modify { to, form } => {
                let change = command(form);
                let is_change = change
                    .iter()
                    .next()
                    .is_some_and(|first| first.is_ok_and(|(name, _)| name.as_str() == "collMod"));
                if let Some(at) = latest.get(&to.key()).filter(|_| is_change) {
                    candidates[*at].changes.push(change.to_owned());
                }
            }
            ReplayStep::Rename { from, to, .. } => {
                if let Some(at) = latest.remove(&from.key()) {
                    latest.insert(to.key(), at);
                }
            }
            ReplayStep::Write { .. }
            | ReplayStep::Drop(_)
            | ReplayStep::DropAll { .. }
            | ReplayStep::Index { .. } => {}
        }
        catalog.follow(action);
    }
    for build in catalog.builds() {
        let Some(at) = latest.get(&build.of) else { continue };
        match build.on.starts_with(BUCKETS) {
            true => candidates[*at].bucket_indexes.extend(build.specs),
            false => candidates[*at].indexes.extend(build.specs),
        }
    }
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
    Candidate::new(format!("{}.{}", to.from_db, to.from), to.key(), namespace, true)
}

/// The views of the target that the restore leaves unchanged, reduced to the names that they show and their
/// collation.
pub(super) fn staying(candidates: &[Candidate], found: &TargetContents) -> Vec<Candidate> {
    let replaced: BTreeSet<&NamespaceKey> = candidates.iter().map(|one| &one.to).collect();
    let stays = found.views().filter(|(key, _)| !replaced.contains(key));
    let candidate = |(key, options): (&NamespaceKey, &RawDocumentBuf)| {
        let namespace = Namespace { kind: Type::View, options: views::bare(options), ..plain() };
        Candidate::new(String::new(), key.clone(), namespace, false)
    };
    stays.map(candidate).collect()
}

pub(super) fn plain() -> Namespace {
    metadata::of("", "", RawDocumentBuf::new(), Vec::new())
}

/// Returns true if every server accepts the namespace: a collection without options, with ordinary indexes.
pub(super) fn is_everyday(one: &Candidate) -> bool {
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
        && indexes.iter().all(|spec| is_ordinary(spec) && is_distinct(spec))
        && bucket_indexes.is_empty()
        && changes.is_empty()
}

/// A key that is equal for namespaces that can share a trial.
pub(super) fn key(one: &Candidate) -> Vec<u8> {
    let Candidate { namespace, indexes, bucket_indexes, changes, to, .. } = one;
    let mut parts = RawArrayBuf::new();
    parts.push(namespace.options.clone());
    let own = namespace.indexes.iter().filter(|index| collections::is_own(index));
    own.chain(indexes).chain(bucket_indexes).chain(changes).for_each(|document| parts.push(document.clone()));
    let within = namespace.kind == Type::Timeseries || OWN.contains(&to.0.as_str());
    let db = if within { to.0.as_str() } else { "" };
    rawdoc! {"parts": parts, "db": db}.into_bytes()
}

/// Returns true if every server since 4.4 accepts the index: ascending and descending fields; unique, sparse
/// or TTL.
fn is_ordinary(spec: &RawDocument) -> bool {
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
            assert_eq!(is_ordinary(&spec), ordinary, "{spec:?}");
        }
    }
}
