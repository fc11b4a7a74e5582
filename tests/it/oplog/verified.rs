//! `verify --oplog` reads every slice, and finds each kind of damage.

use std::fs;
use std::path::{Path, PathBuf};

use bson::{Document, RawDocument, doc};
use serde_json::Value;
use uzima_backup::catalog::layout;
use uzima_backup::model::slice::SliceManifest;

use super::support::*;
use crate::cli::support::{Home, NOWHERE, run};

fn verify(home: &Home, args: &[&str], code: i32) -> Value {
    let ran = run(&mut tool(home, NOWHERE, &[&["verify", "--json"], args].concat())).ends(code);
    crate::docs::schema::check("verify", &ran.json());
    ran.json()
}

/// A backup and three slices, the first two with 20 inserts each.
async fn stored() -> Home {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": -1}).await.expect("a row");
    backup(&home, &server.uri());
    for from in [0, 20, 40] {
        rows.insert_many((from..from + 20).map(|n| doc! {"_id": n})).await.expect("rows");
        oplog(&home, &server.uri(), 0);
    }
    home
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("written");
}

/// The slice with other entries, hashes and counts that fit them.
fn with_entries(slice: &mut SliceManifest, file: &Path, raw: &[u8]) {
    let bytes = zstd::encode_all(raw, 3).expect("zstd");
    let body = slice.body.as_mut().expect("a body");
    body.size = bytes.len() as u64;
    body.blake3 = blake3::hash(&bytes).to_hex().to_string();
    body.raw_blake3 = Some(blake3::hash(raw).to_hex().to_string());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
    body.crc64nvme = format!("{crc:016x}");
    slice.raw_bytes = raw.len() as u64;
    fs::write(file, bytes).expect("written");
}

fn first_length(raw: &[u8]) -> usize {
    RawDocument::from_bytes(&raw[..i32::from_le_bytes(*raw.first_chunk().unwrap()) as usize])
        .unwrap()
        .as_bytes()
        .len()
}

/// Damages the slice in the middle: its manifest, and the files of manifest, body and events.
type Damage = Box<dyn Fn(&mut SliceManifest, &Path, &Path, &Path)>;

fn damages() -> Vec<(&'static str, &'static str, Damage)> {
    let base = "make a new backup now";
    vec![
        ("does not have the BLAKE3 in the manifest", base, Box::new(|_, _, body, _| flip(body))),
        ("byte, but the manifest says", base, Box::new(|_, _, body, _| fs::write(body, "x").unwrap())),
        ("is missing", base, Box::new(|_, _, body, _| fs::remove_file(body).unwrap())),
        (
            "does not have the BLAKE3 in the manifest",
            "nothing is lost for a restore",
            Box::new(|_, _, _, events| flip(events)),
        ),
        ("", "nothing is lost for a restore", Box::new(|_, _, _, events| fs::remove_file(events).unwrap())),
        (
            "cannot be understood",
            "put a copy of it back",
            Box::new(|_, manifest, _, _| fs::write(manifest, "{").unwrap()),
        ),
        ("are missing", base, Box::new(|_, manifest, _, _| fs::remove_file(manifest).unwrap())),
        ("it has 20 entries, but the manifest says 21", base, Box::new(|slice, _, _, _| slice.entries += 1)),
        ("its entries are less than the", base, Box::new(|slice, _, _, _| slice.raw_bytes += 1)),
        (
            "decompressed entries do not have the BLAKE3",
            base,
            Box::new(|slice, _, _, _| slice.body.as_mut().unwrap().raw_blake3 = Some("0".repeat(64))),
        ),
        (
            "its checksum is",
            base,
            Box::new(|slice, _, _, _| slice.body.as_mut().unwrap().crc64nvme = "0".repeat(16)),
        ),
        (
            "does not start with the entry at which the slice before it ended",
            base,
            Box::new(|slice, _, _, _| slice.after.as_mut().unwrap().term += 1),
        ),
        (
            " follows the entry of ",
            base,
            Box::new(|slice, _, body, _| {
                let raw = zstd::decode_all(&fs::read(body).unwrap()[..]).unwrap();
                let (first, rest) = raw.split_at(first_length(&raw));
                let second = first_length(rest);
                let swapped = [&rest[..second], first, &rest[second..]].concat();
                with_entries(slice, body, &swapped);
            }),
        ),
        (
            "is not after the start of the slice",
            base,
            Box::new(|slice, _, body, _| {
                let before = slice.start;
                let mut entry = bson::RawDocumentBuf::new();
                entry.append(bson::raw::cstr!("ts"), bson::Timestamp::from(before));
                let raw = zstd::decode_all(&fs::read(body).unwrap()[..]).unwrap();
                slice.entries += 1;
                with_entries(slice, body, &[entry.as_bytes(), &raw].concat());
            }),
        ),
        (
            "it has changes of other slices",
            "nothing is lost for a restore",
            Box::new(|slice, _, _, events| {
                let json = zstd::decode_all(&fs::read(events).unwrap()[..]).unwrap();
                let mut value: Value = serde_json::from_slice(&json).unwrap();
                value["changes"] =
                    serde_json::json!([{"at": {"t": 5, "i": 1}, "command": "drop", "ns": "a.b"}]);
                let bytes = zstd::encode_all(&serde_json::to_vec(&value).unwrap()[..], 3).unwrap();
                let described = slice.events.as_mut().unwrap();
                described.size = bytes.len() as u64;
                described.blake3 = blake3::hash(&bytes).to_hex().to_string();
                fs::write(events, bytes).unwrap();
            }),
        ),
    ]
}

