//! The end of an upload on a bad service: what decides is what the store has, not what it said.

use bytes::Bytes;
use uzima_backup::config::store::ChecksumMode;
use uzima_backup::store::{Kind, Store};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::support::{
    PART, assert_nothing_left, bytes, connect, options, put_parts, spec, store, upload, whole,
};

fn body() -> Bytes {
    bytes(2 * PART as usize + 7)
}
#[tokio::test]
async fn error_in_200() {
    let server = S3Server::start();
    let store = store(&server).await;
    let complete = "CompleteMultipartUpload";
    server.faults().add(Rule::at(0, complete, Fault::ErrorIn200("InternalError")));
    server.faults().add(Rule::at(1, complete, Fault::ErrorIn200("SlowDown")));
    upload(&store, "dump", &body(), PART).await.expect("the third try");
    assert_eq!(server.count(complete), 3);
    assert_eq!(server.objects()["daily-backups/dump"], body());
}
#[tokio::test]
async fn error_in_200_for_ever() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::ErrorIn200("InternalError")));
    let error = upload(&store, "dump", &body(), PART).await.expect_err("it is never completed");
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert_nothing_left(&server);
}

/// Lost answers, once and always; the object's token says that it is ours.
#[tokio::test]
async fn lost_answer() {
    for rule in [
        Rule::first(1, "CompleteMultipartUpload", Fault::LoseAnswer),
        Rule::always("CompleteMultipartUpload", Fault::LoseAnswer),
    ] {
        let server = S3Server::start();
        let store = store(&server).await;
        server.faults().add(rule);
        upload(&store, "dump", &body(), PART).await.expect("it is ours");
        assert_eq!(server.objects()["daily-backups/dump"], body());
        assert!(server.count("HeadObject") >= 1);
        assert_eq!(server.open_uploads(), []);
    }
}

/// The upload is gone and the object under the key is not ours.
#[tokio::test]
async fn gone_without_a_trace() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Answer(404, "NoSuchUpload")));
    server.insert("daily-backups/dump", "theirs, of any size");
    let error = upload(&store, "dump", &body(), PART).await.expect_err("nothing of ours is there");
    assert_eq!(error.kind, Kind::Failed, "{error}");
    assert_eq!(server.objects()["daily-backups/dump"], "theirs, of any size");
    assert_eq!(server.open_uploads(), []);
}

/// The answers stay lost and so does the question who owns the object; `abort` clears up.
#[tokio::test]
async fn in_doubt_until_aborted() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::LoseAnswer));
    server.faults().add(Rule::always("HeadObject", Fault::Answer(503, "SlowDown")));
    server.faults().add(Rule::always("AbortMultipartUpload", Fault::Answer(503, "SlowDown")));
    let upload = store.begin(&spec("dump", PART)).await.expect("an upload");
    put_parts(&upload, &body(), PART).await.expect("parts");
    upload.complete(&whole(&body(), PART)).await.expect_err("nobody knows");
    assert_eq!(server.objects().len(), 1);
    server.faults().clear();
    upload.abort().await.expect("now it is known");
    assert_nothing_left(&server);
}

/// The store lost a byte; by checksum, and without by size.
#[tokio::test]
async fn short_object() {
    for mode in [ChecksumMode::Crc64Nvme, ChecksumMode::Crc32c, ChecksumMode::None] {
        let server = S3Server::start();
        let mut options = options(&server);
        options.checksum = mode;
        let store = connect(options).await;
        server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Shorten(1)));
        let error = upload(&store, "dump", &body(), PART).await.expect_err("a byte is missing");
        assert_eq!(error.kind, Kind::Damaged, "{mode:?}: {error}");
        assert_nothing_left(&server);
    }
}

/// As long as it should be, with other bytes; by checksum, and without by ETag.
#[tokio::test]
async fn altered_object() {
    for (mode, word) in [
        (ChecksumMode::Crc64Nvme, "checksum"),
        (ChecksumMode::Crc32c, "checksum"),
        (ChecksumMode::None, "ETag"),
    ] {
        let server = S3Server::start();
        let mut options = options(&server);
        options.checksum = mode;
        let store = connect(options).await;
        server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Alter));
        let error = upload(&store, "dump", &body(), PART).await.expect_err("a bit differs");
        assert_eq!(error.kind, Kind::Damaged, "{mode:?}: {error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_nothing_left(&server);
    }
}

/// A completion that is refused for good ends the upload.
#[tokio::test]
async fn refused() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Answer(403, "AccessDenied")));
    let error = upload(&store, "dump", &body(), PART).await.expect_err("403");
    assert_eq!(error.kind, Kind::Denied);
    assert_eq!(server.count("CompleteMultipartUpload"), 1);
    assert_nothing_left(&server);
}

/// A good upload asks for no more than it needs.
#[tokio::test]
async fn calls_of_a_good_upload() {
    let server = S3Server::start();
    upload(&store(&server).await, "dump", &body(), PART).await.expect("an upload");
    let calls: Vec<_> = server.calls().iter().map(|c| (c.operation, c.part, c.bytes as u64)).collect();
    assert_eq!(
        calls[..4],
        [
            ("CreateMultipartUpload", None, 0),
            ("UploadPart", Some(3), 7),
            ("UploadPart", Some(2), PART),
            ("UploadPart", Some(1), PART),
        ]
    );
    assert_eq!(calls[4..].iter().map(|c| c.0).collect::<Vec<_>>(), ["CompleteMultipartUpload", "HeadObject"]);
}
