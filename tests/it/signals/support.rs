//! An installation with a monitor, a webhook and a metrics file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::cli::support::{Home, Ran, run};

/// The job of the runs.
pub const JOB: &str = "nightly";
/// The key must appear only in the paths of requests.
pub const PING_KEY: &str = "canary-5b0f2a3c-ping";
pub const HOOK_KEY: &str = "canary-77aa01fe-hook";

/// The home folder, and the server that plays monitor and webhook.
pub struct Signalled {
    pub home: Home,
    pub service: MockServer,
}

impl Signalled {
    /// With a server that accepts every request.
    pub async fn new() -> Signalled {
        let signalled = Signalled::silent().await;
        signalled.answer(".*", ResponseTemplate::new(200).set_body_string("OK")).await;
        signalled
    }

    /// With a server that answers 404 to every request until `answer` is called.
    pub async fn silent() -> Signalled {
        let signalled = Signalled { home: Home::new(), service: MockServer::start().await };
        std::fs::create_dir(signalled.metrics().parent().expect("a folder")).expect("a folder");
        signalled
    }

    /// Sets the answer to requests with this path. The first answer that matches is used.
    pub async fn answer(&self, path: &str, answer: ResponseTemplate) {
        Mock::given(method("POST")).and(path_regex(path)).respond_with(answer).mount(&self.service).await;
    }

    pub fn metrics(&self) -> PathBuf {
        self.home.path().join("textfile/uzima-backup.prom")
    }

    /// The address of the monitor.
    pub fn ping_url(&self) -> String {
        format!("{}/{PING_KEY}", self.service.uri())
    }

    /// The address of the webhook.
    pub fn webhook_url(&self) -> String {
        format!("{}/hooks?key={HOOK_KEY}", self.service.uri())
    }

    /// The tool that backs `uri` up to the home's folder, without signals.
    pub fn tool(&self, uri: &str) -> Command {
        let mut command = self.home.to_dir(uri);
        command.env("BACKUP_JOB", JOB);
        command
    }

    /// The same, with the monitor.
    pub fn pinging(&self, uri: &str) -> Command {
        let mut command = self.tool(uri);
        command.env("PING_URL", self.ping_url());
        command
    }

    /// The same, with the metrics file.
    pub fn measuring(&self, uri: &str) -> Command {
        let mut command = self.tool(uri);
        command.env("METRICS_FILE", self.metrics());
        command
    }

    /// The same, with the webhook.
    pub fn hooked(&self, uri: &str) -> Command {
        let mut command = self.tool(uri);
        command.env("WEBHOOK_URL", self.webhook_url());
        command
    }

    /// All requests, oldest first.
    pub async fn asked(&self) -> Vec<Request> {
        self.service.received_requests().await.expect("they are recorded")
    }

    /// The pings: the path below the monitor's address, and the body.
    pub async fn pings(&self) -> Vec<(String, String)> {
        let asked = self.asked().await;
        let of = |request: &Request| {
            let below = request.url.path().strip_prefix(&format!("/{PING_KEY}"))?.to_string();
            assert_eq!(request.method, "POST");
            Some((below, String::from_utf8(request.body.clone()).expect("UTF-8")))
        };
        asked.iter().filter_map(of).collect()
    }

    /// The paths of the pings, below the monitor's address.
    pub async fn paths(&self) -> Vec<String> {
        self.pings().await.into_iter().map(|(path, _)| path).collect()
    }

    /// The documents that the webhook received.
    pub async fn documents(&self) -> Vec<Value> {
        let asked = self.asked().await;
        let posts = asked.iter().filter(|request| request.url.path() == "/hooks");
        posts
            .map(|request| {
                assert_eq!(request.headers["content-type"], "application/json");
                let document = request.body_json().expect("JSON");
                crate::docs::schema::check("webhook", &document);
                document
            })
            .collect()
    }

    /// The metrics of a job, without their common prefix. What was waited for is a part of the name: `waited_seconds store`.
    pub fn figures(&self, job: &str) -> BTreeMap<String, f64> {
        let text = std::fs::read_to_string(self.metrics()).expect("a file");
        exposition(&text)
            .into_iter()
            .filter(|(_, of, _)| of == job)
            .map(|(name, _, value)| (name.strip_prefix("uzima_backup_").expect("its name").into(), value))
            .collect()
    }
}

/// Runs a command that exits with this code, and parses its JSON.
#[track_caller]
pub fn reported(command: &mut Command, args: &[&str], code: i32) -> Value {
    run(command.args(args).arg("--json")).ends(code).json()
}

/// The problems of a report.
#[track_caller]
pub fn problems(report: &Value) -> Vec<String> {
    let problems = report["problems"].as_array().expect("a list");
    problems.iter().map(|problem| problem.as_str().expect("a text").to_string()).collect()
}

/// Asserts that no part of the addresses is in the output.
#[track_caller]
pub fn keeps_quiet(ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Parses the text exposition format 0.0.4 as strictly as Prometheus, and also requires that each family is a
/// gauge, is contiguous and has a help text. Returns name, job and value of each sample.
pub fn exposition(text: &str) -> Vec<(String, String, f64)> {
    assert!(text.ends_with('\n') && !text.contains('\r'), "{text:?}");
    let word = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !text.is_empty() && text.chars().all(fits) && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    let (mut samples, mut families): (Vec<(String, String, f64)>, Vec<String>) = (Vec::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").expect("a help").split_once(' ').expect("its text");
        assert!(word(name) && !help.is_empty() && !families.contains(&name.to_string()), "{line}");
        assert_eq!(lines.next(), Some(&format!("# TYPE {name} gauge")[..]));
        families.push(name.into());
        let before = samples.len();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let labels =
                line.strip_prefix(name).expect("its family").strip_prefix("{backup_job=\"").expect("a job");
            let (labels, value) = labels.split_once("\"} ").expect("a value");
            let (job, name) = match labels.split_once("\",waited_for=\"") {
                Some((job, what)) => (job, format!("{name} {what}")),
                None => (labels, name.to_string()),
            };
            assert!(!job.contains(['"', '\\']), "no job of a test needs that: {line}");
            let sample = (name, job.to_string(), value.parse().expect("a number"));
            assert!(!samples.iter().any(|(n, j, _)| (n, j) == (&sample.0, &sample.1)), "twice: {line}");
            samples.push(sample);
        }
        assert!(samples.len() > before, "no sample of {name}");
    }
    samples
}
