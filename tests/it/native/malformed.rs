//! Answers that break the protocol.

use std::time::Duration;

use uzima_testkit::wire_proxy::{Action, Malformed, Rule, malform};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, rows};

const DOCUMENTS: i32 = 1_500;

/// Returns true if a malformed answer of this command does no harm: the driver ignores `responseTo`, because
/// a connection has only one pending command, and an answer without a cursor has no batch to break.
fn harmless(command: &str, how: Malformed) -> bool {
    let of_a_batch =
        matches!(how, Malformed::BatchDocumentLength(_) | Malformed::CursorIsNumber | Malformed::NoBatch);
    how == Malformed::ResponseTo || (of_a_batch && matches!(command, "hello" | "listDatabases" | "buildInfo"))
}

/// Sends each malformed answer to one command of each run, from its `nth` occurrence on.
async fn break_answers(command: &str, namespace: &str, nth: u64) {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 2_000)).await;
    // A malformed answer to a heartbeat shows as a server that cannot be selected.
    let uri = format!("{}&serverSelectionTimeoutMS=1500&connectTimeoutMS=1500", proxy.uri(&server.uri()));
    let seeds = [Malformed::Garbage(2), Malformed::Garbage(3)];
    for how in malform::ALL.into_iter().chain(seeds) {
        // A driver may wait for bytes that were announced and never come.
        let forever = how == Malformed::MessageLength(i32::MAX);
        // Some faults look like a broken connection, from which the scan resumes, so they occur only once.
        let read = matches!(command, "find" | "getMore");
        let times = if read || forever || how == Malformed::NoBody { 1 } else { u64::MAX };
        let rule = Rule::on(command).namespace(namespace).from(nth).times(times);
        let rule = proxy.add(rule.then(Action::Malform(how)));
        let shelf = Shelf::new();
        let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
            options.settings.stall = Duration::from_millis(if forever { 300 } else { 5_000 });
            options.settings.selection.databases = if namespace == "*" { vec![] } else { vec!["d".into()] };
        };
        let outcome = tokio::time::timeout(Duration::from_secs(60), shelf.run(&uri, change)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{command} {how:?} hangs"));
        assert!(proxy.hits(rule) > 0, "{command} {how:?}");
        proxy.clear();
        if let Ok(report) = &outcome
            && (harmless(command, how) || times == 1)
        {
            let went_on = report.manifest.notes.iter().any(|note| note.starts_with("continued reading d.c"));
            assert!(!read || went_on || harmless(command, how), "{command} {how:?} was not noticed");
            assert_eq!(ids(shelf.decode(report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
            continue;
        }
        assert!(!harmless(command, how), "{command} {how:?}: {:?}", outcome.err());
        let text = match outcome {
            Ok(report) => panic!("{command} {how:?} was not noticed: {:?}", report.manifest.namespaces),
            Err(error) => failed(Err(error)),
        };
        assert!(text.contains("MongoDB"), "{command} {how:?}: {text}");
        shelf.assert_nothing().await;
    }
}

#[tokio::test]
async fn malformed_answers_to_a_find_are_errors() {
    break_answers("find", "d.c", 1).await;
}

#[tokio::test]
async fn malformed_answers_to_a_resuming_find_are_errors() {
    break_answers("find", "d.c", 2).await;
}

#[tokio::test]
async fn malformed_answers_to_a_get_more_are_errors() {
    break_answers("getMore", "d.c", 1).await;
}

#[tokio::test]
async fn malformed_answers_to_list_collections_are_errors() {
    break_answers("listCollections", "d", 1).await;
    break_answers("listCollections", "d", 2).await;
}

#[tokio::test]
async fn malformed_answers_to_list_indexes_are_errors() {
    break_answers("listIndexes", "d.c", 1).await;
}

#[tokio::test]
async fn malformed_answers_to_list_databases_are_errors() {
    break_answers("listDatabases", "*", 1).await;
}

#[tokio::test]
async fn malformed_answers_to_hello_are_errors() {
    break_answers("hello", "*", 1).await;
}

/// The backup cannot notice a flipped bit in a value, because the protocol has no checksum there. But nothing
/// panics or hangs, and a failed run leaves nothing behind.
#[tokio::test]
async fn flipped_bits_never_cause_a_panic_or_a_hang() {
    let seed: u64 = rand::random::<u32>().into();
    println!("seed {seed}");
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 700, 100)).await;
    let uri = format!("{}&serverSelectionTimeoutMS=1500&connectTimeoutMS=1500", proxy.uri(&server.uri()));
    let mut failures = 0;
    for n in 0..60 {
        let command = ["find", "getMore", "listCollections", "listIndexes", "hello", "listDatabases"][n % 6];
        let rule = Rule::on(command).times(1).then(Action::Malform(Malformed::Flip(seed + n as u64)));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
            options.settings.stall = Duration::from_secs(2)
        };
        let outcome = tokio::time::timeout(Duration::from_secs(60), shelf.run(&uri, change)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{command} {n} hangs"));
        assert!(proxy.hits(rule) == 1 || command == "getMore", "{command} {n}");
        proxy.clear();
        if outcome.is_err() {
            failed(outcome);
            shelf.assert_nothing().await;
            failures += 1;
        }
    }
    assert!(failures >= 1, "none of 60 was noticed");
}
