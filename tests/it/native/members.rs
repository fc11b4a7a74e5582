//! Members of a replica set step down, restart, and are chosen by the read preference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, doc};
use mongodb::Client;
use tokio::sync::Mutex;
use uzima_backup::base::exit::Exit;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::replica_set::{ReplicaSet, insert_with_gaps, record_ids};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, meanwhile, meanwhile_fail, only, rows};

const DOCUMENTS: i32 = 1_500;

/// The errors say that the member stepped down, is stepping down, is not primary, or is shutting down, but
/// `hello` shows no change.
#[tokio::test]
async fn errors_of_a_state_change_that_did_not_happen_are_resumed_from() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 2_000)).await;
    for code in [189, 10107, 11602, 91, 11600] {
        for (command, nth) in [("find", 1), ("find", 2), ("getMore", 1)] {
            let rule = proxy.add(Rule::on(command).namespace("d.c").nth(nth).then(Action::fail(code)));
            let shelf = Shelf::new();
            let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
            let notes = &report.manifest.notes;
            assert!(notes.len() == 1 && notes[0].starts_with("continued reading d.c"), "{code}: {notes:?}");
            assert_eq!(proxy.hits(rule), 1);
            assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
            proxy.clear();
        }
    }
}

/// From a failing command on, `hello` reports another process or another role.
#[tokio::test]
async fn no_resume_token_is_used_on_another_process_or_in_another_role() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 2_000)).await;
    for role in [false, true] {
        for runs in [1, 2] {
            let generation = Arc::new(AtomicU8::new(0));
            let (counting, telling) = (generation.clone(), generation.clone());
            let hello = Action::edit(move |answer| {
                let n = telling.load(Ordering::SeqCst);
                let id = ObjectId::from_bytes([n; 12]);
                match role {
                    true => {
                        raw::rewrite(answer, &["isWritablePrimary"], &|_, _| Some((8, vec![(n + 1) % 2])))
                    }
                    false => raw::rewrite(answer, &["topologyVersion", "processId"], &|_, _| {
                        Some((7, id.bytes().into()))
                    }),
                }
            });
            let lose = meanwhile_fail(server.uri(), 11602, move |_| {
                counting.fetch_add(1, Ordering::SeqCst);
                async {}
            });
            proxy.add(Rule::on("hello").then(hello));
            let lost = proxy.add(Rule::on("getMore").namespace("d.c").times(runs).then(lose));
            proxy.clear_log();
            let shelf = Shelf::new();
            let outcome = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await;
            assert_eq!((proxy.hits(lost), u64::from(generation.load(Ordering::SeqCst))), (runs, runs));
            let what = if role { " while d.c was read" } else { "was restarted while d.c was read" };
            if runs == 1 {
                let report = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
                assert_eq!(report.exit(), Exit::Done);
                let notes = report.manifest.notes.join("\n");
                assert!(
                    notes.contains("started once more from the beginning") && notes.contains(what),
                    "{notes}"
                );
                assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
                shelf.assert_only(&report).await;
            } else {
                let text = failed(outcome);
                assert!(text.contains(what), "{text}");
                shelf.assert_nothing().await;
            }
            // The next command on this collection is the first find of a new run.
            let log = proxy.log();
            let loss = log.iter().position(|c| c.name == "getMore" && c.action.is_some()).expect("the loss");
            let next = log[loss..].iter().find(|c| c.name == "find" && c.namespace == "d.c").expect("a find");
            let body = next.body.as_ref().expect("a short command");
            assert!(body.get("$_resumeAfter").is_ok_and(|field| field.is_none()), "{body:?}");
            proxy.clear();
        }
    }
}

/// Steps the member down for longer than the run takes, by force if no other member can become primary yet.
async fn step_down(client: Client, force: bool) {
    let command = doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 8, "force": force };
    client.database("admin").run_command(command).await.expect("a step-down");
}

