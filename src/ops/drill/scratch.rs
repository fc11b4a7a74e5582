//! The drill itself: restore, read back, compare.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::check::{Check, Found};
use super::compare::{self, Difference};
use super::loan::Names;
use super::{KEPT, Resources};
use crate::base::error::{Error, Kind, Result};
use crate::base::secret::Secret;
use crate::catalog::verdict::Drill;
use crate::model::manifest::Manifest;
use crate::ops::restore::{self, Filter, Oplog, Options, Origin, Outcome, Restore, Stored};
use crate::restore_target::{Target, Version};
use crate::store::dir;

/// How many segments are restored at once, as `restore` does.
const WORKERS: usize = 4;
/// Where the backup goes.
pub struct Scratch {
    /// The server.
    pub uri: Secret,
    /// The names of the databases there; `None`: their own.
    pub names: Option<Names>,
    /// Its connection, once there is one.
    pub target: OnceLock<Target>,
}

/// Refuses to fill a disk.
pub fn room(within: &Path, bytes: u64) -> Result<()> {
    let doing = || format!("there is no room in {} for a throw-away mongod", within.display());
    let checked = dir::check_room(within, bytes, 0.0, doing).map_err(Error::from);
    checked.map(|_| ()).map_err(|e| {
        e.hint("Set TMPDIR to a folder of a larger disk, or name a server to drill on (--to-uri, DRILL_URI)")
    })
}

impl Scratch {
    /// Restores, reads back and compares.
    pub async fn drill(&self, resources: &Resources<'_>, manifest: &Manifest) -> Result<Drill> {
        let began = Instant::now();
        let target = Target::connect(&self.uri, &resources.patience).await?;
        let target = self.target.get_or_init(|| target).clone();
        let (source, version) = (Version::parse(&manifest.source.version), target.version);
        let same = (source.0, source.1) == (version.0, version.1)
            && manifest.source.needs() == Some(target.accepts());
        let stored = Arc::new(Stored::open(Arc::clone(&resources.store), manifest.clone()).await?);
        let filter = Filter { rename: self.renames()?, ..Filter::default() };
        let token = resources.token.clone();
        let options = Options { filter, workers: WORKERS, token, ..Options::default() };
        let restore = Restore::plan(Origin::Stored(Arc::clone(&stored)), target, options).await?;
        // Indexes are compared like the rest.
        let unable = restore.plan.unable.iter().filter(|one| !one.is_index());
        let unable: Vec<String> = unable.map(|one| self.of_backup(&one.to_string())).collect();
        if !unable.is_empty() {
            let what = format!(
                "the drill's server cannot hold the backup (MongoDB {}, the backup is of {source}): {}",
                restore.plan.version,
                unable.join("; ")
            );
            return Err(Error::failed(what).hint(
                "This says nothing about the backup: drill on a server like the source (MONGOD_PATH, --to-uri, \
                 DRILL_URI)",
            ));
        }
        let planned = restore.plan.namespaces.clone();
        let survey = match &restore.plan.oplog {
            Oplog::Replayed(survey) => Some(survey.clone()),
            Oplog::Absent | Oplog::Left => None,
        };
        let check = Check {
            uri: &self.uri,
            resources,
            stored: &stored,
            planned: &planned,
            survey: survey.as_deref(),
            people: restore.plan.people().is_some(),
        };
        let mut before = Found::default();
        let before_replay = async |outcomes: &[Outcome]| {
            before = check.before_replay(outcomes).await?;
            Ok(())
        };
        let report = restore.apply_watched(resources.meter, before_replay).await.map_err(of_target)?;
        if let Some(error) = report.failure() {
            return Err(of_target(error));
        }
        let recovery = began.elapsed() - before.took;

        let Found { mut differences, took, .. } = check.end(&report.outcomes, before).await?;
        let replayed = report.replayed.unwrap_or_default();
        differences.extend(replayed.problems.into_iter().map(|mut problem| {
            problem.text = self.of_backup(&problem.text);
            ("the replay".into(), Difference::of(problem))
        }));
        // What the manifest warns of has nothing to do with the drill.
        let mut notes = report.warnings;
        notes.retain(|note| !manifest.warnings.contains(note));
        let (findings, looks) = compare::sorted(differences, same, &version);
        notes.extend(looks);
        let indexing: Duration = report.outcomes.iter().map(|outcome| outcome.indexing).sum();
        Ok(Drill {
            at: resources.clock.now(),
            target: if self.names.is_some() { "server" } else { "mongod" }.into(),
            version: version.to_string(),
            oplog_entries: replayed.read.entries,
            recovery_seconds: recovery.as_secs_f64(),
            index_seconds: (indexing + replayed.indexing).as_secs_f64(),
            compare_seconds: took.as_secs_f64(),
            namespaces: planned.len() as u64,
            documents: report.outcomes.iter().map(|outcome| outcome.documents).sum(),
            raw_bytes: report.outcomes.iter().map(|outcome| outcome.raw_bytes).sum(),
            findings: findings.into_iter().take(KEPT).collect(),
            notes,
        })
    }

    fn renames(&self) -> Result<Vec<restore::Rename>> {
        let Some(names) = &self.names else { return Ok(Vec::new()) };
        let rest = names.rest.iter().map(|rest| ("*".to_string(), format!("{rest}.*")));
        let each =
            names.databases.iter().map(|(from, to)| (format!("{}.*", escaped(from)), format!("{to}.*")));
        // The last that fits counts.
        let (from, to): (Vec<_>, Vec<_>) = rest.chain(each).unzip();
        restore::pairs(&from, &to).map_err(Error::usage)
    }

    /// What the restore says, with the names of the backup.
    fn of_backup(&self, text: &str) -> String {
        let Some(names) = &self.names else { return text.into() };
        let each = names.databases.iter().map(|(from, to)| (format!("{to}."), format!("{from}.")));
        let rest = names.rest.iter().map(|rest| (format!("{rest}."), String::new()));
        each.chain(rest).fold(text.into(), |text, (from, to)| text.replace(&from, &to))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_never_filled() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room(folder.path(), 1).is_ok());
        let error = room(folder.path(), u64::MAX / 2).unwrap_err();
        assert_eq!(error.exit(), crate::base::exit::Exit::Failed);
        assert!(error.chain().contains(folder.path().to_str().unwrap()), "{error}");
        assert!(error.next_step().unwrap().contains("TMPDIR"), "{error:?}");
    }

    #[test]
    fn a_database_goes_whole_under_its_other_name() {
        let databases = [("a", "d_1"), ("a*b\\c", "d_2"), ("ab", "d_3")].map(|(a, b)| (a.into(), b.into()));
        let names = Names { databases: databases.into(), rest: Some("d_4".into()) };
        let scratch =
            Scratch { uri: Secret::from(String::new()), names: Some(names), target: OnceLock::new() };
        let pairs = scratch.renames().unwrap();
        for (from, to) in
            [("a.b.c*d", "d_1.b.c*d"), ("a*b\\c.x", "d_2.x"), ("ab.a.b", "d_3.a.b"), ("b.a.x", "d_4.b.a.x")]
        {
            assert_eq!(restore::renamed(&pairs, from), to);
            assert_eq!(
                scratch.of_backup(&format!("{to}: it is not there")),
                format!("{from}: it is not there")
            );
        }
    }
}
