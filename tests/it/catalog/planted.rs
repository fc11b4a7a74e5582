//! Manifests and tombstones that an attacker put into the place.

use serde_json::json;
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;

use crate::cleanup::support::{JOB, Place, ids, manifest, places, with};
use crate::cli::support::{Home, run};

/// Keys that a store refuses, or that lead out of the backup's folder.
fn keys(manifest: &Manifest) -> Vec<String> {
    let folder = layout::folder(&manifest.id);
    vec![
        String::new(),
        "/etc/passwd".into(),
        format!("{folder}../../../secret"),
        format!("{folder}a\0b"),
        folder.clone(),
        format!("{folder}{}", "x".repeat(2_000)),
        "2026/11/20261123T030000Z-7k3q9d/dump.tar.gz".into(),
    ]
}

async fn real() -> (Mongod, Home, Manifest) {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..20).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    run(home.to_dir(&server.uri()).args(["backup", "--job", JOB])).ends(0);
    let real = home.manifests().remove(0);
    (server, home, real)
}

/// `verify --all` verifies the sound backups and reports the damaged ones, whatever else is in the place.
#[tokio::test]
async fn a_planted_manifest_is_a_finding_and_the_rest_is_verified() {
    let (_server, home, real) = real().await;
    let mut bad = Vec::new();
    for (days, key) in keys(&manifest(JOB, 0)).iter().enumerate() {
        for field in ["artifact", "index"] {
            let mut planted = manifest(&format!("{JOB}{field}"), 1 + days as i64);
            let place = if field == "artifact" { &mut planted.artifact.key } else { &mut planted.index.key };
            place.clone_from(key);
            let path = home.backups().join(layout::manifest(&planted.id));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(path, planted.encode().expect("JSON")).expect("a file");
            bad.push(planted.id.to_string());
        }
    }
    let tool = |args: &[&str]| run(home.to_dir(crate::cli::support::NOWHERE).args(args));
    let report = tool(&["verify", "--all", "--json"]).ends(4).json();
    let of = |list: &str| -> Vec<String> {
        let rows = report[list].as_array().expect("a list").iter();
        rows.map(|row| row["id"].as_str().expect("an id").to_string()).collect()
    };
    assert_eq!(of("backups"), [real.id.to_string()]);
    assert_eq!(report["backups"][0]["sound"], true);
    bad.sort();
    let mut found = of("damaged");
    found.sort();
    assert_eq!(found, bad);
    let error = report["damaged"][0]["error"].as_str().expect("a text");
    assert!(error.contains("which is not in its folder"), "{error}");
    // The other commands report it and continue.
    let listed = tool(&["list", "--json"]).ends(4).json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1 + bad.len()));
    tool(&["cleanup", "--job", JOB]).ends(3).says(&[]);
    tool(&["stats", "--job", JOB]).ends(0);
    tool(&["pin", real.id.as_str()]).ends(0);
    tool(&["verify", real.id.as_str()]).ends(0);
}

/// One backup has a valid manifest but cannot be read, because a folder has the name of its artifact.
#[tokio::test]
async fn a_backup_that_cannot_be_read_is_a_finding_and_the_rest_is_verified() {
    let (server, home, first) = real().await;
    run(home.to_dir(&server.uri()).args(["backup", "--job", JOB])).ends(0);
    let artifact = home.backups().join(&first.index.key);
    std::fs::remove_file(&artifact).expect("a file");
    std::os::unix::fs::symlink(&artifact, &artifact).expect("a link to itself");
    let report = run(home.to_dir(&server.uri()).args(["verify", "--all", "--json"])).ends(4).json();
    let sound = report["backups"].as_array().expect("a list").iter().filter(|row| row["sound"] == true);
    assert_eq!(sound.count(), 1, "{report}");
    assert!(report.to_string().contains(first.id.as_str()), "{report}");
}

/// A started deletion is not completed while the plan is frozen or the backup is pinned.
#[test]
fn a_planted_tombstone_deletes_nothing_that_is_frozen_or_pinned() {
    for place in places() {
        place.nightly(0..3);
        // Without a manifest, as after a started deletion.
        let lost = manifest(JOB, 40);
        place.put(&lost.artifact.key, b"all the data");
        let tombstone = json!({
            "format": 1, "id": lost.id, "job": JOB, "at": "2026-11-23T03:00:00Z", "reason": "40 days old",
            "keys": [layout::manifest(&lost.id), lost.artifact.key],
        });
        place.put(&layout::tombstone(&lost.id), tombstone.to_string().as_bytes());
        let other = manifest(JOB, 5);
        let broken = layout::manifest(&other.id);
        place.put(&broken, b"{");
        let report = place.run(&["cleanup", "--json"]).ends(3).json();
        assert!(!report["frozen"].as_array().expect("a list").is_empty(), "{report}");
        assert_eq!(report["finished"], json!([]));
        assert!(place.keys().contains(&lost.artifact.key), "frozen");
        // With a sound manifest in its place nothing is frozen any more.
        place.add(&other);
        place.put(&layout::pin(&lost.id), b"{}");
        let report = place.run(&["cleanup", "--json"]).ends(3).json();
        assert_eq!((&report["frozen"], &report["finished"]), (&json!([]), &json!([])));
        let problem = report["problems"][0].as_str().expect("a text");
        assert!(problem.contains(lost.id.as_str()) && problem.contains("unpin"), "{problem}");
        assert!(place.keys().contains(&lost.artifact.key), "pinned");
        place.run(&["unpin", lost.id.as_str()]).ends(0);
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(report["finished"], json!([lost.id]));
        assert!(!place.keys().contains(&lost.artifact.key));
        assert_eq!(with(&report, "deleted"), ids(&[]));
    }
}

#[test]
fn an_id_with_white_space_is_refused() {
    let place = Place::dir();
    place.nightly(0..1);
    for id in [" 2026112T030000Z-7k3q9d", "20261123T030000Z-7k3q9d\n", "2026 123T030000Z-7k3q9d"] {
        for command in ["verify", "pin", "unpin"] {
            place.run(&[command, id]).ends(2).says(&["is not a backup id"]);
        }
        // `list` does not take such a folder for a backup either.
        let before = place.run(&["list", "--json"]).ends(0).stdout;
        place.put(&format!("2026/11/{id}/manifest.json"), b"{");
        assert_eq!(place.run(&["list", "--json"]).ends(0).stdout, before);
    }
}
