//! Collections are dropped, renamed and created again while they are read.

use bson::{Document, doc};
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_backup::ops::backup::BackupReport;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Shelf, behind_a_proxy, ids, insert, meanwhile, only, rows};

/// In `d`: `c`, which is read in several batches, and `z`, which must be complete in every case.
async fn fill(client: &Client) {
    insert(client, "d", "c", &rows(0, 1_500, 2_000)).await;
    insert(client, "d", "z", &rows(0, 300, 10)).await;
}

async fn drop_c(client: Client) {
    client.database("d").collection::<Document>("c").drop().await.expect("a drop");
}

async fn rename(client: &Client, from: &str, to: &str) {
    let command = doc! { "renameCollection": from, "to": to };
    client.database("admin").run_command(command).await.expect("a rename");
}

async fn make_anew(client: Client) {
    drop_c(client.clone()).await;
    insert(&client, "d", "c", &rows(5_000, 1_500, 2_000)).await;
}

fn assert_dropped(shelf: &Shelf, report: &BackupReport, at_most: u64) {
    assert_eq!(report.exit(), Exit::NeedsLook);
    assert_eq!(report.manifest.warnings, ["dropped while it was read: d.c"]);
    let dropped: Vec<_> = report.manifest.namespaces.iter().filter(|n| n.dropped).collect();
    assert_eq!((dropped.len(), dropped[0].collection.as_str()), (1, "c"));
    assert!(dropped[0].documents <= at_most, "{}", dropped[0].documents);
    assert_eq!(ids(shelf.decode(report).get("d.z")), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_drop_is_named_whenever_it_happens() {
    let (server, proxy, client) = behind_a_proxy().await;
    let uri = proxy.uri(&server.uri());
    // The drop comes between two questions about the collection, before its first document, between its
    // finds, and between its batches.
    let moments = [("listCollections", 1, 0), ("listIndexes", 1, 0), ("find", 1, 101), ("find", 2, 1_000)];
    for (command, nth, at_most) in moments {
        fill(&client).await;
        let namespace = if command == "listCollections" { "d" } else { "d.c" };
        let rule = Rule::on(command).namespace(namespace).nth(nth).then(meanwhile(server.uri(), drop_c));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let report =
            shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{command}: {}", e.chain()));
        assert_eq!(proxy.hits(rule), 1, "{command} {nth}");
        assert_dropped(&shelf, &report, at_most);
        shelf.assert_only(&report).await;
        proxy.clear();
        client.database("d").drop().await.expect("a drop");
    }
    // The last reply was complete: the drop changed nothing that was read, and is reported anyway.
    fill(&client).await;
    let rule = proxy.add(Rule::on("find").namespace("d.z").nth(1).then(meanwhile(server.uri(), drop_c)));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    assert_dropped(&shelf, &report, 1_500);
}

#[tokio::test]
async fn after_an_error_of_a_killed_plan_the_collection_is_checked() {
    let (server, proxy, client) = behind_a_proxy().await;
    fill(&client).await;
    // The error code says that the collection was dropped, but it exists, so the scan continues.
    for code in [175, 26] {
        let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(1).then(Action::fail(code)));
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
        assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
        assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..1_500).collect::<Vec<_>>());
        assert_eq!(report.manifest.notes.len(), 1);
        proxy.clear();
    }
}

#[tokio::test]
async fn a_rename_costs_a_second_run_which_tolerates_another() {
    let (server, proxy, client) = behind_a_proxy().await;
    let uri = proxy.uri(&server.uri());
    let there = || meanwhile(server.uri(), async |client: Client| rename(&client, "d.c", "d.moved").await);
    let back = || meanwhile(server.uri(), async |client: Client| rename(&client, "d.moved", "d.c").await);
    fill(&client).await;
    // While it is read; before its find, which then finds nothing; before its indexes are listed.
    for (command, namespace, nth) in
        [("find", "d.c", 2), ("listIndexes", "d.c", 1), ("listCollections", "d", 1)]
    {
        let rule = proxy.add(Rule::on(command).namespace(namespace).nth(nth).then(there()));
        let shelf = Shelf::new();
        let report =
            shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{command}: {}", e.chain()));
        assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done), "{command}");
        let notes = report.manifest.notes.join("\n");
        assert!(
            notes.contains("keeping the documents that can be read of each collection, because d.c was "),
            "{command}: {notes}"
        );
        let decoded = shelf.decode(&report);
        assert_eq!(ids(decoded.get("d.moved")), (0..1_500).collect::<Vec<_>>());
        assert!(!decoded.documents.contains_key("d.c"));
        shelf.assert_only(&report).await;
        proxy.clear();
        rename(&client, "d.moved", "d.c").await;
    }
    let first = proxy.add(Rule::on("find").namespace("d.c").nth(2).then(there()));
    let second = proxy.add(Rule::on("find").namespace("d.moved").nth(2).then(back()));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!((proxy.hits(first), proxy.hits(second), report.exit()), (1, 1, Exit::NeedsLook));
    let warnings = &report.manifest.warnings;
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("renamed to d.c while it was read"),
        "{warnings:?}"
    );
    let decoded = shelf.decode(&report);
    let read = ids(decoded.get("d.moved"));
    assert!(read.len() >= 101 && read == (0..read.len() as i32).collect::<Vec<_>>(), "{}", read.len());
    assert_eq!(ids(decoded.get("d.z")), (0..300).collect::<Vec<_>>());
    shelf.assert_only(&report).await;
}

