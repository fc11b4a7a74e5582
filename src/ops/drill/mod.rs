//! `verify --drill`: restores a backup, or a point in time, into a scratch server and compares the restored data with the
//! manifest of the backup.
//!
//! The scratch server is a throw-away mongod, or an existing server on which the drill uses databases with
//! random names ([`databases`]). The drill restores the whole backup with the code of `restore`, reads
//! everything back and compares it ([`compare`]). Afterwards it removes everything that it created, even if
//! it failed.

mod compare;
mod databases;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::artifact::read;
use crate::artifact::read::replicas::{Replica, Replicas};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::heap::on_heap;
use crate::base::keys::Identities;
use crate::base::progress::Meter;
use crate::base::retry::Patience;
use crate::base::secret::Secret;
use crate::catalog::point::{ChosenPoint, ChosenSlices};
use crate::catalog::verdict::{Drill, DrilledPoint};
use crate::model::manifest::Manifest;
use crate::ops::restore::{
    self, NamespaceOutcome, Planned, Restore, RestoreFilter, RestoreOptions, RestoreOrigin, StoredBackup,
};
use crate::restore_target::throwaway::{self, Throwaway};
use crate::restore_target::{RestoreTarget, ServerVersion};
use crate::store::dir;

use compare::{Compared, Difference, DrillCheck};
use databases::{DrillDatabases, DrillNames};

/// Where a drill restores to.
#[derive(Debug, Clone)]
pub enum DrillTarget {
    /// A mongod that the drill starts.
    Mongod {
        program: PathBuf,
        /// The folder for the data.
        within: PathBuf,
    },
    /// An existing server, on which the drill uses databases with random names.
    Server(Secret),
}

#[derive(Debug)]
pub struct DrillResources<'a> {
    /// The stores with the backup.
    pub places: Replicas,
    /// The identities for an encrypted backup.
    pub keys: Option<Arc<Identities>>,
    pub meter: &'a Meter,
    pub cancel: &'a Cancel,
    pub clock: Clock,
    /// Random letters and digits that make the names of the drill unique.
    pub token: String,
    pub host: String,
    /// How long the drill waits for a server that is down.
    pub patience: Patience,
}

/// The most findings that are kept. The first ones show what happened.
const KEPT: usize = 20;
/// Disk space that stays free, in bytes. A server builds no index with less than 500 MB.
const SPARE: u64 = 600 << 20;
/// The number of segments that are restored at once. `restore` has the same default.
const WORKERS: usize = 4;

/// What a drill restores.
#[derive(Debug, Clone, Copy)]
pub struct DrillSubject<'a> {
    /// The manifest of the backup, which should have been verified.
    pub manifest: &'a Manifest,
    /// The point in time that is restored, and the slices that lead to it. `None` for the backup alone.
    pub point: Option<&'a ChosenPoint>,
}

impl DrillSubject<'_> {
    /// The oplog slices after the backup.
    fn slices(&self) -> Option<&ChosenSlices> {
        self.point.and_then(|point| point.chain.as_ref())
    }

    /// Returns true if an oplog is replayed.
    fn replays(&self) -> bool {
        self.manifest.consistency.oplog.is_some() || self.slices().is_some()
    }

    /// The length of the documents and oplog entries in bytes.
    fn raw_bytes(&self) -> u64 {
        let own = self.manifest.consistency.oplog.as_ref().map_or(0, |slice| slice.raw_bytes);
        let later = self.slices().into_iter().flat_map(|chosen| &chosen.slices).map(|slice| slice.raw_bytes);
        later.chain([own]).fold(self.manifest.totals.raw_bytes, u64::saturating_add)
    }
}

