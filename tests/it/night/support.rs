//! An installation whose mails go to a mail service of the test.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::cli::support::{Home, Ran, run};
use crate::notify::support::{KEY, accepted, asked, service};

/// The job of the nightly runs.
pub const JOB: &str = "nightly";

/// The nightly runs of one machine.
pub struct Nights {
    pub home: Home,
    pub service: MockServer,
}

impl Nights {
    /// With a mail service that accepts every mail.
    pub async fn new() -> Nights {
        Nights::answering(vec![accepted()]).await
    }

    /// With a mail service that gives these answers in order, and repeats the last one.
    pub async fn answering(answers: Vec<ResponseTemplate>) -> Nights {
        Nights { home: Home::new(), service: service(answers).await }
    }

    /// The tool that backs `uri` up to the home's folder, with mails.
    pub fn tool(&self, uri: &str) -> Command {
        let mut command = self.home.to_dir(uri);
        command.env("BACKUP_JOB", JOB);
        self.mailing(&mut command);
        command
    }

    /// Sets mails up by the environment.
    pub fn mailing(&self, command: &mut Command) {
        command.envs([("RESEND_API_KEY", KEY), ("ADMIN_EMAILS", "ops@example.com")]);
        command.env("RESEND_BASE_URL", self.service.uri());
    }

    #[track_caller]
    pub fn run(&self, uri: &str, args: &[&str]) -> Ran {
        run(self.tool(uri).args(args))
    }

    /// The mails that arrived, oldest first.
    pub async fn mails(&self) -> Vec<Value> {
        let asked = asked(&self.service).await;
        let posts = asked.iter().filter(|request| request.method == "POST");
        posts.map(|request| request.body_json().expect("JSON")).collect()
    }

    /// The subjects of the mails, without the tool's name.
    pub async fn subjects(&self) -> Vec<String> {
        let subject = |mail: &Value| mail["subject"].as_str().expect("a text").to_string();
        let mails = self.mails().await;
        mails
            .iter()
            .map(subject)
            .map(|s| s.strip_prefix("[uzima-backup] ").expect("its name").into())
            .collect()
    }

    /// The text of the last mail.
    pub async fn last(&self) -> String {
        self.mails().await.last().expect("a mail")["text"].as_str().expect("a text").into()
    }

    /// Sets the service's answer to the request that checks a key.
    pub async fn keys(&self, answer: ResponseTemplate) {
        Mock::given(method("GET")).and(path("/domains")).respond_with(answer).mount(&self.service).await;
    }

    /// Writes a copy of the newest backup that looks so many days older.
    pub fn age_a_copy(&self, days: i64) -> Manifest {
        let newest = self.home.manifests().pop().expect("a backup");
        let moved = chrono::TimeDelta::days(days);
        let started = newest.started_at - moved;
        let id = format!("{}-{}", started.format("%Y%m%dT%H%M%SZ"), "aaaaaa").parse().expect("an id");
        let mut copy =
            Manifest { started_at: started, finished_at: newest.finished_at - moved, ..newest.clone() };
        copy.artifact.key = layout::artifact(&id, newest.artifact.format.parse().expect("a format"), false);
        copy.index.key = layout::index(&id, false);
        copy.id = id;
        let at = |key: &str| -> PathBuf { self.home.backups().join(key) };
        std::fs::create_dir_all(at(&copy.artifact.key).parent().expect("a folder")).expect("folders");
        for (from, to) in [(&newest.artifact.key, &copy.artifact.key), (&newest.index.key, &copy.index.key)] {
            std::fs::copy(at(from), at(to)).expect("a copy");
        }
        std::fs::write(at(&layout::manifest(&copy.id)), copy.encode().expect("JSON")).expect("a manifest");
        copy
    }

    /// Deletes all objects of a backup.
    pub fn take_away(&self, manifest: &Manifest) {
        let folder = self.home.backups().join(&manifest.artifact.key);
        std::fs::remove_dir_all(folder.parent().expect("a folder")).expect("it goes");
    }
}

/// The answer to the check of a key that may only send.
pub fn sending_only() -> ResponseTemplate {
    let words = "This API key is restricted to only send emails";
    ResponseTemplate::new(401)
        .set_body_json(json!({"statusCode": 401, "name": "restricted_api_key", "message": words}))
}

/// A server with a collection of 500 documents.
pub async fn server() -> Mongod {
    let (server, _) = crate::records::support::server().await;
    server
}

/// Asserts that a text contains all these words.
#[track_caller]
pub fn holds(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}
