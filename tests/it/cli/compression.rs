//! Settings that cost only time.

use std::process::Command;

use uzima_testkit::mongod::Mongod;

use super::contents::contents;
use super::support::{Home, run};

async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..300).map(|n| bson::doc! {"_id": n, "text": "x".repeat(500)})).await.expect("rows");
    server
}

/// The setting works as a flag and as a variable, and does not change the artifact.
#[tokio::test]
async fn checked_compression_costs_only_time() {
    let server = server().await;
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let home = Home::new();
        let tool = |args: &[&str], variable: Option<&str>| {
            let mut command = home.to_dir(&server.uri());
            command.envs(variable.map(|value| ("BACKUP_CHECK_COMPRESSION", value)));
            run(command.args(["backup", "--format", format]).args(args)).ends(0);
            let newest = home.manifests().pop().expect("a manifest");
            (contents(&newest, &home.artifact(&newest)), newest.artifact.size, newest.totals)
        };
        let (plain, _, totals) = tool(&[], None);
        assert_eq!(plain.documents["shop.rows"].len(), 300);
        for (args, variable) in [(&["--check-compression"][..], None), (&[], Some("true"))] {
            let (checked, _, same) = tool(args, variable);
            assert_eq!((plain.diff(&checked), totals), (vec![], same), "{format} {args:?} {variable:?}");
        }
    }
    let shown = |command: &mut Command| run(command.args(["config"])).ends(0).stdout;
    let home = Home::new();
    let on = shown(home.to_dir("mongodb://h").env("BACKUP_CHECK_COMPRESSION", "yes"));
    assert!(on.contains("check_compression = yes  (environment"), "{on}");
    run(home.to_dir("mongodb://h").env("BACKUP_CHECK_COMPRESSION", "maybe").arg("backup")).ends(2);
}
