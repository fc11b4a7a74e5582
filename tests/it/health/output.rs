//! The printed report of `health`, and the choice of checks.

use super::support::{ALL, Health};
use crate::cleanup::support::Place;
use crate::cli::support::{Home, NOWHERE, run};

#[test]
fn each_check_has_a_line_with_its_next_step_below() {
    let home = Home::new();
    let ran = run(home.to_dir(NOWHERE).arg("health")).ends(5);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let checks: Vec<&&str> = lines.iter().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(checks.len(), ALL.len() + 1, "{}", ran.stdout);
    // The details start in one column.
    let column = lines[0].find("job ").expect("a detail");
    for (line, name) in checks.iter().zip(ALL) {
        // An outcome may have two words.
        let words = line.strip_prefix("not ").unwrap_or(line);
        assert_eq!(words.split_whitespace().nth(1), Some(name), "{line}");
        assert!(line.is_char_boundary(column) && line[..column].ends_with("  "), "{line}");
        assert!(!line[column..].starts_with(' '), "{line}");
    }
    let mongodb =
        lines.iter().position(|line| line.starts_with("failed") && line.contains("mongodb")).unwrap();
    assert!([" ms", " s"].iter().any(|unit| lines[mongodb].ends_with(unit)), "{}", lines[mongodb]);
    assert!(lines[mongodb + 1].trim_start().starts_with("next step: Check that MongoDB runs"));
    assert_eq!(*lines.last().unwrap(), "5 ok, 2 failed, 4 skipped, 2 not configured");
    let mut log: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(log.pop(), Some("unhealthy: mongodb, freshness"), "{}", ran.stderr);
    assert!(
        log.iter().all(|line| line.contains("MongoDB at 127.0.0.1:1")),
        "only waits are logged: {}",
        ran.stderr
    );
}

/// Cron mails the output: with `--quiet` it is the failed checks, their reasons and next steps.
#[test]
fn quiet_prints_only_failed_checks() {
    let home = Home::new();
    let ran = run(home.to_dir(NOWHERE).args(["health", "--quiet"])).ends(5);
    assert_eq!(ran.stdout, "");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ran.stderr);
    assert!(lines[0].starts_with("mongodb: cannot connect to MongoDB at 127.0.0.1:1"), "{}", lines[0]);
    assert!(lines[1].starts_with("next step: ") && lines[2].starts_with("freshness: there is no backup"));
    assert_eq!(lines[4], "unhealthy: mongodb, freshness");
}

#[test]
fn checks_can_be_chosen() {
    let place = Place::dir();
    let health = Health::of(&mut place.command(), &["--only", "state", "--only", "store"]).green();
    assert_eq!(health.with("ok"), ["store", "state"]);
    assert_eq!(health.report["checks"].as_array().map(Vec::len), Some(2));
    // Checks that depend on a skipped check still run.
    let rest: Vec<&str> =
        ALL.iter().filter(|name| **name != "freshness").flat_map(|name| ["--skip", name]).collect();
    Health::of(&mut place.command(), &rest).only("freshness", &["no backup"], &[]);
}

#[test]
fn an_unknown_check_is_a_usage_error() {
    let place = Place::dir();
    for flag in ["--skip", "--only"] {
        let ran = place.run(&["health", flag, "fresh"]).ends(2);
        let names: Vec<&str> = [&["'fresh'"][..], &ALL].concat();
        ran.says(&names);
    }
}

/// A report without any check would look healthy.
#[test]
fn choosing_no_check_is_a_usage_error() {
    let place = Place::dir();
    let all: Vec<&str> = ALL.iter().flat_map(|name| ["--skip", name]).collect();
    for args in [&all[..], &["--only", "store", "--skip", "store"]] {
        let ran = place.run(&[&["health"], args].concat()).ends(2);
        assert_eq!(ran.stdout, "");
        ran.says(&["--only and --skip leave no check to make"]);
    }
}

#[test]
fn a_full_standard_output_does_not_change_the_exit_code() {
    let place = Place::dir();
    for (only, code) in [("state", 0), ("freshness", 5)] {
        let mut tool = place.command();
        tool.args(["health", "--only", only]);
        tool.stderr(std::process::Stdio::null());
        tool.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(tool.status().unwrap().code(), Some(code));
    }
}
