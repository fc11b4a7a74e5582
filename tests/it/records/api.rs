//! The records through the functions that other operations use.

use std::time::{Duration, Instant};

use bson::doc;
use chrono::{SubsecRound, TimeDelta, Utc};
use uzima_backup::base::secret::Secret;
use uzima_backup::catalog::records::Records;
use uzima_backup::catalog::run::{BackupRun, Status, Verified};
use uzima_backup::model::id::BackupId;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{recorded, runs};

fn begun(job: &str, days: i64) -> BackupRun {
    let at = Utc::now().trunc_subsecs(3) - TimeDelta::days(days);
    BackupRun::begun(BackupId::new(at, &mut rand::rng()), job, "host", "place", at)
}

async fn records(uri: &str, patience: u64) -> Records {
    Records::connect(&Secret::from(uri), Duration::from_millis(patience)).await.expect("records")
}

#[tokio::test]
async fn a_run_is_recorded_from_start_to_end() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let records = records(&server.uri(), 10_000).await;
    let (first, second, other) = (begun("j", 2), begun("j", 1), begun("other", 3));
    for run in [&first, &other] {
        records.begin(run).await.expect("a beginning");
    }
    let all = records.all(None).await.expect("all");
    assert_eq!((all.runs, all.unreadable), (vec![first.clone(), other.clone()], vec![]));
    records.replace_id(&first.id, &second).await.expect("a new id");
    assert_eq!(
        records.all(Some("j")).await.expect("the backups of job j").runs,
        std::slice::from_ref(&second)
    );
    let verified = Some(Verified { at: second.started_at, sound: true, drilled: None });
    let done = BackupRun {
        status: Status::Completed,
        finished_at: Some(second.started_at + TimeDelta::minutes(1)),
        documents: Some(u64::MAX >> 1),
        verified,
        warnings: vec!["w".into()],
        ..second.clone()
    };
    records.write(&done).await.expect("an end");
    assert_eq!(records.all(Some("j")).await.expect("the backups of job j").runs, std::slice::from_ref(&done));
    // A run that has ended is not marked as interrupted by a caller that thinks it still runs.
    let third = begun("j", 0);
    records.replace_id(&done.id, &third).await.expect("a new id");
    assert_eq!(records.all(Some("j")).await.expect("the backups of job j").runs, [third, done.clone()]);

    let unknown = begun("j", 9).id;
    let at = Utc::now();
    let ids = [done.id.clone(), unknown];
    assert_eq!(records.mark_deleted(&ids, at).await.expect("a mark"), 1);
    assert_eq!(records.mark_deleted(&ids, at).await.expect("a mark"), 0);
    let record =
        runs(&client).find_one(doc! {"_id": done.id.as_str()}).await.expect("a find").expect("a record");
    assert_eq!(record.get_datetime("deleted_at").expect("a date").timestamp_millis(), at.timestamp_millis());
    let deleted = BackupRun { status: Status::Deleted, ..done };
    assert_eq!(records.all(Some("j")).await.expect("the backups of job j").runs[1], deleted);
    assert_eq!(recorded(&client).await.len(), 3);
    records.close().await;
}

/// A call returns within the time limit of its caller, whatever the server does.
#[tokio::test]
async fn a_call_returns_within_the_limit_of_its_caller() {
    let server = Mongod::builder().start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    proxy.add(Rule::on("update").then(Action::Stall(Duration::from_secs(60))));
    let stalled = records(&proxy.uri(&server.uri()), 400).await;
    let none = records("mongodb://127.0.0.1:1", 400).await;
    for records in [stalled, none] {
        let began = Instant::now();
        let error = records.write(&begun("j", 0)).await.expect_err("no record");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert!(
            error.chain().contains("records cannot be written (MongoDB at 127.0.0.1:"),
            "{}",
            error.chain()
        );
        assert!(error.next_step().is_some_and(|step| step.contains("BACKUP_RECORDS=off")));
        let began = Instant::now();
        records.close().await;
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}
