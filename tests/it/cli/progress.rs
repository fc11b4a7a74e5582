//! The progress that a person sees at a terminal.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bson::oid::ObjectId;
use console::{measure_text_width, strip_ansi_codes};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::support::Home;
use super::terminal::Terminal;
use crate::pit::stored::Stored;
use crate::pit::support::{mark, oplog, restore, set};

/// A server with a collection of several cursor batches in the database `shop`.
async fn server(collection: &str) -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection(collection);
    let documents = (0..3_000).map(|n| bson::doc! {"_id": n, "text": "x".repeat(1_000)});
    rows.insert_many(documents).await.expect("rows");
    server
}

/// The lines that the display drew.
fn drawn(screen: &str) -> Vec<String> {
    let lines = screen.split(['\r', '\n']).map(|line| strip_ansi_codes(line).into_owned());
    // Log lines begin with the date.
    lines.filter(|line| !line.starts_with("20") && !line.trim().is_empty()).collect()
}

#[track_caller]
fn assert_narrow(screen: &str, columns: usize) {
    let drawn = drawn(screen);
    assert!(!drawn.is_empty(), "{screen}");
    for line in drawn {
        assert!(measure_text_width(&line) <= columns, "{columns}: {line:?}");
    }
}

/// A silent server is waited for, without an estimate.
#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_a_backup_names_its_phase_and_fits_the_terminal_after_a_resize() {
    let server = server(&format!("注文_{}", "of_the_warehouse_".repeat(6))).await;
    let (home, proxy, gate) =
        (Home::new(), WireProxy::start(&[server.host()]).expect("a proxy"), Gate::default());
    let held = proxy.add(Rule::on("getMore").nth(1).then(Action::Hold(gate.clone())));
    let mut command = home.to_dir(&proxy.uri(&server.uri()));
    command.args(["backup", "--db", "shop"]);
    let mut terminal = Terminal::start(command, 80);
    terminal.until("reading shop.");
    terminal.until("waiting for MongoDB for ");
    let screen = terminal.taken();
    assert_narrow(&screen, 80);
    let mut waits = drawn(&screen).into_iter().filter(|line| line.contains("waiting for MongoDB"));
    assert!(waits.all(|line| !line.contains(" left")), "{screen}");
    terminal.resize(40);
    // Lines that were drawn before may still be on their way, and the rest of one.
    let fits = |screen: String| drawn(&screen).iter().all(|line| measure_text_width(line) <= 40);
    let narrow = (0..100).any(|_| {
        terminal.until("waiting for MongoDB");
        fits(terminal.taken())
    });
    assert!(narrow, "the lines stay wide");
    terminal.until("waiting for MongoDB");
    gate.open();
    let (code, screen) = terminal.ends();
    assert_eq!((code, proxy.hits(held)), (Some(0), 1), "{screen}");
    assert_narrow(&screen, 40);
}

