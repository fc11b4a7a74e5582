//! Writes during a backup are not part of it.

use uzima_backup::base::exit::Exit;
use uzima_backup::config::choices::ConsistencyChoice;
use uzima_testkit::wire_proxy::Rule;

use super::support::{assert_snapshot, change, documents_now, fill, set_behind_a_proxy, times_asked, with};
use crate::native::support::{Shelf, meanwhile};

#[tokio::test]
async fn a_snapshot_contains_no_write_that_came_during_the_backup() {
    for (consistency, mixes) in [(ConsistencyChoice::Snapshot, false), (ConsistencyChoice::None, true)] {
        let (server, proxy, client) = set_behind_a_proxy().await;
        fill(&client).await;
        let before = documents_now(&client).await;
        // The first 101 documents of `a` are read; the others and all of `z` are not.
        let rule = Rule::on("find").namespace("d.a").nth(1).then(meanwhile(server.uri(), change));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), with(consistency)).await.expect("a backup");
        assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
        let decoded = shelf.decode(&report);
        let after = documents_now(&client).await;
        assert_ne!(before["d.z"], after["d.z"]);
        let times = times_asked(&proxy);
        if mixes {
            // Without a snapshot, the same test finds the old start of `a` and the new `z`.
            assert_eq!(decoded.get("d.a")[..101], before["d.a"][..101]);
            assert_eq!(decoded.get("d.z"), after["d.z"]);
            assert_eq!(report.manifest.consistency.achieved, "none");
            assert!(times.iter().all(Option::is_none), "{times:?}");
            continue;
        }
        assert_snapshot(&report.manifest);
        assert_eq!(decoded.documents, before);
        assert_eq!(report.manifest.notes, Vec::<String>::new());
        let at = report.manifest.consistency.at.expect("a time").into();
        assert!(times.len() >= 10 && times.iter().all(|time| *time == Some(at)), "{at:?}: {times:?}");
    }
}

#[tokio::test]
async fn an_idle_server_is_read_at_once() {
    let (server, _proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let before = documents_now(&client).await;
    let shelf = Shelf::new();
    for _ in 0..3 {
        let report = shelf.run(&server.uri(), with(ConsistencyChoice::Snapshot)).await.expect("a backup");
        assert_snapshot(&report.manifest);
        assert_eq!(shelf.decode(&report).documents, before);
    }
}
