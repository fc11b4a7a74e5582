//! A restore that fails or is ended by a signal waits for its own requests and names the namespaces that it
//! dropped and did not restore.

use std::process::Stdio;
use std::time::Duration;

use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Backup, differences, rows, server};
use crate::cli::support::run;
use crate::native::support::behind_a_proxy;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A backup of three collections, and a server with other documents in them, behind a proxy.
async fn made() -> (Backup, Client, Mongod, (Mongod, WireProxy, Client)) {
    let (source, original) = server().await;
    for name in NAMES {
        rows(&original, "shop", name, 0..30).await;
    }
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, proxy, live) = behind_a_proxy().await;
    for name in NAMES {
        rows(&live, "shop", name, 500..510).await;
    }
    (backup, original, source, (target, proxy, live))
}

/// The disk of the server is full: no further namespace is dropped, and the dropped ones are named.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_namespaces_that_were_not_restored_are_named() {
    let (backup, original, _source, (target, proxy, live)) = made().await;
    // The answers are delayed in order, so that the test knows which namespace is dropped.
    let stalled = [("b", 300), ("c", 600)].map(|(name, late)| {
        let rule = Rule::on("drop").namespace(&format!("shop.{name}")).nth(1);
        proxy.add(rule.then(Action::Stall(Duration::from_millis(late))))
    });
    proxy.add(Rule::on("insert").namespace("shop.a").then(Action::fail(14031)));
    let mut restore = backup.restore_into(&target);
    let ran = run(restore.env("RESTORE_URI", proxy.uri(&target.uri())).arg("--drop")).ends(1);
    let ran = ran.says(&["cannot insert into shop.a", "dropped and not restored: shop.a, shop.b, shop.c"]);
    assert!(stalled.iter().all(|rule| proxy.hits(*rule) == 1));
    // The pending requests have been answered.
    let count = |name: &str| {
        let sent = proxy.commands(name);
        sent.iter()
            .filter(|command| NAMES.iter().any(|name| command.namespace == format!("shop.{name}")))
            .count()
    };
    assert_eq!((count("drop"), count("create")), (3, 1), "{}", ran.stderr);
    let names = |live: Vec<(String, String)>| live.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    let mut found = read_all(&live).await.expect("a snapshot of the server");
    // The mark of the interrupted restore stays.
    found.retain(|db, _| db == "shop");
    assert_eq!(names(found.namespaces.into_keys().collect()), ["a"]);
    run(backup.restore_into(&target).arg("--drop")).ends(0);
    assert_eq!(differences(&original, &live).await, Vec::<String>::new());
}

/// A signal arrives at every kind of request. The next restore finds no request of the first one still
/// running.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_waits_for_requests_and_the_next_restore_succeeds() {
    let (backup, original, _source, (target, proxy, live)) = made().await;
    for command in ["drop", "create", "insert"] {
        let stall = Action::Stall(Duration::from_millis(800));
        let stalled = proxy.add(Rule::on(command).namespace("shop.b").nth(1).then(stall));
        let mut restore = backup.restore_into(&target);
        restore.env("RESTORE_URI", proxy.uri(&target.uri())).arg("--drop");
        let child = restore.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the tool starts");
        while proxy.hits(stalled) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // SAFETY: the process is our own child and has not been waited for yet.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        let ended = child.wait_with_output().expect("its end");
        let said = String::from_utf8(ended.stderr).expect("UTF-8");
        assert_eq!(ended.status.code(), Some(143), "{said}");
        assert!(said.contains("dropped and not restored: ") && said.contains("shop.b"), "{command}: {said}");
        assert!(!said.contains("has not answered"), "{command}: {said}");
        proxy.clear();
        run(backup.restore_into(&target).arg("--drop")).ends(0);
        assert_eq!(differences(&original, &live).await, Vec::<String>::new(), "{command}");
    }
}
