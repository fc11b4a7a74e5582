//! A small server, the tool, and the results of the checks.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::retry::Patience;
use uzima_backup::config::JobSettings;
use uzima_backup::config::RecordsAt;
use uzima_backup::config::choices::EngineChoice;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::place::Place;
use uzima_backup::ops::health::{CheckRow, HealthOptions, HealthReport, HealthSubject, health};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::S3Server;

use crate::cleanup::support::JOB;
use crate::cli::s3::variables;
use crate::cli::support::{Home, NOWHERE, Ran, run};

/// All checks, in their order.
pub const ALL: [&str; 15] = [
    "configuration",
    "mongodb",
    "namespaces",
    "engine",
    "store",
    "disk",
    "clock",
    "freshness",
    "backups",
    "drill",
    "key",
    "oplog",
    "records",
    "mail",
    "state",
];

/// A server with users and one collection.
pub async fn server() -> Mongod {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_many((0..50).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    server
}

/// The tool with a bucket.
pub fn in_bucket(home: &Home, uri: &str, endpoint: &str) -> Command {
    let mut command = home.tool();
    command.env("MONGO_URI", uri).envs(variables(endpoint));
    command
}

/// The output of `health --json`.
pub struct Health {
    pub ran: Ran,
    pub report: Value,
}

impl Health {
    /// Runs the command with these arguments.
    #[track_caller]
    pub fn of(command: &mut Command, args: &[&str]) -> Health {
        let ran = run(command.args(["health", "--json"]).args(args));
        let report = ran.json();
        Health { ran, report }
    }

    /// The row of a check.
    #[track_caller]
    pub fn row(&self, name: &str) -> &Value {
        let rows = self.report["checks"].as_array().expect("a list");
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {}", self.report))
    }

    pub fn detail(&self, name: &str) -> &str {
        self.row(name)["detail"].as_str().expect("a text")
    }

    pub fn step(&self, name: &str) -> &str {
        self.row(name)["next_step"].as_str().expect("a next step")
    }

    /// The checks with this outcome.
    pub fn with(&self, outcome: &str) -> Vec<&str> {
        let rows = self.report["checks"].as_array().expect("a list").iter();
        rows.filter(|row| row["outcome"] == outcome)
            .map(|row| row["name"].as_str().expect("a name"))
            .collect()
    }

    /// Asserts that no check failed or warned.
    #[track_caller]
    pub fn green(self) -> Health {
        assert_eq!((self.ran.code, self.with("failed")), (Some(0), vec![]), "{}", self.report);
        assert_eq!((self.report["healthy"].as_bool(), self.ran.stderr.as_str()), (Some(true), ""));
        self
    }

    /// Asserts that exactly this check failed, with these words in its detail or next step, and that the
    /// checks which depend on it were skipped for that reason.
    #[track_caller]
    pub fn only(self, name: &str, words: &[&str], skipped: &[&str]) -> Health {
        assert_eq!((self.ran.code, self.with("failed")), (Some(5), vec![name]), "{}", self.report);
        let said = format!("{}\n{}", self.detail(name), self.step(name));
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
        for other in skipped {
            assert_eq!(self.row(other)["outcome"], "skipped", "{other}: {}", self.report);
            assert_eq!(self.detail(other), format!("because {name} failed"));
        }
        // The last line is the failure as JSON.
        let last: Vec<&str> = self.ran.stderr.lines().rev().take(2).collect();
        assert_eq!(last.get(1), Some(&format!("unhealthy: {name}").as_str()), "{last:?}");
        let failure: Value = serde_json::from_str(last[0]).expect("JSON");
        assert_eq!((&failure["kind"], &failure["exit"]), (&"unhealthy".into(), &5.into()), "{failure}");
        assert_eq!(self.report["healthy"], false);
        self
    }
}

/// The subject that the settings would give for a place.
pub fn subject(place: Place) -> HealthSubject {
    let machine = Machine { host: "test".into(), search_path: None, state_dir: None, cores: 1 };
    let mut settings = JobSettings::with_defaults(NOWHERE, JOB, &machine).expect("valid settings");
    settings.engine = EngineChoice::Native;
    settings.stall = Duration::from_secs(20);
    settings.patience = Patience::new(Duration::from_secs(2));
    settings.records = RecordsAt::Off;
    HealthSubject {
        settings,
        place,
        mail: None,
        metrics: None,
        misspelt: vec![],
        exposed: vec![],
        identity_file: None,
        copies: vec![],
    }
}

/// Only these checks, with a limit of 20 s.
pub fn only(names: &[&str]) -> HealthOptions {
    let only = names.iter().map(|name| name.to_string()).collect();
    HealthOptions { only, patience: Duration::from_secs(20), ..HealthOptions::default() }
}

/// Runs the checks with this clock.
pub async fn look(subject: HealthSubject, options: &HealthOptions, now: DateTime<Utc>) -> HealthReport {
    health(Ok(subject), options, now, &Cancel::default()).await.expect("nobody ends it")
}

/// The row of a check.
#[track_caller]
pub fn row<'a>(report: &'a HealthReport, name: &str) -> &'a CheckRow {
    report.checks.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name} in {report:?}"))
}

/// Every file and folder below a folder, with its bytes and its modification time.
pub fn snapshot(root: &Path) -> BTreeMap<String, (Vec<u8>, Option<SystemTime>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let (name, is_dir) = (path.display().to_string(), path.is_dir());
            // The probe is created and deleted in a folder, so only files keep their time.
            let time = (!is_dir).then(|| path.metadata().and_then(|meta| meta.modified()).expect("a time"));
            let bytes = if is_dir { vec![] } else { std::fs::read(&path).expect("a file") };
            all.insert(name, (bytes, time));
            if is_dir {
                folders.push(path);
            }
        }
    }
    all
}

/// All objects of a bucket.
pub fn objects(bucket: &S3Server) -> BTreeMap<String, Vec<u8>> {
    bucket.objects().into_iter().map(|(key, bytes)| (key, bytes.to_vec())).collect()
}
