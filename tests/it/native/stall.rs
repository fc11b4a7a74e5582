//! MongoDB keeps the connection open and stops answering.

use std::time::{Duration, Instant};

use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, only, rows};
use crate::cli::support::{Home, run};

const SILENCE: Action = Action::Stall(Duration::from_secs(600));

#[tokio::test]
async fn a_read_that_hangs_is_resumed() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 1_500, 2_000)).await;
    for command in ["find", "getMore"] {
        let rule = proxy.add(Rule::on(command).namespace("d.c").nth(1).then(SILENCE));
        let shelf = Shelf::new();
        let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
            options.settings.stall = Duration::from_secs(2)
        };
        let report = shelf.run(&proxy.uri(&server.uri()), change).await.expect("a backup");
        assert_eq!(proxy.hits(rule), 1);
        assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..1_500).collect::<Vec<_>>());
        let notes = &report.manifest.notes;
        assert!(notes.len() == 1 && notes[0].contains("no answer within 2 s"), "{notes:?}");
        proxy.clear();
    }
}

#[tokio::test]
async fn a_command_that_hangs_fails_the_run() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 10, 10)).await;
    for command in ["listDatabases", "listCollections", "listIndexes", "buildInfo"] {
        let rule = proxy.add(Rule::on(command).then(SILENCE));
        let shelf = Shelf::new();
        let start = Instant::now();
        let text =
            failed(shelf.run(&proxy.uri(&server.uri()), |o| o.settings.stall = Duration::from_secs(1)).await);
        assert!(proxy.hits(rule) >= 1 && start.elapsed() < Duration::from_secs(20), "{command}: {text}");
        assert!(text.contains("no answer within 1 s"), "{command}: {text}");
        shelf.assert_nothing().await;
        proxy.clear();
    }
    // The estimate may fail without failing the backup.
    let rule = proxy.add(Rule::on("dbStats").then(SILENCE));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), |o| o.settings.stall = Duration::from_secs(1)).await;
    assert!(report.is_ok() && proxy.hits(rule) >= 1);
}

#[tokio::test]
async fn a_connection_lost_between_two_commands_does_no_harm() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 10, 10)).await;
    for (command, nth) in
        [("listDatabases", 1), ("listCollections", 1), ("listIndexes", 1), ("listDatabases", 2)]
    {
        for action in [Action::Close, Action::CutAnswer(30)] {
            let rule = proxy.add(Rule::on(command).nth(nth).then(action));
            let shelf = Shelf::new();
            let report = shelf.run(&proxy.uri(&server.uri()), only(&[])).await;
            let report = report.unwrap_or_else(|e| panic!("{command} {nth}: {}", e.chain()));
            assert_eq!(proxy.hits(rule), 1, "{command} {nth}");
            assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..10).collect::<Vec<_>>());
            proxy.clear();
        }
    }
}

/// The process is killed while more data is expected.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_names_the_dead_server_during_the_wait() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 1_500, 2_000)).await;
    let pid = server.pid().expect("it runs") as i32;
    let kill = Action::edit(move |answer| {
        // SAFETY: the call takes no pointer, and the process belongs to this test.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        answer.to_vec()
    });
    let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(1).then(kill));
    let (host, home) = (proxy.host(0).to_string(), Home::new());
    let uri = format!("mongodb://{host}/?serverSelectionTimeoutMS=500");
    let mut command = home.to_dir(&uri);
    let ran = run(command.env("BACKUP_PATIENCE", "4").args(["backup", "--engine", "native"])).ends(1);
    assert_eq!(proxy.hits(rule), 1);
    let named: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("waiting for MongoDB")).collect();
    let wanted = format!("waiting for MongoDB at {host} for up to 4.0 s (BACKUP_PATIENCE): ");
    assert!(named[0].contains(&wanted), "{}", ran.stderr);
    ran.says(&[&format!("cannot connect to MongoDB at {host}, tried again for "), "next step: "]);
}

/// Every answer comes in time, but none contains a document.
#[tokio::test]
async fn a_cursor_that_returns_only_empty_batches_counts_as_hanging() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 1_500, 2_000)).await;
    let empty = |batch: &'static str| {
        Action::edit(move |_| {
            let cursor = bson::doc! {"id": 4_711_i64, "ns": "d.c", batch: []};
            let answer = bson::doc! {"cursor": cursor, "ok": 1.0};
            bson::RawDocumentBuf::try_from(&answer).expect("BSON").into_bytes()
        })
    };
    for command in ["getMore", "listCollections", "listIndexes"] {
        let first = if command == "getMore" { "nextBatch" } else { "firstBatch" };
        proxy.add(Rule::on(command).then(empty(first)));
        proxy.add(Rule::on("getMore").then(empty("nextBatch")));
        let shelf = Shelf::new();
        let start = Instant::now();
        let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
            options.settings.stall = Duration::from_secs(1);
            options.settings.patience = uzima_backup::base::retry::Patience::new(Duration::from_millis(100));
        };
        let outcome = shelf.run(&proxy.uri(&server.uri()), change).await;
        if command == "getMore" {
            // A new cursor starts with documents, so the scan resumes from those.
            let report = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
            let notes = report.manifest.notes.join("\n");
            assert!(notes.contains("no document within 1 s, only empty batches"), "{notes}");
            assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..1_500).collect::<Vec<_>>());
        } else {
            let text = failed(outcome);
            assert!(text.contains("within 1 s"), "{command}: {text}");
            shelf.assert_nothing().await;
        }
        assert!(start.elapsed() >= Duration::from_secs(1), "{command}");
        proxy.clear();
    }
}
