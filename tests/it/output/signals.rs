//! The output for other programs: the metrics file and the documents of the webhook.

use insta::assert_snapshot;

use super::support::{compact, normalize, normalize_measured};
use crate::cli::support::{NOWHERE, run};
use crate::night::support::server;
use crate::signals::support::Signalled;

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_file_holds_the_last_run_and_the_last_success() {
    let (server, signalled) = (server().await, Signalled::new().await);
    run(signalled.measuring(&server.uri()).arg("backup")).ends(0);
    run(signalled.measuring(NOWHERE).arg("backup")).ends(1);
    let text = std::fs::read_to_string(signalled.metrics()).expect("a file");
    // The values of times, durations and sizes differ between two runs.
    let lines = text.lines().map(|line| match line.rsplit_once(' ') {
        Some((name, _))
            if !line.starts_with('#') && !name.contains("_exit_code") && !name.contains("_success{") =>
        {
            format!("{name} [NUMBER]\n")
        }
        _ => format!("{line}\n"),
    });
    assert_snapshot!(normalize(&lines.collect::<String>(), &signalled.home), @r#"
        # HELP uzima_backup_last_success_timestamp_seconds When the last good backup was complete.
        # TYPE uzima_backup_last_success_timestamp_seconds gauge
        uzima_backup_last_success_timestamp_seconds{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_duration_seconds How long the last good backup took.
        # TYPE uzima_backup_last_success_duration_seconds gauge
        uzima_backup_last_success_duration_seconds{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_stored_bytes The size of the last good backup's artifact.
        # TYPE uzima_backup_last_success_stored_bytes gauge
        uzima_backup_last_success_stored_bytes{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_raw_bytes The length of the documents in the last good backup.
        # TYPE uzima_backup_last_success_raw_bytes gauge
        uzima_backup_last_success_raw_bytes{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_documents How many documents the last good backup holds.
        # TYPE uzima_backup_last_success_documents gauge
        uzima_backup_last_success_documents{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_namespaces How many namespaces the last good backup holds.
        # TYPE uzima_backup_last_success_namespaces gauge
        uzima_backup_last_success_namespaces{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_data_duration_seconds How long the data of the last good backup took, from the first request for documents to the complete artifact.
        # TYPE uzima_backup_last_success_data_duration_seconds gauge
        uzima_backup_last_success_data_duration_seconds{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_success_waited_seconds How long the data of the last good backup waited for MongoDB, compression and the store.
        # TYPE uzima_backup_last_success_waited_seconds gauge
        uzima_backup_last_success_waited_seconds{backup_job="nightly",waited_for="compression"} [NUMBER]
        uzima_backup_last_success_waited_seconds{backup_job="nightly",waited_for="mongodb"} [NUMBER]
        uzima_backup_last_success_waited_seconds{backup_job="nightly",waited_for="store"} [NUMBER]
        # HELP uzima_backup_last_run_timestamp_seconds When backup last ended, well or badly.
        # TYPE uzima_backup_last_run_timestamp_seconds gauge
        uzima_backup_last_run_timestamp_seconds{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_run_duration_seconds How long the last run of backup took.
        # TYPE uzima_backup_last_run_duration_seconds gauge
        uzima_backup_last_run_duration_seconds{backup_job="nightly"} [NUMBER]
        # HELP uzima_backup_last_run_exit_code The exit code of the last run of backup.
        # TYPE uzima_backup_last_run_exit_code gauge
        uzima_backup_last_run_exit_code{backup_job="nightly"} 1
        # HELP uzima_backup_last_run_success 1 if the last run of backup made a good one, else 0.
        # TYPE uzima_backup_last_run_success gauge
        uzima_backup_last_run_success{backup_job="nightly"} 0
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_receives_the_failure_and_the_success() {
    let (server, signalled) = (server().await, Signalled::new().await);
    run(signalled.hooked(&server.uri()).arg("backup")).ends(0);
    run(signalled.hooked(NOWHERE).arg("backup")).ends(1);
    let mut documents = signalled.documents().await;
    // The log contains each attempt to connect, whose number differs.
    documents[1]["failure"]["log"] = "[LOG]".into();
    assert_snapshot!(normalize_measured(&compact(&documents.into()), &signalled.home), @r#"
        [
          {
            "version": 1,
            "event": "success",
            "test": false,
            "operation": "backup",
            "job": "nightly",
            "run": "00000000T000000Z-000001",
            "host": "[HOST]",
            "at": "0000-00-00T00:00:00Z",
            "exit_code": 0,
            "failed_before": 0,
            "backup": {
              "place": "[HOME]/backups/0000/00/00000000T000000Z-000001/dump.tar.gz",
              "started_at": "0000-00-00T00:00:00Z",
              "finished_at": "0000-00-00T00:00:00Z",
              "engine": "native",
              "consistency": "none",
              "namespaces": 2,
              "documents": 501,
              "raw_bytes": 0,
              "stored_bytes": 0,
              "timing": "[TIMING]",
              "problems": [],
              "notes": [],
              "losses": null
            },
            "failure": null,
            "cleanup": null,
            "frozen": null
          },
          {
            "version": 1,
            "event": "failure",
            "test": false,
            "operation": "backup",
            "job": "nightly",
            "run": "00000000T000000Z-000002",
            "host": "[HOST]",
            "at": "0000-00-00T00:00:00Z",
            "exit_code": 1,
            "failed_before": 0,
            "backup": null,
            "failure": {
              "error": "cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused",
              "next_step": "Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right",
              "newest_good_at": "0000-00-00T00:00:00Z",
              "log": "[LOG]"
            },
            "cleanup": null,
            "frozen": null
          }
        ]
    "#);
}
