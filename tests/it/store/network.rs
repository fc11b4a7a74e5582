//! Connection resets and endless stalls between the store and its service.

use std::time::Duration;

use uzima_backup::config::store::S3Options;
use uzima_backup::config::store::Timeouts;
use uzima_backup::store::Store;
use uzima_testkit::s3_server::S3Server;
use uzima_testkit::tcp_proxy::{Direction, Mode, TcpProxy};

use super::support::{MOST, assert_nothing_left, bytes, connect, options, upload};

/// Parts that are larger than the buffers of a connection.
const LARGE: u64 = 1 << 20;

fn through(server: &S3Server, proxy: &TcpProxy) -> S3Options {
    let mut options = options(server);
    options.endpoint_url = Some(format!("http://{}", proxy.address()));
    options.timeouts = Timeouts {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        stall: Duration::from_secs(1),
        slowest: 10 << 20,
    };
    options
}

/// Waits at most `seconds` for `work`.
async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(seconds), work).await;
    done.unwrap_or_else(|_| panic!("it still hangs after {seconds} s"))
}

/// The connection is cut at many positions of the upload; each part is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_connection_resets() {
    for after in [0, 200, 5_000, LARGE + 100, 2 * LARGE, 3 * LARGE] {
        let server = S3Server::start();
        let proxy = TcpProxy::start(server.address());
        let store = connect(through(&server, &proxy)).await;
        let body = bytes(3 * LARGE as usize);
        proxy.set_for_first(1, Mode::CutAfter(Direction::Up, after));
        upload(&store, "dump", &body, LARGE).await.unwrap_or_else(|e| panic!("cut after {after}: {e}"));
        assert_eq!(server.objects()["daily-backups/dump"], body);
        assert!(proxy.connections() >= 2, "the connection was not cut after {after} bytes");
        assert_eq!(server.open_uploads(), []);
    }
}

/// The answers are cut off instead; a completed request is not executed twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_resets_of_the_answers() {
    for after in [0, 10, 300, 600, 900] {
        let server = S3Server::start();
        let proxy = TcpProxy::start(server.address());
        let store = connect(through(&server, &proxy)).await;
        let body = bytes(100_000);
        proxy.set_for_first(1, Mode::CutAfter(Direction::Down, after));
        upload(&store, "dump", &body, 50_000).await.unwrap_or_else(|e| panic!("cut after {after}: {e}"));
        store.create("manifest.json", bytes(10)).await.expect("a create");
        assert_eq!(server.objects()["daily-backups/dump"], body);
        assert_eq!(server.objects().len(), 2);
    }
}

/// A connection that stalls in the middle of a part is closed, and the part is sent on another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_part_is_sent_on_another_connection() {
    let server = S3Server::start();
    let proxy = TcpProxy::start(server.address());
    let store = connect(through(&server, &proxy)).await;
    let body = bytes(3 * LARGE as usize);
    proxy.set_for_first(1, Mode::StallAfter(Direction::Up, LARGE + LARGE / 2));
    within(15, upload(&store, "dump", &body, LARGE)).await.expect("an upload after a stall");
    assert_eq!(server.objects()["daily-backups/dump"], body);
}

/// Every answer stalls forever. The upload fails within the time limits.
#[tokio::test(flavor = "multi_thread")]
async fn endless_stalls_fail_the_upload_within_the_time_limits() {
    let server = S3Server::start();
    let proxy = TcpProxy::start(server.address());
    let store = connect(through(&server, &proxy)).await;
    store.check().await.expect("it is there");
    proxy.set(Mode::StallAfter(Direction::Down, 0));
    let body = bytes(1_000);
    let error = within(20, upload(&store, "dump", &body, 1_000)).await.expect_err("no answer ever comes");
    assert!(error.to_string().contains("in time"), "{error}");
}

/// A download that stalls in the middle is requested again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_download_is_requested_again() {
    let server = S3Server::start();
    let proxy = TcpProxy::start(server.address());
    let store = connect(through(&server, &proxy)).await;
    let body = bytes(LARGE as usize);
    server.insert("daily-backups/a", body.clone());
    proxy.set_for_first(1, Mode::StallAfter(Direction::Down, LARGE / 2));
    assert_eq!(within(15, store.get("a", MOST)).await.expect("the second try"), body);
}

/// The network fails during the upload and is back for the abort: nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_an_outage_is_aborted_when_the_network_is_back() {
    let server = S3Server::start();
    let proxy = TcpProxy::start(server.address());
    let store = connect(through(&server, &proxy)).await;
    let begun = store.begin(&super::support::spec("dump", 1_000)).await.expect("an upload");
    proxy.set(Mode::Refuse);
    begun.put_part(0, bytes(1_000)).await.expect_err("the network is gone");
    proxy.set(Mode::Pass);
    begun.abort().await.expect("the network is back");
    assert_nothing_left(&server);
}
