//! Each fault hits each request of an upload and its manifest, once or from then on. In every case the result is a
//! whole backup or nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use uzima_backup::config::store::ChecksumMode;
use uzima_backup::store::{Store, StoreResult};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::support::{PART, bytes, connect, options, patience, put_parts, spec, whole};

const FAULTS: [Fault; 21] = [
    Fault::Answer(400, "BadDigest"),
    Fault::Answer(400, "InvalidArgument"),
    Fault::Answer(400, "RequestTimeout"),
    Fault::Answer(403, "AccessDenied"),
    Fault::Answer(404, "NoSuchBucket"),
    Fault::Answer(404, "NoSuchKey"),
    Fault::Answer(404, "NoSuchUpload"),
    Fault::Answer(409, "ConditionalRequestConflict"),
    Fault::Answer(412, "PreconditionFailed"),
    Fault::Answer(500, "InternalError"),
    Fault::Answer(501, "NotImplemented"),
    Fault::Answer(503, "SlowDown"),
    Fault::ErrorIn200("InternalError"),
    Fault::OtherRegion("eu-west-1"),
    Fault::MalformedRegion("eu-west-1"),
    Fault::Skewed(3600),
    Fault::WebPage,
    Fault::LoseRequest,
    Fault::LoseAnswer,
    Fault::Damage,
    Fault::BreakOff(30),
];

/// Stores a backup. After an error it cleans up, once the network works again.
async fn backup(server: &S3Server, store: &dyn Store, body: &Bytes, manifest: &Bytes) -> StoreResult<()> {
    let begun = store.begin(&spec("a/dump", PART)).await?;
    let uploaded = match put_parts(&begun, body, PART).await {
        Ok(()) => begun.complete(&whole(body, PART)).await,
        Err(e) => Err(e),
    };
    if let Err(e) = uploaded {
        server.faults().clear();
        begun.abort().await.expect("an abort without faults");
        return Err(e);
    }
    if let Err(e) = store.create("a/manifest.json", manifest.clone()).await {
        server.faults().clear();
        store.delete("a/manifest.json").await.expect("a delete without faults");
        store.delete("a/dump").await.expect("a delete without faults");
        return Err(e);
    }
    Ok(())
}

fn said(server: &S3Server) -> String {
    server.calls().iter().map(|call| format!("{} {:?}\n", call.operation, call.status)).collect()
}

async fn sweep(
    mode: ChecksumMode,
    faults: &[Fault],
    rule: impl Fn(u64, Fault) -> Rule,
) -> BTreeMap<bool, u32> {
    let (body, manifest) = (bytes(2 * PART as usize + 3), bytes(400));
    let mut ends = BTreeMap::new();
    for fault in faults {
        for index in 0..8 {
            let server = S3Server::start();
            let mut options = options(&server);
            options.checksum = mode;
            options.patience = patience(Duration::from_millis(20));
            let store = connect(options).await;
            server.faults().add(rule(index, fault.clone()));
            let done = backup(&server, &store, &body, &manifest).await;
            let what = format!("{mode:?}, {fault:?} at request {index}: {done:?}\n{}", said(&server));
            let objects = server.objects();
            match &done {
                Ok(()) => {
                    assert_eq!(objects.get("daily-backups/a/dump"), Some(&body), "{what}");
                    assert_eq!(objects.get("daily-backups/a/manifest.json"), Some(&manifest), "{what}");
                }
                Err(e) => {
                    assert!(objects.is_empty(), "{what}");
                    assert!(e.to_string().contains("s3://backups/daily-backups/"), "{what}");
                }
            }
            // If every answer is lost, nobody knows the ids of the uploads.
            if server.count("UploadPart") > 0 {
                assert_eq!(server.open_uploads(), [], "{what}");
            }
            assert!(server.calls().len() < 60, "{what}");
            *ends.entry(done.is_ok()).or_default() += 1;
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_at_any_one_request_leaves_a_whole_backup_or_nothing() {
    for mode in [ChecksumMode::Crc64Nvme, ChecksumMode::None] {
        let ends = sweep(mode, &FAULTS, |index, fault| Rule::at(index, "*", fault)).await;
        assert!(ends[&true] > 60 && ends[&false] > 20, "{ends:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_from_any_request_on_leaves_a_whole_backup_or_nothing() {
    // These faults cannot be cleaned up, because the answer to the abort is wrong: the service says that an
    // upload is gone, or a web page answers 200 to everything.
    let lies = [Fault::Answer(404, "NoSuchUpload"), Fault::WebPage];
    let faults = FAULTS.iter().filter(|fault| !lies.contains(fault)).cloned();
    let faults: Vec<_> = faults.collect();
    for mode in [ChecksumMode::Crc64Nvme, ChecksumMode::None] {
        let ends = sweep(mode, &faults, |index, fault| Rule::from(index, "*", fault)).await;
        assert!(ends[&true] > 10 && ends[&false] > 100, "{ends:?}");
    }
}
