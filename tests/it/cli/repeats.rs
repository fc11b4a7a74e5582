//! A repeated request does not fail a run, and is reported in the log and in the manifest.

use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::tcp_proxy::{Direction, Mode, TcpProxy};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::s3::{to_s3, variables};
use super::support::{Home, run, server_with_rows};

/// Each kind of request fails in a different way before it succeeds.
#[tokio::test]
async fn repeated_requests_to_the_bucket_are_logged_and_noted() {
    let (server, home, bucket) = (server_with_rows(50, 0).await, Home::new(), S3Server::start());
    bucket.faults().add(S3Rule::first(2, "ListObjectsV2", Fault::Answer(503, "SlowDown")));
    bucket.faults().add(S3Rule::first(1, "CreateMultipartUpload", Fault::Answer(500, "InternalError")));
    bucket.faults().add(S3Rule::first(1, "UploadPart", Fault::LoseAnswer));
    bucket.faults().add(S3Rule::at(1, "UploadPart", Fault::Damage));
    let mut waits = to_s3(&home, &server.uri(), &bucket);
    waits.env("BACKUP_PATIENCE", "20");
    let ran = run(waits.args(["backup", "--json", "-v"])).ends(0);
    let notes = ran.json()["notes"].clone();
    let note = notes[0].as_str().expect("a note");
    assert_eq!(notes.as_array().map(Vec::len), Some(1), "{notes}");
    assert!(note.starts_with("S3 requests were sent again 5 times (503 SlowDown ×2, "), "{note}");
    for reason in ["500 InternalError ×1", "connection", "400 "] {
        assert!(note.contains(reason), "no {reason} in {note}");
    }
    // Each repetition is logged; only the first wait and the total are warnings.
    let lines = |level: &str, text: &str| {
        ran.stderr.lines().filter(|line| line.contains(&format!(" {level} ")) && line.contains(text)).count()
    };
    let waits = "waiting for s3://backups/daily-backups/ for up to 20.0 s (BACKUP_PATIENCE): ListObjectsV2: 503 SlowDown";
    assert_eq!((lines("INFO ", waits), lines("DEBUG", "is sent again")), (1, 5), "{}", ran.stderr);
    assert_eq!(lines("WARN ", note), 1, "{}", ran.stderr);
    // A run without trouble adds no note. A failed run reports the repetitions in its log.
    bucket.faults().clear();
    let calm = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json"])).ends(0);
    assert_eq!(calm.json()["notes"], serde_json::json!([]));
    bucket.faults().add(S3Rule::first(1, "ListObjectsV2", Fault::Answer(503, "SlowDown")));
    bucket.faults().add(S3Rule::always("CreateMultipartUpload", Fault::Answer(403, "AccessDenied")));
    let said = "S3 requests were sent again once (503 SlowDown ×1)";
    run(to_s3(&home, &server.uri(), &bucket).arg("backup")).ends(1).says(&[said]);
}

#[tokio::test]
async fn a_cleanup_reports_repeated_requests() {
    let (server, home, bucket) = (server_with_rows(50, 0).await, Home::new(), S3Server::start());
    run(to_s3(&home, &server.uri(), &bucket).arg("backup")).ends(0);
    bucket.faults().add(S3Rule::first(1, "ListObjectsV2", Fault::LoseRequest));
    let mut waits = to_s3(&home, &server.uri(), &bucket);
    waits.env("BACKUP_PATIENCE", "20");
    let report = run(waits.args(["cleanup", "--json"])).ends(0).json();
    let note = report["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("S3 requests were sent again once (connection"), "{note}");
}

/// The network comes up only after the run has started.
#[tokio::test]
async fn a_bucket_that_becomes_reachable_late_is_waited_for() {
    let (server, home, bucket) = (server_with_rows(50, 0).await, Home::new(), S3Server::start());
    let proxy = TcpProxy::start(bucket.address());
    proxy.set_for_first(2, Mode::CutAfter(Direction::Up, 0));
    let mut command = home.tool();
    command.env("MONGO_URI", server.uri()).envs(variables(&format!("http://{}", proxy.address())));
    command.env("BACKUP_PATIENCE", "60");
    let report = run(command.args(["backup", "--json"])).ends(0).json();
    let note = report["notes"][0].as_str().expect("a note");
    assert!(note.contains("sent again 2 times (connection"), "{note}");
}

/// A failure that cannot pass is reported at once.
#[tokio::test]
async fn a_refused_request_is_not_repeated() {
    let (server, home, bucket) = (server_with_rows(50, 0).await, Home::new(), S3Server::start());
    bucket.faults().add(S3Rule::always("*", Fault::Answer(403, "AccessDenied")));
    let before = bucket.count("ListObjectsV2");
    run(to_s3(&home, &server.uri(), &bucket).arg("backup")).ends(1);
    assert_eq!(bucket.count("ListObjectsV2"), before + 1);
}

/// The first connections to MongoDB break, and then its first answers are lost.
#[tokio::test]
async fn a_server_that_becomes_reachable_late_is_waited_for() {
    let (server, home) = (server_with_rows(50, 0).await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let uri = proxy.uri(&server.uri());
    for (command, note) in [
        ("hello", "tried once more to connect to MongoDB at 127.0.0.1:"),
        ("buildInfo", "asked MongoDB once more after: "),
        ("listDatabases", "asked MongoDB once more after: "),
        ("listCollections", "asked MongoDB once more after: "),
    ] {
        let lost = proxy.add(match command {
            // The `hello` commands by which the driver monitors the server carry no session id.
            "hello" => Rule::on(command).having("lsid").times(1).then(Action::Close),
            _ => Rule::on(command).times(1).then(Action::Close),
        });
        let ran = run(home.to_dir(&uri).env("BACKUP_PATIENCE", "60").args(["backup", "--json"])).ends(0);
        let notes = ran.json()["notes"].to_string();
        assert_eq!(proxy.hits(lost), 1, "{command}");
        assert!(notes.contains(note), "{command}: {notes}");
        assert!(ran.stderr.contains(note), "{command}: {}", ran.stderr);
        proxy.clear();
    }
}
