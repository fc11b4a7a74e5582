//! The server, the store, the records and the mails of the year, and the tool's operations on them, composed
//! as its commands compose them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mongodb::Client;
use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::error::{Error, Result};
use uzima_backup::base::exit::Exit;
use uzima_backup::base::progress::Meter;
use uzima_backup::base::retry::Patience;
use uzima_backup::base::secret::{ExposeSecret, Redactor, Secret};
use uzima_backup::catalog::trust::Trust;
use uzima_backup::catalog::{CatalogOptions, records};
use uzima_backup::config::JobSettings;
use uzima_backup::config::RecordsAt;
use uzima_backup::config::choices::EngineChoice;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::selection::Selection;
use uzima_backup::model::id::BackupId;
use uzima_backup::mongo::notes::Notes;
use uzima_backup::notify::Notifier;
use uzima_backup::notify::events::RunOutcome;
use uzima_backup::notify::events::{BackupSuccess, NewestGood, NotifiedRun, RunFailure, RunKind};
use uzima_backup::ops::backup::{
    BackupOptions, BackupPlace, BackupReport, Recording, Resources, recorded_backup,
};
use uzima_backup::ops::cleanup::{self, CleanupReport};
use uzima_backup::store::Store;
use uzima_testkit::mongod::Mongod;

use super::clock;
use super::fate::Reach;
use super::fickle::{Fault, Fickle, Written};
use super::ledger::JOBS;
use super::mail::Inbox;
use crate::notify::support::options as mail_options;

pub const MAX_AGE: Duration = Duration::from_secs(30 * 3600);
const HOST: &str = "db1";

