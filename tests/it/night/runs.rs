//! Backups and cleanups that succeed, fail, and recover: their mails and exit codes.

use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use uzima_testkit::mongod::{Mongod, percent_encode};
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{JOB, Nights, holds, server};
use crate::cli::s3::to_s3;
use crate::cli::signals::{STALL, start, until};
use crate::cli::support::{NOWHERE, TOOL, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_backup_is_mailed() {
    let (server, nights) = (server().await, Nights::new().await);
    let report = nights.run(&server.uri(), &["backup", "--json"]).ends(0).json();
    let id = report["id"].as_str().expect("an id");
    assert_eq!(nights.subjects().await, [format!("backup done: {JOB} ({id})")]);
    let place = report["place"].as_str().expect("a place");
    let stored = uzima_backup::base::units::bytes(report["stored_bytes"].as_u64().expect("a size"));
    let documents = format!("{} documents in {} namespaces", report["documents"], report["namespaces"]);
    holds(&nights.last().await, &[id, JOB, place, &stored, &documents]);
    assert_eq!(nights.mails().await[0]["to"], serde_json::json!(["ops@example.com"]));
    nights.run(&server.uri(), &["backup", "--dry-run"]).ends(0);
    assert_eq!(nights.mails().await.len(), 1, "a dry run sends no mail");
}

/// The mail agrees with the exit code.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_could_not_be_recorded_is_mailed_with_the_reason() {
    let (server, nights) = (Mongod::builder().auth().start().await.expect("mongod"), Nights::new().await);
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    server.create_user("b", "pw", &[("backup", "admin")]).await.expect("a user");
    let mut command = nights.tool(&server.uri_as("b", "pw", "admin"));
    run(command.env_remove("BACKUP_RECORDS").args(["backup", "--quiet"])).ends(3);
    assert!(nights.subjects().await[0].starts_with("backup done, needs a look: "));
    holds(&nights.last().await, &["the run could not be recorded: ", "grantRolesToUser"]);
}

/// The mail has the last log lines of the run whose id is in the subject.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_mailed_with_the_last_log_lines() {
    let (server, nights, bucket) = (server().await, Nights::new().await, S3Server::start());
    bucket.faults().add(S3Rule::always("UploadPart", Fault::Answer(403, "AccessDenied")));
    let mut command = to_s3(&nights.home, &server.uri(), &bucket);
    nights.mailing(&mut command);
    let ran = run(command.env("BACKUP_JOB", JOB).arg("backup")).ends(1);
    let line = ran.stderr.lines().find(|line| line.contains("backing up")).expect("a line of the log");
    holds(&nights.last().await, &[line, "AccessDenied", "s3:PutObject"]);
    let id = line.split(['[', ']']).nth(1).expect("an id");
    assert_eq!(nights.subjects().await, [format!("backup failed: {JOB} ({id})")]);
}

