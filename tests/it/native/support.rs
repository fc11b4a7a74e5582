//! Support for the tests of the native engine: one way to make a backup, and the conditions that must hold
//! after a failure.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bson::{RawDocumentBuf, rawdoc};
use chrono::{DateTime, TimeDelta, Utc};
use mongodb::Client;
use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::error::{Error, Kind};
use uzima_backup::base::exit::Exit;
use uzima_backup::base::progress::Meter;
use uzima_backup::base::retry::Patience;
use uzima_backup::catalog::CatalogOptions;
use uzima_backup::catalog::trust::Trust;
use uzima_backup::config::JobSettings;
use uzima_backup::config::choices::{EngineChoice, ReadersChoice};
use uzima_backup::config::machine::Machine;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::id::BackupId;
use uzima_backup::model::index::Index;
use uzima_backup::mongo::notes::Notes;
use uzima_backup::ops::backup;
use uzima_backup::ops::backup::{BackupOptions, BackupPlace, BackupReport, Resources};
use uzima_backup::ops::list;
use uzima_backup::store::Store;
use uzima_backup::store::dir::DirStore;
use uzima_testkit::mongod::{Mongod, connect};
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, CommandError, WireProxy};

use super::decode::{self, Decoded};

/// No backup of these tests may take longer, so that a hang is a failed test.
pub const BOUND: Duration = Duration::from_secs(120);

/// A directory for backups.
pub struct Shelf {
    dir: tempfile::TempDir,
}

impl Shelf {
    pub fn new() -> Shelf {
        Shelf { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    fn store(&self) -> Arc<dyn Store> {
        let options = DirOptions { min_free: 0.0, ..DirOptions::new(self.root()) };
        Arc::new(DirStore::new(options).expect("a directory store"))
    }

    /// Makes a backup with the native engine, as the command line would.
    pub async fn run(
        &self,
        uri: &str,
        change: impl FnOnce(&mut BackupOptions),
    ) -> Result<BackupReport, Error> {
        let machine = Machine {
            host: "test".into(),
            search_path: None,
            state_dir: Some(self.dir.path().join("state")),
            cores: 2,
        };
        let mut settings = JobSettings::with_defaults(uri, "all@test", &machine)?;
        settings.engine = EngineChoice::Native;
        // Batches of the same size on a busy machine, too.
        settings.readers = ReadersChoice::Count(1);
        settings.format = "tar.zst".parse().expect("a format");
        settings.check_compression = false;
        settings.stall = Duration::from_secs(60);
        settings.patience = Patience::new(Duration::from_secs(2));
        settings.uploads = 2;
        let mut options = BackupOptions::new(settings);
        change(&mut options);
        let resources = Resources {
            places: vec![BackupPlace::only(self.store(), 4)],
            away: Vec::new(),
            order: Vec::new(),
            clock: Clock::start(),
            new_id: Arc::new(next_id),
            meter: Arc::new(Meter::default()),
            cancel: Cancel::default(),
            notes: Notes::default(),
        };
        tokio::time::timeout(BOUND, backup::backup(&resources, &options)).await.expect("the backup hangs")
    }

    /// All files of the store, relative to its root.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.root(), &self.root(), &mut files);
        files.sort();
        files
    }

    /// The ids that `list` shows.
    pub async fn listed(&self) -> Vec<String> {
        let found = list::list(
            &*self.store(),
            &[],
            &list::ListOptions::default(),
            &CatalogOptions::remembering(None, Utc::now(), Trust::default()),
        )
        .await
        .expect("a list");
        found.rows.iter().map(|row| row.id.to_string()).collect()
    }

    /// Reads a file of the store.
    pub fn read(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.root().join(key)).expect(key)
    }

    /// Decodes a backup without this project's own readers.
    pub fn decode(&self, report: &BackupReport) -> Decoded {
        let artifact = &report.manifest.artifact;
        decode::decode(&self.read(&artifact.key), &artifact.format)
    }

    pub fn index(&self, report: &BackupReport) -> Index {
        Index::decode(&self.read(&report.manifest.index.key)).expect("an index")
    }

    /// Asserts that the three files of this backup are the only files.
    pub async fn assert_only(&self, report: &BackupReport) {
        assert_eq!(self.listed().await, [report.manifest.id.to_string()]);
        let files = self.files();
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(files.iter().all(|file| file.contains(report.manifest.id.as_str())), "{files:?}");
        self.assert_no_marker();
    }

