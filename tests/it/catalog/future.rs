//! Dates in the future and beyond the calendar, in manifests, ids and results of `verify`.

use chrono::{DateTime, TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use super::support::{put_verdict, verdict};
use crate::cleanup::support::{JOB, Place, manifest, of_time, places};

/// The bytes of the manifest with another start time, which the type may not be able to hold.
fn started(manifest: &Manifest, at: &str) -> Vec<u8> {
    let mut json: serde_json::Value =
        serde_json::from_slice(&manifest.encode().expect("JSON")).expect("JSON");
    json["started_at"] = at.into();
    json["finished_at"] = at.into();
    serde_json::to_vec(&json).expect("JSON")
}

fn plant(place: &Place, manifest: &Manifest, bytes: &[u8]) {
    place.add(manifest);
    place.put(&layout::manifest(&manifest.id), bytes);
}

#[test]
fn a_manifest_of_the_future_never_counts() {
    let dates = ["+262142-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2099-01-01T00:00:00Z"];
    for date in dates {
        for place in places() {
            let real = place.nightly(1..4);
            let planted = manifest(JOB, 0);
            plant(&place, &planted, &started(&planted, date));
            for args in [
                &["stats"][..],
                &["stats", "--json"],
                &["list"],
                &["list", "--json"],
                &["pin", "latest"],
                &["health", "--only", "freshness,backups"],
            ] {
                let ran = place.run(args);
                assert!(ran.code == Some(0), "{date} {args:?}: {ran:?}");
            }
            // A person has to decide what to do about the newest backup's date.
            place.run(&["cleanup"]).ends(3);
            assert!(
                place.keys().contains(&layout::pin(&real[0].id)),
                "{date}: latest is the newest of the past"
            );
            let stats = place.run(&["stats", "--json"]).ends(0).json();
            assert_eq!(stats["newest"].as_str(), Some(real[0].id.as_str()), "{date}: {stats}");
        }
    }
}

#[test]
fn an_id_of_the_future_is_never_latest() {
    let place = Place::dir();
    let real = place.nightly(1..3);
    let far: DateTime<Utc> = "9999-12-31T23:59:59Z".parse().expect("a date");
    for at in [far, Utc::now() + TimeDelta::days(1)] {
        let planted = of_time(JOB, at);
        place.put(&layout::manifest(&planted.id), b"{");
        place.run(&["pin", "latest"]).ends(0);
        assert!(place.keys().contains(&layout::pin(&real[0].id)));
        place.run(&["unpin", real[0].id.as_str()]).ends(0);
    }
    for args in [&["stats"][..], &["health", "--only", "freshness"]] {
        place.run(args).ends(0);
    }
    // All backups are dated in the future, so there is no latest one.
    let place = Place::dir();
    place.add(&of_time(JOB, Utc::now() + TimeDelta::days(1)));
    place.run(&["pin", "latest"]).ends(1).says(&["there is no backup"]);
}

/// A backup whose date is ahead by less than the tolerated clock difference still counts.
#[test]
fn a_date_slightly_in_the_future_is_tolerated() {
    let place = Place::dir();
    place.nightly(1..3);
    let ahead = of_time(JOB, Utc::now() + TimeDelta::minutes(5));
    place.add(&ahead);
    place.run(&["pin", "latest"]).ends(0);
    assert!(place.keys().contains(&layout::pin(&ahead.id)));
}

#[test]
fn a_verdict_dated_in_the_future_is_reported_and_ignored() {
    for place in places() {
        let backups = place.nightly(0..4);
        let now = Utc::now();
        put_verdict(&place, &verdict(&backups[1], now - TimeDelta::minutes(5), false));
        let planted = verdict(&backups[1], "9999-12-31T00:00:00Z".parse().expect("a date"), true);
        put_verdict(&place, &planted);
        let key = layout::verified(&planted.id, planted.at);
        let listed = place.run(&["list", "--json"]).ends(4);
        assert!(
            listed.stderr.contains(&key) && listed.stderr.contains("dated in the future"),
            "{}",
            listed.stderr
        );
        assert_eq!(listed.json()["backups"][1]["status"], "damaged");
        let report = place.run(&["cleanup", "--json"]).ends(3).json();
        assert!(report["problems"].to_string().contains(&key), "{report}");
        let stats = place.run(&["stats", "--json"]).ends(0).json();
        assert_eq!(stats["backups_not_good"], 1, "{stats}");
        // It proves nothing either if it is the only result.
        let lone = verdict(&backups[2], "2999-01-01T00:00:00Z".parse().expect("a date"), false);
        put_verdict(&place, &lone);
        let listed = place.run(&["list", "--json"]).ends(4).json();
        assert_eq!(listed["backups"][2]["status"], "completed");
        assert_eq!(listed["backups"][2]["verified"], serde_json::Value::Null);
    }
}
