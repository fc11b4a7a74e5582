//! Parts that are damaged, refused or too many, uploads that are left behind, and the storage class,
//! encryption and retention of objects.

use bytes::Bytes;
use chrono::Utc;
use uzima_backup::config::store::{ChecksumMode, Sse};
use uzima_backup::store::{Protection, Store, StoreErrorKind, UploadSpec};
use uzima_testkit::s3_server::{Fault, Limits, Rule, S3Server};

use super::support::{PART, assert_nothing_left, bytes, connect, options, patience, spec, store, upload};

/// The checksum shows a flipped bit, and the part is sent again.
#[tokio::test]
async fn a_part_damaged_on_the_way_is_sent_again() {
    for mode in [ChecksumMode::Crc64Nvme, ChecksumMode::Crc32c, ChecksumMode::None] {
        let server = S3Server::start();
        let mut options = options(&server);
        options.checksum = mode;
        let store = connect(options).await;
        server.faults().add(Rule::at(1, "UploadPart", Fault::Damage));
        server.faults().add(Rule::at(2, "UploadPart", Fault::Answer(400, "BadDigest")));
        let body = bytes(3 * PART as usize);
        upload(&store, "dump", &body, PART).await.expect("an upload");
        assert_eq!(server.objects()["daily-backups/dump"], body);
        assert_eq!(server.count("UploadPart"), 5, "{mode:?}");
    }
}

/// A connection that always flips bits fails the upload, and nothing is left.
#[tokio::test]
async fn a_connection_that_always_damages_parts_fails_the_upload() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("UploadPart", Fault::Damage));
    let error = upload(&store, "dump", &bytes(100), PART).await.expect_err("it never arrives whole");
    assert!(error.to_string().contains("dump"), "{error}");
    assert_eq!(server.count("UploadPart"), 4);
    assert_nothing_left(&server);
}

/// The limit in the settings applies before the service's limit.
#[tokio::test]
async fn an_upload_with_too_many_parts_is_refused() {
    let server = S3Server::with(Limits { parts: 20, ..Limits::default() });
    let mut options = options(&server);
    options.limits.max_parts = 20;
    let store = connect(options).await;
    let most = bytes(20 * PART as usize);
    upload(&store, "most", &most, PART).await.expect("as many as allowed");
    let error = upload(&store, "more", &bytes(20 * PART as usize + 1), PART).await.expect_err("one more");
    assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
    assert_eq!(server.objects().len(), 1);
    assert_eq!(server.open_uploads(), []);
    let mut large = spec("large", PART);
    large.estimate = Some(20 * PART + 1);
    let begun = server.count("CreateMultipartUpload");
    assert_eq!(store.begin(&large).await.err().expect("too large for its parts").kind, StoreErrorKind::Full);
    assert_eq!(server.count("CreateMultipartUpload"), begun);
}

/// Only the named upload is aborted.
#[tokio::test]
async fn only_the_named_upload_is_aborted() {
    let server = S3Server::start();
    let store = store(&server).await;
    let dead = store.begin(&spec("dead/dump", PART)).await.expect("an upload");
    dead.put_part(0, bytes(PART as usize)).await.expect("a part");
    let id = dead.id().to_owned();
    drop(dead);
    let live = store.begin(&spec("live/dump", PART)).await.expect("an upload");
    assert_eq!(server.open_uploads().len(), 2);
    store.abort_left("dead/dump", &id).await.expect("an abort");
    store.abort_left("dead/dump", &id).await.expect("another");
    assert_eq!(server.open_uploads(), [("daily-backups/live/dump".to_owned(), live.id().to_owned())]);
    live.abort().await.expect("an abort");
    assert_nothing_left(&server);
}

/// The first answer is lost, so the upload is begun twice. The upload with the unknown id is aborted, too.
#[tokio::test]
async fn an_upload_that_was_begun_twice_leaves_nothing() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::first(1, "CreateMultipartUpload", Fault::LoseAnswer));
    let upload = store.begin(&spec("dump", PART)).await.expect("the second try");
    assert_eq!(server.open_uploads().len(), 2);
    upload.abort().await.expect("an abort");
    assert_nothing_left(&server);
}

/// The id of the upload never arrives.
#[tokio::test]
async fn an_upload_whose_id_never_arrives_fails() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CreateMultipartUpload", Fault::LoseAnswer));
    assert!(store.begin(&spec("dump", PART)).await.is_err());
    assert!(server.count("CreateMultipartUpload") >= 2);
    assert_nothing_left(&server);
}

