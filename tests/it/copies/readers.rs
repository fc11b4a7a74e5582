//! `list`, `verify`, `pin` and `unpin` with a copy.

use super::readers_support::{TwoPlaces, flip, lines};
use crate::cli::support::{files, server_with_rows};

/// Two places with one backup.
async fn two_places() -> (TwoPlaces, uzima_backup::model::manifest::Manifest) {
    let server = server_with_rows(20, 100).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&server.uri(), &[]);
    (places, manifest)
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_the_places_of_each_backup() {
    let (places, manifest) = two_places().await;
    let id = manifest.id.as_str();
    let json = places.run(&["list", "--json"]).ends(0).json();
    assert_eq!(json["backups"][0]["places"], serde_json::json!(["first", "copy"]), "{json}");
    assert!(
        json["backups"].as_array().is_some_and(|rows| rows.len() == 1) && json["problems"].is_null(),
        "{json}"
    );
    let table = places.run(&["list"]).ends(0).stdout;
    assert!(table.contains("PLACES") && table.contains("first, copy"), "{table}");
    // Without a copy, nothing is different.
    let alone = places.run(&["list", "--place", "copy", "--json"]).ends(0).json();
    assert!(alone["backups"][0]["places"].is_null() && alone["problems"].is_null(), "{alone}");

    std::fs::remove_file(places.folder("first").join(&manifest.artifact.key)).expect("removed");
    let json = places.run(&["list", "--json"]).ends(4).json();
    let row = &json["backups"][0];
    assert_eq!(
        (&row["status"], &row["places"]),
        (&"completed".into(), &serde_json::json!(["copy"])),
        "{json}"
    );
    let fault = &row["place_faults"][0];
    assert_eq!((&fault["place"], &fault["status"]), (&"first".into(), &"artifact_missing".into()), "{json}");
    let table = places.run(&["list"]).ends(4).stdout;
    assert!(table.contains("copy, first (artifact missing)"), "{table}");
    let details = places.run(&["list", id, "--json"]).ends(4).json();
    assert_eq!(details["backup"]["places"], serde_json::json!(["copy"]), "{details}");
    assert!(places.run(&["list", id]).ends(4).stdout.contains("copy, first (artifact missing)"));

    let away = places.hide("first");
    let json = places.run(&["list", "--json"]).ends(3).json();
    assert_eq!(json["backups"][0]["places"], serde_json::json!(["copy"]), "{json}");
    assert!(lines(&json, "problems")[0].contains("the place first cannot be used"), "{json}");
    assert!(places.run(&["list"]).ends(3).stdout.contains("needs a look: the place first"));
    places.run(&["list", id, "--json"]).ends(3);
    places.hide("copy");
    places.run(&["list"]).ends(1).says(&["no place can be read", "first: ", "copy: "]);
    std::fs::rename(away, places.folder("first")).expect("a folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_filters_by_the_status_of_the_merged_row() {
    let (places, manifest) = two_places().await;
    std::fs::remove_file(places.folder("first").join(&manifest.artifact.key)).expect("removed");
    let rows = |status| {
        let ran = places.run(&["list", "--status", status, "--json"]);
        ran.json()["backups"].as_array().expect("rows").len()
    };
    assert_eq!((rows("completed"), rows("artifact_missing")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_all_checks_every_place_and_its_result_stays_in_the_place() {
    let (places, manifest) = two_places().await;
    flip(&places.folder("copy").join(&manifest.artifact.key), manifest.artifact.size / 2);
    let json = places.run(&["verify", "--all", "--json"]).ends(4).json();
    let sound: Vec<_> =
        json["backups"].as_array().expect("rows").iter().map(|row| (&row["place"], &row["sound"])).collect();
    assert_eq!(sound, [(&"first".into(), &true.into()), (&"copy".into(), &false.into())], "{json}");
    let verdicts =
        |place| files(&places.folder(place)).iter().filter(|file| file.contains("/verified-")).count();
    assert_eq!((verdicts("first"), verdicts("copy")), (1, 1));
    let row = &places.run(&["list", "--json"]).ends(4).json()["backups"][0];
    assert_eq!(
        (&row["places"], &row["verified"]["sound"]),
        (&serde_json::json!(["first"]), &true.into()),
        "{row}"
    );

    // The place with the sound backup is verified.
    places.run(&["verify"]).ends(0);
    places.run(&["verify", "--place", "copy"]).ends(4);
    places.hide("first");
    places.run(&["verify"]).ends(4);
    let json = places.run(&["verify", "--all", "--json"]).ends(4).json();
    assert!(lines(&json, "problems")[0].contains("the place first cannot be used"), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_and_unpin_act_on_every_place() {
    let (places, manifest) = two_places().await;
    let id = manifest.id.as_str();
    let pins = || {
        ["first", "copy"]
            .map(|place| files(&places.folder(place)).iter().any(|file| file.ends_with("/pin.json")))
    };
    let json = places.run(&["pin", "latest", "--json"]).ends(0).json();
    assert_eq!((&json["places"], pins()), (&serde_json::json!(["first", "copy"]), [true, true]), "{json}");
    assert!(places.run(&["pin", id]).ends(0).stdout.contains("is pinned in first, copy"));
    places.run(&["unpin", id, "--place", "copy"]).ends(0);
    assert_eq!(pins(), [true, false]);
    let away = places.hide("copy");
    let ran = places.run(&["unpin", &id[..13], "--json"]).ends(3).says(&["the place copy cannot be used"]);
    assert_eq!(ran.json()["places"], serde_json::json!(["first"]));
    std::fs::rename(away, places.folder("copy")).expect("a folder");
    assert_eq!(pins(), [false, false]);
    places.run(&["pin", "20200101T000000Z-aaaaaa"]).ends(1).says(&["there is no backup"]);
}
