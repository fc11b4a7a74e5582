//! Pings as healthchecks.io takes them (<https://healthchecks.io/docs/http_api/>), and whoever speaks the
//! same: POST to `<url>/start`, `<url>`, `<url>/fail`; what is posted is kept there for people. `<url>/log`
//! changes nothing there.

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode, Url};
use tokio::time::{Duration, Instant};

use super::{Answer, LIMIT, http, not_told};
use crate::base::error::Result;
use crate::base::secret::Redactor;
use crate::config::notify::Address;
use crate::notify::Outcome;
use crate::notify::events::{self, Occasion};
use crate::notify::message::Sender;
use crate::notify::render;

/// As much as is kept there ("Attaching Logs", healthchecks.io: 100,000 bytes).
pub const BODY: usize = 100_000;
/// How long an answer is waited for: a monitor that is slow once is asked again.
const EACH: Duration = Duration::from_secs(4);

/// What a monitor is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A run begins.
    Start,
    /// It made a good backup.
    Success,
    /// It did not.
    Fail,
    /// Something that is neither.
    Log,
}

impl Said {
    /// Where below the address it is said, and how it is called.
    fn words(self) -> (Option<&'static str>, &'static str) {
        match self {
            Said::Start => (Some("start"), "the start"),
            Said::Success => (None, "the success"),
            Said::Fail => (Some("fail"), "the failure"),
            Said::Log => (Some("log"), "the test"),
        }
    }
}

/// Pings a monitor.
#[derive(Debug)]
pub struct Ping {
    address: Address,
}

impl Ping {
    /// Pings this address.
    pub fn new(address: Address) -> Ping {
        Ping { address }
    }

    /// Says something, within [`LIMIT`].
    pub async fn say(&self, said: Said, body: String) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let (_, what) = said.words();
        let request = http::client()?.request(Method::POST, self.below(said)).body(body);
        let answered = http::tried("the monitor", request, EACH, deadline).await.and_then(taken);
        let told =
            answered.map_err(|answer| not_told(("ping_url", "PING_URL"), what, &self.address, &answer));
        told.inspect(|()| log::info!("told {} of {what}", self.address.service()))
    }

    /// Where something is said: below the address's path, whose query stays.
    fn below(&self, said: Said) -> Url {
        let mut url = self.address.url();
        if let (Some(word), Ok(mut path)) = (said.words().0, url.path_segments_mut()) {
            path.pop_if_empty().push(word);
        }
        url
    }
}

/// To an address that it does not know, or that is pinged too often, the service answers 200 all the same,
/// and says so in the text ("OK (not found)", "OK (rate limited)").
fn taken(text: String) -> Result<(), Answer> {
    match text.trim() {
        text if text.starts_with("OK (") => Err(Answer::Refused {
            status: StatusCode::OK,
            name: String::new(),
            words: http::one_line(text),
            after: None,
        }),
        _ => Ok(()),
    }
}

/// What is said of a run's end: the text of its mail, with as much of the log as is kept.
pub fn report(
    of: &Occasion,
    outcome: &Outcome,
    now: DateTime<Utc>,
    sender: &Sender,
    redactor: &Redactor,
) -> (Said, String) {
    let (said, message, log) = match outcome {
        Outcome::Failure(f) => (Said::Fail, events::failure(of, f, (1, now), now, sender), &f.log[..]),
        Outcome::Success(s) => (Said::Success, events::success(of, s, sender), &[][..]),
        Outcome::Cleanup(c) => (Said::Success, events::cleanup(of, c, sender), &[][..]),
        Outcome::Frozen(f) => (Said::Success, events::frozen(of, f, sender), &[][..]),
    };
    let mut message = message.cleaned(redactor);
    message.log.clear();
    // Each line is indented, and the log has a heading.
    let room = BODY.saturating_sub(render::text(&message).len() + 100);
    let log: Vec<String> = log.iter().map(|line| redactor.clean(line)).collect();
    let mut taken = 0;
    let fits = log.iter().rev().take_while(|line| {
        taken += line.len() + 3;
        taken <= room
    });
    message.log = log[log.len() - fits.count()..].to_vec();
    (said, render::text(&message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::notify::events::{Failure, NewestGood, Operation};

    #[test]
    fn what_is_said_stands_below_the_path() {
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
            assert_eq!(ping.below(Said::Start).as_str(), start);
            assert_eq!(ping.below(Said::Success).as_str(), success);
            assert!(ping.below(Said::Fail).path().ends_with("/fail"));
        }
    }

    #[test]
    fn an_ok_that_is_none() {
        for good in ["OK", "", "ok\n", "Created", "OK, thank you"] {
            assert!(taken(good.into()).is_ok(), "{good}");
        }
        for bad in ["OK (not found)", "OK (rate limited)\n"] {
            let answer = taken(bad.into()).unwrap_err();
            assert!(!answer.may_pass() && answer.to_string().contains(bad.trim()), "{answer}");
        }
    }

    #[test]
    fn the_end_of_a_long_log_fits_into_what_is_kept() {
        let lines: Vec<String> = (0..3_000).map(|n| format!("{n:05} canary {}", "ü".repeat(40))).collect();
        let failure = Failure::of(
            &Error::failed("no room").hint("make some"),
            lines,
            NewestGood::Missing,
            Duration::from_secs(60),
        );
        let of = Occasion { job: "nightly".into(), operation: Operation::Backup, run: "run-1".into() };
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let redactor = Redactor::new(&[], &["canary"]);
        let sender = Sender::here("db1");
        let (said, body) = report(&of, &Outcome::Failure(failure), now, &sender, &redactor);
        assert_eq!(said, Said::Fail);
        assert!(body.len() <= BODY && body.len() > BODY - 500, "{}", body.len());
        for word in ["no room", "Next step: make some", "nightly", "run-1", "02999 ***"] {
            assert!(body.contains(word), "{word}");
        }
        assert!(!body.contains("00000 ") && !body.contains("canary"));
    }
}
