//! A year of nights with two places in memory, which fail at random: each place has what its own retention keeps, nothing is shown that
//! is not whole, and what a cleanup deleted never comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::clock::{Clock, ClockAndRandom};
use uzima_backup::base::progress::Meter;
use uzima_backup::catalog::CatalogOptions;
use uzima_backup::catalog::trust::Trust;
use uzima_backup::config::Config;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::store::{DirOptions, Limits};
use uzima_backup::model::id::BackupId;
use uzima_backup::mongo::notes::Notes;
use uzima_backup::ops::backup::{self, BackupOptions, BackupPlace, Resources};
use uzima_backup::ops::cleanup::{self, CleanupRequest};
use uzima_backup::ops::copy::{Copier, PlaceCopies};
use uzima_backup::ops::places::OpenPlace;
use uzima_backup::store::{DirStore, Store};

use super::hooked::{Harm, Hook, Hooked, Plan};
use super::support::shown;
use crate::cli::support::server_with_rows;

/// The clock of the stores, in seconds.
static NOW: AtomicI64 = AtomicI64::new(0);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW.load(SeqCst), 0).expect("a time")
}

const NAMES: [&str; 2] = ["first", "copy"];

/// Two places and their settings.
struct Year {
    config: Config,
    machine: Machine,
    stores: [Arc<dyn Store>; 2],
    /// The backups that cleanups deleted in each place.
    deleted: [BTreeSet<BackupId>; 2],
}

impl Year {
    fn new(folder: &Path, uri: &str) -> Year {
        let roots = NAMES.map(|name| folder.join(name));
        let texts = [
            ("MONGO_URI", uri.to_string()),
            ("BACKUP_DIR", roots[0].display().to_string()),
            ("COPY_DIR", roots[1].display().to_string()),
            ("BACKUP_JOB", "nightly".into()),
            ("BACKUP_RETENTION_DAYS", "7".into()),
            ("BACKUP_KEEP_WEEKLY", "3".into()),
            ("COPY_RETENTION_DAYS", "20".into()),
            ("BACKUP_ENGINE", "native".into()),
            ("BACKUP_RECORDS", "off".into()),
            ("UZIMA_BACKUP_STATE_DIR", folder.join("state").display().to_string()),
        ];
        let env: BTreeMap<&str, OsString> =
            texts.into_iter().map(|(name, text)| (name, text.into())).collect();
        let machine = Machine { host: "db1".into(), search_path: None, state_dir: None, cores: 1 };
        let value = |name: &str| env.get(name).cloned();
        let file = Some(Path::new("/dev/null"));
        let config =
            Config::load(BTreeMap::new(), &value, std::iter::empty(), file, &machine).expect("settings");
        let stores = roots.map(|root| -> Arc<dyn Store> {
            let machine = ClockAndRandom { now, random: rand::random };
            let limits = Limits { min_part: 64 << 10, ..Limits::default() };
            let options = DirOptions { min_free: 0.0, limits, machine, ..DirOptions::new(&root) };
            Arc::new(DirStore::new(options).expect("a directory"))
        });
        Year { config, machine, stores, deleted: Default::default() }
    }

    fn reading(&self) -> CatalogOptions {
        CatalogOptions::remembering(self.config.state_dir.clone(), now(), Trust::default())
    }

    /// The places with the harms of a run.
    fn places(&self, harms: [Harm; 2]) -> Vec<OpenPlace> {
        let place = |(at, harm): (usize, Harm)| OpenPlace {
            name: NAMES[at].into(),
            config: self.config.at(NAMES[at]).expect("a place"),
            store: Hooked::store(self.stores[at].clone(), Plan::new(harm) as Arc<dyn Hook>),
        };
        harms.into_iter().enumerate().map(place).collect()
    }

    /// Makes the backup of a night. Returns true if there is one.
    async fn backup(&self, harms: [Harm; 2]) -> bool {
        let place = |place: OpenPlace| BackupPlace::of(place).expect("settings of the job");
        let resources = Resources {
            places: self.places(harms).into_iter().map(place).collect(),
            away: Vec::new(),
            order: NAMES.map(str::to_string).to_vec(),
            clock: Clock::at(now()),
            new_id: Arc::new(|at| BackupId::new(at, &mut rand::rng())),
            meter: Arc::new(Meter::default()),
            cancel: Cancel::default(),
            notes: Notes::default(),
        };
        let settings = self.config.job.clone().expect("a job");
        backup::backup(&resources, &BackupOptions::new(settings)).await.is_ok()
    }

