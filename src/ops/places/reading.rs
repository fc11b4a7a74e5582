//! Chooses the place that a command reads: the first one, in the order of the settings, that has what was asked for and is sound.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{OpenPlace, Places};
use crate::artifact::read::replicas::{Replica, Replicas};
use crate::base::error::{Error, Kind, Result};
use crate::catalog::choose::{self, SkippedBackup, WhichBackup};
use crate::catalog::point::{ChosenPoint, WantedPoint, choose_point};
use crate::catalog::{Catalog, CatalogOptions, layout};
use crate::config::Config;
use crate::model::id::BackupId;
use crate::model::manifest::{self, Manifest};
use crate::model::optime::OpTime;
use crate::store;

/// A backup, and the place that it is read from.
pub struct FoundBackup<'a> {
    pub place: &'a OpenPlace,
    pub manifest: Manifest,
    /// Newer backups that are not used, newest first.
    pub skipped: Vec<SkippedBackup>,
    /// Why the places before this one are not used.
    pub passed_over: Vec<String>,
}

/// A point in time, and the place that its backup and slices are read from.
pub struct FoundPoint<'a> {
    pub place: &'a OpenPlace,
    pub job: String,
    pub chosen: ChosenPoint,
    /// Why the places before this one are not used.
    pub passed_over: Vec<String>,
}

/// How a backup is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The newest backup is the newest one without a known fault.
    Restore,
    /// The newest backup is the newest stored one.
    Verify,
}

impl Places {
    /// Opens the places for a command that only reads them.
    ///
    /// # Errors
    /// Returns an error if no place can be read.
    pub async fn open_existing(config: &Config) -> Result<Places> {
        Places::open_to_use(config, None).await
    }

    /// Opens the places for a command that changes backups in them. A copy whose known backups are missing is away, because its
    /// disk may not be mounted.
    ///
    /// # Errors
    /// Returns an error if no place can be used.
    pub async fn open_known(config: &Config, reading: &CatalogOptions) -> Result<Places> {
        Places::open_to_use(config, Some(reading)).await
    }

    async fn open_to_use(config: &Config, expected: Option<&CatalogOptions>) -> Result<Places> {
        let names = config.place_names();
        if let [only] = names.as_slice() {
            let store = store::open_existing(config.place.as_ref()?).await?;
            store.check().await?;
            let (name, config) = (config.place_name().to_string(), config.at(only)?);
            let place = OpenPlace { name, config, store };
            return Ok(Places { order: vec![place.name.clone()], open: vec![place], away: Vec::new() });
        }
        let places = Places::open(config, &|_| expected, false).await?;
        match (places.open.is_empty(), places.away.first()) {
            (true, Some(first)) => {
                let whys: Vec<String> =
                    places.away.iter().map(|away| format!("{}: {}", away.name, away.why.chain())).collect();
                let error =
                    Error::new(first.why.kind(), format!("no place can be read: {}", whys.join("; ")));
                Err(first.why.next_step().map(str::to_string).into_iter().fold(error, Error::hint))
            }
            _ => Ok(places),
        }
    }

    /// Returns true if there are copies.
    pub fn are_several(&self) -> bool {
        self.order.len() > 1
    }

    /// The place that is read if none has what was asked for, to explain why.
    ///
    /// # Errors
    /// Returns an error if no place can be read.
    pub fn first_open(&self) -> Result<&OpenPlace> {
        self.open.first().ok_or_else(|| Error::failed("no place can be read"))
    }

