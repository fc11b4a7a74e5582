//! A namespace fails before the replay or in it: the other namespaces are replayed, and no entry is applied
//! to the failed one.

use bson::{RawDocument, doc};
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Dump, insert, now, since, source};
use crate::native::support::behind_a_proxy;
use crate::restore::support::{differences, rows};

#[tokio::test(flavor = "multi_thread")]
async fn the_others_are_replayed_and_the_flags_restore_the_failed_one() {
    let (server, client) = source().await;
    for name in ["orders", "items"] {
        insert(&client, "shop", name, 0..10).await;
    }
    let (start, dump) = (now(&client).await, Dump::of(&server));
    for name in ["orders", "items", "orders"] {
        let all = client.database("shop").collection::<bson::Document>(name);
        all.update_many(doc! {}, doc! {"$inc": {"n": 1}}).await.expect("updates");
    }
    insert(&client, "shop", "orders", 20..25).await;
    dump.oplog(&since(&client, start).await);
    let (target, proxy, live) = behind_a_proxy().await;
    // The insert is refused. The server also refuses the oplog's updates of that document, because it does
    // not exist.
    let unknown = Action::rewrite(|command| {
        let mut command: bson::Document = bson::deserialize_from_slice(command).expect("BSON");
        for operation in command.get_array_mut("applyOps").expect("operations") {
            let operation = operation.as_document_mut().expect("an operation");
            let is = |field: &str, text: &str| operation.get_str(field).is_ok_and(|found| found == text);
            if is("ns", "shop.orders") && is("op", "u") {
                operation.insert("o", doc! {"$v": 9, "diff": {}});
            }
        }
        command.to_vec().expect("BSON")
    });
    let faults = [
        Rule::on("insert").namespace("shop.orders").then(Action::fail(1)),
        Rule::on("applyOps").then(unknown),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        live.database("shop").drop().await.expect("a drop");
        rows(&live, "shop", "orders", 500..510).await;
        let rule = proxy.add(fault);
        let ran = dump.restore(&proxy.uri(&target.uri()), &["--drop"]).ends(1);
        assert!(proxy.hits(rule) > 0);
        let flags = "the same command with --ns-include shop.orders --drop restores the rest";
        let ran = ran.says(&["shop.orders: ", flags]);
        assert_eq!(ran.json()["missing"], serde_json::json!(["shop.orders"]));
        let different = differences(&client, &live).await;
        assert!(
            !different.is_empty() && different.iter().all(|line| line.contains("orders")),
            "{different:?}"
        );
        let found = read_all(&live).await.expect("a snapshot of the server");
        let changed = |bytes: &Vec<u8>| {
            let document = RawDocument::from_bytes(bytes).expect("BSON");
            document.get_i32("_id").ok() != document.get_i32("n").ok()
        };
        let orders = &found.get("shop", "orders").expect("the orders").documents;
        assert_eq!(
            (orders.len(), orders.iter().any(changed)),
            ([0, 10][n], false),
            "nothing is applied to it"
        );
        proxy.clear();
        dump.restore(&target.uri(), &["--ns-include", "shop.orders", "--drop"]).ends(0);
        assert_eq!(differences(&client, &live).await, Vec::<String>::new());
    }
}
