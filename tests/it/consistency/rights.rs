//! Without an oplog the manifest gives the reason, or the run fails if a slice was requested.

use bson::rawdoc;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, run};
use crate::native::support::insert;

/// The consistency and its reason in the manifest of a backup of `shop`, and the run's log.
fn backed_up(uri: &str) -> (String, String, String) {
    let home = Home::new();
    let ran = run(home.to_dir(uri).args(["backup", "--db", "shop"])).ends(0);
    let consistency = home.manifests().pop().expect("a manifest").consistency;
    assert_eq!(consistency.oplog.is_some(), consistency.achieved == "oplog");
    (consistency.achieved, consistency.why, ran.stderr)
}

fn refused(uri: &str, words: &[&str]) {
    let home = Home::new();
    run(home.to_dir(uri).args(["backup", "--db", "shop", "--consistency", "oplog"])).ends(1).says(words);
    home.assert_nothing_stored();
}

#[tokio::test]
async fn a_user_who_may_not_read_the_oplog_makes_a_backup_without_a_slice() {
    let server = Mongod::builder().auth().replica_set("rs").start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "shop", "orders", &[rawdoc! {"_id": 1}]).await;
    for (user, roles, missing) in [
        ("reader", &[("read", "shop")][..], Some("local.oplog.rs")),
        ("local", &[("read", "shop"), ("read", "local")], Some("config.transactions")),
        ("both", &[("read", "shop"), ("read", "local"), ("read", "config")], None),
        ("backup", &[("backup", "admin")], None),
    ] {
        server.create_user(user, "x", roles).await.expect("a user");
        let uri = server.uri_as(user, "x", "admin");
        let (achieved, why, log) = backed_up(&uri);
        match missing {
            None => assert_eq!((achieved.as_str(), log.contains("its own time")), ("oplog", false), "{log}"),
            Some(what) => {
                let want = format!("user '{user}' may not read {what}");
                assert!(achieved == "none" && why.starts_with(&want), "{achieved}: {why}");
                assert!(log.contains(&want) && log.contains("built-in role \"backup\""), "{log}");
                refused(&uri, &[&want, "built-in role \"backup\"", "BACKUP_CONSISTENCY"]);
            }
        }
    }
}

#[tokio::test]
async fn a_standalone_server_is_backed_up_without_a_slice() {
    let server = Mongod::builder().start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "shop", "orders", &[rawdoc! {"_id": 1}]).await;
    let (achieved, why, _) = backed_up(&server.uri());
    assert_eq!(achieved, "none");
    assert!(why.starts_with("a standalone server has no oplog. Make it a replica set"), "{why}");
    refused(&server.uri(), &["a standalone server has no oplog", "--replSet"]);
}
