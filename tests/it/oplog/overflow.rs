//! An oplog that overflows between two runs: the gap, its notices, and the members that are asked before.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use serde_json::Value;
use uzima_backup::model::optime::OpTime;
use uzima_testkit::mongod::{Builder, Mongod};
use uzima_testkit::replica_set::ReplicaSet;

use super::support::*;
use crate::cli::support::{Home, NOWHERE, Ran, run};
use crate::health::support::Health;
use crate::night::support::{Nights, holds};

/// Writes to another database until none of the members has the entries of `until` any more. The server keeps the oplog since
/// the last checkpoint, so the members must be started with [`short`].
async fn overflow(writer: &Client, members: &[Client], until: OpTime) {
    let flood = writer.database("other").collection::<Document>("flood");
    for _ in 0..600 {
        let documents = (0..10).map(|_| doc! {"pad": "x".repeat(200_000)});
        flood.insert_many(documents).await.expect("a flood");
        let mut reached = true;
        for member in members {
            let oplog = member.database("local").collection::<Document>("oplog.rs");
            let oldest = oplog.find_one(doc! {}).sort(doc! {"$natural": 1}).await.expect("an answer");
            let oldest = oldest.expect("an entry").get_timestamp("ts").expect("a time");
            reached &= OpTime::from(oldest) > until;
        }
        if reached {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the oplog keeps everything");
}

/// An oplog of 8 MB, and checkpoints one second apart instead of a minute.
fn short(member: Builder) -> Builder {
    member.oplog_mb(8).arg("--syncdelay=1")
}

async fn insert(client: &Client, n: i32) {
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": n}).await.expect("a row");
}

fn timeline(home: &Home) -> Value {
    run(&mut tool(home, NOWHERE, &["timeline", "--json"])).ends(0).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_mailed_once_and_shown_until_a_backup_closes_it() {
    let server = short(Mongod::builder().replica_set("rs")).start().await.expect("mongod");
    let (client, nights) = (server.client().await.expect("a client"), Nights::new().await);
    let (home, uri) = (&nights.home, server.uri());
    let mailing = |args: &[&str], code: i32| -> Ran {
        let mut command = tool(home, &uri, args);
        nights.mailing(&mut command);
        run(&mut command).ends(code)
    };
    insert(&client, 0).await;
    mailing(&["backup"], 0);
    insert(&client, 1).await;
    mailing(&["oplog"], 0);
    let end = one_chain(home).last().expect("a slice").end.at;
    let first = timeline(home);
    assert_eq!((first["ranges"].as_array().map(Vec::len), &first["gaps"]), (Some(1), &Value::Array(vec![])));
    let before = nights.mails().await.len();
    overflow(&client, std::slice::from_ref(&client), end).await;
    insert(&client, 2).await;

    let files = home.files();
    let planned = mailing(&["oplog", "--dry-run", "--json"], 3).json();
    holds(
        planned["problems"][0].as_str().expect("a problem"),
        &["gap: ", "overflowed: it reaches back only to"],
    );
    assert_eq!((home.files(), nights.mails().await.len()), (files, before), "a dry run");

    let report = mailing(&["oplog", "--json"], 3).json();
    crate::docs::schema::check("oplog", &report);
    let all = slices(home);
    let new = all.last().expect("a slice");
    let gap = new.gap.as_ref().expect("a gap");
    assert_eq!((gap.from, &report["gap"]["why"]), (end, &gap.why.as_str().into()));
    assert!(new.start > end && new.chain > all[0].chain, "{new:?}");
    assert_eq!(nights.subjects().await.split_off(before), ["oplog stored, needs a look: nightly"]);
    holds(&nights.last().await, &["gap: the writes after ", "make a backup now", "make the oplog larger"]);

    // It is mailed once, and shown until a backup closes it.
    insert(&client, 3).await;
    mailing(&["oplog"], 0);
    assert_eq!(nights.mails().await.len(), before + 1);
    let health = || Health::of(&mut tool(home, &uri, &[]), &["--only", "oplog"]);
    let words = [
        "no good backup can begin a restore",
        "there is a gap from",
        "overflowed",
        "Run `uzima-backup backup`",
    ];
    health().only("oplog", &words, &[]);
    let open = timeline(home);
    let shown = &open["gaps"][0];
    assert_eq!((&shown["to"], &shown["obstacles"][0]["kind"]), (&Value::Null, &"gap".into()), "{open:#}");
    holds(shown["next_step"].as_str().expect("a step"), &["uzima-backup backup"]);
    let target = Mongod::builder().replica_set("target").start().await.expect("mongod");
    let restore = |args: &[&str]| {
        let mut command = tool(home, NOWHERE, &[&["restore", "--yes"], args].concat());
        command.env("RESTORE_URI", target.uri());
        run(&mut command)
    };
    restore(&["--at", &format!("{}:{}", new.end.at.t, new.end.at.i)]).ends(2).says(&["overflowed"]);

    mailing(&["backup"], 0);
    insert(&client, 4).await;
    mailing(&["oplog"], 0);
    assert_eq!(health().row("oplog")["outcome"], "ok", "{}", health().report);
    let closed = timeline(home);
    assert_eq!(closed["ranges"].as_array().map(Vec::len), Some(2), "{closed:#}");
    let base = home.manifests().pop().expect("a backup");
    assert_eq!(closed["gaps"][0]["closed_by"], base.id.to_string());
    restore(&["--at", "newest"]).ends(0);
    let rows = target.client().await.expect("a client").database("live").collection::<Document>("rows");
    assert_eq!(rows.count_documents(doc! {}).await.expect("a count"), 5);
}

/// Only the third member has a longer oplog. Without it, there is a gap.
#[tokio::test(flavor = "multi_thread")]
async fn the_member_with_a_longer_oplog_continues_the_chain() {
    let mut set = ReplicaSet::builder("rs").members(short).start().await.expect("a set");
    let long = set.join(|member| member.oplog_mb(500)).await.expect("a member");
    let (home, client) = (Home::new(), set.client().await.expect("a client"));
    insert(&client, 0).await;
    backup(&home, &set.uri());
    for (n, code, problem) in [(1, 0, None), (2, 3, Some("gap: "))] {
        insert(&client, n).await;
        oplog(&home, &set.uri(), 0);
        let end = slices(&home).last().expect("a slice").end.at;
        let mut losing = Vec::new();
        for member in &set.members[..2] {
            losing.push(member.direct_client().await.expect("a client"));
        }
        overflow(&client, &losing, end).await;
        if code != 0 {
            set.members[long].kill();
        }
        let report = oplog(&home, &set.uri(), code);
        let note = report["notes"].to_string();
        match problem {
            None => {
                assert_eq!(report["member"], set.members[long].host(), "{report}");
                holds(&note, &["read the oplog of ", "overflowed"]);
                one_chain(&home);
            }
            Some(words) => {
                holds(report["problems"][0].as_str().expect("a problem"), &[words, "overflowed"]);
                holds(&note, &["these members of the set did not answer", &set.members[long].host()]);
            }
        }
    }
}
