//! Answers of a store that never end, or that are larger than all objects that this tool writes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::store::{DirOptions, S3Options};
use uzima_backup::store::{DirStore, Store, StoreErrorKind};
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

use crate::store::support::{connect, patience, store};

/// A service whose answers start with `start` and never end. It stops sending when the client closes the
/// connection.
fn endless(start: &'static str, piece: &'static [u8]) -> S3Options {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("the port");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let mut request = [0; 16 << 10];
                let _ = stream.read(&mut request);
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n";
                let chunk =
                    |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
                let _ = stream.write_all(head.as_bytes());
                if !start.is_empty() {
                    let _ = stream.write_all(&chunk(start.as_bytes()));
                }
                let chunk = chunk(&piece.repeat((64 << 10) / piece.len()));
                while stream.write_all(&chunk).is_ok() {}
            });
        }
    });
    let mut options = S3Options::new(BUCKET, "daily-backups");
    options.endpoint_url = Some(format!("http://{address}"));
    options.region = Some("us-east-1".into());
    options.credentials = Some((ACCESS_KEY.into(), Secret::from(SECRET_KEY)));
    options.patience = patience(Duration::from_millis(300));
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_never_ends_is_refused() {
    let store = connect(endless("", b"x")).await;
    let error = store.get("2026/manifest.json", 1 << 20).await.expect_err("it never ends");
    assert_eq!(error.kind, StoreErrorKind::Damaged);
    assert!(error.to_string().contains("longer than the limit of 1,048,576 bytes"), "{error}");
    let error = store.get_range("2026/dump.tar.gz", 0..1000).await.expect_err("more than was asked for");
    assert!(matches!(error.kind, StoreErrorKind::Damaged | StoreErrorKind::Failed), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_listing_that_never_ends_is_refused() {
    let start =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><IsTruncated>false</IsTruncated>";
    let entry = b"<Contents><Key>daily-backups/a</Key><Size>1</Size></Contents>";
    let store = connect(endless(start, entry)).await;
    store.list("").await.expect_err("it never ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_object_is_refused_before_it_is_read() {
    let (server, folder) = (S3Server::start(), tempfile::tempdir().expect("a folder"));
    let dir = DirStore::new(DirOptions::new(folder.path().join("store"))).expect("a store");
    let stores: [Box<dyn Store>; 2] = [Box::new(store(&server).await), Box::new(dir)];
    for store in stores {
        store.put("a", Bytes::from(vec![7; 10_001])).await.expect("a put");
        assert_eq!(store.get("a", 10_001).await.expect("a get").len(), 10_001);
        let error = store.get("a", 10_000).await.expect_err("it is larger");
        assert_eq!(error.kind, StoreErrorKind::Damaged);
        assert!(
            error.to_string().contains("10,001 bytes") && error.to_string().contains("10,000 bytes"),
            "{error}"
        );
        // The comparison of the bodies reads no more than the expected length.
        let error = store.create("a", Bytes::from_static(b"b")).await.expect_err("it is there");
        assert_eq!(error.kind, StoreErrorKind::Exists, "{error}");
    }
}
