//! A store that fails: whatever request fails, the chain stays whole, and the next run continues it.

use std::process::{Command, Stdio};

use bson::{Document, doc};
use mongodb::Collection;
use uzima_backup::model::slice::SliceManifest;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::support::{JOB, noise, set};
use crate::cli::s3::to_s3;
use crate::cli::signals::{STALL, start, until};
use crate::cli::support::{Home, Ran, run};

/// The slices in a bucket. Asserts that the slices of each chain are continuous, and that their objects are there and whole.
pub fn chain(bucket: &S3Server) -> Vec<SliceManifest> {
    let objects = bucket.objects();
    let manifests = objects.iter().filter(|(key, _)| key.ends_with("/slice.json"));
    let mut slices: Vec<SliceManifest> =
        manifests.map(|(_, bytes)| SliceManifest::decode(bytes).expect("a sound manifest")).collect();
    slices.sort_by_key(|slice| (slice.chain.clone(), slice.start));
    for pair in slices.windows(2).filter(|pair| pair[0].chain == pair[1].chain) {
        assert!(pair[1].continues(&pair[0]), "{:?}\n{:?}", pair[0], pair[1]);
    }
    for (key, hash) in slices.iter().flat_map(named) {
        let bytes =
            objects.get(&format!("daily-backups/{key}")).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(blake3::hash(bytes).to_hex().to_string(), *hash);
    }
    slices
}

/// The keys of a slice's objects, and their hashes.
fn named(slice: &SliceManifest) -> impl Iterator<Item = (&String, &String)> {
    let body = slice.body.iter().map(|body| (&body.key, &body.blake3));
    body.chain(slice.events.iter().map(|events| (&events.key, &events.blake3)))
}

/// The number of objects of slices that no manifest names.
fn orphans(bucket: &S3Server) -> usize {
    let slices = chain(bucket);
    let named: usize = slices.iter().map(|slice| named(slice).count()).sum();
    let stored = bucket.objects().keys().filter(|key| key.contains("/oplog/")).count();
    stored - named - slices.len()
}

/// The entries that are stored, each one once.
fn entries(bucket: &S3Server) -> u64 {
    chain(bucket).iter().map(|slice| slice.entries).sum()
}

fn faults() -> [Fault; 5] {
    [
        Fault::Answer(403, "AccessDenied"),
        Fault::Answer(500, "InternalError"),
        Fault::Answer(412, "PreconditionFailed"),
        Fault::LoseRequest,
        Fault::LoseAnswer,
    ]
}

/// A server, its rows, and the tool with a bucket.
struct Bucketed {
    server: Mongod,
    rows: Collection<Document>,
    home: Home,
    bucket: S3Server,
    /// The number of inserted rows.
    inserted: i32,
}

impl Bucketed {
    /// With a backup and a slice.
    async fn new() -> Bucketed {
        let (server, client) = set().await;
        let rows = client.database("live").collection::<Document>("rows");
        let mut new = Bucketed { server, rows, home: Home::new(), bucket: S3Server::start(), inserted: 0 };
        new.insert(0).await;
        new.run(&["backup"]).ends(0);
        new.run(&["oplog"]).ends(0);
        new
    }

    async fn insert(&mut self, length: usize) {
        let row = doc! {"_id": self.inserted, "noise": noise(length)};
        self.rows.insert_one(row).await.expect("a row");
        self.inserted += 1;
    }

    /// The tool with the state directory of another machine, and the address of a proxy.
    fn tool(&self, state: &Home, uri: &str, args: &[&str]) -> Command {
        let mut command = to_s3(state, uri, &self.bucket);
        command.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live").env("BACKUP_PATIENCE", "1").args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.tool(&self.home, &self.server.uri(), args))
    }

    /// Asserts that everything is stored. The chain begins at the backup, so it has all rows but the first.
    fn assert_whole(&self) {
        assert_eq!(entries(&self.bucket), self.inserted as u64 - 1);
        assert_eq!(self.bucket.open_uploads(), vec![]);
    }
}

/// All requests from one on fail, or only this one.
#[tokio::test]
async fn a_store_that_fails_at_any_request_breaks_no_chain() {
    let mut set = Bucketed::new().await;
    let (mut tried, mut failed, mut left) = (0, 0, 0);
    for fault in faults() {
        // A refusal ends the run, and other requests are repeated: these do not depend on what follows.
        let alone = matches!(fault, Fault::LoseAnswer | Fault::Answer(412, _));
        for request in 0..8 {
            let from = S3Rule::from(request, "*", fault.clone());
            let rules = [from].into_iter().chain(alone.then(|| S3Rule::at(request, "*", fault.clone())));
            for rule in rules {
                set.insert(10).await;
                let before = (chain(&set.bucket).len(), orphans(&set.bucket));
                let said = format!("{rule:?}");
                set.bucket.faults().add(rule);
                let ran = set.run(&["oplog"]);
                set.bucket.faults().clear();
                tried += 1;
                failed += usize::from(ran.code != Some(0));
                assert!(matches!(ran.code, Some(0 | 1)), "{said}: {}", ran.stderr);
                assert!(chain(&set.bucket).len() >= before.0, "{said}");
                // A run that cannot write its manifest, or may not delete, leaves a body and events.
                let more = orphans(&set.bucket) - before.1;
                assert!(more == 0 || (more <= 2 && ran.code == Some(1)), "{said}: {more} orphans");
                left += more;
                set.run(&["oplog"]).ends(0);
                set.assert_whole();
            }
        }
    }
    eprintln!("{failed} of {tried} runs failed, and left {left} orphans");
    assert!((20..tried).contains(&failed), "{failed}");
}

