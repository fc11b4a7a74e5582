//! No secret appears in a mail or in the report of a failed one.

use uzima_backup::base::exit::Exit;
use uzima_backup::base::secret::Redactor;
use uzima_backup::notify::Notifier;
use uzima_backup::notify::events::{NewestGood, NotifiedRun, RunFailure, RunKind, RunOutcome};

use super::support::{KEY, accepted, asked, options, refused, service};
use crate::cli::support::{Home, run};

const PASSWORD: &str = "canary@Pa55:word";

fn failure() -> RunOutcome {
    let message = format!("cannot log in with canary%40Pa55%3Aword, that is {PASSWORD}, by {KEY}");
    RunOutcome::Failure(RunFailure {
        error: message.clone(),
        next_step: Some(message.clone()),
        exit: Exit::Failed,
        log: vec![message],
        newest_good: NewestGood::Unknown,
        max_age: std::time::Duration::from_secs(3600),
    })
}

#[tokio::test]
async fn no_secret_is_in_a_mail() {
    let server = service(vec![accepted()]).await;
    let uri = "mongodb://u:canary%40Pa55%3Aword@db1";
    let redactor = Redactor::new(&[uri], &[KEY]);
    let of =
        NotifiedRun { job: PASSWORD.into(), operation: RunKind::Backup, run: "run".into(), partial: false };
    let notifier = Notifier::new(Some(options(&server.uri())), None, redactor, PASSWORD);
    let problems = notifier.outcome(&of, failure(), chrono::Utc::now()).await;
    assert_eq!(problems, Vec::<String>::new());
    let request = &asked(&server).await[0];
    let body = String::from_utf8(request.body.clone()).expect("UTF-8");
    assert!(body.contains("***") && !body.contains("canary"), "{body}");
}

/// The service's answer contains the key, and the log is at its most verbose level.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_report_of_a_failed_mail() {
    let echo = format!("the key {KEY} is unknown");
    for answer in [refused(403, "invalid_api_key", &echo), refused(500, "x", &echo)] {
        let (server, home) = (service(vec![answer]).await, Home::new());
        let ran = run(home
            .tool()
            .envs([("RESEND_API_KEY", KEY), ("ADMIN_EMAILS", "ops@example.com"), ("RUST_LOG", "trace")])
            .env("RESEND_BASE_URL", server.uri())
            .args(["notify", "--test", "--event", "success", "-vv"]))
        .ends(1);
        assert!(ran.stderr.contains("TRACE") || ran.stderr.contains("DEBUG"), "{}", ran.stderr);
        let printed = ran.stdout + &ran.stderr;
        assert!(printed.contains("the key *** is unknown") && !printed.contains("canary"), "{printed}");
    }
}
