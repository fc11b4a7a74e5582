//! Servers that know no resume tokens: older ones that refuse to give any, and ones that ignore the wish.

use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, only, rows};

const DOCUMENTS: i32 = 2_500;

#[tokio::test]
async fn one_that_refuses_is_read_and_a_lost_cursor_costs_a_second_run() {
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
    // A find that is lost before it gave anything is simply sent again.
    proxy.without_resume_tokens(40415);
    let lost = proxy.add(Rule::on("find").namespace("d.c").nth(1).then(Action::Close));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.expect("a backup");
    // It counts the finds that the rule before it lets pass: the first without the wish.
    assert_eq!((proxy.hits(lost), report.manifest.notes.len()), (1, 1));
    assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
}

/// The wish is ignored, as servers do that speak the protocol loosely: no token, no error.
#[tokio::test]
async fn one_that_ignores_the_wish_is_read_once_and_never_twice_over() {
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