/// Restores the backup, up to the point in time if there is one, and compares the restored data with the manifest.
/// Differences are findings in the result.
///
/// # Errors
/// Returns an error if the target fails, or no identity decrypts the backup. Such an error says nothing about the backup. Returns
/// an error of the kind `Mismatch` if an oplog slice is damaged.
pub async fn drill(
    resources: &DrillResources<'_>,
    subject: DrillSubject<'_>,
    target: &DrillTarget,
) -> Result<Drill> {
    let complete;
    let manifest = match subject.manifest.encryption.is_some() {
        false => subject.manifest,
        true => {
            let damaged = |what: String| Error::new(Kind::Mismatch, what);
            let (stored, keys) = (subject.manifest, resources.keys.as_deref());
            let load =
                async |one: &Replica| read::load_index(&*one.store, stored, keys).await?.map_err(damaged);
            let loading = resources.places.read(&stored.index.key, 0, load);
            complete = resources.cancel.or(loading).await?.1;
            &complete
        }
    };
    let subject = DrillSubject { manifest, ..subject };
    match target {
        DrillTarget::Mongod { program, within } => {
            on_heap(|| in_mongod(resources, subject, program, within)).await
        }
        DrillTarget::Server(uri) => on_heap(|| on_server(resources, subject, uri)).await,
    }
}

async fn in_mongod(
    resources: &DrillResources<'_>,
    subject: DrillSubject<'_>,
    program: &Path,
    within: &Path,
) -> Result<Drill> {
    throwaway::sweep(within).iter().for_each(|line| log::warn!("{line}"));
    check_space(within, subject.raw_bytes().saturating_add(SPARE))?;
    let starting = Throwaway::start(program, within, &resources.token);
    let mut mongod = resources.cancel.or(starting).await?;
    log::info!("drilling {} in a throw-away mongod ({})", subject.manifest.id, program.display());
    let scratch = Scratch { uri: mongod.uri(), names: None, target: OnceLock::new() };
    let outcome = resources.cancel.or(on_heap(|| scratch.drill(resources, subject))).await;
    outcome.map_err(|error| match mongod.ended() {
        None => error,
        Some(ended) => match ended.next_step() {
            Some(_) => ended,
            None => ended.hint(format!(
                "Check the free space on the disk of {} and the free memory",
                within.display()
            )),
        }
        .caused_by(error.chain()),
    })
}

async fn on_server(resources: &DrillResources<'_>, subject: DrillSubject<'_>, uri: &Secret) -> Result<Drill> {
    let (databases, warnings) = resources.cancel.or(DrillDatabases::prepare(resources, subject, uri)).await?;
    let address = &databases.target.address;
    log::info!("drilling {} on {address}, in databases {}…", subject.manifest.id, databases.prefix);
    let names = Some(databases.names.clone());
    let scratch = Scratch { uri: uri.clone(), names, target: OnceLock::new() };
    let outcome = match resources.cancel.or(databases.mark()).await {
        Ok(()) => resources.cancel.or(on_heap(|| scratch.drill(resources, subject))).await,
        Err(error) => Err(error),
    };
    if let Some(target) = scratch.target.get().filter(|_| outcome.is_err()) {
        target.end_trials().await;
    }
    let left = databases.end(resources.cancel).await;
    let mut drill = outcome.map_err(|error| match &left {
        Some(left) => {
            let step = error.next_step().map(|step| format!("{step}. ")).unwrap_or_default();
            error.hint(format!("{step}Also, {left}"))
        }
        None => error,
    })?;
    drill.notes.extend(warnings);
    drill.notes.extend(left);
    Ok(drill)
}

/// The server that the backup is restored into.
struct Scratch {
    uri: Secret,
    /// The names of the databases on the server. `None` if they keep their own names.
    names: Option<DrillNames>,
    /// The connection, once the drill has connected.
    target: OnceLock<RestoreTarget>,
}

