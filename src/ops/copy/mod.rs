//! `copy`: gives a place the backups and oplog slices that it lacks, from another place.
//!
//! Objects are copied one by one and compared at both ends, the manifest last ([`copying`](super::places::copying)), so a place never shows a backup that
//! it does not have whole, and a copy that was interrupted goes on where it stopped. A place gets what its own retention would
//! keep ([`crate::retention::copies`]). Pins and acceptances are copied, results of verifies are not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::places::copying::Copying;
use super::places::{OpenPlace, Places};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::lock::Operation;
use crate::base::units::several;
use crate::catalog::marks;
use crate::catalog::place_files::KnownBackups;
use crate::catalog::state::{RetainedBackup, StoreState};
use crate::catalog::{Catalog, CatalogOptions, layout};
use crate::config::Config;
use crate::config::place::FIRST;
use crate::model::id::BackupId;
use crate::notify::run::Run;
use crate::retention::PlanContext;
use crate::retention::copies::{Lacking, PlaceStock, add_oplog, lacking};
use crate::store::StoreErrorKind;

/// The backups to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copies {
    /// These backups.
    Backups(Vec<BackupId>),
    /// All backups and slices of the job that a place lacks.
    Missing,
}

/// The flags of `copy`.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    pub copies: Copies,
    /// The places that get copies; without names, all copies, but not the first place.
    pub to: Vec<String>,
    /// The place to copy from; without a name, the first one in the order of the settings that has the backup whole.
    pub from: Option<String>,
    /// The targets are new, or lost their backups: no known backups are expected there.
    pub new_place: bool,
    /// Only reports what would be copied.
    pub dry_run: bool,
    /// How long to wait for another run of the job; `None`: the copy fails at once if there is one.
    pub wait: Option<Duration>,
}

/// The result of `copy`. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct CopyReport {
    version: u32,
    pub job: String,
    pub dry_run: bool,
    /// The places that get copies.
    pub places: Vec<PlaceCopies>,
    /// Backups that were not copied, and places that cannot be used.
    pub problems: Vec<String>,
}

/// The copies that a place got.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct PlaceCopies {
    pub name: String,
    /// A path or an `s3://` address.
    pub place: String,
    /// The backups that were copied (with `dry_run`: would be), newest first.
    pub backups: Vec<CopiedBackup>,
    /// The number of oplog slices that were copied (with `dry_run`: would be).
    pub slices: u64,
    /// The sum of the sizes of the copied slices in bytes.
    pub slice_bytes: u64,
    /// The number of pins that were copied (with `dry_run`: would be), also to backups that the place had before.
    pub pins: u64,
    /// The number of acceptances, likewise.
    pub acceptances: u64,
}

/// A backup that was copied.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct CopiedBackup {
    pub id: BackupId,
    /// The name of the place that it was copied from.
    pub from: String,
    /// The sum of the sizes of the objects that were sent, in bytes.
    pub sent_bytes: u64,
    /// The place had all of it before.
    pub already: bool,
}

impl CopyReport {
    /// [`Exit::NeedsLook`] if there are problems, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Done } else { Exit::NeedsLook }
    }

    /// The end of the message about a run that a signal ended.
    fn stored(&self) -> String {
        let sum = |of: &dyn Fn(&PlaceCopies) -> u64| self.places.iter().map(of).sum();
        let backups = |place: &PlaceCopies| place.backups.iter().filter(|backup| !backup.already).count();
        let stored = [
            (sum(&|place| backups(place) as u64), "backup"),
            (sum(&|place| place.slices), "oplog slice"),
            (sum(&|place| place.pins), "pin"),
            (sum(&|place| place.acceptances), "acceptance"),
        ];
        let stored: Vec<String> =
            stored.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| several(n, what)).collect();
        match stored.is_empty() {
            true => "nothing new was stored".into(),
            false => format!("copied before that, and whole: {}", stored.join(", ")),
        }
    }
}

