//! The addresses of monitor and webhook are secrets: they appear only in the requests, even if the services
//! repeat them.

use uzima_testkit::s3_server::S3Server;
use wiremock::ResponseTemplate;

use super::support::{HOOK_KEY, PING_KEY, Signalled};
use crate::cli::s3::to_s3;
use crate::cli::secrets::assert_clean;
use crate::cli::support::{NOWHERE, files, run};
use crate::night::support::{Nights, server};

const SECRETS: [&str; 2] = [PING_KEY, HOOK_KEY];

#[tokio::test(flavor = "multi_thread")]
async fn no_address_is_printed_or_stored_in_a_night() {
    let (server, signalled, nights) = (server().await, Signalled::silent().await, Nights::new().await);
    let echo = format!("{} {}", signalled.ping_url(), signalled.webhook_url());
    signalled.answer("/start$", ResponseTemplate::new(200).set_body_string("OK")).await;
    signalled.answer(".*", ResponseTemplate::new(403).set_body_string(echo)).await;
    let bucket = S3Server::start();
    let log = signalled.home.path().join("log");
    let key_file = signalled.home.path().join("ping");
    std::fs::write(&key_file, format!("{}\n", signalled.ping_url())).expect("a file");
    let loud = |uri: &str, args: &[&str], code| {
        let mut command = to_s3(&signalled.home, uri, &bucket);
        nights.mailing(&mut command);
        command.env("PING_URL_FILE", &key_file).env("WEBHOOK_URL", signalled.webhook_url());
        command.env("METRICS_FILE", signalled.metrics()).env("BACKUP_LOG_FILE", &log);
        let ran = run(command.env("RUST_LOG", "trace").args(args)).ends(code);
        let said = [ran.stdout.as_bytes(), ran.stderr.as_bytes()].concat();
        assert_clean(&format!("what {args:?} says"), &said, &SECRETS);
        ran
    };
    let ran = loud(&server.uri(), &["backup", "--json"], 3);
    assert!(ran.stderr.contains("TRACE") && ran.stdout.contains("403, ***"), "{}", ran.stdout);
    loud(NOWHERE, &["backup"], 1).says(&["403, ***"]);
    loud(&server.uri(), &["cleanup"], 3);
    loud(&server.uri(), &["notify", "--test", "-vv"], 1);
    let shown = loud(&server.uri(), &["config"], 0).stdout;
    assert!(shown.contains("ping_url = (hidden)  (environment, PING_URL_FILE)"), "{shown}");
    assert!(shown.contains("webhook_url = (hidden)"), "{shown}");

    assert_clean("the log file", &std::fs::read(&log).expect("a log"), &SECRETS);
    assert_clean("the figures", &std::fs::read(signalled.metrics()).expect("a file"), &SECRETS);
    for (key, object) in bucket.objects() {
        assert_clean(&key, &object, &SECRETS);
    }
    for mail in crate::notify::support::asked(&nights.service).await {
        assert_clean("a mail", &mail.body, &SECRETS);
    }
    for file in files(&signalled.home.state()) {
        let bytes = std::fs::read(signalled.home.state().join(&file)).expect("a state file");
        assert_clean(&file, &bytes, &SECRETS);
    }
    for request in signalled.asked().await.iter().filter(|request| !request.body.is_empty()) {
        assert_clean("what is said", &request.body, &SECRETS);
    }
}

/// A file with such an address must not be readable by every user.
#[test]
fn an_address_in_a_file_that_every_user_may_read_is_refused() {
    let home = crate::cli::support::Home::new();
    let config = home.path().join("config.toml");
    for key in ["ping_url", "webhook_url"] {
        std::fs::write(&config, format!("{key} = 'https://hc.example/canary'\n")).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&config, mode).expect("its mode");
        let ran = run(home.tool().env("UZIMA_BACKUP_CONFIG", &config).arg("config")).ends(2);
        assert!(ran.stderr.contains(&format!("holds a secret ({key})")), "{}", ran.stderr);
    }
}
