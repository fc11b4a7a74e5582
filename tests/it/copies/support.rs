//! Support for the tests of several places: backups into given stores, and proofs that a place shows only what it has whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::error::Result;
use uzima_backup::base::progress::Meter;
use uzima_backup::base::retry::Patience;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::JobSettings;
use uzima_backup::config::choices::EngineChoice;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::store::{DirOptions, Limits, S3Options};
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::mongo::notes::Notes;
use uzima_backup::ops::backup::{self, BackupOptions, BackupPlace, BackupReport, Resources};
use uzima_backup::store::{DirStore, S3Store, Store};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::moto::Moto;
use uzima_testkit::raw;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// The size of the parts in bytes, so that small backups have several.
const PART: u64 = 64 << 10;

/// The kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Dir,
    S3,
    Moto,
}

/// A server with about 300 KB that cannot be compressed, and what the stores need.
pub struct World {
    pub server: Mongod,
    pub folder: tempfile::TempDir,
    s3: S3Server,
    moto: Option<Moto>,
}

impl World {
    pub async fn new(with_moto: bool) -> World {
        let server = Mongod::builder().start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        for name in ["orders", "customers"] {
            let documents: Vec<Vec<u8>> = (0..50)
                .map(|id: i32| {
                    let noise: Vec<u8> = (0..3000).map(|_| rand::random()).collect();
                    let noise = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: noise };
                    bson::rawdoc! {"_id": id, "noise": noise}.into_bytes()
                })
                .collect();
            raw::insert(&client.database("shop"), name, &documents).await.expect("documents");
        }
        let moto = if with_moto {
            let moto = tokio::task::spawn_blocking(Moto::start).await.expect("moto");
            moto.create_bucket(BUCKET);
            Some(moto)
        } else {
            None
        };
        let folder = tempfile::tempdir().expect("a folder");
        World { server, folder, s3: S3Server::start(), moto }
    }

    /// A new and empty place. moto checks no signatures.
    pub async fn place(&self, kind: StoreKind, name: &str) -> Arc<dyn Store> {
        let endpoint = match kind {
            StoreKind::Dir => return dir(&self.folder.path().join(name)),
            StoreKind::S3 => self.s3.endpoint(),
            StoreKind::Moto => self.moto.as_ref().expect("moto runs").endpoint(),
        };
        // moto refuses parts below 5 MiB, as Amazon does.
        let min_part = if kind == StoreKind::Moto { 5 << 20 } else { PART };
        let options = S3Options {
            endpoint_url: Some(endpoint),
            region: Some("us-east-1".into()),
            credentials: Some((ACCESS_KEY.into(), Secret::from(SECRET_KEY))),
            limits: Limits { min_part, ..Limits::default() },
            patience: Patience::new(Duration::from_secs(5)),
            ..S3Options::new(BUCKET, format!("{name}/"))
        };
        Arc::new(S3Store::connect(options).await.expect("a bucket"))
    }

    /// The settings of a backup to several places.
    pub fn settings(&self) -> JobSettings {
        let state_dir = Some(self.folder.path().join("state"));
        let machine = Machine { host: "test".into(), search_path: None, state_dir, cores: 2 };
        let mut settings =
            JobSettings::with_defaults(&self.server.uri(), "nightly", &machine).expect("settings");
        settings.engine = EngineChoice::Native;
        settings.format = "tar.zst".parse().expect("a format");
        settings.patience = Patience::new(Duration::from_secs(5));
        settings
    }
}

/// The store of a directory, which is created.
pub fn dir(root: &Path) -> Arc<dyn Store> {
    let limits = Limits { min_part: PART, ..Limits::default() };
    let options = DirOptions { min_free: 0.0, limits, ..DirOptions::new(root) };
    std::fs::create_dir_all(root).expect("a folder");
    Arc::new(DirStore::new(options).expect("a directory"))
}

/// The names of the places in these tests.
pub const NAMES: [&str; 3] = ["first", "second", "third"];

/// Makes a backup to these places.
pub async fn back_up(settings: &JobSettings, stores: &[Arc<dyn Store>]) -> Result<BackupReport> {
    let place = |(store, name): (&Arc<dyn Store>, &str)| BackupPlace {
        name: name.into(),
        store: store.clone(),
        uploads: 2,
        catch_up: settings.catch_up,
    };
    let resources = Resources {
        places: stores.iter().zip(NAMES).map(place).collect(),
        away: Vec::new(),
        order: NAMES.map(str::to_string).to_vec(),
        clock: Clock::start(),
        new_id: Arc::new(|now| BackupId::new(now, &mut rand::rng())),
        meter: Arc::new(Meter::default()),
        cancel: Cancel::default(),
        notes: Notes::default(),
    };
    backup::backup(&resources, &BackupOptions::new(settings.clone())).await
}

/// The manifests of all backups that a place shows. Each must be whole: its artifact and its index have the sizes and the checksums
/// in the manifest.
pub async fn shown(store: &dyn Store) -> BTreeMap<BackupId, Bytes> {
    let mut shown = BTreeMap::new();
    for object in store.list("").await.expect("a listing") {
        if !object.key.ends_with("/manifest.json") {
            continue;
        }
        let bytes = store.get(&object.key, 1 << 20).await.expect("a manifest");
        let manifest = Manifest::decode(&bytes).expect("a manifest");
        let read = async |key: &str| store.get(key, 1 << 30).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        let artifact = read(&manifest.artifact.key).await;
        assert_eq!(artifact.len() as u64, manifest.artifact.size);
        let crc = crc_fast::checksum(Crc64Nvme, &artifact);
        assert_eq!(format!("{crc:016x}"), manifest.artifact.crc64nvme);
        let index = read(&manifest.index.key).await;
        assert_eq!(blake3::hash(&index).to_hex().as_str(), manifest.index.blake3);
        shown.insert(manifest.id, bytes);
    }
    shown
}
