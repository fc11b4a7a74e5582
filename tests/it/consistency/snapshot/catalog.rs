//! The list of collections must be of the same instant, although the server lists only the present.

use bson::{Document, doc};
use mongodb::Client;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{assert_snapshot, documents_now, fill, set_behind_a_proxy, snapshot};
use crate::native::support::{Shelf, insert, meanwhile, rows};

async fn create(client: &Client, name: &str) {
    insert(client, "d", name, &rows(0, 1, 1)).await;
}

async fn index(client: &Client) {
    let index = doc! { "createIndexes": "z", "indexes": [{ "key": { "x": 1 }, "name": "x_1" }] };
    client.database("d").run_command(index).await.expect("an index");
}

#[tokio::test]
async fn changes_between_the_list_and_the_instant_are_listed_again() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let uri = server.uri();
    for (what, action) in [
        ("made", meanwhile(uri.clone(), async |client: Client| create(&client, "new").await)),
        ("indexed", meanwhile(uri.clone(), async |client: Client| index(&client).await)),
        (
            "dropped",
            meanwhile(uri.clone(), async |client: Client| {
                client.database("d").collection::<Document>("new").drop().await.expect("a drop")
            }),
        ),
    ] {
        proxy.clear_log();
        let rule = proxy.add(Rule::on("listCollections").namespace("d").nth(1).then(action));
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&uri), snapshot()).await.expect("a backup");
        assert_eq!(proxy.hits(rule), 1, "{what}");
        assert_snapshot(&report.manifest);
        let decoded = shelf.decode(&report);
        assert_eq!(decoded.documents, documents_now(&client).await, "{what}");
        assert_eq!(decoded.metadata["d.z"].contains("x_1"), what != "made");
        proxy.clear();
    }
}

#[tokio::test]
async fn if_the_list_never_stands_still_an_oplog_slice_is_kept() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let change = meanwhile(server.uri(), async |client: Client| {
        let z = client.database("d").collection::<Document>("z");
        let number = z.count_documents(doc! {}).await.expect("a count") as i32;
        insert(&client, "d", "z", &rows(10_000 + number, 1, 1)).await;
        create(&client, &format!("new{number}")).await;
    });
    let rule = proxy.add(Rule::on("listCollections").namespace("d").times(11).then(change));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 11);
    let consistency = &report.manifest.consistency;
    assert_eq!(consistency.achieved, "oplog", "{consistency:?}");
    assert!(
        consistency.why.contains("were created or dropped each time they were listed"),
        "{consistency:?}"
    );
}

/// The server (6.0.5) reads every kind of collection as of an instant, except capped ones.
#[tokio::test]
async fn a_capped_collection_is_read_at_its_own_time_and_reported() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let capped = doc! { "create": "y", "capped": true, "size": 100_000 };
    client.database("d").run_command(capped).await.expect("a capped collection");
    create(&client, "y").await;
    let before = documents_now(&client).await;
    let change = meanwhile(server.uri(), async |client: Client| {
        insert(&client, "d", "y", &rows(1, 5, 1)).await;
        insert(&client, "d", "z", &rows(1_000, 5, 1)).await;
    });
    let rule = proxy.add(Rule::on("find").namespace("d.a").nth(1).then(change));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    assert_snapshot(&report.manifest);
    let decoded = shelf.decode(&report);
    assert_eq!(decoded.get("d.z"), before["d.z"]);
    assert_eq!(decoded.get("d.y"), documents_now(&client).await["d.y"]);
    let (why, notes) = (&report.manifest.consistency.why, &report.manifest.notes);
    assert!(why.ends_with("each is read at its own time: d.y"), "{why}");
    assert!(notes.len() == 1 && notes[0].ends_with("each is read at its own time: d.y"), "{notes:?}");
    // Only the UUID at the end proves that the collection was read whole.
    let dropping = meanwhile(server.uri(), async |client: Client| {
        client.database("d").collection::<Document>("y").drop().await.expect("a drop");
    });
    proxy.clear();
    let rule = proxy.add(Rule::on("find").namespace("d.a").nth(1).then(dropping));
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    assert_eq!(report.manifest.warnings, ["dropped while it was read: d.y"]);
}

/// A server may accept a read concern and ignore it.
#[tokio::test]
async fn an_answer_without_the_time_is_no_proof() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let forget = Action::edit(|answer| {
        uzima_testkit::raw::rewrite(answer, &["cursor", "atClusterTime"], &|_, _| None)
    });
    let rule = proxy.add(Rule::on("find").namespace("d.z").nth(1).then(forget));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    assert_eq!(report.manifest.consistency.achieved, "oplog");
}