    /// Asserts that nothing is listed and no file is left.
    pub async fn assert_nothing(&self) {
        assert_eq!(self.files(), Vec::<String>::new());
        assert_eq!(self.listed().await, Vec::<String>::new());
        self.assert_no_marker();
    }

    fn assert_no_marker(&self) {
        let state = self.dir.path().join("state");
        let mut files = Vec::new();
        walk(&state, &state, &mut files);
        // The files of known places stay.
        files.retain(|file| !file.starts_with("places/"));
        assert_eq!(files, Vec::<String>::new(), "markers of uploads");
    }
}

/// Returns an id that sorts after all earlier ones, also within one second.
fn next_id(now: DateTime<Utc>) -> BackupId {
    static RUNS: AtomicI64 = AtomicI64::new(0);
    let runs = TimeDelta::seconds(RUNS.fetch_add(1, Ordering::Relaxed));
    BackupId::new(now + runs, &mut rand::rng())
}

fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => walk(root, &path, out),
            false => out.push(path.strip_prefix(root).expect("below the root").display().to_string()),
        }
    }
}

/// Makes one backup into its own directory.
pub async fn run(uri: &str, change: impl FnOnce(&mut BackupOptions)) -> (Shelf, Result<BackupReport, Error>) {
    let shelf = Shelf::new();
    let outcome = shelf.run(uri, change).await;
    (shelf, outcome)
}

/// Asserts that the run failed with exit code 1 and without a panic, and returns the error's text.
pub fn failed(outcome: Result<BackupReport, Error>) -> String {
    let error = outcome.map(|report| report.manifest).expect_err("a failure");
    let text = format!("{} | {}", error.chain(), error.next_step().unwrap_or_default());
    let lasting = matches!(error.kind(), Kind::Failed | Kind::Away | Kind::Missing);
    assert!(lasting && error.exit() == Exit::Failed, "{text}");
    assert!(!text.contains("panicked") && !text.contains("ended unexpectedly"), "{text}");
    text
}

/// Selects only these databases.
pub fn only(databases: &[&str]) -> impl FnOnce(&mut BackupOptions) {
    let databases = databases.iter().map(|db| (*db).to_owned()).collect();
    move |options| options.settings.selection.databases = databases
}

/// Documents with `_id`s from `from` on, each of about `pad` bytes.
pub fn rows(from: i32, count: i32, pad: usize) -> Vec<RawDocumentBuf> {
    (from..from + count).map(|id| rawdoc! { "_id": id, "pad": "x".repeat(pad) }).collect()
}

pub async fn insert(client: &Client, db: &str, collection: &str, documents: &[RawDocumentBuf]) {
    let bytes: Vec<&[u8]> = documents.iter().map(|d| d.as_bytes()).collect();
    raw::insert(&client.database(db), collection, &bytes).await.expect("an insert");
}

/// A server, and a proxy in front of it.
pub async fn behind_a_proxy() -> (Mongod, WireProxy, Client) {
    let server = Mongod::builder().start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let client = server.client().await.expect("a client");
    (server, proxy, client)
}

/// The `_id`s of documents whose `_id` is a number.
pub fn ids(documents: &[Vec<u8>]) -> Vec<i32> {
    let id = |d: &Vec<u8>| bson::RawDocument::from_bytes(d).expect("BSON").get_i32("_id").expect("a number");
    documents.iter().map(id).collect()
}

/// Does `work` on the server at `uri` before it passes the answer on. So the work happens between two
/// commands of a backup, without a sleep. Blocks the proxy's thread, which has no runtime.
pub fn meanwhile<W>(uri: String, work: W) -> Action
where
    W: AsyncFn(Client) + Send + Sync + 'static,
{
    Action::edit(move |answer| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = connect(&uri).await.expect("a client");
            work(client.clone()).await;
            client.shutdown().await;
        });
        answer.to_vec()
    })
}

/// Does `work` on the server at `uri`, and then answers with an error in place of the server's answer.
pub fn meanwhile_fail<W>(uri: String, code: i32, work: W) -> Action
where
    W: AsyncFn(Client) + Send + Sync + 'static,
{
    let Action::Edit(edit) = meanwhile(uri, work) else { unreachable!("it is an edit") };
    let name = CommandError::new(code).name;
    let answer = rawdoc! { "ok": 0.0, "errmsg": "from the test", "code": code, "codeName": name };
    Action::edit(move |original| {
        edit(original);
        answer.as_bytes().to_vec()
    })
}
