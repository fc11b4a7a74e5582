//! `cleanup`: each place by its own plan.

use bson::doc;
use serde_json::{Value, json};
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;

use super::planted::{CopyPlace, Places};
use crate::cleanup::support::{JOB, Place, hold, ids, with};
use crate::records::support::runs;

/// Writes one backup for each of these ages in days into all places.
fn nightly(places: &[&Place], days: impl IntoIterator<Item = i64>) -> Vec<Manifest> {
    let manifests = places[0].nightly(days);
    for place in &places[1..] {
        manifests.iter().for_each(|manifest| place.add(manifest));
    }
    manifests
}

fn names(report: &Value) -> Vec<&str> {
    let copies = report["copies"].as_array().expect("a list");
    [report].into_iter().chain(copies).map(|place| place["name"].as_str().expect("a name")).collect()
}

#[test]
fn each_place_is_cleaned_by_its_own_retention() {
    let copies =
        [CopyPlace::dir("near", "retention_days = 28"), CopyPlace::s3("far", "retention_days = 400")];
    let places = Places::new(copies);
    let (near, far) = (places.copy("near"), places.copy("far"));
    let backups = nightly(&[&places.first, near, far], 0..33);
    let planned = places.run(&["cleanup", "--dry-run", "--json"]).ends(0).json();
    assert_eq!(names(&planned), ["first", "near", "far"]);
    assert_eq!(with(&planned, "planned"), ids(&backups[30..]));
    assert_eq!(with(&planned["copies"][0], "planned"), ids(&backups[28..]));
    let text = places.run(&["cleanup", "--dry-run"]).ends(0).stdout;
    for line in [
        format!("first, {}\n", places.first.home.backups().display()),
        format!("would delete 3 of 33 backups of {JOB} in {}", places.first.home.backups().display()),
        format!("near, {}\n", near.home.backups().display()),
        format!("would delete 5 of 33 backups of {JOB} in {}", near.home.backups().display()),
        format!("would delete 0 of 33 backups of {JOB} in s3://"),
    ] {
        assert!(text.contains(&line), "no {line:?} in {text}");
    }
    places.first.holds(&backups);
    let done = places.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!(with(&done, "deleted"), ids(&backups[30..]));
    assert_eq!(with(&done["copies"][0], "deleted"), ids(&backups[28..]));
    assert_eq!(with(&done["copies"][1], "deleted"), Vec::<String>::new());
    places.first.holds(&backups[..30]);
    near.holds(&backups[..28]);
    far.holds(&backups);
}

/// Weeks without a backup in a place: its last good backups stay, whatever the other place has.
#[test]
fn backups_of_one_place_do_not_count_in_another() {
    let places = Places::new([CopyPlace::dir("offsite", "")]);
    let new = places.first.nightly(0..3);
    let old = places.copy("offsite").nightly(60..63);
    places.run(&["cleanup"]).ends(0);
    places.first.holds(&new);
    places.copy("offsite").holds(&old);
}

#[test]
fn a_place_that_is_away_does_not_stop_the_others() {
    let places = Places::new([CopyPlace::dir("offsite", "")]);
    let backups = nightly(&[&places.first, places.copy("offsite")], 0..31);
    let (mounted, elsewhere) =
        (places.copy("offsite").home.backups(), places.copy("offsite").home.path().join("elsewhere"));
    std::fs::rename(&mounted, &elsewhere).expect("a rename");
    let report = places.run(&["cleanup", "--json"]).ends(3).json();
    places.first.holds(&backups[..30]);
    let copy = &report["copies"][0];
    assert_eq!((&copy["name"], &copy["backups"]), (&json!("offsite"), &json!([])));
    assert!(
        copy["not_cleaned"].as_str().expect("a reason").contains("there is no backup directory"),
        "{copy}"
    );
    assert!(report.get("not_cleaned").is_none(), "{report}");
    let quiet = places.run(&["cleanup", "--quiet"]).ends(3);
    assert!(quiet.stderr.contains("offsite: "), "{}", quiet.stderr);
    // An empty mount point proves nothing.
    std::fs::rename(&elsewhere, &mounted).expect("a rename");
    places.run(&["cleanup"]).ends(0);
    places.copy("offsite").holds(&backups[..30]);
    std::fs::rename(&mounted, &elsewhere).expect("a rename");
    std::fs::create_dir(&mounted).expect("a mount point");
    let report = places.run(&["cleanup", "--json"]).ends(3).json();
    let said = format!("{}", report["copies"][0]);
    assert!(said.contains("known backups are not in") && said.contains("is the disk mounted?"), "{said}");
    // Neither place.
    std::fs::remove_dir(&mounted).expect("it is empty");
    std::fs::rename(places.first.home.backups(), places.first.home.path().join("elsewhere"))
        .expect("a rename");
    places.run(&["cleanup"]).ends(1).says(&["no place could be cleaned: first: ", "; offsite: "]);
}

