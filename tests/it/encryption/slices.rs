//! Encrypted oplog slices: chains across switches of the encryption, keys, damage, and stock `age`.

use std::path::{Path, PathBuf};
use std::process::Command;

use bson::{Document, RawDocument, doc};
use serde_json::Value;
use uzima_backup::artifact::age_header::NONCE;
use uzima_backup::artifact::read::slice::decode_events;
use uzima_backup::catalog::layout;
use uzima_backup::model::slice::{EventsFile, SliceManifest};
use uzima_testkit::mongod::Mongod;

use super::support::{CANARY, Encrypted, Key, both_keys, insert, server, stock};
use crate::cli::support::{NOWHERE, Ran, run};
use crate::pit::stored::slices;
use crate::restore::support::differences;

/// `verify`, `timeline` or another command that reads, with this identity. Its JSON is checked against the schema.
#[track_caller]
fn reads(encrypted: &Encrypted, args: &[&str], identity: Option<&Path>, code: i32) -> Value {
    let mut command = encrypted.tool(NOWHERE);
    command.args(args).arg("--json");
    if let Some(identity) = identity {
        command.arg("--identity").arg(identity);
    }
    let ran = run(&mut command).ends(code);
    crate::docs::schema::check(args[0], &ran.json());
    ran.json()
}

/// `restore --yes --drop` with these arguments.
fn restore(encrypted: &Encrypted, target: &Mongod, args: &[&str], identity: Option<&Path>) -> Ran {
    let mut command = encrypted.tool(NOWHERE);
    command.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--drop", "--exact"]).args(args);
    if let Some(identity) = identity {
        command.arg("--identity").arg(identity);
    }
    run(&mut command)
}

/// Decrypts and decompresses an object of a slice with stock `age` and `zstd`'s library.
fn by_stock_age(encrypted: &Encrypted, key: &str, identity: &Path) -> Vec<u8> {
    let sealed = std::fs::read(encrypted.home.backups().join(key)).expect("an object");
    let plain = stock("age", &["-d", "-i", identity.to_str().expect("UTF-8")], &sealed);
    zstd::decode_all(&plain[..]).expect("zstd")
}

/// The complete manifest of an encrypted slice, by stock `age`.
fn complete(encrypted: &Encrypted, slice: &SliceManifest, identity: &Path) -> SliceManifest {
    let json = by_stock_age(encrypted, &slice.events.as_ref().expect("events").key, identity);
    crate::docs::schema::check("stored-slice-events", &serde_json::from_slice(&json).expect("JSON"));
    EventsFile::decode(&json).expect("events").take_slice(slice).expect("a complete manifest")
}

