//! Fake backups: their objects are written straight into a bucket or a directory.

use std::collections::BTreeSet;
use std::process::Command;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::Value;
use uzima_backup::catalog::layout;
use uzima_backup::config::choices::Format;
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::*;
use uzima_backup::model::namespace::Type;
use uzima_backup::model::selection::SelectionAsked;
use uzima_backup::model::server::Topology;
use uzima_testkit::s3_server::S3Server;

use crate::cli::s3::variables;
use crate::cli::support::{Home, NOWHERE, Ran, run};

/// The job of the tests.
pub const JOB: &str = "all@db1";

const PREFIX: &str = "daily-backups/";
const BODY: &[u8] = b"all the data";
const INDEX: &[u8] = b"index";

/// A bucket or a directory.
pub struct Place {
    pub home: Home,
    pub bucket: Option<S3Server>,
}

/// A bucket and a directory.
pub fn places() -> [Place; 2] {
    [Place { home: Home::new(), bucket: Some(S3Server::start()) }, Place { home: Home::new(), bucket: None }]
}

impl Place {
    pub fn dir() -> Place {
        let [_, dir] = places();
        dir
    }

    pub fn s3() -> Place {
        let [s3, _] = places();
        s3
    }

    pub fn bucket(&self) -> &S3Server {
        self.bucket.as_ref().expect("a bucket")
    }

    pub fn put(&self, key: &str, body: &[u8]) {
        if let Some(bucket) = &self.bucket {
            bucket.insert(&format!("{PREFIX}{key}"), body.to_vec());
            return;
        }
        let path = self.home.backups().join(key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, body).expect("a file");
    }

    /// All keys in the place, also those outside the prefix.
    pub fn keys(&self) -> BTreeSet<String> {
        match &self.bucket {
            Some(bucket) => bucket
                .objects()
                .into_keys()
                .map(|key| key.strip_prefix(PREFIX).map_or(format!("outside/{key}"), Into::into))
                .collect(),
            None => self.home.files().into_iter().collect(),
        }
    }

    /// Writes the objects of a backup.
    pub fn add(&self, manifest: &Manifest) {
        self.put(&manifest.artifact.key, BODY);
        self.put(&manifest.index.key, INDEX);
        self.put(&layout::manifest(&manifest.id), &manifest.encode().expect("JSON"));
    }

    /// Writes one backup of the job for each of these ages in days.
    pub fn nightly(&self, days: impl IntoIterator<Item = i64>) -> Vec<Manifest> {
        let manifests: Vec<Manifest> = days.into_iter().map(|days| manifest(JOB, days)).collect();
        manifests.iter().for_each(|manifest| self.add(manifest));
        manifests
    }

    /// The tool with the settings of this place. MongoDB is unreachable, because nothing here may need it.
    pub fn command(&self) -> Command {
        let mut command = match &self.bucket {
            None => self.home.to_dir(NOWHERE),
            Some(bucket) => {
                let mut command = self.home.tool();
                command.env("MONGO_URI", NOWHERE).envs(variables(&bucket.endpoint()));
                command
            }
        };
        command.env("BACKUP_JOB", JOB);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.command().args(args))
    }

    /// The ids that have a manifest.
    pub fn listed(&self) -> BTreeSet<String> {
        let manifest = |key: String| {
            let (id, file) = layout::parse(&key)?;
            (file == layout::MANIFEST).then(|| id.to_string())
        };
        self.keys().into_iter().filter_map(manifest).collect()
    }

    /// Asserts that the place holds exactly these backups, whole, and nothing else.
    #[track_caller]
    pub fn holds(&self, manifests: &[Manifest]) {
        let want: BTreeSet<String> = manifests.iter().flat_map(keys_of).collect();
        assert_eq!(self.keys(), want);
    }
}

/// The keys of a backup.
pub fn keys_of(m: &Manifest) -> [String; 3] {
    [layout::manifest(&m.id), m.index.key.clone(), m.artifact.key.clone()]
}

/// A manifest of so many days ago, with 1,000 documents.
pub fn manifest(job: &str, days: i64) -> Manifest {
    of_time(job, Utc::now().trunc_subsecs(0) - TimeDelta::hours(1) - TimeDelta::days(days))
}

pub fn of_time(job: &str, started: DateTime<Utc>) -> Manifest {
    let suffix = blake3::hash(job.as_bytes()).to_hex().to_string();
    let id: BackupId =
        format!("{}-{}", started.format("%Y%m%dT%H%M%SZ"), &suffix[..6]).parse().expect("an id");
    let format: Format = "tar.gz".parse().expect("a format");
    let (key, blake3) = (layout::index(&id, false), blake3::hash(INDEX).to_hex().to_string());
    let index = IndexObject { key, size: INDEX.len() as u64, blake3 };
    let mut manifest = Manifest {
        format: FORMAT,
        job: job.into(),
        tool: TOOL.into(),
        host: "db1".into(),
        started_at: started,
        finished_at: started + TimeDelta::minutes(5),
        source: SourceServer {
            topology: Topology::Standalone,
            member: "db1:27017".into(),
            version: "8.0.0".into(),
            feature_compatibility_version: None,
            set_name: None,
            set_id: None,
        },
        engine: EngineUsed { name: "native".into(), version: None, why: "asked for".into() },
        consistency: ConsistencyAchieved {
            achieved: "none".into(),
            why: "x".into(),
            at: None,
            oplog: None,
            base: None,
        },
        selection: SelectionAsked::default(),
        partial: false,
        artifact: ArtifactObject {
            key: layout::artifact(&id, format, false),
            format: "tar.gz".into(),
            level: 5,
            mean_level: None,
            size: BODY.len() as u64,
            crc64nvme: format!("{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, BODY)),
            part_size: 8 << 20,
            blake3: None,
        },
        index,
        encryption: None,
        totals: Totals { namespaces: 1, documents: 0, raw_bytes: 0 },
        timing: None,
        namespaces: vec![NamespaceEntry {
            db: "shop".into(),
            collection: "orders".into(),
            kind: Type::Collection,
            uuid: None,
            options_blake3: "x".into(),
            indexes: vec![],
            documents: 0,
            raw_bytes: 0,
            stored_bytes: 1,
            xxh3_sum: "0".repeat(32),
            dropped: false,
        }],
        warnings: vec![],
        notes: vec![],
        losses: None,
        signature: None,
        id,
    };
    hold(&mut manifest, 1000);
    manifest
}

/// Sets the number of documents in a manifest.
pub fn hold(manifest: &mut Manifest, documents: u64) {
    manifest.totals.documents = documents;
    manifest.totals.raw_bytes = documents * 100;
    manifest.namespaces[0].documents = documents;
    manifest.namespaces[0].raw_bytes = documents * 100;
}

/// The ids of a report's backups with this outcome, newest first.
pub fn with(report: &Value, outcome: &str) -> Vec<String> {
    let rows = report["backups"].as_array().expect("a list").iter();
    rows.filter(|row| row["outcome"] == outcome)
        .map(|row| row["id"].as_str().expect("an id").to_string())
        .collect()
}

pub fn ids(manifests: &[Manifest]) -> Vec<String> {
    manifests.iter().map(|m| m.id.to_string()).collect()
}