/// Copies as the settings say, under a lock of the job. A dry run only reads.
///
/// # Errors
/// Returns an error if no place could be read, or no target could be used. A backup that could not be copied is a problem of the
/// report.
pub async fn run_copy(run: &Run<'_>, request: &CopyRequest) -> Result<CopyReport> {
    let settings = run.config.job.as_ref()?;
    run.log.set_run(&format!("copy {}", settings.job));
    let names: Vec<String> = run.config.place_names().into_iter().map(str::to_string).collect();
    if names.len() < 2 {
        return Err(Error::usage("there is only one place, so nothing can be copied").hint(
            "Set COPY_DIR or COPY_S3_BUCKET, or write a table [[copies]] into the configuration file",
        ));
    }
    let is_known = |name: &String| run.config.at(name).map(drop);
    request.to.iter().chain(&request.from).try_for_each(is_known)?;
    let targets: Vec<String> = match request.to.is_empty() {
        true => names
            .iter()
            .filter(|name| *name != FIRST && Some(*name) != request.from.as_ref())
            .cloned()
            .collect(),
        false => request.to.clone(),
    };
    if request.to.iter().any(|name| Some(name) == request.from.as_ref()) {
        return Err(Error::usage("--from and --to name the same place").hint("Name two places"));
    }
    let taken = match request.dry_run {
        true => Default::default(),
        false => run.lock(settings, Operation::Copy, request.wait).await?,
    };
    let reading = run.reading()?;
    let expect = |name: &str| !(request.new_place && targets.iter().any(|target| target == name));
    let places = Places::open(run.config, &|name| expect(name).then_some(&reading), true).await?;
    let mut report = CopyReport {
        version: 1,
        job: settings.job.clone(),
        dry_run: request.dry_run,
        places: Vec::new(),
        problems: taken.problem.into_iter().collect(),
    };
    let needed =
        |name: &String| targets.contains(name) || request.from.as_ref().is_none_or(|from| from == name);
    report.problems.extend(places.away.iter().filter(|away| needed(&away.name)).map(|away| away.problem()));
    let sources: Vec<&OpenPlace> = places
        .open
        .iter()
        .filter(|place| request.from.as_ref().is_none_or(|from| *from == place.name))
        .collect();
    let targets: Vec<&OpenPlace> = places.open.iter().filter(|place| targets.contains(&place.name)).collect();
    if sources.is_empty() || targets.is_empty() {
        let first = places.away.iter().find(|away| needed(&away.name));
        return Err(first.map_or_else(
            || Error::failed("there is no place to copy from"),
            |away| Error::failed(format!("nothing can be copied: {}", away.problem())),
        ));
    }
    if request.new_place && !request.dry_run {
        for target in &targets {
            KnownBackups::update(run.config.state_dir.as_deref(), &target.store.place(), |known| {
                known.backups.clear()
            });
        }
    }
    let copier = Copier { config: run.config, reading: &reading, dry_run: request.dry_run };
    for target in targets {
        let sources: Vec<&OpenPlace> =
            sources.iter().filter(|place| place.name != target.name).copied().collect();
        let mut row = PlaceCopies::of(target);
        let copied = async {
            match &request.copies {
                Copies::Backups(ids) => copier.named(&sources, target, ids, &mut row).await,
                Copies::Missing => copier.missing(&sources, target, &mut row).await,
            }
        };
        // An interrupted copy shows nothing that is not whole, and the next one goes on.
        let copied = run.cancel.or(copied).await;
        report.places.push(row);
        match copied {
            Ok(problems) => report.problems.extend(problems),
            Err(_) if let Some(ended) = run.cancel.error_with(&report.stored()) => return Err(ended),
            Err(e) => report.problems.push(format!("the place {}: {}", target.name, e.chain_with_step())),
        }
    }
    Ok(report)
}

impl PlaceCopies {
    /// The row of a place that got nothing yet.
    pub fn of(place: &OpenPlace) -> PlaceCopies {
        PlaceCopies {
            name: place.name.clone(),
            place: place.store.place(),
            backups: Vec::new(),
            slices: 0,
            slice_bytes: 0,
            pins: 0,
            acceptances: 0,
        }
    }
}

/// Copies into one place after the other.
pub struct Copier<'a> {
    pub config: &'a Config,
    pub reading: &'a CatalogOptions,
    pub dry_run: bool,
}

/// The state of a place for a plan.
struct PlaceState<'a> {
    place: &'a OpenPlace,
    state: StoreState,
    stock: PlaceStock,
}

