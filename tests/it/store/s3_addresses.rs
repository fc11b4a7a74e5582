//! Wrong places, wrong rights, wrong clocks: the class of the error and the next step in its text.

use std::time::Duration;

use uzima_backup::base::secret::Secret;
use uzima_backup::store::{Error, Kind, Store};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::child::{child, said};
use super::support::{MOST, bytes, connect, options, spec, store};

fn assert_says(error: &Error, kind: Kind, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
}
#[tokio::test]
async fn denied() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::Answer(403, "AccessDenied")));
    let error = store.check().await.expect_err("403");
    assert_says(&error, Kind::Denied, &["s3://backups/daily-backups/", "s3:ListBucket", "bucket backups"]);
    let error = store.begin(&spec("a", 1)).await.err().expect("403");
    assert_says(&error, Kind::Denied, &["s3:PutObject"]);
    let error = store.head("a").await.expect_err("403, and HEAD has no body");
    assert_says(&error, Kind::Denied, &["s3:ListBucket"]);
}
#[tokio::test]
async fn no_bucket() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.bucket = "backup".into();
    let store = connect(options).await;
    assert_says(
        &store.check().await.expect_err("404"),
        Kind::NoPlace,
        &["bucket backup", "S3_BACKUP_BUCKET"],
    );
    assert_says(&store.list("").await.expect_err("404"), Kind::NoPlace, &["NoSuchBucket"]);
    let error = store.get("a", MOST).await.expect_err("404");
    assert_says(&error, Kind::NoPlace, &[]);
}

/// A wrong secret, found by the signature, and named without being shown.
#[tokio::test]
async fn wrong_secret() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.credentials = Some(("test-key-id".into(), Secret::from("canary-secret")));
    assert!(!format!("{options:?}").contains("canary-secret"));
    let store = connect(options).await;
    let error = store.check().await.expect_err("403");
    assert_says(&error, Kind::Denied, &["AWS_SECRET_ACCESS_KEY"]);
    assert!(!format!("{error:?} {store:?}").contains("canary-secret"));
}

/// Followed, by header (301) and by body (400).
#[tokio::test]
async fn other_region() {
    for fault in [Fault::OtherRegion("eu-west-1"), Fault::MalformedRegion("eu-west-1")] {
        let server = S3Server::start();
        let store = store(&server).await;
        server.faults().add(Rule::first(1, "*", fault));
        store.put("a", bytes(9)).await.expect("the request is sent again in the other region");
        assert_eq!(server.count("PutObject"), 2);
        store.get("a", MOST).await.expect("and later ones at once");
        assert_eq!(server.count("GetObject"), 1);
    }
}

/// A service that sends us round and round is named, not followed.
#[tokio::test]
async fn region_that_leads_nowhere() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::OtherRegion("eu-west-1")));
    let error = store.check().await.expect_err("301 again");
    assert_says(&error, Kind::Misconfigured, &["AWS_REGION=eu-west-1", "backups"]);
    assert_eq!(server.count("ListObjectsV2"), 2);
}
#[tokio::test]
async fn skewed_clock() {
    for (ahead, words) in [(3600, "s behind the store's"), (-3600, "s ahead of the store's")] {
        let server = S3Server::start();
        let store = store(&server).await;
        server.faults().add(Rule::always("*", Fault::Skewed(ahead)));
        let error = store.check().await.expect_err("a wrong clock");
        assert_says(&error, Kind::ClockSkew, &[words, "clock"]);
        let seconds = ["3598", "3599", "3600", "3601"];
        assert!(seconds.iter().any(|s| error.to_string().contains(s)), "{error}");
    }
}

/// The service's own clock, when it answers well.
#[tokio::test]
async fn clock_of_the_service() {
    let server = S3Server::start();
    let ahead = store(&server).await.clock().await.expect("a Date") - chrono::Utc::now();
    assert!(ahead.num_seconds().abs() < 5, "{ahead}");
}

/// Something else answers, or nothing does.
#[tokio::test]
async fn wrong_endpoint() {
    let server = S3Server::start();
    let endpoint = server.endpoint();
    let words = ["S3_ENDPOINT_URL", "S3_FORCE_PATH_STYLE", endpoint.as_str()];
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::WebPage));
    assert_says(&store.check().await.expect_err("a web page"), Kind::Misconfigured, &words);

    let mut closed = options(&server);
    drop(server);
    closed.timeouts.connect = Duration::from_secs(2);
    let error = connect(closed).await.check().await.expect_err("nobody listens");
    assert_says(&error, Kind::Misconfigured, &words);
    assert!(error.cause.starts_with("connection refused"), "{error}");
}

/// After good answers a refused connection is an outage, not a setting.
#[tokio::test]
async fn outage() {
    let server = S3Server::start();
    let store = store(&server).await;
    store.check().await.expect("it is there");
    drop(server);
    assert_says(&store.check().await.expect_err("it is gone"), Kind::Failed, &["cannot list"]);
}

/// The bucket's name in the host name, which this endpoint does not serve.
#[tokio::test]
async fn path_style_slip() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.endpoint_url = Some(format!("http://localhost.invalid:{}", server.address().port()));
    options.force_path_style = Some(false);
    let error = connect(options).await.check().await.expect_err("no such host");
    assert_says(&error, Kind::Misconfigured, &["unknown host", "S3_FORCE_PATH_STYLE (now false)"]);
}

/// No credentials anywhere: the variables are named, nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn no_credentials() {
    let server = S3Server::start();
    let output = tokio::task::block_in_place(|| child(&[], "anonymous", server.endpoint()));
    let said = said(&output);
    assert!(
        said.starts_with("Misconfigured") && said.contains("there are no credentials. Set AWS_ACCESS_KEY_ID"),
        "{said}"
    );
    assert_eq!(server.calls(), []);
}

/// HEAD has no body, so the header alone tells.
#[tokio::test]
async fn other_region_of_a_head() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::first(1, "*", Fault::OtherRegion("eu-west-1")));
    assert_eq!(store.head("a").await.expect("the second request"), None);
    server.faults().add(Rule::always("*", Fault::Skewed(7200)));
    assert_eq!(store.head("a").await.expect_err("a wrong clock").kind, Kind::ClockSkew);
}
