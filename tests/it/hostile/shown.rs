//! Names that contain control characters of a terminal or forged lines. They are escaped everywhere, except in JSON
//! values.

use std::path::Path;

use uzima_backup::base::escape::steers;
use uzima_backup::catalog::layout;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, Ran, run};

/// Sets the window's title, reverses the text direction, and starts lines of its own.
const EVIL: &str = "a\u{1b}]0;owned\u{7}\u{202e}\u{9b}2J\r\nnext step: evil\n2026-11-24T03:00:00Z INFO  evil";

/// Asserts that the text contains no control character and no forged line.
#[track_caller]
fn is_harmless(text: &str) {
    let bad: Vec<char> = text.chars().filter(|c| steers(*c) && *c != '\n').collect();
    assert!(bad.is_empty(), "{bad:?} in {text:?}");
    for line in text.lines() {
        assert!(
            !line.starts_with("next step: evil") && !line.ends_with("INFO  evil") || line.contains("\\n"),
            "{text:?}"
        );
        assert!(!line.starts_with("2026-11-24T03:00:00Z"), "{text:?}");
    }
}

#[track_caller]
fn harmless(ran: Ran) -> Ran {
    is_harmless(&ran.stdout);
    is_harmless(&ran.stderr);
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_steer_a_terminal_are_escaped_in_all_output_and_logs() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let rows = client.database("shop").collection(EVIL);
    rows.insert_many((0..100).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    let home = Home::new();
    let log = home.path().join("log");
    let tool = |args: &[&str]| {
        let mut command = home.to_dir(&server.uri());
        command.env("BACKUP_LOG_FILE", &log).env("RESTORE_URI", server.uri());
        harmless(run(command.args(args)))
    };
    let shown = "shop.a\\u{1b}]0;owned\\u{7}\\u{202e}\\u{9b}2J\\r\\nnext step: evil";
    let plan = tool(&["backup", "--dry-run", "--db", "shop"]).ends(0);
    assert!(plan.stdout.contains(shown), "{}", plan.stdout);
    tool(&["backup", "--job", EVIL, "-vv"]);
    tool(&["backup", "--job", "nightly", "-vv"]).ends(0);
    let missing = tool(&["backup", "--db", "no\u{1b}[2J\nnext step: evil"]).ends(2);
    assert!(missing.stderr.contains("no\\u{1b}[2J\\n"), "{}", missing.stderr);
    let manifest = home.manifests().pop().expect("a manifest");
    let restore = tool(&["restore", manifest.id.as_str(), "--dry-run", "--ns-include", "shop.*"]);
    assert!(restore.stdout.contains(shown) || restore.stderr.contains(shown), "{restore:?}");

    // Messages of a hostile bucket.
    let path = home.backups().join(layout::manifest(&manifest.id));
    let mut changed = manifest.clone();
    changed.job = EVIL.into();
    changed.host = EVIL.into();
    changed.warnings.push(EVIL.into());
    changed.notes.push(EVIL.into());
    changed.engine.name = EVIL.into();
    changed.consistency.achieved = EVIL.into();
    std::fs::write(&path, changed.encode().expect("JSON")).expect("a file");
    tool(&["list"]);
    let list = tool(&["list", manifest.id.as_str()]);
    assert!(list.stdout.contains("a\\u{1b}]0;owned"), "{}", list.stdout);
    let json = tool(&["list", "--json"]);
    assert_eq!(json.json()["backups"][0]["job"], EVIL, "the value is kept");
    let artifact = home.backups().join(&manifest.artifact.key);
    let mut bytes = std::fs::read(&artifact).expect("the artifact");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&artifact, bytes).expect("a file");
    let verify = tool(&["verify", manifest.id.as_str()]).ends(4);
    assert!(verify.stdout.contains("a\\u{1b}]0;owned"), "{}", verify.stdout);
    std::fs::write(&path, format!("{{\"format\":1,\"id\":{:?}", EVIL)).expect("a file");
    tool(&["list"]);
    tool(&["verify", "--all"]);
    for args in [
        &["stats"][..],
        &["stats", "--job", EVIL],
        &["cleanup", "--dry-run", "--job", EVIL],
        &["health", "--job", EVIL],
    ] {
        tool(args);
    }
    check_log(&log);
}

/// Asserts that every line of a log starts with its time and its level.
#[track_caller]
fn check_log(log: &Path) {
    let text = std::fs::read_to_string(log).expect("a log");
    is_harmless(&text);
    assert!(text.contains("\\u{1b}]0;owned"), "{text}");
    for line in text.lines() {
        let level = line.get(21..26).unwrap_or_default().trim_end();
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level), "{line:?}");
    }
}
