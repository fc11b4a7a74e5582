//! What a service answered, and whether asking again may help.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Response, StatusCode};

/// An answer that is no success.
#[derive(Debug)]
pub enum Answer {
    /// The service said no.
    Refused {
        /// The status.
        status: StatusCode,
        /// The service's name of the mistake.
        name: String,
        /// Its words.
        words: String,
        /// After what time it wants to be asked again.
        after: Option<Duration>,
    },
    /// No answer came.
    Lost(String),
    /// The request cannot be made.
    Unsendable(String),
}

/// As much of an answer as is worth reading: the service says it in a line.
const WORDS: usize = 300;

impl Answer {
    /// Reads an answer.
    pub async fn of(response: Response) -> Answer {
        let status = response.status();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = header.and_then(|text| retry_after(text, Utc::now()));
        // What stands between may answer anything, at any length.
        let body = super::said(response).await;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |key: &str| one_line(json[key].as_str().unwrap_or_default());
        let words = match text("message") {
            words if words.is_empty() => one_line(&body),
            words => words,
        };
        Answer::Refused { status, name: text("name"), words, after }
    }

    /// Whether it may be another one a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            // A quota is not used up for a minute.
            Answer::Refused { name, .. } if name.ends_with("_quota_exceeded") => false,
            // The first try is still under way at the service.
            Answer::Refused { name, .. } if name == "concurrent_idempotent_requests" => true,
            Answer::Refused { status, .. } => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Answer::Lost(_) => true,
            Answer::Unsendable(_) => false,
        }
    }

    /// What a person should do who finds that `place` does not answer.
    pub fn unreached(&self, place: &str) -> String {
        match self {
            Answer::Lost(why) if why.contains("certificate") => {
                "See whether this machine's clock and its CA certificates are right".into()
            }
            _ => format!("See whether {place} can be reached from this machine"),
        }
    }

    /// The pause that the service asks for.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Answer::Refused { after, .. } => *after,
            Answer::Lost(_) | Answer::Unsendable(_) => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Refused { status, name, words, .. } => {
                write!(f, "the service answered {}", status.as_u16())?;
                for part in [name, words].into_iter().filter(|part| !part.is_empty()) {
                    write!(f, ", {part}")?;
                }
                Ok(())
            }
            Answer::Lost(why) => write!(f, "no answer from the service: {why}"),
            Answer::Unsendable(why) => write!(f, "the request cannot be made: {why}"),
        }
    }
}

/// A service's words in a line that is not long.
pub fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::base::units::one_line(&line).chars().take(WORDS).collect()
}

/// The longest pause that a service may ask for; the time limit of the request may end it earlier.
const LONGEST: Duration = Duration::from_secs(30);

/// A `retry-after` header: seconds, or a date of HTTP.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => {
            Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64()))
        }
        Ok(_) => return None,
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(now.into()).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_a_line() {
        let text = Answer::Refused {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            name: "x_error".into(),
            words: one_line(&format!("a\r\n\tb {}", "c".repeat(1000))),
            after: None,
        }
        .to_string();
        assert!(text.starts_with("the service answered 500, x_error, a b ccc"), "{text}");
        assert!(text.len() < 400 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
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
            assert_eq!(retry_after(text, now), want.map(Duration::from_secs), "{text}");
        }
    }
}
