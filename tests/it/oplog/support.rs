//! Runs `oplog`, and compares its slices with the oplog itself.

use std::io::Write;
use std::process::{Command, Stdio};

use bson::spec::BinarySubtype;
use bson::{Binary, RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use mongodb::Client;
use rand::Rng;
use uzima_backup::catalog::layout;
use uzima_backup::model::optime::OpTime;
use uzima_backup::model::slice::{ChainId, EventsFile, SliceManifest};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{DiffOptions, Snapshot, read_all, read_cursor};

use crate::cli::support::{Home, Ran, run};

pub const JOB: &str = "nightly";

/// A replica set of one member.
pub async fn set() -> (Mongod, Client) {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    (server, client)
}

/// The tool for the database `live`.
pub fn tool(home: &Home, uri: &str, args: &[&str]) -> Command {
    let mut command = home.to_dir(uri);
    command.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live").args(args);
    command
}

pub fn backup(home: &Home, uri: &str) {
    run(&mut tool(home, uri, &["backup"])).ends(0);
}

/// Runs `oplog`, which must end with this exit code. Returns its JSON.
#[track_caller]
pub fn oplog(home: &Home, uri: &str, code: i32) -> serde_json::Value {
    let ran: Ran = run(&mut tool(home, uri, &["oplog", "--json"])).ends(code);
    crate::docs::schema::check("oplog", &ran.json());
    ran.json()
}

/// The slices of the job, by chain and start. Each one is checked against its schema.
pub fn slices(home: &Home) -> Vec<SliceManifest> {
    let named = home.files().into_iter().filter(|file| file.ends_with("/slice.json"));
    let mut slices: Vec<SliceManifest> = named
        .map(|file| {
            let bytes = std::fs::read(home.backups().join(&file)).expect("a manifest");
            crate::docs::schema::check("stored-slice", &serde_json::from_slice(&bytes).expect("JSON"));
            let slice = SliceManifest::decode(&bytes).expect("a sound manifest");
            assert_eq!(file, layout::slice(JOB, &slice.chain, slice.start));
            slice
        })
        .collect();
    slices.sort_by_key(|slice| (slice.chain.clone(), slice.start));
    slices
}

/// Asserts that the slices are one chain without a gap, and returns it.
#[track_caller]
pub fn one_chain(home: &Home) -> Vec<SliceManifest> {
    let slices = slices(home);
    assert!(!slices.is_empty(), "no slices");
    for pair in slices.windows(2) {
        assert!(pair[1].continues(&pair[0]), "{:?}\n{:?}", pair[0], pair[1]);
    }
    slices
}

/// The decompressed body of a slice, compared with its manifest.
pub fn body(home: &Home, slice: &SliceManifest) -> Vec<u8> {
    let Some(body) = &slice.body else { return Vec::new() };
    let bytes = std::fs::read(home.backups().join(&body.key)).expect("a body");
    assert_eq!(
        (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string()),
        (body.size, body.blake3.clone())
    );
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
    assert_eq!(format!("{crc:016x}"), body.crc64nvme);
    let raw = zstd::decode_all(&bytes[..]).expect("zstd");
    let hash = Some(blake3::hash(&raw).to_hex().to_string());
    assert_eq!((raw.len() as u64, hash), (slice.raw_bytes, body.raw_blake3.clone()));
    raw
}

/// The events of a slice.
pub fn events(home: &Home, slice: &SliceManifest) -> EventsFile {
    let Some(events) = &slice.events else { return EventsFile::default() };
    let bytes = std::fs::read(home.backups().join(&events.key)).expect("events");
    assert_eq!(blake3::hash(&bytes).to_hex().to_string(), events.blake3);
    let json = zstd::decode_all(&bytes[..]).expect("zstd");
    crate::docs::schema::check("stored-slice-events", &serde_json::from_slice(&json).expect("JSON"));
    EventsFile::decode(&json).expect("sound events")
}

/// `zstd -dc` of all bodies in order.
pub fn by_stock_zstd(home: &Home, slices: &[SliceManifest]) -> Vec<u8> {
    let keys = slices.iter().filter_map(|slice| Some(home.backups().join(&slice.body.as_ref()?.key)));
    let done = Command::new("zstd").arg("-dc").args(keys).stderr(Stdio::inherit()).output().expect("zstd");
    assert!(done.status.success());
    done.stdout
}

/// The entries of the oplog after `start` and up to `end` that belong to the database `live`, concatenated.
pub async fn oplog_itself(client: &Client, start: OpTime, end: OpTime) -> Vec<u8> {
    let (start, end) = (Timestamp::from(start), Timestamp::from(end));
    let find = rawdoc! {"find": "oplog.rs", "filter": {"ts": {"$gt": start, "$lte": end}}};
    let entries = read_cursor(&client.database("local"), find).await.expect("the oplog");
    let mut all = Vec::new();
    for bytes in entries {
        let entry = RawDocumentBuf::from_bytes(bytes).expect("BSON");
        if is_live(&entry) {
            all.write_all(entry.as_bytes()).expect("room");
        }
    }
    all
}

fn is_live(operation: &RawDocument) -> bool {
    let text = |name| operation.get_str(name).expect("a string");
    let o = operation.get_document("o").expect("a document");
    if let ("c", Ok(operations)) = (text("op"), o.get_array("applyOps")) {
        let inner: Vec<bool> =
            operations.into_iter().map(|inner| is_live(inner.unwrap().as_document().unwrap())).collect();
        assert!(inner.iter().all(|live| *live == inner[0]), "a transaction of two databases");
        return inner.first().is_none_or(|live| *live);
    }
    text("op") != "n" && text("ns").starts_with("live.")
}

/// The content of the database `live`.
pub async fn live_snapshot(client: &Client) -> Snapshot {
    let mut snapshot = read_all(client).await.expect("a snapshot");
    snapshot.retain(|db, _| db == "live");
    assert!(!snapshot.namespaces.is_empty(), "nothing to compare");
    snapshot
}

/// How the database `live` of one server differs from that of another.
pub async fn live_differences(a: &Client, b: &Client) -> Vec<String> {
    let options = DiffOptions { users: false, ..DiffOptions::default() };
    live_snapshot(a).await.diff_with(&live_snapshot(b).await, &options)
}

/// Random bytes, which no codec makes shorter.
pub fn noise(length: usize) -> Binary {
    let mut bytes = vec![0; length];
    rand::rng().fill_bytes(&mut bytes);
    Binary { subtype: BinarySubtype::Generic, bytes }
}

/// The slice in another shape: an old one, without entries, of a chain of its own.
pub fn of_old_times(slice: &SliceManifest) -> SliceManifest {
    let (at, mut old) = (|t| OpTime { t, i: 1 }, slice.clone());
    (old.start, old.after, old.end.at) = (at(100), None, at(110));
    old.chain = ChainId::new(&old.chain.set_id, at(100)).expect("a chain");
    (old.entries, old.raw_bytes, old.body, old.events) = (0, 0, None, None);
    old
}

/// Asserts that standard output contains all these words.
#[track_caller]
pub fn prints(ran: Ran, words: &[&str]) -> Ran {
    for word in words {
        assert!(ran.stdout.contains(word), "no {word:?} in:\n{}", ran.stdout);
    }
    ran
}
