//! HTTP requests to the mail service, the monitor and the webhook. A request is repeated while that can help, within a
//! deadline. No message shows the address, which may be a secret.

use std::fmt;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use crate::base::error::{Error, Result};
use crate::base::{retry, units};
use crate::config::notify::Address;

/// How many times a request is repeated.
const REPEATS: usize = 3;
/// The first pause is one to two times as long, chosen at random; each further pause is twice as long. Without the random
/// part, machines whose crons start in the same second would repeat at the same time.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a service may ask for. The deadline of the request may end it earlier.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of bytes that are read of an answer.
const BODY: usize = 64 * 1024;
/// The number of characters of an answer that a message quotes.
const QUOTED: usize = 300;

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum HttpFailure {
    Refused {
        status: StatusCode,
        /// The service's name for the error, if the answer is JSON with a `name`.
        name: String,
        /// The `message` of a JSON answer, else the beginning of the body.
        words: String,
        /// The pause that the service asks for.
        after: Option<Duration>,
    },
    NoAnswer(String),
    Invalid(String),
}

impl HttpFailure {
    async fn of(response: Response) -> HttpFailure {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header("retry-after").and_then(|text| retry_after(text, header("date")));
        // A proxy may answer anything, at any length.
        let body = body(response).await;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |key: &str| quoted(json[key].as_str().unwrap_or_default());
        let words = match text("message") {
            words if words.is_empty() => quoted(&body),
            words => words,
        };
        HttpFailure::Refused { status, name: text("name"), words, after }
    }

    /// Returns true if the same request may succeed a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            // A quota is renewed once a day or a month.
            HttpFailure::Refused { name, .. } if name.ends_with("_quota_exceeded") => false,
            // The service is still working on the first try.
            HttpFailure::Refused { name, .. } if name == "concurrent_idempotent_requests" => true,
            HttpFailure::Refused { status, .. } => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            HttpFailure::NoAnswer(_) => true,
            HttpFailure::Invalid(_) => false,
        }
    }

    /// The next step after `service` gave no answer.
    pub(super) fn unreached_step(&self, service: &str) -> String {
        match self {
            HttpFailure::NoAnswer(why) if why.contains("certificate") => {
                "Check this machine's clock and its CA certificates".into()
            }
            _ => format!("Check that {service} can be reached from this machine"),
        }
    }

    /// The error of a ping or webhook that did not arrive. `setting` is the key of the address and its variable.
    pub(super) fn not_delivered(
        &self,
        (key, variable): (&str, &str),
        what: &str,
        address: &Address,
    ) -> Error {
        let service = address.service();
        let hint = match self {
            HttpFailure::Refused { .. } if self.may_pass() => {
                format!("The problem is not on this machine: check that {service} works")
            }
            HttpFailure::Refused { .. } => {
                format!("Correct {variable} ({key}), or the setup of {service}")
            }
            _ => self.unreached_step(&service),
        };
        Error::failed(format!("{key}: {service} did not receive {what}: {self}")).hint(hint)
    }
}

impl fmt::Display for HttpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpFailure::Refused { status, name, words, .. } => {
                write!(f, "the service answered {}", status.as_u16())?;
                for part in [name, words].into_iter().filter(|part| !part.is_empty()) {
                    write!(f, ", {part}")?;
                }
                Ok(())
            }
            HttpFailure::NoAnswer(why) => write!(f, "no answer from the service: {why}"),
            HttpFailure::Invalid(why) => write!(f, "the request cannot be made: {why}"),
        }
    }
}

pub(super) fn client() -> Result<reqwest::Client> {
    // Without a provider the builder panics. `main` installs the same one; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // Some services refuse requests without a user agent.
        .user_agent(concat!("uzima-backup/", env!("CARGO_PKG_VERSION")))
        // The address is a secret of the configured service, so no redirect is followed.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| Error::failed(format!("cannot create an HTTP client: {}", chain(e))))
}

