//! A backlog that is stored in several slices, with bodies of several parts.

use std::process::Stdio;

use bson::{Bson, Document, doc};
use mongodb::Client;
use uzima_backup::catalog::layout;
use uzima_backup::model::slice::CUT;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::stores::chain;
use super::support::*;
use crate::cli::s3::{to_s3, variables};
use crate::cli::signals::{STALL, until};
use crate::cli::support::{Home, NOWHERE, run};

/// The hash of each collection of the database `live`.
async fn hashes(client: &Client) -> Document {
    let hashes = client.database("live").run_command(doc! {"dbHash": 1}).await.expect("hashes");
    hashes.get_document("collections").expect("collections").clone()
}

/// 18 entries of 15.5 MiB, which are two slices. The chain begins after a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_is_stored_in_slices_of_several_parts_and_restored() {
    let server =
        Mongod::builder().replica_set("rs").oplog_mb(700).cache_gb(1.0).start().await.expect("mongod");
    let (client, earlier, home) = (server.client().await.expect("a client"), Home::new(), Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 0}).await.expect("a row");
    oplog(&earlier, &server.uri(), 0);
    let old = of_old_times(&one_chain(&earlier)[0]);
    let bucket = S3Server::start();
    bucket.insert(
        &format!("daily-backups/{}", layout::slice(JOB, &old.chain, old.start)),
        old.encode().expect("JSON"),
    );
    let tool = |args: &[&str]| {
        let mut command = to_s3(&home, &server.uri(), &bucket);
        command.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live").env("BACKUP_PATIENCE", "1").args(args);
        command
    };
    run(&mut tool(&["backup"])).ends(0);
    for n in 0..18 {
        let pad = "x".repeat(29 << 19);
        let row = doc! {"n": n, "noise": noise(1 << 20), "pad": pad};
        rows.replace_one(doc! {"_id": n % 4}, row).upsert(true).await.expect("a row");
    }
    let new = || chain(&bucket).into_iter().filter(|slice| slice.chain != old.chain).collect::<Vec<_>>();
    let slice_objects = || bucket.objects().keys().filter(|key| key.contains("/oplog/")).count();

    // The store fails in the middle of the upload.
    bucket.faults().add(Rule::from(1, "UploadPart", Fault::Answer(500, "InternalError")));
    run(&mut tool(&["oplog"])).ends(1).says(&["slice-"]);
    assert_eq!((bucket.open_uploads(), slice_objects()), (vec![], 1), "only the old slice");
    bucket.faults().clear();

    // A signal comes after the first slice. The gap is not found again, so this run reports it.
    let bodies = |key: &str| key.ends_with(".bson.zst");
    bucket.faults().add(Rule::always("PutObject", Fault::Delay(STALL)).key(".bson.zst"));
    let child = tool(&["oplog"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a run");
    until("the second body stalls", || {
        bucket.calls().iter().any(|call| call.operation == "PutObject" && bodies(&call.key))
    });
    // SAFETY: the process is our own child and has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(143), "{said}");
    for words in ["ended by SIGTERM; 1 oplog slice stored before that stay", "gap: the writes after "] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    bucket.faults().clear();
    assert_eq!((new().len(), bucket.open_uploads()), (1, vec![]));

    let report = run(tool(&["oplog"]).arg("--json")).ends(0).json();
    assert!(report["gap"].is_null() && report["entries"].as_u64() < Some(18), "{report}");
    let slices = new();
    assert_eq!(slices.len(), 2);
    assert!((CUT..CUT + (16 << 20)).contains(&slices[0].raw_bytes), "{:?}", slices[0]);
    assert!(slices[0].body.as_ref().expect("a body").size > 16 << 20, "several parts");
    let bodies: Vec<u8> = slices
        .iter()
        .filter_map(|slice| slice.body.as_ref())
        .flat_map(|body| bucket.objects()[&format!("daily-backups/{}", body.key)].to_vec())
        .collect();
    let raw = zstd::decode_all(&bodies[..]).expect("zstd");
    let (first, last) = (slices[0].start, slices[1].end.at);
    assert!(raw == oplog_itself(&client, first, last).await, "the bodies differ from the oplog");

    let target =
        Mongod::builder().replica_set("target").oplog_mb(700).cache_gb(1.0).start().await.expect("mongod");
    let mut restore = home.tool();
    restore.env("MONGO_URI", NOWHERE).env("RESTORE_URI", target.uri()).envs(variables(&bucket.endpoint()));
    restore.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live");
    run(restore.args(["restore", "--yes", "--at", "newest"])).ends(0);
    let restored = target.client().await.expect("a client");
    assert_eq!(hashes(&restored).await, hashes(&client).await);
    let row = restored.database("live").collection::<Document>("rows").find_one(doc! {"_id": 1}).await;
    assert_eq!(row.expect("an answer").expect("a row").get("n"), Some(&Bson::Int32(17)));
}