#[tokio::test]
async fn every_kind_of_damage_is_found_with_its_next_step() {
    let home = stored().await;
    let report = verify(&home, &["--oplog"], 0);
    let chain = &report["oplog"][0];
    assert_eq!((&chain["slices"], &chain["entries"], &chain["sound"]), (&3.into(), &60.into(), &true.into()));
    assert_eq!(report["backups"], Value::Array(vec![]));
    let slices = one_chain(&home);
    let file = |key: &str| -> PathBuf { home.backups().join(key) };
    let manifest = file(&layout::slice(JOB, &slices[1].chain, slices[1].start));
    let body = file(&slices[1].body.as_ref().unwrap().key);
    let events = file(&slices[1].events.as_ref().unwrap().key);
    let files = [&manifest, &body, &events];
    let originals = files.map(|file| fs::read(file).expect("a file"));
    for (words, step, damage) in damages() {
        let mut slice = slices[1].clone();
        damage(&mut slice, &manifest, &body, &events);
        if slice != slices[1] {
            fs::write(&manifest, slice.encode().expect("a manifest")).expect("written");
        }
        let report = verify(&home, &["--oplog"], 4);
        let findings = report["oplog"][0]["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|finding| finding["what"].as_str().unwrap().contains(words));
        let finding = finding.unwrap_or_else(|| panic!("{words}: {report:#}"));
        assert!(finding["next_step"].as_str().unwrap().contains(step), "{words}: {report:#}");
        files.iter().zip(&originals).for_each(|(file, bytes)| fs::write(file, bytes).expect("written"));
    }
    verify(&home, &["--oplog"], 0);
}

#[tokio::test]
async fn verify_all_includes_slices_and_a_sample_does_not() {
    let home = stored().await;
    let all = verify(&home, &["--all"], 0);
    assert_eq!((all["backups"].as_array().unwrap().len(), &all["oplog"][0]["slices"]), (1, &3.into()));
    assert_eq!(verify(&home, &["--all", "--sample", "50%"], 0)["oplog"], Value::Array(vec![]));
    let sound = run(&mut tool(&home, NOWHERE, &["verify", "--oplog"])).ends(0);
    prints(sound, &["sound    oplog of nightly", "3 slices, 60 entries"]);
    let none = ["verify", "--oplog", "--job", "other"];
    run(&mut tool(&home, NOWHERE, &none))
        .ends(1)
        .says(&["there are no oplog slices of the job other", "uzima-backup oplog"]);
    let slice = &one_chain(&home)[2];
    flip(&home.backups().join(&slice.body.as_ref().unwrap().key));
    let damaged = run(&mut tool(&home, NOWHERE, &["verify", "--all"])).ends(4);
    prints(damaged, &["DAMAGED  oplog of nightly", "next step: make a new backup now"]);
}