/// Checks that the disk has room for the data of a mongod.
fn check_space(within: &Path, bytes: u64) -> Result<()> {
    let doing = || format!("there is not enough room in {} for a throw-away mongod", within.display());
    let hint = "Set TMPDIR to a folder on a larger disk, or name a server to drill on (--to-uri, DRILL_URI)";
    dir::check_room(within, bytes, 0.0, doing).map(drop).map_err(|e| Error::from(e).hint(hint))
}

impl Scratch {
    /// Restores, reads back and compares.
    async fn drill(&self, resources: &DrillResources<'_>, subject: DrillSubject<'_>) -> Result<Drill> {
        let manifest = subject.manifest;
        let began = Instant::now();
        let target = RestoreTarget::connect(&self.uri, &resources.patience).await?;
        let target = self.target.get_or_init(|| target).clone();
        let (source, version) = (ServerVersion::parse(&manifest.source.version), target.version);
        let same = (source.0, source.1) == (version.0, version.1)
            && manifest.source.needs() == Some(target.accepts());
        let (places, keys) = (resources.places.clone(), resources.keys.as_deref());
        let stored = StoredBackup::open(places, stored_manifest(manifest), keys).await?;
        let stored = Arc::new(match subject.slices() {
            Some(slices) => stored.continued(slices, keys).await?,
            None => stored,
        });
        let filter = RestoreFilter { rename: self.renames()?, ..RestoreFilter::default() };
        let token = resources.token.clone();
        let options = RestoreOptions { filter, workers: WORKERS, token, ..RestoreOptions::default() };
        // The caller cancels the drill as a whole.
        let restore =
            Restore::plan(RestoreOrigin::Stored(Arc::clone(&stored)), target, options, &Cancel::default())
                .await?;
        // Missing indexes are found by the comparison.
        let obstacles = restore.plan.obstacles.iter().filter(|one| !one.is_index());
        let obstacles: Vec<String> = obstacles.map(|one| self.of_backup(&one.to_string())).collect();
        if !obstacles.is_empty() {
            let what = format!(
                "the drill's server (MongoDB {}) cannot hold the backup of MongoDB {source}: {}",
                restore.plan.target_version,
                obstacles.join("; ")
            );
            return Err(Error::failed(what).hint(
                "This says nothing about the backup. Drill on a server with the version of the source (MONGOD_PATH, \
                 --to-uri, DRILL_URI)",
            ));
        }
        let (planned, instant) = (restore.plan.namespaces.clone(), restore.plan.facts.at);
        let created: Vec<Planned> = planned.iter().map(|planned| restore.created(planned)).collect();
        let survey = restore.plan.oplog.survey().cloned();
        let check = DrillCheck {
            uri: &self.uri,
            resources,
            stored: &stored,
            planned: &planned,
            created: &created,
            survey: survey.as_ref(),
            people: restore.plan.user_counts().is_some(),
        };
        let mut before = Compared::default();
        let before_replay = async |outcomes: &[NamespaceOutcome]| {
            before = check.before_replay(outcomes).await?;
            Ok(())
        };
        let report = restore.apply_watched(resources.meter, before_replay).await.map_err(of_target)?;
        if let Some(error) = report.failure_of_target() {
            return Err(of_target(error));
        }
        let recovery = began.elapsed() - before.took;

        let mut differences = std::mem::take(&mut before.differences);
        let Compared { differences: at_the_end, took, .. } = check.end(&report.outcomes, before).await?;
        let replayed = report.replayed.unwrap_or_default();
        let problems = replayed.problems.into_iter().map(|mut problem| {
            problem.text = self.of_backup(&problem.text);
            ("the replay".to_string(), Difference::reported(problem))
        });
        // With slices, a fault of a namespace that they change may be theirs.
        let (of_slices, of_backup): (Vec<_>, Vec<_>) = match subject.slices() {
            Some(_) => {
                at_the_end.into_iter().chain(problems).partition(|(name, _)| check.may_be_of_slices(name))
            }
            None => (Vec::new(), at_the_end.into_iter().chain(problems).collect()),
        };
        differences.extend(of_backup);
        // The restore repeats the warnings of the manifest.
        let mut notes = report.warnings;
        notes.retain(|note| !manifest.warnings.contains(note));
        let (findings, looks) = compare::split(differences, same, &version);
        notes.extend(looks);
        let (of_slices, looks) = compare::split(of_slices, same, &version);
        notes.extend(looks);
        let at = instant.or(subject.slices().map(|chosen| chosen.last)).or(manifest.consistency.at);
        let point = subject.point.and(at).map(|at| DrilledPoint {
            at,
            slices: subject.slices().map_or(0, |chosen| chosen.slices.len() as u64),
            findings: of_slices.into_iter().take(KEPT).collect(),
        });
        let indexing: Duration = report.outcomes.iter().map(|outcome| outcome.indexing).sum();
        Ok(Drill {
            at: resources.clock.now(),
            target: if self.names.is_some() { "server" } else { "mongod" }.into(),
            version: version.to_string(),
            oplog_entries: replayed.entries,
            recovery_seconds: recovery.as_secs_f64(),
            index_seconds: (indexing + replayed.indexing).as_secs_f64(),
            compare_seconds: took.as_secs_f64(),
            namespaces: planned.len() as u64,
            documents: report.outcomes.iter().map(|outcome| outcome.documents).sum(),
            raw_bytes: report.outcomes.iter().map(|outcome| outcome.raw_bytes).sum(),
            findings: findings.into_iter().take(KEPT).collect(),
            notes,
            point,
        })
    }

