//! Reading back the restored data and comparing it with the backup.
//!
//! Without an oplog slice, everything is compared at the end. Namespaces that a slice changes are compared in
//! two steps: their documents before the replay, because the manifest describes that state, and at the end
//! the options and indexes that the slice's commands left unchanged.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{RawDocument, RawDocumentBuf};
use xxhash_rust::xxh3::xxh3_128;

use super::DrillResources;
use crate::base::error::Result;
use crate::base::progress::{Meter, Phase};
use crate::base::secret::Secret;
use crate::base::units::{count, several};
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::model::manifest::Manifest;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::mongo::commands::STALL;
use crate::mongo::meaning;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::ops::restore::ArchiveSurvey as NamespaceSurvey;
use crate::ops::restore::{
    BackupNamespace, NamespaceOutcome, Planned, Problem, ProblemKind, SliceSurvey, StoredBackup,
    read_blocking,
};
use crate::restore_target::ServerVersion;
use crate::source::{describe, native};

/// Collections of `admin` that a restore merges. They are compared if the drill has a server of its own.
const PEOPLE: [&str; 2] = ["system.users", "system.roles"];

/// The comparison of a restored backup with the backup.
pub(super) struct DrillCheck<'a> {
    /// The server that the backup was restored into.
    pub uri: &'a Secret,
    pub resources: &'a DrillResources<'a>,
    pub stored: &'a Arc<StoredBackup>,
    pub planned: &'a [Planned],
    /// The same namespaces as they are created, before the replay.
    pub created: &'a [Planned],
    /// The changes by the replay, if there is one.
    pub survey: Option<&'a SliceSurvey>,
    /// True if users and roles are restored.
    pub people: bool,
}

#[derive(Default)]
pub(super) struct Compared {
    /// With the name of the namespace in the backup.
    pub differences: Vec<(String, Difference)>,
    pub took: Duration,
    /// Namespaces of the target that had lost documents: expired ones, or the oldest of a capped collection.
    thinned: BTreeSet<String>,
}

impl DrillCheck<'_> {
    /// Compares users and roles, and the documents of the namespaces that the replay will change.
    pub(super) async fn before_replay(&self, outcomes: &[NamespaceOutcome]) -> Result<Compared> {
        let aspects = |planned: &Planned| {
            let changes = self.survey.is_some_and(|survey| survey.changes(planned));
            changes.then_some(Aspects { documents: true, indexes: false })
        };
        let mut found = Compared::default();
        self.compare(self.created, outcomes, aspects, self.people, &mut found).await?;
        Ok(found)
    }

    /// Returns true if the oplog slices change this namespace of the backup, or if the name is of no namespace of the backup.
    pub(super) fn may_be_of_slices(&self, name: &str) -> bool {
        let changes = |planned: &Planned| self.survey.is_some_and(|survey| survey.changes(planned));
        self.planned.iter().find(|planned| planned.source.name() == name).is_none_or(changes)
    }

    /// Compares everything else at the end, and adds the problems that the restore reported. `found` is the
    /// result of [`before_replay`](DrillCheck::before_replay).
    pub(super) async fn end(&self, outcomes: &[NamespaceOutcome], mut found: Compared) -> Result<Compared> {
        let aspects = |planned: &Planned| match self.survey {
            Some(survey) if survey.reshapes(planned) => None,
            Some(survey) if survey.changes(planned) => Some(Aspects { documents: false, indexes: true }),
            _ => Some(Aspects { documents: true, indexes: true }),
        };
        let people = self.people && self.survey.is_none();
        self.compare(self.planned, outcomes, aspects, people, &mut found).await?;
        for (planned, outcome) in pairs(self.planned, outcomes) {
            // The restore counted less because documents expired or were pushed out of a capped collection.
            let thinned = found.thinned.contains(&outcome.to);
            let problems = outcome.problems.iter().filter(|one| !(thinned && one.kind == ProblemKind::Count));
            let problems = problems.map(|one| (planned.source.name(), Difference::reported(one.clone())));
            found.differences.extend(problems);
        }
        Ok(found)
    }

    async fn compare(
        &self,
        planned: &[Planned],
        outcomes: &[NamespaceOutcome],
        aspects: impl Fn(&Planned) -> Option<Aspects>,
        people: bool,
        found: &mut Compared,
    ) -> Result<()> {
        let began = Instant::now();
        let pairs = || {
            // A namespace whose replay ended early has no state that could be compared.
            let pairs = pairs(planned, outcomes).filter(|(_, outcome)| outcome.is_complete());
            pairs.filter_map(|(planned, outcome)| Some((planned, outcome, aspects(planned)?)))
        };
        let mut wanted: BTreeMap<_, _> =
            pairs().map(|(planned, _, aspects)| (planned.chosen.key(), aspects.documents)).collect();
        if people {
            wanted.extend(PEOPLE.map(|name| (("admin".into(), name.into()), true)));
        }
        let documents = pairs().filter(|(_, _, aspects)| aspects.documents);
        let expected = documents.map(|(_, outcome, _)| outcome.kept.raw_bytes).sum();
        let copies = read_back(self.uri, &wanted, self.resources, expected).await?;
        for (planned, outcome, aspects) in pairs() {
            let there = copies.get(&planned.chosen.db, &planned.chosen.collection);
            let mut expected = outcome.kept.clone();
            if aspects.documents {
                expected = expected_of(self.stored, planned, &outcome.kept, &copies).await?;
                if expected.documents < outcome.kept.documents {
                    found.thinned.insert(outcome.to.clone());
                }
            }
            let new = compare_namespace(aspects, &planned.namespace, &expected, there);
            found.differences.extend(new.into_iter().map(|difference| (planned.source.name(), difference)));
        }
        if people {
            found.differences.extend(people_of(&self.stored.manifest, &copies)?);
        }
        found.took += began.elapsed();
        Ok(())
    }
}

