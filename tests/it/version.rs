//! `--version`, and the commit in its output.

use std::path::Path;
use std::process::Command;

use crate::cli::support::{bare, run};

#[path = "../../build.rs"]
#[allow(dead_code, reason = "its main is for cargo")]
mod build;

#[test]
fn the_short_flag_prints_one_line_and_the_long_one_everything() {
    let version = env!("CARGO_PKG_VERSION");
    let short = run(bare().arg("-V")).ends(0).stdout;
    assert_eq!(short, format!("uzima-backup {version}\n"));
    let long = run(bare().arg("--version")).ends(0).stdout;
    let lines: Vec<&str> = long.lines().collect();
    assert!(lines[0].starts_with(&format!("uzima-backup {version} (")) && lines[0].ends_with(')'), "{long}");
    let names: Vec<&str> = lines[1..].iter().map(|line| line.split_once(": ").expect("a list").0).collect();
    assert_eq!(names, ["engines", "formats", "stores"]);
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(folder).args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(args);
    run(&mut git).ends(0).stdout.trim().to_string()
}

#[test]
fn the_commit_is_that_of_the_checkout() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    git(root, &["init", "-q"]);
    assert!(build::commit(root).is_none(), "nothing is committed yet");
    let mut seen = Vec::new();
    for message in ["one", "two"] {
        git(root, &["commit", "-q", "--allow-empty", "-m", message]);
        let commit = build::commit(root).expect("a commit");
        assert!(git(root, &["rev-parse", "HEAD"]).starts_with(&commit.id) && commit.id.len() == 12);
        seen.push(std::fs::read(&commit.moves).expect("the file that cargo looks at"));
    }
    assert_ne!(seen[0], seen[1], "a new commit is noticed");
    // A tarball that was unpacked inside the checkout.
    let inside = root.join("tarball");
    std::fs::create_dir(&inside).expect("a folder");
    assert!(build::commit(&inside).is_none());
}
