//! A place fails at each of its requests in turn, and two places fail at pairs of requests: a place never shows a backup that it does
//! not have whole, a failure of one place never fails the backup, and the report says what each place has.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uzima_backup::base::exit::Exit;
use uzima_backup::catalog::place_files::KnownBackups;
use uzima_backup::ops::backup::{BackupReport, PlaceOutcome};
use uzima_backup::store::{Store, StoreResult};

use super::hooked::{Harm, Hook, Hooked, Plan};
use super::support::{NAMES, StoreKind, World, back_up, shown};

/// Two places and how they fail.
struct Trial {
    stores: [Arc<dyn Store>; 2],
    plans: [Arc<Plan>; 2],
    /// The stores and their harms, for messages.
    words: String,
}

impl Trial {
    async fn new(world: &World, at: usize, kinds: [StoreKind; 2], harms: [Harm; 2]) -> Trial {
        let [first, second] = kinds;
        let stores = [
            world.place(first, &format!("{at}-first")).await,
            world.place(second, &format!("{at}-second")).await,
        ];
        Trial { stores, plans: harms.map(Plan::new), words: format!("{kinds:?} {harms:?}") }
    }

    /// Makes a backup. Returns the report if it succeeded. Checks that no place shows more than it has, and that the report is
    /// right.
    async fn run(&self, world: &World, catch_up: Duration) -> Option<BackupReport> {
        let mut settings = world.settings();
        settings.catch_up = catch_up;
        let hooked = |n: usize| Hooked::store(self.stores[n].clone(), self.plans[n].clone() as Arc<dyn Hook>);
        let made = tokio::time::timeout(BOUND, back_up(&settings, &[hooked(0), hooked(1)])).await;
        let made = made.unwrap_or_else(|_| panic!("{}: the backup hangs", self.words));
        let (one, two) = (shown(&*self.stores[0]).await, shown(&*self.stores[1]).await);
        for (id, manifest) in &one {
            assert!(
                two.get(id).is_none_or(|other| other == manifest),
                "{}: two manifests of {id}",
                self.words
            );
        }
        let report = match made {
            Ok(report) => report,
            Err(error) => {
                assert_eq!((one.len(), two.len()), (0, 0), "{}: {}", self.words, error.chain());
                return None;
            }
        };
        let id = &report.manifest.id;
        assert_eq!(report.places.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), NAMES[..2]);
        for (row, place) in report.places.iter().zip([&one, &two]) {
            let has = row.outcome != PlaceOutcome::Missing;
            assert_eq!(place.contains_key(id), has, "{}: {:?}", self.words, report.places);
            assert_eq!(place.len(), usize::from(has), "{}: an earlier attempt is shown", self.words);
            // Otherwise the next run would write to the place even if its disk is not mounted.
            let name = row.place.as_deref().expect("a place");
            let known = KnownBackups::load(settings.state_dir.as_deref(), name).unwrap_or_default();
            assert_eq!(known.backups.contains(id), has, "{}: {known:?}", self.words);
        }
        let missing = report.places.iter().any(|row| row.outcome == PlaceOutcome::Missing);
        assert_eq!(report.exit(), if missing { Exit::NeedsLook } else { Exit::Done }, "{}", self.words);
        assert!(!(one.is_empty() && two.is_empty()), "{}", self.words);
        Some(report)
    }
}

/// No backup of these tests may take longer, so that a hang is a failed test.
const BOUND: Duration = Duration::from_secs(120);
const CATCH_UP: Duration = Duration::from_secs(60);

