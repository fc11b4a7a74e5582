//! The output of the commands that read stored backups alone: `list`, `cleanup`, `stats`, `pin` and `unpin`. The
//! backups are written by the test, so that sizes and durations are always the same.

use insta::assert_snapshot;

use uzima_backup::catalog::layout;

use super::support::{all, compact, normalize};
use crate::cleanup::support::{Place, hold};
use crate::cli::support::run;

fn text(place: &Place, args: &[&str]) -> String {
    normalize(&all(&place.run(args)), &place.home)
}

fn json(place: &Place, args: &[&str]) -> String {
    normalize(&compact(&place.run(&[args, &["--json"]].concat()).json()), &place.home)
}

#[test]
fn list_prints_a_line_for_each_backup() {
    let place = Place::dir();
    assert_snapshot!(text(&place, &["list"]), @"
        exit code 0
        --- stdout
        no backups in [HOME]/backups
    ");
    assert_snapshot!(json(&place, &["list"]), @r#"
        {
          "version": 1,
          "place": "[HOME]/backups",
          "backups": [],
          "oplog": []
        }
    "#);
    let backups = place.nightly([0, 1, 2]);
    place.run(&["pin", backups[1].id.as_str(), "--reason", "before the migration"]).ends(0);
    place.put(&layout::manifest(&backups[2].id), b"{");
    assert_snapshot!(text(&place, &["list"]), @"
        exit code 4
        --- stdout
        ID                       STARTED (UTC)  STATUS     SIZE  DOCUMENTS  NOTE
        00000000T000000Z-000001  Mon 00 00:00   completed  12 B      1,000
        00000000T000000Z-000002  Mon 00 00:00   completed  12 B      1,000  pinned
        00000000T000000Z-000003  Mon 00 00:00   unreadable manifest: EOF while parsing…
    ");
    assert_snapshot!(json(&place, &["list"]), @r#"
        {
          "version": 1,
          "place": "[HOME]/backups",
          "backups": [
            {
              "id": "00000000T000000Z-000001",
              "status": "completed",
              "pinned": false,
              "pin_reason": null,
              "job": "all@db1",
              "host": "[HOST]",
              "started_at": "0000-00-00T00:00:00Z",
              "finished_at": "0000-00-00T00:00:00Z",
              "namespaces": 1,
              "documents": 1000,
              "raw_bytes": 100000,
              "stored_bytes": 12,
              "format": "tar.gz",
              "engine": "native",
              "consistency": "none",
              "key": "0000/00/00000000T000000Z-000001/dump.tar.gz",
              "warnings": [],
              "losses": null,
              "verified": null,
              "error": null
            },
            {
              "id": "00000000T000000Z-000002",
              "status": "completed",
              "pinned": true,
              "pin_reason": "before the migration",
              "job": "all@db1",
              "host": "[HOST]",
              "started_at": "0000-00-00T00:00:00Z",
              "finished_at": "0000-00-00T00:00:00Z",
              "namespaces": 1,
              "documents": 1000,
              "raw_bytes": 100000,
              "stored_bytes": 12,
              "format": "tar.gz",
              "engine": "native",
              "consistency": "none",
              "key": "0000/00/00000000T000000Z-000002/dump.tar.gz",
              "warnings": [],
              "losses": null,
              "verified": null,
              "error": null
            },
            {
              "id": "00000000T000000Z-000003",
              "status": "unreadable_manifest",
              "pinned": false,
              "pin_reason": null,
              "key": "0000/00/00000000T000000Z-000003/manifest.json",
              "error": "0000/00/00000000T000000Z-000003/manifest.json cannot be understood: EOF while parsing an object at line 1 column 1"
            }
          ],
          "oplog": []
        }
    "#);
}

#[test]
fn results_have_no_colour_outside_a_terminal_unless_it_is_asked_for() {
    let place = Place::dir();
    place.nightly([0]);
    let result = |env: &[(&str, &str)], args: &[&str]| {
        run(place.command().args(args).envs(env.iter().copied())).ends(0).stdout
    };
    let list = |env: &[(&str, &str)], args: &[&str]| result(env, &[&["list"], args].concat());
    let force = ("CLICOLOR_FORCE", "1");
    assert!(list(&[force], &[]).contains("  \u{1b}[32mcompleted\u{1b}[0m  "));
    assert!(list(&[force], &["latest"]).contains(": \u{1b}[32mcompleted\u{1b}[0m\n"));
    let health = ["health", "--only", "store"];
    assert!(result(&[force], &health).starts_with("\u{1b}[32mok\u{1b}[0m  store  "));
    let plain = [
        result(&[], &health),
        list(&[], &[]),
        list(&[force, ("NO_COLOR", "1")], &[]),
        list(&[], &["latest"]),
        list(&[force], &["--json"]),
    ];
    assert!(plain.iter().all(|text| !text.contains('\u{1b}')), "{plain:?}");
}

#[test]
fn cleanup_prints_its_plan_and_its_result() {
    let place = Place::dir();
    let backups = place.nightly([0, 1, 2, 29, 30, 31]);
    place.run(&["pin", backups[5].id.as_str(), "--reason", "before the migration"]).ends(0);
    assert_snapshot!(text(&place, &["cleanup", "--dry-run"]), @"
        exit code 0
        --- stdout
        keep      00000000T000000Z-000001  0 days old, within 30 days
        keep      00000000T000000Z-000002  1 day old, within 30 days
        keep      00000000T000000Z-000003  2 days old, within 30 days
        keep      00000000T000000Z-000004  29 days old, within 30 days
        would go  00000000T000000Z-000005  older than 30 days and outside every keep rule
        keep      00000000T000000Z-000006  pinned (before the migration)
        would delete 1 of 6 backups of all@db1 in [HOME]/backups, 12 B
    ");
    assert_snapshot!(json(&place, &["cleanup", "--dry-run"]), @r#"
        {
          "version": 1,
          "job": "all@db1",
          "place": "[HOME]/backups",
          "dry_run": true,
          "frozen": [],
          "backups": [
            {
              "id": "00000000T000000Z-000001",
              "outcome": "kept",
              "reason": "0 days old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000002",
              "outcome": "kept",
              "reason": "1 day old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000003",
              "outcome": "kept",
              "reason": "2 days old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000004",
              "outcome": "kept",
              "reason": "29 days old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000005",
              "outcome": "planned",
              "reason": "older than 30 days and outside every keep rule",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000006",
              "outcome": "kept",
              "reason": "pinned (before the migration)",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            }
          ],
          "finished": [],
          "expired": [],
          "orphans": [],
          "oplog": [],
          "archived": [],
          "problems": [],
          "notes": []
        }
    "#);
    assert_snapshot!(text(&place, &["cleanup"]), @"
        exit code 0
        --- stdout
        keep      00000000T000000Z-000001  0 days old, within 30 days
        keep      00000000T000000Z-000002  1 day old, within 30 days
        keep      00000000T000000Z-000003  2 days old, within 30 days
        keep      00000000T000000Z-000004  29 days old, within 30 days
        deleted   00000000T000000Z-000005  older than 30 days and outside every keep rule
        keep      00000000T000000Z-000006  pinned (before the migration)
        deleted 1 of 6 backups of all@db1 in [HOME]/backups, 12 B
    ");
    assert_snapshot!(json(&place, &["cleanup"]), @r#"
        {
          "version": 1,
          "job": "all@db1",
          "place": "[HOME]/backups",
          "dry_run": false,
          "frozen": [],
          "backups": [
            {
              "id": "00000000T000000Z-000001",
              "outcome": "kept",
              "reason": "0 days old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000002",
              "outcome": "kept",
              "reason": "1 day old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000003",
              "outcome": "kept",
              "reason": "2 days old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000004",
              "outcome": "kept",
              "reason": "29 days old, within 30 days",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            },
            {
              "id": "00000000T000000Z-000005",
              "outcome": "kept",
              "reason": "pinned (before the migration)",
              "started_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 12
            }
          ],
          "finished": [],
          "expired": [],
          "orphans": [],
          "oplog": [],
          "archived": [],
          "problems": [],
          "notes": []
        }
    "#);
}

#[test]
fn a_frozen_cleanup_prints_why() {
    let place = Place::dir();
    let mut backups = place.nightly(0..32);
    hold(&mut backups[0], 499);
    place.add(&backups[0]);
    assert_snapshot!(text(&place, &["cleanup", "--quiet"]), @"
        exit code 3
        --- stderr
        needs a look: nothing is deleted: the newest backup 00000000T000000Z-000001 collapsed: 499 documents where the last good backup 00000000T000000Z-000002 had 1,000: shop.orders shrank from 1,000 documents to 499 documents; if that is right, use --accept 00000000T000000Z-000001
    ");
    let printed = text(&place, &["cleanup"]);
    // One line for each backup, all alike.
    let (backups, other): (Vec<&str>, Vec<&str>) = printed
        .lines()
        .partition(|line| line.contains(" old, within 30 days") || line.contains("outside every keep rule"));
    assert_eq!(backups.len(), 32);
    assert_snapshot!(other.join("\n"), @"
        exit code 3
        --- stdout
        frozen, nothing is deleted: the newest backup 00000000T000000Z-000001 collapsed: 499 documents where the last good backup 00000000T000000Z-000002 had 1,000: shop.orders shrank from 1,000 documents to 499 documents; if that is right, use --accept 00000000T000000Z-000001
        frozen: 2 of 32 backups of all@db1 in [HOME]/backups would go
    ");
}

#[test]
fn stats_prints_runs_sizes_and_expiry() {
    let place = Place::dir();
    assert_snapshot!(text(&place, &["stats"]), @"
        exit code 0
        --- stdout
        job          all@db1
        place        [HOME]/backups
        runs         none yet
    ");
    assert_snapshot!(json(&place, &["stats"]), @r#"
        {
          "version": 1,
          "job": "all@db1",
          "place": "[HOME]/backups",
          "at": "0000-00-00T00:00:00Z",
          "runs": {"running": 0, "completed": 0, "failed": 0, "interrupted": 0, "deleted": 0},
          "success": [
            {"days": 7, "made": 0, "ended": 0, "percent": null},
            {"days": 30, "made": 0, "ended": 0, "percent": null},
            {"days": null, "made": 0, "ended": 0, "percent": null}
          ],
          "backups": 0,
          "backups_partial": 0,
          "backups_not_good": 0,
          "backups_lost": 0,
          "stored_bytes": 0,
          "raw_bytes": 0,
          "newest": null,
          "oldest_started_at": null,
          "size": null,
          "documents": null,
          "seconds": null,
          "raw_bytes_per_second": null,
          "periods": [],
          "last": [],
          "days_without_a_run": [],
          "standing": {
            "newest_good": null,
            "age_seconds": null,
            "max_age_seconds": 108000,
            "fresh": false,
            "frozen": [],
            "problems": []
          },
          "forecast": [],
          "kept": [],
          "drill": null,
          "next_expiry": null,
          "restorable": null,
          "rpo_seconds": null
        }
    "#);
    place.nightly([0, 1, 2]);
    assert_snapshot!(text(&place, &["stats"]), @"
        exit code 0
        --- stdout
        job          all@db1
        place        [HOME]/backups
        runs         3 completed
        success      100.0 % of 7 days (3/3) · 100.0 % of 30 days (3/3) · 100.0 % of all (3/3)
        storage      36 B in 3 backups (293.0 KiB raw)
        newest       00000000T000000Z-000001, 1 h 0 min ago
        oldest       0000-00-00, 2 d 1 h ago
        size         12 B
        documents    1,000
        duration     5 min 0 s
        throughput   333 B/s raw
        forecast     360 B in 30 backups on 0000-00-00, if backups of 12 B are made every day
        next expiry  00000000T000000Z-000002 on 0000-00-00, if backups go on

        DAY         BACKUPS  FAILED  SIZE       TOOK
        0000-00-00        1       0  12 B  5 min 0 s
        0000-00-00        1       0  12 B  5 min 0 s
        0000-00-00        1       0  12 B  5 min 0 s

        RUN                      STATUS     SIZE       TOOK  WHAT TO LOOK AT
        00000000T000000Z-000001  completed  12 B  5 min 0 s
        00000000T000000Z-000003  completed  12 B  5 min 0 s
        00000000T000000Z-000002  completed  12 B  5 min 0 s
    ");
    let mut json = place.run(&["stats", "--json"]).ends(0).json();
    let forecast = json["forecast"].as_array_mut().expect("a list");
    assert_eq!(forecast.len(), 31, "today, and the next 30 days");
    forecast.truncate(2);
    assert_snapshot!(normalize(&compact(&json), &place.home), @r#"
        {
          "version": 1,
          "job": "all@db1",
          "place": "[HOME]/backups",
          "at": "0000-00-00T00:00:00Z",
          "runs": {"running": 0, "completed": 3, "failed": 0, "interrupted": 0, "deleted": 0},
          "success": [
            {"days": 7, "made": 3, "ended": 3, "percent": 100.0},
            {"days": 30, "made": 3, "ended": 3, "percent": 100.0},
            {"days": null, "made": 3, "ended": 3, "percent": 100.0}
          ],
          "backups": 3,
          "backups_partial": 0,
          "backups_not_good": 0,
          "backups_lost": 0,
          "stored_bytes": 36,
          "raw_bytes": 300000,
          "newest": "00000000T000000Z-000001",
          "oldest_started_at": "0000-00-00T00:00:00Z",
          "size": {"first": 12.0, "last": 12.0, "least": 12.0, "most": 12.0, "median": 12.0, "per_day": 0.0},
          "documents": {"first": 1000.0, "last": 1000.0, "least": 1000.0, "most": 1000.0, "median": 1000.0, "per_day": 0.0},
          "seconds": {"first": 300.0, "last": 300.0, "least": 300.0, "most": 300.0, "median": 300.0, "per_day": 0.0},
          "raw_bytes_per_second": 333.3333333333333,
          "periods": [
            {
              "unit": "day",
              "start": "0000-00-00",
              "made": 1,
              "failed": 0,
              "stored_bytes": 12.0,
              "seconds": 300.0,
              "raw_bytes_per_second": 333.3333333333333,
              "mongodb_seconds": null,
              "compression_seconds": null,
              "store_seconds": null
            },
            {
              "unit": "day",
              "start": "0000-00-00",
              "made": 1,
              "failed": 0,
              "stored_bytes": 12.0,
              "seconds": 300.0,
              "raw_bytes_per_second": 333.3333333333333,
              "mongodb_seconds": null,
              "compression_seconds": null,
              "store_seconds": null
            },
            {
              "unit": "day",
              "start": "0000-00-00",
              "made": 1,
              "failed": 0,
              "stored_bytes": 12.0,
              "seconds": 300.0,
              "raw_bytes_per_second": 333.3333333333333,
              "mongodb_seconds": null,
              "compression_seconds": null,
              "store_seconds": null
            }
          ],
          "last": [
            {
              "id": "00000000T000000Z-000001",
              "status": "completed",
              "started_at": "0000-00-00T00:00:00Z",
              "finished_at": "0000-00-00T00:00:00Z",
              "documents": 1000,
              "raw_bytes": 100000,
              "stored_bytes": 12,
              "raw_bytes_per_second": 333.3333333333333,
              "timing": null,
              "slow": null,
              "error": null,
              "warnings": []
            },
            {
              "id": "00000000T000000Z-000002",
              "status": "completed",
              "started_at": "0000-00-00T00:00:00Z",
              "finished_at": "0000-00-00T00:00:00Z",
              "documents": 1000,
              "raw_bytes": 100000,
              "stored_bytes": 12,
              "raw_bytes_per_second": 333.3333333333333,
              "timing": null,
              "slow": null,
              "error": null,
              "warnings": []
            },
            {
              "id": "00000000T000000Z-000003",
              "status": "completed",
              "started_at": "0000-00-00T00:00:00Z",
              "finished_at": "0000-00-00T00:00:00Z",
              "documents": 1000,
              "raw_bytes": 100000,
              "stored_bytes": 12,
              "raw_bytes_per_second": 333.3333333333333,
              "timing": null,
              "slow": null,
              "error": null,
              "warnings": []
            }
          ],
          "days_without_a_run": [],
          "standing": {
            "newest_good": "00000000T000000Z-000001",
            "age_seconds": 0,
            "max_age_seconds": 108000,
            "fresh": true,
            "frozen": [],
            "problems": []
          },
          "forecast": [
            {"at": "0000-00-00T00:00:00Z", "backups": 3, "stored_bytes": 36},
            {"at": "0000-00-00T00:00:00Z", "backups": 4, "stored_bytes": 48}
          ],
          "kept": [
            {
              "id": "00000000T000000Z-000001",
              "until": "0000-00-00T00:00:00Z",
              "rule": "retention_days",
              "not_good": null
            },
            {
              "id": "00000000T000000Z-000002",
              "until": "0000-00-00T00:00:00Z",
              "rule": "retention_days",
              "not_good": null
            },
            {
              "id": "00000000T000000Z-000003",
              "until": "0000-00-00T00:00:00Z",
              "rule": "retention_days",
              "not_good": null
            }
          ],
          "drill": null,
          "next_expiry": {"id": "00000000T000000Z-000003", "at": "0000-00-00T00:00:00Z"},
          "restorable": null,
          "rpo_seconds": null
        }
    "#);
}

#[test]
fn pin_and_unpin_print_the_backup() {
    let place = Place::dir();
    place.nightly([0, 1]);
    assert_snapshot!(text(&place, &["pin", "latest", "--reason", "before the migration"]), @"
        exit code 0
        --- stdout
        00000000T000000Z-000001 is pinned: no cleanup deletes it
    ");
    assert_snapshot!(json(&place, &["pin", "latest"]), @r#"
        {
          "version": 1,
          "id": "00000000T000000Z-000001",
          "pinned": true,
          "doomed": false
        }
    "#);
    assert_snapshot!(text(&place, &["unpin", "latest"]), @"
        exit code 0
        --- stdout
        00000000T000000Z-000001 is not pinned: retention decides
    ");
    assert_snapshot!(json(&place, &["unpin", "latest"]), @r#"
        {
          "version": 1,
          "id": "00000000T000000Z-000001",
          "pinned": false,
          "doomed": false
        }
    "#);
}
