//! Another primary, and writes that a failover undoes.

use bson::{Document, doc};
use mongodb::Client;
use uzima_backup::model::optime::OpTime;
use uzima_testkit::replica_set::ReplicaSet;

use super::support::*;
use crate::cli::support::{Home, run};

/// Writes that only the old primary has carry this text.
const UNDONE: &str = "only the old primary has this";

async fn insert(client: &Client, n: i32) {
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": n}).await.expect("a row");
}

fn bodies(home: &Home) -> Vec<u8> {
    one_chain(home).iter().flat_map(|slice| body(home, slice)).collect()
}

fn holds_undone(bytes: &[u8]) -> bool {
    bytes.windows(UNDONE.len()).any(|part| part == UNDONE.as_bytes())
}

/// The old primary loses the majority, writes on, and dies. The others elect a new primary. The old one comes back and rolls its
/// writes back. In every state, `oplog` stores only entries that a majority has.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_a_failover_undoes_are_never_stored_and_the_chain_goes_on() {
    let mut set = ReplicaSet::builder("rs").start().await.expect("a set");
    set.join(|member| member).await.expect("a member");
    let (home, client) = (Home::new(), set.client().await.expect("a client"));
    insert(&client, 0).await;
    backup(&home, &set.uri());
    insert(&client, 1).await;
    oplog(&home, &set.uri(), 0);
    let old = set.primary().await.expect("a primary");
    assert_eq!(old, 0);
    let alone = set.members[old].direct_client().await.expect("a client");
    for other in [1, 2] {
        set.members[other].kill();
    }
    // It is primary until it notices that the others are gone.
    let unsafe_write = doc! {"w": 1, "j": true};
    let documents: Vec<Document> = (0..50).map(|n| doc! {"_id": 1000 + n, "text": UNDONE}).collect();
    let write = doc! {"insert": "rows", "documents": documents, "writeConcern": unsafe_write};
    alone.database("live").run_command(write).await.expect("writes");
    let lonely = run(&mut tool(&home, &set.members[old].direct_uri(), &["oplog", "--json"])).ends(0).json();
    assert_eq!(lonely["entries"], 0, "{lonely}");
    let everything = (OpTime { t: 0, i: 0 }, OpTime { t: u32::MAX, i: 0 });
    assert!(holds_undone(&oplog_itself(&alone, everything.0, everything.1).await), "they are in its oplog");
    set.members[old].kill();

    for other in [1, 2] {
        set.members[other].restart().await.expect("a member");
    }
    let new = set.primary().await.expect("a primary");
    let direct = set.members[new].direct_client().await.expect("a client");
    insert(&direct, 2).await;
    let report = oplog(&home, &set.members[new].direct_uri(), 0);
    assert!(report["entries"].as_u64() >= Some(1), "{report}");
    let terms: Vec<i64> = one_chain(&home).iter().map(|slice| slice.end.term).collect();
    assert!(terms.last() > terms.first(), "{terms:?}");

    // While the old primary rolls back, it may refuse to be read, or lag behind.
    set.members[old].restart().await.expect("the old primary");
    for n in 3..6 {
        insert(&direct, n).await;
        let ran = run(&mut tool(&home, &set.members[old].direct_uri(), &["oplog"]));
        assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
        assert!(!holds_undone(&bodies(&home)));
    }
    let gone = async || {
        let returned = set.members[old].direct_client().await.expect("a client");
        let rows = returned.database("live").collection::<Document>("rows");
        rows.count_documents(doc! {"text": UNDONE}).await.is_ok_and(|count| count == 0)
            && rows.count_documents(doc! {"_id": 5}).await.is_ok_and(|count| count == 1)
    };
    for turn in 0.. {
        if gone().await {
            break;
        }
        assert!(turn < 600, "the old primary does not roll back");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    insert(&direct, 6).await;
    oplog(&home, &set.uri(), 0);
    let slices = one_chain(&home);
    let (first, last) = (slices[0].start, slices.last().expect("a slice").end.at);
    assert!(
        bodies(&home) == oplog_itself(&direct, first, last).await,
        "the bodies are the new primary's oplog"
    );
    let ids: u64 = slices.iter().map(|slice| slice.entries).sum();
    assert_eq!(ids, 6, "the rows from 1 to 6");
}