impl Copier<'_> {
    /// Copies these backups. Returns the problems.
    async fn named(
        &self,
        sources: &[&OpenPlace],
        target: &OpenPlace,
        ids: &[BackupId],
        row: &mut PlaceCopies,
    ) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for id in ids {
            let damaged = self.is_damaged(target, id).await?;
            if let Some(problem) = self.one(sources, target, id, damaged, row).await {
                problems.push(problem);
            }
        }
        Ok(problems)
    }

    /// Returns true if a verify found the backup in a place damaged, or if one of its objects is missing.
    async fn is_damaged(&self, place: &OpenPlace, id: &BackupId) -> Result<bool> {
        let settings = place.config.job.as_ref()?;
        let state = StoreState::read(&*place.store, &settings.job, self.reading).await?;
        Ok(state.faults().any(|(found, fault)| found == id && !fault.kind.is_distrust()))
    }

    /// Copies a backup with its pin and its acceptance from the first place that has it whole. Returns the problem if none could be
    /// used.
    async fn one(
        &self,
        sources: &[&OpenPlace],
        target: &OpenPlace,
        id: &BackupId,
        replace: bool,
        row: &mut PlaceCopies,
    ) -> Option<String> {
        let mut failed = Vec::new();
        for source in sources {
            let done = match self.dry_run {
                true => Ok(CopiedBackup {
                    id: id.clone(),
                    from: source.name.clone(),
                    sent_bytes: 0,
                    already: false,
                }),
                false => self.backup(source, target, id, replace).await,
            };
            match done {
                Ok(copied) => {
                    row.backups.push(copied);
                    return self.marks(source, target, id, row).await;
                }
                Err(e) => failed.push(format!("from {}: {}", source.name, e.chain_with_step())),
            }
        }
        Some(format!("the backup {id} could not be copied to {}: {}", target.name, failed.join("; ")))
    }

    /// Copies a backup.
    ///
    /// # Errors
    /// Returns an error if a store does not answer, or if the backup at the source is damaged or not trusted.
    async fn backup(
        &self,
        source: &OpenPlace,
        target: &OpenPlace,
        id: &BackupId,
        replace: bool,
    ) -> Result<CopiedBackup> {
        let copied = self.copying(source, target)?.backup(id, replace).await?;
        let state_dir = self.config.state_dir.as_deref();
        KnownBackups::update(state_dir, &target.store.place(), |known| {
            known.backups.insert(id.clone());
            known.deleted.remove(id);
        });
        if !copied.already {
            log::info!("copied the backup {id} from {} to {}", source.name, target.name);
        }
        Ok(CopiedBackup {
            id: id.clone(),
            from: source.name.clone(),
            sent_bytes: copied.bytes,
            already: copied.already,
        })
    }

    /// Copies the pin and the acceptance of a backup that the target has. A pin that was removed in the target is not copied back.
    /// Returns the problem if that failed.
    async fn marks(
        &self,
        source: &OpenPlace,
        target: &OpenPlace,
        id: &BackupId,
        row: &mut PlaceCopies,
    ) -> Option<String> {
        let unpinned = self.known(target).unpinned.contains(id);
        let pin = (!unpinned).then(|| (layout::pin(id), &mut row.pins));
        for (key, copied) in pin.into_iter().chain([(layout::accepted(id), &mut row.acceptances)]) {
            match copy_mark(source, target, &key, self.dry_run).await {
                Ok(false) => {}
                Ok(true) => *copied += 1,
                Err(e) => {
                    let (from, to, why) = (&source.name, &target.name, e.chain_with_step());
                    return Some(format!("{key} could not be copied from {from} to {to}: {why}"));
                }
            }
        }
        None
    }

    /// What the state directory knows about a place.
    fn known(&self, place: &OpenPlace) -> KnownBackups {
        let state_dir = self.config.state_dir.as_deref();
        KnownBackups::load(state_dir, &place.store.place()).unwrap_or_default()
    }

    fn copying<'c>(&'c self, source: &'c OpenPlace, target: &'c OpenPlace) -> Result<Copying<'c>> {
        Ok(Copying {
            from: &source.store,
            from_name: &source.name,
            to: &*target.store,
            trust: &self.reading.trust,
            state_dir: self.config.state_dir.as_deref(),
            uploads: target.config.job.as_ref()?.uploads,
            host: &self.config.machine.host,
        })
    }

    /// Copies what the retention of the target would keep, and enters it into the row of the target. Returns the problems.
    ///
    /// # Errors
    /// Returns an error if the target cannot be read.
    pub async fn missing(
        &self,
        sources: &[&OpenPlace],
        target: &OpenPlace,
        row: &mut PlaceCopies,
    ) -> Result<Vec<String>> {
        let own = PlaceState::read(target, self.reading).await?;
        let mut problems = Vec::new();
        let mut read = Vec::new();
        for source in sources {
            match PlaceState::read(source, self.reading).await {
                Ok(state) => read.push(state),
                Err(e) => problems.push(format!("the place {}: {}", source.name, e.chain_with_step())),
            }
        }
        let wanted = self.lacking(&own, &read)?;
        for backup in &wanted.backups {
            let has = |state: &&PlaceState<'_>| state.has_whole(&backup.id);
            let places: Vec<&OpenPlace> = read.iter().filter(has).map(|state| state.place).collect();
            problems.extend(self.one(&places, target, &backup.id, backup.damaged, row).await);
        }
        for source in &read {
            for backup in own.lacks_marks_of(source) {
                problems.extend(self.marks(source.place, target, backup, row).await);
            }
        }
        let job = &target.config.job.as_ref()?.job;
        for slice in &wanted.slices {
            let has =
                |state: &&PlaceState<'_>| state.state.slices.folder(&slice.chain, slice.start).is_some();
            let mut failed = Vec::new();
            for source in read.iter().filter(has).map(|state| state.place) {
                if self.dry_run {
                    row.slices += 1;
                    break;
                }
                match self.copying(source, target)?.slice(job, &slice.chain, slice.start).await {
                    Ok((_, copied)) => {
                        row.slices += 1;
                        row.slice_bytes += copied.bytes;
                        failed.clear();
                        break;
                    }
                    Err(e) => failed.push(format!("from {}: {}", source.name, e.chain_with_step())),
                }
            }
            if !failed.is_empty() {
                problems.push(format!(
                    "the oplog slice after {} could not be copied to {}: {}",
                    slice.start.second(),
                    target.name,
                    failed.join("; ")
                ));
                // Later slices of the chain do not continue what the place has.
                break;
            }
        }
        Ok(problems)
    }

    /// Finds the backups and slices that a place gets from the others.
    fn lacking(&self, own: &PlaceState<'_>, others: &[PlaceState<'_>]) -> Result<Lacking> {
        let settings = own.place.config.job.as_ref()?;
        let mut source = PlaceStock::default();
        for other in others {
            let known: BTreeSet<BackupId> = source.backups.iter().map(|backup| backup.id.clone()).collect();
            let new = other.stock.backups.iter().filter(|backup| !known.contains(&backup.id));
            source.backups.extend(new.filter(|backup| other.has_whole(&backup.id)).cloned());
            add_oplog(&mut source.oplog, &other.stock.oplog);
        }
        let context = PlanContext {
            job: settings.job.clone(),
            now: self.reading.now,
            store_clock: self.reading.now,
            force: true,
            unreadable: Vec::new(),
            oplog: Default::default(),
            oplog_days: settings.oplog_days,
        };
        let deleted = self.known(own.place).deleted;
        Ok(lacking(&own.stock, &source, &deleted, &settings.retention, &context))
    }
}