/// Sends a request to `service`, which the log names, and returns the beginning of the answer's body. The request is
/// repeated until it succeeds, cannot succeed, or `deadline` comes. Each answer may take as long as `timeout`.
pub(super) async fn send(
    service: &str,
    request: reqwest::RequestBuilder,
    timeout: Duration,
    deadline: Instant,
) -> Result<String, HttpFailure> {
    let mut pauses = retry::pauses(PAUSE).take(REPEATS);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let copy = request.try_clone().expect("its body is in memory").timeout(left.min(timeout));
        let failure = match copy.send().await {
            Ok(response) if response.status().is_success() => return Ok(body(response).await),
            Ok(response) => HttpFailure::of(response).await,
            Err(e) if e.is_builder() => return Err(HttpFailure::Invalid(chain(e))),
            Err(e) => HttpFailure::NoAnswer(chain(e)),
        };
        let asked = match &failure {
            HttpFailure::Refused { after, .. } => *after,
            HttpFailure::NoAnswer(_) | HttpFailure::Invalid(_) => None,
        };
        let Some(pause) = pauses.next().map(|pause| asked.unwrap_or(pause)) else { return Err(failure) };
        if !failure.may_pass() || Instant::now() + pause >= deadline {
            return Err(failure);
        }
        log::debug!("{service}: {failure}; trying again in {:.1} s", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
}

/// The pause of a `retry-after` header, which has seconds or a date. A date is compared with the `date` header of the same
/// answer, so this machine's clock does not matter.
fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => {
            Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_PAUSE.as_secs_f64()))
        }
        Ok(_) => return None,
        Err(_) => {
            let now = httpdate::parse_http_date(date?).ok()?;
            httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST_PAUSE))
}

/// Reads the beginning of a body. If the connection breaks, the part that arrived counts.
async fn body(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < BODY
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// The beginning of a service's answer in one line.
pub(super) fn quoted(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    units::one_line(&line).chars().take(QUOTED).collect()
}

/// An error and its causes in one line, without the address, which may be a secret.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::line;

    #[test]
    fn a_long_answer_is_quoted_in_one_line() {
        let text = HttpFailure::Refused {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            name: "x_error".into(),
            words: quoted(&format!("a\r\n\tb {}", "c".repeat(1000))),
            after: None,
        }
        .to_string();
        assert!(text.starts_with("the service answered 500, x_error, a b ccc"), "{text}");
        assert!(text.len() < 400 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let date = Some("Mon, 23 Nov 2026 03:00:00 GMT");
        for (text, want) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("1e9", Some(30)),
            ("-5", Some(0)),
            ("Mon, 23 Nov 2026 03:00:09 GMT", Some(9)),
            ("Mon, 23 Nov 2026 02:00:00 GMT", Some(0)),
            ("Tue, 24 Nov 2026 03:00:00 GMT", Some(30)),
            ("NaN", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, date), want.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after("Mon, 23 Nov 2026 03:00:09 GMT", None), None);
    }

    #[test]
    fn pauses_grow_and_differ() {
        let pauses = || retry::pauses(PAUSE).take(REPEATS);
        let drawn: Vec<Vec<f64>> =
            (0..50).map(|_| pauses().map(|pause| pause.as_secs_f64()).collect()).collect();
        for (nth, most) in [(0, 1.0), (1, 2.0), (2, 4.0)] {
            assert!(drawn.iter().all(|d| d.len() == 3 && (most / 2.0..=most).contains(&d[nth])), "{drawn:?}");
            assert!(drawn.iter().any(|d| d[nth] != drawn[0][nth]));
        }
    }

    #[test]
    fn a_ping_that_did_not_arrive_names_its_setting_and_a_next_step() {
        let address: Address = "https://hc.example/canary".parse().unwrap();
        let refused = |code: u16, words: &str| HttpFailure::Refused {
            status: StatusCode::from_u16(code).unwrap(),
            name: String::new(),
            words: words.into(),
            after: None,
        };
        for (failure, words) in [
            (refused(404, "not found"), "404, not found. Correct PING_URL (ping_url)"),
            (
                refused(503, ""),
                "503. The problem is not on this machine: check that https://hc.example works",
            ),
            (
                HttpFailure::NoAnswer("refused".into()),
                "refused. Check that https://hc.example can be reached",
            ),
        ] {
            let text = line(&failure.not_delivered(("ping_url", "PING_URL"), "the start", &address));
            assert!(text.starts_with("ping_url: https://hc.example did not receive the start: "), "{text}");
            assert!(text.contains(words) && !text.contains("canary"), "{text}");
        }
    }
}
