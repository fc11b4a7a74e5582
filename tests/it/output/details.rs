//! The output of `list ID`. The backups are written by the test, so that sizes and durations are always the same.

use chrono::{DurationRound, TimeDelta, Utc};
use insta::assert_snapshot;

use uzima_backup::catalog::layout;
use uzima_backup::catalog::marks::{FORMAT, FailedRun, Mark};
use uzima_backup::catalog::verdict::{Drill, Verdict};
use uzima_backup::model::losses::{Losses, NamespaceLoss};
use uzima_backup::model::manifest::{IndexEntry, Manifest, NamespaceEntry, OplogSlice, TOOL};
use uzima_backup::model::namespace::Type;
use uzima_backup::model::optime::OpTime;

use super::support::{all, compact, normalize};
use crate::cleanup::support::{Place, manifest};

fn text(place: &Place, args: &[&str]) -> String {
    normalize(&all(&place.run(args)), &place.home)
}

fn namespace(like: &NamespaceEntry, name: &str, documents: u64, indexes: &[&str]) -> NamespaceEntry {
    let (db, collection) = name.split_once('.').expect("a name");
    let index = |name: &&str| IndexEntry { name: name.to_string(), blake3: "x".into() };
    NamespaceEntry {
        db: db.into(),
        collection: collection.into(),
        documents,
        raw_bytes: documents * 1000,
        stored_bytes: documents * 300,
        indexes: indexes.iter().map(index).collect(),
        ..like.clone()
    }
}

/// A backup of last night that has everything that a backup can have.
fn rich() -> Manifest {
    let mut backup = manifest("nightly", 0);
    let like = backup.namespaces[0].clone();
    backup.namespaces = vec![
        namespace(&like, "blog.posts", 20, &["_id_", "text_1"]),
        namespace(
            &like,
            "shop.orders",
            90_000,
            &["_id_", "customer_1", "placed_at_-1_status_1", "sku_1_region_1"],
        ),
        NamespaceEntry { kind: Type::View, ..namespace(&like, "shop.recent", 0, &[]) },
    ];
    backup.namespaces.extend((0..22).map(|n| namespace(&like, &format!("logs.day{n:02}"), 1, &["_id_"])));
    backup.totals.namespaces = 25;
    backup.totals.documents = 90_042;
    backup.totals.raw_bytes = 90_042_000;
    backup.source.set_name = Some("rs0".into());
    backup.source.feature_compatibility_version = "8.0".parse().ok();
    let at = |t: u32| OpTime { t: t + 1_795_000_000, i: 1 };
    backup.consistency.achieved = "oplog".into();
    backup.consistency.why = "consistency = auto".into();
    backup.consistency.at = Some(at(300));
    backup.consistency.oplog = Some(OplogSlice {
        start: at(0),
        end: at(300),
        entries: 1200,
        raw_bytes: 240_000,
        stored_bytes: 50_000,
        xxh3_sum: "0".repeat(32),
    });
    backup.selection.exclude = vec!["shop.carts".into(), "tmp.*".into()];
    backup.warnings = vec!["collapsed: 90,042 documents where the last good backup had 200,000".into()];
    backup.notes = vec!["the cursor of shop.orders was lost; it was read on from the last document".into()];
    let since = "20261122T030000Z-b2x7nd".parse().expect("an id");
    let loss = |namespace: &str, documents_before, documents: Option<u64>| NamespaceLoss {
        namespace: namespace.into(),
        documents_before,
        documents,
        raw_bytes_before: documents_before * 1000,
        raw_bytes: documents.map(|documents| documents * 1000),
    };
    let losses = vec![loss("shop.orders", 190_000, Some(90_000)), loss("crm.l\u{202e}eads", 9_958, None)];
    backup.losses = Losses::new(since, losses);
    backup
}

fn put(place: &Place, key: &str, value: &impl serde::Serialize) {
    place.put(key, &serde_json::to_vec(value).expect("JSON"));
}

