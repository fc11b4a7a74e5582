//! The drill itself: restore, read back, compare.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::compare::{self, Difference};
use super::read::{self, Copies};
use super::{KEPT, Resources};
use crate::artifact::manifest::Manifest;
use crate::artifact::writer::Tally;
use crate::catalog::verdict::Drill;
use crate::error::{Error, Kind, Result};
use crate::ops::restore::{self, Filter, Options, Origin, Outcome, Planned, Restore, Stored};
use crate::secret::Secret;
use crate::store::dir::space;
use crate::target::{Target, Version};

/// How many segments are restored at once, as `restore` does.
const WORKERS: usize = 4;
/// How a restore begins to tell that it counted less than it wrote.
const COUNTED: &str = "the target has ";
/// Collections of `admin` that the server merges: they are compared as well, in a server of its own.
const PEOPLE: [&str; 2] = ["system.users", "system.roles"];

/// Where the backup goes.
pub struct Scratch {
    /// The server.
    pub uri: Secret,
    /// The name of each database there; `None`: its own.
    pub names: Option<BTreeMap<String, String>>,
}

/// Refuses to fill a disk.
pub fn room(within: &Path, bytes: u64) -> Result<()> {
    let doing = || format!("there is no room in {} for a throw-away mongod", within.display());
    let checked = space::check(within, bytes, 0.0, doing).map_err(Error::from);
    checked.map(|_| ()).map_err(|e| {
        e.hint("Set TMPDIR to a folder of a larger disk, or name a server to drill on (--to-uri, DRILL_URI)")
    })
}

impl Scratch {
    /// Restores, reads back and compares.
    pub async fn drill(&self, resources: &Resources<'_>, manifest: &Manifest) -> Result<Drill> {
        let began = Instant::now();
        let target = Target::connect(&self.uri).await?;
        let (source, version) = (Version::parse(&manifest.source.version), target.version);
        if (source.0, source.1) > (version.0, version.1) {
            let what = format!("the backup is of MongoDB {source}, the drill's server is older: {version}");
            return Err(Error::failed(what)
                .hint("Drill with the version of the source or a newer one (MONGOD_PATH, --to-uri)"));
        }
        let stored = Arc::new(Stored::open(Arc::clone(&resources.store), manifest.clone()).await?);
        let filter = Filter { rename: self.renames()?, ..Filter::default() };
        // The manifest describes the documents as they were read, before a replay changes them.
        let options = Options { filter, workers: WORKERS, no_replay: true, ..Options::default() };
        let restore = Restore::plan(Origin::Stored(Arc::clone(&stored)), target, options).await?;
        let planned = restore.plan.namespaces.clone();
        let report = restore.apply(resources.meter).await.map_err(of_target)?;
        let recovery = began.elapsed();

        let compared = Instant::now();
        let with_people = report.people.is_some();
        let databases: BTreeSet<&str> = planned.iter().map(|p| p.chosen.db.as_str()).collect();
        let people = with_people.then_some("admin");
        let copies = read::all(&self.uri, databases.into_iter().chain(people), resources).await?;
        let mut differences = Vec::new();
        for (planned, outcome) in pairs(&planned, &report.outcomes) {
            let (name, kept) = (planned.offer.name(), &outcome.kept);
            let expected = expected(&stored, planned, kept, &copies).await?;
            let thinned = expected.documents < kept.documents;
            // What was counted when it was restored had begun to expire, or was pushed out.
            let problems = outcome.problems.iter().filter(|what| !(thinned && what.starts_with(COUNTED)));
            differences.extend(problems.map(|what| (name.clone(), Difference::of(what))));
            let found = copies.get(&planned.chosen.db, &planned.chosen.collection);
            let new = compare::namespace(&planned.namespace, &expected, found);
            differences.extend(new.into_iter().map(|difference| (name.clone(), difference)));
        }
        if with_people {
            differences.extend(people_of(manifest, &copies)?);
        }
        // What the manifest warns of has nothing to do with the drill.
        let mut notes = report.warnings;
        notes.retain(|note| !manifest.warnings.contains(note));
        let same = (source.0, source.1) == (version.0, version.1);
        let (findings, looks) = compare::sorted(differences, same, &version);
        notes.extend(looks);
        Ok(Drill {
            at: (resources.now)(),
            target: if self.names.is_some() { "server" } else { "mongod" }.into(),
            version: version.to_string(),
            recovery_seconds: recovery.as_secs_f64(),
            index_seconds: report.outcomes.iter().map(|outcome| outcome.indexing.as_secs_f64()).sum(),
            compare_seconds: compared.elapsed().as_secs_f64(),
            namespaces: planned.len() as u64,
            documents: report.outcomes.iter().map(|outcome| outcome.documents).sum(),
            raw_bytes: report.outcomes.iter().map(|outcome| outcome.raw_bytes).sum(),
            findings: findings.into_iter().take(KEPT).collect(),
            notes,
        })
    }

