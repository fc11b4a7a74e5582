//! Faults of MongoDB, the engine, the settings and the state directory: the check of that name reports each.

use std::time::{Duration, Instant};

use bson::doc;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::place::Place;
use uzima_backup::config::store::DirOptions;
use uzima_backup::ops::health::CheckOutcome;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::standin::{Play, StandIn};
use uzima_testkit::wire_proxy::{Action, CommandError, Rule, WireProxy};

use super::support::{Health, look, only, row, server, subject};
use crate::cli::support::{Home, NOWHERE, files, run};
use crate::store::support::options;

const NEW: [&str; 2] = ["--skip", "freshness"];

#[test]
fn a_failed_connection_to_mongodb_is_reported_by_its_check() {
    let home = Home::new();
    let health = Health::of(&mut home.to_dir(NOWHERE), &NEW).only(
        "mongodb",
        &["127.0.0.1:1", "Check that MongoDB runs at this address"],
        &["namespaces"],
    );
    assert_eq!(health.with("ok"), ["configuration", "engine", "store", "disk", "state"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_reported_and_not_printed() {
    let (server, home) = (server().await, Home::new());
    server.create_user("nightly", "right", &[("backup", "admin")]).await.unwrap();
    let uri = server.uri_as("nightly", "wr0ng-s3cret", "admin");
    let health = Health::of(&mut home.to_dir(&uri), &NEW).only(
        "mongodb",
        &["'nightly' was refused", "Check user, password and authSource"],
        &["namespaces"],
    );
    let text = run(home.to_dir(&uri).args(["health", "-vv"])).ends(5);
    for said in [&health.ran.stdout, &health.ran.stderr, &text.stdout, &text.stderr] {
        assert!(!said.contains("wr0ng"), "{said}");
    }
}

/// The report contains the server's message, without the secrets in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_servers_message_is_not_printed() {
    let (server, home) = (server().await, Home::new());
    server.create_user("nightly", "hunt3r-s3cret", &[("backup", "admin")]).await.unwrap();
    let proxy = WireProxy::start(&[server.host()]).unwrap();
    let message = "hunt3r-s3cret\nis not welcome".to_string();
    let error = CommandError { code: 8000, name: "Odd".into(), message };
    proxy.add(Rule::on("buildInfo").then(Action::Fail(error)));
    let uri = proxy.uri(&server.uri_as("nightly", "hunt3r-s3cret", "admin"));
    let words = ["*** is not welcome", "MONGO_URI names the right server"];
    let health = Health::of(&mut home.to_dir(&uri), &NEW).only("mongodb", &words, &["namespaces"]);
    for args in [&["health"][..], &["health", "--quiet"]] {
        let ran = run(home.to_dir(&uri).args(args)).ends(5);
        assert!(!format!("{ran:?}{:?}", health.ran).contains("hunt3r"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_not_be_read_is_reported() {
    let (server, home) = (server().await, Home::new());
    server.create_user("reader", "pw", &[("readAnyDatabase", "admin")]).await.unwrap();
    let uri = server.uri_as("reader", "pw", "admin");
    let words = ["'config'", "'reader' may not do this", "grantRolesToUser(\"reader\", [\"backup\"])"];
    Health::of(&mut home.to_dir(&uri), &NEW).only("namespaces", &words, &[]);

    // The user may list all collections, but not read one of them.
    let client = server.client().await.unwrap();
    client.database("shop").collection("secret").insert_one(doc! {"_id": 1}).await.unwrap();
    let all =
        doc! {"resource": {"db": "shop", "collection": ""}, "actions": ["listCollections", "listIndexes"]};
    let one = doc! {"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]};
    let role = doc! {"createRole": "lister", "privileges": [all, one], "roles": []};
    client.database("admin").run_command(role).await.unwrap();
    server.create_user("limited", "pw", &[("lister", "admin")]).await.unwrap();
    let uri = server.uri_as("limited", "pw", "admin").replace("/?", "/shop?");
    assert!(uri.contains("/shop?"), "{uri}");
    let words = ["shop.secret", "'limited' may not do this", "[\"backup\"]"];
    let health = Health::of(&mut home.to_dir(&uri), &NEW).only("namespaces", &words, &[]);
    assert!(!health.detail("namespaces").contains("shop.orders"));
    let grant = doc! {"grantRolesToUser": "limited", "roles": ["backup"]};
    client.database("admin").run_command(grant).await.unwrap();
    Health::of(&mut home.to_dir(&uri), &NEW).green();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_collections_is_reported() {
    let (server, home) = (Mongod::builder().start().await.unwrap(), Home::new());
    let words = ["no collections to back up", "--allow-empty"];
    Health::of(&mut home.to_dir(&server.uri()), &NEW).only("namespaces", &words, &[]);
    Health::of(&mut home.to_dir(&server.uri()), &["--skip", "freshness", "--allow-empty"]).green();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_mongodump_is_reported_if_it_was_requested() {
    let (server, home) = (server().await, Home::new());
    let tool = |path: &std::path::Path| {
        let mut tool = home.to_dir(&server.uri());
        tool.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", path);
        tool
    };
    let words = ["/nonexistent/mongodump", "BACKUP_ENGINE=native"];
    Health::of(&mut tool("/nonexistent/mongodump".as_ref()), &NEW).only("engine", &words, &[]);
    let old = StandIn::with_version("100.4.1", &[Play::archive(vec![])]).unwrap();
    Health::of(&mut tool(&old.program()), &NEW).only("engine", &["100.4.1", "100.5 or later"], &[]);
    let found = StandIn::with_version("100.18.0", &[Play::archive(vec![])]).unwrap();
    let health = Health::of(&mut tool(&found.program()), &NEW).green();
    let words = format!("mongodump 100.18.0, {} (engine = mongodump)", found.program().display());
    assert_eq!(health.detail("engine"), words);
    assert!(found.runs().unwrap().is_empty(), "mongodump is not run");
}

/// Settings that do not resolve are a failed check. An unreadable file is exit code 2, as everywhere.
#[test]
fn wrong_settings_are_a_failed_check() {
    let home = Home::new();
    let rest = ["mongodb", "namespaces", "engine", "store", "disk", "clock", "state"];
    let wrong = [("BACKUP_RETENTION_DAYS", "0"), ("BACKUP_MAX_AGE", "x"), ("BACKUP_MIN_FREE", "100")];
    for (name, value) in wrong {
        let mut tool = home.to_dir(NOWHERE);
        let health = Health::of(tool.env(name, value), &[]).only("configuration", &[name], &rest);
        assert!(health.report["job"].is_null());
        // The check `configuration` cannot be skipped, because all others depend on it.
        Health::of(home.to_dir(NOWHERE).env(name, value), &["--skip", "configuration"]).only(
            "configuration",
            &[name],
            &rest,
        );
        Health::of(home.to_dir(NOWHERE).env(name, value), &["--only", "state"]).only(
            "configuration",
            &[name],
            &["state"],
        );
    }
    let mut lost = home.tool();
    Health::of(&mut lost, &[]).only("configuration", &["S3_BACKUP_BUCKET", "cron does not see"], &rest);

    let config = home.path().join("config.toml");
    std::fs::write(&config, "bucket = [\n").unwrap();
    let ran = run(home.to_dir(NOWHERE).arg("health").arg("--config").arg(&config)).ends(2);
    assert_eq!(ran.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_written_is_reported() {
    let (server, home) = (server().await, Home::new());
    let file = home.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for state in
        [file.clone(), file.join("state"), "/proc/self/state".into(), "/proc/x".into(), "/proc/1".into()]
    {
        let mut tool = home.to_dir(&server.uri());
        tool.env("UZIMA_BACKUP_STATE_DIR", &state);
        let words = [state.to_str().unwrap(), "Set state_dir (UZIMA_BACKUP_STATE_DIR)"];
        Health::of(&mut tool, &NEW).only("state", &words, &[]);
    }
    assert_eq!(files(&home.backups()), Vec::<String>::new());
}

/// Each run replaces the metrics file, so its folder must exist and be writable.
#[tokio::test(flavor = "multi_thread")]
async fn a_metrics_file_that_cannot_be_written_is_reported() {
    let (server, home) = (server().await, Home::new());
    let metrics = home.path().join("collector/backups.prom");
    for folder in ["/proc".as_ref(), metrics.parent().unwrap()] {
        let mut tool = home.to_dir(&server.uri());
        tool.env("METRICS_FILE", folder.join("backups.prom"));
        let words = ["metrics_file: ", "backups.prom cannot be written", "Create its folder"];
        Health::of(&mut tool, &NEW).only("state", &words, &[]);
    }
    std::fs::create_dir(metrics.parent().unwrap()).unwrap();
    Health::of(home.to_dir(&server.uri()).env("METRICS_FILE", &metrics), &NEW).green();
    assert_eq!(files(metrics.parent().unwrap()), Vec::<String>::new(), "it was only looked at");
    // A run would refuse to start.
    let mut tool = home.to_dir(&server.uri());
    let health = Health::of(tool.env("METRICS_FILE", "backups.prom"), &NEW);
    assert_eq!(health.ran.code, Some(5));
    assert!(health.detail("configuration").contains("METRICS_FILE"));
}

/// A server that accepts a connection and sends nothing: the check ends in time and does not delay the
/// others.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_server_does_not_delay_the_other_checks() {
    let (server, home) = (Mongod::builder().start().await.unwrap(), Home::new());
    let proxy = WireProxy::start(&[server.host()]).unwrap();
    proxy.add(Rule::on("buildInfo").then(Action::Stall(Duration::from_secs(600))));
    let mut subject = subject(Place::Dir(DirOptions { min_free: 0.0, ..DirOptions::new(home.backups()) }));
    subject.settings.mongo_uri = Secret::from(proxy.uri(&server.uri()));
    let mut options = only(&[]);
    options.patience = Duration::from_secs(2);
    let begun = Instant::now();
    let report = look(subject, &options, chrono::Utc::now()).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let mongodb = row(&report, "mongodb");
    assert_eq!((mongodb.outcome, mongodb.detail.as_str()), (CheckOutcome::Failed, "no answer within 2 s"));
    assert!(mongodb.next_step.as_ref().is_some_and(|step| step.contains("MONGO_URI")), "{mongodb:?}");
    assert_eq!(row(&report, "namespaces").detail, "because mongodb failed");
    assert_eq!(row(&report, "store").outcome, CheckOutcome::Ok);
    assert_eq!(report.failed(), ["mongodb", "freshness"]);
}

/// Two slow checks run at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn checks_do_not_wait_for_each_other() {
    let (server, bucket) = (server().await, S3Server::start());
    let proxy = WireProxy::start(&[server.host()]).unwrap();
    let slow = Duration::from_millis(1500);
    proxy.add(Rule::on("buildInfo").then(Action::Stall(slow)));
    bucket.faults().add(S3Rule::always("GetObject", Fault::Delay(slow)));
    let mut subject = subject(Place::S3(Box::new(options(&bucket))));
    subject.settings.mongo_uri = Secret::from(proxy.uri(&server.uri()));
    let begun = Instant::now();
    let report = look(subject, &only(&["mongodb", "namespaces", "store"]), chrono::Utc::now()).await;
    let took = begun.elapsed();
    assert_eq!(report.failed(), Vec::<&str>::new(), "{report:?}");
    let (mongodb, store) = (row(&report, "mongodb").took, row(&report, "store").took);
    assert!(mongodb >= slow && store >= slow && took < mongodb + store, "{took:?}: {report:?}");
}