#[tokio::test]
async fn a_rename_there_and_back_is_not_an_empty_collection() {
    let (server, proxy, client) = behind_a_proxy().await;
    fill(&client).await;
    // The find returns nothing, and at the end of the run the collection has its old name again.
    let there = meanwhile(server.uri(), async |client: Client| rename(&client, "d.c", "d.away").await);
    let back = meanwhile(server.uri(), async |client: Client| rename(&client, "d.away", "d.c").await);
    let rules = [
        proxy.add(Rule::on("listIndexes").namespace("d.c").nth(1).then(there)),
        proxy.add(Rule::on("find").namespace("d.c").nth(1).then(back)),
    ];
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
    assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
    assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..1_500).collect::<Vec<_>>());
    assert_eq!(report.exit(), Exit::Done);

    // The collection is back after the run has looked for it, so the lists before and after the run are the
    // same.
    for runs in [1, 2] {
        proxy.clear();
        let there = || meanwhile(server.uri(), async |client: Client| rename(&client, "d.c", "d.away").await);
        let back = || meanwhile(server.uri(), async |client: Client| rename(&client, "d.away", "d.c").await);
        // A rule does not count the commands that an earlier rule acted on.
        for run in 0..runs {
            proxy.add(Rule::on("listIndexes").namespace("d.c").nth(1).then(there()));
            proxy.add(Rule::on("listCollections").namespace("d").nth(3 + 3 * run).then(back()));
        }
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
        let notes = report.manifest.notes.join("\n");
        assert!(notes.contains("because d.c was renamed and renamed back while it was read"), "{notes}");
        let (warnings, documents) = (&report.manifest.warnings, shelf.decode(&report).get("d.c").len());
        match runs {
            1 => assert_eq!((warnings.len(), documents), (0, 1_500), "{warnings:?}"),
            _ => assert!(
                warnings.len() == 1 && warnings[0].starts_with("renamed and renamed back") && documents == 0,
                "{warnings:?}, {documents}"
            ),
        }
    }
}

#[tokio::test]
async fn a_recreated_collection_costs_a_second_run_which_tolerates_another() {
    let (server, proxy, client) = behind_a_proxy().await;
    let uri = proxy.uri(&server.uri());
    for (command, nth) in [("find", 2), ("listIndexes", 1)] {
        client.database("d").drop().await.expect("a drop");
        fill(&client).await;
        let rule = Rule::on(command).namespace("d.c").nth(nth).then(meanwhile(server.uri(), make_anew));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let report =
            shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{command}: {}", e.chain()));
        assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done), "{command}");
        assert_eq!(ids(shelf.decode(&report).get("d.c")), (5_000..6_500).collect::<Vec<_>>());
        assert!(report.manifest.notes.iter().any(|note| note.starts_with("started once more")), "{command}");
        shelf.assert_only(&report).await;
        proxy.clear();
    }
    let rule = Rule::on("listIndexes").namespace("d.c").then(meanwhile(server.uri(), make_anew));
    let rule = proxy.add(rule);
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!((proxy.hits(rule), report.exit()), (2, Exit::NeedsLook));
    let warnings = &report.manifest.warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("replaced by another collection"), "{warnings:?}");
    // The backup has all documents of the collection that existed when it was read.
    assert_eq!(ids(shelf.decode(&report).get("d.c")), (5_000..6_500).collect::<Vec<_>>());
    shelf.assert_only(&report).await;
}
