//! Pings a monitor with the protocol of healthchecks.io (<https://healthchecks.io/docs/http_api/>): POST to `<url>/start`,
//! `<url>` or `<url>/fail`. The monitor keeps the body for people. `<url>/log` changes no state there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;

use super::events::{NotifiedRun, RunOutcome};
use super::http::{self, HttpFailure};
use super::message::Sender;
use super::throttle::FailureStreak;
use super::{SIGNAL_LIMIT, mails};
use crate::base::error::Result;
use crate::base::secret::Redactor;
use crate::config::notify::Address;

/// The part of a body that the monitor keeps ("Attaching Logs", healthchecks.io: 100,000 bytes).
const BODY: usize = 100_000;
/// The timeout of one try: a monitor that is slow once is asked again.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What a ping says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingKind {
    /// A run begins.
    Start,
    /// The run made a good backup.
    Success,
    Fail,
    /// A message that changes no state.
    Log,
}

impl PingKind {
    /// The path segment below the address, and the name in messages.
    fn words(self) -> (Option<&'static str>, &'static str) {
        match self {
            PingKind::Start => (Some("start"), "the ping 'start'"),
            PingKind::Success => (None, "the ping 'success'"),
            PingKind::Fail => (Some("fail"), "the ping 'fail'"),
            PingKind::Log => (Some("log"), "the test ping"),
        }
    }
}

/// A monitor.
#[derive(Debug)]
pub struct Ping {
    address: Address,
}

impl Ping {
    /// Pings this address.
    pub fn new(address: Address) -> Ping {
        Ping { address }
    }

    /// Sends a ping within [`SIGNAL_LIMIT`].
    ///
    /// # Errors
    /// Returns an error if the monitor did not accept it.
    pub async fn send(&self, kind: PingKind, body: String) -> Result<()> {
        let deadline = Instant::now() + SIGNAL_LIMIT;
        let (_, what) = kind.words();
        let request = http::client()?.request(Method::POST, self.url(kind)).body(body);
        let answer = http::send("the monitor", request, TIMEOUT, deadline).await.and_then(accepted);
        answer.map_err(|failure| failure.not_delivered(("ping_url", "PING_URL"), what, &self.address))?;
        log::info!("sent {what} to {}", self.address.service());
        Ok(())
    }

    /// The segment goes below the path of the address; the query stays.
    fn url(&self, kind: PingKind) -> Url {
        let mut url = self.address.url();
        if let (Some(word), Ok(mut path)) = (kind.words().0, url.path_segments_mut()) {
            path.pop_if_empty().push(word);
        }
        url
    }
}

/// The service answers 200 even for an address that it does not know or that is pinged too often. Only the text says so:
/// "OK (not found)", "OK (rate limited)".
fn accepted(text: String) -> Result<(), HttpFailure> {
    match text.trim() {
        text if text.starts_with("OK (") => Err(HttpFailure::Refused {
            status: StatusCode::OK,
            name: String::new(),
            words: http::quoted(text),
            after: None,
        }),
        _ => Ok(()),
    }
}

/// The ping about the end of a run: the text of its mail, with as much of the log as the monitor keeps.
pub(super) fn report(
    run: &NotifiedRun,
    outcome: &RunOutcome,
    now: DateTime<Utc>,
    sender: &Sender,
    redactor: &Redactor,
) -> (PingKind, String) {
    let first = FailureStreak { failures: 1, since: now };
    let (kind, message, log) = match outcome {
        RunOutcome::Failure(f) => (PingKind::Fail, mails::failure(run, f, first, now, sender), &f.log[..]),
        RunOutcome::Success(s) => (PingKind::Success, mails::success(run, s, sender), &[][..]),
        RunOutcome::Cleanup(c) => (PingKind::Success, mails::cleanup(run, c, sender), &[][..]),
        RunOutcome::Frozen(f) => (PingKind::Success, mails::frozen(run, f, sender), &[][..]),
    };
    let mut message = message.cleaned(redactor);
    message.log.clear();
    // The log has a heading, and each of its lines is indented.
    let room = BODY.saturating_sub(message.text().len() + 100);
    let log: Vec<String> = log.iter().map(|line| redactor.clean(line)).collect();
    let mut taken = 0;
    let fits = log.iter().rev().take_while(|line| {
        taken += line.len() + 3;
        taken <= room
    });
    message.log = log[log.len() - fits.count()..].to_vec();
    (kind, message.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::notify::events::{NewestGood, RunFailure, RunKind};

    #[test]
    fn the_kind_goes_below_the_path() {
        for (address, start, success) in [
            ("https://hc.example/key", "https://hc.example/key/start", "https://hc.example/key"),
            ("https://hc.example/key/", "https://hc.example/key/start", "https://hc.example/key/"),
            (
                "https://hc.example/k/slug?create=1",
                "https://hc.example/k/slug/start?create=1",
                "https://hc.example/k/slug?create=1",
            ),
        ] {
            let ping = Ping::new(address.parse().unwrap());
            assert_eq!(ping.url(PingKind::Start).as_str(), start);
            assert_eq!(ping.url(PingKind::Success).as_str(), success);
            assert!(ping.url(PingKind::Fail).path().ends_with("/fail"));
        }
    }

    #[test]
    fn an_ok_with_a_remark_is_a_refusal() {
        for good in ["OK", "", "ok\n", "Created", "OK, thank you"] {
            assert!(accepted(good.into()).is_ok(), "{good}");
        }
        for bad in ["OK (not found)", "OK (rate limited)\n"] {
            let failure = accepted(bad.into()).unwrap_err();
            assert!(!failure.may_pass() && failure.to_string().contains(bad.trim()), "{failure}");
        }
    }

    #[test]
    fn the_end_of_a_long_log_fits_into_a_ping() {
        let lines: Vec<String> = (0..3_000).map(|n| format!("{n:05} canary {}", "ü".repeat(40))).collect();
        let failure = RunFailure::of(
            &Error::failed("no room").hint("make some"),
            lines,
            NewestGood::Missing,
            Duration::from_secs(60),
        );
        let of = NotifiedRun { job: "nightly".into(), operation: RunKind::Backup, run: "run-1".into() };
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let redactor = Redactor::new(&[], &["canary"]);
        let sender = Sender::here("db1");
        let (kind, body) = report(&of, &RunOutcome::Failure(failure), now, &sender, &redactor);
        assert_eq!(kind, PingKind::Fail);
        assert!(body.len() <= BODY && body.len() > BODY - 500, "{}", body.len());
        for word in ["no room", "Next step: make some", "nightly", "run-1", "02999 ***"] {
            assert!(body.contains(word), "{word}");
        }
        assert!(!body.contains("00000 ") && !body.contains("canary"));
    }
}
