//! A person at a terminal sees the plan and is asked for confirmation.

use std::process::Command;

use uzima_testkit::read_all::read_all;

use super::support::{Backup, rows, server};
use crate::cli::support::run;
use crate::cli::terminal::Terminal;

/// Starts a command at a terminal, and waits for its question.
fn asked(command: Command) -> Terminal {
    let mut terminal = Terminal::start(command, 80);
    terminal.until("Restore this? [y/N] ");
    terminal
}

/// Runs a command and answers its question. Returns the exit code and the text on the screen.
fn answered(command: Command, answer: &str) -> (Option<i32>, String) {
    let mut terminal = asked(command);
    terminal.types(answer.as_bytes());
    terminal.ends()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_ahead_only_after_the_answer_yes() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    let restore = |answer: &str| {
        let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
        command.env("RESTORE_URI", target.uri()).args(["restore", "latest"]);
        answered(command, answer)
    };
    for answer in ["n\n", "\n", "what\n"] {
        let (code, screen) = restore(answer);
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains("shop.orders: 3 documents") && screen.contains("[y/N]"), "{screen}");
        assert!(screen.contains("nothing was changed"), "{screen}");
        assert_eq!(read_all(&live).await.expect("the target").namespaces.len(), 0);
    }
    let (code, screen) = restore("y\n");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(read_all(&live).await.expect("the target").documents(), 3);
}

/// A read from a terminal cannot be interrupted, so the tool must not wait for it after a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_question_at_once_and_nothing_is_changed() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    let restore = || {
        let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
        command.env("RESTORE_URI", target.uri()).args(["restore", "latest"]);
        asked(command)
    };
    let ended = |(code, screen): (Option<i32>, String), wanted: i32, why: &str| {
        assert_eq!(code, Some(wanted), "{screen}");
        let error = format!("\r\nerror: {why}; nothing was changed\r\n");
        assert!(screen.ends_with(&error), "{screen}");
    };
    // Ctrl-C, also after the beginning of an answer.
    for typed in [&b"\x03"[..], b"y\x03"] {
        let mut terminal = restore();
        terminal.types(typed);
        ended(terminal.ends(), 130, "ended by SIGINT");
    }
    for (signal, code, why) in
        [(libc::SIGTERM, 143, "ended by SIGTERM"), (libc::SIGHUP, 129, "ended by SIGHUP")]
    {
        let terminal = restore();
        terminal.signals(signal);
        ended(terminal.ends(), code, why);
    }
    // Ctrl-D ends the input.
    let mut terminal = restore();
    terminal.types(b"\x04");
    ended(terminal.ends(), 1, "not restored, because the input ended without an answer");
    assert_eq!(read_all(&live).await.expect("the target").namespaces.len(), 0);
}

/// If the target is the server that is backed up, the plan says so before the question, and the next step
/// proposes another target before `--drop`.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_the_backed_up_server_says_so() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let restore = |args: &[&str]| {
        let mut command = backup.home.to_dir(&source.uri());
        command.args(["restore", "latest"]).args(args);
        command
    };
    let into = format!("into {}, the server that is backed up", source.host());
    let refused = run(&mut restore(&["--dry-run"])).ends(1);
    assert!(refused.stdout.contains(&into), "{}", refused.stdout);
    let refused =
        refused.says(&["the server that is backed up, has data already: shop.orders has 3 documents"]);
    let step = refused.stderr.split("next step: ").nth(1).expect("a next step");
    let at = |word: &str| step.find(word).unwrap_or_else(|| panic!("{word}: {step}"));
    assert!(at("RESTORE_URI") < at("--drop") && at("--ns-to") < at("--drop"), "{step}");
    let renames = ["--ns-from", "shop.*", "--ns-to", "rescue.*"];
    let (_, screen) = answered(restore(&renames), "n\n");
    assert!(screen.contains(&into), "{screen}");
    let ran = run(restore(&renames).arg("--yes")).ends(0);
    assert!(ran.stdout.contains("  shop.orders as rescue.orders\n"), "{}", ran.stdout);
    // With another target, the plan does not say so.
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..1).await;
    let other = run(restore(&["--yes"]).env("RESTORE_URI", target.uri())).ends(1);
    let other = other.says(&["has data already", "With --drop"]);
    assert!(!other.stderr.contains("backed up"), "{}", other.stderr);
}
