//! Every kind of namespace, the rights that a snapshot takes, and servers without snapshots.

use bson::doc;
use uzima_backup::base::error::Kind;
use uzima_backup::base::exit::Exit;
use uzima_backup::config::choices::{ConsistencyChoice, EngineChoice};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::standin::{Play, StandIn};
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::Rule;

use super::support::{assert_snapshot, documents_now, fill, set_behind_a_proxy, snapshot};
use crate::native::support::{Shelf, behind_a_proxy, failed, insert, only, rows, run};

#[tokio::test]
async fn the_torture_database_is_read_the_same_by_the_backup_role() {
    let server = Mongod::builder().replica_set("rs").auth().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let options = torture::Options { big: false, users: true };
    torture::fill_with(&client, options).await.expect("a fill");
    server.create_user("backup", "pw", &[("backup", "admin")]).await.expect("a user");
    let uri = server.uri_as("backup", "pw", "admin");
    let (plain, snap) = (Shelf::new(), Shelf::new());
    let none = plain.run(&uri, |o| o.settings.consistency = ConsistencyChoice::None).await.expect("a backup");
    let report = snap.run(&uri, |o| o.settings.consistency = ConsistencyChoice::Snapshot).await;
    let report = report.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(report.exit(), Exit::Done);
    assert_snapshot(&report.manifest);
    let (a, b) = (plain.decode(&none), snap.decode(&report));
    assert!(a.documents.len() > 30 && a.documents == b.documents && a.metadata == b.metadata);
    let why = &report.manifest.consistency.why;
    assert!(why.contains("each is read at its own time: opts.capped"), "{why}");
}

#[tokio::test]
async fn the_right_to_read_one_database_is_enough_for_it() {
    let server = Mongod::builder().replica_set("rs").auth().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    insert(&client, "shop", "orders", &rows(0, 500, 10)).await;
    server.create_user("shopper", "pw", &[("read", "shop")]).await.expect("a user");
    let shelf = Shelf::new();
    let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
        options.settings.consistency = ConsistencyChoice::Snapshot;
        only(&["shop"])(options);
    };
    let report = shelf.run(&server.uri_as("shopper", "pw", "admin"), change).await;
    assert_snapshot(&report.unwrap_or_else(|e| panic!("{}", e.chain())).manifest);
}

#[tokio::test]
async fn a_server_without_history_is_refused() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, 10, 10)).await;
    let (shelf, outcome) = run(&proxy.uri(&server.uri()), snapshot()).await;
    let text = failed(outcome);
    assert!(
        text.contains("a standalone server keeps no history") && text.contains("--consistency"),
        "{text}"
    );
    shelf.assert_nothing().await;
    assert!(proxy.commands("find").is_empty());
}

#[tokio::test]
async fn a_version_without_snapshots_is_refused() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let old = uzima_testkit::wire_proxy::Action::edit(|answer| {
        let version = uzima_testkit::raw::string("4.4.29");
        uzima_testkit::raw::rewrite(answer, &["version"], &|_, _| Some((2, version.clone())))
    });
    let rule = proxy.add(Rule::on("buildInfo").then(old));
    let (shelf, outcome) = run(&proxy.uri(&server.uri()), snapshot()).await;
    let text = failed(outcome);
    assert!(
        proxy.hits(rule) == 1 && text.contains("MongoDB 4.4.29 cannot read as of a given time"),
        "{text}"
    );
    shelf.assert_nothing().await;
}

#[tokio::test]
async fn a_snapshot_with_mongodump_is_refused() {
    let (server, _proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let standin = StandIn::create(&[Play::archive(Vec::new())]).expect("a stand-in");
    let engine = |engine: EngineChoice| {
        let program = standin.program().to_path_buf();
        move |options: &mut uzima_backup::ops::backup::BackupOptions| {
            snapshot()(options);
            options.settings.engine = engine;
            options.settings.mongodump_path = Some(program);
        }
    };
    let (shelf, outcome) = run(&server.uri(), engine(EngineChoice::Mongodump)).await;
    let error = outcome.map(|report| report.manifest).expect_err("a refusal");
    assert_eq!((error.kind(), error.exit()), (Kind::Usage, Exit::Usage));
    assert!(error.chain().contains("mongodump cannot read as of one instant"), "{}", error.chain());
    assert!(error.next_step().is_some_and(|hint| hint.contains("--engine native")));
    shelf.assert_nothing().await;

    let (shelf, outcome) = run(&server.uri(), engine(EngineChoice::Auto)).await;
    let report = outcome.expect("a backup");
    assert_snapshot(&report.manifest);
    let engine = &report.manifest.engine;
    assert!(engine.name == "native" && engine.why.contains("consistency = snapshot"), "{engine:?}");
    assert_eq!(shelf.decode(&report).documents, documents_now(&client).await);
    assert!(standin.runs().expect("runs").is_empty());
    let ok = client.database("admin").run_command(doc! { "ping": 1 }).await;
    assert!(ok.is_ok());
}