/// Pairs each planned namespace with its outcome.
fn pairs<'a>(
    planned: &'a [Planned],
    outcomes: &'a [NamespaceOutcome],
) -> impl Iterator<Item = (&'a Planned, &'a NamespaceOutcome)> {
    let by_name: BTreeMap<&str, &NamespaceOutcome> =
        outcomes.iter().map(|outcome| (outcome.to.as_str(), outcome)).collect();
    planned.iter().map(move |planned| (planned, by_name[planned.chosen.name().as_str()]))
}

/// Returns the tally that a restored namespace should have. Usually this is `kept`, the sent documents without superseded ones.
/// If a capped collection does not have all documents of the backup, the last documents that fit are expected. If documents
/// expire, the documents that still exist are expected, as they are in the backup.
async fn expected_of(
    stored: &Arc<StoredBackup>,
    planned: &Planned,
    kept: &Tally,
    copies: &RestoredCopies,
) -> Result<Tally> {
    let (at, db, collection) = (planned.chosen.at, &planned.chosen.db, &planned.chosen.collection);
    let found = copies.get(db, collection).map_or(0, |(_, tally)| tally.documents);
    if found >= kept.documents {
        return Ok(kept.clone());
    }
    if planned.namespace.options.get_bool("capped").unwrap_or(false) {
        let mut skipped = kept.documents - found;
        return tally_if(stored, at, move |_| {
            let counts = skipped == 0;
            skipped = skipped.saturating_sub(1);
            counts
        })
        .await;
    }
    match copies.expiring.get(&planned.chosen.key()).cloned() {
        Some(hashes) => tally_if(stored, at, move |document| hashes.contains(&xxh3_128(document))).await,
        None => Ok(kept.clone()),
    }
}

/// Compares users and roles with the manifest.
fn people_of(manifest: &Manifest, copies: &RestoredCopies) -> Result<Vec<(String, Difference)>> {
    let mut out = Vec::new();
    for entry in manifest.namespaces.iter().filter(|n| n.db == "admin") {
        if !PEOPLE.contains(&entry.collection.as_str()) {
            continue;
        }
        let BackupNamespace { documents, raw_bytes, sum, .. } = BackupNamespace::of(entry)?;
        let expected = Tally { documents, raw_bytes, stored_bytes: 0, sum };
        let found = copies.get("admin", &entry.collection).map(|(_, tally)| tally);
        // The restore merges them, and a newer server may rewrite them.
        let differs = compare_documents(&expected, found.unwrap_or(&Tally::default()));
        out.extend(differs.map(|what| (format!("admin.{}", entry.collection), Difference::Form(what))));
    }
    Ok(out)
}

/// A difference between the restored data and the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// A difference in documents. They are the same on servers of all versions.
    Data(String),
    /// A difference in options, indexes, users or roles. A server of another version may store them in
    /// another form.
    Form(String),
}