/// The mail has the chain of causes, the next step, and the exit code of the failure.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_is_mailed_with_its_exit_code() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    server.create_user("b", "pw", &[("backup", "admin")]).await.expect("a user");
    let wrong = format!("mongodb://b:{}@{}/?authSource=admin", percent_encode("no"), server.host());
    for (uri, variable, code, words) in [
        (NOWHERE, ("BACKUP_JOB", JOB), 1, ["127.0.0.1:1", "connection refused"]),
        (&wrong, ("BACKUP_JOB", JOB), 1, ["'b' was refused", "Check user, password and authSource"]),
        (NOWHERE, ("BACKUP_FORMAT", "rar"), 2, ["BACKUP_FORMAT", "archive.zst"]),
        ("mongo://h", ("BACKUP_JOB", JOB), 2, ["mongo_uri is not a valid", "mongodb://user"]),
    ] {
        let nights = Nights::new().await;
        let ran = run(nights.tool(uri).env(variable.0, variable.1).arg("backup")).ends(code);
        let [mail] = nights.mails().await.try_into().expect("one mail");
        let subject = mail["subject"].as_str().expect("a text");
        assert!(subject.starts_with(&format!("[uzima-backup] backup failed: {JOB} (")), "{subject}");
        let text = mail["text"].as_str().expect("a text");
        // The text of a mail is wrapped.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        holds(&flat, &words);
        holds(text, &[&format!("{code}\n")]);
        let step = ran.stderr.lines().find_map(|line| line.strip_prefix("next step: "));
        if let Some(step) = step {
            holds(&flat, &[&step.split_whitespace().collect::<Vec<_>>().join(" ")]);
        }
        if code == 1 {
            assert!(step.is_some(), "{}", ran.stderr);
        }
        // With a wrong MongoDB setting the store is still readable.
        holds(&flat, &["Newest good backup there is none"]);
        let word = words[0].rsplit('\'').next().expect("a word").trim();
        holds(mail["html"].as_str().expect("a page"), &[word]);
    }
}
#[tokio::test(flavor = "multi_thread")]
async fn of_two_failures_on_a_day_the_first_and_the_recovery_are_mailed() {
    let (server, nights) = (server().await, Nights::new().await);
    for _ in 0..2 {
        nights.run(NOWHERE, &["backup"]).ends(1);
    }
    nights.run(&server.uri(), &["backup"]).ends(0);
    nights.run(&server.uri(), &["backup"]).ends(0);
    let subjects = nights.subjects().await;
    let starts: Vec<&str> = subjects.iter().map(|s| s.split(" (").next().expect("a start")).collect();
    assert_eq!(starts, ["backup failed: nightly", "backup works again: nightly", "backup done: nightly"]);
    let recovered = nights.mails().await[1]["text"].to_string();
    holds(&recovered, &["2 runs in a row"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_selected_events_are_mailed() {
    let (server, nights) = (server().await, Nights::new().await);
    let night = |uri: &str, notify: &str, code| {
        run(nights.tool(uri).env("BACKUP_NOTIFY", notify).arg("backup")).ends(code);
    };
    night(&server.uri(), "failure,recovered", 0);
    night(NOWHERE, "success", 1);
    assert_eq!(nights.mails().await.len(), 0);
    night(NOWHERE, "failure,recovered", 1);
    night(&server.uri(), "failure,recovered", 0);
    night(&server.uri(), "success", 0);
    let subjects = nights.subjects().await;
    assert!(subjects[0].starts_with("backup failed"), "{subjects:?}");
    assert!(subjects[1].starts_with("backup works again"), "{subjects:?}");
    assert!(subjects[2].starts_with("backup done") && subjects.len() == 3, "{subjects:?}");
}

/// A busy lock is not mailed while there is a fresh backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_lock_is_mailed_only_without_a_fresh_backup() {
    let (server, nights) = (server().await, Nights::new().await);
    nights.run(&server.uri(), &["backup"]).ends(0);
    let old = nights.age_a_copy(3);
    let fresh = nights.home.manifests().pop().expect("a backup");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
    let mut first = start(nights.tool(&proxy.uri(&server.uri())).arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    nights.run(&server.uri(), &["backup"]).ends(75);
    assert_eq!(nights.mails().await.len(), 1, "there is a fresh backup");
    nights.take_away(&fresh);
    assert_eq!(nights.home.manifests()[0].id, old.id);
    nights.run(&server.uri(), &["backup"]).ends(75);
    let subjects = nights.subjects().await;
    assert!(subjects[1].starts_with("backup failed, the newest good one is 3 days old"), "{subjects:?}");
    holds(&nights.last().await, &["another backup of nightly is under way", "75\n"]);
    first.kill().expect("a kill");
    first.wait().expect("its end");
}

/// The 10 s after a signal are enough for the mail, if the service is as fast as usual.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ended_by_a_signal_is_mailed() {
    let (server, nights) = (server().await, Nights::new().await);
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
    let child = start(nights.tool(&proxy.uri(&server.uri())).arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    crate::cli::signals::ends_by(child, libc::SIGTERM, 143);
    assert!(nights.subjects().await[0].starts_with("backup failed: nightly (2"));
    holds(&nights.last().await, &["SIGTERM", "143\n"]);
}

/// A silent service does not delay the end of a run after a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_mail_service_does_not_delay_the_end_after_a_signal() {
    let slow = || crate::notify::support::accepted().set_delay(STALL);
    let (server, nights) = (server().await, Nights::answering(vec![slow()]).await);
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
    let child = start(nights.tool(&proxy.uri(&server.uri())).arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    crate::cli::signals::ends_by(child, libc::SIGTERM, 143);
    // When the signal comes the backup is complete: it is good, and only the mail is missing.
    let child = start(nights.tool(&server.uri()).arg("backup"));
    let asked = || async { nights.mails().await.len() };
    while asked().await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    crate::cli::signals::ends_by(child, libc::SIGTERM, 3);
    assert_eq!(nights.home.manifests().len(), 1);
}

/// Bucket and mail service both stall, and the run still ends in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_bucket_and_mail_service_do_not_delay_the_end_after_a_signal() {
    let slow = crate::notify::support::accepted().set_delay(STALL);
    let (server, nights, bucket) = (server().await, Nights::answering(vec![slow]).await, S3Server::start());
    bucket.faults().add(S3Rule::from(1, "UploadPart", Fault::Delay(STALL)));
    for operation in ["AbortMultipartUpload", "PutObject", "DeleteObject"] {
        bucket.faults().add(S3Rule::always(operation, Fault::Delay(STALL)));
    }
    let mut command = to_s3(&nights.home, &server.uri(), &bucket);
    nights.mailing(&mut command);
    let child = start(command.arg("backup"));
    until("a part stalls", || bucket.count("UploadPart") > 0);
    crate::cli::signals::ends_by(child, libc::SIGTERM, 143);
}

fn cleanup(nights: &Nights, args: &[&str], code: i32) {
    // MongoDB is unreachable, because a cleanup needs only the store.
    let mut command = nights.tool(NOWHERE);
    run(command.env("BACKUP_KEEP_MIN", "1").arg("cleanup").args(args)).ends(code);
}

/// A cleanup that deletes what is due each night is part of the next mail about a backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_routine_cleanup_is_part_of_the_next_mail_about_a_backup() {
    let (server, nights) = (server().await, Nights::new().await);
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    let old = nights.age_a_copy(40);
    cleanup(&nights, &[], 0);
    assert!(nights.home.manifests().iter().all(|manifest| manifest.id != old.id));
    assert_eq!(nights.subjects().await, Vec::<String>::new());
    // A failure does not mention the cleanup, and does not use the line up.
    nights.run(NOWHERE, &["backup"]).ends(1);
    assert!(!nights.last().await.contains("Cleanup"));
    nights.run(&server.uri(), &["backup"]).ends(0);
    let text = nights.last().await.split_whitespace().collect::<Vec<_>>().join(" ");
    holds(&text, &["Cleanup ", ": 1 backup deleted, ", " freed; 1 backup kept, "]);
    nights.run(&server.uri(), &["backup"]).ends(0);
    assert!(!nights.last().await.contains("Cleanup"), "once");
    assert_eq!(nights.mails().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_mails_what_it_deleted_if_the_setting_names_it() {
    let (server, nights) = (server().await, Nights::new().await);
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    cleanup(&nights, &[], 0);
    assert_eq!(nights.subjects().await, Vec::<String>::new(), "a cleanup with nothing to do sends no mail");
    let old = nights.age_a_copy(40);
    let cleanup = |nights: &Nights, args: &[&str], code| {
        let mut command = nights.tool(NOWHERE);
        command.env("BACKUP_KEEP_MIN", "1").env("BACKUP_NOTIFY", "success,cleanup");
        run(command.arg("cleanup").args(args)).ends(code);
    };
    cleanup(&nights, &["--dry-run"], 0);
    assert_eq!(nights.subjects().await, Vec::<String>::new(), "nothing was done");
    cleanup(&nights, &[], 0);
    assert_eq!(nights.subjects().await, [format!("cleanup done, 1 deleted: {JOB}")]);
    holds(&nights.last().await, &[old.id.as_str(), "40 d", nights.home.backups().to_str().expect("a path")]);
    assert_eq!(nights.home.manifests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_cleanup_is_mailed_once_a_day() {
    let (server, nights) = (server().await, Nights::new().await);
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    nights.age_a_copy(40);
    // The newest backup lost nearly all documents.
    let client = server.client().await.expect("a client");
    let rows = client.database("shop").collection::<bson::Document>("rows");
    rows.delete_many(bson::doc! {"_id": {"$gt": 5}}).await.expect("a deletion");
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(3);
    cleanup(&nights, &[], 3);
    cleanup(&nights, &[], 3);
    assert_eq!(nights.subjects().await, [format!("cleanup frozen: {JOB}")]);
    let newest = nights.home.manifests().pop().expect("a backup").id.to_string();
    let text = nights.last().await.split_whitespace().collect::<Vec<_>>().join(" ");
    holds(&text, &["collapsed", &newest, "uzima-backup cleanup --dry-run", "1 of 3 backups"]);
    cleanup(&nights, &["--accept", &newest], 0);
    assert_eq!(nights.subjects().await[1..], [format!("cleanup works again: {JOB}")]);
    assert_eq!(nights.home.manifests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_cleanup_is_mailed() {
    let nights = Nights::new().await;
    let file = nights.home.path().join("file");
    std::fs::write(&file, "").expect("a file");
    run(nights.tool(NOWHERE).env("BACKUP_DIR", &file).arg("cleanup")).ends(1);
    run(nights.tool(NOWHERE).env("BACKUP_RETENTION_DAYS", "no").arg("cleanup")).ends(2);
    assert_eq!(nights.subjects().await, [format!("cleanup failed: {JOB}")], "one a day");
    holds(&nights.last().await, &[file.to_str().expect("a path")]);
}

/// The state folder is on a full disk: two failures and a success are all mailed.
#[tokio::test(flavor = "multi_thread")]
async fn mails_are_sent_although_the_state_directory_is_full() {
    let (server, nights) = (server().await, Nights::new().await);
    let script = r#"mount -t tmpfs -o size=64k tmpfs "$FULL" || exit 98
dd if=/dev/zero of="$FULL/fill" bs=4k 2> /dev/null
MONGO_URI="$DOWN" "$TOOL" backup; [ $? = 1 ] || exit 97
MONGO_URI="$DOWN" "$TOOL" backup; [ $? = 1 ] || exit 96
[ -e "$FULL/notify.json" ] && exit 95
exec "$TOOL" backup"#;
    let full = nights.home.path().join("full");
    std::fs::create_dir(&full).expect("a folder");
    let tool = nights.tool(&server.uri());
    let mut shell = Command::new("unshare");
    shell.args(["-Urm", "/bin/sh", "-c", script]).env_clear().current_dir("/").stdin(Stdio::null());
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TOOL", TOOL).env("FULL", &full);
    shell.env("DOWN", NOWHERE).env("UZIMA_BACKUP_STATE_DIR", &full);
    run(&mut shell).ends(0).says(&["a mail may be sent too often", "No space left on device"]);
    let subjects = nights.subjects().await;
    // A failure that cannot be remembered is mailed again.
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    assert!(subjects[..2].iter().all(|s| s.starts_with("backup failed: nightly (2")), "{subjects:?}");
    assert!(subjects[2].starts_with("backup done: nightly (2"), "{subjects:?}");
    holds(&nights.mails().await[0]["text"].to_string(), &["127.0.0.1:1"]);
}

/// A time zone whose clocks go back from summer to winter time one second after `now`, so that the hour
/// before comes twice.
fn going_back(now: DateTime<Utc>) -> String {
    let local = now + TimeDelta::hours(2) + TimeDelta::seconds(1);
    let time = format!("{}:{}:{}", local.hour(), local.minute(), local.second());
    // The day of the year, counted from 0, including the leap day.
    format!("WIN-1SUM-2,{}/0,{}/{time}", (local.ordinal0() + 183) % 365, local.ordinal0())
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_logs_and_mails_are_in_utc_in_every_time_zone() {
    let (server, nights) = (server().await, Nights::new().await);
    let back = going_back(Utc::now());
    let zones = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", back.as_str()];
    let began = Utc::now();
    let mut ids = Vec::new();
    for (n, zone) in zones.into_iter().enumerate() {
        let log = nights.home.path().join(format!("log{n}"));
        let mut command = nights.tool(&server.uri());
        command.env("TZ", zone).env("BACKUP_LOG_FILE", &log).args(["backup", "--json"]);
        let report = run(&mut command).ends(0).json();
        let (id, ended) = (report["id"].as_str().expect("an id").to_string(), Utc::now());
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap_or_else(|e| panic!("{e}: {text}"));
        let within = |at: DateTime<Utc>| began - TimeDelta::seconds(1) <= at && at <= ended;
        let started = time(report["started_at"].as_str().expect("a time"));
        assert!(within(started), "{zone}: {started}");
        assert_eq!(id[..16], started.format("%Y%m%dT%H%M%SZ").to_string(), "{zone}");
        let lines = std::fs::read_to_string(&log).expect("a log");
        assert!(lines.lines().count() > 2, "{lines}");
        for line in lines.lines() {
            let at = line.split(' ').next().expect("a time");
            assert!(at.ends_with('Z') && within(time(at)), "{zone}: {line}");
        }
        let mail = nights.last().await;
        holds(&mail, &[&id, &started.format("%Y-%m-%d %H:%M UTC").to_string()]);
        ids.push(id);
    }
    let mut sorted = ids.clone();
    sorted.sort_by_key(|id| id[..16].to_string());
    sorted.dedup();
    assert_eq!(sorted, ids, "they are unique, and in the order in which they were made");
    let mut listed = nights.tool(&server.uri());
    let listed = run(listed.env("TZ", "Asia/Kolkata").args(["list", "--json"])).ends(0).json();
    let first = listed["backups"].as_array().and_then(|rows| rows.last()).expect("a row");
    assert_eq!(first["id"], ids[0].as_str());
    assert!(first["started_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");
}
