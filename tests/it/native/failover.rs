//! The member that is read dies, and another one becomes primary.

use std::time::Duration;

use bson::RawDocumentBuf;
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_backup::base::retry::Patience;
use uzima_backup::ops::backup::BackupOptions;
use uzima_testkit::replica_set::{ReplicaSet, insert_with_gaps};
use uzima_testkit::wire_proxy::{Rule, WireProxy};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, meanwhile, only, rows};

const DOCUMENTS: i32 = 1_500;

/// Kills a member with SIGKILL, as a power failure would.
fn kill(pid: u32) {
    let done = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(done.is_ok_and(|status| status.success()), "kill {pid}");
}

#[tokio::test]
async fn the_second_run_reads_the_member_that_took_over() {
    let documents = rows(0, DOCUMENTS, 2_000);
    let set = ReplicaSet::builder("trio")
        .arbiter()
        .start_filled(async |client: &Client| {
            insert_with_gaps(&client.database("d").collection::<RawDocumentBuf>("c"), &documents).await
        })
        .await
        .expect("a set");
    let old = set.primary().await.expect("a primary");
    let pid = set.members[old].pid().expect("it runs");
    let proxy = WireProxy::start(&[set.members[0].host(), set.members[1].host()]).expect("the proxy");
    let die = meanwhile(set.members[1 - old].direct_uri(), move |_| {
        kill(pid);
        async {}
    });
    let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(1).then(die));
    let uri = format!("{}&serverSelectionTimeoutMS=6000", proxy.uri(&set.uri()));
    let shelf = Shelf::new();
    let waits = |options: &mut BackupOptions| {
        only(&["d"])(options);
        options.settings.patience = Patience::new(Duration::from_secs(15));
    };
    let report = shelf.run(&uri, waits).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
    assert_eq!(report.manifest.source.member, proxy.host(1 - old));
    let notes = report.manifest.notes.join("\n");
    assert!(notes.contains("started once more") && notes.contains("cannot be reached any more"), "{notes}");
    let mut found = ids(shelf.decode(&report).get("d.c"));
    found.sort_unstable();
    assert_eq!(found, (0..DOCUMENTS).collect::<Vec<_>>());
    shelf.assert_only(&report).await;
}

#[tokio::test]
async fn without_another_member_the_backup_fails() {
    // In the middle of a cursor, and at its last batch.
    for nth in [1, 2] {
        let (server, proxy, client) = behind_a_proxy().await;
        insert(&client, "d", "c", &rows(0, DOCUMENTS, 2_000)).await;
        let pid = server.pid().expect("it runs");
        let die = meanwhile(server.uri(), move |_| {
            kill(pid);
            async {}
        });
        let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(nth).then(die));
        let uri = format!("{}&serverSelectionTimeoutMS=1000", proxy.uri(&server.uri()));
        let shelf = Shelf::new();
        let text = failed(shelf.run(&uri, only(&["d"])).await);
        assert_eq!(proxy.hits(rule), 1, "{text}");
        // The second run is the one that fails.
        assert!(text.contains(&format!("cannot connect to MongoDB at {}", proxy.host(0))), "{text}");
        shelf.assert_nothing().await;
    }
}