/// A chain that begins in plain text, is encrypted to one key and then to another, is continued from an encrypted backup to both
/// keys, and ends in plain text.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_across_switches_of_the_encryption_restores_from_each_of_its_bases() {
    let (server, target) = (server().await, Mongod::builder().start().await.expect("mongod"));
    let (source, copy) = (server.client().await.expect("one"), target.client().await.expect("two"));
    let encrypted = Encrypted::new();
    let (uri, both) = (server.uri(), both_keys(&encrypted));
    let with = |recipients: &str, command: &str| {
        let mut tool = encrypted.tool(&uri);
        match recipients {
            "" => tool.env_remove("BACKUP_RECIPIENTS"),
            some => tool.env("BACKUP_RECIPIENTS", some),
        };
        // A switch is no reason for a barrier, a gap or a warning.
        run(tool.arg(command)).ends(0);
    };
    let (first, offline) = (encrypted.key.recipient.clone(), encrypted.offline.recipient.clone());
    with("", "backup");
    insert(&source, 1000..1010).await;
    with("", "oplog");
    // The same entries in plain text, for the comparison.
    let twin = encrypted.home.path().join("twin");
    let copied = Command::new("cp").arg("-a").arg(encrypted.home.backups()).arg(&twin).status();
    assert!(copied.expect("cp").success());
    insert(&source, 1010..1030).await;
    with(&first, "oplog");
    run(encrypted.tool(&uri).env_remove("BACKUP_RECIPIENTS").env("BACKUP_DIR", &twin).arg("oplog")).ends(0);
    source.database("canaryshop").collection::<Document>("canaryfew").drop().await.expect("a drop");
    with(&offline, "oplog");
    with(&format!("{first},{offline}"), "backup");
    insert(&source, 1030..1040).await;
    with(&format!("{first},{offline}"), "oplog");
    insert(&source, 1040..1050).await;
    with("", "oplog");

    let stored = slices(&encrypted.home);
    for (path, _) in &stored {
        let json = std::fs::read(path).expect("a manifest");
        crate::docs::schema::check("stored-slice", &serde_json::from_slice(&json).expect("JSON"));
    }
    let all: Vec<SliceManifest> = stored.into_iter().map(|(_, slice)| slice).collect();
    assert!(all.len() == 5 && all.windows(2).all(|pair| pair[1].continues(&pair[0])), "{all:#?}");
    let count = |slice: &SliceManifest| slice.encryption.as_ref().map_or(0, |e| e.recipients.len());
    assert_eq!(all.iter().map(count).collect::<Vec<_>>(), [0, 1, 1, 2, 0]);
    let whole = complete(&encrypted, &all[1], &encrypted.key.file);
    let raw = by_stock_age(&encrypted, &all[1].body.as_ref().expect("a body").key, &encrypted.key.file);
    let hash = blake3::hash(&raw).to_hex().to_string();
    assert_eq!((raw.len() as u64, Some(hash)), (whole.raw_bytes, whole.body.unwrap().raw_blake3));
    let mut plain: Vec<PathBuf> = crate::cli::support::files(&twin)
        .into_iter()
        .filter(|file| file.contains("/slice-"))
        .map(|file| twin.join(file))
        .collect();
    plain.sort();
    let twin_body = std::fs::read(plain.last().expect("a body")).expect("a body");
    assert!(zstd::decode_all(&twin_body[..]).expect("zstd") == raw, "the bytes differ from a plain slice");
    assert!(
        RawDocument::from_bytes(&raw[..i32::from_le_bytes(*raw.first_chunk().unwrap()) as usize]).is_ok()
    );

    // Without a key, the chain is shown, judged and kept.
    let list = reads(&encrypted, &["list"], None, 0);
    let shown = &list["oplog"][0];
    assert_eq!((shown["ranges"].as_array().map(Vec::len), &shown["gaps"]), (Some(1), &Value::Array(vec![])));
    assert_eq!(shown["ranges"][0]["bases"].as_array().map(Vec::len), Some(2), "{shown}");
    for args in [&["stats"][..], &["cleanup"], &["health", "--only", "oplog"]] {
        run(encrypted.tool(NOWHERE).args(args)).ends(0);
    }
    let bases = encrypted.home.manifests();
    for (base, from) in [(&bases[0], 0), (&bases[1], 1)] {
        let ran = restore(&encrypted, &target, &[base.id.as_str(), "--at", "newest"], Some(&both)).ends(0);
        assert_eq!(
            differences(&source, &copy).await,
            Vec::<String>::new(),
            "from base {from}: {}",
            ran.stdout
        );
    }
    // The newest base and the slices after it have both recipients, so that one key is enough.
    restore(&encrypted, &target, &["--at", "newest"], Some(&encrypted.offline.file)).ends(0);
    assert_eq!(differences(&source, &copy).await, Vec::<String>::new());

    // One of the keys, no key, and another key.
    let stranger = Key::new(encrypted.home.path(), "stranger.key");
    insert(&copy, 5000..5001).await;
    let oldest = [bases[0].id.as_str(), "--at", "newest"];
    for (identity, words) in [
        (Some(encrypted.key.file.as_path()), "no identity in"),
        (Some(&stranger.file), "no identity in"),
        (None, "is encrypted, and no identity file is named"),
    ] {
        restore(&encrypted, &target, &oldest, identity).ends(6).says(&[words, "oplog slice", "next step: "]);
    }
    let rows = copy.database("canaryshop").collection::<Document>("canaryrows");
    assert_eq!(rows.count_documents(doc! {"_id": 5000}).await.expect("a count"), 1, "the target was changed");

    // `verify` goes on after what it cannot open.
    let chain = |report: &Value| report["oplog"][0].clone();
    let stored = chain(&reads(&encrypted, &["verify", "--oplog"], None, 0));
    assert_eq!((&stored["without_key"], &stored["slices"]), (&3.into(), &5.into()));
    let keyed = chain(&reads(&encrypted, &["verify", "--oplog"], Some(&both), 0));
    let entries: u64 = all.iter().map(|slice| slice.entries).sum();
    assert_eq!((&keyed["without_key"], &keyed["entries"]), (&0.into(), &entries.into()));
    let report = reads(&encrypted, &["verify", "--all"], Some(&encrypted.key.file), 6);
    let one = chain(&report);
    assert_eq!((one["unopened"].as_array().map(Vec::len), &one["slices"]), (Some(1), &5.into()), "{one}");
    assert_eq!((one["sound"].as_bool(), report["backups"].as_array().map(Vec::len)), (Some(true), Some(2)));
    let report = reads(&encrypted, &["verify", "--all"], Some(&stranger.file), 6);
    assert_eq!(report["unopened"][0]["id"], bases[1].id.to_string(), "{report}");
    assert_eq!(report["backups"][0]["id"], bases[0].id.to_string(), "{report}");
    let mut drill = encrypted.tool(NOWHERE);
    drill.args(["verify", "--drill", "--at", "newest", "--to-uri", &target.uri(), "--identity"]).arg(&both);
    run(&mut drill).ends(0);

    // The events name what happened, so `timeline` needs the keys of the slices that it shows.
    let shown = reads(&encrypted, &["timeline"], Some(&both), 0);
    let changes = shown["changes"].as_array().expect("changes");
    assert!(changes.iter().any(|change| change["ns"] == "canaryshop.canaryfew"), "{shown}");
    for identity in [None, Some(encrypted.key.file.as_path()), Some(&stranger.file)] {
        let mut command = encrypted.tool(NOWHERE);
        command.arg("timeline").args(identity.map(|file| format!("--identity={}", file.display())));
        let ran = run(&mut command).ends(6).says(&["next step: "]);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("canaryfew"), "{}", ran.stdout);
    }
}

