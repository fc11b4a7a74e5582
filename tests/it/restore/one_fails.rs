//! A namespace that fails does not stop the others, and the flags in the message restore the rest.

use std::process::Command;

use bson::doc;
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Backup, differences, rows, server};
use crate::cli::support::{Ran, TOOL, run};
use crate::native::support::{behind_a_proxy, meanwhile};

/// Names that a pattern or a shell would interpret.
const NAMES: [&str; 4] = ["orders", "with*star", "it's", "back\\slash"];

/// A server with users, a view and collections with two indexes each.
async fn source() -> (Mongod, Client) {
    let (source, original) = server().await;
    let shop = original.database("shop");
    for name in NAMES {
        rows(&original, "shop", name, 0..30).await;
        let indexes = ["a", "b"].map(|key| doc! {"key": {key: 1}, "name": key});
        shop.run_command(doc! {"createIndexes": name, "indexes": &indexes[..]}).await.expect("indexes");
    }
    shop.run_command(doc! {"create": "view", "viewOn": "orders", "pipeline": []}).await.expect("a view");
    let user = doc! {"createUser": "app", "pwd": "x", "roles": [{"role": "read", "db": "shop"}]};
    original.database("admin").run_command(user).await.expect("a user");
    (source, original)
}

/// Writes other documents under the same names.
async fn live(client: &Client) {
    client.database("shop").drop().await.expect("a drop");
    for name in NAMES {
        rows(client, "shop", name, 500..510).await;
    }
}

/// The flags in the next step, quoted for a shell.
fn flags(ran: &Ran) -> String {
    let step = ran.stderr.lines().find(|line| line.starts_with("next step: ")).expect("a next step");
    let (_, rest) = step.split_once("the same command with ").unwrap_or_else(|| panic!("{step}"));
    rest.split_once(" restores the rest").unwrap_or_else(|| panic!("{step}")).0.to_string()
}