#[test]
fn a_frozen_place_does_not_freeze_another() {
    for frozen in ["first", "offsite"] {
        let places = Places::new([CopyPlace::dir("offsite", "")]);
        let copy = places.copy("offsite");
        let backups = nightly(&[&places.first, copy], 0..31);
        let (ill, well) = if frozen == "first" { (&places.first, copy) } else { (copy, &places.first) };
        let mut collapsed = backups[0].clone();
        hold(&mut collapsed, 3);
        ill.add(&collapsed);
        let report = places.run(&["cleanup", "--json"]).ends(3).json();
        ill.holds(&backups);
        well.holds(&backups[..30]);
        let (first, copy) = (&report, &report["copies"][0]);
        let (ill, well) = if frozen == "first" { (first, copy) } else { (copy, first) };
        assert_eq!((with(ill, "frozen"), with(well, "deleted")), (ids(&backups[30..]), ids(&backups[30..])));
        assert_eq!(well["frozen"], json!([]));
    }
}

#[test]
fn a_backup_is_accepted_in_every_place_that_has_it() {
    let places = Places::new([CopyPlace::dir("near", ""), CopyPlace::dir("far", "")]);
    let (near, far) = (places.copy("near"), places.copy("far"));
    let backups = nightly(&[&places.first, near, far], 1..30);
    let mut collapsed = crate::cleanup::support::manifest(JOB, 0);
    hold(&mut collapsed, 3);
    [&places.first, near].iter().for_each(|place| place.add(&collapsed));
    places.run(&["cleanup"]).ends(3);
    let unknown = "20200101T000000Z-abcdef";
    places.run(&["cleanup", "--accept", unknown]).ends(1).says(&["no place has a backup", unknown]);
    places.run(&["cleanup", "--accept", collapsed.id.as_str()]).ends(0);
    let accepted = layout::accepted(&collapsed.id);
    for (place, has) in [(&places.first, true), (near, true), (far, false)] {
        assert_eq!(place.keys().contains(&accepted), has);
    }
    far.holds(&backups);
}

#[test]
fn a_flag_limits_a_cleanup_to_one_place() {
    let places = Places::new([CopyPlace::dir("offsite", "")]);
    let backups = nightly(&[&places.first, places.copy("offsite")], 0..31);
    let report = places.run(&["cleanup", "--place", "offsite", "--json"]).ends(0).json();
    assert_eq!((&report["name"], report.get("copies")), (&json!("offsite"), None));
    assert_eq!(with(&report, "deleted"), ids(&backups[30..]));
    places.first.holds(&backups);
    places.copy("offsite").holds(&backups[..30]);
    places
        .run(&["cleanup", "--place", "ofsite"])
        .ends(2)
        .says(&["no place with the name 'ofsite'", "offsite"]);
}

/// The records know one state of a backup for all places.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_recorded_as_deleted_when_no_place_has_it() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let places = Places::new([CopyPlace::dir("offsite", "retention_days = 31")]);
    let offsite = places.copy("offsite");
    let backups = nightly(&[&places.first, offsite], 29..33);
    let recent = nightly(&[&places.first, offsite], 0..12);
    let record = |m: &Manifest| doc! {"_id": m.id.as_str(), "job": JOB, "status": "completed"};
    runs(&client).insert_many(backups.iter().chain(&recent).map(record)).await.expect("records");
    let cleanup = |args: &[&str]| {
        let mut command = places.command();
        command.env_remove("BACKUP_RECORDS").env("MONGO_URI", server.uri());
        crate::cli::support::run(command.arg("cleanup").args(args))
    };
    let deleted = async || {
        let count = doc! {"status": "deleted"};
        runs(&client).count_documents(count).await.expect("a count")
    };
    // The copy may still have the backups that only the first place deletes.
    cleanup(&["--place", "first"]).ends(0);
    places.first.holds(&[&backups[..1], &recent].concat());
    assert_eq!(deleted().await, 0);
    let (mounted, elsewhere) = (offsite.home.backups(), offsite.home.path().join("elsewhere"));
    std::fs::rename(&mounted, &elsewhere).expect("a rename");
    cleanup(&[]).ends(3);
    assert_eq!(deleted().await, 0);
    std::fs::rename(&elsewhere, &mounted).expect("a rename");
    cleanup(&[]).ends(0);
    offsite.holds(&[&backups[..2], &recent].concat());
    assert_eq!(deleted().await, 2);
}
