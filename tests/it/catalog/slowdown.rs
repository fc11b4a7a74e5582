//! The comparison of a backup with the usual speed of its job.

use std::sync::Arc;

use chrono::Utc;
use uzima_backup::catalog::trust::Trust;
use uzima_backup::catalog::{CatalogOptions, slowdown};
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::{COLLAPSED, Manifest};
use uzima_backup::model::timing::DataTiming;
use uzima_backup::store::Store;
use uzima_backup::store::dir::DirStore;

use crate::cleanup::support::{JOB, Place, hold, manifest};

/// A backup of 6 GB, which waited this many seconds for the store.
fn backup(job: &str, days: i64, store_seconds: f64) -> Manifest {
    let mut backup = manifest(job, days);
    hold(&mut backup, 60_000_000);
    let seconds = 90.0 + store_seconds;
    backup.timing =
        Some(DataTiming { seconds, mongodb_seconds: 90.0, store_seconds, ..DataTiming::default() });
    backup
}

async fn note(place: &Place, now: &Manifest) -> Option<String> {
    let store: Arc<dyn Store> =
        Arc::new(DirStore::new(DirOptions::new(place.home.backups())).expect("a directory"));
    let reading = CatalogOptions::remembering(None, Utc::now(), Trust::default());
    slowdown::find(&*store, now, &reading).await.expect("the backups").map(|slow| slow.to_string())
}

#[tokio::test]
async fn a_slow_backup_is_compared_with_similar_whole_backups_of_its_job() {
    let place = Place::dir();
    // Backups that are as slow, and not comparable.
    let slow = |days| backup(JOB, days, 400.0);
    for days in 1..4 {
        place.add(&backup("other", days, 400.0));
        place.add(&Manifest { partial: true, ..slow(10 + days) });
        place.add(&Manifest { warnings: vec![format!("{COLLAPSED}x")], ..slow(20 + days) });
        let (mut engine, mut level) = (slow(30 + days), slow(40 + days));
        engine.engine.name = "mongodump".into();
        level.artifact.level = 1;
        place.add(&engine);
        place.add(&level);
        place.add(&Manifest { timing: None, ..slow(50 + days) });
    }
    let now = slow(0);
    let mut followed = slow(55);
    followed.artifact.mean_level = Some(f64::from(now.artifact.level));
    place.add(&followed);
    (61..65).for_each(|days| place.add(&backup(JOB, days, 10.0)));
    assert_eq!(note(&place, &now).await, None, "four backups are too few");
    place.add(&backup(JOB, 65, 10.0));
    let words = note(&place, &now).await.expect("a note");
    assert_eq!(
        words,
        "slower than usual: 11.7 MiB/s raw, where the median of the last 5 backups is 57.2 MiB/s; the data took 8 min \
         10 s instead of about 1 min 40 s, and the wait for the store grew most, by 6 min 30 s"
    );
    assert_eq!(note(&place, &backup(JOB, 0, 20.0)).await, None);
    assert_eq!(note(&place, &Manifest { partial: true, ..now.clone() }).await, None);

    // The note is shown, and the exit code is that of a good backup.
    let mut noted = now;
    noted.notes.push(words.clone());
    place.add(&noted);
    let shown = place.run(&["list", noted.id.as_str()]).ends(0).stdout;
    assert!(shown.contains(&format!("\n  note          {words}\n")), "{shown}");
    assert!(
        shown.contains("\n  data          5.6 GiB raw in 8 min 10 s, 11.7 MiB/s; waited 1 min 30 s for "),
        "{shown}"
    );
    let stats = place.run(&["stats", "--json"]).ends(0).json();
    assert_eq!(stats["last"][0]["slow"], words.as_str());
    assert_eq!(stats["last"][0]["timing"]["store_seconds"], 400.0);
    assert!(stats["last"][1]["slow"].is_null(), "{}", stats["last"][1]);
    let page = place.home.path().join("stats.html");
    let text = place.run(&["stats", "--html", page.to_str().expect("a path")]).ends(0).stdout;
    assert!(text.contains(&format!("\nnote         {words}\n")), "{text}");
    assert!(std::fs::read_to_string(page).expect("a page").contains(&words));
}
