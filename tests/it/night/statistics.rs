//! `stats` of two backups, a failed run, a killed run and a deleted backup.

use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use regex::Regex;
use serde_json::{Value, json};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{JOB, Nights, holds};
use crate::cli::signals::{STALL, start, until};
use crate::cli::support::{NOWHERE, run};
use crate::output::support::{normalize, normalize_measured};
use crate::records::support::{of_each, server};

fn counts(stats: &Value) -> Vec<u64> {
    let of = |word| stats["runs"][word].as_u64().unwrap_or_else(|| panic!("{word} in {stats}"));
    ["running", "completed", "failed", "interrupted", "deleted"].map(of).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_counts_all_kinds_of_runs() {
    let ((server, client), nights) = (server().await, Nights::new().await);
    let recorded = |uri: &str, args: &[&str], code: i32| {
        let mut command = nights.home.to_dir(uri);
        command.env("BACKUP_RECORDS", server.uri()).env("BACKUP_JOB", JOB).env("BACKUP_KEEP_MIN", "1");
        run(command.args(args)).ends(code)
    };
    let uri = server.uri();
    recorded(&uri, &["backup"], 0);
    let old = nights.age_a_copy(40);
    recorded(&uri, &["backup", "--db", "shpo", "--job", JOB], 1);
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
    let mut command = nights.home.to_dir(&proxy.uri(&uri));
    command.env("BACKUP_RECORDS", &uri).env("BACKUP_JOB", JOB);
    let mut child = start(command.arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    while of_each(&client, "status").await[0] != "running" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let during_the_run = recorded(&uri, &["stats", "--json"], 0).json();
    assert_eq!(counts(&during_the_run), [1, 2, 1, 0, 0]);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    recorded(&uri, &["backup"], 0);
    let before = recorded(&uri, &["stats", "--json"], 0).json();
    assert_eq!(before["next_expiry"]["id"], old.id.as_str());
    recorded(NOWHERE, &["cleanup"], 0);

    let stats = recorded(NOWHERE, &["stats", "--json"], 0).json();
    assert_eq!(counts(&stats), [0, 2, 1, 1, 1], "{stats}");
    let [.., first, newest] = nights.home.manifests().try_into().map(|all: [_; 2]| all).expect("two backups");
    assert_eq!(stats["newest"], newest.id.as_str());
    assert_eq!((stats["job"].as_str(), stats["backups"].as_u64()), (Some(JOB), Some(2)));
    assert_eq!(stats["stored_bytes"], json!(first.artifact.size + newest.artifact.size));
    assert_eq!(stats["raw_bytes"], json!(first.totals.raw_bytes + newest.totals.raw_bytes));
    let success = |n: usize| (stats["success"][n]["made"].clone(), stats["success"][n]["ended"].clone());
    assert_eq!((success(0), success(2)), ((json!(2), json!(4)), (json!(3), json!(5))), "{stats}");
    let statuses: Vec<&str> =
        stats["last"].as_array().expect("a list").iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["completed", "interrupted", "failed", "completed", "deleted"]);
    let next = &stats["next_expiry"];
    assert_eq!(next["id"], first.id.as_str());
    let at: chrono::DateTime<chrono::Utc> = next["at"].as_str().expect("a time").parse().expect("a time");
    assert!((at - first.started_at).num_days() == 30, "{at} {}", first.started_at);

    // The store alone knows neither the killed run nor the deleted backup.
    let mut alone = nights.home.to_dir(NOWHERE);
    let alone = run(alone.env("BACKUP_JOB", JOB).env("BACKUP_KEEP_MIN", "1").args(["stats", "--json"]))
        .ends(0)
        .json();
    assert_eq!(counts(&alone), [0, 2, 1, 0, 0]);
    assert_eq!(alone["next_expiry"], stats["next_expiry"]);

    let text = recorded(&uri, &["stats"], 0).stdout;
    // The sizes and durations differ between two runs of the test, and with them the widths of the columns.
    let replace = |text: String, (pattern, with): (&str, &str)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, with).into_owned()
    };
    let measured = ("(?m)^(size|duration|throughput|waited|forecast) .*$", "$1 [MEASURED]");
    let shown =
        [measured, (r"\d+ min \d+ s", "1 s"), (" {2,}", "  ")].into_iter().fold(text.clone(), replace);
    assert_snapshot!(normalize_measured(&shown, &nights.home), @"
        job  nightly
        place  [HOME]/backups
        runs  2 completed, 1 failed, 1 interrupted, 1 deleted
        success  50.0 % of 7 days (2/4) · 50.0 % of 30 days (2/4) · 60.0 % of all (3/5)
        storage  [SIZE] in 2 backups ([SIZE] raw)
        newest  00000000T000000Z-000001, [TIME] ago
        oldest  0000-00-00, [TIME] ago
        size [MEASURED]
        documents  501
        duration [MEASURED]
        throughput [MEASURED]
        waited [MEASURED]
        forecast [MEASURED]
        next expiry  00000000T000000Z-000002 on 0000-00-00, if backups go on

        WEEK  BACKUPS  FAILED  SIZE  TOOK
        0000-00-00  2  2  [SIZE]  [TIME]
        0000-00-00  1  0  [SIZE]  [TIME]

        WEEK  RAW SPEED  MONGODB WAIT  COMPRESSION WAIT  STORE WAIT
        0000-00-00  [SIZE]/s  [TIME]  [TIME]  [TIME]
        0000-00-00  [SIZE]/s  [TIME]  [TIME]  [TIME]

        RUN  STATUS  SIZE  TOOK  WHAT TO LOOK AT
        00000000T000000Z-000001  completed  [SIZE]  [TIME]
        00000000T000000Z-000003  interrupted  -  -  killed, or its machine went down
        00000000T000000Z-000004  failed  -  [TIME]  the database 'shpo' does not exist on 127.0.0.1:00000 (next step: Check…
        00000000T000000Z-000002  completed  [SIZE]  [TIME]
        00000000T000000Z-000005  deleted  [SIZE]  [TIME]

        RUN  RAW SPEED  MONGODB WAIT  COMPRESSION WAIT  STORE WAIT  OTHER
        00000000T000000Z-000001  [SIZE]/s  [TIME]  [TIME]  [TIME]  [TIME]
        00000000T000000Z-000003  -  -  -  -  -
        00000000T000000Z-000004  -  -  -  -  -
        00000000T000000Z-000002  [SIZE]/s  [TIME]  [TIME]  [TIME]  [TIME]
        00000000T000000Z-000005  [SIZE]/s  [TIME]  [TIME]  [TIME]  [TIME]
    ");
    for line in text.lines() {
        assert!(line.chars().count() <= 160 && line.trim_end() == line, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_works_before_the_first_run() {
    let nights = Nights::new().await;
    let stats = nights.run(NOWHERE, &["stats", "--json"]).ends(0).json();
    assert_eq!((counts(&stats), stats["backups"].as_u64()), (vec![0; 5], Some(0)));
    assert_eq!(
        (&stats["newest"], &stats["next_expiry"], &stats["periods"]),
        (&json!(null), &json!(null), &json!([]))
    );
    let text = nights.run(NOWHERE, &["stats"]).ends(0).stdout;
    assert_snapshot!(normalize(&text, &nights.home), @"
        job          nightly
        place        [HOME]/backups
        runs         none yet
    ");
    nights.run(NOWHERE, &["stats", "--email"]).ends(0);
    holds(&nights.last().await, &["nightly: no run yet"]);
}

/// The page is written in addition to the other output. If it cannot be written, the other output is still
/// made.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_written_beside_the_other_output() {
    let (server, nights) = (server().await.0, Nights::new().await);
    nights.run(&server.uri(), &["backup"]).ends(0);
    let old = nights.age_a_copy(20);
    nights.run(&server.uri(), &["backup", "--db", "shpo", "--job", JOB]).ends(1);
    let page = nights.home.path().join("page.html");
    std::fs::write(&page, "the old page").expect("a file");
    let path = page.to_str().expect("a path");
    let mails = nights.mails().await.len();
    let stats = nights.run(NOWHERE, &["stats", "--json", "--email", "--html", path]).ends(0).json();
    assert_eq!(nights.mails().await.len(), mails + 1);
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"), "{html}");
    holds(&html, &["nightly: the last run made no backup", "&#39;shpo&#39; does not exist", old.id.as_str()]);
    assert_eq!(std::fs::metadata(&page).expect("a file").permissions().mode() & 0o777, 0o644);
    let beside = std::fs::read_dir(nights.home.path()).expect("a folder").flatten();
    assert!(beside.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("page.html.")));
    holds(&nights.last().await, &["nightly: the last run made no backup", "forecast"]);
    // The same in JSON: the backup is 20 days old and is kept for 30 days, so it is deleted in 10 days.
    let kept = &stats["kept"][1];
    assert_eq!((kept["id"].as_str(), kept["rule"].as_str()), (Some(old.id.as_str()), Some("retention_days")));
    let until: chrono::DateTime<chrono::Utc> =
        kept["until"].as_str().expect("a time").parse().expect("a time");
    assert!([30, 31].contains(&(until - old.started_at).num_days()), "{kept}");
    assert_eq!(stats["forecast"].as_array().map(Vec::len), Some(31));
    assert_eq!(stats["forecast"][0]["stored_bytes"], stats["stored_bytes"]);
    assert_eq!(stats["standing"]["fresh"], true);

    let nowhere = nights.home.path().join("none/page.html");
    for wrong in [nights.home.path(), &nowhere] {
        let ran = nights.run(NOWHERE, &["stats", "--html", wrong.to_str().expect("a path")]).ends(2);
        holds(&ran.stderr, &[&format!("--html {}: ", wrong.display()), "next step: "]);
    }
    // A folder that takes no file: the figures are printed and mailed.
    let mails = nights.mails().await.len();
    let ran = nights.run(NOWHERE, &["stats", "--email", "--html", "/proc/page.html"]).ends(1);
    holds(&ran.stderr, &["cannot write the page /proc/page.html: ", "next step: "]);
    holds(&ran.stdout, &["job          nightly\n"]);
    assert_eq!(nights.mails().await.len(), mails + 1);
}
