//! The log: the run id in its lines, the log file, and a full disk.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uzima_backup::model::id::BackupId;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Home, NOWHERE, TOOL, run, server_with_rows};

fn log(home: &Home) -> PathBuf {
    home.path().join("backup.log")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a log file")
}

/// Splits a line into level, run id in brackets, and text.
#[track_caller]
fn line(line: &str) -> (&str, Option<&str>, &str) {
    let (time, rest) = line.split_once(' ').expect("a time");
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok() && time.ends_with('Z'), "{line}");
    let (level, rest) = rest.split_at(5);
    let rest = rest.trim_start();
    match rest.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((run, text)) => (level.trim(), Some(run), text),
        None => (level.trim(), None, rest),
    }
}

#[tokio::test]
async fn every_log_line_names_its_run() {
    let (server, home) = (server_with_rows(2_500, 100).await, Home::new());
    let ran = run(home.to_dir(&server.uri()).args(["backup", "--log-file"]).arg(log(&home))).ends(0);
    let id = home.manifests()[0].id.to_string();
    let text = read(&log(&home));
    let lines: Vec<_> = text.lines().map(line).collect();
    assert!(lines.iter().any(|(level, _, text)| *level == "INFO" && text.starts_with("backing up ")));
    assert!(lines.iter().any(|(_, _, text)| *text == format!("backup {id} of {}", home.manifests()[0].job)));
    assert!(lines.len() > 4 && lines.iter().all(|(_, run, _)| *run == Some(&id)), "{text}");
    // Standard error has the same lines. The result is on standard output.
    assert!(!ran.stderr.is_empty() && text.starts_with(&ran.stderr), "{text}\n{}", ran.stderr);
    assert_eq!(std::fs::metadata(log(&home)).expect("a file").permissions().mode() & 0o027, 0);
    // The file is appended to. `--quiet` silences only standard error. A cleanup has a name in place of an
    // id.
    let quiet =
        run(home.to_dir(&server.uri()).args(["-q", "cleanup", "--job", "j", "--log-file"]).arg(log(&home)));
    assert_eq!(quiet.ends(3).stdout, "");
    let more = read(&log(&home));
    let added = more.strip_prefix(&text).expect("appended").lines().map(line).collect::<Vec<_>>();
    assert!(!added.is_empty() && added.iter().all(|(_, run, _)| *run == Some("cleanup j")), "{more}");
    let quiet = run(home.to_dir(&server.uri()).args(["-q", "backup", "--log-file"]).arg(log(&home))).ends(0);
    assert_eq!(quiet.stderr, "");
    let newest = home.manifests()[1].id.to_string();
    assert!(read(&log(&home)).contains(&format!("INFO  [{newest}] backing up")));
}

