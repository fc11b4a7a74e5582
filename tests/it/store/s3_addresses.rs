//! Wrong addresses, wrong rights and wrong clocks: the kind of the error and its next step.

use std::time::Duration;

use uzima_backup::base::secret::Secret;
use uzima_backup::store::{Store, StoreError, StoreErrorKind};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::child::{child, said};
use super::support::{MOST, bytes, connect, options, spec, store};

fn assert_says(error: &StoreError, kind: StoreErrorKind, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
}
#[tokio::test]
async fn a_denied_request_names_the_missing_right() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::Answer(403, "AccessDenied")));
    let error = store.check().await.expect_err("403");
    assert_says(
        &error,
        StoreErrorKind::Denied,
        &["s3://backups/daily-backups/", "s3:ListBucket", "bucket backups"],
    );
    let error = store.begin(&spec("a", 1)).await.err().expect("403");
    assert_says(&error, StoreErrorKind::Denied, &["s3:PutObject"]);
    let error = store.head("a").await.expect_err("403, and HEAD has no body");
    assert_says(&error, StoreErrorKind::Denied, &["s3:ListBucket"]);
}
#[tokio::test]
async fn a_missing_bucket_is_named() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.bucket = "backup".into();
    let store = connect(options).await;
    assert_says(
        &store.check().await.expect_err("404"),
        StoreErrorKind::NoPlace,
        &["bucket backup", "S3_BACKUP_BUCKET"],
    );
    assert_says(&store.list("").await.expect_err("404"), StoreErrorKind::NoPlace, &["NoSuchBucket"]);
    let error = store.get("a", MOST).await.expect_err("404");
    assert_says(&error, StoreErrorKind::NoPlace, &[]);
}

/// The service detects the wrong secret by the signature. The error names the setting, but not the secret.
#[tokio::test]
async fn a_wrong_secret_is_reported_and_not_printed() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.credentials = Some(("test-key-id".into(), Secret::from("canary-secret")));
    assert!(!format!("{options:?}").contains("canary-secret"));
    let store = connect(options).await;
    let error = store.check().await.expect_err("403");
    assert_says(&error, StoreErrorKind::Denied, &["AWS_SECRET_ACCESS_KEY"]);
    assert!(!format!("{error:?} {store:?}").contains("canary-secret"));
}

/// The store follows the redirection in the header (301) and in the body (400).
#[tokio::test]
async fn the_store_follows_the_bucket_to_its_region() {
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

/// A service that redirects every time gives an error with the region.
#[tokio::test]
async fn an_endless_redirection_is_an_error_with_the_region() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::OtherRegion("eu-west-1")));
    let error = store.check().await.expect_err("301 again");
    assert_says(&error, StoreErrorKind::Misconfigured, &["AWS_REGION=eu-west-1", "backups"]);
    assert_eq!(server.count("ListObjectsV2"), 2);
}
#[tokio::test]
async fn a_refused_clock_is_reported_with_the_difference() {
    for (ahead, words) in [(3600, "s behind the store's"), (-3600, "s ahead of the store's")] {
        let server = S3Server::start();
        let store = store(&server).await;
        server.faults().add(Rule::always("*", Fault::Skewed(ahead)));
        let error = store.check().await.expect_err("a wrong clock");
        assert_says(&error, StoreErrorKind::ClockSkew, &[words, "clock"]);
        let seconds = ["3598", "3599", "3600", "3601"];
        assert!(seconds.iter().any(|s| error.to_string().contains(s)), "{error}");
    }
}

/// The clock of the service, from an answer without an error.
#[tokio::test]
async fn the_clock_of_the_service_is_read() {
    let server = S3Server::start();
    let ahead = store(&server).await.clock().await.expect("a Date") - chrono::Utc::now();
    assert!(ahead.num_seconds().abs() < 5, "{ahead}");
}

/// A web page answers, or the port is closed.
#[tokio::test]
async fn a_wrong_endpoint_names_its_settings() {
    let server = S3Server::start();
    let endpoint = server.endpoint();
    let words = ["S3_ENDPOINT_URL", "S3_FORCE_PATH_STYLE", endpoint.as_str()];
    let store = store(&server).await;
    server.faults().add(Rule::always("*", Fault::WebPage));
    assert_says(&store.check().await.expect_err("a web page"), StoreErrorKind::Misconfigured, &words);

    let mut closed = options(&server);
    drop(server);
    closed.timeouts.connect = Duration::from_secs(2);
    let error = connect(closed).await.check().await.expect_err("nobody listens");
    assert_says(&error, StoreErrorKind::Misconfigured, &words);
    assert!(error.cause.starts_with("connection refused"), "{error}");
}

/// A refused connection after good answers is an outage, not a wrong setting.
#[tokio::test]
async fn a_refused_connection_after_good_answers_is_an_outage() {
    let server = S3Server::start();
    let store = store(&server).await;
    store.check().await.expect("it is there");
    drop(server);
    assert_says(&store.check().await.expect_err("it is gone"), StoreErrorKind::Failed, &["cannot list"]);
}

/// The bucket's name is put into the host name, which this endpoint does not serve.
#[tokio::test]
async fn a_bucket_name_in_an_unknown_host_names_the_path_style_setting() {
    let server = S3Server::start();
    let mut options = options(&server);
    options.endpoint_url = Some(format!("http://localhost.invalid:{}", server.address().port()));
    options.force_path_style = Some(false);
    let error = connect(options).await.check().await.expect_err("no such host");
    assert_says(&error, StoreErrorKind::Misconfigured, &["unknown host", "S3_FORCE_PATH_STYLE (now false)"]);
}

/// Without credentials the error names the variables, and nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_name_the_variables_and_send_nothing() {
    let server = S3Server::start();
    let output = tokio::task::block_in_place(|| child(&[], "anonymous", server.endpoint()));
    let said = said(&output);
    assert!(
        said.starts_with("Misconfigured") && said.contains("there are no credentials. Set AWS_ACCESS_KEY_ID"),
        "{said}"
    );
    assert_eq!(server.calls(), []);
}

/// The answer to HEAD has no body, so the header must be enough.
#[tokio::test]
async fn a_head_request_follows_the_bucket_to_its_region() {
    let server = S3Server::start();
    let store = store(&server).await;
    server.faults().add(Rule::first(1, "*", Fault::OtherRegion("eu-west-1")));
    assert_eq!(store.head("a").await.expect("the second request"), None);
    server.faults().add(Rule::always("*", Fault::Skewed(7200)));
    assert_eq!(store.head("a").await.expect_err("a wrong clock").kind, StoreErrorKind::ClockSkew);
}
