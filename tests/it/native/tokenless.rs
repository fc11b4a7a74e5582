//! Servers without resume tokens: older servers that refuse the request, and servers that ignore it.

use bson::{Document, doc};
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, meanwhile, only, rows};

const DOCUMENTS: i32 = 2_500;

#[tokio::test]
async fn a_server_that_refuses_tokens_is_read_and_a_lost_cursor_costs_a_second_run() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 100)).await;
    client.database("d").create_collection("none").await.expect("a collection");
    let uri = proxy.uri(&server.uri());
    for code in [40415, 9] {
        for losses in 0..=2 {
            let [refused, _] = proxy.without_resume_tokens(code);
            let lost = Rule::on("getMore").namespace("d.c").times(losses).then(Action::fail(43));
            let lost = proxy.add(lost);
            let shelf = Shelf::new();
            let outcome = shelf.run(&uri, only(&["d"])).await;
            assert!(proxy.hits(refused) >= 2 && proxy.hits(lost) == losses, "{code} {losses}");
            proxy.clear();
            if losses == 2 {
                let text = failed(outcome);
                assert!(text.contains("gives no resume tokens") && text.contains("d.c"), "{text}");
                shelf.assert_nothing().await;
                continue;
            }
            let report = outcome.unwrap_or_else(|e| panic!("{code} {losses}: {}", e.chain()));
            let notes = report.manifest.notes.join("\n");
            assert_eq!(notes.contains("started once more"), losses == 1, "{notes}");
            let decoded = shelf.decode(&report);
            assert_eq!(ids(decoded.get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
            assert_eq!(decoded.get("d.none").len(), 0);
            shelf.assert_only(&report).await;
        }
    }
    // A find that is lost before its first document is sent again.
    proxy.without_resume_tokens(40415);
    let lost = proxy.add(Rule::on("find").namespace("d.c").nth(1).then(Action::Close));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.expect("a backup");
    // The rule counts the finds that the rule before it lets pass, which are those without the request for
    // tokens.
    assert_eq!((proxy.hits(lost), report.manifest.notes.len()), (1, 1));
    assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
}

/// MongoDB 4.4 returns a token with documents, but none for an empty collection (seen on 4.4.2).
#[tokio::test]
async fn an_empty_collection_without_a_token_is_no_lost_cursor() {
    let server = Mongod::builder().version(Version::V4_4_2).start().await.expect("mongod 4.4.2");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    empty_collections_are_read_without_a_note(&server, &proxy, false).await;
    // Newer servers have kinds of collections that 4.4 does not have.
    let (server, proxy, _client) = behind_a_proxy().await;
    empty_collections_are_read_without_a_note(&server, &proxy, true).await;
}

async fn empty_collections_are_read_without_a_note(server: &Mongod, proxy: &WireProxy, newer: bool) {
    let client = server.client().await.expect("a client");
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 100)).await;
    let database = client.database("d");
    for n in 0..20 {
        database.create_collection(format!("empty{n}")).await.expect("a collection");
    }
    let capped = doc! {"create": "capped", "capped": true, "size": 4096};
    database.run_command(capped).await.expect("a capped collection");
    let mut kinds = vec![doc! {"create": "view", "viewOn": "c", "pipeline": []}];
    if newer {
        kinds.push(doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true}});
        kinds.push(doc! {"create": "weather", "timeseries": {"timeField": "t"}});
    }
    for kind in kinds {
        database.run_command(kind).await.expect("a collection");
    }
    let without = Action::edit(|answer| {
        let batch = raw::get(answer, &["cursor", "firstBatch"])
            .or_else(|| raw::get(answer, &["cursor", "nextBatch"]));
        match batch {
            Some((_, list)) if list.len() == 5 => {
                raw::rewrite(answer, &["cursor", "postBatchResumeToken"], &|_, _| None)
            }
            _ => answer.to_vec(),
        }
    });
    // One collection is emptied after its first batch, so that the record of its resume token is gone.
    insert(&client, "d", "emptied", &rows(0, DOCUMENTS, 100)).await;
    let empty = meanwhile(server.uri(), async |client: Client| {
        client.database("d").collection::<Document>("emptied").delete_many(doc! {}).await.expect("a delete");
    });
    let emptied = proxy.add(Rule::on("find").namespace("d.emptied").nth(1).then(empty));
    let without = if newer { without } else { Action::Pass };
    let rules = ["find", "getMore"].map(|command| {
        let rule = Rule::on(command).namespace("d.*");
        proxy.add(rule.then(without.clone()))
    });
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
    assert!(proxy.hits(emptied) == 1 && proxy.hits(rules[0]) > 20);
    assert_eq!((report.manifest.notes.as_slice(), report.exit()), (&[][..], Exit::Done));
    let decoded = shelf.decode(&report);
    assert_eq!(ids(decoded.get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
    assert_eq!(decoded.get("d.emptied").len(), 101);
    assert_eq!((decoded.get("d.empty0").len(), decoded.get("d.capped").len()), (0, 0));
}

/// The server ignores the request for tokens, as loose implementations of the protocol do: no token and no
/// error.
#[tokio::test]
async fn a_server_that_ignores_the_request_for_tokens_is_read_once() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 100)).await;
    client.database("d").create_collection("none").await.expect("a collection");
    let uri = proxy.uri(&server.uri());
    for losses in 0..=2 {
        let bare = proxy.add(Rule::on("find").then(Action::without_resume_token()));
        let lost = proxy.add(Rule::on("getMore").namespace("d.c").times(losses).then(Action::fail(43)));
        let later = proxy.add(Rule::on("getMore").then(Action::without_resume_token()));
        let shelf = Shelf::new();
        let outcome = shelf.run(&uri, only(&["d"])).await;
        assert!(proxy.hits(bare) >= 2 && proxy.hits(lost) == losses, "{losses}");
        proxy.clear();
        if losses == 2 {
            let text = failed(outcome);
            assert!(text.contains("gives no resume tokens"), "{text}");
            shelf.assert_nothing().await;
            continue;
        }
        assert!(proxy.hits(later) > 0);
        let report = outcome.unwrap_or_else(|e| panic!("{losses}: {}", e.chain()));
        let decoded = shelf.decode(&report);
        assert_eq!(ids(decoded.get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>(), "{losses}");
        assert_eq!(decoded.get("d.none").len(), 0);
    }
}
