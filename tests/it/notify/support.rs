//! A mail service with scripted answers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uzima_backup::base::secret::Secret;
use uzima_backup::config::notify::{EVENTS, Event, MailOptions};
use uzima_backup::config::transport::{MailTransport, ResendOptions};
use uzima_backup::notify::mailer::Mailer;
use uzima_backup::notify::message::{Message, Sender, Tone};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// The key must appear only in the header `authorization`.
pub const KEY: &str = "re_canary+Key/9";

/// Longer than all retries of a case.
pub const LONG: Duration = Duration::from_secs(60);

/// The date of a mail.
pub fn now() -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse().expect("a time")
}

/// A service that gives these answers in order, and repeats the last one.
pub async fn service(answers: Vec<ResponseTemplate>) -> MockServer {
    let server = MockServer::start().await;
    let last = answers.len();
    for (i, answer) in answers.into_iter().enumerate() {
        let mock = Mock::given(method("POST")).and(path("/emails")).respond_with(answer);
        let mock = if i + 1 < last { mock.up_to_n_times(1) } else { mock };
        mock.with_priority(i as u8 + 1).mount(&server).await;
    }
    server
}

/// The answer to an accepted mail.
pub fn accepted() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}))
}

/// An error in the form of Resend's reference.
pub fn refused(status: u16, name: &str, message: &str) -> ResponseTemplate {
    let body = json!({"statusCode": status, "name": name, "message": message});
    ResponseTemplate::new(status).set_body_json(body)
}

/// A service at this address.
pub fn resend(base_url: &str) -> MailTransport {
    MailTransport::Resend(ResendOptions { key: Secret::from(KEY), base_url: base_url.into() })
}

/// The settings that send every mail to a service.
pub fn options(base_url: &str) -> MailOptions {
    MailOptions {
        by: resend(base_url),
        from: "Backups <backups@example.com>".into(),
        to: vec!["ops@example.com".into(), "oncall@example.org".into()],
        events: EVENTS.into(),
        dead_man: false,
        each_cleanup: true,
    }
}

/// A mailer for a service.
pub fn mailer(server: &MockServer) -> Mailer {
    Mailer::new(options(&server.uri()))
}

/// A sample message.
pub fn message() -> Message {
    let message = Message::new(
        Event::Failure,
        Tone::Bad,
        "backup failed: all@db1",
        "The backup of all@db1 failed",
        &Sender::here("db1"),
    );
    message.fact("What failed", "cannot connect")
}

/// All requests that the service received.
pub async fn asked(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.expect("they are recorded")
}

/// A header of a request.
pub fn header(request: &Request, name: &str) -> String {
    request.headers[name].to_str().expect("ASCII").to_string()
}

/// The mails that the service was sent.
pub async fn mails(server: &MockServer) -> Vec<Value> {
    asked(server).await.iter().map(|request| request.body_json().expect("JSON")).collect()
}

/// A service that refuses every mail to one of these addresses without naming the address, as Resend does.
pub async fn picky(bad: &[&str]) -> MockServer {
    let server = MockServer::start().await;
    let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
    let answer = move |request: &Request| {
        let mail: Value = request.body_json().expect("JSON");
        let to: Vec<String> = serde_json::from_value(mail["to"].clone()).expect("a list");
        match to.iter().any(|address| bad.contains(address)) {
            true => refused(422, "validation_error", "Invalid `to` field."),
            false => accepted(),
        }
    };
    Mock::given(method("POST")).and(path("/emails")).respond_with(answer).mount(&server).await;
    server
}