/// The number of requests to each place without a failure.
async fn requests(world: &World, kinds: [StoreKind; 2], at: usize) -> [u64; 2] {
    let trial = Trial::new(world, at, kinds, [Harm::Never; 2]).await;
    let report = trial.run(world, CATCH_UP).await.expect("a backup");
    assert!(report.places.iter().all(|row| row.outcome == PlaceOutcome::Stored), "{:?}", report.places);
    [trial.plans[0].requests(), trial.plans[1].requests()]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_fails_the_backup_whatever_request_fails() {
    let world = World::new(true).await;
    let mut at = 0;
    for kind in [StoreKind::Dir, StoreKind::S3, StoreKind::Moto] {
        for place in [0, 1] {
            let mut kinds = [StoreKind::Dir; 2];
            kinds[place] = kind;
            at += 1;
            let all = requests(&world, kinds, at).await[place];
            assert!(all > 5, "{kinds:?}: {all}");
            for request in 0..all {
                for harm in [Harm::Once(request), Harm::From(request)] {
                    let mut harms = [Harm::Never; 2];
                    harms[place] = harm;
                    at += 1;
                    let trial = Trial::new(&world, at, kinds, harms).await;
                    let report = trial.run(&world, CATCH_UP).await;
                    let report = report.unwrap_or_else(|| panic!("{}: the backup failed", trial.words));
                    // The place works again, so it is caught up in the same run.
                    if matches!(harm, Harm::Once(_)) {
                        let everywhere = report.places.iter().all(|row| row.outcome != PlaceOutcome::Missing);
                        assert!(everywhere, "{}: {:?}", trial.words, report.places);
                    }
                }
            }
        }
    }
    println!("{at} backups");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_places_that_fail_show_nothing_that_they_do_not_have() {
    let world = World::new(false).await;
    let kinds = [StoreKind::Dir, StoreKind::S3];
    let [first, second] = requests(&world, kinds, 0).await;
    let harms = |request: u64| [Harm::Once(request), Harm::From(request)];
    let all = |requests: u64| (0..requests).flat_map(harms).collect::<Vec<_>>();
    let mut pairs: Vec<[Harm; 2]> =
        all(first).into_iter().flat_map(|one| all(second).into_iter().map(move |two| [one, two])).collect();
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let number = pairs.len();
    if std::env::var_os("UZIMA_TEST_FULL").is_none() {
        pairs = (0..50).map(|_| pairs[random.random_range(0..number)]).collect();
    }
    println!("UZIMA_TEST_SEED={seed}: {} of {number} pairs", pairs.len());
    let mut failed = 0;
    for (at, harms) in pairs.into_iter().enumerate() {
        let trial = Trial::new(&world, at + 1, kinds, harms).await;
        failed += usize::from(trial.run(&world, CATCH_UP).await.is_none());
    }
    println!("{failed} backups failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_stalls_for_ever_does_not_stop_the_other() {
    let world = World::new(false).await;
    let kinds = [StoreKind::Dir; 2];
    let [_, second] = requests(&world, kinds, 0).await;
    let stalls = (0..second).map(async |request| {
        let harms = [Harm::Never, Harm::Hangs(request)];
        let trial = Trial::new(&world, request as usize + 1, kinds, harms).await;
        let report = trial.run(&world, Duration::from_secs(1)).await.expect("a backup");
        let outcomes: Vec<PlaceOutcome> = report.places.iter().map(|row| row.outcome).collect();
        assert_eq!(outcomes, [PlaceOutcome::Stored, PlaceOutcome::Missing], "{}", trial.words);
    });
    join_all(stalls).await;
}

/// The second place sends nothing before the first one shows the backup.
#[derive(Debug)]
struct WaitsForTheFirst {
    first: Arc<dyn Store>,
}

#[async_trait]
impl Hook for WaitsForTheFirst {
    async fn before(&self, operation: &'static str, _: &str) -> StoreResult<()> {
        while operation == "put_part" && shown(&*self.first).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_place_does_not_delay_the_first_one() {
    let world = World::new(false).await;
    // With less memory, the slow place is caught up; with more, it ends by itself.
    for (memory, outcome) in [(64 << 20, PlaceOutcome::Stored), (1, PlaceOutcome::CaughtUp)] {
        let [first, second] = [
            world.place(StoreKind::Dir, &format!("a{memory}")).await,
            world.place(StoreKind::Dir, &format!("b{memory}")).await,
        ];
        let waits = Arc::new(WaitsForTheFirst { first: first.clone() });
        let mut settings = world.settings();
        settings.copy_memory = memory;
        let stores = [first.clone(), Hooked::store(second.clone(), waits)];
        let report = tokio::time::timeout(BOUND, back_up(&settings, &stores))
            .await
            .expect("no hang")
            .expect("a backup");
        let outcomes: Vec<PlaceOutcome> = report.places.iter().map(|row| row.outcome).collect();
        assert_eq!(outcomes, [PlaceOutcome::Stored, outcome], "{:?}", report.places);
        assert_eq!(shown(&*first).await, shown(&*second).await);
    }
}