impl Difference {
    /// The difference that a problem reported by the restore means.
    pub(super) fn reported(problem: Problem) -> Difference {
        match problem.kind {
            ProblemKind::Index => Difference::Form(problem.text),
            ProblemKind::Documents | ProblemKind::Count | ProblemKind::Incomplete | ProblemKind::Diverged => {
                Difference::Data(problem.text)
            }
        }
    }
}

/// The properties of a namespace that are compared, in addition to its existence, type and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aspects {
    documents: bool,
    indexes: bool,
}

/// Compares a namespace with the backup. `wanted` has the options and indexes of the backup.
fn compare_namespace(
    aspects: Aspects,
    wanted: &Namespace,
    expected: &Tally,
    found: Option<(&Namespace, &Tally)>,
) -> Vec<Difference> {
    let Some((there, tally)) = found else {
        // A system collection is created by its first document.
        let never = wanted.collection.starts_with("system.") && expected.documents == 0;
        return if never { Vec::new() } else { vec![Difference::Data("it is missing".into())] };
    };
    let mut out = Vec::new();
    if aspects.documents {
        out.extend(compare_documents(expected, tally).map(Difference::Data));
    }
    if wanted.kind != there.kind {
        let what = format!("it was a {:?} in the backup and is a {:?}", wanted.kind, there.kind);
        out.push(Difference::Data(what));
    }
    if !meaning::same_options(&wanted.options, &there.options) {
        out.push(Difference::Form("its options differ from the backup".into()));
    }
    if aspects.indexes {
        out.extend(compare_indexes(wanted, &there.indexes).into_iter().map(Difference::Form));
    }
    out
}

/// Returns the difference between two tallies, if there is one.
fn compare_documents(expected: &Tally, found: &Tally) -> Option<String> {
    if (expected.documents, expected.raw_bytes) != (found.documents, found.raw_bytes) {
        return Some(format!(
            "{} of {} were restored, but the backup has {} of {}",
            several(found.documents, "document"),
            several(found.raw_bytes, "byte"),
            count(expected.documents),
            count(expected.raw_bytes)
        ));
    }
    (expected.sum != found.sum).then(|| "the hash of its documents differs from the backup".into())
}

fn compare_indexes(namespace: &Namespace, found: &[RawDocumentBuf]) -> Vec<String> {
    let (wanted, found) = (by_name(&namespace.indexes), by_name(found));
    let missing = wanted.iter().filter_map(|(name, index)| match found.get(name) {
        None => Some(format!("its index '{name}' is missing")),
        Some(there) if !meaning::same_index(index, there) => {
            Some(format!("its index '{name}' differs from the backup"))
        }
        Some(_) => None,
    });
    let more = found.iter().filter(|(name, index)| {
        !wanted.contains_key(*name) && !comes_with_time_series(&namespace.options, index)
    });
    missing
        .chain(more.map(|(name, _)| format!("it has an index '{name}', which the backup does not have")))
        .collect()
}

fn by_name(indexes: &[RawDocumentBuf]) -> BTreeMap<&str, &RawDocument> {
    indexes.iter().map(|index| (index.get_str("name").unwrap_or("?"), index.as_ref())).collect()
}

/// Returns true for the index on `metaField` and `timeField` that MongoDB 6.3 and later build for every new
/// time series.
fn comes_with_time_series(options: &RawDocument, index: &RawDocument) -> bool {
    let Ok(series) = options.get_document("timeseries") else { return false };
    let (Ok(meta), Ok(time)) = (series.get_str("metaField"), series.get_str("timeField")) else {
        return false;
    };
    let mut key = RawDocumentBuf::new();
    for field in [meta, time] {
        let Ok(field) = bson::raw::CString::try_from(field) else { return false };
        key.append(field, 1);
    }
    meaning::same_index(index, &bson::rawdoc! {"key": key, "name": format!("{meta}_1_{time}_1")})
}

/// Splits differences into findings and notes. A difference in form is only a note if the drill's server does
/// not have the version of the source (`same`).
pub(super) fn split(
    differences: Vec<(String, Difference)>,
    same: bool,
    version: &ServerVersion,
) -> (Vec<String>, Vec<String>) {
    let (mut findings, mut notes) = (Vec::new(), Vec::new());
    for (name, difference) in differences {
        match difference {
            Difference::Form(what) if !same => {
                notes.push(format!(
                    "{name}: {what}; the version of the drill's server differs from the source's, MongoDB {version}"
                ));
            }
            Difference::Data(what) | Difference::Form(what) => findings.push(format!("{name}: {what}")),
        }
    }
    (findings, notes)
}