/// Runs `restore latest --yes` in a shell with these flags.
fn with_flags(backup: &Backup, target: &Mongod, flags: &str) -> Ran {
    let restore = backup.restore_into(target);
    let mut shell = Command::new("sh");
    shell.env_clear().envs(restore.get_envs().filter_map(|(key, value)| Some((key, value?))));
    run(shell.current_dir("/").args(["-c", &format!("exec {TOOL} restore latest --yes --json {flags}")]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_are_restored_and_the_flags_restore_the_failed_ones() {
    let (source, original) = source().await;
    let backup = Backup::of(&source, &[]);
    let (target, proxy, client) = behind_a_proxy().await;
    let cases: [(&str, &str, &[&str]); 7] = [
        ("drop", "orders", &["orders"]),
        ("create", "with*star", &["with*star"]),
        ("insert", "it's", &["it's"]),
        ("insert", "back\\slash", &["back\\slash"]),
        ("create", "view", &["view"]),
        ("insert", "*", &NAMES),
        ("_mergeAuthzCollections", "", &[]),
    ];
    for (command, name, missing) in cases {
        live(&client).await;
        let rule = match name {
            "" => Rule::on(command),
            // The name is a pattern of the proxy, too.
            name => Rule::on(command).namespace(&format!("shop.{name}")),
        };
        let rule = proxy.add(rule.then(Action::fail(1)));
        let mut restore = backup.restore_into(&target);
        let failed =
            run(restore.env("RESTORE_URI", proxy.uri(&target.uri())).args(["--drop", "--json"])).ends(1);
        assert!(proxy.hits(rule) > 0, "{command} {name}");
        proxy.clear();
        let names: Vec<String> = missing.iter().map(|name| format!("shop.{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let failed = failed.says(&names).says(&["everything else was restored"]);
        let mut reported: Vec<_> = failed.json()["missing"].as_array().expect("names").clone();
        reported.sort_by_key(|name| names.iter().position(|one| name == one));
        assert_eq!(serde_json::json!(reported), serde_json::json!(names), "{command} {name}");
        let different = differences(&original, &client).await;
        let others = |line: &&String| {
            !missing.iter().any(|name| line.contains(&format!("shop.{}", name.escape_debug())))
        };
        let users = |line: &&String| !(missing.is_empty() && line.starts_with("user "));
        assert_eq!(different.iter().filter(others).filter(users).count(), 0, "{different:?}");
        assert!(!different.is_empty(), "{command} {name}");
        with_flags(&backup, &target, &flags(&failed)).ends(0);
        assert_eq!(differences(&original, &client).await, Vec::<String>::new(), "{command} {name}");
        client.database("admin").run_command(doc! {"dropUser": "app"}).await.expect("a drop");
    }
}

/// If the server refuses a count or an index, the documents and the other namespaces are restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_count_or_index_is_named_and_the_documents_are_there() {
    let (source, original) = source().await;
    let backup = Backup::of(&source, &[]);
    let (target, proxy, client) = behind_a_proxy().await;
    for (command, says) in [("count", "cannot count shop.orders"), ("createIndexes", "the index 'a'")] {
        live(&client).await;
        // The first count belongs to the plan.
        let from = if command == "count" { 2 } else { 1 };
        let rule = Rule::on(command).namespace("shop.orders").from(from).then(Action::fail(1));
        let rule = proxy.add(rule);
        let mut restore = backup.restore_into(&target);
        let ran = run(restore.env("RESTORE_URI", proxy.uri(&target.uri())).arg("--drop")).ends(1);
        assert!(ran.stdout.contains("shop.orders: ") && ran.stdout.contains(says), "{}", ran.stdout);
        assert!(proxy.hits(rule) > 0, "{command}");
        proxy.clear();
        let (wanted, found) = (
            read_all(&original).await.expect("a snapshot of the server"),
            read_all(&client).await.expect("a snapshot of the server"),
        );
        let documents =
            |all: &uzima_testkit::read_all::Snapshot| all.get("shop", "orders").unwrap().documents.clone();
        assert!(documents(&wanted) == documents(&found), "{command}");
        let indexes = found.get("shop", "orders").unwrap().indexes.len();
        assert_eq!(indexes, if command == "count" { 3 } else { 1 }, "{command}");
    }
}

/// The same for a dump, in which one reader serves all namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_dump_is_restored_when_one_namespace_fails() {
    let (source, original) = source().await;
    for format in ["tar.gz", "archive.gz"] {
        let backup = Backup::of(&source, &["--format", format]);
        let (target, proxy, client) = behind_a_proxy().await;
        live(&client).await;
        let rules = [("insert", "orders"), ("create", "it's")]
            .map(|(command, name)| Rule::on(command).namespace(&format!("shop.{name}")).then(Action::fail(1)))
            .map(|rule| proxy.add(rule));
        let restore = |uri: String, args: &str| {
            let mut shell = Command::new("sh");
            let from = backup.artifact().display().to_string();
            let line = format!("exec {TOOL} restore --yes --json --from {from} {args}");
            run(shell.env_clear().env("RESTORE_URI", uri).current_dir("/").args(["-c", &line]))
        };
        let failed = restore(proxy.uri(&target.uri()), "--drop").ends(1).says(&["shop.orders", "shop.it's"]);
        assert!(rules.iter().all(|rule| proxy.hits(*rule) > 0));
        let different = differences(&original, &client).await;
        assert!(different.iter().all(|line| line.contains("orders") || line.contains("it")), "{different:?}");
        restore(target.uri(), &flags(&failed)).ends(0);
        assert_eq!(differences(&original, &client).await, Vec::<String>::new(), "{format}");
    }
}

/// Another client inserts between the drop and the create, which creates the collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_writer_on_the_target_is_reported() {
    let (source, original) = source().await;
    let backup = Backup::of(&source, &[]);
    let (target, proxy, client) = behind_a_proxy().await;
    let uri = proxy.uri(&target.uri());
    let writes = |id: i32| {
        meanwhile(target.uri(), async move |client: Client| {
            let orders = client.database("shop").collection("orders");
            orders.insert_one(doc! {"_id": id, "of": "another client"}).await.expect("a row");
        })
    };
    let restore = || run(backup.restore_into(&target).env("RESTORE_URI", &uri).arg("--drop"));
    // The client inserts twice, then stops.
    live(&client).await;
    let rule = proxy.add(Rule::on("drop").namespace("shop.orders").times(2).then(writes(7_000)));
    restore().ends(0);
    assert_eq!(proxy.hits(rule), 2);
    assert_eq!(differences(&original, &client).await, Vec::<String>::new());
    proxy.clear();
    // The client continues to insert.
    let rule = proxy.add(Rule::on("drop").namespace("shop.orders").then(writes(7_000)));
    let ran = restore().ends(1).says(&["shop.orders", "another client is writing to it"]);
    assert_eq!(flags(&ran), "--ns-include shop.orders --drop");
    assert!(proxy.hits(rule) > 2);
    proxy.clear();
    // The client starts later: the target holds more documents than the restore wrote, one of them with an
    // _id of the backup.
    for (id, says) in
        [(7_000, "the target has 31 documents, but 30 were written"), (3, "1 document with an _id")]
    {
        let rule = Rule::on("create").namespace("shop.orders").then(writes(id));
        proxy.add(rule);
        let ran = restore().ends(1);
        let said = [says, "another client is writing to it", "shop.orders: "];
        assert!(said.iter().all(|words| ran.stdout.contains(words)), "{}", ran.stdout);
        proxy.clear();
    }
}

/// The late `create` of an earlier restore arrives after the plan was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_created_after_the_plan_is_replaced_only_with_drop() {
    let (source, original) = source().await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    for (args, code) in [(&["--drop"][..], 0), (&[], 1)] {
        let (target, proxy, client) = behind_a_proxy().await;
        let late = meanwhile(target.uri(), async |client: Client| {
            rows(&client, "shop", "orders", 0..1).await;
        });
        let rule = proxy.add(Rule::on("create").namespace("shop.it*").nth(1).then(late));
        // With several workers it would not be certain that this collection is created later.
        let mut restore = backup.restore_into(&target);
        restore.env("RESTORE_URI", proxy.uri(&target.uri())).args(args).args(["--ns-exclude", "*.view"]);
        proxy.add(
            Rule::on("create")
                .namespace("shop.orders")
                .nth(1)
                .then(Action::Stall(std::time::Duration::from_millis(700))),
        );
        let ran = run(&mut restore).ends(code);
        assert_eq!(proxy.hits(rule), 1);
        let found = read_all(&client)
            .await
            .expect("a snapshot of the server")
            .get("shop", "orders")
            .unwrap()
            .documents
            .len();
        assert_eq!(found, if code == 0 { 30 } else { 1 });
        if code == 1 {
            ran.says(&["cannot create shop.orders", "code 48", "Another client has created shop.orders"]);
        }
    }
    drop(original);
}