/// The artifact gets metadata, storage class and encryption. Small objects keep the bucket's storage class.
#[tokio::test]
async fn the_artifact_gets_metadata_storage_class_and_encryption() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.storage_class = Some("STANDARD_IA".into());
    options.sse = Some(Sse::Kms(Some("key-1".into())));
    let store = connect(options).await;
    let refuse = |header| Rule::always("*", Fault::Answer(400, "InvalidStorageClass")).header(header);
    server.faults().add(refuse("x-amz-storage-class"));
    assert!(store.begin(&spec("dump", PART)).await.is_err(), "the class is asked for");
    store.put("manifest.json", bytes(1)).await.expect("no class is asked for");
    server.faults().clear();
    server.faults().add(refuse("x-amz-server-side-encryption-aws-kms-key-id"));
    assert!(store.begin(&spec("dump", PART)).await.is_err(), "the key is named");
    assert!(store.put("manifest.json", bytes(1)).await.is_err(), "for small objects too");
}

/// A request that arrived late or incomplete is signed and sent again. A clock that is really wrong is an
/// error.
#[tokio::test]
async fn parts_that_were_delayed_are_signed_and_sent_again() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.patience = patience(std::time::Duration::from_secs(60));
    let store = connect(options.clone()).await;
    let faults = [
        Fault::Skewed(20),
        Fault::Skewed(-200),
        Fault::Answer(400, "RequestTimeout"),
        Fault::ErrorIn200("InternalError"),
        Fault::ErrorIn200("ServiceUnavailable"),
    ];
    for (at, fault) in faults.iter().enumerate() {
        server.faults().add(Rule::at(at as u64, "UploadPart", fault.clone()));
    }
    let body = bytes(3 * PART as usize);
    upload(&store, "dump", &body, PART).await.expect("an upload");
    assert_eq!(server.objects()["daily-backups/dump"], body);
    assert_eq!(server.count("UploadPart"), 3 + faults.len());
    server.faults().clear();
    server.faults().add(Rule::always("UploadPart", Fault::Skewed(1_200)));
    let error = upload(&store, "other", &body, PART).await.expect_err("the clocks differ by 20 minutes");
    assert_eq!(
        (error.kind, server.count("UploadPart")),
        (StoreErrorKind::ClockSkew, 3 + faults.len() + 1),
        "{error}"
    );
    assert!(error.to_string().contains("behind the store's"), "{error}");
}

/// The time is a lower bound, so no machine is too slow for this test.
#[tokio::test(flavor = "multi_thread")]
async fn the_bandwidth_limits_all_parts_together() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.bandwidth = std::num::NonZeroU64::new(100_000);
    let store = connect(options).await;
    let begun = store.begin(&spec("dump", 50_000)).await.expect("an upload");
    let (body, began) = (bytes(150_000), std::time::Instant::now());
    let send = |index| begun.put_part(index, super::support::part(&body, 50_000, index));
    let (a, b, c) = tokio::join!(send(0), send(1), send(2));
    a.and(b).and(c).expect("three parts");
    // The first chunk is sent at once.
    assert!(began.elapsed().as_millis() >= 1_300, "{:?}", began.elapsed());
    assert_eq!(begun.under_way(), 0);
    begun.complete(&super::support::whole(&body, 50_000)).await.expect("an upload");
    assert_eq!(server.objects()["daily-backups/dump"], body);
}

#[tokio::test]
async fn a_retention_period_is_set_only_on_the_objects_of_a_backup() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.object_lock_days = Some(7);
    let store = connect(options).await;
    let error = store.begin(&spec("dump", PART)).await.err().expect("the bucket has no Object Lock");
    assert_eq!(error.kind, StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("unset S3_OBJECT_LOCK_DAYS"), "{error}");
    assert_eq!(
        store.protection().await.unwrap(),
        Some(Protection { versions: Some(false), locks: Some(false) })
    );

    server.lock_objects();
    upload(&store, "dump", &bytes(3 * PART as usize), PART).await.expect("an artifact");
    store.create("manifest.json", Bytes::from_static(b"{}")).await.expect("a manifest");
    store.put("pinned.json", Bytes::from_static(b"{}")).await.expect("a mark");
    let probe = UploadSpec { probe: true, ..spec("probe", PART) };
    store.begin(&probe).await.expect("an upload").abort().await.expect("its end");
    let retained = server.retained();
    let keys: Vec<&str> = retained.keys().map(String::as_str).collect();
    assert_eq!(keys, ["daily-backups/dump", "daily-backups/manifest.json"]);
    let week = Utc::now().timestamp() + 7 * 86_400;
    assert!(retained.values().all(|until| (week - 3_600..=week).contains(until)), "{retained:?}");
    let until = store.locked_until("dump").await.unwrap().expect("a retention period");
    assert_eq!(until.timestamp(), retained["daily-backups/dump"]);
    assert_eq!(store.locked_until("pinned.json").await.unwrap(), None);
    assert_eq!(
        store.protection().await.unwrap(),
        Some(Protection { versions: Some(true), locks: Some(true) })
    );
}