impl PlaceState<'_> {
    async fn read<'a>(place: &'a OpenPlace, reading: &CatalogOptions) -> Result<PlaceState<'a>> {
        let settings = place.config.job.as_ref()?;
        let catalog = Catalog::read(&*place.store, reading).await?;
        let state = StoreState::of(&catalog, &settings.job).await?;
        let stock = PlaceStock { backups: state.backups(), oplog: state.oplog(&*place.store).await? };
        Ok(PlaceState { place, state, stock })
    }

    /// The backups of this place that are pinned or accepted only in another place.
    fn lacks_marks_of<'b>(&'b self, other: &PlaceState<'_>) -> impl Iterator<Item = &'b BackupId> {
        let theirs: BTreeMap<&BackupId, &RetainedBackup> =
            other.stock.backups.iter().map(|backup| (&backup.id, backup)).collect();
        let lacks = |own: &&RetainedBackup| {
            theirs.get(&own.id).is_some_and(|theirs| {
                theirs.pinned.is_some() && own.pinned.is_none() || theirs.accepted && !own.accepted
            })
        };
        let lacking: Vec<_> = self.stock.backups.iter().filter(lacks).map(|backup| &backup.id).collect();
        lacking.into_iter()
    }

    /// Returns true if the place has a backup, and no fault of it is known.
    fn has_whole(&self, id: &BackupId) -> bool {
        let found = self.stock.backups.iter().find(|backup| backup.id == *id);
        found.is_some_and(|backup| backup.unsound.is_none() && backup.untrusted.is_none())
            && !self.state.found(id).doomed()
    }
}

/// Copies a pin or an acceptance, if the source has it and the target does not. Returns true if it was copied. A dry run only looks.
async fn copy_mark(source: &OpenPlace, target: &OpenPlace, key: &str, dry_run: bool) -> Result<bool> {
    if source.store.head(key).await?.is_none() || target.store.head(key).await?.is_some() {
        return Ok(false);
    }
    if dry_run {
        return Ok(true);
    }
    for key in [layout::signature(key), key.to_string()] {
        let bytes = match source.store.get(&key, marks::LARGEST).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind == StoreErrorKind::NotFound => continue,
            Err(e) => return Err(e.into()),
        };
        match target.store.create(&key, bytes).await {
            Ok(()) => {}
            // The place got a pin or an acceptance of its own a moment ago.
            Err(e) if e.kind == StoreErrorKind::Exists => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}