    fn renames(&self) -> Result<Vec<restore::Rename>> {
        let names = self.names.iter().flatten();
        let (from, to): (Vec<_>, Vec<_>) =
            names.map(|(from, to)| (format!("{}.*", escaped(from)), format!("{to}.*"))).unzip();
        restore::pairs(&from, &to).map_err(Error::usage)
    }
}

/// A failure of the target says nothing about the backup; one of the backup does.
fn of_target(error: Error) -> Error {
    match error.kind() {
        Kind::Mismatch => error,
        _ => {
            error.hint("This says nothing about the backup: see to the server of the drill, and drill again")
        }
    }
}

/// A name in which nothing stands for anything else.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| [Some('\\').filter(|_| "\\*$".contains(c)), Some(c)]).flatten().collect()
}

/// What was planned with what came of it: both have the namespaces of the target, each once.
fn pairs<'a>(
    planned: &'a [Planned],
    outcomes: &'a [Outcome],
) -> impl Iterator<Item = (&'a Planned, &'a Outcome)> {
    let by_name: BTreeMap<&str, &Outcome> =
        outcomes.iter().map(|outcome| (outcome.to.as_str(), outcome)).collect();
    planned.iter().map(move |planned| (planned, by_name[planned.chosen.name().as_str()]))
}

/// What should be there of a namespace: what was sent without what was superseded; of a capped collection whose
/// backup holds more than fits, the last that fit; and where documents expire, those that are there yet, as
/// they are in the backup.
async fn expected(stored: &Arc<Stored>, planned: &Planned, kept: &Tally, copies: &Copies) -> Result<Tally> {
    let (at, db, collection) = (planned.chosen.at, &planned.chosen.db, &planned.chosen.collection);
    let found = copies.get(db, collection).map_or(0, |(_, tally)| tally.documents);
    if found >= kept.documents {
        return Ok(kept.clone());
    }
    if planned.namespace.options.get_bool("capped").unwrap_or(false) {
        return read::last(stored, at, kept.documents - found).await;
    }
    match copies.expiring(db, collection) {
        Some(hashes) => read::among(stored, at, hashes.clone()).await,
        None => Ok(kept.clone()),
    }
}

/// Users and roles, against the manifest.
fn people_of(manifest: &Manifest, copies: &Copies) -> Result<Vec<(String, Difference)>> {
    let mut out = Vec::new();
    for entry in manifest.namespaces.iter().filter(|n| n.db == "admin") {
        if !PEOPLE.contains(&entry.collection.as_str()) {
            continue;
        }
        let sum = u128::from_str_radix(&entry.xxh3_sum, 16)
            .map_err(|e| Error::new(Kind::Mismatch, "the manifest has a broken hash").caused_by(e))?;
        let expected = Tally { documents: entry.documents, raw_bytes: entry.raw_bytes, stored_bytes: 0, sum };
        let found = copies.get("admin", &entry.collection).map(|(_, tally)| tally);
        // The server merges them, and a newer one may write them anew.
        let differs = compare::documents(&expected, found.unwrap_or(&Tally::default()));
        out.extend(differs.map(|what| (format!("admin.{}", entry.collection), Difference::Form(what))));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_never_filled() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room(folder.path(), 1).is_ok());
        let error = room(folder.path(), u64::MAX / 2).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Failed);
        assert!(error.chain().contains(folder.path().to_str().unwrap()), "{error}");
        assert!(error.next_step().unwrap().contains("TMPDIR"), "{error:?}");
    }

    #[test]
    fn a_database_goes_whole_under_its_other_name() {
        let names = [("a", "d_1"), ("a*b\\c", "d_2"), ("ab", "d_3")].map(|(a, b)| (a.into(), b.into()));
        let scratch = Scratch { uri: Secret::from(String::new()), names: Some(names.into()) };
        let pairs = scratch.renames().unwrap();
        for (from, to) in
            [("a.b.c*d", "d_1.b.c*d"), ("a*b\\c.x", "d_2.x"), ("ab.a.b", "d_3.a.b"), ("b.a.x", "b.a.x")]
        {
            assert_eq!(restore::renamed(&pairs, from), to);
        }
    }
}
