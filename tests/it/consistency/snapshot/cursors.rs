//! The cursor is lost: reading is resumed within the same instant, even if the record to resume from was
//! deleted since.

use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{
    assert_snapshot, change, documents_now, fill, set_behind_a_proxy, snapshot, times_asked,
};
use crate::native::support::{Shelf, insert, meanwhile, meanwhile_fail, rows};

#[tokio::test]
async fn a_lost_cursor_is_resumed_within_the_instant() {
    for nth in 1..=2 {
        for action in [Action::fail(43), Action::CutAnswer(100), Action::Close, Action::fail(175)] {
            let (server, proxy, client) = set_behind_a_proxy().await;
            fill(&client).await;
            let before = documents_now(&client).await;
            let rules = [
                Rule::on("find").namespace("d.a").nth(1).then(meanwhile(server.uri(), change)),
                Rule::on("getMore").namespace("d.a").nth(nth).then(action.clone()),
            ];
            let rules = rules.map(|rule| proxy.add(rule));
            let shelf = Shelf::new();
            let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
            assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
            assert_snapshot(&report.manifest);
            assert_eq!(shelf.decode(&report).documents, before, "{action:?}");
            let notes = &report.manifest.notes;
            assert!(
                notes.len() == 1 && notes[0].starts_with("went on reading d.a behind batch "),
                "{notes:?}"
            );
            let at = report.manifest.consistency.at.map(Into::into);
            assert!(times_asked(&proxy).iter().all(|time| *time == at));
        }
    }
}

#[tokio::test]
async fn behind_a_deleted_record_the_scan_resumes_by_the_same_token() {
    let clustered = bson::doc! { "create": "a", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
    for create in [bson::doc! { "create": "a" }, clustered] {
        let (server, proxy, client) = set_behind_a_proxy().await;
        client.database("d").run_command(create).await.expect("a collection");
        insert(&client, "d", "a", &rows(0, 1_800, 2_000)).await;
        let before = documents_now(&client).await;
        let delete = async |client: mongodb::Client| {
            let all = client.database("d").collection::<bson::Document>("a");
            all.delete_many(bson::doc! { "_id": { "$lte": 1_500 } }).await.expect("a delete");
        };
        let rule = Rule::on("getMore").namespace("d.a").nth(1).then(meanwhile_fail(server.uri(), 43, delete));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
        assert_eq!(proxy.hits(rule), 1);
        assert_snapshot(&report.manifest);
        assert_eq!(shelf.decode(&report).documents, before);
        let shown = |body: &bson::RawDocumentBuf| body.get("showRecordId").is_ok_and(|v| v.is_some());
        let scans = proxy.commands("find").iter().filter(|c| c.body.as_ref().is_some_and(shown)).count();
        assert_eq!(scans, 0, "nothing is read twice");
    }
}