/// The body has two parts. Until a run ends well, nothing is named, and no upload stays open.
#[tokio::test]
async fn a_store_that_fails_during_an_upload_of_several_parts_names_nothing() {
    let mut set = Bucketed::new().await;
    set.insert(11 << 20).await;
    let (before, mut tried) = (chain(&set.bucket).len(), 0);
    for operation in ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"] {
        for (index, fault) in faults().into_iter().enumerate() {
            // The second part.
            let nth = u64::from(operation == "UploadPart" && index % 2 == 1);
            set.bucket.faults().add(S3Rule::from(nth, operation, fault.clone()));
            let ran = set.run(&["oplog"]);
            set.bucket.faults().clear();
            assert_eq!(set.bucket.open_uploads(), vec![], "{operation} {fault:?}");
            if ran.code == Some(0) {
                // The answer was lost, but the upload was complete.
                assert!(
                    (operation, &fault) == ("CompleteMultipartUpload", &Fault::LoseAnswer),
                    "{operation} {fault:?}"
                );
                set.assert_whole();
                set.insert(11 << 20).await;
                continue;
            }
            ran.ends(1);
            tried += 1;
            assert_eq!(chain(&set.bucket).len(), before, "{operation} {fault:?}");
        }
    }
    assert!(tried >= 14, "{tried}");
    set.run(&["oplog"]).ends(0);
    set.assert_whole();
}

/// The next run aborts the upload of a killed one.
#[tokio::test]
async fn the_upload_of_a_killed_run_is_removed_by_the_next() {
    let mut set = Bucketed::new().await;
    set.insert(11 << 20).await;
    set.bucket.faults().add(S3Rule::from(1, "UploadPart", Fault::Delay(STALL)));
    let mut child = start(&mut set.tool(&set.home, &set.server.uri(), &["oplog"]));
    until("a part stalls", || set.bucket.count("UploadPart") > 1);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    set.bucket.faults().clear();
    assert_eq!(set.bucket.open_uploads().len(), 1);
    let next = set.run(&["oplog", "--json"]).ends(0).json();
    let note = next["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("removed the unfinished upload of "), "{note}");
    set.assert_whole();
    assert_eq!(orphans(&set.bucket), 0);
}

/// Holds two runs until both have read, each up to another entry. The first stores its slice, and the second loses. Returns the
/// JSON of the second if it ended well.
async fn contest(set: &mut Bucketed, other: &Home, mut rule: Option<S3Rule>) -> Option<serde_json::Value> {
    let said = format!("{rule:?}");
    let mut runs = Vec::new();
    for first in [true, false] {
        set.insert(10).await;
        let state = if first { &set.home } else { other };
        let (proxy, gate) = (WireProxy::start(&[set.server.host()]).expect("a proxy"), Gate::default());
        // The first of these requests looks for the end of the chain, and the second reads.
        let reading = Rule::on("find").namespace("local.oplog.rs").having("filter").nth(2);
        let held = proxy.add(reading.then(Action::Hold(gate.clone())));
        let mut command = set.tool(state, &proxy.uri(&set.server.uri()), &["oplog", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a run");
        until("it reads", || proxy.hits(held) == 1);
        runs.push((child, gate, proxy));
    }
    let mut ended = Vec::new();
    for (child, gate, proxy) in runs {
        if ended.len() == 1 {
            rule.take().into_iter().for_each(|rule| set.bucket.faults().add(rule));
        }
        gate.open();
        ended.push(child.wait_with_output().expect("its end"));
        drop(proxy);
    }
    set.bucket.faults().clear();
    assert!(ended[0].status.success(), "{}", String::from_utf8_lossy(&ended[0].stderr));
    let code = ended[1].status.code();
    assert!(matches!(code, Some(0 | 1)), "{said}: {}", String::from_utf8_lossy(&ended[1].stderr));
    (code == Some(0)).then(|| serde_json::from_slice(&ended[1].stdout).expect("JSON"))
}

/// The store fails at the requests of the loser.
#[tokio::test(flavor = "multi_thread")]
async fn the_loser_of_a_contest_goes_on_after_the_winner() {
    let (mut set, other) = (Bucketed::new().await, Home::new());
    run(&mut set.tool(&other, &set.server.uri(), &["oplog"])).ends(0);
    let report = contest(&mut set, &other, None).await.expect("it ends well");
    assert_eq!(
        (&report["entries"], &report["slices"].as_array().map(Vec::len)),
        (&1.into(), &Some(1)),
        "{report}"
    );
    assert!(
        report["notes"].to_string().contains("another run stored the same oplog slice first"),
        "{report}"
    );
    set.assert_whole();
    assert_eq!(orphans(&set.bucket), 0);
    let mut failed = 0;
    // The body, the manifest, the manifest that is there, and the winner's manifest.
    for fault in
        [Fault::Answer(403, "AccessDenied"), Fault::Answer(412, "PreconditionFailed"), Fault::LoseAnswer]
    {
        for request in [0, 2, 3, 6] {
            let ended = contest(&mut set, &other, Some(S3Rule::at(request, "*", fault.clone()))).await;
            failed += usize::from(ended.is_none());
            for state in [&set.home, &other] {
                run(&mut set.tool(state, &set.server.uri(), &["oplog"])).ends(0);
            }
            set.assert_whole();
        }
    }
    eprintln!("{failed} of 12 losers failed, and left {} orphans", orphans(&set.bucket));
    assert!((1..12).contains(&failed), "{failed}");
}