/// The restored namespaces, by database and collection.
#[derive(Default)]
struct RestoredCopies {
    rows: BTreeMap<(String, String), (Namespace, Tally)>,
    /// The hashes of the documents, for namespaces whose documents expire.
    expiring: BTreeMap<(String, String), HashSet<u128>>,
}

impl RestoredCopies {
    fn get(&self, db: &str, collection: &str) -> Option<(&Namespace, &Tally)> {
        let found = self.rows.get(&(db.to_string(), collection.to_string()));
        found.map(|(namespace, tally)| (namespace, tally))
    }
}

/// Returns true if the server deletes old documents of the namespace.
fn expires(namespace: &Namespace) -> bool {
    let mut all = namespace.indexes.iter().chain([&namespace.options]);
    all.any(|document| document.get("expireAfterSeconds").is_ok_and(|value| value.is_some()))
}

/// Counts the documents of each namespace, and keeps their hashes if they expire.
#[derive(Default)]
struct CopyReader {
    survey: NamespaceSurvey,
    hashes: Vec<Option<HashSet<u128>>>,
    at: usize,
    meter: Meter,
}

impl Sink for CopyReader {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.hashes = namespaces.iter().map(|n| expires(n).then(HashSet::new)).collect();
        self.survey.prelude(namespaces)
    }

    fn begin(&mut self, at: usize) -> Result<()> {
        self.at = at;
        self.survey.begin(at)
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if let Some(hashes) = &mut self.hashes[self.at] {
            hashes.insert(xxh3_128(raw));
        }
        self.meter.add(1, raw.len() as u64);
        self.survey.document(raw)
    }

    fn end(&mut self) -> Result<()> {
        self.survey.end()
    }
}

/// Describes namespaces of a server like a backup does. Reads the documents of namespaces with the value
/// `true`, of about `expected` bytes.
async fn read_back(
    uri: &Secret,
    wanted: &BTreeMap<(String, String), bool>,
    resources: &DrillResources<'_>,
    expected: u64,
) -> Result<RestoredCopies> {
    let databases: BTreeSet<String> = wanted.keys().map(|(db, _)| db.clone()).collect();
    if databases.is_empty() {
        return Ok(RestoredCopies::default());
    }
    let server = Arc::new(Server::connect(uri, &resources.patience, STALL, &Notes::default()).await?);
    let selection = Selection { databases: databases.into_iter().collect(), ..Selection::default() };
    let described = describe::describe(&server, &selection).await?;
    let mut copies = RestoredCopies::default();
    let mut read = Vec::new();
    for namespace in described.namespaces {
        let key = (namespace.db.clone(), namespace.collection.clone());
        match wanted.get(&key) {
            Some(true) => read.push(namespace),
            Some(false) => {
                copies.rows.insert(key, (namespace, Tally::default()));
            }
            None => {}
        }
    }
    resources.meter.expect(Phase::Comparing, Some(expected), 0);
    let meter = resources.meter.clone();
    let (reading, cancel) = (Arc::clone(&server), resources.cancel.token().clone());
    let CopyReader { survey, hashes, .. } = read_blocking(move || {
        let (mut reader, options) =
            (CopyReader { meter, ..CopyReader::default() }, native::ReadOptions::default());
        let notes = Notes::default();
        native::read(&reading, &read, &described.uuids, &options, &notes, &cancel, &mut reader)?;
        Ok(reader)
    })
    .await?;
    server.close().await;
    for ((namespace, tally), hashes) in survey.namespaces.into_iter().zip(survey.tallies).zip(hashes) {
        let key = (namespace.db.clone(), namespace.collection.clone());
        copies.expiring.extend(hashes.map(|hashes| (key.clone(), hashes)));
        copies.rows.insert(key, (namespace, tally));
    }
    Ok(copies)
}

