//! `stats`, its page and the metrics: figures of each place.

use serde_json::json;

use super::planted::{CopyPlace, Places};
use crate::cleanup::support::Place;
use crate::cli::support::run;

#[test]
fn each_place_has_figures() {
    let places = Places::new([CopyPlace::dir("offsite", ""), CopyPlace::dir("usb", "max_age = 900")]);
    let backups = places.first.nightly(0..4);
    [&backups[2], &backups[3]].iter().for_each(|old| places.copy("offsite").add(old));
    places.copy("usb").add(&backups[3]);
    let page = places.first.home.path().join("stats.html");
    let report = places.run(&["stats", "--json", "--html", page.to_str().expect("a path")]).ends(0).json();
    let rows = report["places"].as_array().expect("a list");
    let figures: Vec<_> = rows.iter().map(|row| (&row["name"], &row["backups"], &row["fresh"])).collect();
    assert_eq!(
        figures,
        [
            (&json!("first"), &json!(4), &json!(true)),
            (&json!("offsite"), &json!(2), &json!(false)),
            (&json!("usb"), &json!(1), &json!(true)),
        ]
    );
    assert_eq!(rows[1]["newest_good"], json!(backups[2].id));
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("<h2 id=\"places\">Places</h2>") && page.contains(">offsite<"), "{page}");
    let text = places.run(&["stats"]).ends(0).stdout;
    assert!(
        text.contains("needs a look: The newest good backup in the copy offsite is 2 d 1 h old"),
        "{text}"
    );
    // A place that is away.
    std::fs::remove_dir_all(places.copy("usb").home.backups()).expect("it is removed");
    let text = places.run(&["stats"]).ends(0).stdout;
    assert!(text.contains("needs a look: The copy usb could not be read: "), "{text}");
    // One place alone.
    let report = places.run(&["stats", "--json", "--place", "offsite"]).ends(0).json();
    assert_eq!((report.get("places"), &report["backups"]), (None, &json!(2)));
    let alone = run(Place::dir().command().args(["stats", "--json"])).ends(0).json();
    assert!(alone.get("places").is_none());
}

#[test]
fn a_cleanup_writes_metrics_of_each_place() {
    let places = Places::new([CopyPlace::dir("offsite", "")]);
    let backups = places.first.nightly(0..4);
    places.copy("offsite").add(&backups[3]);
    let file = places.first.home.path().join("m.prom");
    let cleanup = |args: &[&str]| run(places.command().env("METRICS_FILE", &file).arg("cleanup").args(args));
    let has = |lines: &[String]| {
        let text = std::fs::read_to_string(&file).expect("metrics");
        lines.iter().for_each(|line| assert!(text.contains(line.as_str()), "no {line} in {text}"));
    };
    cleanup(&[]).ends(0);
    let sample = |name: &str, place: &str, value: &str| {
        format!("uzima_backup_place_{name}{{backup_job=\"all@db1\",place=\"{place}\"}} {value}\n")
    };
    let begun = |at: usize| backups[at].started_at.timestamp().to_string();
    let all = [
        sample("backups", "first", "4"),
        sample("backups", "offsite", "1"),
        sample("newest_good_timestamp_seconds", "first", &begun(0)),
        sample("newest_good_timestamp_seconds", "offsite", &begun(3)),
        "uzima_backup_cleanup_kept_backups{backup_job=\"all@db1\"} 4\n".into(),
    ];
    has(&all);
    // A place that is away keeps its figures, and so does the first one beside a cleanup of the copy.
    std::fs::rename(places.copy("offsite").home.backups(), places.first.home.path().join("elsewhere"))
        .unwrap();
    cleanup(&[]).ends(3);
    has(&all);
    cleanup(&["--place", "offsite"]).ends(1);
    has(&all);
}
