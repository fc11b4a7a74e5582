//! Small objects on a bad service: lost answers, bursts of errors, refused headers, broken listings.

use std::time::Duration;

use bytes::Bytes;
use uzima_backup::config::store::ChecksumMode;
use uzima_backup::store::{Store, StoreErrorKind};
use uzima_testkit::s3_server::{Fault, Limits, Rule, S3Server};

use super::support::{MOST, PART, bytes, connect, options, patience, store, upload};

/// Requests are repeated through a burst of errors.
#[tokio::test]
async fn requests_survive_a_burst_of_errors() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.patience = patience(Duration::from_secs(60));
    let store = connect(options).await;
    server.faults().add(Rule::chance(0.15, 1, "*", Fault::Answer(503, "SlowDown")));
    server.faults().add(Rule::chance(0.15, 2, "*", Fault::Answer(500, "InternalError")));
    let body = bytes(40 * PART as usize);
    upload(&store, "dump", &body, PART).await.expect("an upload in a burst");
    for i in 0..20 {
        store.create(&format!("m/{i}"), Bytes::from(i.to_string())).await.expect("a create in a burst");
    }
    assert_eq!(store.list("").await.expect("a listing in a burst").len(), 21);
    assert_eq!(store.get("dump", MOST).await.expect("a get in a burst"), body);
    assert!(server.calls().iter().filter(|c| c.status >= Some(500)).count() > 10);
}
#[tokio::test]
async fn an_outage_ends_in_an_error_within_the_patience() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::Answer(503, "SlowDown")));
    let error = store.put("a", bytes(1)).await.expect_err("503 for ever");
    assert_eq!(error.kind, StoreErrorKind::Failed);
    assert!(error.to_string().contains("SlowDown"), "{error}");
    assert!(error.to_string().contains(", tried again for 0."), "{error}");
    assert!(error.to_string().contains("BACKUP_PATIENCE") || error.hint.is_some(), "{error}");
    let sent = server.count("PutObject");
    assert!(sent >= 2, "{sent}");
    store.create("a", bytes(1)).await.expect_err("503 for ever");
    assert!(server.count("PutObject") >= sent + 2);
}

/// The answer is lost, and the second attempt finds the object of the first one.
#[tokio::test]
async fn a_create_whose_answer_was_lost_succeeds() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::first(1, "PutObject", Fault::LoseAnswer));
    store.create("manifest.json", bytes(500)).await.expect("it is ours");
    let statuses: Vec<_> = server.calls().iter().map(|c| (c.operation, c.status)).collect();
    assert_eq!(statuses, [("PutObject", None), ("PutObject", Some(412)), ("GetObject", Some(200))]);
}

/// Every answer is lost.
#[tokio::test]
async fn a_create_succeeds_although_every_answer_is_lost() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("PutObject", Fault::LoseAnswer));
    store.create("manifest.json", bytes(500)).await.expect("it is ours");
    server.insert("daily-backups/other.json", "theirs");
    let error = store.create("other.json", bytes(500)).await.expect_err("it is theirs");
    assert_eq!(error.kind, StoreErrorKind::Exists);
    assert_eq!(server.objects()["daily-backups/other.json"], "theirs");
}

/// Another writer's request was running and failed.
#[tokio::test]
async fn a_conflict_is_tried_again() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::first(2, "PutObject", Fault::Answer(409, "ConditionalRequestConflict")));
    store.create("manifest.json", bytes(500)).await.expect("the third try");
    assert_eq!(server.count("PutObject"), 3);
    server.faults().add(Rule::always("PutObject", Fault::Answer(409, "ConditionalRequestConflict")));
    store.create("other.json", bytes(500)).await.expect_err("409 for ever");
    assert_eq!(server.objects().len(), 1);
}

/// The request never arrives, and there is no object.
#[tokio::test]
async fn a_create_that_never_arrives_fails() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("PutObject", Fault::LoseRequest));
    let error = store.create("manifest.json", bytes(500)).await.expect_err("it never arrives");
    assert!(error.to_string().contains("manifest.json"), "{error}");
    assert!(server.objects().is_empty());
}

