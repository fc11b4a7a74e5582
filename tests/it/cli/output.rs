//! The output of `backup` and `list` as text and as JSON, compared with the stored backups.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use serde_json::{Value, json};
use uzima_testkit::mongod::Mongod;

use super::support::{Home, NOWHERE, bare, files, run};
use crate::output::support::{compact, normalize_measured};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    for (db, n) in [("shop", 3), ("blog", 2)] {
        let rows = (0..n).map(|n| bson::doc! {"_id": n, "text": "x".repeat(100)});
        client.database(db).collection("rows").insert_many(rows).await.expect("rows");
    }
    server
}

#[tokio::test]
async fn backup_and_list_print_the_stored_backup() {
    let (server, home) = (server().await, Home::new());
    let nothing = run(home.to_dir(&server.uri()).arg("list")).ends(0);
    assert_eq!(nothing.stdout, format!("no backups in {}\n", home.backups().display()));
    let nothing = run(home.to_dir(&server.uri()).args(["list", "--json"])).ends(0);
    let place = home.backups().display().to_string();
    assert_eq!(nothing.json(), json!({"version": 1, "place": place, "backups": [], "oplog": []}));

    let done = run(home.to_dir(&server.uri()).args(["backup", "--json", "--job", "first"])).ends(0);
    let report = done.json();
    let manifest = &home.manifests()[0];
    // Three namespaces: admin.system.version with one document, and the two collections with five.
    assert_snapshot!(normalize_measured(&compact(&report), &home), @r#"
        {
          "version": 1,
          "id": "00000000T000000Z-000001",
          "job": "first",
          "place": "[HOME]/backups/0000/00/00000000T000000Z-000001/dump.tar.gz",
          "started_at": "0000-00-00T00:00:00Z",
          "finished_at": "0000-00-00T00:00:00Z",
          "engine": "native",
          "consistency": "none",
          "namespaces": 3,
          "documents": 6,
          "raw_bytes": 0,
          "stored_bytes": 0,
          "timing": "[TIMING]",
          "warnings": [],
          "notes": [],
          "losses": null,
          "problems": []
        }
    "#);
    assert_eq!(report["id"], json!(manifest.id));
    assert_eq!(report["raw_bytes"], json!(manifest.totals.raw_bytes));
    let stored = std::fs::metadata(home.backups().join(&manifest.artifact.key)).expect("the artifact").len();
    assert_eq!(report["stored_bytes"], json!(stored));

    let human = run(home.to_dir(&server.uri()).args(["backup", "--job", "second"])).ends(0);
    assert_snapshot!(normalize_measured(&human.stdout, &home), @"
        backup 00000000T000000Z-000001 of second
          3 namespaces, 6 documents, [SIZE] raw, [SIZE] stored, in [TIME]
          engine native, consistency none
          [HOME]/backups/0000/00/00000000T000000Z-000001/dump.tar.gz
    ");
    let quiet = run(home.to_dir(&server.uri()).args(["backup", "--quiet"])).ends(0);
    assert_eq!((&*quiet.stdout, &*quiet.stderr), ("", ""));
    let verbose = run(home.to_dir(&server.uri()).args(["backup", "-v"])).ends(0);
    assert!(verbose.stderr.contains("] backing up 3 namespaces"), "{}", verbose.stderr);
    assert!(verbose.stderr.lines().count() > human.stderr.lines().count(), "{}", verbose.stderr);
    listed(&home);
    damaged(&home);
}

/// With `--quiet`, exit code 3 still prints the reason.
#[tokio::test]
async fn a_suspicious_backup_prints_the_reason_even_when_quiet() {
    let (server, home) = (server().await, Home::new());
    run(home.to_dir(&server.uri()).arg("backup")).ends(0);
    let client = server.client().await.expect("a client");
    client.database("shop").drop().await.expect("a drop");
    let quiet = run(home.to_dir(&server.uri()).args(["backup", "--quiet"])).ends(3);
    assert_eq!(quiet.stdout, "");
    let lines: Vec<&str> = quiet.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("needs a look: collapsed: "), "{}", quiet.stderr);
    let listed = run(home.to_dir(NOWHERE).arg("list")).ends(0).stdout;
    assert!(listed.lines().nth(1).is_some_and(|line| line.ends_with("  collapsed")), "{listed}");
}

/// A namespace that vanished is a note, however small it was.
#[tokio::test]
async fn a_vanished_namespace_is_logged_and_listed() {
    let (server, home) = (server().await, Home::new());
    let client = server.client().await.expect("a client");
    client.database("shop").create_collection("drafts").await.expect("a collection");
    run(home.to_dir(&server.uri()).arg("backup")).ends(0);
    client.database("shop").collection::<bson::Document>("drafts").drop().await.expect("a drop");
    let backup = run(home.to_dir(&server.uri()).arg("backup")).ends(0);
    backup.says(&["since the last good backup 2", ": shop.drafts with 0 documents vanished"]);
    let listed = run(home.to_dir(NOWHERE).arg("list")).ends(0).stdout;
    assert!(listed.lines().nth(1).is_some_and(|line| line.ends_with("  vanished")), "{listed}");
    let newest = run(home.to_dir(NOWHERE).args(["list", "latest"])).ends(0).stdout;
    assert!(newest.contains("vanished or shrank since the last good backup 2"), "{newest}");
}

/// `list` shows the newest backup of all jobs first; `--job` and `--limit` narrow the list.
fn listed(home: &Home) {
    let list = |args: &[&str]| run(home.to_dir(NOWHERE).arg("list").args(args)).ends(0);
    let ids = |value: &Value| -> Vec<String> {
        let rows = value["backups"].as_array().expect("a list");
        rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = list(&["--json"]).json();
    // Backups of the same second have no order.
    let mut manifests = home.manifests();
    manifests.sort_by_key(|m| std::cmp::Reverse(m.started_at));
    let newest_first: Vec<String> = manifests.iter().map(|m| m.id.to_string()).collect();
    assert_eq!(newest_first.len(), 4);
    assert_eq!(ids(&all), newest_first);
    let first = home.manifests().into_iter().find(|m| m.job == "first").expect("the first job's");
    let row = all["backups"].as_array().expect("a list").iter().find(|row| row["id"] == json!(first.id));
    let expected = json!({
        "id": first.id, "status": "completed", "pinned": false, "pin_reason": null, "job": "first", "host": first.host,
        "started_at": first.started_at, "finished_at": first.finished_at,
        "namespaces": 3, "documents": 6, "raw_bytes": first.totals.raw_bytes,
        "stored_bytes": first.artifact.size, "format": "tar.gz", "engine": "native",
        "consistency": "none", "key": first.artifact.key, "timing": first.timing, "warnings": [], "losses": null, "verified": null, "error": null,
    });
    assert_eq!(row, Some(&expected));
    assert_eq!(ids(&list(&["--json", "--job", "first"]).json()), [first.id.to_string()]);
    assert_eq!(ids(&list(&["--json", "--limit", "2"]).json()), newest_first[..2]);
    let human = list(&[]).stdout;
    let lines: Vec<&str> = human.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains("  DOCUMENTS"), "{human}");
    for (line, id) in lines[1..].iter().zip(&newest_first) {
        assert!(line.starts_with(id.as_str()) && line.contains("  completed  "), "{human}");
    }
    assert_eq!(list(&["--quiet"]).stdout, "");
    let other = list(&["--job", "third"]).stdout;
    assert_eq!(other, format!("no backups of the job third in {}\n", home.backups().display()));
}

/// An unreadable manifest is listed, the other backups are listed, too, and the exit code is 4.
fn damaged(home: &Home) {
    let all = home.manifests();
    let path = home.backups().join(format!("2{}", &all[1].artifact.key[1..])).with_file_name("manifest.json");
    std::fs::write(&path, "{\"format\": 1, \"id\": ").expect("damage");
    let listed = run(home.to_dir(NOWHERE).args(["list", "--json"])).ends(4).json();
    let rows = listed["backups"].as_array().expect("a list");
    assert_eq!(rows.len(), 4);
    let hit = rows.iter().find(|row| row["status"] == "unreadable_manifest").expect("an unreadable one");
    assert_eq!(keys(hit), ["id", "status", "pinned", "pin_reason", "key", "error"].into_iter().collect());
    assert_eq!(hit["id"], json!(all[1].id));
    assert!(path.ends_with(hit["key"].as_str().expect("a key")));
    assert_eq!(rows.iter().filter(|row| row["status"] == "completed").count(), 3);
    let human = run(home.to_dir(NOWHERE).arg("list")).ends(4).stdout;
    let line = human.lines().find(|line| line.starts_with(all[1].id.as_str())).expect("its line");
    assert!(line.contains("  unreadable manifest: EOF while"), "{human}");
    // An unreadable manifest may belong to any job, so it is listed with every `--job`.
    let of_job = run(home.to_dir(NOWHERE).args(["list", "--job", "first"])).ends(4).stdout;
    assert_eq!(of_job.lines().count(), 3, "{of_job}");
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let (server, home) = (server().await, Home::new());
    let plan = run(home.to_dir(&server.uri()).args(["backup", "--dry-run", "--json"])).ends(0).json();
    assert_snapshot!(normalize_measured(&compact(&plan), &home), @r#"
        {
          "version": 1,
          "member": "127.0.0.1:00000",
          "server_version": "[SERVER VERSION]",
          "feature_compatibility_version": "[SERVER VERSION]",
          "engine": "native: engine = native",
          "shortfall": "a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()",
          "namespaces": ["admin.system.version", "blog.rows", "shop.rows"],
          "raw_bytes": 0,
          "warnings": []
        }
    "#);
    assert_eq!(plan["member"], json!(server.host()));
    let human = run(home.to_dir(&server.uri()).args(["backup", "--dry-run", "--db", "shop"])).ends(0).stdout;
    assert_snapshot!(normalize_measured(&human, &home), @"
        shop.rows
        would read 1 namespace, [SIZE] raw, of 127.0.0.1:00000 (MongoDB [SERVER VERSION]) with native: engine = native
        each collection would be read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()
    ");
    // Patterns choose a part of the data, and the estimate counts only that part.
    let whole = plan["raw_bytes"].as_u64().expect("an estimate");
    let some = ["backup", "--dry-run", "--json", "--include", "shop.*"];
    let some = run(home.to_dir(&server.uri()).args(some)).ends(0).json();
    assert!((1..whole).contains(&some["raw_bytes"].as_u64().expect("an estimate")), "{some} of {whole}");
    // A dry run refuses whatever the backup would refuse.
    run(home.to_dir(&server.uri()).args(["backup", "--dry-run", "--exclude", "*.rows"]))
        .ends(1)
        .says(&["no collections", "--allow-empty"]);
    assert_eq!(files(home.path()), Vec::<String>::new());
    assert!(!home.state().exists());
}

#[test]
fn listing_a_directory_does_not_create_it() {
    let home = Home::new();
    let typo = home.path().join("typo");
    let list = |command: &mut std::process::Command| run(command.args(["list", "--dir"]).arg(&typo));
    list(&mut home.to_dir(NOWHERE)).ends(1).says(&["no backup directory", "next step"]);
    assert!(!typo.exists());
}

#[test]
fn help_names_variables_examples_and_exit_codes() {
    let help =
        |args: &[&str]| run(bare().args(args)).ends(0).stdout.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    assert_snapshot!(help(&["--help"]), @"
        MongoDB backups that restore: one streamed, checked artifact to S3 or a directory

        Usage: uzima-backup [OPTIONS] <COMMAND>

        Commands:
          init      Write a configuration file for this machine, try it, and install the schedule
          backup    Dump a MongoDB server into one artifact in the bucket or directory
          oplog     Store what the server wrote since the last run, in slices of its oplog
          restore   Restore a backup, or chosen namespaces of it, into a server
          get       Print documents of one collection of a backup
          list      List the backups that exist, and the runs that made none, or show everything about one
                    of them
          cleanup   Delete backups that are older than necessary, never the last good ones
          copy      Copy backups and oplog slices to the places that lack them
          pin       Protect a backup from every cleanup
          unpin     Let retention decide on a backup again
          verify    Read a backup again, and compare every byte with its manifest
          diff      Show what changed between two backups
          stats     Show the statistics of a job
          timeline  Show which points in time can be restored, and what happened when
          health    Check that tonight's backup will work, and that there is a good one
          notify    Send a sample of each mail and signal, or write the mails to files
          keygen    Make a key for encrypted or signed backups
          config    Show the merged settings and where each came from, without secrets
          help      Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Global options:
              --config <FILE>    Read this configuration file instead of /etc/uzima-backup/config.toml
              --json             Print the result as JSON on standard output
          -q, --quiet            Print only errors
              --log-file <FILE>  Also append the log and the result to this file; rotate it with logrotate's
                                 copytruncate
          -v, --verbose...       Log more; given twice, log everything (RUST_LOG is more selective)

        Settings come from flags, then the environment, then /etc/uzima-backup/config.toml (or --config, or
        UZIMA_BACKUP_CONFIG). `uzima-backup config` shows all of them and where each came from.

        Examples:
          uzima-backup init --dir /var/backups/mongodb
          uzima-backup backup
          uzima-backup list
          uzima-backup verify
          uzima-backup restore latest --dry-run

        Exit codes: 0 done · 1 failed; nothing new was stored · 2 wrong usage or configuration; nothing was
        attempted · 3 the backup (or cleanup) is good, but something needs a look · 4 stored data does not
        match its manifest · 5 a health check found something wrong · 6 a key is missing or wrong · 75
        another run of this job and operation is under way (--wait waits for it) · 128 + n ended by signal
        n; nothing new was stored
    ");
    assert_snapshot!(help(&["pin", "--help"]), @"
        Protect a backup from every cleanup

        Usage: uzima-backup pin [OPTIONS] <latest|ID>

        Arguments:
          <latest|ID>  `latest`, an id or its beginning, or a date or time in UTC: the newest good backup
                       that was complete by then

        Options:
              --job <NAME>     Only backups of this job
              --dir <DIR>      The directory of the backups
              --place <NAME>   The place of the backups by its name: `first`, or the name of a copy
              --reason <TEXT>  Why the backup is pinned, for people
          -h, --help           Print help

        Global options:
              --config <FILE>    Read this configuration file instead of /etc/uzima-backup/config.toml
              --json             Print the result as JSON on standard output
          -q, --quiet            Print only errors
              --log-file <FILE>  Also append the log and the result to this file; rotate it with logrotate's
                                 copytruncate
          -v, --verbose...       Log more; given twice, log everything (RUST_LOG is more selective)

        Examples:
          uzima-backup pin latest --reason 'before the migration'
          uzima-backup pin 20261123T030000Z-7k3q9d

        Exit codes: 0 the backup is pinned in every place that has it · 1 there is no such backup, or it
        could not be pinned · 2 wrong usage or configuration · 3 a cleanup may still delete it, or it could
        not be pinned in one of several places
    ");
}