/// Counts the documents of a namespace in the backup that `counts` accepts.
async fn tally_if(
    stored: &Arc<StoredBackup>,
    at: usize,
    mut counts: impl FnMut(&[u8]) -> bool + Send + 'static,
) -> Result<Tally> {
    let stored = Arc::clone(stored);
    read_blocking(move || {
        let mut sum = Tally::default();
        stored.scan(at, &mut |document| {
            if counts(document) {
                sum += Tally::of(document);
            }
        })?;
        Ok(sum)
    })
    .await
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::dumpformat::metadata;

    fn orders(indexes: &str, options: &str) -> Namespace {
        let text = format!(r#"{{"options":{options},"indexes":[{indexes}]}}"#);
        metadata::parse("shop", "orders", &text).unwrap()
    }

    const ID: &str = r#"{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}"#;
    const A: &str = r#"{"v":{"$numberInt":"2"},"key":{"a":{"$numberInt":"1"}},"name":"a_1"}"#;
    const UNIQUE: &str =
        r#"{"v":{"$numberInt":"2"},"key":{"a":{"$numberInt":"1"}},"name":"a_1","unique":true}"#;
    const OLD: &str =
        r#"{"v":{"$numberInt":"1"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_","ns":"shop.orders"}"#;

    const ALL: Aspects = Aspects { documents: true, indexes: true };

    fn tally(documents: &[RawDocumentBuf]) -> Tally {
        let mut sum = Tally::default();
        for document in documents {
            sum += Tally::of(document.as_bytes());
        }
        sum
    }

    #[test]
    fn additional_missing_and_changed_documents_are_found() {
        let (one, two, other) = (rawdoc! {"_id": 1}, rawdoc! {"_id": 2}, rawdoc! {"_id": 3});
        let all = tally(&[one.clone(), two.clone()]);
        assert_eq!(
            compare_documents(&all, &tally(&[two.clone(), one.clone()])),
            None,
            "the order does not matter"
        );
        for found in [vec![one.clone()], vec![one.clone(), two, other.clone()], vec![one, other], vec![]] {
            assert!(compare_documents(&all, &tally(&found)).is_some(), "{found:?}");
        }
    }

    #[test]
    fn differences_in_options_and_indexes_are_found() {
        let none = Tally::default();
        let of = |wanted: &Namespace, found: &Namespace| {
            compare_namespace(ALL, wanted, &none, Some((found, &none)))
        };
        let both = orders(&format!("{ID},{A}"), "{}");
        assert_eq!(of(&both, &orders(&format!("{A},{OLD}"), r#"{"autoIndexId":true}"#)), []);
        for (found, word) in [
            (orders(ID, "{}"), "'a_1' is missing"),
            (orders(&format!("{ID},{UNIQUE}"), "{}"), "'a_1' differs from"),
            (orders(&format!("{ID},{A}"), r#"{"capped":true}"#), "options"),
        ] {
            let differences = of(&both, &found);
            let [Difference::Form(what)] = &differences[..] else { panic!("{differences:?}") };
            assert!(what.contains(word), "{what}");
        }
        let [Difference::Form(more)] = &of(&orders(ID, "{}"), &both)[..] else { panic!() };
        assert!(more.contains("does not have"), "{more}");
        assert_eq!(compare_namespace(ALL, &both, &none, None), [Difference::Data("it is missing".into())]);
        let js = Namespace { collection: "system.js".into(), ..both };
        assert_eq!(compare_namespace(ALL, &js, &none, None), []);
    }

    #[test]
    fn only_the_given_aspects_are_compared() {
        let (wanted, found) = (orders(&format!("{ID},{A}"), "{}"), orders(ID, r#"{"capped":true}"#));
        let (some, none) = (tally(&[rawdoc! {"_id": 1}]), Tally::default());
        let of = |documents, indexes| {
            compare_namespace(Aspects { documents, indexes }, &wanted, &some, Some((&found, &none))).len()
        };
        assert_eq!((of(true, true), of(true, false), of(false, true)), (3, 2, 2));
    }

    /// A restore puts the name of a collection that came with the oplog slice before the message.
    #[test]
    fn an_index_problem_is_a_difference_in_form() {
        for text in ["the index 'a' cannot be built: x", "shop.new: the index 'a' cannot be built: x"] {
            assert_eq!(
                Difference::reported(ProblemKind::Index.problem(text.into())),
                Difference::Form(text.into())
            );
            assert_eq!(
                Difference::reported(ProblemKind::Count.problem(text.into())),
                Difference::Data(text.into())
            );
        }
    }

    #[test]
    fn a_server_of_another_version_may_differ_in_form_but_not_in_documents() {
        let differences = || {
            vec![("a.b".into(), Difference::Form("x".into())), ("a.c".into(), Difference::Data("y".into()))]
        };
        assert_eq!(split(differences(), true, &ServerVersion(6, 0, 5)).0, ["a.b: x", "a.c: y"]);
        let (findings, looks) = split(differences(), false, &ServerVersion(8, 0, 0));
        assert_eq!(findings, ["a.c: y"]);
        assert!(looks.len() == 1 && looks[0].contains("MongoDB 8.0.0"), "{looks:?}");
    }
}
