//! A selective restore requests little more than the stored bytes of its collections; and an artifact that does not begin with the
//! header of its encryption is never listed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::exit::Exit;
use uzima_backup::base::keys::Recipients;
use uzima_backup::base::progress::Meter;
use uzima_backup::config::JobSettings;
use uzima_backup::config::choices::EngineChoice;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::store::{DirOptions, Limits};
use uzima_backup::model::id::BackupId;
use uzima_backup::mongo::notes::Notes;
use uzima_backup::ops::backup::{self, BackupOptions, BackupPlace, Resources};
use uzima_backup::ops::restore::StoredBackup;
use uzima_backup::store::{Deleted, DirStore, Store, StoreResult, StoredObject, Upload, UploadSpec};
use uzima_testkit::load;
use uzima_testkit::mongod::Mongod;

use super::support::{Encrypted, Key, server};

/// A store that counts the bytes of requested ranges, and may change the first byte of each range.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Store>,
    requested: AtomicU64,
    changes: bool,
}

impl Watched {
    fn new(encrypted: &Encrypted, changes: bool) -> Arc<Watched> {
        let options = DirOptions { min_free: 0.0, ..DirOptions::new(encrypted.home.backups()) };
        let inner = Arc::new(DirStore::new(options).expect("a store"));
        Arc::new(Watched { inner, requested: AtomicU64::new(0), changes })
    }
}

#[async_trait]
impl Store for Watched {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn check(&self) -> StoreResult<()> {
        self.inner.check().await
    }

    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.inner.put(key, body).await
    }

    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.inner.create(key, body).await
    }

    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        self.inner.get(key, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        self.requested.fetch_add(range.end - range.start, SeqCst);
        let mut bytes = self.inner.get_range(key, range).await?.to_vec();
        if self.changes {
            bytes[0] ^= 1;
        }
        Ok(bytes.into())
    }

    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        self.inner.delete(key).await
    }

    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>> {
        self.inner.begin(spec).await
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()> {
        self.inner.abort_left(key, upload_id).await
    }

    async fn leftovers(&self) -> StoreResult<Vec<(String, String)>> {
        self.inner.leftovers().await
    }

    async fn clock(&self) -> StoreResult<DateTime<Utc>> {
        self.inner.clock().await
    }
}

/// With `UZIMA_TEST_FULL=1`: an artifact of 1 GB.
#[tokio::test(flavor = "multi_thread")]
async fn one_collection_costs_little_more_than_its_stored_bytes() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let blobs = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 32_000 } else { 5_000 };
    // Incompressible, so that the artifact is as long as the documents: 160 MB in two collections.
    for database in ["one", "two"] {
        let load = load::Load { database: database.into(), seed: 7, orders: 0, rows: 0, tiny: 0, blobs };
        load::fill(&client, &load).await.expect("documents");
    }
    let encrypted = Encrypted::new();
    let manifest = encrypted.backup(&server.uri(), &["--format", "tar.zst"]);
    let store = Watched::new(&encrypted, false);
    let keys = encrypted.key.identities();
    let places: Arc<dyn Store> = store.clone();
    let stored = StoredBackup::open(places, manifest.clone(), Some(&keys)).await.expect("opened");
    let namespaces = &stored.manifest.namespaces;
    let at =
        namespaces.iter().position(|n| (n.db.as_str(), n.collection.as_str()) == ("two", "blobs")).unwrap();
    let wanted = namespaces[at].stored_bytes;
    assert!(
        wanted > 75 << 20 && manifest.artifact.size > 150 << 20,
        "{wanted} of {}",
        manifest.artifact.size
    );
    stored.check(&BTreeSet::from([at]), 4, &Meter::default()).await.expect("sound");
    let requested = store.requested.load(SeqCst);
    assert!(requested <= wanted * 102 / 100 + (256 << 10), "{requested} bytes for {wanted}");
    println!("requested {requested} bytes for {wanted} stored ones: {:.4}", requested as f64 / wanted as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_without_its_header_is_never_listed() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let machine = Machine { host: "test".into(), search_path: None, state_dir: None, cores: 2 };
    let mut settings = JobSettings::with_defaults(&server.uri(), "nightly", &machine).expect("settings");
    settings.engine = EngineChoice::Native;
    let key: &Key = &encrypted.key;
    settings.recipients = Recipients::parse(std::slice::from_ref(&key.recipient)).expect("a recipient");
    for (changes, outcome) in [(true, Err(Exit::Failed)), (false, Ok(Exit::Done))] {
        let resources = Resources {
            places: vec![BackupPlace::only(Watched::new(&encrypted, changes), 1)],
            away: Vec::new(),
            order: Vec::new(),
            clock: Clock::start(),
            new_id: Arc::new(|now| BackupId::new(now, &mut rand::rng())),
            meter: Arc::new(Meter::default()),
            cancel: Cancel::default(),
            notes: Notes::default(),
        };
        let made = backup::backup(&resources, &BackupOptions::new(settings.clone())).await;
        match outcome {
            Ok(exit) => assert_eq!(made.expect("a backup").exit(), exit),
            Err(exit) => {
                let error = made.expect_err("no backup");
                assert_eq!(error.exit(), exit);
                assert!(error.chain().contains("does not begin with the header"), "{}", error.chain());
                assert_eq!(encrypted.home.files(), Vec::<String>::new());
            }
        }
    }
}
