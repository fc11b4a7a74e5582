//! A sequence of runs, each its own process, and the mails about them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uzima_backup::base::exit::Exit;
use uzima_backup::base::secret::Redactor;
use uzima_backup::config::notify::MailOptions;
use uzima_backup::notify::Notifier;
use uzima_backup::notify::events::{
    BackupFacts, BackupSuccess, NewestGood, NotifiedRun, RunFailure, RunKind, RunOutcome,
};
use wiremock::MockServer;

use super::support::{accepted, mails, options, service};

pub fn at(hours: i64) -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::hours(hours)
}

pub fn failure(exit: Exit, newest_good: NewestGood) -> RunOutcome {
    RunOutcome::Failure(RunFailure {
        error: "cannot connect".into(),
        next_step: None,
        exit,
        log: vec![],
        newest_good,
        max_age: Duration::from_secs(30 * 3600),
    })
}

pub fn success() -> RunOutcome {
    let facts = BackupFacts {
        started_at: at(0),
        finished_at: at(0),
        place: "/backups".into(),
        engine: "native".into(),
        consistency: "none".into(),
        namespaces: 1,
        documents: 2,
        raw_bytes: 3,
        stored_bytes: 4,
        instant: None,
        timing: None,
        partial: None,
    };
    RunOutcome::Success(BackupSuccess { facts, problems: vec![], notes: vec![], losses: None })
}

/// The run of an operation so many hours after the first one.
pub fn occasion(operation: RunKind, hours: i64) -> NotifiedRun {
    NotifiedRun { job: "all@db1".into(), operation, run: format!("run-{hours}"), partial: false }
}

/// A mail service, and a notifier with its state in a folder.
pub struct NotifierSetup {
    pub server: MockServer,
    pub folder: tempfile::TempDir,
}

impl NotifierSetup {
    pub async fn new() -> NotifierSetup {
        NotifierSetup {
            server: service(vec![accepted()]).await,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn options(&self) -> MailOptions {
        options(&self.server.uri())
    }

    /// A new notifier, as in a new process.
    pub fn notifier(&self, options: MailOptions) -> Notifier {
        let state = self.folder.path().join("state");
        Notifier::new(Some(options), Some(state), Redactor::default(), "h")
    }

    /// Ends a run, with a new notifier as in a new process.
    pub async fn ends(
        &self,
        options: MailOptions,
        operation: RunKind,
        hours: i64,
        outcome: RunOutcome,
    ) -> Vec<String> {
        self.notifier(options).outcome(&occasion(operation, hours), outcome, at(hours)).await
    }

    pub async fn backup(&self, hours: i64, outcome: RunOutcome) {
        let problems = self.ends(self.options(), RunKind::Backup, hours, outcome).await;
        assert_eq!(problems, Vec::<String>::new());
    }

    /// The subjects of all mails, without the common prefix.
    pub async fn subjects(&self) -> Vec<String> {
        let subject = |mail: &serde_json::Value| {
            mail["subject"].as_str().expect("a subject").replace("[uzima-backup] ", "")
        };
        mails(&self.server).await.iter().map(subject).collect()
    }
}