/// A service without conditional writes, with each of the two answers.
#[tokio::test]
async fn a_service_without_conditional_writes_does_not_overwrite() {
    for fault in [Fault::Answer(501, "NotImplemented"), Fault::Answer(400, "InvalidArgument")] {
        let server = S3Server::start();
        let store = store(&server).await;
        server.faults().add(Rule::always("*", fault).header("if-none-match"));
        store.create("a", bytes(5)).await.expect("HEAD, then put");
        store.create("a", bytes(5)).await.expect("the same bytes");
        assert_eq!(store.create("a", bytes(6)).await.expect_err("other bytes").kind, StoreErrorKind::Exists);
        upload(&store, "dump", &bytes(30_000), PART).await.expect("an upload");
        let error = upload(&store, "dump", &bytes(30_001), PART).await.expect_err("it exists");
        assert_eq!(error.kind, StoreErrorKind::Exists, "{error}");
        assert_eq!(server.objects()["daily-backups/dump"], bytes(30_000));
        assert_eq!(server.open_uploads(), []);
    }
}

/// The error names the setting. With the setting everything works, and parts are checked by MD5.
#[tokio::test]
async fn a_service_without_checksums_names_the_setting() {
    let server = S3Server::start();
    server.faults().add(Rule::always("*", Fault::Answer(501, "NotImplemented")).header("x-amz-checksum-"));
    let error = upload(&store(&server).await, "dump", &bytes(9), PART).await.expect_err("501");
    assert!(error.to_string().contains("set S3_CHECKSUM=crc32c or S3_CHECKSUM=none"), "{error}");

    let mut options = options(&server);
    options.checksum = ChecksumMode::None;
    let store = connect(options).await;
    let body = bytes(3 * PART as usize + 1);
    server.faults().add(Rule::first(1, "UploadPart", Fault::Damage));
    upload(&store, "dump", &body, PART).await.expect("an upload without checksums");
    assert_eq!(server.objects()["daily-backups/dump"], body);
    assert_eq!(server.count("UploadPart"), 5);
    store.create("manifest.json", bytes(9)).await.expect("a create without checksums");
}
#[tokio::test]
async fn an_incomplete_listing_is_an_error() {
    let server = S3Server::with(Limits { page: 2, ..Limits::default() });
    let store = store(&server).await;
    for i in 0..9 {
        server.insert(&format!("daily-backups/{i}"), "x");
    }
    server.insert("daily-backups-of-others/a", "foreign");
    assert_eq!(store.list("").await.expect("five pages").len(), 9);
    assert_eq!(server.count("ListObjectsV2"), 5);
    for (fault, words) in [(Fault::NoToken, "no continuation token"), (Fault::SameToken, "occurs twice")] {
        server.faults().clear();
        server.faults().add(Rule::always("ListObjectsV2", fault));
        let error = store.list("").await.expect_err("the listing is not whole");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// A foreign key with characters that XML cannot represent does not break the listing.
#[tokio::test]
async fn a_foreign_key_that_xml_cannot_represent_is_listed() {
    let server = S3Server::start();
    server.insert("daily-backups/\u{1}\u{b}odd", "foreign");
    let listed = store(&server).await.list("").await.expect("a listing");
    assert_eq!(listed[0].key, "\u{1}\u{b}odd");
}

/// A single delete; a refused batch is tested in `catalog::requests`.
#[tokio::test]
async fn a_refused_delete_names_the_missing_right() {
    let server = S3Server::start();
    let store = store(&server).await;
    store.put("a", bytes(1)).await.expect("a put");
    server.protect("daily-backups/a");
    let error = store.delete("a").await.expect_err("it is protected");
    assert_eq!(error.kind, StoreErrorKind::Denied);
    assert!(error.to_string().contains("s3:DeleteObject"), "{error}");
    assert_eq!(server.objects().len(), 1);
}

/// A broken download is requested again; one that always breaks is an error.
#[tokio::test]
async fn a_broken_download_is_requested_again() {
    let server = S3Server::start();
    let store = store(&server).await;
    store.put("a", bytes(50_000)).await.expect("a put");
    server.faults().add(Rule::first(2, "GetObject", Fault::BreakOff(20_000)));
    assert_eq!(store.get("a", MOST).await.expect("the third try"), bytes(50_000));
    server.faults().add(Rule::always("GetObject", Fault::BreakOff(20_000)));
    store.get_range("a", 0..40_000).await.expect_err("it always breaks off");
    assert!(server.count("GetObject") >= 3 + 2);
}

/// An object that was changed in the store is not returned, because the service's checksum differs.
#[tokio::test]
async fn an_object_changed_in_the_store_is_not_returned() {
    let server = S3Server::start();
    let store = store(&server).await;
    store.put("a", bytes(1_000)).await.expect("a put");
    server.tamper("daily-backups/a", |bytes| bytes[500] ^= 1);
    store.get("a", MOST).await.expect_err("the checksum differs");
}