/// The whole environment of the test.
pub struct World {
    pub server: Mongod,
    pub client: Client,
    pub inbox: Inbox,
    pub dir: tempfile::TempDir,
    pub written: Written,
    /// The host name by which each job addresses the server.
    pub names: [&'static str; 2],
    pub reach: Reach,
}

/// The end of a run.
pub enum Ended<T> {
    Well(T),
    Failed(Error),
    Killed,
}

/// A run of `backup`.
pub struct BackupRun {
    pub job: usize,
    pub ids: Vec<BackupId>,
    pub started: DateTime<Utc>,
    pub ended: Ended<BackupReport>,
    /// The planned fault occurred.
    pub harmed: bool,
    /// The failures of mails.
    pub unsent: Vec<String>,
}

impl World {
    pub async fn new() -> World {
        let server = Mongod::builder().start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        // A year writes and syncs some ten thousand files, so they are kept in memory if possible.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let (inbox, dir) = (Inbox::open().await, dir.expect("a folder"));
        std::fs::create_dir(dir.path().join("backups")).expect("a folder");
        let names = ["127.0.0.1"; 2];
        World { server, client, inbox, dir, written: Written::default(), names, reach: Reach::Up }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    /// The store of one run.
    pub fn store(&self, fault: Option<Fault>) -> Arc<Fickle> {
        Arc::new(Fickle::new(&self.root(), &self.written, fault))
    }

    /// The connection string of a job, as of today.
    fn uri(&self, job: usize) -> Secret {
        let (name, port) = (self.names[job], self.server.port());
        Secret::from(match self.reach {
            Reach::Up => format!("mongodb://{name}:{port}/"),
            Reach::Refused => format!("mongodb://{name}:1/?serverSelectionTimeoutMS=20"),
            Reach::Login => format!("mongodb://backup:old@{name}:{port}/?serverSelectionTimeoutMS=200"),
        })
    }

    pub fn records(&self, job: usize) -> RecordsAt {
        RecordsAt::Server(self.uri(job))
    }

    pub fn options(&self, job: usize) -> BackupOptions {
        let machine = Machine {
            host: HOST.into(),
            search_path: None,
            state_dir: Some(self.dir.path().join("state")),
            cores: 1,
        };
        let uri = self.uri(job);
        let settings = JobSettings::with_defaults(uri.expose_secret(), JOBS[job].name, &machine);
        let mut settings = settings.expect("valid settings");
        settings.selection = Selection { databases: vec![JOBS[job].db.into()], ..Selection::default() };
        settings.engine = EngineChoice::Native;
        settings.format = "tar.zst".parse().expect("a format");
        settings.check_compression = false;
        settings.stall = Duration::from_secs(30);
        settings.patience = Patience::new(Duration::from_secs(2));
        settings.uploads = 1;
        BackupOptions::new(settings)
    }

    /// The options for reading the store, as of today.
    pub fn reading(&self) -> CatalogOptions {
        CatalogOptions::remembering(Some(self.dir.path().join("state")), clock::machine(), Trust::default())
    }

    pub fn notifier(&self) -> Notifier {
        let mail = mail_options(&self.inbox.server.uri());
        let state = self.dir.path().join("state");
        Notifier::new(Some(mail), Some(state), Redactor::default(), HOST)
    }

    /// Runs `backup` as its command does.
    pub async fn backup(&self, job: usize, fault: Option<Fault>) -> BackupRun {
        let (store, options) = (self.store(fault), self.options(job));
        let ids: Arc<Mutex<Vec<BackupId>>> = Arc::default();
        let (given, started) = (ids.clone(), clock::machine());
        let resources = Resources {
            places: vec![BackupPlace::only(store.clone(), 1)],
            away: Vec::new(),
            order: Vec::new(),
            clock: Clock::at(clock::machine()),
            new_id: Arc::new(move |now| {
                let id = BackupId::new(now, &mut rand::rng());
                given.lock().expect("no holder panics").push(id.clone());
                id
            }),
            meter: Arc::new(Meter::default()),
            cancel: Cancel::default(),
            notes: Notes::default(),
        };
        let recording = Recording { records: self.records(job), redactor: Redactor::default(), alone: true };
        let outcome = killed(&store, Box::pin(recorded_backup(resources, &options, &recording))).await;
        let ids = ids.lock().expect("no holder panics").clone();
        let fresh = || BackupId::new(started, &mut rand::rng()).to_string();
        let run = ids.last().map_or_else(fresh, ToString::to_string);
        let (ended, unsent) = match outcome {
            None => (Ended::Killed, Vec::new()),
            Some(Ok(done)) => {
                let success = RunOutcome::Success(BackupSuccess {
                    problems: done.manifest.warnings.clone(),
                    ..done.success()
                });
                let unsent = self.tell(job, RunKind::Backup, run, success).await;
                (Ended::Well(done), unsent)
            }
            Some(Err(error)) => {
                let unsent = self.failed(job, RunKind::Backup, run, &*store, &error).await;
                (Ended::Failed(error), unsent)
            }
        };
        BackupRun { job, ids, started, ended, harmed: store.harmed(), unsent }
    }

    /// Runs `cleanup` as its command does. Also returns whether the fault occurred.
    pub async fn cleanup(
        &self,
        job: usize,
        fault: Option<Fault>,
        change: impl FnOnce(&mut cleanup::CleanupRequest),
    ) -> (Ended<CleanupReport>, bool) {
        let store = self.store(fault);
        let mut settings = self.options(job).settings;
        settings.retention = JOBS[job].policy;
        settings.records = RecordsAt::Off;
        let mut request = cleanup::CleanupRequest::default();
        change(&mut request);
        let outcome = killed(&store, cleanup::cleanup(&*store, &settings, &request, clock::machine())).await;
        let run = BackupId::new(clock::machine(), &mut rand::rng()).to_string();
        let ended = match outcome {
            None => Ended::Killed,
            Some(Ok(mut report)) => {
                let deleted = report.deleted();
                if !deleted.is_empty()
                    && let Err(e) =
                        records::record_deleted(&self.records(job), &deleted, clock::machine()).await
                {
                    report.problems.push(e);
                }
                let report = CleanupReport::of_place(JOBS[job].name, report);
                let outcome = report.outcome(clock::machine());
                self.tell(job, RunKind::Cleanup, run, outcome).await;
                Ended::Well(report)
            }
            Some(Err(error)) => {
                self.failed(job, RunKind::Cleanup, run, &*store, &error).await;
                Ended::Failed(error)
            }
        };
        (ended, store.harmed())
    }

    async fn tell(&self, job: usize, operation: RunKind, run: String, outcome: RunOutcome) -> Vec<String> {
        let of = NotifiedRun { job: JOBS[job].name.into(), operation, run, partial: false };
        self.notifier().outcome(&of, outcome, clock::machine()).await
    }

    async fn failed(
        &self,
        job: usize,
        operation: RunKind,
        run: String,
        store: &dyn Store,
        error: &Error,
    ) -> Vec<String> {
        let newest = NewestGood::read(store, JOBS[job].name, &self.reading()).await;
        let newest = newest.unwrap_or(NewestGood::Unknown);
        assert_eq!(error.exit(), Exit::Failed, "{}", error.chain());
        let failure = RunFailure::of(error, vec![], newest, MAX_AGE);
        self.tell(job, operation, run, RunOutcome::Failure(failure)).await
    }
}

/// The result of a run, or `None` if it was killed because the store hung. A killed run is dropped with
/// everything it holds.
async fn killed<T>(store: &Fickle, run: impl Future<Output = Result<T>>) -> Option<Result<T>> {
    tokio::select! {
        outcome = run => Some(outcome),
        () = store.hung() => None,
    }
}

/// The size and the modification time, in nanoseconds, of each file.
pub type Files = BTreeMap<String, (u64, std::time::SystemTime)>;

impl World {
    /// All files below the root, also the hidden ones.
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
                let meta = entry.metadata().expect("metadata");
                if meta.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let key =
                    entry.path().strip_prefix(self.root()).expect("below the root").display().to_string();
                files.insert(key, (meta.len(), meta.modified().expect("a time")));
            }
        }
        files
    }

    pub fn read(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root().join(key)).ok()
    }
}