    /// Chooses a backup: with an id, from the first place in which it has no known fault; otherwise the newest one of all places.
    ///
    /// # Errors
    /// Returns the error of the first place that can be read if no place has such a backup.
    pub async fn choose_backup(
        &self,
        which: &WhichBackup,
        job: Option<&str>,
        reading: &CatalogOptions,
        purpose: Purpose,
    ) -> Result<FoundBackup<'_>> {
        let by_id = matches!(which, WhichBackup::Id(_) | WhichBackup::Prefix(_));
        let (mut found, mut passed, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for place in &self.open {
            let store = &*place.store;
            let chosen = match purpose {
                Purpose::Restore => choose::choose_for_restore(store, which, job, reading).await,
                Purpose::Verify => {
                    let chosen = choose::choose_readable(store, which, job, reading).await;
                    chosen.map(|manifest| (manifest, Vec::new()))
                }
            };
            match chosen {
                Ok((manifest, skipped)) => {
                    // The search for the newest backup to restore has looked for faults.
                    let looks = self.are_several() && (by_id || purpose == Purpose::Verify);
                    let fault = match looks {
                        true => known_fault(place, &manifest, reading).await,
                        false => None,
                    };
                    found.push((place, manifest, skipped, fault));
                }
                // Another place does not correct what a person wrote.
                Err(error) if error.kind() == Kind::Usage && !error.is_of_store() => return Err(error),
                Err(error) => {
                    passed.push((&place.name, error.chain()));
                    errors.push(error);
                }
            }
        }
        let best = match by_id {
            true => found.iter().position(|(.., fault)| fault.is_none()).or(Some(0)),
            false => {
                let newest = found.iter().enumerate();
                let newest = newest.max_by_key(|(at, (_, manifest, _, fault))| {
                    (manifest.started_at, &manifest.id, fault.is_none(), Reverse(*at))
                });
                newest.map(|(at, _)| at)
            }
        };
        let Some(at) = best.filter(|at| *at < found.len()) else {
            return Err(errors.into_iter().next().unwrap_or_else(|| Error::failed("no place can be read")));
        };
        for (place, manifest, _, fault) in &found[..at] {
            let older = || format!("its newest backup is {}", manifest.id);
            passed.push((&place.name, fault.clone().unwrap_or_else(older)));
        }
        let (place, manifest, skipped, _) = found.swap_remove(at);
        let passed_over = self.passed_over(place, &passed);
        Ok(FoundBackup { place, manifest, skipped, passed_over })
    }

