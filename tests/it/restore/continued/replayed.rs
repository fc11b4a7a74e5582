//! Restores that are interrupted while they replay an oplog: everything that they made is restored again.

use bson::doc;
use mongodb::Client;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{differences, has_ended, interrupt};
use crate::cli::support::run;
use crate::native::support::behind_a_proxy;
use crate::replay::support::{Dump, commands, insert, now, since, source};

/// The number of commands in a sample.
const SAMPLE: usize = 14;

/// A dump with an oplog that writes documents, and creates, renames, drops and replaces namespaces.
async fn dump() -> (Dump, Mongod, Snapshot) {
    let (server, client) = source().await;
    for name in ["a", "b", "c", "d"] {
        insert(&client, "shop", name, 0..20).await;
    }
    let index = |key: &str| doc! {"key": {key: 1}, "name": key};
    let before = vec![
        doc! {"createIndexes": "a", "indexes": [index("n")]},
        doc! {"create": "view", "viewOn": "a", "pipeline": []},
    ];
    commands(&client, "shop", before).await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    insert(&client, "shop", "a", 20..30).await;
    insert(&client, "shop", "new", 0..10).await;
    let meanwhile = vec![
        doc! {"update": "a", "updates": [{"q": {"_id": {"$lt": 5}}, "u": {"$set": {"x": 1}}, "multi": true}]},
        doc! {"delete": "b", "deletes": [{"q": {"_id": 3}, "limit": 1}]},
        doc! {"create": "options", "collation": {"locale": "fr"}},
        doc! {"insert": "options", "documents": [{"_id": 1}]},
        doc! {"create": "second", "viewOn": "b", "pipeline": []},
        doc! {"drop": "d"},
        doc! {"drop": "view"},
        doc! {"create": "view", "viewOn": "b", "pipeline": [{"$match": {"_id": 1}}]},
        doc! {"createIndexes": "new", "indexes": [index("late")]},
    ];
    commands(&client, "shop", meanwhile).await;
    let rename = doc! {"renameCollection": "shop.c", "to": "shop.moved"};
    client.database("admin").run_command(rename).await.expect("a rename");
    insert(&client, "shop", "moved", 50..55).await;
    dump.oplog(&since(&client, start).await);
    let wanted = read_all(&client).await.expect("the original");
    (dump, server, wanted)
}

struct Target {
    server: Mongod,
    proxy: WireProxy,
    live: Client,
}

impl Target {
    async fn new() -> Target {
        let (server, proxy, live) = behind_a_proxy().await;
        Target { server, proxy, live }
    }

    fn tool(&self, dump: &Dump, args: &[&str]) -> std::process::Command {
        let mut command = dump.home.tool();
        command.env("RESTORE_URI", self.proxy.uri(&self.server.uri())).args(["restore", "--yes", "--from"]);
        command.arg(&dump.folder).args(args);
        command
    }

    async fn state(&self) -> Option<String> {
        let marks = self.live.database("uzima_backup").collection::<bson::Document>("restores");
        let mark = marks.find_one(doc! {"format": 2}).await.expect("a read");
        mark.map(|mark| mark.get_str("state").expect("a state").to_string())
    }

