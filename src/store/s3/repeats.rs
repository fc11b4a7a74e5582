//! Which failures may pass, and a count of the requests that were sent again: nobody would see a service that gets worse
//! until it fails.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};

use super::failure::{Failure, skew};

/// How often a request is sent whose failure is not a matter of time: damage on the way, a conflict, an object that is not
/// there yet.
pub(super) const TRIES: u32 = 4;

/// A difference of the clocks, in seconds, that is none: S3 allows 15 minutes, so a request that is refused with less was
/// delayed on its way, after it was signed.
const SMALL_SKEW: i64 = 5 * 60;

/// Codes of failures that may pass, whatever their status. Source: "Error responses" in the Amazon S3 API reference.
const PASSING: [&str; 12] = [
    "InternalError",
    "InternalFailure",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
];

/// Codes of failures that stay, though the status is 200 or above 500.
const LASTING: [&str; 6] =
    ["NotImplemented", "QuotaExceeded", "XMinioStorageFull", "AccessDenied", "NoSuchUpload", "InvalidPart"];

/// Words about a peer that will speak no better the next time: of rustls, and of an answer that is longer than we take.
const HOPELESS: [&str; 4] = ["certificate", "corrupt message", "fatal alert", "length limit"];

/// Counts by operation and reason.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<BTreeMap<(String, String), u32>>);

impl Repeats {
    /// Counts a request that is sent again.
    pub fn note(&self, operation: &str, reason: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation.to_owned(), reason.to_owned())).or_default() += 1;
        drop(counts);
        log::debug!("S3 {operation} is sent again ({reason})");
    }

    /// All of it in a line, if there is anything.
    pub fn line(&self) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
        for ((_, reason), count) in &*counts {
            *reasons.entry(reason).or_default() += count;
        }
        let mut sorted: Vec<(&str, u32)> = reasons.into_iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let all: u32 = sorted.iter().map(|(_, count)| count).sum();
        let listed: Vec<String> = sorted.iter().map(|(reason, count)| format!("{reason} ×{count}")).collect();
        let times = if all == 1 { "once".to_owned() } else { format!("{all} times") };
        (all > 0).then(|| format!("S3 requests were sent again {times} ({})", listed.join(", ")))
    }
}

impl Failure {
    /// In a few words why it failed, the same for all of a kind.
    pub fn reason(&self) -> String {
        match self.status {
            _ if self.broken_off => "the body broke off".to_owned(),
            // What the innermost layer says is not the same for all of a kind.
            None => self.message.split(" (").next().unwrap_or_default().to_owned(),
            status => said(status, self.code.as_deref()),
        }
    }

    /// Returns true if the same request may succeed later. `answered`: the service answered an S3 request before, so that
    /// an answer that is none of S3 comes from something between, such as a proxy.
    pub fn passes(&self, answered: bool) -> bool {
        let hopeless = self.code.is_none() && HOPELESS.iter().any(|words| self.message.contains(words));
        match self.status {
            _ if self.fails_again() || self.unmade || hopeless || self.is(&LASTING) => false,
            None => true,
            _ if self.is(&["RequestTimeTooSkewed"]) => {
                self.date.is_some_and(|date| skew(date).abs() < SMALL_SKEW)
            }
            _ if self.is(&PASSING) => true,
            // An error in the body of a 200, or no answer of S3 at all.
            Some(200..300) => self.code.is_some() || answered,
            Some(501 | 505 | 507) => false,
            Some(status) => status >= 500 || status == 408 || status == 429,
        }
    }
}

fn said(status: Option<u16>, code: Option<&str>) -> String {
    let words = [status.map(|status| status.to_string()), code.map(str::to_owned)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A connection that broke in no way that has a name.
pub(super) const LOST: &str = "connection lost";

/// What happened to a connection.
pub(super) fn connection(mut error: Option<&(dyn StdError + 'static)>) -> &'static str {
    while let Some(e) = error {
        if e.to_string().contains("dns error") {
            return "unknown host";
        }
        if let Some(io) = e.downcast_ref::<io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused => return "connection refused",
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return "connection reset",
                ErrorKind::TimedOut => return "no answer in time",
                _ => {}
            }
            // Its `source` is that of the error it wraps, not that error.
            if let Some(inner) = io.get_ref() {
                return connection(Some(inner));
            }
        }
        error = e.source();
    }
    LOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sums_up() {
        let repeats = Repeats::default();
        assert_eq!(repeats.line(), None);
        repeats.note("PutObject", "connection reset");
        assert_eq!(repeats.line().unwrap(), "S3 requests were sent again once (connection reset ×1)");
        repeats.note("UploadPart", "503 SlowDown");
        repeats.note("PutObject", "503 SlowDown");
        let want = "S3 requests were sent again 3 times (503 SlowDown ×2, connection reset ×1)";
        assert_eq!(repeats.line().unwrap(), want);
    }

    #[test]
    fn connections_fail_in_these_ways() {
        for (kind, want) in [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::ConnectionReset, "connection reset"),
            (ErrorKind::UnexpectedEof, "connection lost"),
        ] {
            // Wrapped, as the SDK does.
            let error = io::Error::other(io::Error::from(kind));
            assert_eq!(connection(Some(&error)), want);
        }
        assert_eq!(connection(None), "connection lost");
    }

    #[test]
    fn failures_that_may_pass() {
        let answer = |status, code: &str| Failure {
            status: Some(status),
            code: (!code.is_empty()).then(|| code.to_owned()),
            ..Failure::default()
        };
        let skewed = |seconds| Failure {
            date: Some(chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)),
            ..answer(403, "RequestTimeTooSkewed")
        };
        let no_answer = |message: &str| Failure { message: message.to_owned(), ..Failure::default() };
        for (failure, passes) in [
            (answer(503, "SlowDown"), true),
            (answer(503, ""), true),
            (answer(500, "InternalError"), true),
            (answer(429, ""), true),
            (answer(400, "RequestTimeout"), true),
            (answer(200, "InternalError"), true),
            (answer(200, "SlowDown"), true),
            (answer(200, "AccessDenied"), false),
            (answer(501, "NotImplemented"), false),
            (answer(507, ""), false),
            (answer(503, "XMinioStorageFull"), false),
            (answer(403, "AccessDenied"), false),
            (answer(404, "NoSuchKey"), false),
            (answer(400, "BadDigest"), false),
            (skewed(-20), true),
            (skewed(290), true),
            (skewed(-1000), false),
            (answer(403, "RequestTimeTooSkewed"), false),
            (no_answer("connection refused"), true),
            (no_answer("unknown host"), true),
            (no_answer("no answer in time"), true),
            (no_answer("connection lost (invalid peer certificate: UnknownIssuer)"), false),
            (Failure { no_credentials: true, ..no_answer("there are no credentials") }, false),
        ] {
            assert_eq!(failure.passes(true), passes, "{failure:?}");
        }
        assert!(answer(200, "").passes(true) && !answer(200, "").passes(false));
        assert_eq!(no_answer("connection lost (of some kind)").reason(), "connection lost");
    }
}
