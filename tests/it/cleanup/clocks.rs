//! A cleanup deletes nothing while the clock is wrong.

use chrono::{TimeDelta, Utc};
use uzima_backup::base::exit::Exit;
use uzima_backup::config::choices::Policy;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::{JobSettings, RecordsAt};
use uzima_backup::ops::cleanup::{CleanupOutcome, CleanupRequest, cleanup};

use super::support::{JOB, Place};
use crate::cli::support::NOWHERE;
use crate::store::support;

/// The default settings, without records.
pub fn settings() -> JobSettings {
    let machine = Machine { host: "test".into(), search_path: None, state_dir: None, cores: 1 };
    let mut settings = JobSettings::with_defaults(NOWHERE, JOB, &machine).expect("valid settings");
    settings.retention = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    settings.records = RecordsAt::Off;
    settings
}

#[tokio::test]
async fn a_clock_that_disagrees_with_the_stores_deletes_nothing() {
    for days in [3650, -3650] {
        let place = Place::s3();
        let backups = place.nightly(0..33);
        let store = support::store(place.bucket()).await;
        let forced = CleanupRequest { force: true, orphans: true, ..CleanupRequest::default() };
        let now = Utc::now() + TimeDelta::days(days);
        let report = cleanup(&store, &settings(), &forced, now).await.expect("a report");
        assert_eq!(report.exit(), Exit::NeedsLook);
        assert!(report.frozen[0].starts_with("the clocks disagree by 525"), "{:?}", report.frozen);
        assert!(report.backups.iter().all(|row| row.outcome != CleanupOutcome::Deleted));
        place.holds(&backups);
    }
}

#[tokio::test]
async fn a_clock_difference_of_minutes_is_tolerated() {
    for (minutes, frozen) in [(9, false), (-9, false), (11, true), (-11, true)] {
        let place = Place::s3();
        let backups = place.nightly(0..33);
        let store = support::store(place.bucket()).await;
        let now = Utc::now() + TimeDelta::minutes(minutes);
        let report = cleanup(&store, &settings(), &CleanupRequest::default(), now).await.expect("a report");
        assert_eq!(!report.frozen.is_empty(), frozen, "{minutes}: {:?}", report.frozen);
        place.holds(&backups[..if frozen { 33 } else { 30 }]);
    }
}

/// A directory has no clock of its own to compare with. If the machine's clock is years ahead, every backup
/// looks old, and only the limit for deletions at once and the minimum number of backups protect them.
#[tokio::test]
async fn in_a_directory_a_wrong_clock_deletes_at_most_the_allowed_share() {
    let place = Place::dir();
    let backups = place.nightly((0..33).map(|days| days + 3650));
    let ran = place.run(&["cleanup"]).ends(3);
    assert!(ran.stdout.contains("30 of 33 good backups would go at once"), "{}", ran.stdout);
    place.holds(&backups);
}
