//! Broken connections, and a signal, while documents are written.

use std::process::Stdio;
use std::time::{Duration, Instant};

use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{DiffOptions, Snapshot, read_all};
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Backup, differences, server};
use crate::cli::support::run;
use crate::native::support::{behind_a_proxy, insert, meanwhile, rows};

/// A backup whose documents take several batches, and a target behind a proxy.
async fn made() -> (Backup, Snapshot, Mongod, WireProxy, mongodb::Client) {
    let (source, original) = server().await;
    insert(&original, "shop", "orders", &rows(0, 100, 100_000)).await;
    let capped = bson::doc! {"create": "capped", "capped": true, "size": 8 << 20};
    original.database("shop").run_command(capped).await.expect("a capped collection");
    insert(&original, "shop", "capped", &rows(0, 50, 100_000)).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, proxy, live) = behind_a_proxy().await;
    (backup, read_all(&original).await.expect("the source"), target, proxy, live)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_after_a_lost_answer_is_sent_again_and_counted_once() {
    let (backup, original, target, proxy, live) = made().await;
    // Case one: the server executed the batch and the answer was lost. Case two: the batch never arrived.
    let arrived = |name: &str| Rule::on("insert").namespace(name).nth(2).then(Action::CloseAfter);
    let lost = |name: &str| Rule::on("insert").namespace(name).nth(2).then(Action::Close);
    let rules: Vec<_> = ["shop.orders", "shop.capped"]
        .into_iter()
        .flat_map(|name| [arrived(name), lost(name)])
        .map(|rule| proxy.add(rule))
        .collect();
    let mut command = backup.restore_into(&target);
    let report = run(command.env("RESTORE_URI", proxy.uri(&target.uri())).arg("--json")).ends(0).json();
    for row in report["namespaces"].as_array().expect("rows") {
        assert_eq!((&row["superseded"], &row["refused"]), (&0.into(), &0.into()), "{report}");
    }
    assert_eq!(rules.into_iter().map(|rule| proxy.hits(rule)).collect::<Vec<_>>(), [1; 4]);
    let mut restored = read_all(&live).await.expect("the target");
    assert_eq!(original.diff(&restored), Vec::<String>::new());
    // Repeated documents follow the others, unless the order is part of the data.
    restored.retain(|_, name| name == "capped");
    let mut capped = original;
    capped.retain(|_, name| name == "capped");
    let ordered = DiffOptions { order: true, ..DiffOptions::default() };
    assert_eq!(capped.diff_with(&restored, &ordered), Vec::<String>::new());
}

/// The same for all other commands of a restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_executed_twice_does_no_harm() {
    let (source, original) = server().await;
    torture::fill_with(&original, torture::Options { big: false, users: true }).await.expect("a set");
    let backup = Backup::of(&source, &[]);
    let (target, proxy, live) = behind_a_proxy().await;
    let mut command = backup.restore_into(&target);
    command.env("RESTORE_URI", proxy.uri(&target.uri())).arg("--drop");
    run(&mut command).ends(0);
    let commands = [
        ("delete", "shop.system.js"),
        ("drop", "shop.orders"),
        ("create", "shop.orders"),
        ("createIndexes", "indexes.*"),
        ("count", "shop.orders"),
        ("_mergeAuthzCollections", "admin"),
    ];
    // The command was executed and the answer was lost, or the command was never executed.
    for action in [Action::CloseAfter, Action::Close] {
        let rule = |(name, namespace): (&str, &str)| {
            let counts = name == "count";
            Rule::on(name).namespace(namespace).nth(if counts { 2 } else { 1 }).then(action.clone())
        };
        let rules = commands.map(|command| proxy.add(rule(command)));
        run(&mut command).ends(0);
        assert_eq!(rules.map(|rule| proxy.hits(rule)), [1; 6], "{action:?}");
        assert_eq!(differences(&original, &live).await, Vec::<String>::new(), "{action:?}");
        proxy.clear();
    }
}

/// After a lost answer, an existing collection only counts as created if it has the requested options.
#[tokio::test(flavor = "multi_thread")]
async fn another_clients_collection_is_not_taken_for_the_created_one() {
    let (backup, _, target, proxy, _) = made().await;
    let other = meanwhile(target.uri(), async |client| {
        let shop = client.database("shop");
        shop.run_command(bson::doc! {"drop": "orders"}).await.expect("a drop");
        let capped = bson::doc! {"create": "orders", "capped": true, "size": 4096};
        shop.run_command(capped).await.expect("another collection");
    });
    let Action::Edit(other) = other else { unreachable!("it is an edit") };
    let interrupted = Action::edit(move |answer| {
        other(answer);
        bson::rawdoc! {"ok": 0.0, "code": 11600, "codeName": "InterruptedAtShutdown", "errmsg": "going down"}
            .into_bytes()
    });
    proxy.add(Rule::on("create").namespace("shop.orders").nth(1).then(interrupted));
    let mut command = backup.restore_into(&target);
    run(command.env("RESTORE_URI", proxy.uri(&target.uri())))
        .ends(1)
        .says(&["cannot create shop.orders", "code 48"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_stays_unreachable_is_reported() {
    let (backup, _, target, proxy, _) = made().await;
    proxy.add(Rule::on("insert").namespace("shop.orders").from(3).then(Action::Close));
    let mut command = backup.restore_into(&target);
    run(command.env("RESTORE_URI", proxy.uri(&target.uri()))).ends(1).says(&["shop.orders", "--drop"]);
    proxy.clear();
    run(&mut backup.restore_into(&target)).ends(1).says(&["shop.orders has", "--drop"]);
    run(backup.restore_into(&target).arg("--drop")).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reports_the_partly_restored_target() {
    let (backup, _, target, proxy, _) = made().await;
    let stalled = proxy.add(Rule::on("insert").nth(3).then(Action::Stall(Duration::from_secs(120))));
    let mut command = backup.restore_into(&target);
    command.env("RESTORE_URI", proxy.uri(&target.uri())).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the tool starts");
    while proxy.hits(stalled) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sent = Instant::now();
    // SAFETY: the process is our own child and has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let ended = child.wait_with_output().expect("its end");
    assert_eq!((ended.status.code(), sent.elapsed().as_secs() < 10), (Some(143), true));
    let said = String::from_utf8(ended.stderr).expect("UTF-8");
    assert!(
        said.contains("ended by SIGTERM\n") && said.contains("The target holds a part of the backup: "),
        "{said}"
    );
}
