//! The mails of the year: a service that answers as the day says, and the expected mails, written from the
//! design: the first failure of a series, then one a day, and the recovery.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// A mail in a request to the service. Several attempts are one mail.
#[derive(Debug, Clone)]
pub struct Mail {
    key: String,
    pub subject: String,
    pub text: String,
    pub accepted: bool,
}

impl Mail {
    /// The name of its event.
    pub fn event(&self) -> &str {
        self.key.split('/').nth(1).expect("an event in the key")
    }
}

/// The mail service.
pub struct Inbox {
    pub server: MockServer,
    desk: Desk,
}

#[derive(Clone, Default)]
struct Desk {
    status: Arc<AtomicU16>,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Respond for Desk {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let status = self.status.load(Relaxed);
        let mail: Value = request.body_json().expect("JSON");
        let text = |key: &str| mail[key].as_str().expect(key).to_string();
        let key = request.headers["idempotency-key"].to_str().expect("ASCII").to_string();
        let mail = Mail { key, subject: text("subject"), text: text("text"), accepted: status == 200 };
        let mut mails = self.mails.lock().expect("no holder panics");
        if !mails.iter().any(|known| known.key == mail.key) {
            mails.push(mail);
        }
        let body = json!({"id": "x", "statusCode": status, "name": "of_the_day", "message": "no"});
        // The service asks for the next attempt at once, because a day of this year takes only a moment.
        ResponseTemplate::new(status).insert_header("retry-after", "0").set_body_json(body)
    }
}

impl Inbox {
    pub async fn open() -> Inbox {
        let server = MockServer::start().await;
        let desk = Desk::default();
        let mock = Mock::given(method("POST")).and(path("/emails")).respond_with(desk.clone());
        mock.mount(&server).await;
        Inbox { server, desk }
    }

    /// Sets the status of all later answers.
    pub fn answer(&self, status: u16) {
        self.desk.status.store(status, Relaxed);
    }

    pub fn is_up(&self) -> bool {
        self.desk.status.load(Relaxed) == 200
    }

    /// The mails since the last call.
    pub fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.desk.mails.lock().expect("no holder panics"))
    }
}

/// A series of failures of one operation of a job.
#[derive(Debug, Default)]
pub struct Series {
    failing: bool,
    /// The time, by the machine's clock, when the service accepted the last mail about this series.
    mailed_at: Option<DateTime<Utc>>,
}

impl Series {
    /// The mail that a failed run must send, if any. `word`: the name of its event.
    pub fn bad(&mut self, word: &'static str, now: DateTime<Utc>, up: bool) -> Option<&'static str> {
        self.failing = true;
        let day = TimeDelta::hours(23);
        // A mail that was sent while the clock was in the future suppresses no later one.
        let quiet = self.mailed_at.is_some_and(|at| at <= now && now < at + day);
        if !quiet && up {
            self.mailed_at = Some(now);
        }
        (!quiet).then_some(word)
    }

    /// The mail that a successful run must send. `word` is `None` if the run has nothing to report.
    pub fn good(&mut self, word: Option<&'static str>) -> Option<&'static str> {
        match std::mem::take(self) {
            Series { failing: true, mailed_at: Some(_) } => Some("recovered"),
            _ => word,
        }
    }
}
