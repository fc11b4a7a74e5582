//! The completion of an upload on a bad service: the stored object decides, not the answer.

use bytes::Bytes;
use uzima_backup::config::store::ChecksumMode;
use uzima_backup::store::{Store, StoreErrorKind};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::support::{
    PART, assert_nothing_left, bytes, connect, options, put_parts, spec, store, upload, whole,
};

fn body() -> Bytes {
    bytes(2 * PART as usize + 7)
}
#[tokio::test]
async fn an_error_in_a_200_answer_is_repeated() {
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
async fn endless_errors_in_200_answers_fail_the_upload() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::ErrorIn200("InternalError")));
    let error = upload(&store, "dump", &body(), PART).await.expect_err("it is never completed");
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert_nothing_left(&server);
}

/// The answer is lost once, or always. The token in the object's metadata shows that the object belongs to this upload.
#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_recognized_by_its_token() {
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

/// The upload is gone, and the object under the key belongs to another writer.
#[tokio::test]
async fn an_object_of_another_writer_is_not_taken_for_ours() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Answer(404, "NoSuchUpload")));
    server.insert("daily-backups/dump", "theirs, of any size");
    let error = upload(&store, "dump", &body(), PART).await.expect_err("nothing of ours is there");
    assert_eq!(error.kind, StoreErrorKind::Failed, "{error}");
    assert_eq!(server.objects()["daily-backups/dump"], "theirs, of any size");
    assert_eq!(server.open_uploads(), []);
}

/// The answer is lost, and so is the answer to the request that reads the token of the object. `abort` removes the
/// object later.
#[tokio::test]
async fn an_upload_in_doubt_is_removed_by_abort() {
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

/// The stored object lost a byte, which the checksum shows, or the size if there is no checksum.
#[tokio::test]
async fn a_truncated_object_is_damage() {
    for mode in [ChecksumMode::Crc64Nvme, ChecksumMode::Crc32c, ChecksumMode::None] {
        let server = S3Server::start();
        let mut options = options(&server);
        options.checksum = mode;
        let store = connect(options).await;
        server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Shorten(1)));
        let error = upload(&store, "dump", &body(), PART).await.expect_err("a byte is missing");
        assert_eq!(error.kind, StoreErrorKind::Damaged, "{mode:?}: {error}");
        assert_nothing_left(&server);
    }
}

/// The stored object has the right size and other bytes, which the checksum shows, or the ETag if there is no
/// checksum.
#[tokio::test]
async fn an_altered_object_is_damage() {
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
        assert_eq!(error.kind, StoreErrorKind::Damaged, "{mode:?}: {error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_nothing_left(&server);
    }
}

/// A completion that is denied ends the upload at once.
#[tokio::test]
async fn a_denied_completion_ends_the_upload() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("CompleteMultipartUpload", Fault::Answer(403, "AccessDenied")));
    let error = upload(&store, "dump", &body(), PART).await.expect_err("403");
    assert_eq!(error.kind, StoreErrorKind::Denied);
    assert_eq!(server.count("CompleteMultipartUpload"), 1);
    assert_nothing_left(&server);
}

/// A good upload sends no more requests than it needs.
#[tokio::test]
async fn a_good_upload_sends_no_needless_request() {
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
