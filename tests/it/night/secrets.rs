//! No secret appears in anything that a nightly run prints, stores, records or mails.

use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::support::{Nights, holds};
use crate::cli::s3::to_s3;
use crate::cli::secrets::{PASSWORD, assert_clean, server};
use crate::cli::support::{Ran, files, run};
use crate::notify::support::{KEY, accepted, asked, refused};
use crate::records::support::recorded;

struct Loud<'a> {
    nights: &'a Nights,
    bucket: &'a S3Server,
    uri: String,
}

impl Loud<'_> {
    const SECRETS: [&'static str; 3] = [PASSWORD, KEY, uzima_testkit::s3_server::SECRET_KEY];

    /// Runs the tool at its most verbose level, and checks its whole output.
    fn run(&self, args: &[&str]) -> Ran {
        let mut command = to_s3(&self.nights.home, &self.uri, self.bucket);
        self.nights.mailing(&mut command);
        command.env_remove("BACKUP_RECORDS").env("BACKUP_JOB", "nightly").env("RUST_LOG", "trace");
        let log = self.nights.home.path().join("log");
        let ran = run(command.env("BACKUP_LOG_FILE", &log).args(args));
        assert_clean("the log file", &std::fs::read(&log).expect("a log"), &Self::SECRETS);
        let said = [ran.stdout.as_bytes(), ran.stderr.as_bytes()].concat();
        assert_clean(&format!("what {args:?} says"), &said, &Self::SECRETS);
        ran
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_stored_recorded_or_mailed_in_a_night() {
    let (server, uri) = server(&[("backup", "admin"), ("readWrite", "uzima_backup")]).await;
    let answers = vec![accepted(), accepted(), refused(403, "invalid_api_key", &format!("no key {KEY}"))];
    let (nights, bucket) = (Nights::answering(answers).await, S3Server::start());
    let loud = Loud { nights: &nights, bucket: &bucket, uri };
    loud.run(&["backup", "--json"]).ends(0);
    // A secret in a place that errors quote.
    let secret = uzima_testkit::s3_server::SECRET_KEY;
    let ran = loud.run(&["backup", "--db", secret]).ends(1).says(&["'***' does not exist"]);
    assert!(ran.stderr.contains("TRACE"), "the log is at its most verbose level");
    bucket.faults().add(Rule::always("UploadPart", Fault::Answer(403, "AccessDenied")));
    loud.run(&["backup"]).ends(1);
    bucket.faults().clear();
    let last = loud.run(&["backup", "--json"]).ends(3).json();
    holds(&last["problems"].to_string(), &["a mail could not be sent", "no key ***"]);
    loud.run(&["cleanup"]);
    loud.run(&["stats", "--email"]);
    loud.run(&["health", "--email"]);

    let mails = asked(&nights.service).await;
    let mails: Vec<_> = mails.iter().filter(|request| request.method == "POST").collect();
    assert!(mails.len() >= 4, "{}", mails.len());
    for mail in mails {
        assert_clean("a mail", &mail.body, &Loud::SECRETS);
    }
    holds(&nights.mails().await[1]["text"].to_string(), &["'***' does not exist"]);
    let objects = bucket.objects();
    assert_eq!(objects.keys().filter(|key| key.ends_with("/failed.json")).count(), 2);
    for (key, object) in objects {
        assert_clean(&key, &object, &Loud::SECRETS);
    }
    let records = recorded(&server.client().await.expect("a client")).await;
    assert!(records.iter().any(|record| record.get_str("error").is_ok_and(|e| e.contains("***"))));
    assert!(records.len() >= 4, "{records:?}");
    assert_clean("the records", format!("{records:?}").as_bytes(), &Loud::SECRETS);
    for file in files(&nights.home.state()) {
        let bytes = std::fs::read(nights.home.state().join(&file)).expect("a state file");
        assert_clean(&file, &bytes, &Loud::SECRETS);
    }
}