/// The server looks restarted, which costs a second attempt.
#[tokio::test(flavor = "multi_thread")]
async fn the_progress_names_a_second_attempt() {
    let server = server("rows").await;
    let (home, proxy, gate) =
        (Home::new(), WireProxy::start(&[server.host()]).expect("a proxy"), Gate::default());
    let process = Arc::new(AtomicU8::new(1));
    let shown = Arc::clone(&process);
    proxy.add(Rule::on("hello").then(Action::edit(move |answer| {
        let id = ObjectId::from_bytes([shown.load(Ordering::SeqCst); 12]);
        raw::rewrite(answer, &["topologyVersion", "processId"], &|_, _| Some((7, id.bytes().into())))
    })));
    let restart = Action::edit(move |_| {
        process.fetch_add(1, Ordering::SeqCst);
        raw::document(&[
            raw::element(1, b"ok", 0.0_f64.to_le_bytes()),
            raw::element(2, b"errmsg", raw::string("interrupted at shutdown")),
            raw::element(16, b"code", 11_600_i32.to_le_bytes()),
        ])
    });
    let lost = proxy.add(Rule::on("getMore").namespace("shop.rows").times(1).then(restart));
    proxy.add(Rule::on("getMore").namespace("shop.rows").then(Action::Hold(gate.clone())));
    let mut command = home.to_dir(&proxy.uri(&server.uri()));
    command.args(["backup", "--db", "shop"]);
    let mut terminal = Terminal::start(command, 160);
    terminal.until("second attempt: reading shop.rows (0/1 namespace)");
    gate.open();
    let (code, screen) = terminal.ends();
    assert_eq!((code, proxy.hits(lost)), (Some(0), 1), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_a_restore_names_the_indexes_that_the_server_builds() {
    let source = server("rows").await;
    let rows = source.client().await.expect("a client").database("shop").collection::<bson::Document>("rows");
    let index = mongodb::IndexModel::builder().keys(bson::doc! {"text": 1}).build();
    rows.create_index(index).await.expect("an index");
    let home = Home::new();
    super::support::run(home.to_dir(&source.uri()).args(["backup", "--db", "shop"])).ends(0);
    let target = Mongod::builder().start().await.expect("mongod");
    let (proxy, gate) = (WireProxy::start(&[target.host()]).expect("a proxy"), Gate::default());
    let held = proxy.add(Rule::on("createIndexes").then(Action::Hold(gate.clone())));
    let mut command = home.to_dir("mongodb://127.0.0.1:1");
    command.env("RESTORE_URI", proxy.uri(&target.uri())).args(["restore", "latest", "--yes"]);
    let mut terminal = Terminal::start(command, 80);
    terminal.until("building the indexes of shop.rows (0/1 namespace), 1 s so far");
    let screen = terminal.taken();
    let of_indexes = drawn(&screen).into_iter().filter(|line| line.contains("indexes"));
    assert!(of_indexes.clone().count() > 2, "{screen}");
    of_indexes.for_each(|line| assert!(!line.contains("left") && !line.contains("B/s"), "{line}"));
    gate.open();
    let (code, screen) = terminal.ends();
    assert_eq!((code, proxy.hits(held)), (Some(0), 1), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_a_replay_counts_the_operations_and_the_bytes_of_the_oplog() {
    let stored = Stored::new(1).await;
    let rows = stored.client.database("live").collection("padded");
    let documents = (0..300).map(|n| bson::doc! {"_id": n, "text": "x".repeat(100_000)});
    rows.insert_many(documents).await.expect("rows");
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (target, _) = set(None).await;
    let (proxy, gate) = (WireProxy::start(&[target.host()]).expect("a proxy"), Gate::default());
    let held = proxy.add(Rule::on("insert").namespace("live.padded").nth(6).then(Action::Hold(gate.clone())));
    let mut command = restore(&stored.home, &target, &["--at", "newest"]);
    command.env("RESTORE_URI", proxy.uri(&target.uri()));
    let mut terminal = Terminal::start(command, 160);
    terminal.until("replaying the oplog, ");
    terminal.until(", waiting for MongoDB for ");
    let screen = terminal.taken();
    let replaying = drawn(&screen).into_iter().filter(|line| line.contains("replaying")).collect::<Vec<_>>();
    let line = replaying.last().expect("a line");
    // 300 documents of 100 kB; the reader is only a little ahead of the target.
    assert!(
        line.contains(" operations, ") && line.contains(" MiB of 28.") && line.contains(" MiB raw, "),
        "{line}"
    );
    gate.open();
    let (code, screen) = terminal.ends();
    assert_eq!((code, proxy.hits(held)), (Some(0), 1), "{screen}");
}

/// Cron mails everything that is printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_terminal_prints_no_progress() {
    let server = server("rows").await;
    let home = Home::new();
    let mut command = home.to_dir(&server.uri());
    command.args(["backup", "--db", "shop"]).stdin(Stdio::null());
    let ran = super::support::run(&mut command).ends(0);
    let lines = ran.stderr.lines().filter(|line| !line.starts_with("20"));
    assert_eq!(lines.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(!ran.stderr.contains("reading shop.rows"), "{}", ran.stderr);
}
