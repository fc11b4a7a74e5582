//! Documents that the oplog slice of a backup writes are of another moment than the others.

use bson::{Document, doc};
use serde_json::json;
use uzima_testkit::wire_proxy::{Rule, WireProxy};

use super::support::{back_up, diff, diffed, of};
use crate::cli::support::{Home, run};
use crate::native::support::{insert, meanwhile, rows};
use crate::replay::support::source;

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_a_slice_writes_are_counted_and_need_a_look() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", &rows(0, 1_500, 2_000)).await;
    insert(&client, "shop", "quiet", &rows(0, 3, 10)).await;
    let home = Home::new();
    let before = back_up(&home, &server.uri());
    let orders = client.database("shop").collection::<Document>("orders");
    for id in [2, 10] {
        orders.update_one(doc! {"_id": id}, doc! {"$set": {"new": true}}).await.expect("an update");
    }
    client.database("shop").collection("quiet").insert_one(doc! {"_id": 50}).await.expect("an insert");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    // The first document was read before, the last one is read later: only the last one differs in the artifacts.
    let during = proxy.add(Rule::on("getMore").namespace("shop.orders").nth(1).then(meanwhile(
        server.uri(),
        async |client: mongodb::Client| {
            let orders = client.database("shop").collection::<Document>("orders");
            for id in [3, 1_490] {
                orders.update_one(doc! {"_id": id}, doc! {"$set": {"late": true}}).await.expect("an update");
            }
        },
    )));
    let now = back_up(&home, &proxy.uri(&server.uri()));
    assert_eq!(proxy.hits(during), 1);
    // The manifests alone have nothing to look at.
    diffed(&home, &before, &now, &[]).ends(0);
    let report = diffed(&home, &before, &now, &["--documents"]).ends(3).json();
    let contents = &of(&report, "shop.orders")["contents"];
    let ids = [2, 10, 1_490].map(|id| format!(r#"{{"$numberInt":"{id}"}}"#));
    assert_eq!(contents["changed_ids"], json!(ids));
    assert_eq!((&contents["touched"], &contents["added"]), (&json!(1), &json!(0)));
    assert_eq!((&report["from"]["slice_writes"], &report["to"]["slice_writes"]), (&json!(0), &json!(2)));
    let problem = report["problems"][0].as_str().expect("a problem");
    assert!(problem.contains(&format!("the oplog slice of {} has 2 writes", now.id)), "{problem}");
    assert!(problem.contains("touch 1 of the 4 documents that differ"), "{problem}");
    // The slice does not write to the other collection.
    let quiet = diffed(&home, &before, &now, &["shop.quiet", "--documents"]).ends(0).json();
    assert_eq!(of(&quiet, "shop.quiet")["contents"]["added"], 1);
    let ids = [before.id.as_str(), now.id.as_str()];
    run(diff(&home, ids, &["--documents"]).arg("--quiet"))
        .ends(3)
        .says(&["needs a look: documents are of different"]);
}