    /// Finds the only backup in all places whose id begins with this text.
    ///
    /// # Errors
    /// Returns the error of the first place that can be read if there is none, and a usage error if there are several.
    pub async fn by_prefix(&self, prefix: &str, job: Option<&str>) -> Result<BackupId> {
        let (mut ids, mut first) = (BTreeSet::new(), None);
        for place in &self.open {
            match choose::by_prefix(&*place.store, prefix, job).await {
                Ok(id) => drop(ids.insert(id)),
                Err(error) if error.kind() == Kind::Usage && !error.is_of_store() => return Err(error),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let several: Vec<String> = ids.iter().map(ToString::to_string).collect();
        match (ids.pop_first(), ids.is_empty()) {
            (Some(id), true) => Ok(id),
            (Some(_), false) => {
                let what = format!("{} ids begin with {prefix}: {}", several.len(), several.join(", "));
                Err(Error::usage(what).hint("Write more of the id"))
            }
            (None, _) => Err(first.unwrap_or_else(|| Error::failed("no place can be read"))),
        }
    }

    /// Chooses the backup and the slices that lead to a point in time, all from one place. For the newest point, it is the place that
    /// leads furthest.
    ///
    /// # Errors
    /// Returns the error of the first place that can be read if the point cannot be restored from any place.
    pub async fn choose_point(
        &self,
        which: &WhichBackup,
        job: Option<&str>,
        point: WantedPoint,
        reading: &CatalogOptions,
    ) -> Result<FoundPoint<'_>> {
        let (mut found, mut passed, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for place in &self.open {
            let store = &*place.store;
            let choosing = async {
                let job = match job {
                    Some(job) => job.to_string(),
                    None => choose::choose_readable(store, which, None, reading).await?.job,
                };
                let chosen = choose_point(store, &job, which, point, reading).await?;
                Ok::<_, Error>((job, chosen))
            };
            match choosing.await {
                Ok((job, chosen)) => {
                    found.push((place, job, chosen));
                    if point != WantedPoint::Newest {
                        break;
                    }
                }
                Err(error) => {
                    passed.push((&place.name, error.chain()));
                    errors.push(error);
                }
            }
        }
        let reached =
            found.iter().enumerate().max_by_key(|(at, (_, _, chosen))| (last(chosen), Reverse(*at)));
        let Some((at, _)) = reached else {
            return Err(errors.into_iter().next().unwrap_or_else(|| Error::failed("no place can be read")));
        };
        for (place, _, chosen) in &found[..at] {
            passed.push((&place.name, format!("it leads only to {}", last(chosen).second())));
        }
        let (place, job, chosen) = found.swap_remove(at);
        let passed_over = self.passed_over(place, &passed);
        Ok(FoundPoint { place, job, chosen, passed_over })
    }

    /// The first place that has oplog slices of a job, or else backups. Also returns why the places before it are not used.
    ///
    /// # Errors
    /// Returns an error if no place can be read.
    pub async fn with_job(&self, job: &str, reading: &CatalogOptions) -> Result<(&OpenPlace, Vec<String>)> {
        let first = self.first_open()?;
        if !self.are_several() {
            return Ok((first, Vec::new()));
        }
        let mut passed = Vec::new();
        for place in &self.open {
            match Catalog::read(&*place.store, reading).await {
                Ok(catalog) if catalog.slices(job).chains().next().is_some() => {
                    return Ok((place, self.passed_over(place, &passed)));
                }
                Ok(_) => passed.push((&place.name, format!("it has no oplog slices of the job {job}"))),
                Err(error) => passed.push((&place.name, error.chain())),
            }
        }
        Ok((first, self.passed_over(first, &passed)))
    }

    /// The stores that have this backup with the same manifest, the chosen one first.
    pub async fn replicas(&self, chosen: &OpenPlace, id: &BackupId, passed_over: Vec<String>) -> Replicas {
        let replica =
            |place: &OpenPlace| Replica { name: place.name.clone(), store: Arc::clone(&place.store) };
        let key = layout::manifest(id);
        let mut replicas = vec![replica(chosen)];
        let others: Vec<&OpenPlace> = self.open.iter().filter(|place| place.name != chosen.name).collect();
        if others.is_empty() {
            return Replicas::new(replicas, passed_over);
        }
        let wanted = chosen.store.get(&key, manifest::LARGEST).await;
        for place in others {
            match (&wanted, place.store.get(&key, manifest::LARGEST).await) {
                (Ok(wanted), Ok(found)) if *wanted == found => replicas.push(replica(place)),
                (_, Err(e)) => {
                    log::info!("the place {} does not stand in for {}: {e}", place.name, chosen.name)
                }
                _ => log::info!("the place {} has another manifest of {id}", place.name),
            }
        }
        Replicas::new(replicas, passed_over)
    }

    /// The problems with the places before the chosen one, which are also logged.
    fn passed_over(&self, chosen: &OpenPlace, passed: &[(&String, String)]) -> Vec<String> {
        let before = self.order.iter().take_while(|name| **name != chosen.name);
        let why = |name: &String| {
            let away = self.away.iter().find(|away| away.name == *name).map(|away| away.problem());
            let passed = passed.iter().find(|(passed, _)| *passed == name);
            away.or_else(|| passed.map(|(_, why)| format!("the place {name} is not used: {why}")))
        };
        let problems: Vec<String> = before.filter_map(why).collect();
        problems.iter().for_each(|problem| log::warn!("{problem}"));
        problems
    }

    /// The problems with the places that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        self.away.iter().map(|away| away.problem()).collect()
    }
}

/// The optime that a point leads to. A point without slices is the instant of its backup, which began a moment before.
fn last(chosen: &ChosenPoint) -> OpTime {
    let began = chosen.base.started().timestamp();
    let began = OpTime { t: u32::try_from(began).unwrap_or_default(), i: 0 };
    chosen.chain.as_ref().map_or(began, |chain| chain.last.min(chain.end))
}

/// The known fault of a backup in a place, or why it cannot be known.
async fn known_fault(place: &OpenPlace, manifest: &Manifest, reading: &CatalogOptions) -> Option<String> {
    match choose::known_fault(&*place.store, manifest, reading).await {
        Ok(fault) => fault.map(|fault| fault.why),
        Err(error) => Some(error.chain()),
    }
}
