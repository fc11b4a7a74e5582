//! The metrics file for Prometheus.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use uzima_testkit::mongod::binary::on_path;

use super::support::{JOB, Signalled, exposition, problems, reported};
use crate::cli::support::{NOWHERE, TOOL, run};
use crate::night::support::{holds, server};

/// The metrics that a failure changes, and those that it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_success_a_failure_and_another_job_are_written() {
    let (server, signalled) = (server().await, Signalled::new().await);
    let before = chrono::Utc::now().timestamp() as f64;
    let report = reported(&mut signalled.measuring(&server.uri()), &["backup"], 0);
    let good = signalled.figures(JOB);
    for (name, field) in [
        ("last_success_stored_bytes", "stored_bytes"),
        ("last_success_raw_bytes", "raw_bytes"),
        ("last_success_documents", "documents"),
        ("last_success_namespaces", "namespaces"),
    ] {
        assert_eq!(good[name], report[field].as_f64().expect("a number"), "{name}");
    }
    for (name, field) in [
        ("data_duration_seconds", "seconds"),
        ("waited_seconds mongodb", "mongodb_seconds"),
        ("waited_seconds compression", "compression_seconds"),
        ("waited_seconds store", "store_seconds"),
    ] {
        let timing = report["timing"][field].as_f64().expect("a number");
        assert_eq!(good[&format!("last_success_{name}")], timing, "{name}");
    }
    let succeeded = good["last_success_timestamp_seconds"];
    assert!(succeeded >= before && succeeded < before + 60.0, "{succeeded}");
    assert!(good["last_run_duration_seconds"] > 0.0);
    assert_eq!((good["last_run_exit_code"], good["last_run_success"]), (0.0, 1.0));
    let mode = std::fs::metadata(signalled.metrics()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    run(signalled.measuring(NOWHERE).arg("backup")).ends(1);
    let bad = signalled.figures(JOB);
    assert_eq!((bad["last_run_exit_code"], bad["last_run_success"]), (1.0, 0.0));
    assert!(bad["last_run_timestamp_seconds"] > good["last_run_timestamp_seconds"]);
    for name in good.keys().filter(|name| name.starts_with("last_success_")) {
        assert_eq!(bad[name], good[name], "{name}");
    }

    // Exit code 3 is a success that needs a look.
    let mut other = signalled.measuring(&server.uri());
    run(other.env("BACKUP_JOB", "other").env("BACKUP_RECORDS", NOWHERE).arg("backup")).ends(3);
    let other = signalled.figures("other");
    assert_eq!((other["last_run_exit_code"], other["last_run_success"]), (3.0, 1.0));
    assert_eq!(signalled.figures(JOB), bad, "the other job's are as they were");
    let names = std::fs::read_dir(signalled.metrics().parent().expect("a folder")).expect("a folder");
    assert_eq!(names.count(), 1, "nothing is left beside it");
    checked(&std::fs::read_to_string(signalled.metrics()).expect("a file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_cleanup_are_written() {
    let (server, signalled) = (server().await, Signalled::new().await);
    run(signalled.measuring(&server.uri()).arg("backup")).ends(0);
    let backup = signalled.figures(JOB);
    run(signalled.measuring(&server.uri()).arg("cleanup")).ends(0);
    let cleaned = signalled.figures(JOB);
    assert_eq!(cleaned["cleanup_kept_backups"], 1.0);
    assert_eq!(cleaned["cleanup_deleted_backups"], 0.0);
    assert_eq!(cleaned["cleanup_kept_bytes"], backup["last_success_stored_bytes"]);
    assert_eq!(cleaned["cleanup_last_run_success"], 1.0);
    assert_eq!(cleaned["last_run_timestamp_seconds"], backup["last_run_timestamp_seconds"]);
    run(signalled.measuring(&server.uri()).env("BACKUP_DIR", "/dev/null/x").arg("cleanup")).ends(1);
    let failed = signalled.figures(JOB);
    assert_eq!(failed["cleanup_last_run_success"], 0.0);
    let success = "cleanup_last_success_timestamp_seconds";
    assert_eq!(failed[success], cleaned[success]);
    checked(&std::fs::read_to_string(signalled.metrics()).expect("a file"));
    run(signalled.measuring(&server.uri()).args(["cleanup", "--dry-run"])).ends(0);
    assert_eq!(signalled.figures(JOB), failed, "a dry run is no run");
}

/// The metric has the process's exit code, even if only a notification failed.
#[tokio::test(flavor = "multi_thread")]
async fn the_metric_has_the_exit_code_of_the_process() {
    let (server, signalled) = (server().await, Signalled::silent().await);
    run(signalled.measuring(&server.uri()).env("WEBHOOK_URL", signalled.webhook_url()).arg("backup")).ends(3);
    assert_eq!(signalled.figures(JOB)["last_run_exit_code"], 3.0);
}

/// Sound lines of the file stay, and damaged ones are reported.
#[tokio::test(flavor = "multi_thread")]
async fn sound_lines_of_a_damaged_metrics_file_are_kept() {
    let (server, signalled) = (server().await, Signalled::new().await);
    run(signalled.measuring(&server.uri()).env("BACKUP_JOB", "other").arg("backup")).ends(0);
    let other = signalled.figures("other");
    let mut file = std::fs::OpenOptions::new().append(true).open(signalled.metrics()).expect("a file");
    file.write_all(b"\0\xff\nuzima_backup_last_run_exit_code{backup_job=\"cut\"} 1").expect("damage");
    let report = reported(&mut signalled.measuring(&server.uri()), &["backup"], 3);
    let [problem] = problems(&report).try_into().expect("one problem");
    holds(&problem, &["metrics_file: left out 2 damaged lines of /"]);
    assert_eq!(signalled.figures("other"), other);
    assert_eq!(signalled.figures(JOB)["last_run_success"], 1.0);
    run(signalled.measuring(&server.uri()).arg("backup")).ends(0);

    // After a file without any sound line, a failed run does not write a time of the last success.
    std::fs::write(signalled.metrics(), "\0\0\0\0").expect("a file");
    run(signalled.measuring(NOWHERE).arg("backup")).ends(1).says(&["WARN", "left out 1 damaged line of "]);
    assert!(!signalled.figures(JOB).contains_key("last_success_timestamp_seconds"));
    assert_eq!(signalled.figures(JOB)["last_run_success"], 0.0);
}

/// The backup succeeds anyway, and a failed run keeps its exit code.
#[tokio::test(flavor = "multi_thread")]
async fn a_metrics_file_that_cannot_be_written_or_is_foreign_costs_no_backup() {
    let (server, signalled) = (server().await, Signalled::new().await);
    let foreign = signalled.home.path().join("node.prom");
    std::fs::write(&foreign, "# HELP node_load1 Load.\n# TYPE node_load1 gauge\nnode_load1 0.5\n")
        .expect("a file");
    for (path, words) in [
        ("/proc/uzima.prom", "let this user write there"),
        ("/nowhere/uzima.prom", "Create its folder"),
        ("/dev/null/uzima.prom", "Not a directory"),
        (foreign.to_str().expect("a path"), "was not changed: line 1 is a metric of another program"),
    ] {
        let mut command = signalled.tool(&server.uri());
        let report = reported(command.env("METRICS_FILE", path), &["backup"], 3);
        let [problem] = problems(&report).try_into().expect("one problem");
        holds(&problem, &[&format!("metrics_file: {path} "), words]);
        run(signalled.tool(NOWHERE).env("METRICS_FILE", path).arg("backup"))
            .ends(1)
            .says(&["metrics_file: "]);
    }
    assert_eq!(signalled.home.manifests().len(), 4);
    assert!(std::fs::read_to_string(&foreign).expect("a file").ends_with("node_load1 0.5\n"));
}

/// On a full disk and on a read-only disk, the old file stays unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_or_read_only_disk_the_old_metrics_file_stays() {
    let (server, signalled) = (server().await, Signalled::new().await);
    let script = r#"mount -t tmpfs -o size=64k tmpfs "$FOLDER" || exit 98
"$TOOL" backup || exit 97
cp "$METRICS_FILE" "$FOLDER/../before"
dd if=/dev/zero of="$FOLDER/fill" bs=4k 2> /dev/null
"$TOOL" backup; [ $? = 3 ] || exit 96
rm "$FOLDER/fill"; mount -o remount,ro "$FOLDER" || exit 95
MONGO_URI="$DOWN" "$TOOL" backup; [ $? = 1 ] || exit 94
[ "$(ls "$FOLDER")" = uzima-backup.prom ] || exit 93
exec cmp "$METRICS_FILE" "$FOLDER/../before""#;
    let tool = signalled.measuring(&server.uri());
    let mut shell = Command::new("unshare");
    shell.args(["-Urm", "/bin/sh", "-c", script]).env_clear().current_dir("/").stdin(Stdio::null());
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TOOL", TOOL).env("DOWN", NOWHERE);
    shell.env("FOLDER", signalled.metrics().parent().expect("a folder"));
    let ran = run(&mut shell).ends(0).says(&["WARN", "Read-only file system"]);
    holds(&ran.stdout, &["needs a look: metrics_file: ", "No space left on device", "Make room"]);
}

/// Eight jobs end at the same time, and each is in the file.
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_can_write_the_metrics_file_at_once() {
    let signalled = Signalled::new().await;
    let start = |n: usize| {
        let mut command = signalled.measuring(NOWHERE);
        command.env("BACKUP_JOB", format!("job{n}")).args(["backup", "--quiet"]).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    };
    let mut children: Vec<_> = (0..8).map(start).collect();
    for child in &mut children {
        assert_eq!(child.wait().expect("its end").code(), Some(1));
    }
    for n in 0..8 {
        assert_eq!(signalled.figures(&format!("job{n}"))["last_run_exit_code"], 1.0);
    }
}

/// Checks the file with Prometheus' own checker where it is installed, and otherwise by the rules of the
/// format.
fn checked(text: &str) {
    assert!(exposition(text).len() > 9);
    let Some(promtool) = on_path("promtool") else {
        eprintln!("SKIPPED signals::metrics (promtool): promtool is not on PATH");
        return;
    };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let said = child.wait_with_output().expect("its end");
    let words = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && words.is_empty(), "{words}");
}