/// If a run makes a second attempt, each attempt has its own id.
#[tokio::test]
async fn a_second_attempt_is_logged_with_a_new_id() {
    let (server, home) = (server_with_rows(2_500, 100).await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    // Without resume tokens a lost cursor leads to a second attempt.
    proxy.without_resume_tokens(40415);
    proxy.add(Rule::on("getMore").namespace("shop.rows").times(1).then(Action::fail(43)));
    let ran = run(home.to_dir(&proxy.uri(&server.uri())).args(["backup", "--log-file"]).arg(log(&home)));
    let text = read(&log(&home));
    assert_eq!(ran.code, Some(0), "{text}");
    let mut ids: Vec<&str> = text.lines().filter_map(|l| line(l).1).collect();
    ids.dedup();
    assert_eq!((ids.len(), ids[1]), (2, home.manifests()[0].id.as_str()), "{text}");
    assert!(ids.iter().all(|id| id.parse::<BackupId>().is_ok()), "{ids:?}");
}

/// The error and the next step are in the file, too. Lines logged before the run has an id have no brackets.
#[test]
fn a_failure_is_written_to_the_log_file() {
    let home = Home::new();
    let tool = || {
        let mut command = home.to_dir(NOWHERE);
        command.arg("backup").env("BACKUP_LOG_FILE", log(&home));
        command
    };
    run(&mut tool()).ends(1);
    let text = read(&log(&home));
    let errors: Vec<_> = text.lines().map(line).filter(|(level, ..)| *level == "ERROR").collect();
    assert!(errors[0].2.starts_with("cannot connect to MongoDB") && errors[0].1.is_some(), "{text}");
    assert!(errors[1].2.starts_with("next step: Check that MongoDB runs"), "{text}");
    std::fs::remove_file(log(&home)).expect("gone");
    run(tool().env("BACKUP_FORMAT", "zip")).ends(2);
    let (level, run, text) = (read(&log(&home)), None::<&str>, "format = 'zip'");
    let first = line(level.lines().next().expect("a line"));
    assert_eq!((first.0, first.1, first.2.starts_with(text)), ("ERROR", run, true), "{level}");
}

/// `RUST_LOG` filters standard error and the file.
#[tokio::test]
async fn rust_log_filters_standard_error_and_the_log_file() {
    let (server, home) = (server_with_rows(2_500, 100).await, Home::new());
    let backup = |filter: &str| {
        let mut command = home.to_dir(&server.uri());
        run(command.env("RUST_LOG", filter).args(["backup", "--quiet", "--log-file"]).arg(log(&home))).ends(0)
    };
    let logged = |text: &str, level: &str| text.lines().any(|l| line(l).0 == level);
    let ran = backup("uzima_backup=debug");
    assert!(logged(&ran.stderr, "DEBUG") && logged(&read(&log(&home)), "DEBUG"), "{}", ran.stderr);
    std::fs::remove_file(log(&home)).expect("gone");
    let ran = backup("error");
    assert!(ran.stderr.is_empty() && !read(&log(&home)).contains("backing up"), "{}", read(&log(&home)));
}

#[test]
fn a_log_file_that_cannot_be_opened_is_a_usage_error() {
    let home = Home::new();
    for path in [home.path().join("none/x.log"), home.backups()] {
        let ran = run(home.to_dir(NOWHERE).env("BACKUP_LOG_FILE", &path).arg("backup")).ends(2);
        ran.says(&[&format!("cannot open the log file {}", path.display()), "next step: "]);
    }
    // A FIFO without a reader must not block the run.
    let pipe = home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    run(home.to_dir(NOWHERE).env("BACKUP_LOG_FILE", &pipe).arg("list")).ends(2);
    run(home.to_dir(NOWHERE).env("BACKUP_LOG_FILE", "x.log").arg("list")).ends(2).says(&["absolute path"]);
    let mut here = home.to_dir(NOWHERE);
    run(here.current_dir(home.path()).args(["list", "--log-file", "x.log"])).ends(0);
    assert!(home.path().join("x.log").exists());
}

/// A failing write to the log file is reported once and does not change the result.
#[tokio::test]
async fn a_log_file_on_a_full_disk_does_not_end_the_run() {
    let (server, home) = (server_with_rows(2_500, 100).await, Home::new());
    let ran = run(home.to_dir(&server.uri()).args(["-q", "backup", "--log-file", "/dev/full"])).ends(0);
    assert_eq!(ran.stderr.matches("the log file /dev/full cannot be written").count(), 1, "{}", ran.stderr);
    assert_eq!((ran.stderr.lines().count(), home.manifests().len()), (1, 1), "{}", ran.stderr);
}

/// After `copytruncate` the file continues at its new start.
#[tokio::test]
async fn a_truncated_log_file_continues_at_its_start() {
    let (server, home) = (server_with_rows(2_500, 100).await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled = proxy.add(
        Rule::on("find").namespace("shop.*").nth(1).then(Action::Stall(std::time::Duration::from_secs(2))),
    );
    let mut command = home.to_dir(&proxy.uri(&server.uri()));
    command.args(["backup", "--log-file"]).arg(log(&home)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    super::signals::until("it reads", || proxy.hits(stalled) == 1);
    assert!(read(&log(&home)).contains("backing up"));
    std::fs::OpenOptions::new().write(true).open(log(&home)).expect("a file").set_len(0).expect("cut");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    let text = read(&log(&home));
    assert!(!text.contains('\0') && text.lines().map(line).count() > 2, "{text:?}");
}

/// State folder, backups and log file are on a full disk. The run fails, and its error is printed without
/// using the disk.
#[tokio::test]
async fn a_run_with_all_folders_on_a_full_disk_fails_with_a_printed_error() {
    let (server, home) = (server_with_rows(2_500, 100).await, Home::new());
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$FULL" || exit 98
mkdir "$FULL/backups" && : > "$FULL/log" && dd if=/dev/zero of="$FULL/fill" bs=4k 2> /dev/null
"$TOOL" backup
code=$?
[ -s "$FULL/log" ] && exit 97
exit $code"#;
    let full = home.path().join("full");
    std::fs::create_dir(&full).expect("a folder");
    let tool = home.to_dir(&server.uri());
    let mut shell = Command::new("unshare");
    shell.args(["-m", "/bin/sh", "-c", script]).env_clear().current_dir("/").stdin(Stdio::null());
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TOOL", TOOL).env("FULL", &full);
    shell.env("BACKUP_DIR", full.join("backups")).env("BACKUP_LOG_FILE", full.join("log"));
    shell.env("UZIMA_BACKUP_STATE_DIR", full.join("state"));
    run(&mut shell).ends(1).says(&["error: cannot write ", "No space left on device", "next step: "]);
}
