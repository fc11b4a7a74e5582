//! Passwords with characters that break connection strings, and the rights of the restoring user.

use serde_json::json;
use uzima_testkit::mongod::{Mongod, percent_encode};
use uzima_testkit::read_all::{DiffOptions, read_all};
use uzima_testkit::torture;

use super::support::{Backup, rows, server};
use crate::cli::support::run;

const PASSWORDS: [&str; 4] = ["p@ss:w/or%d$ü", "a b", "?&=#+", "pä@:/ß漢'\"\\"];

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_odd_characters_logs_in() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    for (n, password) in PASSWORDS.into_iter().enumerate() {
        let user = format!("re@store:{n}/ü");
        target
            .create_user(&user, password, &[("restore", "admin"), ("readAnyDatabase", "admin")])
            .await
            .expect("a user");
        let login = format!("{}:{}", percent_encode(&user), percent_encode(password));
        let uri = format!("mongodb://{login}@{}/shop?authSource=admin", target.host());
        let file = backup.home.path().join("uri");
        std::fs::write(&file, format!("{uri}\n")).expect("a file");
        let mut command = backup.restore_into(&target);
        command.env_remove("RESTORE_URI").env("RESTORE_URI_FILE", &file);
        run(command.arg("--drop")).ends(0);
    }
    let mut wrong = backup.restore_into(&target);
    let uri = format!("mongodb://root:hunter2hunter@{}", target.host());
    let ran = run(wrong.env("RESTORE_URI", uri)).ends(1).says(&["was refused", "authSource"]);
    assert!(!ran.stderr.contains("hunter"), "{}", ran.stderr);
}

/// The role `restore` brings everything back. It may not count documents, which the report says.
#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_role_restore_restores_everything_and_reports_missing_counts() {
    let (source, original) = server().await;
    torture::fill_with(&original, torture::Options { big: false, users: true })
        .await
        .expect("the torture database");
    let backup = Backup::of(&source, &[]);
    let before = read_all(&original).await.expect("a snapshot of the server");
    for (role, code, notes) in [("restore", 3, true), ("readAnyDatabase", 0, false)] {
        let target = Mongod::builder().auth().start().await.expect("mongod");
        let roles = [("restore", "admin"), (role, "admin")];
        target.create_user("bringer", "x", &roles[..if notes { 1 } else { 2 }]).await.expect("a user");
        let uri = target.uri_as("bringer", "x", "admin");
        let restore = |args: &[&str]| {
            let mut command = backup.restore_into(&target);
            run(command.env("RESTORE_URI", &uri).args(args))
        };
        let report = restore(&["--json"]).ends(code).json();
        let has_notes =
            report["namespaces"].as_array().expect("rows").iter().any(|row| row["notes"] != json!([]));
        assert_eq!(has_notes, notes, "{report}");
        let after = read_all(&target.client().await.expect("root")).await.expect("a snapshot of the server");
        let ignore_users = vec!["admin.root".into(), "admin.bringer".into()];
        let options = DiffOptions { ignore_users, ..DiffOptions::default() };
        assert_eq!(before.diff_with(&after, &options), Vec::<String>::new(), "{role}");
        restore(&[]).ends(1).says(&["--drop"]);
        // Documents of system.js can only be deleted, which neither role allows.
        restore(&["--drop"]).ends(1).says(&["shop.system.js", "readWriteAnyDatabase"]);
        let untouched =
            read_all(&target.client().await.expect("root")).await.expect("a snapshot of the server");
        assert_eq!(
            after.diff_with(&untouched, &DiffOptions { uuids: true, ..options }),
            Vec::<String>::new()
        );
        restore(&["--drop", "--ns-exclude=*.system.js"]).ends(code);
    }
    let target = Mongod::builder().auth().start().await.expect("mongod");
    target.create_user("reader", "x", &[("readAnyDatabase", "admin")]).await.expect("a user");
    let mut command = backup.restore_into(&target);
    run(command.env("RESTORE_URI", target.uri_as("reader", "x", "admin")))
        .ends(1)
        .says(&["may not", "\"restore\""]);
}

/// Servers from 8.1 on have no `authSchema` document in `admin.system.version`, but they have other documents
/// there.
#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_server_without_an_authschema_document_are_restored() {
    let (source, original) = server().await;
    torture::fill_with(&original, torture::Options { big: false, users: true }).await.expect("users");
    let versions = original.database("admin").collection::<bson::Document>("system.version");
    versions.delete_one(bson::doc! {"_id": "authSchema"}).await.expect("a delete");
    assert!(versions.count_documents(bson::doc! {}).await.expect("a count") > 0, "others are there");
    let backup = Backup::of(&source, &[]);
    let from = backup.artifact().display().to_string();
    let wanted = read_all(&original).await.expect("the source");
    for args in [&["latest"][..], &["--from", &from]] {
        let (target, live) = server().await;
        let mut restore = backup.home.to_dir("mongodb://127.0.0.1:1");
        restore.env("RESTORE_URI", target.uri()).args([
            "restore",
            "--yes",
            "--ns-include",
            "shop.*",
            "--users",
        ]);
        run(restore.args(args)).ends(0);
        let found = read_all(&live).await.expect("the target");
        assert!(wanted.users == found.users && wanted.roles == found.roles, "{args:?}");
        assert_eq!(found.users.len(), 2);
    }
}
