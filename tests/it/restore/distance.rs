//! Restores to a server that answers late: many commands are under way at once, and each still follows the commands that it depends on.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bson::{Document, doc, rawdoc};
use futures_util::TryStreamExt;
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Gate, Rule, RuleId, WireProxy};

use super::support::{Backup, differences, far_away, rows, server};
use crate::native::support::behind_a_proxy;

/// The number of small collections, fewer than a restore has under way at once over the longest distance.
const SMALL: usize = 40;

/// The ways to name the origin: a backup in a store, and its artifact as a dump.
fn origins(backup: &Backup) -> [Vec<String>; 2] {
    [vec!["latest".into()], vec!["--from".into(), backup.artifact().display().to_string()]]
}

fn restore(backup: &Backup, origin: &[String], target: &Mongod, proxy: &WireProxy) -> Command {
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("RESTORE_URI", proxy.uri(&target.uri())).args(["restore", "--yes"]).args(origin);
    command
}

fn begin(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the tool")
}

/// Waits until a rule acted this often.
#[track_caller]
fn until(proxy: &WireProxy, rule: RuleId, hits: u64, child: &mut Child) {
    for _ in 0..6000 {
        if proxy.hits(rule) >= hits {
            return;
        }
        assert!(
            child.try_wait().expect("its state").is_none(),
            "it ended after {} of {hits}",
            proxy.hits(rule)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("only {} of {hits} commands are under way", proxy.hits(rule));
}

#[track_caller]
fn ends(child: Child) {
    let ended = child.wait_with_output().expect("its end");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

async fn empty(client: &Client) {
    for db in ["blog", "shop", "uzima_backup"] {
        client.database(db).drop().await.expect("a drop");
    }
}

/// The position in the log of the first command on each namespace, and of the first mark that names it.
fn positions(proxy: &WireProxy, command: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (at, sent) in proxy.log().into_iter().enumerate() {
        if command == "mark" && sent.name == "insert" && sent.namespace == "uzima_backup.restores" {
            let body: Document = sent.body.expect("a short command").try_into().expect("BSON");
            for added in body.get_array("documents").expect("documents") {
                for one in
                    added.as_document().expect("a document").get_array("namespaces").expect("namespaces")
                {
                    let one = one.as_document().expect("a namespace");
                    let name =
                        format!("{}.{}", one.get_str("db").expect("db"), one.get_str("name").expect("name"));
                    found.entry(name).or_insert(at);
                }
            }
        } else if sent.name == command {
            found.entry(sent.namespace).or_insert(at);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn small_collections_are_created_filled_and_indexed_at_once_and_each_is_marked_before_its_documents() {
    let (source, original) = server().await;
    let index = doc! {"key": {"text": 1}, "name": "by_text"};
    for n in 0..SMALL {
        let (db, name) = (["blog", "shop"][n % 2], format!("small{n:02}"));
        rows(&original, db, &name, 0..3).await;
        let command = doc! {"createIndexes": &name, "indexes": [&index]};
        original.database(db).run_command(command).await.expect("an index");
    }
    let backup = Backup::of(&source, &["--format", "tar.zst"]);
    let (target, proxy, live) = behind_a_proxy().await;
    for origin in origins(&backup) {
        proxy.clear_log();
        far_away(&proxy);
        let steps = ["create", "insert", "count", "createIndexes"].map(|command| {
            let gate = Gate::default();
            let rule = Rule::on(command).namespace("*.small*");
            (proxy.add(rule.then(Action::Hold(gate.clone()))), gate)
        });
        let mut child = begin(&mut restore(&backup, &origin, &target, &proxy));
        for (rule, gate) in steps {
            until(&proxy, rule, SMALL as u64, &mut child);
            gate.open();
        }
        ends(child);
        proxy.clear();
        assert_eq!(differences(&original, &live).await, Vec::<String>::new(), "{origin:?}");
        let [creates, marks, inserts] = ["create", "mark", "insert"].map(|name| positions(&proxy, name));
        let begun = positions(&proxy, "update")["uzima_backup.restores"];
        for n in 0..SMALL {
            let name = format!("{}.small{n:02}", ["blog", "shop"][n % 2]);
            let order = [begun, creates[&name], marks[&name], inserts[&name]];
            assert!(order.is_sorted(), "{name}: {order:?}");
        }
        empty(&live).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_collection_has_many_inserts_under_way_and_a_capped_one_has_one() {
    let (source, original) = server().await;
    let shop = original.database("shop");
    let text = "x".repeat(64 << 10);
    let documents = |count: i32| -> Vec<Vec<u8>> {
        (0..count).map(|n| rawdoc! {"_id": n, "text": text.as_str()}.into_bytes()).collect()
    };
    raw::insert(&shop, "large", &documents(320)).await.expect("documents");
    shop.run_command(doc! {"create": "capped", "capped": true, "size": 64 << 20})
        .await
        .expect("a collection");
    raw::insert(&shop, "capped", &documents(64)).await.expect("documents");
    let backup = Backup::of(&source, &["--format", "tar.zst"]);
    let (target, proxy, live) = behind_a_proxy().await;
    for origin in origins(&backup) {
        far_away(&proxy);
        let hold = |collection: &str, times: u64| {
            let (gate, rule) = (Gate::default(), Rule::on("insert").namespace(&format!("shop.{collection}")));
            (proxy.add(rule.times(times).then(Action::Hold(gate.clone()))), gate)
        };
        let capped = [(); 3].map(|()| hold("capped", 1));
        // The held inserts leave room for those of the capped collection, whichever begins first.
        let (large, gate) = hold("large", 4);
        let counted = proxy.add(Rule::on("count").namespace("shop.large"));
        let mut child = begin(&mut restore(&backup, &origin, &target, &proxy));
        if origin.len() == 1 {
            until(&proxy, capped[0].0, 1, &mut child);
        }
        // The reader of a dump waits for the documents of a capped collection.
        let at_once = if origin.len() == 1 { 4 } else { 0 };
        until(&proxy, large, at_once, &mut child);
        gate.open();
        if origin.len() == 1 {
            until(&proxy, counted, 1, &mut child);
        }
        for (before, (rule, gate)) in capped.iter().enumerate() {
            until(&proxy, *rule, 1, &mut child);
            std::thread::sleep(Duration::from_millis(100));
            let later = capped[before + 1..].iter().map(|(rule, _)| proxy.hits(*rule)).sum::<u64>();
            assert_eq!(later, 0, "an insert overlaps another one: {origin:?}");
            gate.open();
        }
        ends(child);
        proxy.clear();
        assert_eq!(differences(&original, &live).await, Vec::<String>::new(), "{origin:?}");
        let kept = live.database("shop").collection::<Document>("capped");
        let kept: Vec<Document> =
            kept.find(doc! {}).await.expect("a cursor").try_collect().await.expect("documents");
        let ids: Vec<i32> = kept.iter().map(|one| one.get_i32("_id").expect("a number")).collect();
        assert_eq!(ids, (0..64).collect::<Vec<_>>(), "{origin:?}");
        empty(&live).await;
    }
}