    /// Copies to both places what they lack.
    async fn copy(&self, harms: [Harm; 2]) {
        let (places, reading) = (self.places(harms), self.reading());
        let copier = Copier { config: &self.config, reading: &reading, dry_run: false };
        for (from, to) in [(0, 1), (1, 0)] {
            // A place that fails is a problem of the run.
            let _ = copier.missing(&[&places[from]], &places[to], &mut PlaceCopies::of(&places[to])).await;
        }
    }

    /// Cleans both places.
    async fn clean(&mut self, harms: [Harm; 2]) {
        for (at, place) in self.places(harms).iter().enumerate() {
            let before = self.listed(at).await;
            let settings = place.config.job.as_ref().expect("a job");
            // After some nights without a cleanup, too much would go at once, and a person has to look.
            let request = CleanupRequest { force: true, ..CleanupRequest::default() };
            let _ = cleanup::cleanup(&*place.store, settings, &request, now()).await;
            let after = self.listed(at).await;
            self.deleted[at].extend(before.keys().filter(|id| !after.contains_key(*id)).cloned());
        }
    }

    async fn listed(&self, at: usize) -> BTreeMap<BackupId, Bytes> {
        shown(&*self.stores[at]).await
    }
}

/// A place works, fails once, or fails from some request on.
fn harm(random: &mut StdRng) -> Harm {
    match random.random_range(0..10) {
        0 => Harm::Once(random.random_range(0..20)),
        1 => Harm::From(random.random_range(0..20)),
        2 => Harm::From(0),
        _ => Harm::Never,
    }
}

/// With `UZIMA_TEST_FULL=1`: ten years.
#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_nights_in_two_places() {
    let server = server_with_rows(20, 50).await;
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    let mut year = Year::new(folder.path(), &server.uri());
    let nights = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 3_650 } else { 365 };
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    println!("UZIMA_TEST_SEED={seed}: {nights} nights on {}", year.machine.host);
    let (start, mut made, mut calm) = (Utc::now(), 0, 0);
    for night in 0..nights {
        NOW.store((start + TimeDelta::days(night)).timestamp(), SeqCst);
        let mut harms = || [harm(&mut random), harm(&mut random)];
        let (of_backup, of_copy, of_cleanup) = (harms(), harms(), harms());
        let worked = year.backup(of_backup).await;
        let alone = of_backup.contains(&Harm::Never);
        assert!(worked || !alone, "night {night}: {of_backup:?}");
        made += usize::from(worked);
        year.copy(of_copy).await;
        year.clean(of_cleanup).await;
        let (one, two) = (year.listed(0).await, year.listed(1).await);
        for (id, manifest) in &one {
            assert!(two.get(id).is_none_or(|other| other == manifest), "night {night}: {id}");
        }
        for (at, listed) in [&one, &two].into_iter().enumerate() {
            let back: Vec<&BackupId> = listed.keys().filter(|id| year.deleted[at].contains(id)).collect();
            assert_eq!(back, Vec::<&BackupId>::new(), "night {night}: deleted in {} and back", NAMES[at]);
        }
        // After a copy and a cleanup without failures, each place has what its own days keep, unless a cleanup deleted it there.
        if worked && of_copy == [Harm::Never; 2] && of_cleanup == [Harm::Never; 2] {
            assert_eq!(one.keys().next_back(), two.keys().next_back(), "night {night}");
            for (has, other, at, days) in [(&one, &two, 1, 20), (&two, &one, 0, 7)] {
                let young = |id: &&BackupId| id.started() > now() - TimeDelta::days(days);
                let lacks = |id: &&BackupId| !other.contains_key(*id) && !year.deleted[at].contains(*id);
                let lacking: Vec<&BackupId> = has.keys().filter(young).filter(lacks).collect();
                assert_eq!(lacking, Vec::<&BackupId>::new(), "night {night}: {} lacks them", NAMES[at]);
            }
            calm += 1;
        }
    }
    println!("{made} backups, {calm} calm nights, {:?} deleted", year.deleted.each_ref().map(BTreeSet::len));
    assert!(made > 250 && calm > 20 && year.deleted.iter().all(|deleted| deleted.len() > 150));
}
