//! A person at a terminal sees the plan and is asked for confirmation.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use uzima_testkit::read_all::read_all;

use super::support::{Backup, rows, server};
use crate::cli::support::run;

/// A pseudo-terminal: the person's side and the program's side.
fn terminal() -> (File, OwnedFd) {
    let (mut person, mut program) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: the two file descriptors outlive the call, and the other pointers may be null.
    let opened = unsafe { libc::openpty(&mut person, &mut program, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0, "a terminal");
    // SAFETY: both descriptors were just opened, and nothing else owns them.
    unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) }
}

/// Runs a command and answers its question. Returns the exit code and the text on the screen.
fn answered(mut command: Command, answer: &str) -> (Option<i32>, String) {
    let (mut person, program) = terminal();
    person.write_all(answer.as_bytes()).expect("an answer");
    command.stdin(program.try_clone().expect("a terminal")).stdout(Stdio::null()).stderr(program);
    let mut child = command.spawn().expect("the tool starts");
    let code = child.wait().expect("its end").code();
    // The command holds the program's side open. Once it is closed, reading ends with an error after the last
    // output.
    drop(command);
    let mut screen = Vec::new();
    let _ = person.read_to_end(&mut screen);
    (code, String::from_utf8_lossy(&screen).into_owned())
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
