//! The example alerts, tried by Prometheus' own tool against the figures of machines in trouble.

use std::path::Path;
use std::process::Command;

use uzima_testkit::mongod::binary::on_path;

use super::support::{JOB, Signalled};
use crate::cli::support::{NOWHERE, run};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prometheus-rules.yml");
const ALERTS: [&str; 8] = [
    "MongoDBBackupTooOld",
    "MongoDBBackupNeverSucceeded",
    "MongoDBBackupNeverRan",
    "MongoDBBackupCleanupTooOld",
    "MongoDBBackupCopyTooOld",
    "MongoDBOplogTooOld",
    "MongoDBOplogGap",
    "MongoDBOplogBarrier",
];

/// Returns false, after a line on stderr, if promtool is not installed.
fn has_promtool(test: &str) -> bool {
    let found = on_path("promtool").is_some();
    if !found {
        eprintln!("SKIPPED signals::rules::{test}: promtool is not on PATH");
    }
    found
}

fn promtool(args: &[&str]) {
    let said = Command::new("promtool").args(args).output().expect("promtool starts");
    let words = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "promtool {args:?}: {words}");
}

/// The samples of a metrics file as series that do not change, of the instance `db1`.
fn series(metrics: &str) -> String {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let series = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        let name = name.replace("{backup_job=", "{instance=\"db1\",backup_job=").replace('\'', "''");
        format!("      - series: '{name}'\n        values: '{value}x2400'\n")
    });
    series.collect()
}

/// Asks `promtool test rules` whether exactly the alerts `firing` fire at `at`, a time after the start of the
/// series such as `30h`. The series start at the epoch.
fn fires(folder: &Path, metrics: &str, at: &str, firing: &[&str]) {
    let input = match metrics {
        "" => "    input_series: []\n".into(),
        metrics => format!("    input_series:\n{}", series(metrics)),
    };
    let mut test =
        format!("rule_files:\n  - {RULES}\nevaluation_interval: 5m\ntests:\n  - interval: 5m\n{input}");
    test += "    promql_expr_test:\n";
    for alert in ALERTS {
        let count = u8::from(firing.contains(&alert));
        test += &format!(
            "      - expr: 'count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}) or vector(0)'\n        \
             eval_time: {at}\n        exp_samples:\n          - labels: '{{}}'\n            value: {count}\n"
        );
    }
    let path = folder.join("alerts.test.yml");
    std::fs::write(&path, test).expect("a file");
    promtool(&["test", "rules", path.to_str().expect("a path")]);
}

#[test]
fn promtool_accepts_the_example_alerts() {
    if has_promtool("promtool_accepts_the_example_alerts") {
        promtool(&["check", "rules", RULES]);
    }
}

#[test]
fn the_example_alerts_fire_for_an_old_a_missing_and_a_silent_backup() {
    if !has_promtool("the_example_alerts_fire_for_an_old_a_missing_and_a_silent_backup") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [old, never, silent, cleanup, ..] = ALERTS;
    let good = sample("last_success_timestamp_seconds", 0)
        + &sample("last_run_timestamp_seconds", 0)
        + &sample("last_run_success", 1);
    fires(folder.path(), &good, "29h", &[]);
    fires(folder.path(), &good, "31h", &[old]);
    // The newest run failed. The last good backup is recent.
    let failed = good
        .replace("last_run_success{backup_job=\"all@db1\"} 1", "last_run_success{backup_job=\"all@db1\"} 0");
    fires(folder.path(), &failed, "29h", &[]);
    // No run was ever good, and a good backup of another job does not silence the alert.
    let other = good.replace("all@db1", "other");
    let bad = sample("last_run_timestamp_seconds", 0) + &sample("last_run_success", 0);
    fires(folder.path(), &(other + &bad), "1h", &[never]);
    fires(folder.path(), "", "29h", &[]);
    fires(folder.path(), "", "31h", &[silent]);
    let cleaned =
        sample("cleanup_last_success_timestamp_seconds", 0) + &sample("cleanup_last_run_success", 1);
    fires(folder.path(), &(good.clone() + &cleaned), "29h", &[]);
    fires(folder.path(), &(good.clone() + &cleaned), "51h", &[old, cleanup]);
    fires(folder.path(), &(good + &sample("cleanup_last_run_success", 0)), "1h", &[cleanup]);
}

fn sample(name: &str, value: u32) -> String {
    format!("uzima_backup_{name}{{backup_job=\"all@db1\"}} {value}\n")
}

#[test]
fn the_example_alerts_fire_for_an_old_end_of_the_oplog_a_gap_and_a_barrier_until_a_backup_follows() {
    if !has_promtool(
        "the_example_alerts_fire_for_an_old_end_of_the_oplog_a_gap_and_a_barrier_until_a_backup_follows",
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [.., end, gap, barrier] = ALERTS;
    let backup = |instant: u32| {
        let times = [
            "last_success_timestamp_seconds",
            "last_run_timestamp_seconds",
            "last_success_instant_timestamp_seconds",
        ];
        times.iter().map(|name| sample(name, instant)).collect::<String>() + &sample("last_run_success", 1)
    };
    let good = backup(1000)
        + &sample("oplog_end_timestamp_seconds", 7200)
        + &sample("oplog_last_success_timestamp_seconds", 7200)
        + &sample("oplog_last_run_success", 1);
    fires(folder.path(), &good, "2h", &[]);
    fires(folder.path(), &good, "4h", &[end]);
    // The newest run failed, and the end is still young.
    let failed = good.replace(
        "oplog_last_run_success{backup_job=\"all@db1\"} 1",
        "oplog_last_run_success{backup_job=\"all@db1\"} 0",
    );
    fires(folder.path(), &failed, "2h", &[]);
    let never = backup(1000) + &sample("oplog_last_run_success", 0);
    fires(folder.path(), &never, "2h", &[end]);
    for (name, alert) in [("oplog_gap_timestamp_seconds", gap), ("oplog_barrier_timestamp_seconds", barrier)]
    {
        fires(folder.path(), &(good.clone() + &sample(name, 1001)), "2h", &[alert]);
        fires(folder.path(), &(good.clone() + &sample(name, 1000)), "2h", &[]);
        // The backup of another job closes nothing, and no backup closes it either.
        let other = good.replace("all@db1", "other") + &sample("last_run_timestamp_seconds", 7000);
        fires(folder.path(), &(other + &sample(name, 1000)), "2h", &[alert]);
    }
}

/// The figures are those of a real run that fails on a machine without any good backup.
#[tokio::test(flavor = "multi_thread")]
async fn an_example_alert_fires_on_a_machine_that_never_had_a_good_backup() {
    let signalled = Signalled::new().await;
    run(signalled.measuring(NOWHERE).arg("backup")).ends(1);
    let figures = signalled.figures(JOB);
    assert!(!figures.contains_key("last_success_timestamp_seconds"), "{figures:?}");
    assert_eq!(figures["last_run_success"], 0.0);
    if has_promtool("an_example_alert_fires_on_a_machine_that_never_had_a_good_backup") {
        let folder = tempfile::tempdir().expect("a folder");
        let metrics = std::fs::read_to_string(signalled.metrics()).expect("the metrics");
        fires(folder.path(), &metrics, "1h", &[ALERTS[1]]);
    }
}
