//! A backup knows what its data phase waited for. The held part is the largest, whatever the machine does besides.

use std::time::Duration;

use uzima_backup::model::timing::DataTiming;
use uzima_testkit::s3_server::{Fault, Rule, S3Server};
use uzima_testkit::standin::Play;
use uzima_testkit::wire_proxy::{self, Action, WireProxy};

use super::s3::to_s3;
use super::support::{Home, NOWHERE, run, server_with_rows};
use crate::mongodump::support as mongodump;

const HELD: Duration = Duration::from_secs(4);

/// Checks that the parts add up, and returns them.
fn checked(report: &serde_json::Value) -> DataTiming {
    let timing: DataTiming = serde_json::from_value(report["timing"].clone()).expect("a timing");
    let parts =
        [timing.mongodb_seconds, timing.compression_seconds, timing.store_seconds, timing.other_seconds];
    assert!((parts.iter().sum::<f64>() - timing.seconds).abs() < 1e-6, "{timing:?}");
    timing
}

#[track_caller]
fn waited_most_for(what: &str, timing: &DataTiming) {
    let most = timing.waits().into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("three waits");
    assert!(most.0 == what && most.1 > timing.other_seconds, "{what}: {timing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_slow_server_waited_for_mongodb() {
    let (server, home) = (server_with_rows(500, 100).await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    proxy.add(
        wire_proxy::Rule::on("find")
            .namespace("shop.rows")
            .having("$_requestResumeToken")
            .then(Action::Stall(HELD)),
    );
    let uri = proxy.uri(&server.uri());
    let report =
        run(home.to_dir(&uri).env("BACKUP_RECORDS", server.uri()).args(["backup", "--json"])).ends(0).json();
    let timing = checked(&report);
    waited_most_for("MongoDB", &timing);

    // The same figures are in the manifest, the list and the record.
    let manifest = home.manifests().remove(0);
    assert_eq!(manifest.timing, Some(timing));
    let listed = run(home.to_dir(NOWHERE).args(["list", "--json"])).ends(0).json();
    assert_eq!(listed["backups"][0]["timing"], report["timing"]);
    let runs = server
        .client()
        .await
        .expect("a client")
        .database("uzima_backup")
        .collection::<bson::Document>("runs");
    let record =
        runs.find_one(bson::doc! {"_id": manifest.id.as_str()}).await.expect("an answer").expect("a record");
    let recorded: DataTiming =
        bson::deserialize_from_document(record.get_document("timing").expect("it").clone())
            .expect("a timing");
    assert_eq!(recorded, timing);
    let shown = run(home.to_dir(NOWHERE).args(["list", manifest.id.as_str()])).ends(0).stdout;
    assert!(shown.contains(&timing.sentence(manifest.totals.raw_bytes)), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_a_slow_bucket_waited_for_the_store() {
    let (server, home, bucket) = (server_with_rows(500, 100).await, Home::new(), S3Server::start());
    bucket.faults().add(Rule::always("UploadPart", Fault::Delay(HELD)));
    let report = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json"])).ends(0).json();
    waited_most_for("the store", &checked(&report));
    // The end of the upload belongs to it.
    bucket.faults().clear();
    bucket.faults().add(Rule::always("CompleteMultipartUpload", Fault::Delay(HELD)));
    let report = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json"])).ends(0).json();
    waited_most_for("the store", &checked(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_a_slow_mongodump_waited_for_mongodb() {
    let (server, home) = (mongodump::server().await, Home::new());
    let slow = mongodump::standin(&[Play::archive(mongodump::recorded()).silent(HELD.as_secs())]);
    let report = run(mongodump::tool(&home, &server, &slow).args(["backup", "--json"])).ends(0).json();
    waited_most_for("MongoDB", &checked(&report));
}
