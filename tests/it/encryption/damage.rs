//! Changed, cut, exchanged and missing bytes of an encrypted backup are found with and without the key, and a restore changes
//! nothing.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crc_fast::CrcAlgorithm::Crc64Nvme;
use uzima_backup::artifact::age_header::NONCE;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::keys::Identities;
use uzima_backup::base::progress::Meter;
use uzima_backup::catalog::layout;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::verify::check_backup;
use uzima_backup::store::{DirStore, Store};
use uzima_testkit::mongod::Mongod;

use super::support::{Encrypted, Key, server};
use crate::cli::support::{NOWHERE, run};

struct Stored {
    encrypted: Encrypted,
    manifest: Manifest,
    store: Arc<dyn Store>,
    keys: Identities,
}

impl Stored {
    fn make(server: &Mongod, format: &str) -> Stored {
        let encrypted = Encrypted::new();
        let args = ["--db", "canaryshop", "--format", format];
        let manifest = encrypted.backup(&server.uri(), &args);
        let store = Arc::new(DirStore::new(DirOptions::new(encrypted.home.backups())).expect("a store"));
        let keys = encrypted.key.identities();
        Stored { encrypted, manifest, store, keys }
    }

    fn artifact(&self) -> PathBuf {
        self.encrypted.home.backups().join(&self.manifest.artifact.key)
    }

    /// The number of findings with the key and without.
    async fn findings(&self) -> [usize; 2] {
        let mut found = [0, 0];
        for (keys, found) in [Some(&self.keys), None].into_iter().zip(&mut found) {
            let (clock, meter) = (Clock::start(), Meter::default());
            let check = check_backup(&self.store, &self.manifest, keys, 2, clock, &meter).await;
            *found = check.expect("it can be read").findings.len();
        }
        found
    }

    #[track_caller]
    fn all_found(found: [usize; 2], what: &str) {
        assert!(found.iter().all(|count| *count > 0), "{what}: {found:?}");
    }
}

/// With `UZIMA_TEST_FULL=1`: every byte. Otherwise every sixth, from a random one on.
#[tokio::test(flavor = "multi_thread")]
async fn every_changed_byte_of_an_encrypted_artifact_is_found() {
    let server = server().await;
    let step = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 1 } else { 6 };
    let first: usize = rand::random_range(0..step);
    println!("every {step} bytes from {first} on");
    for format in ["tar.zst", "archive.gz"] {
        let stored = Stored::make(&server, format);
        assert_eq!(stored.findings().await, [0, 0], "{format}");
        let whole = std::fs::read(stored.artifact()).expect("the artifact");
        let file = std::fs::OpenOptions::new().write(true).open(stored.artifact()).expect("the artifact");
        for (at, byte) in whole.iter().enumerate().skip(first).step_by(step) {
            file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64).expect("a byte");
            Stored::all_found(stored.findings().await, &format!("{format}: byte {at} of {}", whole.len()));
            file.write_all_at(&[*byte], at as u64).expect("a byte");
        }
        assert_eq!(stored.findings().await, [0, 0], "{format}");
    }
}

