//! A person at a terminal is shown the plan and asked.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use uzima_testkit::read_all::read_all;

use super::support::{Backup, rows, server};

/// A terminal: the person's side, and the program's.
fn terminal() -> (File, OwnedFd) {
    let (mut person, mut program) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: the two numbers outlive the call, and the rest may be null.
    let opened = unsafe { libc::openpty(&mut person, &mut program, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0, "a terminal");
    // SAFETY: both were opened just now, and nobody else has them.
    unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) }
}

/// Runs a command whose question is answered; its exit code, and what was on the screen.
fn answered(mut command: Command, answer: &str) -> (Option<i32>, String) {
    let (mut person, program) = terminal();
    person.write_all(answer.as_bytes()).expect("an answer");
    command.stdin(program.try_clone().expect("a terminal")).stdout(Stdio::null()).stderr(program);
    let mut child = command.spawn().expect("the tool starts");
    let code = child.wait().expect("its end").code();
    // It holds the program's side open. Without one, reading ends with an error after what was said.
    drop(command);
    let mut screen = Vec::new();
    let _ = person.read_to_end(&mut screen);
    (code, String::from_utf8_lossy(&screen).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn yes_and_no() {
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
        assert!(screen.contains("nothing was touched"), "{screen}");
        assert_eq!(read_all(&live).await.expect("the target").namespaces.len(), 0);
    }
    let (code, screen) = restore("y\n");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(read_all(&live).await.expect("the target").documents(), 3);
}
