//! Object Lock: the objects that get a retention period, and the error if the bucket does not support it.

use bytes::Bytes;
use chrono::Utc;
use uzima_backup::store::{Protection, Store, StoreErrorKind, UploadSpec};
use uzima_testkit::s3_server::S3Server;

use super::support::{PART, bytes, connect, options, spec, upload};

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
