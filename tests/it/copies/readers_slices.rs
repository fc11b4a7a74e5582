//! Restores to a point in time whose oplog slices are damaged in one place.

use super::readers_support::{TwoPlaces, flip, lines};
use crate::cli::support::{NOWHERE, Ran, run};
use crate::drill::support::{mongod, scratch};
use crate::encryption::support::{self as encryption, Encrypted};
use crate::pit::stored::{Stored, slices};
use crate::pit::support::{differences_from, read_as_of, restore, set, tool};

/// A job with slices in two places.
struct StoredTwice {
    stored: Stored,
    places: TwoPlaces,
}

impl StoredTwice {
    async fn new() -> StoredTwice {
        let mut stored = Stored::new(3).await;
        let mut places = TwoPlaces::new();
        std::mem::swap(&mut stored.home, &mut places.home);
        let both = StoredTwice { stored, places };
        let mut copy = tool(&both.places.home, NOWHERE, &["copy", "--missing"]);
        run(copy.env("COPY_DIR", both.places.folder("copy"))).ends(0);
        both
    }

    /// Restores to the last point of the slices, into an empty server.
    async fn restored(&self, code: i32) -> Ran {
        let (target, client) = set(None).await;
        let last = self.stored.last();
        let mut command = restore(&self.places.home, &target, &["--at", &last, "--json"]);
        let ran = run(command.env("COPY_DIR", self.places.folder("copy"))).ends(code);
        if code != 4 {
            let wanted = read_as_of(&self.stored.client, None).await.expect("a snapshot");
            assert_eq!(differences_from(&client, &wanted).await, Vec::<String>::new());
        }
        ran
    }

    /// The keys of the bodies.
    fn bodies(&self) -> Vec<String> {
        let bodies = slices(&self.places.home).into_iter();
        bodies.filter_map(|(_, slice)| Some(slice.body?.key)).collect()
    }

    fn damage(&self, place: &str) {
        for key in self.bodies() {
            let file = self.places.folder(place).join(&key);
            let middle = std::fs::metadata(&file).expect("a body").len() / 2;
            flip(&file, middle);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_that_are_damaged_in_one_place_are_read_from_the_other() {
    let both = StoredTwice::new().await;
    both.restored(0).await;
    both.damage("first");
    let ran = both.restored(3).await;
    let warnings = lines(&ran.json(), "warnings").join("\n");
    for key in both.bodies() {
        assert!(warnings.contains(&key), "{key} in {warnings}");
    }
    assert!(warnings.contains("the place first") && warnings.contains("the place copy"), "{warnings}");
    both.damage("copy");
    both.restored(4).await;
    // The damage to the first place is undone.
    both.damage("first");
    both.restored(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_one_place_lacks_is_read_from_the_other() {
    let both = StoredTwice::new().await;
    for key in both.bodies() {
        std::fs::remove_file(both.places.folder("first").join(key)).expect("removed");
    }
    let ran = both.restored(3).await;
    assert!(lines(&ran.json(), "warnings").join("\n").contains("the place first"), "{}", ran.stdout);
    both.places.hide("first");
    let ran = both.restored(3).await;
    assert!(ran.stderr.contains("the place first cannot be used"), "{}", ran.stderr);
    let mut timeline = tool(&both.places.home, NOWHERE, &["timeline", "--json"]);
    let ran = run(timeline.env("COPY_DIR", both.places.folder("copy"))).ends(3);
    assert!(lines(&ran.json(), "problems")[0].contains("the place first cannot be used"), "{}", ran.stdout);
    assert!(!ran.json()["ranges"].as_array().expect("ranges").is_empty(), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_with_another_manifest_does_not_stand_in() {
    let both = StoredTwice::new().await;
    both.damage("first");
    for (path, mut slice) in slices(&both.places.home) {
        let key = path.strip_prefix(both.places.folder("first")).expect("below the place").to_path_buf();
        slice.read_entries += 1;
        std::fs::write(both.places.folder("copy").join(key), slice.encode().expect("JSON"))
            .expect("a manifest");
    }
    let ran = both.restored(4).await;
    assert!(ran.stderr.contains("has another manifest"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_point_is_restored_from_the_place_that_leads_furthest() {
    let both = StoredTwice::new().await;
    let (last, _) = slices(&both.places.home).pop().expect("a slice");
    std::fs::remove_file(last).expect("removed");
    let (target, client) = set(None).await;
    let mut command = restore(&both.places.home, &target, &["--at", "newest", "--json"]);
    let ran = run(command.env("COPY_DIR", both.places.folder("copy"))).ends(3);
    let warnings = lines(&ran.json(), "warnings").join("\n");
    assert!(warnings.contains("the place first is not used: it leads only to"), "{warnings}");
    let wanted = read_as_of(&both.stored.client, None).await.expect("a snapshot");
    assert_eq!(differences_from(&client, &wanted).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_slices_that_are_damaged_in_one_place_needs_a_look() {
    let both = StoredTwice::new().await;
    both.damage("first");
    let within = scratch();
    let mut drill = tool(&both.places.home, NOWHERE, &["verify", "--drill", "--at", "newest", "--json"]);
    drill.env("MONGOD_PATH", mongod()).env("TMPDIR", within.path());
    let ran = run(drill.env("COPY_DIR", both.places.folder("copy"))).ends(3);
    let backup = &ran.json()["backups"][0];
    let notes = lines(&backup["drill"], "notes").join("\n");
    assert!(backup["place"] == "first" && backup["sound"] == true, "{backup}");
    assert!(both.bodies().iter().all(|key| notes.contains(key)), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_slices_that_are_damaged_in_one_place_are_read_from_the_other() {
    let (server, encrypted) = (encryption::server().await, Encrypted::new());
    let (uri, offsite) = (server.uri(), encrypted.home.path().join("offsite"));
    let client = server.client().await.expect("a client");
    encrypted.backup(&uri, &["--consistency", "oplog"]);
    encryption::insert(&client, 1000..1010).await;
    encrypted.oplog(&uri, 0);
    run(encrypted.tool(NOWHERE).env("COPY_DIR", &offsite).args(["copy", "--missing"])).ends(0);
    let (target, copy) = set(None).await;
    let restored = async |code| {
        let mut command = encrypted.tool(NOWHERE);
        command.env("COPY_DIR", &offsite).env("RESTORE_URI", target.uri());
        command.args(["restore", "--at", "newest", "--drop", "--yes", "--json", "--identity"]);
        let ran = run(command.arg(&encrypted.key.file)).ends(code);
        let rows = copy.database("canaryshop").collection::<bson::Document>("canaryrows");
        assert_eq!(rows.count_documents(bson::doc! {}).await.expect("a count"), 310);
        lines(&ran.json(), "warnings").join("\n")
    };
    restored(0).await;
    let (_, slice) = slices(&encrypted.home).pop().expect("a slice");
    let (events, body) = (slice.events.expect("events"), slice.body.expect("a body"));
    flip(&encrypted.home.backups().join(&body.key), body.size / 2);
    let warnings = restored(3).await;
    assert!(warnings.contains(&body.key) && !warnings.contains(&events.key), "{warnings}");
    flip(&encrypted.home.backups().join(&events.key), events.size / 2);
    let warnings = restored(3).await;
    assert!(warnings.contains(&body.key) && warnings.contains(&events.key), "{warnings}");
}
