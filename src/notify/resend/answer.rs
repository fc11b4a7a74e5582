//! What the service answered, and what that means.

use std::fmt;
use std::time::Duration;

use chrono::Utc;
use reqwest::{Response, StatusCode};

use super::{MailOptions, passes, wait};

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
const BODY: usize = 64 * 1024;

impl Answer {
    /// Reads an answer.
    pub async fn of(mut response: Response) -> Answer {
        let status = response.status();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = header.and_then(|text| wait::retry_after(text, Utc::now()));
        // What stands between may answer anything, at any length.
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > BODY {
                break;
            }
        }
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| one_line(json[key].as_str().unwrap_or_default());
        let words = match text("message") {
            words if words.is_empty() => one_line(&String::from_utf8_lossy(&body)),
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
            Answer::Refused { status, .. } => passes(*status),
            Answer::Lost(_) => true,
            Answer::Unsendable(_) => false,
        }
    }

    /// The pause that the service asks for.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Answer::Refused { after, .. } => *after,
            Answer::Lost(_) | Answer::Unsendable(_) => None,
        }
    }

    /// What a person should do.
    pub fn next_step(&self, options: &MailOptions) -> String {
        if let Answer::Lost(why) = self
            && why.contains("certificate")
        {
            return "See whether this machine's clock and its CA certificates are right".into();
        }
        let Answer::Refused { status, name, words, .. } = self else {
            return format!("See whether {} can be reached from this machine", options.base_url);
        };
        let of_domain = words.contains("domain") || words.contains("testing emails");
        match (status.as_u16(), name.as_str()) {
            (_, "restricted_api_key") => {
                "Give RESEND_API_KEY (mail.resend_api_key) a key that may send".into()
            }
            (403, "validation_error") | (422, "invalid_from_address") => from(options),
            (400 | 401 | 403, _) if !of_domain => {
                "Give RESEND_API_KEY (mail.resend_api_key) a valid key: https://resend.com/api-keys".into()
            }
            (403, _) => from(options),
            (400 | 422, _) => {
                format!("Correct EMAIL_FROM (mail.from, now {}) or ADMIN_EMAILS (mail.to)", options.from)
            }
            (429, name) if name.ends_with("_quota_exceeded") => {
                "Wait for the quota to be renewed, or raise it: https://resend.com/settings/usage".into()
            }
            (300..400, _) | (404 | 405, _) => {
                format!("Correct RESEND_BASE_URL (mail.base_url, now {})", options.base_url)
            }
            _ => {
                "Nothing here can mend that: https://resend-status.com tells whether the service works".into()
            }
        }
    }
}

fn from(options: &MailOptions) -> String {
    format!(
        "Set EMAIL_FROM (mail.from, now {}) to an address at a domain that is verified: https://resend.com/domains",
        options.from
    )
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

fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::EVENTS;
    use crate::secret::Secret;

    fn refused(status: u16, name: &str, words: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer::Refused { status, name: name.into(), words: words.into(), after: None }
    }

    /// The answers are those of Resend's reference, "Errors".
    #[test]
    fn each_answer_has_its_next_step_and_is_tried_again_or_not() {
        let options = MailOptions {
            key: Secret::from("re_x"),
            from: "backup@example.com".into(),
            to: vec![],
            base_url: "https://mail.example".into(),
            events: EVENTS.into(),
        };
        let testing = "You can only send testing emails to your own email address";
        for (answer, again, word) in [
            (refused(401, "missing_api_key", "Missing API key"), false, "RESEND_API_KEY"),
            (refused(401, "restricted_api_key", "only send emails"), false, "RESEND_API_KEY"),
            (refused(403, "invalid_api_key", "API key is invalid"), false, "RESEND_API_KEY"),
            (refused(400, "validation_error", "API key is invalid"), false, "RESEND_API_KEY"),
            (refused(403, "validation_error", "The x domain is not verified"), false, "EMAIL_FROM"),
            (refused(403, "validation_error", testing), false, "EMAIL_FROM"),
            (refused(403, "", "domain unknown"), false, "EMAIL_FROM"),
            (refused(422, "invalid_from_address", "Invalid from field"), false, "EMAIL_FROM"),
            (refused(422, "missing_required_field", "to"), false, "ADMIN_EMAILS"),
            (refused(404, "not_found", "no such endpoint"), false, "RESEND_BASE_URL"),
            (refused(301, "", ""), false, "RESEND_BASE_URL"),
            (refused(409, "invalid_idempotent_request", ""), false, "resend-status"),
            (refused(409, "concurrent_idempotent_requests", ""), true, "resend-status"),
            (refused(429, "rate_limit_exceeded", ""), true, "resend-status"),
            (refused(429, "daily_quota_exceeded", ""), false, "quota"),
            (refused(500, "application_error", ""), true, "resend-status"),
            (Answer::Lost("refused".into()), true, "https://mail.example"),
            (Answer::Lost("invalid peer certificate: Expired".into()), true, "clock"),
            (Answer::Unsendable("x".into()), false, "https://mail.example"),
        ] {
            assert_eq!(answer.may_pass(), again, "{answer}");
            let step = answer.next_step(&options);
            assert!(step.contains(word), "{answer}: {step}");
        }
    }

    #[test]
    fn an_answer_is_told_in_a_line() {
        let text = refused(500, "x_error", &one_line(&format!("a\r\n\tb {}", "c".repeat(1000)))).to_string();
        assert!(text.starts_with("the service answered 500, x_error, a b ccc"), "{text}");
        assert!(text.len() < 400 && !text.contains('\n'), "{text}");
    }
}
