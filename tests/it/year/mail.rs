//! The mails of the year: a service that answers as the day wants, and what must be told, written from the
//! design: the first failure of a row, then one a day, and when it works again.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// A mail as the service was asked to send it; several tries are one mail.
#[derive(Debug, Clone)]
pub struct Mail {
    key: String,
    pub subject: String,
    pub text: String,
    pub accepted: bool,
}

impl Mail {
    /// The word of its event.
    pub fn event(&self) -> &str {
        self.key.split('/').nth(1).expect("an event in the key")
    }
}

/// The service.
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
        // It asks for the next try at once: a day of this year lasts a moment.
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

    /// How it answers from now on.
    pub fn answer(&self, status: u16) {
        self.desk.status.store(status, Relaxed);
    }

    pub fn is_up(&self) -> bool {
        self.desk.status.load(Relaxed) == 200
    }

    /// The mails since this was last asked.
    pub fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.desk.mails.lock().expect("no holder panics"))
    }
}

/// What was told of one operation of a job.
#[derive(Debug, Default)]
pub struct Row {
    failing: bool,
    /// When the last mail about this row of failures was taken by the service, by the machine's clock.
    told: Option<DateTime<Utc>>,
}

impl Row {
    /// The mail that a run which ended badly must be told by, if any. `word`: what it is called.
    pub fn bad(&mut self, word: &'static str, now: DateTime<Utc>, up: bool) -> Option<&'static str> {
        self.failing = true;
        let day = TimeDelta::hours(23);
        // One that was sent by a wrong clock of the future silences nobody.
        let quiet = self.told.is_some_and(|at| at <= now && now < at + day);
        if !quiet && up {
            self.told = Some(now);
        }
        (!quiet).then_some(word)
    }

    /// The same of one that ended well; `word` is `None` where it has nothing to tell.
    pub fn good(&mut self, word: Option<&'static str>) -> Option<&'static str> {
        match std::mem::take(self) {
            Row { failing: true, told: Some(_) } => Some("recovered"),
            _ => word,
        }
    }
}