/// Whoever can write to the store can also write a checksum that fits. The key finds that, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_artifact_with_a_fitting_manifest_is_found_with_the_key() {
    let server = server().await;
    let mut stored = Stored::make(&server, "tar.gz");
    let other = Stored::make(&server, "tar.gz");
    let (whole, foreign) =
        (std::fs::read(stored.artifact()).unwrap(), std::fs::read(other.artifact()).unwrap());
    let begin = stored.manifest.encryption.as_ref().unwrap().header_length as usize + NONCE;
    let cut: Vec<Vec<u8>> = [0, 10, begin - NONCE, begin, begin + 1, begin + 16, whole.len() - 1]
        .map(|len| whole[..len].to_vec())
        .into();
    let exchanged = vec![
        [&foreign[..begin], &whole[begin..]].concat(),
        [&whole[..begin], &foreign[begin..]].concat(),
        [&whole[..], b"x"].concat(),
        foreign.clone(),
        b"plain text".to_vec(),
    ];
    for (n, bytes) in cut.into_iter().chain(exchanged).enumerate() {
        std::fs::write(stored.artifact(), &bytes).expect("another file");
        let before = stored.manifest.clone();
        stored.manifest.artifact.size = bytes.len() as u64;
        stored.manifest.artifact.crc64nvme = format!("{:016x}", crc_fast::checksum(Crc64Nvme, &bytes));
        let [with_key, _] = stored.findings().await;
        assert!(with_key > 0, "case {n}");
        stored.manifest = before;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_not_restored_and_the_target_stays() {
    let server = server().await;
    let target = Mongod::builder().start().await.expect("mongod");
    let rows = target.client().await.expect("a client").database("canaryshop").collection("canaryrows");
    rows.insert_one(bson::doc! {"_id": "kept"}).await.expect("a row");
    let (stored, other) = (Stored::make(&server, "tar.gz"), Stored::make(&server, "tar.gz"));
    let root = stored.encrypted.home.backups();
    let index = root.join(&stored.manifest.index.key);
    let manifest = root.join(layout::manifest(&stored.manifest.id));
    let whole = std::fs::read(stored.artifact()).expect("an artifact");
    let begin = stored.manifest.encryption.as_ref().unwrap().header_length as usize + NONCE;
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let foreign = std::fs::read(other.artifact()).expect("an artifact");
    let index_flipped = {
        let mut bytes = std::fs::read(&index).expect("an index");
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    let documents = format!("\"documents\": {}", stored.manifest.totals.documents);
    let cases = [
        ("a changed header", stored.artifact(), flipped(30)),
        ("a changed nonce", stored.artifact(), flipped(begin - 1)),
        ("a changed chunk", stored.artifact(), flipped(begin + 40)),
        ("a changed tag", stored.artifact(), flipped(whole.len() - 1)),
        ("an artifact that was cut off", stored.artifact(), whole[..whole.len() - 1].to_vec()),
        ("the header of another file", stored.artifact(), [&foreign[..begin], &whole[begin..]].concat()),
        ("a changed index", index.clone(), index_flipped),
        ("a changed manifest", manifest.clone(), text.replace(&documents, "\"documents\": 5").into_bytes()),
    ];
    for (what, path, bytes) in cases {
        let before = std::fs::read(&path).expect("a file");
        assert!(before != bytes, "{what}");
        std::fs::write(&path, bytes).expect("damaged");
        let mut restore = stored.encrypted.tool(NOWHERE);
        restore.env("RESTORE_URI", target.uri()).args([
            "restore",
            stored.manifest.id.as_str(),
            "--yes",
            "--drop",
        ]);
        let ran = run(restore.arg("--identity").arg(&stored.encrypted.key.file));
        assert_eq!(ran.code, Some(4), "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains("next step: "), "{what}: {}", ran.stderr);
        assert_eq!(rows.count_documents(bson::doc! {"_id": "kept"}).await.expect("a count"), 1, "{what}");
        std::fs::write(&path, before).expect("repaired");
    }
    let missing = stored.artifact();
    std::fs::remove_file(&missing).expect("removed");
    let mut restore = stored.encrypted.tool(NOWHERE);
    restore.env("RESTORE_URI", target.uri()).args([
        "restore",
        stored.manifest.id.as_str(),
        "--yes",
        "--drop",
    ]);
    run(restore.arg("--identity").arg(&stored.encrypted.key.file)).ends(4).says(&["is missing"]);
}

/// An artifact that was encrypted to another key by somebody who can write to the store.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_for_another_key_is_damage_and_not_a_missing_key() {
    let server = server().await;
    let stored = Stored::make(&server, "tar.gz");
    let stranger = Key::new(stored.encrypted.home.path(), "stranger.key");
    let recipients = uzima_backup::base::keys::Recipients::parse(&[stranger.recipient]).unwrap().unwrap();
    let forged = uzima_backup::artifact::seal::seal(&recipients, b"forged").expect("encrypted");
    let path = stored.encrypted.home.backups().join(layout::manifest(&stored.manifest.id));
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["index"]["size"] = forged.len().into();
    json["index"]["blake3"] = blake3::hash(&forged).to_hex().to_string().into();
    std::fs::write(&path, json.to_string()).expect("a manifest");
    std::fs::write(stored.encrypted.home.backups().join(&stored.manifest.index.key), forged)
        .expect("an index");
    let mut verify = stored.encrypted.tool(NOWHERE);
    let ran = run(verify.args(["verify", "--identity"]).arg(&stored.encrypted.key.file)).ends(4);
    assert!(ran.stdout.contains("its header is damaged, or belongs to another file"), "{}", ran.stdout);
}
