//! Users and roles that were dumped with one database: `$admin.system.…` files beside its collections, as
//! `mongodump --dumpDbUsersAndRoles` names them (mongo-tools, `mongodump/mongodump.go`).

use std::collections::BTreeMap;
use std::path::Path;

use bson::{doc, rawdoc};
use mongodb::Client;
use serde_json::json;
use uzima_testkit::read_all::{Snapshot, read_all};

use super::support::{rows, server};
use crate::cli::support::{Home, run};

/// Documents by their `_id`.
type People = BTreeMap<String, Vec<u8>>;

/// Creates a user and a role of the same name in the database. The role grants another role.
async fn people(client: &Client, db: &str, name: &str, gives: &str) {
    let db = client.database(db);
    let at_home = doc! {"clientSource": ["127.0.0.1"]};
    let privilege = doc! {"resource": {"db": db.name(), "collection": gives}, "actions": ["find"]};
    let role = doc! {"createRole": name, "privileges": [privilege], "roles": [gives], "authenticationRestrictions": [at_home]};
    db.run_command(role).await.expect("a role");
    db.run_command(doc! {"createUser": name, "pwd": "pw", "roles": [name]}).await.expect("a user");
}

/// Dumps the database `shop` with its users and roles.
fn dump(root: &Path, original: &Snapshot) {
    let folder = root.join("shop");
    std::fs::create_dir_all(&folder).expect("a folder");
    let orders = &original.get("shop", "orders").expect("the collection").documents;
    std::fs::write(folder.join("orders.bson"), orders.concat()).expect("documents");
    let file = |kind: &str, documents: Vec<u8>| {
        std::fs::write(folder.join(format!("$admin.system.{kind}.bson")), documents).expect("documents");
    };
    file("users", original.users["shop.clerk"].clone());
    file("roles", original.roles["shop.clerk"].clone());
    file("version", rawdoc! {"_id": "authSchema", "currentVersion": 5}.into_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_of_one_database_come_back_and_others_stay() {
    let ((_source, original), (target, live), home) = (server().await, server().await, Home::new());
    rows(&original, "shop", "orders", 0..3).await;
    people(&original, "shop", "clerk", "read").await;
    let wanted = read_all(&original).await.expect("the source");
    dump(home.path(), &wanted);
    for (db, name) in [("shop", "clerk"), ("shop", "thief"), ("blog", "writer")] {
        people(&live, db, name, "readWrite").await;
    }
    let restore = |args: &[&str]| {
        let mut command = home.tool();
        command.env("RESTORE_URI", target.uri()).args(["restore", "--json", "--from"]).arg(home.path());
        run(command.args(args))
    };
    let ids = async || {
        let found = read_all(&live).await.expect("the target");
        let same = |found: &People, wanted: &People| found["shop.clerk"] == wanted["shop.clerk"];
        let same = [same(&found.users, &wanted.users), same(&found.roles, &wanted.roles)];
        assert!(found.users.keys().eq(found.roles.keys()));
        (same, found.users.into_keys().collect::<Vec<_>>())
    };
    let all = ["blog.writer", "shop.clerk", "shop.thief"].map(String::from).to_vec();
    let both = |answer: serde_json::Value| [answer["users"].clone(), answer["roles"].clone()];
    // Neither a restore of a chosen namespace nor a dry run restores users.
    restore(&["--yes", "--ns-include=shop.orders"]).ends(0);
    assert_eq!(both(restore(&["--dry-run", "--drop"]).ends(0).json()), [json!(1), json!(1)]);
    restore(&["--yes", "--drop", "--no-users"]).ends(0);
    assert_eq!(ids().await, ([false; 2], all.clone()));
    let restored = restore(&["--yes", "--drop", "--ns-include=shop.orders", "--users"]).ends(0).json();
    assert_eq!(both(restored), [json!(1), json!(1)]);
    assert_eq!(ids().await, ([true; 2], all));
    // Users and roles of that database that the dump does not contain are removed.
    restore(&["--yes", "--exact"]).ends(0);
    assert_eq!(ids().await, ([true; 2], ["blog.writer", "shop.clerk"].map(String::from).to_vec()));
    // An authentication schema that no current server reads.
    let old = rawdoc! {"_id": "authSchema", "currentVersion": 1}.into_bytes();
    std::fs::write(home.path().join("shop/$admin.system.version.bson"), old).expect("documents");
    restore(&["--yes", "--drop"]).ends(1).says(&["authSchema Some(1)", "--no-users"]);
}
