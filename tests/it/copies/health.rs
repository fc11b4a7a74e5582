//! `health`: a line for each check and place.

use std::process::Command;

use super::planted::{CopyPlace, Places};
use crate::cleanup::support::Place;
use crate::cli::support::run;

const CHECKED: &str = "store,disk,clock,freshness,backups,copies";

/// The rows as `outcome name place`.
fn rows(command: &mut Command, code: i32, args: &[&str]) -> Vec<String> {
    let report = run(command.args(["health", "--json", "--only", CHECKED]).args(args)).ends(code).json();
    let row = |row: &serde_json::Value| {
        let text = |key: &str| row[key].as_str().unwrap_or("-").to_string();
        format!("{} {} {}", text("outcome"), text("name"), text("place"))
    };
    report["checks"].as_array().expect("a list").iter().map(row).collect()
}

#[test]
fn each_place_has_rows_of_its_own() {
    let places = Places::new([CopyPlace::s3("far", "")]);
    places.first.nightly(0..2);
    places.copy("far").nightly(3..5);
    assert_eq!(
        rows(&mut places.command(), 5, &[]),
        [
            "ok store first",
            "ok disk first",
            "skipped clock first",
            "ok freshness first",
            "ok backups first",
            "ok copies -",
            "ok store far",
            "not_configured disk far",
            "ok clock far",
            "failed freshness far",
            "ok backups far",
        ]
    );
    let ran = places.run(&["health", "--only", "store,freshness"]).ends(5);
    assert!(ran.stdout.contains("failed  freshness far    the newest good backup"), "{}", ran.stdout);
    assert!(ran.stdout.contains("next step: Run `uzima-backup copy --missing --to far`"), "{}", ran.stdout);
    assert!(ran.stderr.contains("unhealthy: freshness far\n"), "{}", ran.stderr);
    let one = places.run(&["health", "--only", "freshness", "--place", "first"]).ends(0);
    assert!(one.stdout.starts_with("ok  freshness  "), "{}", one.stdout);
}

#[test]
fn without_copies_nothing_is_new() {
    let place = Place::dir();
    place.nightly(0..2);
    let rows = rows(&mut place.command(), 0, &[]);
    // The check is named, so it has a row.
    assert_eq!(
        rows,
        [
            "ok store -",
            "ok disk -",
            "skipped clock -",
            "ok freshness -",
            "ok backups -",
            "not_configured copies -"
        ]
    );
    let all = run(place.command().args(["health", "--skip", "mongodb"])).stdout;
    assert!(!all.contains("copies"), "{all}");
}

#[test]
fn two_places_on_one_file_system_or_in_one_bucket_are_a_warning() {
    let places = Places::new([CopyPlace::dir("beside", ""), CopyPlace::s3("far", "")]);
    let bucket = places.copy("far").bucket();
    let mut command = places.command();
    let file = places.first.home.path().join("config.toml");
    let table = std::fs::read_to_string(&file).expect("the file");
    let far = table.split("[[copies]]").last().expect("the last table").replace("\"far\"", "\"same\"");
    let prefix = "prefix = \"other/\"";
    std::fs::write(&file, format!("{table}\n[[copies]]{far}\n{prefix}\n")).expect("the file");
    let ran = run(command.args(["health", "--only", "copies"])).ends(0).stdout;
    assert!(
        ran.contains("first and beside are on the same file system; far and same share the bucket"),
        "{ran}"
    );
    assert!(bucket.objects().is_empty());
}

/// A disk that is attached at times.
#[test]
fn a_copy_that_is_away_warns_until_it_is_too_old() {
    let places = Places::new([CopyPlace::dir("usb", "max_age = 200")]);
    let usb = places.copy("usb");
    places.first.nightly(0..3);
    usb.nightly(4..7);
    assert!(rows(&mut places.command(), 0, &[]).contains(&"ok freshness usb".into()));
    let (mounted, elsewhere) = (usb.home.backups(), usb.home.path().join("elsewhere"));
    std::fs::rename(&mounted, &elsewhere).expect("a rename");
    let away = [
        "warning store usb",
        "skipped disk usb",
        "skipped clock usb",
        "skipped freshness usb",
        "skipped backups usb",
    ];
    assert_eq!(rows(&mut places.command(), 0, &[])[6..], away);
    // An empty mount point: nothing is written there.
    std::fs::create_dir(&mounted).expect("a mount point");
    assert_eq!(rows(&mut places.command(), 0, &[])[6..], away);
    assert_eq!(usb.home.files(), Vec::<String>::new());
    // Too old, also if only one check is asked for.
    let mut strict = Places { first: places.first, copies: places.copies };
    strict.copies[0].settings = "max_age = 48";
    assert_eq!(rows(&mut strict.command(), 5, &[])[6], "failed store usb");
    let ran = strict.run(&["health", "--only", "freshness", "--quiet"]).ends(5);
    assert!(
        ran.stderr.contains("freshness usb: ") && ran.stderr.contains("Attach the disk"),
        "{}",
        ran.stderr
    );
}

#[test]
fn wrong_settings_of_a_copy_fail_its_checks_alone() {
    let places = Places::new([CopyPlace::dir("usb", "bucket = \"also\"")]);
    places.first.nightly(0..2);
    let rows = rows(&mut places.command(), 5, &[]);
    assert_eq!(rows[6..8], ["failed store usb", "skipped disk usb"]);
    assert_eq!(rows[..2], ["ok store first", "ok disk first"]);
}