/// Files with a content each.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// A backup, and two slices with a body each.
async fn stored(server: &Mongod, encrypted: &Encrypted) -> Vec<(PathBuf, SliceManifest)> {
    let client = server.client().await.expect("a client");
    encrypted.backup(&server.uri(), &[]);
    for from in [2000, 2020] {
        insert(&client, from..from + 20).await;
        encrypted.oplog(&server.uri(), 0);
    }
    slices(&encrypted.home)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_each_object_is_found_before_anything_is_touched() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let target = Mongod::builder().start().await.expect("mongod");
    insert(&target.client().await.expect("a client"), 5000..5001).await;
    let rows =
        target.client().await.expect("a client").database("canaryshop").collection::<Document>("canaryrows");
    let all = stored(&server, &encrypted).await;
    assert_eq!(all.len(), 2);
    let (manifest, slice) = all[0].clone();
    let file = |key: &str| encrypted.home.backups().join(key);
    let objects = |slice: &SliceManifest| {
        (file(&slice.body.as_ref().expect("a body").key), file(&slice.events.as_ref().expect("events").key))
    };
    let ((body, events), (other_body, other_events)) = (objects(&slice), objects(&all[1].1));
    let read = |path: &PathBuf| std::fs::read(path).expect("a file");
    let whole = read(&body);
    let begin = slice.encryption.as_ref().expect("encrypted").header_length as usize + NONCE;
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let sealed = read(&events);
    // The manifest with hashes that fit another object, as somebody who can write to the store would make it.
    let named = |change: &dyn Fn(&mut SliceManifest)| {
        let mut slice = slice.clone();
        change(&mut slice);
        slice.encode().expect("JSON")
    };
    let foreign = read(&other_body);
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    // Each with the files that it changes, and whether the stored bytes alone show it.
    let mut cases: Vec<(&str, Files, bool)> = vec![
        ("a changed header", vec![(body.clone(), flipped(&whole, 30))], true),
        ("a changed nonce", vec![(body.clone(), flipped(&whole, begin - 1))], true),
        ("a changed chunk", vec![(body.clone(), flipped(&whole, begin + 40))], true),
        ("a changed tag", vec![(body.clone(), flipped(&whole, whole.len() - 1))], true),
        ("a body that was cut off", vec![(body.clone(), whole[..whole.len() - 1].to_vec())], true),
        ("changed events", vec![(events.clone(), flipped(&sealed, sealed.len() - 20))], true),
        ("the events of another slice", vec![(events.clone(), read(&other_events))], true),
        ("another number of entries", vec![(manifest.clone(), named(&|slice| slice.entries += 1))], false),
        ("another end", vec![(manifest.clone(), named(&|slice| slice.end.term += 1))], true),
    ];
    let exchanged = named(&|slice| {
        let described = slice.body.as_mut().expect("a body");
        (described.size, described.blake3) = (foreign.len() as u64, hash(&foreign));
        described.crc64nvme =
            format!("{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &foreign));
    });
    cases.push((
        "the body of another slice",
        vec![(manifest.clone(), exchanged), (body.clone(), foreign.clone())],
        false,
    ));
    let identity = Some(encrypted.key.file.as_path());
    let check = |what: &str, without_key: bool| {
        let ran = restore(&encrypted, &target, &["--at", "newest"], identity);
        assert_eq!(ran.code, Some(4), "{what}: {}\n{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("next step: "), "{what}: {}", ran.stderr);
        for (identity, found) in [(identity, true), (None, without_key)] {
            reads(&encrypted, &["verify", "--oplog"], identity, if found { 4 } else { 0 });
        }
    };
    for (what, changes, without_key) in cases {
        let before: Vec<Vec<u8>> = changes.iter().map(|(path, _)| read(path)).collect();
        for ((path, bytes), old) in changes.iter().zip(&before) {
            assert!(bytes != old, "{what}");
            std::fs::write(path, bytes).expect("damaged");
        }
        check(what, without_key);
        if what == "changed events" {
            reads(&encrypted, &["timeline"], identity, 4);
        }
        changes.iter().zip(before).for_each(|((path, _), old)| std::fs::write(path, old).expect("repaired"));
    }
    for path in [&body, &events] {
        let before = read(path);
        std::fs::remove_file(path).expect("removed");
        check(&format!("{} is missing", path.display()), true);
        let health = run(encrypted.tool(NOWHERE).args(["health", "--only", "oplog"])).ends(5);
        assert!(health.stdout.contains(" is missing"), "{}", health.stdout);
        std::fs::write(path, before).expect("repaired");
    }
    assert_eq!(rows.count_documents(doc! {}).await.expect("a count"), 1, "the target was changed");
    reads(&encrypted, &["verify", "--oplog"], identity, 0);
    restore(&encrypted, &target, &["--at", "newest"], identity).ends(0);
    // Events that belong to another slice are refused by their content as well.
    let keys = encrypted.key.identities();
    let mut lying = slice.clone();
    lying.events = all[1].1.events.clone();
    let fault = decode_events(&lying, &read(&other_events), Some(&keys)).expect("a key").unwrap_err();
    assert!(fault.contains(": it has ") || fault.contains("was changed"), "{fault}");
}

/// A slice whose objects cannot be read back is not committed.
#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_each_object_is_read_back_before_the_commit() {
    use uzima_testkit::s3_server::{Fault, Rule, S3Server};
    let (server, bucket, encrypted) = (server().await, S3Server::start(), Encrypted::new());
    let tool = |args: &[&str]| {
        let mut tool = encrypted.tool(&server.uri());
        tool.env_remove("BACKUP_DIR").envs(crate::cli::s3::variables(&bucket.endpoint())).args(args);
        tool
    };
    run(&mut tool(&["backup"])).ends(0);
    insert(&server.client().await.expect("a client"), 3000..3010).await;
    let stored = || -> Vec<String> {
        bucket.objects().keys().filter(|key| key.contains("/oplog/")).cloned().collect()
    };
    let dry = run(&mut tool(&["oplog", "--dry-run", "--json"])).ends(0).json();
    assert_eq!((&dry["entries"], stored()), (&10.into(), Vec::new()), "{dry}");
    for name in [".bson.zst.age", ".json.zst.age"] {
        bucket.faults().add(Rule::always("GetObject", Fault::Answer(403, "AccessDenied")).key(name));
        run(&mut tool(&["oplog"])).ends(1);
        assert_eq!(stored(), Vec::<String>::new(), "{name}");
        bucket.faults().clear();
    }
    run(&mut tool(&["oplog"])).ends(0);
    let reads_back = |name: &str| {
        let calls = bucket.calls();
        let of =
            |call: &uzima_testkit::s3_server::Call| call.operation == "GetObject" && call.key.contains(name);
        calls.iter().filter(|call| of(call)).count()
    };
    assert_eq!((reads_back("/slice-"), reads_back("/events-")), (3, 2), "before the commit");
    let keys = stored();
    assert_eq!(keys.iter().filter(|key| key.ends_with(".age")).count(), 2, "{keys:?}");
    assert!(keys.iter().any(|key| key.ends_with(layout::SLICE)) && keys.len() == 3, "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains(CANARY)));
}
