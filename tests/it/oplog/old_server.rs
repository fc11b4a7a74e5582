//! MongoDB 4.4, whose oplog has another form.

use bson::{Document, doc};
use uzima_backup::model::optime::OpTime;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::DiffOptions;
use uzima_testkit::writers::{Options, Writers};

use super::support::*;
use crate::cli::support::{Home, NOWHERE, run};

/// 4.4 cannot be read as of an earlier time, so the writers pause at the moments that are restored.
#[tokio::test(flavor = "multi_thread")]
async fn moments_of_mongodb_4_4_are_restored() {
    let old = |set: &str| Mongod::builder().version(Version::V4_4_2).replica_set(set);
    let (server, home) = (old("rs").start().await.expect("mongod"), Home::new());
    let client = server.client().await.expect("a client");
    let options = Options { renames: true, ..Options::default() };
    let mut writers = Writers::start(&server.uri(), options.clone()).await.expect("writers");
    writers.stop().await.expect("writers");
    backup(&home, &server.uri());
    let mut moments = Vec::new();
    for rounds in [20, 40] {
        writers = Writers::start(&server.uri(), options.clone()).await.expect("writers");
        for round in [rounds / 2, rounds] {
            writers.wait_for_rounds(round).await.expect("rounds");
            oplog(&home, &server.uri(), 0);
        }
        writers.stop().await.expect("writers");
        let mark = doc! {"insert": "marks", "documents": [{"_id": rounds as i32}], "writeConcern": {"w": "majority"}};
        let marked = client.database("live").run_command(mark).await.expect("a mark");
        let at: OpTime = marked.get_timestamp("operationTime").expect("a time").into();
        moments.push((at, live_snapshot(&client).await));
        client.database("live").collection::<Document>("marks").delete_many(doc! {}).await.expect("deletes");
    }
    oplog(&home, &server.uri(), 0);
    one_chain(&home);
    let target = old("target").start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    for (at, wanted) in moments {
        let mut restore =
            tool(&home, NOWHERE, &["restore", "--yes", "--drop", "--at", &format!("{}:{}", at.t, at.i)]);
        run(restore.env("RESTORE_URI", target.uri())).ends(0);
        let found = live_snapshot(&live).await;
        let options = DiffOptions { users: false, ..DiffOptions::default() };
        assert_eq!(wanted.diff_with(&found, &options), Vec::<String>::new(), "{at}");
        live.database("live").drop().await.expect("a drop");
    }
}