#[test]
fn list_with_an_id_shows_everything_about_a_backup() {
    let place = Place::dir();
    let backup = rich();
    place.add(&backup);
    let now = Utc::now().duration_trunc(TimeDelta::seconds(1)).expect("a time");
    let mark = Mark { format: FORMAT, id: backup.id.clone(), at: now, host: "db1".into(), reason: None };
    put(&place, &layout::accepted(&backup.id), &mark);
    put(&place, &layout::pin(&backup.id), &Mark { reason: Some("before the migration".into()), ..mark });
    let drill = Drill {
        at: now,
        target: "mongod".into(),
        version: "8.0.0".into(),
        oplog_entries: 1200,
        recovery_seconds: 9.0,
        index_seconds: 2.0,
        compare_seconds: 3.0,
        namespaces: 25,
        documents: 90_042,
        raw_bytes: 90_042_000,
        findings: vec![],
        notes: vec!["mongod was slow".into()],
        point: None,
    };
    let verdict = Verdict {
        format: FORMAT,
        id: backup.id.clone(),
        at: now,
        host: "db1".into(),
        tool: TOOL.into(),
        sound: true,
        findings: vec![],
        stored_bytes: 12,
        documents: 90_042,
        raw_bytes: 90_042_000,
        seconds: 4.0,
        without_key: false,
        drill: Some(drill),
    };
    put(&place, &layout::verified(&backup.id, now), &verdict);
    let shown = text(&place, &["list", backup.id.as_str()]);
    let seconds = regex::Regex::new(r"\b\d\.\d s ago").expect("a pattern");
    assert_snapshot!(seconds.replace_all(&shown, "0 s ago"), @"
        exit code 0
        --- stdout
        backup 00000000T000000Z-000001 of nightly: completed
          place         [HOME]/backups
          host          db1
          started       0000-00-00 00:00 UTC, 1 h 0 min ago
          ended         0000-00-00 00:00 UTC
          took          5 min 0 s, 293.1 KiB/s raw
          data          -
          contents      25 namespaces, 90,042 documents, 85.9 MiB raw, 12 B stored
          artifact      0000/00/00000000T000000Z-000001/dump.tar.gz
          format        tar.gz, level 5
          server        db1:27017, MongoDB [SERVER VERSION], replica set rs0
          engine        native (asked for)
          consistency   oplog: all data is as of 0000-00-00T00:00:00Z (consistency = auto)
          oplog slice   1,200 entries, 48.8 KiB stored, from 0000-00-00T00:00:00Z to 0000-00-00T00:00:00Z
          selection     all databases, without shop.carts, tmp.*
          made by       uzima-backup [VERSION]
          verified      sound, 0000-00-00 00:00 UTC, 0 s ago
          drill         no differences, 0000-00-00 00:00 UTC, 0 s ago, restored into mongod 8.0.0 in 9.0 s, 9.5 MiB/s raw
                        mongod was slow
          pinned        0000-00-00 00:00 UTC, on db1: before the migration
          accepted      0000-00-00 00:00 UTC, on db1
          needs a look  collapsed: 90,042 documents where the last good backup had 200,000
          note          the cursor of shop.orders was lost; it was read on from the last document

        NAMESPACE    DOCUMENTS       RAW    STORED  INDEXES
        shop.orders     90,000  85.8 MiB  25.7 MiB  4: _id_, customer_1, placed_at_-1_s…
        blog.posts          20  19.5 KiB   5.9 KiB  2: _id_, text_1
        logs.day00           1    1000 B     300 B  1: _id_
        logs.day01           1    1000 B     300 B  1: _id_
        logs.day02           1    1000 B     300 B  1: _id_
        logs.day03           1    1000 B     300 B  1: _id_
        logs.day04           1    1000 B     300 B  1: _id_
        logs.day05           1    1000 B     300 B  1: _id_
        logs.day06           1    1000 B     300 B  1: _id_
        logs.day07           1    1000 B     300 B  1: _id_
        logs.day08           1    1000 B     300 B  1: _id_
        logs.day09           1    1000 B     300 B  1: _id_
        logs.day10           1    1000 B     300 B  1: _id_
        logs.day11           1    1000 B     300 B  1: _id_
        logs.day12           1    1000 B     300 B  1: _id_
        logs.day13           1    1000 B     300 B  1: _id_
        logs.day14           1    1000 B     300 B  1: _id_
        logs.day15           1    1000 B     300 B  1: _id_
        logs.day16           1    1000 B     300 B  1: _id_
        logs.day17           1    1000 B     300 B  1: _id_
        and 5 smaller namespaces (--json lists all)

        vanished or shrank since the last good backup 00000000T000000Z-000002
        NAMESPACE                     BEFORE               NOW
        shop.orders        190,000 documents  90,000 documents
        crm.l\\u{202e}eads    9,958 documents          vanished
    ");
    assert_eq!(text(&place, &["list", "latest", "--job", "nightly"]).lines().count(), shown.lines().count());
    for line in shown.lines().filter(|line| line.contains(" KiB") && !line.contains("stored")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn list_with_an_id_and_json_has_the_row_and_the_manifest() {
    let place = Place::dir();
    let backup = place.nightly([0]).remove(0);
    let json = place.run(&["list", backup.id.as_str(), "--json"]).ends(0).json();
    assert_snapshot!(normalize(&compact(&json), &place.home), @r#"
        {
          "version": 1,
          "place": "[HOME]/backups",
          "backup": {
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
          "seconds": 300.0,
          "raw_bytes_per_second": 333.3333333333333,
          "manifest": {
            "format": 1,
            "id": "00000000T000000Z-000001",
            "job": "all@db1",
            "tool": "uzima-backup [VERSION]",
            "host": "[HOST]",
            "started_at": "0000-00-00T00:00:00Z",
            "finished_at": "0000-00-00T00:00:00Z",
            "source": {"topology": "standalone", "member": "db1:27017", "version": "[SERVER VERSION]"},
            "engine": {"name": "native", "why": "asked for"},
            "consistency": {"achieved": "none", "why": "x"},
            "selection": {
              "databases": [],
              "include": [],
              "exclude": []
            },
            "artifact": {
              "key": "0000/00/00000000T000000Z-000001/dump.tar.gz",
              "format": "tar.gz",
              "level": 5,
              "size": 12,
              "crc64nvme": "[CRC64]",
              "part_size": 8388608
            },
            "index": {
              "key": "0000/00/00000000T000000Z-000001/index.json.zst",
              "size": 5,
              "blake3": "[BLAKE3]"
            },
            "totals": {"namespaces": 1, "documents": 1000, "raw_bytes": 100000},
            "namespaces": [
              {
                "db": "shop",
                "collection": "orders",
                "type": "collection",
                "options_blake3": "x",
                "indexes": [],
                "documents": 1000,
                "raw_bytes": 100000,
                "stored_bytes": 1,
                "xxh3_sum": "[XXH3]"
              }
            ],
            "warnings": [],
            "notes": []
          },
          "verdict": null,
          "pin": null,
          "accepted": false,
          "acceptance": null,
          "being_deleted": false,
          "failure": null
        }
    "#);
    let list = place.run(&["list", "--json"]).ends(0).json();
    assert_eq!(json["backup"], list["backups"][0], "the row is the same");
}

#[test]
fn list_with_an_id_explains_a_failed_run_and_a_fault() {
    let place = Place::dir();
    let backups = place.nightly([1, 2, 3]);
    let id = manifest("nightly", 0).id;
    let failure = FailedRun {
        format: FORMAT,
        id: id.clone(),
        job: "nightly".into(),
        tool: TOOL.into(),
        host: "db1".into(),
        started_at: id.started(),
        failed_at: id.started() + TimeDelta::minutes(4),
        exit: 1,
        partial: None,
        error: "cannot read shop.orders: connection to db1:27017 was lost 5 times: timed out".into(),
        next_step: Some("See whether the server is up".into()),
        notes: vec!["waited 90 s for db1:27017".into()],
    };
    put(&place, &layout::failed(&id), &failure);
    assert_snapshot!(text(&place, &["list", id.as_str()]), @"
        exit code 0
        --- stdout
        run 00000000T000000Z-000001 of nightly: failed
          error         cannot read shop.orders: connection to db1:27017 was lost 5 times: timed out
          next step     See whether the server is up
          place         [HOME]/backups
          host          db1
          started       0000-00-00 00:00 UTC, 1 h 0 min ago
          ended         0000-00-00 00:00 UTC
          took          4 min 0 s
          note          waited 90 s for db1:27017
    ");
    place.put(&layout::manifest(&backups[0].id), b"{");
    assert_snapshot!(text(&place, &["list", backups[0].id.as_str()]), @"
        exit code 4
        --- stdout
        backup 00000000T000000Z-000001: unreadable manifest
          error         0000/00/00000000T000000Z-000001/manifest.json cannot be understood: EOF while parsing an object at line 1 column 1
          place         [HOME]/backups
          started       0000-00-00 00:00 UTC, 1 d 1 h ago
    ");
    place.put(&backups[1].artifact.key, b"short");
    assert_snapshot!(text(&place, &["list", backups[1].id.as_str()]), @"
        exit code 4
        --- stdout
        backup 00000000T000000Z-000001 of all@db1: damaged
          error         its artifact 0000/00/00000000T000000Z-000001/dump.tar.gz has 5 bytes, but the manifest says 12
          next step     if there is a copy of its file, put it back; `uzima-backup verify 00000000T000000Z-000001` then makes the backup count again
          place         [HOME]/backups
          host          db1
          started       0000-00-00 00:00 UTC, 2 d 1 h ago
          ended         0000-00-00 00:00 UTC
          took          5 min 0 s, 333 B/s raw
          data          -
          contents      1 namespace, 1,000 documents, 97.7 KiB raw, 12 B stored
          artifact      0000/00/00000000T000000Z-000001/dump.tar.gz
          format        tar.gz, level 5
          server        db1:27017, MongoDB 8.0.0
          engine        native (asked for)
          consistency   none: each collection was read at its own time (x)
          selection     all databases
          made by       uzima-backup [VERSION]
          verified      never

        NAMESPACE    DOCUMENTS       RAW  STORED  INDEXES
        shop.orders      1,000  97.7 KiB     1 B  none
    ");
    let beginning = place.run(&["list", &id.as_str()[..19]]).ends(0);
    assert!(beginning.stdout.starts_with(&format!("run {id} of nightly: failed\n")), "{beginning:?}");
    // The newest backup is shown as it is, whatever its state.
    let latest = place.run(&["list", "latest"]).ends(4);
    assert!(
        latest.stdout.starts_with(&format!("backup {}: unreadable manifest\n", backups[0].id)),
        "{latest:?}"
    );
    assert_snapshot!(text(&place, &["list", "20200101T000000Z-aaaaaa"]), @"
        exit code 1
        --- stderr
        error: there is no backup 00000000T000000Z-000001 in [HOME]/backups
        next step: Near it are 00000000T000000Z-000002 and 00000000T000000Z-000003. `uzima-backup list` shows the existing backups
    ");
    assert_snapshot!(text(&place, &["list", backups[2].id.as_str(), "--job", "other"]), @"
        exit code 2
        --- stderr
        error: the backup 00000000T000000Z-000001 is of the job all@db1
    ");
    assert_snapshot!(text(&place, &["list", backups[2].id.as_str(), "--limit", "3"]), @"
        exit code 2
        --- stderr
        error: the argument '[latest|ID]' cannot be used with '--limit <N>'
        next step: `uzima-backup list --help` shows the usage
    ");
}