    async fn empty(&self) {
        for db in ["shop", "uzima_backup"] {
            self.live.database(db).drop().await.expect("a drop");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_in_its_replay_goes_on() {
    let (dump, _server, wanted) = dump().await;
    let target = Target::new().await;
    run(&mut target.tool(&dump, &[])).ends(0);
    let found = read_all(&target.live).await.expect("the target");
    assert_eq!(wanted.diff(&found), Vec::<String>::new(), "not interrupted");
    // The commands after the mark says that the oplog is replayed.
    let log: Vec<_> = target.proxy.log().into_iter().filter(|command| !command.is_hello()).collect();
    let marked = |command: &&uzima_testkit::wire_proxy::Command| {
        command.name == "update" && command.namespace == "uzima_backup.restores"
    };
    let begin = log.iter().position(|command| marked(&command)).expect("the mark");
    let replay =
        begin + 1 + log[begin + 1..].iter().position(|command| marked(&command)).expect("the replay");
    let commands: Vec<u64> = (replay as u64 + 2..=log.len() as u64).collect();
    let seed = std::env::var("UZIMA_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    let chosen: Vec<u64> = match std::env::var_os("UZIMA_TEST_FULL").is_some() {
        true => commands.clone(),
        false => commands.sample(&mut StdRng::seed_from_u64(seed), SAMPLE).copied().collect(),
    };
    println!("killed at {chosen:?} of {} commands, UZIMA_TEST_SEED={seed}", log.len());
    let mut replaying = 0;
    for nth in chosen {
        target.empty().await;
        let mut tool = target.tool(&dump, &[]);
        if interrupt(&target.proxy, &mut tool, Rule::on("*").nth(nth), libc::SIGKILL).await.is_none() {
            continue;
        }
        let what = format!("command {nth}, {}, seed {seed}", log[nth as usize - 1].name);
        let state = target.state().await;
        replaying += u32::from(state.as_deref() == Some("replaying"));
        if state.is_none() && has_ended(&differences(&wanted, &target.live).await) {
            continue;
        }
        let args: &[&str] = if state.is_some() { &["--continue"] } else { &[] };
        let ran = run(&mut target.tool(&dump, args));
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
        assert_eq!(differences(&wanted, &target.live).await, Vec::<String>::new(), "{what}");
    }
    assert!(replaying > 3, "{replaying}");
}

/// Collections that were complete when they were loaded are not kept once the replay changed them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_a_restore_that_replayed() {
    let (dump, _server, wanted) = dump().await;
    let target = Target::new().await;
    let mut tool = target.tool(&dump, &[]);
    let at = Rule::on("renameCollection").nth(1);
    let ran = interrupt(&target.proxy, &mut tool, at, libc::SIGTERM).await.expect("it renames");
    assert!(ran.stderr.contains("--continue` goes on"), "{ran:?}");
    assert_eq!(target.state().await.as_deref(), Some("replaying"));
    let planned = run(&mut target.tool(&dump, &["--continue", "--dry-run"])).ends(0);
    assert!(!planned.stdout.contains("kept: complete already"), "{planned:?}");
    assert!(planned.stdout.contains("shop.new: dropped, the interrupted restore made it"), "{planned:?}");
    // Killed before it dropped this collection, a run that goes on keeps nothing of that either. Others it may have filled again
    // meanwhile, and these stay.
    let mut tool = target.tool(&dump, &["--continue"]);
    interrupt(&target.proxy, &mut tool, Rule::on("drop").namespace("shop.a").nth(1), libc::SIGKILL)
        .await
        .expect("it drops");
    let report = run(&mut target.tool(&dump, &["--continue", "--json"])).ends(0).json();
    crate::docs::schema::check("restore", &report);
    let kept = report["continued"]["kept"].as_array().expect("a list");
    assert!(!kept.contains(&"shop.a".into()), "{report}");
    let found = read_all(&target.live).await.expect("the target");
    assert_eq!(wanted.diff(&found), Vec::<String>::new());
}

/// Loaded and not replayed yet: complete collections stay, and are then replayed.
#[tokio::test(flavor = "multi_thread")]
async fn complete_collections_stay_until_the_replay() {
    let (dump, _server, wanted) = dump().await;
    let target = Target::new().await;
    let mut tool = target.tool(&dump, &[]);
    let at = Rule::on("insert").namespace("shop.d").nth(1);
    interrupt(&target.proxy, &mut tool, at, libc::SIGTERM).await.expect("it inserts");
    assert_eq!(target.state().await.as_deref(), Some("loading"));
    let report = run(&mut target.tool(&dump, &["--continue", "--json"])).ends(0).json();
    let kept = report["continued"]["kept"].as_array().expect("a list").clone();
    assert!(kept.contains(&"shop.a".into()), "{report}");
    let found = read_all(&target.live).await.expect("the target");
    assert_eq!(wanted.diff(&found), Vec::<String>::new());
}

/// The server refuses to add to the mark. The mark still says that the oplog is replayed, or is removed before the replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_given_up_does_not_say_loading_during_the_replay() {
    let (dump, _server, _) = dump().await;
    let target = Target::new().await;
    let marks = |command: &str| Rule::on(command).namespace("uzima_backup.restores");
    let refused = |rule: Rule| rule.times(1_000).then(Action::fail(13));
    let rename = || Rule::on("renameCollection").nth(1);
    target.proxy.add(refused(marks("insert")));
    let mut tool = target.tool(&dump, &[]);
    interrupt(&target.proxy, &mut tool, rename(), libc::SIGKILL).await.expect("it renames");
    assert_eq!(target.state().await.as_deref(), Some("replaying"));

    target.empty().await;
    target.proxy.add(refused(marks("insert")));
    target.proxy.add(refused(marks("update").from(2)));
    let mut tool = target.tool(&dump, &[]);
    interrupt(&target.proxy, &mut tool, rename(), libc::SIGKILL).await.expect("it renames");
    assert_eq!(target.state().await, None);

    // If neither is possible, nothing is replayed.
    target.empty().await;
    target.proxy.clear_log();
    target.proxy.add(refused(marks("insert")));
    target.proxy.add(refused(marks("update").from(2)));
    target.proxy.add(refused(marks("delete")));
    run(&mut target.tool(&dump, &[])).ends(1).says(&["cannot remove the mark of the restore"]);
    assert!(target.proxy.commands("renameCollection").is_empty());
    target.proxy.clear();
}