#[tokio::test]
async fn a_real_step_down_costs_a_second_run_and_two_the_backup() {
    let documents = rows(0, DOCUMENTS, 2_000);
    let set = ReplicaSet::builder("pair")
        .start_filled(async |client: &Client| {
            insert_with_gaps(&client.database("d").collection::<RawDocumentBuf>("c"), &documents).await
        })
        .await
        .expect("a set");
    let [one, other] = [&set.members[0], &set.members[1]];
    let places = [record_ids(one, "d", "c").await.unwrap(), record_ids(other, "d", "c").await.unwrap()];
    assert!(places[0].iter().zip(&places[1]).all(|(a, b)| a != b), "the record ids are the same");
    let proxy = WireProxy::start(&[one.host(), other.host()]).expect("the proxy");
    let uri = proxy.uri(&set.uri());

    // All reads go to the member that the read preference chooses.
    for (preference, member) in [("primary", 0), ("secondary", 1)] {
        proxy.clear_log();
        let shelf = Shelf::new();
        let report =
            shelf.run(&format!("{uri}&readPreference={preference}"), |_| {}).await.expect("a backup");
        assert_eq!(report.manifest.source.member, proxy.host(member));
        let asked = proxy.log().into_iter().filter(|c| !c.is_hello() && c.name != "endSessions");
        let members: BTreeSet<_> = asked.map(|c| (c.name, c.member)).collect();
        assert!(members.iter().all(|(_, m)| *m == member), "{members:?}");
        for read in ["find", "getMore", "listCollections", "listIndexes", "dbStats"] {
            assert!(members.iter().any(|(name, _)| name == read), "no {read} in {members:?}");
        }
        assert_eq!(shelf.decode(&report).get("d.c").len(), DOCUMENTS as usize);
    }

    let down = meanwhile(set.uri(), async |client| step_down(client, false).await);
    let rule = proxy.add(Rule::on("getMore").namespace("d.c").member(0).nth(1).then(down));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, |_| {}).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(proxy.hits(rule), 1);
    assert_eq!(report.manifest.source.member, proxy.host(1));
    let notes = report.manifest.notes.join("\n");
    assert!(
        notes.contains("started once more from the beginning") && notes.contains("stepped down"),
        "{notes}"
    );
    let found: BTreeSet<i32> = ids(shelf.decode(&report).get("d.c")).into_iter().collect();
    assert_eq!(found, (0..DOCUMENTS).collect());
    assert_eq!(report.manifest.namespaces.iter().find(|n| n.db == "d").unwrap().documents, DOCUMENTS as u64);
    shelf.assert_only(&report).await;
    proxy.clear();

    // The first getMore of each run. The getMore between them continues on a member that is no longer
    // primary.
    let rules = [1, 3].map(|nth| {
        let down = meanwhile(set.uri(), async |client| step_down(client, true).await);
        proxy.add(Rule::on("getMore").namespace("d.c").nth(nth).then(down))
    });
    let shelf = Shelf::new();
    let text = failed(shelf.run(&uri, |_| {}).await);
    assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1], "{text}");
    assert!(text.contains("stepped down"), "{text}");
    shelf.assert_nothing().await;
}

#[tokio::test]
async fn a_restart_of_the_server_costs_a_second_run_and_two_the_backup() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, 2_000)).await;
    client.shutdown().await;
    let uri = proxy.uri(&server.uri());
    let direct = server.uri();
    let server = Arc::new(Mutex::new(server));
    // The first getMore of each run. The getMore between them finds its cursor gone.
    for times in [&[1_u64][..], &[1, 3]] {
        let rules = times.iter().map(|nth| {
            let server = server.clone();
            let restart = meanwhile(direct.clone(), move |_| {
                let server = server.clone();
                async move { server.lock().await.restart().await.expect("a restart") }
            });
            proxy.add(Rule::on("getMore").namespace("d.c").nth(*nth).then(restart))
        });
        let rules: Vec<_> = rules.collect();
        let shelf = Shelf::new();
        let outcome = shelf.run(&uri, only(&["d"])).await;
        assert!(rules.iter().all(|rule| proxy.hits(*rule) == 1));
        if times.len() == 1 {
            let report = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
            let notes = report.manifest.notes.join("\n");
            assert!(notes.contains("started once more") && notes.contains("was restarted"), "{notes}");
            assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
            shelf.assert_only(&report).await;
        } else {
            let text = failed(outcome);
            assert!(text.contains("was restarted"), "{text}");
            shelf.assert_nothing().await;
        }
        proxy.clear();
    }
}

#[tokio::test]
async fn a_reelected_primary_counts_as_another_member() {
    let server = Mongod::builder().replica_set("lone").start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    insert(&server.client().await.expect("a client"), "d", "c", &rows(0, DOCUMENTS, 2_000)).await;
    let (uri, direct) = (proxy.uri(&server.uri()), server.direct_uri());
    let server = Arc::new(server);
    let again = meanwhile(direct, move |_| {
        let server = server.clone();
        async move {
            server.stepdown(1).await.expect("a step-down");
            server.wait_for_primary().await.expect("a primary");
        }
    });
    let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(1).then(again));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(proxy.hits(rule), 1);
    let notes = report.manifest.notes.join("\n");
    assert!(notes.contains("stepped down and was elected again"), "{notes}");
    assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
    shelf.assert_only(&report).await;
}