    fn renames(&self) -> Result<Vec<restore::Rename>> {
        let Some(names) = &self.names else { return Ok(Vec::new()) };
        let rest = names.rest.iter().map(|rest| ("*".to_string(), format!("{rest}.*")));
        let each =
            names.databases.iter().map(|(from, to)| (format!("{}.*", escaped(from)), format!("{to}.*")));
        // The last pattern that matches decides.
        let (from, to): (Vec<_>, Vec<_>) = rest.chain(each).unzip();
        restore::pairs(&from, &to).map_err(Error::usage)
    }

    /// Replaces the names of the drill in a message of the restore by the names in the backup.
    fn of_backup(&self, text: &str) -> String {
        let Some(names) = &self.names else { return text.into() };
        let each = names.databases.iter().map(|(from, to)| (format!("{to}."), format!("{from}.")));
        let rest = names.rest.iter().map(|rest| (format!("{rest}."), String::new()));
        each.chain(rest).fold(text.into(), |text, (from, to)| text.replace(&from, &to))
    }
}

/// The manifest in the store, from the complete one.
fn stored_manifest(complete: &Manifest) -> Manifest {
    if complete.encryption.is_some() { complete.readable() } else { complete.clone() }
}

/// Adds a next step to an error of the target. An error of the backup stays as it is.
fn of_target(error: Error) -> Error {
    match error.kind() {
        Kind::Mismatch => error,
        _ => error.hint("This says nothing about the backup. Check the server of the drill, and drill again"),
    }
}

/// Escapes the characters that have a meaning in patterns.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| [Some('\\').filter(|_| "\\*$".contains(c)), Some(c)]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_never_fills_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_space(folder.path(), 1).is_ok());
        let error = check_space(folder.path(), u64::MAX / 2).unwrap_err();
        assert_eq!(error.exit(), crate::base::exit::Exit::Failed);
        assert!(error.chain().contains(folder.path().to_str().unwrap()), "{error}");
        assert!(error.next_step().unwrap().contains("TMPDIR"), "{error:?}");
    }

    #[test]
    fn a_database_is_renamed_as_a_whole() {
        let databases = [("a", "d_1"), ("a*b\\c", "d_2"), ("ab", "d_3")].map(|(a, b)| (a.into(), b.into()));
        let names = DrillNames { databases: databases.into(), rest: Some("d_4".into()) };
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
