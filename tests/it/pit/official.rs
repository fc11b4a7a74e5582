//! The official mongorestore restores a backup and replays its slices, for the operations that it supports.

use std::process::Command;

use bson::{Document, Timestamp, doc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::read_all::Snapshot;

use super::stored::slices;
use super::support::*;
use crate::cli::support::{Home, run};

/// Inserts, updates and deletes in every form, transactions, and changes of collections and indexes.
async fn work(client: &Client, round: i32) {
    let (live, second) = (client.database("live"), client.database("second"));
    let rows = live.collection::<Document>("rows");
    let id = |n: i32| round * 1000 + n;
    rows.insert_many((0..50).map(|n| doc! {"_id": id(n), "n": n, "list": [1, 2, 3]})).await.expect("rows");
    rows.update_many(doc! {"n": {"$lt": 20}}, doc! {"$inc": {"n": 100}, "$set": {"a.b": round}})
        .await
        .expect("updates");
    rows.update_one(doc! {"_id": id(1)}, doc! {"$push": {"list": 4}, "$unset": {"n": ""}})
        .await
        .expect("an update");
    rows.replace_one(doc! {"_id": id(2)}, doc! {"whole": true}).await.expect("a replacement");
    rows.delete_many(doc! {"_id": {"$gte": id(40)}}).await.expect("deletes");
    let mut session = client.start_session().await.expect("a session");
    let moves = second.collection::<Document>("moves");
    moves.insert_one(doc! {"_id": id(0)}).await.expect("a move");
    // The second one needs several entries.
    for (from, pad, commit) in [(60, 10, true), (70, 3_000_000, true), (80, 10, false)] {
        session.start_transaction().await.expect("a transaction");
        for n in from..from + 6 {
            let row = doc! {"_id": id(n), "pad": "x".repeat(pad)};
            rows.insert_one(row).session(&mut session).await.expect("a row");
        }
        moves.insert_one(doc! {"_id": id(from)}).session(&mut session).await.expect("a move");
        match commit {
            true => session.commit_transaction().await.expect("a commit"),
            false => session.abort_transaction().await.expect("an abort"),
        }
    }
    let made = format!("made{round}");
    let index = doc! {"key": {"n": 1}, "name": "n"};
    commands(
        client,
        vec![
            doc! {"create": &made, "collation": {"locale": "fr"}},
            doc! {"insert": &made, "documents": [{"_id": 1, "n": 1}, {"_id": 2, "n": 2}]},
            doc! {"createIndexes": &made, "indexes": [index]},
            doc! {"collMod": &made, "validator": {"n": {"$gte": 0}}},
            doc! {"create": "capped", "capped": true, "size": 1 << 16},
            doc! {"insert": "capped", "documents": [{"_id": 1}, {"_id": 2}]},
            doc! {"drop": "capped"},
        ],
    )
    .await;
}

fn mongorestore(tools: &Official, target: &Mongod, args: &[&str]) {
    let mut command = Command::new(&tools.mongorestore);
    let ran = run(command.args(["--uri", &target.uri(), "--bypassDocumentValidation"]).args(args)).ends(0);
    assert!(ran.stderr.contains("0 document(s) failed"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn mongorestore_and_restore_agree_about_a_chain() {
    let Some(tools) = Official::find("pit::official::mongorestore_and_restore_agree_about_a_chain") else {
        return;
    };
    let ((server, client), home) = (set(None).await, Home::new());
    work(&client, 1).await;
    mark(&client).await;
    let args = ["backup", "--format", "archive.gz", "--consistency", "oplog"];
    run(&mut tool(&home, &server.uri(), &args)).ends(0);
    let mut moments: Vec<(Timestamp, Snapshot)> = Vec::new();
    for round in 2..5 {
        work(&client, round).await;
        moments.push((mark(&client).await, read_as_of(&client, None).await.expect("the source")));
        oplog(&home, &server.uri());
    }
    let bodies = slices(&home).into_iter().filter_map(|(_, slice)| slice.body);
    let bodies = bodies.map(|body| std::fs::read(home.backups().join(body.key)).expect("a body"));
    let joined: Vec<u8> = bodies.flat_map(|body| zstd::decode_all(&body[..]).expect("zstd")).collect();
    let (file, empty) = (home.path().join("oplog.bson"), home.path().join("empty"));
    std::fs::write(&file, joined).expect("the slices");
    std::fs::create_dir(&empty).expect("a folder");
    let artifact = home.backups().join(&home.manifests()[0].artifact.key);
    let base = ["--gzip", &format!("--archive={}", artifact.display()), "--oplogReplay"].map(str::to_string);
    for (at, wanted) in &moments {
        let ((theirs, live), (ours, other)) = (set(None).await, set(None).await);
        mongorestore(&tools, &theirs, &base.each_ref().map(String::as_str));
        let (file, limit) = (
            format!("--oplogFile={}", file.display()),
            format!("--oplogLimit={}:{}", at.time, at.increment + 1),
        );
        mongorestore(&tools, &theirs, &["--oplogReplay", &file, &limit, &empty.display().to_string()]);
        run(&mut restore(&home, &ours, &["--at", &text(*at)])).ends(0);
        for restored in [&live, &other] {
            assert_eq!(differences_from(restored, wanted).await, Vec::<String>::new(), "{}", text(*at));
        }
    }
    println!("mongorestore and restore agree about {} moments", moments.len());
}
