//! What a person should do when the mail service says no.

use crate::config::notify::MailOptions;
use crate::notify::http::Answer;

/// What a person should do about an answer.
pub fn next_step(answer: &Answer, options: &MailOptions) -> String {
    let Answer::Refused { status, name, words, .. } = answer else {
        return answer.unreached(&options.base_url);
    };
    let of_domain = words.contains("domain") || words.contains("testing emails");
    match (status.as_u16(), name.as_str()) {
        (_, "restricted_api_key") => "Give RESEND_API_KEY (mail.resend_api_key) a key that may send".into(),
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
        _ => "Nothing here can mend that: https://resend-status.com tells whether the service works".into(),
    }
}

fn from(options: &MailOptions) -> String {
    format!(
        "Set EMAIL_FROM (mail.from, now {}) to an address at a domain that is verified: https://resend.com/domains",
        options.from
    )
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::base::secret::Secret;
    use crate::config::notify::EVENTS;

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
            let step = next_step(&answer, &options);
            assert!(step.contains(word), "{answer}: {step}");
        }
    }
}
