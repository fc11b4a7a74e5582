//! Pins and acceptances in several places.

use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use super::readers_support::{PLACES, TwoPlaces, lines};
use crate::cli::support::server_with_rows;

async fn two_places() -> (TwoPlaces, Manifest) {
    let server = server_with_rows(20, 100).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&server.uri(), &[]);
    (places, manifest)
}

/// An empty directory may be the mount point of a disk that is away.
#[tokio::test(flavor = "multi_thread")]
async fn pin_and_unpin_name_a_place_whose_directory_is_empty() {
    let (places, manifest) = two_places().await;
    let id = manifest.id.as_str();
    let pinned = || PLACES.map(|place| places.folder(place).join(layout::pin(&manifest.id)).exists());
    places.run(&["pin", id]).ends(0);
    let away = places.hide("copy");
    std::fs::create_dir(places.folder("copy")).expect("a mount point");
    for command in ["unpin", "pin"] {
        let ran = places.run(&[command, id, "--json"]).ends(3);
        let (json, problems) = (ran.json(), lines(&ran.json(), "problems"));
        assert_eq!(json["places"], serde_json::json!(["first"]), "{json}");
        assert!(
            problems[0].contains("the place copy cannot be used")
                && problems[0].contains("is the disk mounted?"),
            "{json}"
        );
    }
    assert_eq!(pinned(), [true, false]);
    assert_eq!(std::fs::read_dir(places.folder("copy")).expect("a folder").count(), 0);
    std::fs::remove_dir(places.folder("copy")).expect("it is empty");
    std::fs::rename(away, places.folder("copy")).expect("a folder");
    places.run(&["unpin", id]).ends(0);
    assert_eq!(pinned(), [false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_brings_pins_and_acceptances_to_backups_that_the_place_has() {
    let (places, manifest) = two_places().await;
    let id = manifest.id.as_str();
    let has = |key: &str| PLACES.map(|place| places.folder(place).join(key).exists());
    let (pin, accepted) = (layout::pin(&manifest.id), layout::accepted(&manifest.id));
    places.run(&["pin", id, "--place", "first", "--reason", "audit"]).ends(0);
    places.run(&["cleanup", "--accept", id, "--place", "first"]).ends(0);
    assert_eq!([has(&pin), has(&accepted)], [[true, false]; 2]);
    let copied = |args: &[&str]| {
        let json = places.run(&[&["copy", "--json"], args].concat()).ends(0).json();
        crate::docs::schema::check("copy", &json);
        let row = &json["places"][0];
        (row["pins"].as_u64().expect("a number"), row["acceptances"].as_u64().expect("a number"))
    };
    assert_eq!(copied(&["--missing", "--dry-run"]), (1, 1));
    assert_eq!([has(&pin), has(&accepted)], [[true, false]; 2]);
    assert_eq!(copied(&["--missing"]), (1, 1));
    assert_eq!([has(&pin), has(&accepted)], [[true, true]; 2]);
    let read = |place| std::fs::read(places.folder(place).join(&pin)).expect("a pin");
    assert_eq!(read("first"), read("copy"));
    assert_eq!(copied(&["--missing"]), (0, 0));

    // A pin that was removed in one place alone does not come back.
    places.run(&["unpin", id, "--place", "copy"]).ends(0);
    assert_eq!((copied(&["--missing"]), copied(&[id])), ((0, 0), (0, 0)));
    assert_eq!(has(&pin), [true, false]);
    places.run(&["pin", id, "--place", "copy"]).ends(0);
    places.run(&["unpin", id, "--place", "first"]).ends(0);
    assert_eq!(copied(&["--missing", "--to", "first"]), (0, 0));
    assert_eq!(has(&pin), [false, true]);
}
