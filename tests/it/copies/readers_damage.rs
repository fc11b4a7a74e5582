//! Damaged and missing objects are read from another place, and no document of damaged bytes reaches a target.

use std::collections::BTreeMap;

use bson::Document;
use futures_util::TryStreamExt;
use mongodb::Client;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::readers_support::{PLACES, TwoPlaces, fill, flip, lines, segments, text};
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, NOWHERE, peak, run};
use crate::encryption::support::{Encrypted, FORMATS};
use crate::restore::support::{differences, server};

/// The texts of `shop`, by collection and id.
async fn texts(client: &Client) -> BTreeMap<(String, i32), String> {
    let (shop, mut all) = (client.database("shop"), BTreeMap::new());
    for name in shop.list_collection_names().await.expect("collections") {
        let mut rows = shop.collection::<Document>(&name).find(Document::new()).await.expect("rows");
        while let Some(row) = rows.try_next().await.expect("a row") {
            let id = row.get_i32("_id").expect("an id");
            all.insert((name.clone(), id), row.get_str("text").expect("a text").to_string());
        }
    }
    all
}

/// Damages the last part of every segment in a place, so that the first blocks of a segment are handed on.
fn damage_segments(places: &TwoPlaces, place: &str, manifest: &Manifest) {
    let folder = places.folder(place);
    let artifact = folder.join(&manifest.artifact.key);
    for (offset, length) in segments(&folder, manifest) {
        flip(&artifact, offset + length * 7 / 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_segment_is_read_from_the_other_place_in_every_format() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    for format in FORMATS {
        let places = TwoPlaces::new();
        let manifest = places.backup(&source.uri(), &["--format", format]);
        let whole = std::fs::read(places.folder("first").join(&manifest.artifact.key)).expect("an artifact");
        for place in PLACES {
            damage_segments(&places, place, &manifest);
            // The first restore writes to an empty server, without the reading before; the second one replaces the data.
            restored.database("shop").drop().await.expect("dropped");
            for args in [&["latest"][..], &["latest", "--drop"]] {
                let ran = places.restore(&target, args);
                let warnings = lines(&ran.json(), "warnings").join("\n");
                match place {
                    "first" => {
                        assert_eq!(ran.code, Some(3), "{format} {args:?}: {}", ran.stderr);
                        let key = &manifest.artifact.key;
                        let words = ["the place first", key.as_str(), "from the place copy", "is damaged"];
                        assert!(words.iter().all(|word| warnings.contains(word)), "{warnings}");
                    }
                    _ => assert_eq!((ran.code, warnings.as_str()), (Some(0), ""), "{}", ran.stderr),
                }
                assert_eq!(differences(&client, &restored).await, Vec::<String>::new(), "{format} {place}");
            }
            std::fs::write(places.folder(place).join(&manifest.artifact.key), &whole).expect("an artifact");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_chunks_of_an_encrypted_backup_are_read_from_the_other_place() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    for format in ["tar.zst", "archive.gz"] {
        let encrypted = Encrypted::new();
        let offsite = encrypted.home.path().join("offsite");
        let mut backup = encrypted.tool(&source.uri());
        run(backup.env("COPY_DIR", &offsite).args(["backup", "--format", format])).ends(0);
        let manifest = encrypted.home.manifests().pop().expect("a manifest");
        let artifact = encrypted.home.backups().join(&manifest.artifact.key);
        for at in (300_000..manifest.artifact.size - 100_000).step_by(700_000) {
            flip(&artifact, at);
        }
        restored.database("shop").drop().await.expect("dropped");
        let mut restore = encrypted.tool(NOWHERE);
        restore.env("COPY_DIR", &offsite).env("RESTORE_URI", target.uri());
        restore.args(["restore", "latest", "--yes", "--json", "--identity"]).arg(&encrypted.key.file);
        let ran = run(&mut restore).ends(3);
        let warnings = lines(&ran.json(), "warnings").join("\n");
        assert!(
            warnings.contains("the place first") && warnings.contains("cannot be decrypted"),
            "{warnings}"
        );
        assert_eq!(differences(&client, &restored).await, Vec::<String>::new(), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_damaged_in_both_places_changes_nothing_at_a_target_with_data() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&source.uri(), &["--format", "tar.zst"]);
    PLACES.iter().for_each(|place| damage_segments(&places, place, &manifest));
    insert_a_row(&restored).await;
    let before = texts(&restored).await;
    let ran = places.restore(&target, &["latest", "--drop"]).ends(4);
    let words = ["no place has", "first: ", "copy: ", "is damaged"];
    assert!(words.iter().all(|word| ran.stderr.contains(word)), "{}", ran.stderr);
    assert_eq!(texts(&restored).await, before);
}

async fn insert_a_row(client: &Client) {
    let rows = client.database("shop").collection::<Document>("orders");
    rows.insert_one(bson::doc! {"_id": 1, "text": "before"}).await.expect("a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_document_of_damaged_bytes_reaches_an_empty_target() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    for format in FORMATS {
        let places = TwoPlaces::new();
        let manifest = places.backup(&source.uri(), &["--format", format]);
        for (n, place) in PLACES.iter().enumerate() {
            let artifact = places.folder(place).join(&manifest.artifact.key);
            for (offset, length) in segments(&places.folder(place), &manifest) {
                flip(&artifact, offset + length * (5 + n as u64) / 8);
            }
        }
        restored.database("shop").drop().await.expect("dropped");
        places.restore(&target, &["latest"]).ends(4);
        for ((name, id), found) in texts(&restored).await {
            assert!(found == text(&name, id), "{format}: {name} {id} was changed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_from_the_other_place_if_one_lacks_an_object() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&source.uri(), &[]);
    let restores = async |what: &str, args: &[&str], words: &[&str]| {
        restored.database("shop").drop().await.expect("dropped");
        let ran = places.restore(&target, args).ends(3);
        let warnings = lines(&ran.json(), "warnings").join("\n");
        assert!(words.iter().all(|word| warnings.contains(word)), "{what}: {warnings}");
        assert_eq!(differences(&client, &restored).await, Vec::<String>::new(), "{what}");
    };
    let (index, artifact) = (manifest.index.key.as_str(), manifest.artifact.key.as_str());
    // An index with its size is found only when it is read.
    flip(&places.folder("first").join(index), 20);
    restores("index", &["latest"], &["the place first", index, "the place copy"]).await;
    let dry = places.restore(&target, &["latest", "--drop", "--dry-run"]).ends(3).json();
    assert!(lines(&dry, "warnings").join("\n").contains(index), "{dry}");
    std::fs::copy(places.folder("copy").join(index), places.folder("first").join(index)).expect("a copy");
    std::fs::remove_file(places.folder("first").join(artifact)).expect("removed");
    restores("newest", &["latest"], &["the place first is not used", "artifact"]).await;
    let id = manifest.id.as_str();
    restores("by id", &[id], &["the place first is not used", "artifact"]).await;
    let away = places.hide("first");
    restores("away", &["latest"], &["the place first cannot be used", "no backup directory"]).await;
    std::fs::rename(away, places.folder("first")).expect("a folder");
    // With --place, no other place is used.
    places.restore(&target, &[id, "--place", "first", "--drop"]).ends(4);
    places.restore(&target, &[id, "--place", "copy", "--drop"]).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_stops_answering_in_the_middle_is_replaced_by_the_copy() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    let (home, bucket) = (Home::new(), S3Server::start());
    let offsite = home.path().join("offsite");
    let tool = |uri: &str| {
        let mut command = to_s3(&home, uri, &bucket);
        command.env("COPY_DIR", &offsite).env("BACKUP_JOB", "nightly").env("BACKUP_MIN_FREE", "0");
        command
    };
    run(tool(&source.uri()).arg("backup")).ends(0);
    // One request for each collection.
    for answered in [0, 1, 2] {
        bucket.faults().clear();
        let lost = Rule::from(answered, "GetObject", Fault::Answer(503, "SlowDown"));
        bucket.faults().add(lost.key("/dump.tar.gz"));
        restored.database("shop").drop().await.expect("dropped");
        let mut restore = tool(NOWHERE);
        restore.env("RESTORE_URI", target.uri()).args(["restore", "latest", "--yes", "--json"]);
        let ran = run(&mut restore).ends(3);
        let warnings = lines(&ran.json(), "warnings").join("\n");
        assert!(warnings.contains("the place first did not give") && warnings.contains("copy"), "{warnings}");
        assert_eq!(differences(&client, &restored).await, Vec::<String>::new(), "{answered} answers");
    }
}

/// Each reader of segments holds a block until its checksum was compared. A block of one large document is the largest.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_documents_of_two_places_fit_into_256_mib() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    let text = "seven bytes ".repeat((16 << 20) / 12 - 10);
    let films = client.database("shop").collection::<Document>("films");
    for n in 0..12 {
        films.insert_one(bson::doc! {"_id": n, "text": &text}).await.expect("a document");
    }
    let places = TwoPlaces::new();
    let manifest = places.backup(&source.uri(), &["--format", "tar.zst"]);
    let mut command = places.tool(NOWHERE, &["restore", "latest", "--yes"]);
    let peak = peak(command.env("RESTORE_URI", target.uri()));
    assert!(peak < 256 << 10, "{peak} KiB");
    restored.database("shop").drop().await.expect("dropped");
    damage_segments(&places, "first", &manifest);
    places.restore(&target, &["latest"]).ends(3);
    assert_eq!(differences(&client, &restored).await, Vec::<String>::new());
}
